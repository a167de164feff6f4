"""Choices that version 2 draws otherwise: all from the default generator, and signs by uniform numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flambeau as torch
from flambeau.vision.transforms import autoaugment, containers
from flambeau.vision.transforms.geometry import integer, uniform

__all__ = ["AugMix", "AutoAugment", "RandAugment", "RandomChoice", "RandomOrder", "TrivialAugmentWide"]


def _negative(*_: Any) -> bool:
    return uniform(0, 1) <= 0.5


class AutoAugment(autoaugment.AutoAugment):
    """`transforms.AutoAugment`, whose draws are made one after the other."""

    white = 1.0

    def forward(self, img: Any) -> Any:
        """The augmented image."""
        space = self._space(img)
        for step in self.policies[integer(0, len(self.policies))]:
            if uniform(0, 1) <= step[1]:
                img = self._step(img, step, space, _negative)
        return img


class RandAugment(autoaugment.RandAugment):
    """`transforms.RandAugment` with version 2's draws."""

    _negative = _negative
    white = 1.0


class TrivialAugmentWide(autoaugment.TrivialAugmentWide):
    """`transforms.TrivialAugmentWide` with version 2's draws."""

    _negative = _negative
    white = 1.0


class AugMix(autoaugment.AugMix):
    """`transforms.AugMix` with version 2's draws."""

    _negative = _negative
    white = 1.0


class RandomChoice(containers.RandomTransforms):
    """One of the transforms, with weights `p` if given."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]], p: Sequence[float] | None = None) -> None:
        super().__init__(transforms)
        if p is None:
            p = [1] * len(transforms)
        elif len(p) != len(transforms):
            raise ValueError(f"Length of p doesn't match the number of transforms: {len(p)} != {len(transforms)}")
        total = sum(p)
        self.p = [share / total for share in p]

    def __call__(self, img: Any) -> Any:
        """The image after the chosen transform."""
        return self.transforms[int(torch.multinomial(torch.tensor(self.p), 1).item())](img)


class RandomOrder(containers.RandomTransforms):
    """All the transforms in a random order."""

    def __call__(self, img: Any) -> Any:
        """The image after all transforms."""
        for index in torch.randperm(len(self.transforms)).tolist():
            img = self.transforms[index](img)
        return img
