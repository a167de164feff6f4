"""Networks the command line trains. A checkpoint names one and its arguments, and so can build it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flambeau as torch
from flambeau import nn


class DigitNet(nn.Module):
    """A small convolutional network for one-channel images of 8×8.

    Shapes: (N, 1, 8, 8) -> logits (N, classes).
    """

    def __init__(self, channels: Sequence[int] = (32, 64, 128), classes: int = 10, dropout: float = 0.3):
        super().__init__()
        first, second, third = channels
        self.features = nn.Sequential(
            *_block(1, first),
            *_block(first, second),
            nn.MaxPool2d(2),  # 8×8 -> 4×4
            *_block(second, third),
            nn.MaxPool2d(2),  # 4×4 -> 2×2
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(third * 2 * 2, classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(images))


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    # The convolution has no bias: batch normalisation would take it out again.
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


NETWORKS = {"DigitNet": DigitNet}


def build(architecture: dict[str, Any]) -> nn.Module:
    """The network that a checkpoint's `architecture` entry describes. Raises KeyError if there is none of that name."""
    return NETWORKS[architecture["name"]](**architecture["arguments"])


def count_parameters(model: nn.Module) -> int:
    """Number of values that training changes."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
