"""The UCI handwritten digits: 1,797 images of 8×8, bundled with the package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import flambeau as torch
from flambeau.data import Dataset

BUNDLED = Path(__file__).parent / "data" / "digits.npz"
HELD_OUT = 5  # every fifth image of each class is held out


class Digits(Dataset):
    """Handwritten digits of 8×8 pixels (Alpaydin and Kaynak 1998, CC BY 4.0), split into training and held-out images.

    The split is the same everywhere and for ever: of the images of each class, in the order of the file, every fifth
    one is held out. So it is stratified: 1,442 images to learn from, 355 to test on, each class with its share.

    Args:
        root: a folder with a `digits.npz` of your own (arrays `images` (N, 8, 8) of 0 to 16 and `labels` (N,)); None
            takes the bundled file, whose values are those of scikit-learn's `load_digits()`.
        train: the images to learn from, or the held-out ones.
        transform: what to make of each image, a greyscale PIL image with white ink (255) on black.
        target_transform: what to make of each label, an int.

    Attributes: `data` uint8 (N, 8, 8) with values 0 to 16, `targets` int64 (N,), `classes` the ten names.
    """

    classes = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")

    def __init__(
        self,
        root: str | Path | None = None,
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
    ):
        self.root = root
        self.train = train
        self.transform = transform
        self.target_transform = target_transform
        path = BUNDLED if root is None else Path(root) / BUNDLED.name
        with np.load(path) as file:
            images, labels = file["images"], file["labels"].astype(np.int64)
        chosen = held_out(labels) != train
        self.data = torch.from_numpy(images[chosen])
        self.targets = torch.from_numpy(labels[chosen])

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """The image (as PIL image unless `transform` makes something else of it) and its label."""
        image, target = to_image(self.data[index].numpy()), int(self.targets[index])
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return image, target

    def __repr__(self) -> str:
        split = "Train" if self.train else "Test"
        return f"Dataset Digits\n    Number of datapoints: {len(self)}\n    Split: {split}"


def held_out(labels: np.ndarray) -> np.ndarray:
    """For each label, whether its image is held out: True at every fifth occurrence of the label."""
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        chosen[np.flatnonzero(labels == label)[HELD_OUT - 1 :: HELD_OUT]] = True
    return chosen


def to_image(values: np.ndarray) -> Any:
    """A greyscale PIL image of ink values 0 to 16: 0 is black, 16 is white."""
    from PIL import Image

    return Image.fromarray(np.rint(values * (255 / 16)).astype(np.uint8))
