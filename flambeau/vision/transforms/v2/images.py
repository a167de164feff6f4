"""Random changes of one image that only version 2 has. Parameters are drawn in torchvision's order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flambeau as torch
import flambeau.vision.transforms.v2.functional as F
from flambeau import nn
from flambeau.vision.transforms.colour import _bounds
from flambeau.vision.transforms.geometry import BILINEAR, fill_of, integer, uniform
from flambeau.vision.transforms.modes import interpolation_of

__all__ = [
    "RGB", "GaussianNoise", "JPEG", "RandomChannelPermutation", "RandomPhotometricDistort", "RandomResize",
    "RandomShortestSize", "RandomZoomOut", "ScaleJitter",
]


class RGB(nn.Module):
    """A grey image as three equal channels."""

    def forward(self, img: Any) -> Any:
        """The image in colours."""
        return F.grayscale_to_rgb(img)


class GaussianNoise(nn.Module):
    """A tensor image plus normal noise of mean `mean` and deviation `sigma`, in units of white."""

    def __init__(self, mean: float = 0.0, sigma: float = 0.1, clip: bool = True) -> None:
        super().__init__()
        self.mean = mean
        self.sigma = sigma
        self.clip = clip

    def forward(self, img: Any) -> Any:
        """The noisy image."""
        return F.gaussian_noise(img, self.mean, self.sigma, self.clip)


class JPEG(nn.Module):
    """The image as JPEG gives it back, of a quality from 1 to 100 or drawn from (lowest, highest)."""

    def __init__(self, quality: int | Sequence[int]) -> None:
        super().__init__()
        if isinstance(quality, bool) or not isinstance(quality, (int, Sequence)):
            raise TypeError(f"quality should be an integer or a pair of them, got {quality!r}")
        bounds = [quality, quality] if isinstance(quality, int) else list(quality)
        if len(bounds) != 2 or not 1 <= bounds[0] <= bounds[1] <= 100 or not all(isinstance(b, int) for b in bounds):
            raise ValueError(f"quality must be an integer from 1 to 100, got quality={quality}")
        self.quality = bounds

    def forward(self, img: Any) -> Any:
        """The image with what JPEG does to it."""
        return F.jpeg(img, integer(self.quality[0], self.quality[1] + 1))


class RandomChannelPermutation(nn.Module):
    """The image with its channels in a random order."""

    def forward(self, img: Any) -> Any:
        """The image in other colours."""
        return F.permute_channels(img, torch.randperm(F.get_num_channels(img)).tolist())


class RandomPhotometricDistort(nn.Module):
    """Brightness, contrast, saturation, hue and the order of the channels, each changed with probability `p` (SSD)."""

    def __init__(
        self, brightness: tuple[float, float] = (0.875, 1.125), contrast: tuple[float, float] = (0.5, 1.5),
        saturation: tuple[float, float] = (0.5, 1.5), hue: tuple[float, float] = (-0.05, 0.05), p: float = 0.5,
    ) -> None:
        super().__init__()
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue
        for name in ("brightness", "contrast", "saturation"):
            _bounds(getattr(self, name), name)
        _bounds(hue, "hue", centre=0, limits=(-0.5, 0.5), clip=False)
        self.p = p

    def forward(self, img: Any) -> Any:
        """The distorted image."""
        ranges = (self.brightness, self.contrast, self.saturation, self.hue)
        drawn = [uniform(*bounds) if uniform(0, 1) < self.p else None for bounds in ranges]
        contrast_first = uniform(0, 1) < 0.5
        order = torch.randperm(F.get_num_channels(img)).tolist() if uniform(0, 1) < self.p else None
        changes = list(zip((F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue), drawn))
        if not contrast_first:
            changes.append(changes.pop(1))
        for change, factor in changes:
            img = img if factor is None else change(img, factor)
        return img if order is None else F.permute_channels(img, order)


class RandomZoomOut(nn.Module):
    """With probability `p` the image at a random place of a larger canvas (`side_range` times its sides)."""

    def __init__(self, fill: Any = 0, side_range: Sequence[float] = (1.0, 4.0), p: float = 0.5) -> None:
        super().__init__()
        if not 1.0 <= side_range[0] <= side_range[1]:
            raise ValueError(f"Invalid side range provided {side_range}.")
        self.fill = fill
        self.side_range = side_range
        self.p = p

    def forward(self, img: Any) -> Any:
        """The image, perhaps smaller in a larger one."""
        if uniform(0, 1) >= self.p:
            return img
        height, width = F.get_size(img)
        low, high = self.side_range
        ratio = low + torch.rand(1) * (high - low)
        canvas_width, canvas_height = int(width * ratio), int(height * ratio)
        across, down = torch.rand(2)
        left, top = int((canvas_width - width) * across), int((canvas_height - height) * down)
        padding = [left, top, canvas_width - left - width, canvas_height - top - height]
        fill = self.fill
        if isinstance(img, torch.Tensor) and isinstance(fill, (list, tuple)):
            return _framed(img, padding, fill_of(img, fill))
        return F.pad(img, padding, fill)


def _framed(img: Any, padding: list[int], fill: list[float]) -> Any:
    """A tensor image with borders of one value a channel."""
    left, top, right, bottom = padding
    height, width = img.shape[-2:]
    values = torch.tensor(fill, dtype=img.dtype).reshape(-1, 1, 1)
    canvas = values.expand(*img.shape[:-2], height + top + bottom, width + left + right).clone()
    canvas[..., top : top + height, left : left + width] = img
    return canvas


class _Resizing(nn.Module):
    """What the transforms that resize to a random size have in common."""

    def __init__(self, interpolation: Any, antialias: bool | None) -> None:
        super().__init__()
        self.interpolation = interpolation_of(interpolation)
        self.antialias = antialias

    def size_for(self, height: int, width: int) -> list[int]:
        """The size drawn for an image."""
        raise NotImplementedError(f"{type(self).__name__} does not say which size it draws")

    def forward(self, img: Any) -> Any:
        """The resized image."""
        return F.resize(img, self.size_for(*F.get_size(img)), self.interpolation, antialias=self.antialias)


class ScaleJitter(_Resizing):
    """The image at a random scale, relative to the one at which it fits into `target_size` (height, width)."""

    def __init__(
        self, target_size: tuple[int, int], scale_range: tuple[float, float] = (0.1, 2.0),
        interpolation: Any = BILINEAR, antialias: bool | None = True,
    ) -> None:
        super().__init__(interpolation, antialias)
        self.target_size = target_size
        self.scale_range = scale_range

    def size_for(self, height: int, width: int) -> list[int]:
        """Height and width."""
        low, high = self.scale_range
        scale = low + torch.rand(1) * (high - low)
        # torchvision takes the target's width for the image's height, and so does this.
        ratio = min(self.target_size[1] / height, self.target_size[0] / width) * scale
        return [int(height * ratio), int(width * ratio)]


class RandomShortestSize(_Resizing):
    """The image with its shorter side one of `min_size`, but with no side above `max_size`."""

    def __init__(
        self, min_size: int | Sequence[int], max_size: int | None = None, interpolation: Any = BILINEAR,
        antialias: bool | None = True,
    ) -> None:
        super().__init__(interpolation, antialias)
        self.min_size = [min_size] if isinstance(min_size, int) else list(min_size)
        self.max_size = max_size

    def size_for(self, height: int, width: int) -> list[int]:
        """Height and width."""
        ratio = self.min_size[integer(0, len(self.min_size))] / min(height, width)
        if self.max_size is not None:
            ratio = min(ratio, self.max_size / max(height, width))
        return [int(height * ratio), int(width * ratio)]


class RandomResize(_Resizing):
    """The image with its shorter side from `min_size` to `max_size` - 1."""

    def __init__(
        self, min_size: int, max_size: int, interpolation: Any = BILINEAR, antialias: bool | None = True
    ) -> None:
        super().__init__(interpolation, antialias)
        self.min_size = min_size
        self.max_size = max_size

    def size_for(self, height: int, width: int) -> list[int]:
        """The shorter side."""
        return [integer(self.min_size, self.max_size)]
