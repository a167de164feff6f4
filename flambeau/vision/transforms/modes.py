"""How pixel values between pixels are found, and where constants of Pillow meet names of tensors' kernels."""

from __future__ import annotations

from enum import Enum

__all__ = ["InterpolationMode", "interpolation_of"]


class InterpolationMode(Enum):
    """Interpolation of images. Tensors know the first four; Pillow knows all but NEAREST_EXACT's distinction."""

    NEAREST = "nearest"
    NEAREST_EXACT = "nearest-exact"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"


# Pillow's integer constants (Image.Resampling).
PILLOW = {
    InterpolationMode.NEAREST: 0,
    InterpolationMode.NEAREST_EXACT: 0,
    InterpolationMode.LANCZOS: 1,
    InterpolationMode.BILINEAR: 2,
    InterpolationMode.BICUBIC: 3,
    InterpolationMode.BOX: 4,
    InterpolationMode.HAMMING: 5,
}
NAMES = frozenset(mode.value for mode in InterpolationMode)
FROM_PILLOW = {value: mode for mode, value in PILLOW.items() if mode is not InterpolationMode.NEAREST_EXACT}


def interpolation_of(value: InterpolationMode | int | str) -> InterpolationMode:
    """The mode meant by `value`: itself, its name ("bilinear") or Pillow's integer constant; else TypeError."""
    if isinstance(value, InterpolationMode):
        return value
    if isinstance(value, str) and value in NAMES:
        return InterpolationMode(value)
    if isinstance(value, int) and int(value) in FROM_PILLOW:
        return FROM_PILLOW[int(value)]
    raise TypeError(
        "Argument interpolation should be a InterpolationMode or a corresponding Pillow integer constant, "
        f"got {value!r}"
    )
