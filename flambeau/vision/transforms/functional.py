"""Transforms of images as functions: one meaning for PIL images and for tensors (..., C, H, W).

Source: the contract of torchvision.transforms.functional. An image that is neither raises TypeError.
"""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

import flambeau as torch
from flambeau.vision.transforms import _pil, _tensor
from flambeau.vision.transforms._conversion import (
    convert_image_dtype,
    normalize,
    pil_to_tensor,
    to_pil_image,
    to_tensor,
)
from flambeau.vision.transforms._pil import is_pil_image
from flambeau.vision.transforms.modes import PILLOW, InterpolationMode, interpolation_of

__all__ = [
    "InterpolationMode",
    "adjust_brightness",
    "adjust_contrast",
    "adjust_gamma",
    "adjust_hue",
    "adjust_saturation",
    "adjust_sharpness",
    "affine",
    "autocontrast",
    "center_crop",
    "convert_image_dtype",
    "crop",
    "elastic_transform",
    "equalize",
    "erase",
    "five_crop",
    "gaussian_blur",
    "get_dimensions",
    "get_image_num_channels",
    "get_image_size",
    "hflip",
    "invert",
    "normalize",
    "pad",
    "perspective",
    "pil_to_tensor",
    "posterize",
    "resize",
    "resized_crop",
    "rgb_to_grayscale",
    "rotate",
    "solarize",
    "ten_crop",
    "to_grayscale",
    "to_pil_image",
    "to_tensor",
    "vflip",
]

def _is_tensor(image: Any) -> bool:
    """Whether `image` is an image tensor; False for a PIL image. Raises TypeError for anything else."""
    if isinstance(image, torch.Tensor):
        if image.ndim < 2:
            raise TypeError(
                f"Tensor is not a torch image: expected at least 2 dimensions, got shape {tuple(image.shape)}"
            )
        return True
    if is_pil_image(image):
        return False
    raise TypeError(f"img should be PIL Image or Tensor. Got {type(image)}")


def get_dimensions(img) -> list[int]:
    """Channels, height and width of the image."""
    if _is_tensor(img):
        return [1 if img.ndim == 2 else img.shape[-3], *img.shape[-2:]]
    return [_pil.channels(img), img.height, img.width]


def get_image_size(img) -> list[int]:
    """Width and height of the image."""
    return get_dimensions(img)[:0:-1]


def get_image_num_channels(img) -> int:
    """Number of channels of the image."""
    return get_dimensions(img)[0]


# Geometry


def _resized(height: int, width: int, size: Sequence[int], max_size: int | None) -> list[int]:
    """Height and width after `resize`; the longer side is rounded down."""
    if len(size) == 2:
        return list(size)
    short, long = min(height, width), max(height, width)
    new_short, new_long = size[0], int(size[0] * long / short)
    if max_size is not None:
        if max_size <= size[0]:
            raise ValueError(
                f"max_size = {max_size} must be strictly greater than the requested size for the smaller edge "
                f"size = {size[0]}"
            )
        if new_long > max_size:
            new_short, new_long = int(max_size * new_short / new_long), max_size
    return [new_long, new_short] if width <= height else [new_short, new_long]


def resize(
    img, size, interpolation=InterpolationMode.BILINEAR, max_size: int | None = None, antialias: bool | None = True
):
    """The image at `size`: (height, width), or the length of its shorter side, the other following (rounded down).

    `max_size` bounds the longer side. Pillow always smooths when it shrinks; tensors do with `antialias`.
    """
    interpolation = interpolation_of(interpolation)
    size = [size] if isinstance(size, int) else list(size)
    if len(size) not in (1, 2):
        raise ValueError(f"Size must be an int or a 1 or 2 element tuple/list, not a {len(size)} element tuple/list")
    if max_size is not None and len(size) != 1:
        raise ValueError("max_size should only be passed if size specifies the length of the smaller edge")
    tensor = _is_tensor(img)
    _, height, width = get_dimensions(img)
    target = _resized(height, width, size, max_size)
    if target == [height, width]:
        return img
    if not tensor:
        if antialias is False:
            warnings.warn(
                "Anti-alias option is always applied for PIL Image input. Argument antialias is ignored.", stacklevel=2
            )
        return _pil.resize(img, target, PILLOW[interpolation])
    _check_tensor_mode(interpolation, ("nearest", "nearest-exact", "bilinear", "bicubic"))
    return _tensor.resize(img, target, interpolation.value, bool(antialias))


def _check_tensor_mode(interpolation: InterpolationMode, allowed: tuple[str, ...]) -> None:
    if interpolation.value not in allowed:
        raise ValueError(f"Interpolation mode '{interpolation.value}' is unsupported with Tensor input; use {allowed}")


def pad(img, padding, fill=0, padding_mode: str = "constant"):
    """The image with borders: `padding` is one number, (left and right, top and bottom), or (left, top, right, bottom).

    `padding_mode`: constant (with `fill`), edge, reflect (without the edge pixel), symmetric (with it).
    """
    if not isinstance(padding, (numbers.Real, tuple, list)):
        raise TypeError("Got inappropriate padding arg")
    if padding_mode not in ("constant", "edge", "reflect", "symmetric"):
        raise ValueError("Padding mode should be either constant, edge, reflect or symmetric")
    sides = [padding] if isinstance(padding, numbers.Real) else list(padding)
    if len(sides) not in (1, 2, 4):
        raise ValueError(f"Padding must be an int or a 1, 2, or 4 element tuple, not a {len(sides)} element tuple")
    left, top, right, bottom = sides * (4 // len(sides))
    backend = _tensor if _is_tensor(img) else _pil
    return backend.pad(img, (left, top, right, bottom), fill, padding_mode)


def crop(img, top: int, left: int, height: int, width: int):
    """The rectangle of the image; black where it reaches beyond."""
    return (_tensor if _is_tensor(img) else _pil).crop(img, top, left, height, width)


def center_crop(img, output_size):
    """The middle (height, width) of the image, which is padded with black where it is smaller.

    The corner is rounded half to even: of 341 columns, a crop of 224 starts at 58.
    """
    th, tw = _pair(output_size)
    _, height, width = get_dimensions(img)
    if tw > width or th > height:
        missing_w, missing_h = max(tw - width, 0), max(th - height, 0)
        img = pad(img, [missing_w // 2, missing_h // 2, (missing_w + 1) // 2, (missing_h + 1) // 2], fill=0)
        _, height, width = get_dimensions(img)
        if (th, tw) == (height, width):
            return img
    return crop(img, round((height - th) / 2.0), round((width - tw) / 2.0), th, tw)


def _pair(size) -> tuple[int, int]:
    """(height, width) of a number, a sequence of one, or of two."""
    if isinstance(size, numbers.Real):
        return int(size), int(size)  # type: ignore[call-overload]
    if len(size) == 1:
        return size[0], size[0]
    if len(size) != 2:
        raise ValueError("Please provide only two dimensions (h, w) for size.")
    return size[0], size[1]


def resized_crop(
    img, top, left, height, width, size, interpolation=InterpolationMode.BILINEAR, antialias: bool | None = True
):
    """The rectangle of the image, resized to `size`."""
    return resize(crop(img, top, left, height, width), size, interpolation, antialias=antialias)


def hflip(img):
    """The image mirrored left to right."""
    return img.flip(-1) if _is_tensor(img) else _pil.hflip(img)


def vflip(img):
    """The image mirrored top to bottom."""
    return img.flip(-2) if _is_tensor(img) else _pil.vflip(img)


def five_crop(img, size):
    """The four corners and the middle, as a tuple of five images of `size`; ValueError if the image is smaller."""
    th, tw = _pair(size)
    _, height, width = get_dimensions(img)
    if tw > width or th > height:
        raise ValueError(f"Requested crop size {(th, tw)} is bigger than input size {(height, width)}")
    corners = [(0, 0), (0, width - tw), (height - th, 0), (height - th, width - tw)]
    return (*(crop(img, top, left, th, tw) for top, left in corners), center_crop(img, [th, tw]))


def ten_crop(img, size, vertical_flip: bool = False):
    """`five_crop` of the image and of its mirror image, as a tuple of ten."""
    return five_crop(img, size) + five_crop(vflip(img) if vertical_flip else hflip(img), size)


def rotate(img, angle: float, interpolation=InterpolationMode.NEAREST, expand: bool = False, center=None, fill=None):
    """The image turned by `angle` degrees counter-clockwise about `center` (x, y; the middle unless given).

    `expand` enlarges the result to hold the whole turned image.
    """
    if not isinstance(angle, (int, float)):
        raise TypeError("Argument angle should be int or float")
    if center is not None and not isinstance(center, (list, tuple)):
        raise TypeError("Argument center should be a sequence")
    interpolation = interpolation_of(interpolation)
    if not _is_tensor(img):
        return _pil.rotate(img, angle, PILLOW[interpolation], expand, center, fill)
    _check_tensor_mode(interpolation, ("nearest", "bilinear"))
    # The inverse turn is what samples the image; counter-clockwise on a y axis that points down.
    matrix = _tensor.inverse_affine_matrix(_from_middle(img, center), -angle, (0.0, 0.0), 1.0, (0.0, 0.0))
    return _tensor.affine(img, matrix, interpolation.value, fill, expand)


def _from_middle(img, center) -> tuple[float, float]:
    """`center` (x, y), counted from the upper left corner, counted from the image's middle."""
    if center is None:
        return 0.0, 0.0
    width, height = get_image_size(img)
    return center[0] - width * 0.5, center[1] - height * 0.5


def affine(
    img, angle: float, translate, scale: float, shear, interpolation=InterpolationMode.NEAREST, fill=None, center=None
):
    """The image turned clockwise by `angle` degrees, scaled and sheared about `center`, then moved by `translate`.

    `translate`, `shear` and `center` are (x, y).
    Raises: TypeError and ValueError for arguments of other kinds, lengths or a scale that is not positive.
    """
    if not isinstance(angle, (int, float)):
        raise TypeError("Argument angle should be int or float")
    if not isinstance(translate, (list, tuple)):
        raise TypeError("Argument translate should be a sequence")
    if len(translate) != 2:
        raise ValueError("Argument translate should be a sequence of length 2")
    if scale <= 0.0:
        raise ValueError("Argument scale should be positive")
    if not isinstance(shear, (numbers.Real, list, tuple)):
        raise TypeError("Shear should be either a single value or a sequence of two values")
    shear = [shear, 0.0] if isinstance(shear, numbers.Real) else list(shear)
    shear = [shear[0], shear[0]] if len(shear) == 1 else shear
    if len(shear) != 2:
        raise ValueError(f"Shear should be a sequence containing two values. Got {shear}")
    if center is not None and not isinstance(center, (list, tuple)):
        raise TypeError("Argument center should be a sequence")
    interpolation = interpolation_of(interpolation)
    if not _is_tensor(img):
        middle = [img.width * 0.5, img.height * 0.5] if center is None else center
        matrix = _tensor.inverse_affine_matrix(middle, angle, translate, scale, shear)
        return _pil.affine(img, matrix, PILLOW[interpolation], fill)
    _check_tensor_mode(interpolation, ("nearest", "bilinear"))
    matrix = _tensor.inverse_affine_matrix(_from_middle(img, center), angle, translate, scale, shear)
    return _tensor.affine(img, matrix, interpolation.value, fill)


def perspective(img, startpoints, endpoints, interpolation=InterpolationMode.BILINEAR, fill=None):
    """The image seen so that the four `startpoints` (x, y) come to lie on the `endpoints`."""
    interpolation = interpolation_of(interpolation)
    tensor = _is_tensor(img)
    coefficients = _perspective_coefficients(startpoints, endpoints)
    if not tensor:
        return _pil.perspective(img, coefficients, PILLOW[interpolation], fill)
    _check_tensor_mode(interpolation, ("nearest", "bilinear"))
    return _tensor.perspective(img, coefficients, interpolation.value, fill)


def _perspective_coefficients(startpoints, endpoints) -> list[float]:
    """The 8 numbers of the projective map from the endpoints back to the startpoints, by least squares."""
    if len(startpoints) != 4 or len(endpoints) != 4:
        raise ValueError(
            f"Please provide exactly four corners, got {len(startpoints)} startpoints and {len(endpoints)} endpoints."
        )
    rows = []
    for (x, y), (u, v) in zip(endpoints, startpoints, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    targets = np.array(startpoints, np.float64).reshape(8)
    solution = np.linalg.lstsq(np.array(rows, np.float64), targets, rcond=None)[0]
    return solution.astype(np.float32).tolist()


def elastic_transform(img, displacement, interpolation=InterpolationMode.BILINEAR, fill=None):
    """The image with each pixel fetched `displacement` (1, H, W, 2) away, in units of half the image's sides."""
    interpolation = interpolation_of(interpolation)
    if not isinstance(displacement, torch.Tensor):
        raise TypeError("Argument displacement should be a Tensor")
    tensor = img if _is_tensor(img) else pil_to_tensor(img)
    expected = (1, *tensor.shape[-2:], 2)
    if tuple(displacement.shape) != expected:
        raise ValueError(f"Argument displacement shape should be {expected}, but given {tuple(displacement.shape)}")
    _check_tensor_mode(interpolation, ("nearest", "bilinear"))
    result = _tensor.displace(tensor, displacement, interpolation.value, fill)
    return result if tensor is img else to_pil_image(result, mode=img.mode)


# Colours


def adjust_brightness(img, brightness_factor: float):
    """The image `brightness_factor` times as bright: 0 is black, 1 the image itself."""
    if _is_tensor(img):
        return _tensor.adjust_brightness(img, _not_negative("brightness_factor", brightness_factor))
    return _pil.enhance(img, "Brightness", brightness_factor)


def adjust_contrast(img, contrast_factor: float):
    """The image with `contrast_factor` times its distance from its mean grey: 0 is plain grey."""
    if _is_tensor(img):
        return _tensor.adjust_contrast(img, _not_negative("contrast_factor", contrast_factor))
    return _pil.enhance(img, "Contrast", contrast_factor)


def adjust_saturation(img, saturation_factor: float):
    """The image with `saturation_factor` times its distance from its grey version: 0 is grey."""
    if _is_tensor(img):
        return _tensor.adjust_saturation(img, _not_negative("saturation_factor", saturation_factor))
    return _pil.enhance(img, "Color", saturation_factor)


def adjust_sharpness(img, sharpness_factor: float):
    """The image with `sharpness_factor` times its distance from its smoothed version: 0 is smooth, 2 sharp."""
    if _is_tensor(img):
        return _tensor.adjust_sharpness(img, _not_negative("sharpness_factor", sharpness_factor))
    return _pil.enhance(img, "Sharpness", sharpness_factor)


def _not_negative(name: str, factor: float) -> float:
    if factor < 0:
        raise ValueError(f"{name} ({factor}) is not non-negative.")
    return float(factor)


def adjust_hue(img, hue_factor: float):
    """The image with its hues shifted by `hue_factor` turns of the colour circle, in [-0.5, 0.5]; grey is kept."""
    if not -0.5 <= hue_factor <= 0.5:
        raise ValueError(f"hue_factor ({hue_factor}) is not in [-0.5, 0.5].")
    return (_tensor if _is_tensor(img) else _pil).adjust_hue(img, hue_factor)


def adjust_gamma(img, gamma: float, gain: float = 1):
    """gain * image ** gamma on values in [0, 1]."""
    if gamma < 0:
        raise ValueError("Gamma should be a non-negative real number")
    if not _is_tensor(img):
        return _pil.adjust_gamma(img, gamma, gain)
    work = img if img.is_floating_point() else convert_image_dtype(img, torch.float32)
    return convert_image_dtype((gain * work**gamma).clamp(0, 1), img.dtype)


def rgb_to_grayscale(img, num_output_channels: int = 1):
    """The grey version of an RGB image, in one channel or in three equal ones."""
    return (_tensor if _is_tensor(img) else _pil).to_grayscale(img, num_output_channels)


def to_grayscale(img, num_output_channels: int = 1):
    """The grey version of a PIL image of any mode, in one channel or in three equal ones."""
    if not is_pil_image(img):
        raise TypeError("Input should be PIL Image")
    return _pil.to_grayscale(img, num_output_channels)


def invert(img):
    """The negative of the image."""
    return _tensor.invert(img) if _is_tensor(img) else _pil.operate(img, "invert")


def posterize(img, bits: int):
    """The image with the highest `bits` (0 to 8) of each byte kept."""
    if not 0 <= bits <= 8:
        raise ValueError(f"The number if bits should be between 0 and 8. Got {bits}")
    return _tensor.posterize(img, bits) if _is_tensor(img) else _pil.operate(img, "posterize", bits)


def solarize(img, threshold: float):
    """The image with all values from `threshold` on inverted."""
    return _tensor.solarize(img, threshold) if _is_tensor(img) else _pil.operate(img, "solarize", threshold)


def autocontrast(img):
    """The image with each channel stretched over the whole range."""
    return _tensor.autocontrast(img) if _is_tensor(img) else _pil.operate(img, "autocontrast")


def equalize(img):
    """The image (of bytes) with each channel's levels spread evenly."""
    return _tensor.equalize(img) if _is_tensor(img) else _pil.operate(img, "equalize")


def gaussian_blur(img, kernel_size, sigma=None):
    """The image smoothed by a bell curve over `kernel_size` (odd, x and y) pixels.

    `sigma` is 0.15 * size + 0.35 unless given. A PIL image goes through a tensor and back.
    """
    sizes = [kernel_size] * 2 if isinstance(kernel_size, int) else list(kernel_size)
    if len(sizes) != 2:
        raise ValueError(f"If kernel_size is a sequence its length should be 2. Got {len(sizes)}")
    if any(size % 2 == 0 or size < 0 for size in sizes):
        raise ValueError(f"kernel_size should have odd and positive integers. Got {sizes}")
    if sigma is None:
        sigma = [size * 0.15 + 0.35 for size in sizes]
    sigmas = [float(sigma)] * 2 if isinstance(sigma, (int, float)) else [float(value) for value in sigma]
    sigmas = sigmas * 2 if len(sigmas) == 1 else sigmas
    if len(sigmas) != 2:
        raise ValueError(f"If sigma is a sequence, its length should be 2. Got {len(sigmas)}")
    if any(not value > 0.0 or math.isinf(value) for value in sigmas):
        raise ValueError(f"sigma should have positive values. Got {sigmas}")
    if _is_tensor(img):
        return _tensor.gaussian_blur(img, sizes, sigmas)
    return to_pil_image(_tensor.gaussian_blur(pil_to_tensor(img), sizes, sigmas), mode=img.mode)


def erase(img, i: int, j: int, h: int, w: int, v, inplace: bool = False):
    """The tensor with the h × w rectangle at row i, column j set to `v`."""
    if not isinstance(img, torch.Tensor):
        raise TypeError(f"img should be Tensor Image. Got {type(img)}")
    img = img if inplace else img.clone()
    img[..., i : i + h, j : j + w] = v
    return img
