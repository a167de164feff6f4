"""Transforms that move pixels. Random parameters are drawn in torchvision's order from the default generator."""

from __future__ import annotations

import functools
import math
import numbers
import warnings
from collections.abc import Sequence

import numpy as np

import flambeau as torch
from flambeau import nn
from flambeau.core import random as draws
from flambeau.vision.transforms import functional as F
from flambeau.vision.transforms.modes import InterpolationMode, interpolation_of

__all__ = [
    "CenterCrop",
    "ElasticTransform",
    "FiveCrop",
    "Pad",
    "RandomAffine",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomPerspective",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomVerticalFlip",
    "Resize",
    "TenCrop",
]

NEAREST, BILINEAR = InterpolationMode.NEAREST, InterpolationMode.BILINEAR


# Parameters are drawn as arrays: a tensor for every number would cost as much as cropping a small image.


def _one_uniform(low: float, high: float) -> np.ndarray:
    dtype = torch.get_default_dtype().numpy
    return draws.uniform(torch.default_generator, (1,), dtype, float(low), float(high))


def uniform(low: float, high: float) -> float:
    """One number of the default dtype drawn between `low` and `high`."""
    return float(_one_uniform(low, high)[0])


def log_uniform(low: float, high: float) -> float:
    """The exponential of a number drawn between `low` and `high`, computed in the default dtype."""
    return float(np.exp(_one_uniform(low, high))[0])


def integer(low: int, high: int) -> int:
    """One integer drawn from low to high - 1."""
    return int(draws.randint(torch.default_generator, (1,), low, high)[0])


@functools.lru_cache(maxsize=32)
def logarithms(*numbers: float) -> list[float]:
    """The logarithms, computed in the default dtype's precision for tensors of numbers."""
    return torch.log(torch.tensor(numbers)).tolist()


def size_pair(size, message: str) -> tuple[int, int]:
    """(height, width) of a number or of a sequence of one or two; ValueError(message) for another length."""
    if isinstance(size, numbers.Real):
        return int(size), int(size)  # type: ignore[call-overload]
    if isinstance(size, Sequence) and len(size) == 1:
        return size[0], size[0]
    if len(size) != 2:
        raise ValueError(message)
    return tuple(size)


def angle_range(value, name: str, lengths: tuple[int, ...] = (2,)) -> list[float]:
    """(-value, value) of a number that is not negative, or the sequence itself, of one of `lengths`."""
    if isinstance(value, numbers.Real):
        if value < 0:
            raise ValueError(f"If {name} is a single number, it must be positive.")
        return [-float(value), float(value)]
    if not isinstance(value, Sequence):
        raise TypeError(f"{name} should be a sequence of length {' or '.join(map(str, lengths))}.")
    if len(value) not in lengths:
        raise ValueError(f"{name} should be a sequence of length {' or '.join(map(str, lengths))}.")
    return [float(number) for number in value]


def fill_of(img, fill):
    """The fill values for `img`: one float a channel for a tensor, as it is for a PIL image."""
    if not isinstance(img, torch.Tensor) or fill is None:
        return fill
    if isinstance(fill, (int, float)):
        return [float(fill)] * F.get_image_num_channels(img)
    return [float(value) for value in fill]


class Resize(nn.Module):
    """The image at `size`: (height, width), or the length of the shorter side; the longer one is rounded down."""

    def __init__(self, size, interpolation=BILINEAR, max_size: int | None = None, antialias: bool | None = True):
        super().__init__()
        if not isinstance(size, (int, Sequence)):
            raise TypeError(f"Size should be int or sequence. Got {type(size)}")
        if isinstance(size, Sequence) and len(size) not in (1, 2):
            raise ValueError("If size is a sequence, it should have 1 or 2 values")
        self.size = size
        self.max_size = max_size
        self.interpolation = interpolation_of(interpolation)
        self.antialias = antialias

    def forward(self, img):
        """The resized image."""
        return F.resize(img, self.size, self.interpolation, self.max_size, self.antialias)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(size={self.size}, interpolation={self.interpolation.value}, "
            f"max_size={self.max_size}, antialias={self.antialias})"
        )


class CenterCrop(nn.Module):
    """The middle of the image, padded with black where the image is smaller."""

    def __init__(self, size):
        super().__init__()
        self.size = size_pair(size, "Please provide only two dimensions (h, w) for size.")

    def forward(self, img):
        """The cropped image."""
        return F.center_crop(img, self.size)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={self.size})"


class Pad(nn.Module):
    """The image with borders: one number, (left and right, top and bottom), or (left, top, right, bottom)."""

    def __init__(self, padding, fill=0, padding_mode: str = "constant"):
        super().__init__()
        if not isinstance(padding, (numbers.Real, tuple, list)):
            raise TypeError("Got inappropriate padding arg")
        if not isinstance(fill, (numbers.Real, str, tuple, list)):
            raise TypeError("Got inappropriate fill arg")
        if padding_mode not in ("constant", "edge", "reflect", "symmetric"):
            raise ValueError("Padding mode should be either constant, edge, reflect or symmetric")
        if isinstance(padding, Sequence) and len(padding) not in (1, 2, 4):
            raise ValueError(
                f"Padding must be an int or a 1, 2, or 4 element tuple, not a {len(padding)} element tuple"
            )
        self.padding = padding
        self.fill = fill
        self.padding_mode = padding_mode

    def forward(self, img):
        """The padded image."""
        return F.pad(img, self.padding, self.fill, self.padding_mode)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(padding={self.padding}, fill={self.fill}, padding_mode={self.padding_mode})"


class RandomCrop(nn.Module):
    """A random rectangle of `size` of the image after `padding`; `pad_if_needed` enlarges smaller images."""

    def __init__(self, size, padding=None, pad_if_needed: bool = False, fill=0, padding_mode: str = "constant"):
        super().__init__()
        self.size = size_pair(size, "Please provide only two dimensions (h, w) for size.")
        self.padding = padding
        self.pad_if_needed = pad_if_needed
        self.fill = fill
        self.padding_mode = padding_mode

    @staticmethod
    def get_params(img, output_size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Top, left, height and width of a random crop. Raises ValueError if the image is smaller."""
        _, h, w = F.get_dimensions(img)
        th, tw = output_size
        if h < th or w < tw:
            raise ValueError(f"Required crop size {(th, tw)} is larger than input image size {(h, w)}")
        if (w, h) == (tw, th):
            return 0, 0, h, w
        top = integer(0, h - th + 1)
        return top, integer(0, w - tw + 1), th, tw

    def forward(self, img):
        """The cropped image."""
        if self.padding is not None:
            img = F.pad(img, self.padding, self.fill, self.padding_mode)
        _, height, width = F.get_dimensions(img)
        if self.pad_if_needed and width < self.size[1]:
            img = F.pad(img, [self.size[1] - width, 0], self.fill, self.padding_mode)
        if self.pad_if_needed and height < self.size[0]:
            img = F.pad(img, [0, self.size[0] - height], self.fill, self.padding_mode)
        return F.crop(img, *self.get_params(img, self.size))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={self.size}, padding={self.padding})"


class RandomHorizontalFlip(nn.Module):
    """With probability `p` the image mirrored left to right."""

    def __init__(self, p: float = 0.5):
        super().__init__()
        self.p = p

    def forward(self, img):
        """The image, perhaps mirrored."""
        return F.hflip(img) if uniform(0, 1) < self.p else img

    def __repr__(self) -> str:
        return f"{type(self).__name__}(p={self.p})"


class RandomVerticalFlip(RandomHorizontalFlip):
    """With probability `p` the image mirrored top to bottom."""

    def forward(self, img):
        """The image, perhaps mirrored."""
        return F.vflip(img) if uniform(0, 1) < self.p else img


class RandomResizedCrop(nn.Module):
    """A random part of the image, of `scale` times its area and a side ratio in `ratio`, resized to `size`."""

    def __init__(
        self,
        size,
        scale=(0.08, 1.0),
        ratio=(3.0 / 4.0, 4.0 / 3.0),
        interpolation=BILINEAR,
        antialias: bool | None = True,
    ):
        super().__init__()
        self.size = size_pair(size, "Please provide only two dimensions (h, w) for size.")
        if not isinstance(scale, Sequence):
            raise TypeError("Scale should be a sequence")
        if not isinstance(ratio, Sequence):
            raise TypeError("Ratio should be a sequence")
        if scale[0] > scale[1] or ratio[0] > ratio[1]:
            warnings.warn("Scale and ratio should be of kind (min, max)", stacklevel=2)
        self.interpolation = interpolation_of(interpolation)
        self.antialias = antialias
        self.scale = scale
        self.ratio = ratio

    @staticmethod
    def get_params(img, scale, ratio) -> tuple[int, int, int, int]:
        """Top, left, height and width of a random part; the middle after ten parts that do not fit."""
        _, height, width = F.get_dimensions(img)
        area = height * width
        log_ratio = logarithms(*ratio)
        for _ in range(10):
            target_area = area * uniform(scale[0], scale[1])
            aspect_ratio = log_uniform(log_ratio[0], log_ratio[1])
            w = round(math.sqrt(target_area * aspect_ratio))
            h = round(math.sqrt(target_area / aspect_ratio))
            if 0 < w <= width and 0 < h <= height:
                top = integer(0, height - h + 1)
                return top, integer(0, width - w + 1), h, w
        in_ratio = float(width) / float(height)
        if in_ratio < min(ratio):
            w, h = width, round(width / min(ratio))
        elif in_ratio > max(ratio):
            w, h = round(height * max(ratio)), height
        else:
            w, h = width, height
        return (height - h) // 2, (width - w) // 2, h, w

    def forward(self, img):
        """The part, resized."""
        top, left, height, width = self.get_params(img, self.scale, self.ratio)
        return F.resized_crop(img, top, left, height, width, self.size, self.interpolation, self.antialias)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(size={self.size}, scale={tuple(round(s, 4) for s in self.scale)}, "
            f"ratio={tuple(round(r, 4) for r in self.ratio)}, interpolation={self.interpolation.value}, "
            f"antialias={self.antialias})"
        )


class FiveCrop(nn.Module):
    """The four corners and the middle, as a tuple of five images."""

    def __init__(self, size):
        super().__init__()
        self.size = size_pair(size, "Please provide only two dimensions (h, w) for size.")

    def forward(self, img):
        """The five crops."""
        return F.five_crop(img, self.size)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={self.size})"


class TenCrop(nn.Module):
    """The four corners and the middle of the image and of its mirror image, as a tuple of ten."""

    def __init__(self, size, vertical_flip: bool = False):
        super().__init__()
        self.size = size_pair(size, "Please provide only two dimensions (h, w) for size.")
        self.vertical_flip = vertical_flip

    def forward(self, img):
        """The ten crops."""
        return F.ten_crop(img, self.size, self.vertical_flip)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={self.size}, vertical_flip={self.vertical_flip})"


class RandomRotation(nn.Module):
    """The image turned by a random angle: between -degrees and degrees, or between the two of a pair."""

    def __init__(self, degrees, interpolation=NEAREST, expand: bool = False, center=None, fill=0):
        super().__init__()
        self.degrees = angle_range(degrees, "degrees")
        self.interpolation = interpolation_of(interpolation)
        self.expand = expand
        self.center = center
        self.fill = 0 if fill is None else fill

    @staticmethod
    def get_params(degrees: list[float]) -> float:
        """A random angle."""
        return uniform(degrees[0], degrees[1])

    def forward(self, img):
        """The turned image."""
        angle = self.get_params(self.degrees)
        return F.rotate(img, angle, self.interpolation, self.expand, self.center, fill_of(img, self.fill))

    def __repr__(self) -> str:
        extra = f", center={self.center}" if self.center is not None else ""
        extra += f", fill={self.fill}" if self.fill is not None else ""
        return (
            f"{type(self).__name__}(degrees={self.degrees}, interpolation={self.interpolation.value}, "
            f"expand={self.expand}{extra})"
        )


class RandomAffine(nn.Module):
    """The image turned, moved by up to `translate` (fractions of width, height), scaled and sheared at random.

    `shear`: a number (along x, both ways), a pair (along x) or four numbers (along x and y), in degrees.
    """

    def __init__(self, degrees, translate=None, scale=None, shear=None, interpolation=NEAREST, fill=0, center=None):
        super().__init__()
        self.degrees = angle_range(degrees, "degrees")
        if translate is not None and not all(0.0 <= part <= 1.0 for part in translate):
            raise ValueError("translation values should be between 0 and 1")
        if scale is not None and not all(part > 0 for part in scale):
            raise ValueError("scale values should be positive")
        self.translate = translate
        self.scale = scale
        self.shear = None if shear is None else angle_range(shear, "shear", (2, 4))
        self.interpolation = interpolation_of(interpolation)
        self.fill = 0 if fill is None else fill
        self.center = center

    @staticmethod
    def get_params(degrees, translate, scale_ranges, shears, img_size):
        """Angle, translation (x, y), scale and shear (x, y), for an image of `img_size` (width, height)."""
        angle = uniform(degrees[0], degrees[1])
        translations = (0, 0)
        if translate is not None:
            reach_x, reach_y = float(translate[0] * img_size[0]), float(translate[1] * img_size[1])
            move_x = round(uniform(-reach_x, reach_x))
            translations = (move_x, round(uniform(-reach_y, reach_y)))
        scale = 1.0 if scale_ranges is None else uniform(scale_ranges[0], scale_ranges[1])
        shear_x = 0.0 if shears is None else uniform(shears[0], shears[1])
        shear_y = 0.0 if shears is None or len(shears) != 4 else uniform(shears[2], shears[3])
        return angle, translations, scale, (shear_x, shear_y)

    def forward(self, img):
        """The moved image."""
        _, height, width = F.get_dimensions(img)
        params = self.get_params(self.degrees, self.translate, self.scale, self.shear, [width, height])
        return F.affine(
            img, *params, interpolation=self.interpolation, fill=fill_of(img, self.fill), center=self.center
        )

    def __repr__(self) -> str:
        parts = [f"degrees={self.degrees}"]
        parts += [f"{n}={v}" for n in ("translate", "scale", "shear") if (v := getattr(self, n)) is not None]
        if self.interpolation is not NEAREST:
            parts.append(f"interpolation={self.interpolation.value}")
        if self.fill != 0:
            parts.append(f"fill={self.fill}")
        if self.center is not None:
            parts.append(f"center={self.center}")
        return f"{type(self).__name__}({', '.join(parts)})"


class RandomPerspective(nn.Module):
    """With probability `p` the image seen from a random side: each corner moves in by up to `distortion_scale` / 2."""

    def __init__(self, distortion_scale: float = 0.5, p: float = 0.5, interpolation=BILINEAR, fill=0):
        super().__init__()
        self.p = p
        self.interpolation = interpolation_of(interpolation)
        self.distortion_scale = distortion_scale
        self.fill = 0 if fill is None else fill

    @staticmethod
    def get_params(width: int, height: int, distortion_scale: float):
        """The four corners (x, y) from the upper left clockwise, and where they go."""
        dx, dy = int(distortion_scale * (width // 2)), int(distortion_scale * (height // 2))
        left, right = (0, dx + 1), (width - dx - 1, width)
        top, bottom = (0, dy + 1), (height - dy - 1, height)
        ranges = [(left, top), (right, top), (right, bottom), (left, bottom)]
        endpoints = [[integer(*across), integer(*down)] for across, down in ranges]
        return [[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], endpoints

    def forward(self, img):
        """The image, perhaps distorted."""
        fill = fill_of(img, self.fill)
        if uniform(0, 1) >= self.p:
            return img
        _, height, width = F.get_dimensions(img)
        start, end = self.get_params(width, height, self.distortion_scale)
        return F.perspective(img, start, end, self.interpolation, fill)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(p={self.p})"


class ElasticTransform(nn.Module):
    """The image with its pixels moved by a smooth random field: uniform noise, blurred by `sigma`, times `alpha`."""

    def __init__(self, alpha=50.0, sigma=5.0, interpolation=BILINEAR, fill=0):
        super().__init__()
        self.alpha = [float(alpha)] * 2 if isinstance(alpha, (int, float)) else [float(a) for a in alpha]
        self.sigma = [float(sigma)] * 2 if isinstance(sigma, (int, float)) else [float(s) for s in sigma]
        self.alpha, self.sigma = (v * 2 if len(v) == 1 else v for v in (self.alpha, self.sigma))
        self.interpolation = interpolation_of(interpolation)
        self.fill = fill

    @staticmethod
    def get_params(alpha: list[float], sigma: list[float], size: list[int]):
        """The field (1, H, W, 2) for an image of `size` (height, width)."""
        fields = []
        for axis in (0, 1):
            field = torch.rand([1, 1, *size]) * 2 - 1
            if sigma[axis] > 0.0:
                kernel = int(8 * sigma[axis] + 1) | 1
                field = F.gaussian_blur(field, [kernel, kernel], sigma)
            fields.append(field * alpha[axis] / size[1 - axis])  # across by the width, down by the height
        return torch.cat(fields, 1).permute([0, 2, 3, 1])

    def forward(self, img):
        """The distorted image."""
        _, height, width = F.get_dimensions(img)
        displacement = self.get_params(self.alpha, self.sigma, [height, width])
        return F.elastic_transform(img, displacement, self.interpolation, self.fill)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(alpha={self.alpha}, sigma={self.sigma}, "
            f"interpolation={self.interpolation}, fill={self.fill})"
        )
