"""Transforms of PIL images. Pillow is loaded with the first image that is transformed, not with this module."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

GREY_MODES = ("L", "1", "I", "F")


def is_pil_image(image: Any) -> bool:
    """Whether `image` is a PIL image; False without loading Pillow while nobody else has loaded it."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(image, module.Image)


def channels(image) -> int:
    """Number of channels of the image."""
    return len(image.getbands())


def _fill_of(image, fill) -> Any:
    """`fill` in the form Pillow takes for the image's mode: a number for one channel, else a tuple of one each.

    Raises: ValueError if a sequence has another length than the image has channels.
    """
    bands, exact = channels(image), image.mode in ("I", "F")
    if fill is None:
        fill = 0
    if isinstance(fill, (int, float)):
        fill = (fill,) * bands
    elif len(fill) == 1 and bands > 1:
        fill = tuple(fill) * bands
    if len(fill) != bands:
        raise ValueError(
            "The number of elements in 'fill' does not match the number of channels of the image "
            f"({len(fill)} != {bands})"
        )
    fill = tuple(value if exact else int(value) for value in fill)
    return fill[0] if bands == 1 else fill


def hflip(image):
    from PIL import Image

    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def vflip(image):
    from PIL import Image

    return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)


def crop(image, top: int, left: int, height: int, width: int):
    return image.crop((left, top, left + width, top + height))


def resize(image, size: list[int], resample: int):
    """The image at (height, width)."""
    return image.resize((size[1], size[0]), resample)


def pad(image, padding: tuple[int, int, int, int], fill, mode: str):
    """The image with left, top, right and bottom borders; a palette is kept."""
    from PIL import Image, ImageOps

    left, top, right, bottom = padding
    if mode == "constant":
        value = _fill_of(image, fill)
        padded = ImageOps.expand(image, border=(left, top, right, bottom), fill=value)
        if image.mode == "P":
            padded.putpalette(image.getpalette())
        return padded
    if min(padding) < 0:  # a negative border cuts off
        image = image.crop((-min(left, 0), -min(top, 0), image.width + min(right, 0), image.height + min(bottom, 0)))
        left, top, right, bottom = (max(side, 0) for side in padding)
    values = np.asarray(image)
    widths = [(top, bottom), (left, right)] + [(0, 0)] * (values.ndim - 2)
    padded = Image.fromarray(np.pad(values, widths, mode=mode))  # type: ignore[call-overload]
    if image.mode == "P":
        padded.putpalette(image.getpalette())
    return padded


def affine(image, matrix: list[float], resample: int, fill):
    """Each pixel (x, y) of the result taken from where the inverse `matrix` of 6 numbers sends it."""
    from PIL import Image

    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample, fillcolor=_fill_of(image, fill))


def perspective(image, coefficients: list[float], resample: int, fill):
    from PIL import Image

    transform = Image.Transform.PERSPECTIVE
    return image.transform(image.size, transform, coefficients, resample, fillcolor=_fill_of(image, fill))


def rotate(image, angle: float, resample: int, expand: bool, center, fill):
    return image.rotate(angle, resample, expand, center, fillcolor=_fill_of(image, fill))


def enhance(image, name: str, factor: float):
    """`Brightness`, `Contrast`, `Color` or `Sharpness` multiplied by `factor`."""
    from PIL import ImageEnhance

    return getattr(ImageEnhance, name)(image).enhance(factor)


def adjust_hue(image, factor: float):
    """The hue channel shifted around its circle of 256 values."""
    from PIL import Image

    if image.mode in GREY_MODES:
        return image
    hue, saturation, value = image.convert("HSV").split()
    # A shift of -0.5 is -127 levels; adding 256 makes it wrap as a byte does.
    shift = np.uint8(int(factor * 255) % 256)
    hue = Image.fromarray(np.asarray(hue) + shift)
    return Image.merge("HSV", (hue, saturation, value)).convert(image.mode)


def adjust_gamma(image, gamma: float, gain: float):
    table = [int((255 + 1 - 1e-3) * gain * pow(level / 255.0, gamma)) for level in range(256)] * 3
    return image.convert("RGB").point(table).convert(image.mode)


def to_grayscale(image, num_output_channels: int):
    """A grey image in mode L, or as three equal channels in mode RGB."""
    from PIL import Image

    if num_output_channels not in (1, 3):
        raise ValueError(f"num_output_channels should be either 1 or 3, got {num_output_channels}")
    grey = image.convert("L")
    return grey if num_output_channels == 1 else Image.merge("RGB", (grey, grey, grey))


def operate(image, name: str, *args):
    """One of Pillow's whole-image operations: invert, posterize, solarize, autocontrast, equalize."""
    from PIL import ImageOps

    return getattr(ImageOps, name)(image, *args)
