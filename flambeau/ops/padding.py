"""Padding: constant (any dimensions) and reflect, replicate, circular (the last one to three)."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core.dispatch import primitive
from flambeau.core.tensor import Tensor
from flambeau.ops import sliding
from flambeau.ops.resampling import resample
from flambeau.ops.sliding import Pairs, hide, shape_text

__all__ = ["constant_pad_nd", "pad"]

# Ranks that each number of padded dimensions allows in the modes that look at neighbours.
_RANKS = {1: (2, 3), 2: (3, 4), 3: (4, 5)}


@primitive("constant_pad", grad_name="ConstantPadNdBackward0")
@sliding.on_meta
def constant_pad(x: Any, *, padding: Pairs, value: Any) -> Any:
    """The last dimensions extended by a value, or cropped where a padding is negative."""
    return np.array(sliding.padded(x, padding, value)) if x.ndim else x.copy()


constant_pad.vjp(
    x=lambda grad, padding: hide(constant_pad(grad, padding=tuple((-b, -a) for b, a in padding), value=0), grad))


def pad(input: Tensor, pad: Any, mode: str = "constant", value: float | None = None) -> Tensor:
    """The input with its borders extended, or cropped by negative numbers.

    `pad` lists (before, after) for the last dimension, then for the one before it, and so on. Modes: "constant"
    (`value`, default 0), and for the last one to three dimensions of (N, C, ...) or (C, ...) "reflect", "replicate",
    "circular".
    Raises: RuntimeError for a padding larger than the mode can fill; NotImplementedError for other ranks.
    """
    if not isinstance(input, Tensor):
        raise TypeError(f"pad(): argument 'input' must be Tensor, not {type(input).__name__}")
    amounts = [int(n) for n in pad]
    x = input._array
    if len(amounts) % 2:
        raise RuntimeError(f"pad: padding length must be divisible by 2, got {len(amounts)}")
    if len(amounts) > 2 * x.ndim:
        raise RuntimeError(
            f"pad: padding length should be less than or equal to two times the input dimension, got {len(amounts)} "
            f"numbers for "
            f"input {shape_text(x)}"
        )
    pairs = tuple((amounts[i], amounts[i + 1]) for i in range(len(amounts) - 2, -1, -2))
    size = x.shape[x.ndim - len(pairs):]
    if any(n + b + a < 0 for n, (b, a) in zip(size, pairs)):
        raise RuntimeError(f"pad: padding {amounts} of input {shape_text(x)} would give a negative size")
    if mode == "constant":
        return hide(constant_pad(input, padding=pairs, value=0 if value is None else value), input)
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError(f"pad: unrecognised padding mode {mode}")
    if value is not None and value != 0:
        raise ValueError(f'pad: padding mode "{mode}" doesn\'t take in value argument')
    if x.ndim not in _RANKS.get(len(pairs), ()):
        raise NotImplementedError(
            f"pad: mode {mode} pads the last 1 dimension of 2D or 3D, 2 of 3D or 4D, 3 of 4D or 5D input; got "
            f"{len(amounts)} "
            f"numbers for input {shape_text(x)}"
        )
    check_reach(mode, x, size, pairs)
    return hide(resample(input, plan=tuple((mode, b, a) for b, a in pairs)), input)


def check_reach(mode: str, x: np.ndarray, size: Any, pairs: Pairs) -> None:
    """RuntimeError when there are not enough elements to fill the border with."""
    for n, (before, after) in zip(size, pairs):
        if n == 0:
            raise RuntimeError(
                f"pad: mode {mode} expects dimensions to pad that are not empty, got input {shape_text(x)}"
            )
        if mode == "reflect" and (before >= n or after >= n):
            raise RuntimeError(
                f"pad: mode reflect: padding size should be less than the corresponding input dimension, but got "
                f"padding "
                f"({before}, {after}) at a dimension of size {n} of input {shape_text(x)}"
            )
        if mode == "circular" and (before > n or after > n):
            raise RuntimeError(
                f"pad: mode circular: padding value causes wrapping around more than once: padding ({before}, {after}) "
                f"at a "
                f"dimension of size {n} of input {shape_text(x)}"
            )


def constant_pad_nd(input: Tensor, pad: Any, value: float = 0) -> Tensor:
    """`nn.functional.pad` in mode "constant"."""
    return _pad(input, pad, "constant", value)


_pad = pad  # the name is an argument above
