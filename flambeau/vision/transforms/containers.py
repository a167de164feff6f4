"""Transforms made of transforms."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import flambeau as torch
from flambeau import nn
from flambeau.vision.transforms._conversion import to_normalized_tensor, to_tensor
from flambeau.vision.transforms.conversion import Normalize, ToTensor

__all__ = ["Compose", "Lambda", "RandomApply", "RandomChoice", "RandomOrder", "RandomTransforms"]


class Compose:
    """Several transforms, one after the other: `Compose([CenterCrop(10), ToTensor()])`."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]):
        self.transforms = transforms

    def __call__(self, img):
        """The image after all transforms."""
        fresh = False  # whether a ToTensor is waiting for a Normalize, which may overwrite its result
        for transform in self.transforms:
            if fresh:
                fresh = False
                if type(transform) is Normalize and not (transform._forward_hooks or transform._forward_pre_hooks):
                    img = to_normalized_tensor(img, transform.mean, transform.std)
                    continue
                img = to_tensor(img)
            if type(transform) is ToTensor:
                fresh = True
            else:
                img = transform(img)
        return to_tensor(img) if fresh else img

    def __repr__(self) -> str:
        return _listed(self)


def _listed(container, *extra: str) -> str:
    """The container's repr: each transform on a line of its own."""
    lines = [*extra, *(f"    {transform}" for transform in container.transforms)]
    return "\n".join([f"{type(container).__name__}(", *lines, ")"])


class Lambda:
    """A function of your own as a transform. Raises TypeError if it cannot be called."""

    def __init__(self, lambd: Callable[[Any], Any]):
        if not callable(lambd):
            raise TypeError(f"Argument lambd should be callable, got {type(lambd).__name__!r}")
        self.lambd = lambd

    def __call__(self, img):
        """What the function makes of the image."""
        return self.lambd(img)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class RandomTransforms:
    """What the transforms that choose among others have in common. Raises TypeError unless given a sequence."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]):
        if not isinstance(transforms, Sequence):
            raise TypeError("Argument transforms should be a sequence")
        self.transforms = transforms

    def __call__(self, img):
        raise NotImplementedError(f"{type(self).__name__} does not say how to choose among its transforms")

    def __repr__(self) -> str:
        return _listed(self)


class RandomApply(nn.Module):
    """With probability `p` all the transforms, one after the other; else none. Takes a list or an nn.ModuleList."""

    def __init__(self, transforms, p: float = 0.5):
        super().__init__()
        self.transforms = transforms
        self.p = p

    def forward(self, img):
        """The image, perhaps transformed."""
        if self.p < torch.rand(1).item():
            return img
        for transform in self.transforms:
            img = transform(img)
        return img

    def __repr__(self) -> str:
        return _listed(self, f"    p={self.p}")


class RandomOrder(RandomTransforms):
    """All the transforms in a random order, drawn from Python's `random` as torchvision does."""

    def __call__(self, img):
        """The image after all transforms."""
        order = list(range(len(self.transforms)))
        random.shuffle(order)
        for index in order:
            img = self.transforms[index](img)
        return img


class RandomChoice(RandomTransforms):
    """One of the transforms, with weights `p` if given, drawn from Python's `random` as torchvision does."""

    def __init__(self, transforms, p: Sequence[float] | None = None):
        super().__init__(transforms)
        if p is not None and not isinstance(p, Sequence):
            raise TypeError("Argument p should be a sequence")
        self.p = p

    def __call__(self, img):
        """The image after the chosen transform."""
        return random.choices(self.transforms, weights=self.p)[0](img)

    def __repr__(self) -> str:
        return f"{super().__repr__()}(p={self.p})"
