"""The handwritten digits, ready for training: normalised batches and random shifts."""

from __future__ import annotations

from dataclasses import dataclass

import flambeau as torch
import flambeau.nn.functional as F
from flambeau.data import DataLoader, TensorDataset
from flambeau.vision.datasets import Digits


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of the training pixels, each pixel between 0 (paper) and 1 (ink)."""

    mean: float
    std: float

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        return (pixels - self.mean) / self.std


class Shift:
    """Moves each image of a batch by its own draw of up to `pixels` rows and columns; `fill` comes in at the edge."""

    def __init__(self, pixels: int, fill: float):
        self.pixels = pixels
        self.fill = fill

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        count, _, height, width = images.shape
        padded = F.pad(images, (self.pixels,) * 4, value=self.fill)
        top, left = torch.randint(0, 2 * self.pixels + 1, (2, count, 1, 1))
        rows = top + torch.arange(height).view(1, height, 1)  # (N, H, 1)
        columns = left + torch.arange(width).view(1, 1, width)  # (N, 1, W)
        which = torch.arange(count).view(count, 1, 1)
        return padded[which, 0, rows, columns].unsqueeze(1)


@dataclass(frozen=True)
class DigitData:
    """Everything a training on the digits reads."""

    train: DataLoader
    held_out: DataLoader
    normalisation: Normalisation
    classes: tuple[str, ...]
    shift: Shift


def load(batch_size: int) -> DigitData:
    """Batches of normalised digits, images float32 (N, 1, 8, 8) and labels int64 (N,), shuffled in training."""
    train, held_out = Digits(train=True), Digits(train=False)
    pixels = _pixels(train)
    normalisation = Normalisation(pixels.mean().item(), pixels.std().item())
    return DigitData(
        train=DataLoader(TensorDataset(normalisation(pixels), train.targets), batch_size=batch_size, shuffle=True),
        held_out=DataLoader(TensorDataset(normalisation(_pixels(held_out)), held_out.targets), batch_size=256),
        normalisation=normalisation,
        classes=train.classes,
        shift=Shift(pixels=1, fill=-normalisation.mean / normalisation.std),
    )


def _pixels(digits: Digits) -> torch.Tensor:
    return digits.data.unsqueeze(1).float() / 16
