"""torchvision.transforms.v2 for images: one image in, one image out (`MixUp` and `CutMix`: batch and labels).

Transforms of boxes, masks and videos together with the image are not here.
"""

from __future__ import annotations

import importlib
from typing import Any

import flambeau as torch
from flambeau import nn
from flambeau.vision.transforms import *  # noqa: F403
from flambeau.vision.transforms import __all__ as _classic
from flambeau.vision.transforms.v2.batches import CutMix, MixUp
from flambeau.vision.transforms.v2.choices import *  # noqa: F403
from flambeau.vision.transforms.v2.functional import to_dtype, to_image
from flambeau.vision.transforms.v2.images import *  # noqa: F403
from flambeau.vision.transforms.v2.images import __all__ as _images

# Not `from … import functional`: the star import above has brought version 1's under that name.
functional = importlib.import_module(f"{__name__}.functional")

__all__ = ["CutMix", "Identity", "MixUp", "ToDtype", "ToImage", "ToPureTensor", *_images, *_classic]


class Identity(nn.Module):
    """The input itself."""

    def forward(self, input: Any) -> Any:
        """The input."""
        return input


class ToImage(nn.Module):
    """`functional.to_image` as a transform."""

    def forward(self, input: Any) -> Any:
        """The tensor of the image."""
        return to_image(input)


class ToPureTensor(Identity):
    """The tensor itself: images here are plain tensors already."""


class ToDtype(nn.Module):
    """A tensor in `dtype`; with `scale` its values are scaled so that white stays white."""

    def __init__(self, dtype: Any, scale: bool = False):
        super().__init__()
        self.dtype = dtype
        self.scale = scale

    def forward(self, input: Any) -> Any:
        """The image in the dtype; what is no tensor is kept."""
        if not isinstance(input, torch.Tensor):
            return input
        return to_dtype(input, self.dtype, self.scale)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(scale={self.scale})"
