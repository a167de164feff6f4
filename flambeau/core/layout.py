"""Memory formats and layouts: the names PyTorch gives to the order of elements in memory."""

from __future__ import annotations

from typing import Any

import numpy as np


class memory_format:
    """An order of elements in memory: `contiguous_format`, `channels_last`, `channels_last_3d`, `preserve_format`."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> Any:
        return _format_by_name, (self.name,)


class layout:
    """How elements are stored; only `strided` exists here."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> Any:
        return _layout_by_name, (self.name,)


contiguous_format = memory_format("contiguous_format")
channels_last = memory_format("channels_last")
channels_last_3d = memory_format("channels_last_3d")
preserve_format = memory_format("preserve_format")
strided = layout("strided")

_FORMATS = {f.name: f for f in (contiguous_format, channels_last, channels_last_3d, preserve_format)}


def _format_by_name(name: str) -> memory_format:
    return _FORMATS[name]


def _layout_by_name(name: str) -> layout:
    return strided


def contiguous_strides(shape: Any) -> tuple[int, ...]:
    """Strides in elements of a contiguous tensor; a size of 0 counts as 1, as in PyTorch."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def with_format(array: np.ndarray, wanted: memory_format) -> np.ndarray:
    """The array itself if it has the format, else a copy that has."""
    if wanted is contiguous_format:
        return array if array.flags.c_contiguous else np.ascontiguousarray(array).reshape(array.shape)
    if wanted is preserve_format:
        return array
    rank = 4 if wanted is channels_last else 5
    if array.ndim != rank:
        raise RuntimeError(f"required rank {rank} tensor to use {wanted.name} format")
    moved = np.moveaxis(array, 1, -1)
    if moved.flags.c_contiguous:
        return array
    return np.moveaxis(np.ascontiguousarray(moved), -1, 1)


def is_channels_last(array: np.ndarray, rank: int = 4) -> bool:
    """Whether memory runs (N, spatial…, C)."""
    return array.ndim == rank and bool(np.moveaxis(array, 1, -1).flags.c_contiguous)


def copy_preserving(array: np.ndarray) -> np.ndarray:
    """A copy with the same element order where the array is dense without overlap, else contiguous.

    NumPy's order "K" keeps the order of axes; a broadcast (stride 0) axis makes PyTorch fall back to contiguous.
    """
    if array.flags.c_contiguous:
        return array.copy()
    if 0 in array.strides and any(n > 1 and s == 0 for n, s in zip(array.shape, array.strides, strict=True)):
        return np.ascontiguousarray(array).reshape(array.shape)
    return array.copy(order="K")
