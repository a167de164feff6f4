"""Random images, for trying out a training loop without data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flambeau as torch
from flambeau.vision.datasets.vision import VisionDataset
from flambeau.vision.transforms.functional import to_pil_image

__all__ = ["FakeData"]


class FakeData(VisionDataset):
    """`size` random images of `image_size` (C, H, W), as PIL images, each the same whenever it is asked for."""

    def __init__(
        self,
        size: int = 1000,
        image_size: tuple[int, int, int] = (3, 224, 224),
        num_classes: int = 10,
        transform: Callable | None = None,
        target_transform: Callable | None = None,
        random_offset: int = 0,
    ):
        super().__init__(transform=transform, target_transform=target_transform)
        self.size = size
        self.num_classes = num_classes
        self.image_size = image_size
        self.random_offset = random_offset

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """The image and its class, drawn from a seed of their own; the default generator is left as it was."""
        if index >= len(self):
            raise IndexError(f"{type(self).__name__} index {index} out of range for {len(self)} images")
        generator = torch.Generator().manual_seed(index + self.random_offset)
        image = torch.randn(*self.image_size, generator=generator)
        target = int(torch.randint(0, self.num_classes, size=(1,), generator=generator).item())
        return self._transformed(to_pil_image(image), target)

    def __len__(self) -> int:
        return self.size
