"""The names of torchvision.transforms.v2 whose behaviour is that of the transforms here: one image in, one image out.

What v2 adds, transforms of boxes, masks and videos together with the image, is not here.
"""

from __future__ import annotations

from typing import Any

import flambeau as torch
from flambeau import nn
from flambeau.vision.transforms import *  # noqa: F403
from flambeau.vision.transforms import __all__ as _classic
from flambeau.vision.transforms import functional

__all__ = ["Identity", "ToDtype", "ToImage", "ToPureTensor", *_classic]


class Identity(nn.Module):
    """The input itself."""

    def forward(self, input: Any) -> Any:
        """The input."""
        return input


class ToImage(nn.Module):
    """A PIL image or an array (H, W, C) as a tensor (C, H, W) of its own dtype, not scaled; a tensor is kept."""

    def forward(self, input: Any) -> Any:
        """The tensor of the image."""
        if isinstance(input, torch.Tensor):
            return input
        if functional.is_pil_image(input):
            return functional.pil_to_tensor(input)
        if hasattr(input, "ndim") and input.ndim in (2, 3):
            image = torch.from_numpy(input)
            return (image[None] if image.ndim == 2 else image.permute(2, 0, 1)).contiguous()
        raise TypeError(f"Input can either be a pure Tensor, a numpy array, or a PIL image, but got {type(input)}")


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
        return functional.convert_image_dtype(input, self.dtype) if self.scale else input.to(self.dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(scale={self.scale})"
