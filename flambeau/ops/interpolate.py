"""Changing the size of sequences, images and volumes by interpolation."""

from __future__ import annotations

import math
import warnings
from typing import Any

from flambeau.core.tensor import Tensor
from flambeau.ops.pooling import adaptive_average
from flambeau.ops.resampling import resample
from flambeau.ops.sliding import hide, shape_text

__all__ = ["interpolate", "upsample", "upsample_bilinear", "upsample_nearest"]

# mode -> (map along one dimension, ranks of the sizes it takes)
_MODES: dict[str, tuple[str, tuple[int, ...]]] = {
    "nearest": ("nearest", (1, 2, 3)), "nearest-exact": ("nearest-exact", (1, 2, 3)), "area": ("area", (1, 2, 3)),
    "linear": ("linear", (1,)), "bilinear": ("linear", (2,)), "trilinear": ("linear", (3,)), "bicubic": ("cubic", (2,)),
}


def interpolate(input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
                align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
                antialias: bool = False) -> Tensor:
    """Resize the last dimensions of (N, C, *sizes) to `size`, or to floor(sizes * `scale_factor`).

    Modes: "nearest", "nearest-exact", "area" for one to three sizes, "linear" for one, "bilinear" and "bicubic" for two
    (both with `antialias`), "trilinear" for three. `align_corners` (default False) puts the corner elements on the
    corners. The scale factor is used as given, unless `recompute_scale_factor` asks for the ratio of the sizes.
    Raises: ValueError for settings that do not go together; NotImplementedError for a mode of another rank.
    """
    if not isinstance(input, Tensor):
        raise TypeError(f"interpolate(): argument 'input' must be Tensor, not {type(input).__name__}")
    check_settings(input, mode, align_corners, antialias)
    shape = input._array.shape[2:]
    out, factors = target_size(shape, size, scale_factor, mode, recompute_scale_factor)
    kind = _MODES[mode][0]
    if min(shape) < 1 or min(out) < 1:
        raise RuntimeError(
            f"interpolate: input and output sizes should be greater than 0, but got input {list(shape)}, output "
            f"{list(out)}"
        )
    if kind == "area":
        return adaptive_average("interpolate", len(shape), input, out)
    plan = tuple((kind, n, factor, bool(align_corners), bool(antialias)) for n, factor in zip(out, factors))
    return hide(resample(input, plan=plan), input)


def check_settings(input: Tensor, mode: str, align_corners: bool | None, antialias: bool) -> None:
    """The errors of a mode that is unknown, or wrong for the input or for the other settings."""
    if mode not in _MODES:
        raise NotImplementedError(f"interpolate: unknown mode '{mode}'; it must be one of {', '.join(_MODES)}")
    ndim = input._array.ndim
    if not 3 <= ndim <= 5:
        raise NotImplementedError(
            f"interpolate: only 3D, 4D and 5D input Tensors supported (got {ndim}D: {shape_text(input._array)})"
        )
    if ndim - 2 not in _MODES[mode][1]:
        raise NotImplementedError(
            f"interpolate: got {ndim}D input, but {mode} mode needs {_MODES[mode][1][0] + 2}D input"
        )
    if align_corners is not None and mode in ("nearest", "nearest-exact", "area"):
        raise ValueError(
            "align_corners option can only be set with the interpolating modes: linear | bilinear | bicubic | trilinear"
        )
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ValueError(
            "Anti-alias option is restricted to bilinear and bicubic modes and requires a 4-D tensor as input"
        )


def target_size(shape: Any, size: Any, scale_factor: Any, mode: str, recompute: bool | None) -> tuple[Any, Any]:
    """The output size, and for each dimension the scale factor to use (None: the ratio of the sizes)."""
    rank = len(shape)
    if size is not None and scale_factor is not None:
        raise ValueError("interpolate: only one of size or scale_factor should be defined")
    if size is None and scale_factor is None:
        raise ValueError("interpolate: either size or scale_factor should be defined")
    if size is not None:
        if recompute:
            raise ValueError("interpolate: recompute_scale_factor is not meaningful with an explicit size.")
        return one_per_dimension(size, rank, "size", shape), (None,) * rank
    factors = one_per_dimension(scale_factor, rank, "scale_factor", shape)
    out = tuple(math.floor(float(n) * float(f)) for n, f in zip(shape, factors))
    exact = recompute or mode == "area"
    return out, (None,) * rank if exact else tuple(float(f) for f in factors)


def one_per_dimension(value: Any, rank: int, what: str, shape: Any) -> tuple[Any, ...]:
    """A number or a sequence of one number per spatial dimension. ValueError for another length."""
    if not isinstance(value, (tuple, list)):
        return (int(value) if what == "size" else value,) * rank
    if len(value) != rank:
        raise ValueError(
            f"Input and output must have the same number of spatial dimensions, but got input with spatial dimensions "
            f"of "
            f"{list(shape)} and {what} of {value}."
        )
    return tuple(int(v) for v in value) if what == "size" else tuple(value)


def warn_renamed(name: str) -> None:
    """The warning of an old name."""
    warnings.warn(
        f"`nn.functional.{name}` is deprecated. Use `nn.functional.interpolate` instead.", stacklevel=3)


def upsample(input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
             align_corners: bool | None = None) -> Tensor:
    """The old name of `interpolate`."""
    warn_renamed("upsample")
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """The old name of `interpolate(mode="nearest")`."""
    warn_renamed("upsample_nearest")
    return interpolate(input, size, scale_factor, mode="nearest")


def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """The old name of `interpolate(mode="bilinear", align_corners=True)`."""
    warn_renamed("upsample_bilinear")
    return interpolate(input, size, scale_factor, mode="bilinear", align_corners=True)
