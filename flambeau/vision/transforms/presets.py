"""The transforms that trained weights want for their images."""

from __future__ import annotations

from typing import Any

import flambeau as torch
from flambeau import nn
from flambeau.vision.transforms import functional as F
from flambeau.vision.transforms.modes import InterpolationMode

__all__ = ["ImageClassification"]


class ImageClassification(nn.Module):
    """Resize the shorter side, crop the middle, scale to 0…1 and normalise: a PIL image, or a tensor (..., C, H, W).

    Gives float tensors (..., C, crop_size, crop_size).
    """

    def __init__(
        self, *, crop_size: int, resize_size: int = 256, mean: tuple[float, ...] = (0.485, 0.456, 0.406),
        std: tuple[float, ...] = (0.229, 0.224, 0.225),
        interpolation: InterpolationMode = InterpolationMode.BILINEAR, antialias: bool | None = True,
    ) -> None:
        super().__init__()
        self.crop_size = [crop_size]
        self.resize_size = [resize_size]
        self.mean = list(mean)
        self.std = list(std)
        self.interpolation = interpolation
        self.antialias = antialias

    def forward(self, img: Any) -> Any:
        """The network's input."""
        img = F.resize(img, self.resize_size, interpolation=self.interpolation, antialias=self.antialias)
        img = F.center_crop(img, self.crop_size)
        if not isinstance(img, torch.Tensor):
            img = F.pil_to_tensor(img)
        return F.normalize(F.convert_image_dtype(img, torch.float), mean=self.mean, std=self.std)

    def describe(self) -> str:
        """What is done, in words."""
        return (
            f"Takes PIL images, batched (B, C, H, W) and single (C, H, W) tensors. Resizes to {self.resize_size} by "
            f"{self.interpolation}, crops the middle {self.crop_size}, scales to [0.0, 1.0] and normalises by mean "
            f"{self.mean} and std {self.std}."
        )

    def __repr__(self) -> str:
        settings = ("crop_size", "resize_size", "mean", "std", "interpolation")
        return "\n".join(
            [f"{type(self).__name__}(", *(f"    {name}={getattr(self, name)}" for name in settings), ")"]
        )
