"""How an ndarray's memory is told to oneDNN: pointers, memory descriptors, plain and channels-last order."""

from __future__ import annotations

import ctypes
import sys
from ctypes import byref, c_int, c_void_p
from typing import Any

import numpy as np

from flambeau.backends.onednn import library as lib

float32 = np.dtype(np.float32)

# In CPython an ndarray is: reference count, type, data pointer. Reading the third word costs 0.3 µs where
# `array.ctypes.data` costs 2.5; checked once here, so that an interpreter laid out otherwise takes the slow way.
_DATA_OFFSET = 2 * ctypes.sizeof(c_void_p)
_at = c_void_p.from_address


def _fast_pointer(array: np.ndarray) -> int:
    return _at(id(array) + _DATA_OFFSET).value or 0


def _slow_pointer(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def _layout_is_known() -> bool:
    # A free-threaded interpreter has a longer object header.
    if sys.implementation.name != "cpython" or not getattr(sys, "_is_gil_enabled", lambda: True)():
        return False
    probes = [np.empty(n, dtype=np.float32) for n in (1, 7, 4096)]
    return all(_fast_pointer(probe) == _slow_pointer(probe) for probe in probes)


pointer = _fast_pointer if _layout_is_known() else _slow_pointer
"""The address of an array's first element."""


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides, in elements, of plain order."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def channels_last_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides, in elements, of an (N, C, spatial…) array whose memory runs (N, spatial…, C)."""
    n, c, *spatial = shape
    outer, *inner = contiguous_strides((n, *spatial, c))
    return (outer, 1, *inner[:-1])


def is_channels_last(array: np.ndarray) -> bool:
    """Whether memory runs (N, spatial…, C) and not also (N, C, spatial…)."""
    rank = array.ndim
    return (rank > 2 and not array.flags.c_contiguous
            and bool(array.transpose(0, *range(2, rank), 1).flags.c_contiguous))


def empty(shape: tuple[int, ...], channels_last: bool, dtype: Any = float32) -> np.ndarray:
    """A new array of logical shape (N, C, spatial…)."""
    if not channels_last:
        return np.empty(shape, dtype)
    rank = len(shape)
    memory = np.empty((shape[0], *shape[2:], shape[1]), dtype)
    return memory.transpose(0, rank - 1, *range(1, rank - 1))


def strided(shape: tuple[int, ...], strides: tuple[int, ...] | None = None, dtype: int = lib.F32) -> c_void_p:
    """A memory descriptor with these strides in elements (plain order if None)."""
    out = c_void_p()
    strides = contiguous_strides(shape) if strides is None else strides
    loaded().call("dnnl_memory_desc_create_with_strides", byref(out), len(shape), lib.dims(shape), dtype,
                  lib.dims(strides))
    return out


def free_choice(shape: tuple[int, ...], dtype: int = lib.F32) -> c_void_p:
    """A memory descriptor whose order oneDNN chooses."""
    out = c_void_p()
    loaded().call("dnnl_memory_desc_create_with_tag", byref(out), len(shape), lib.dims(shape), dtype, lib.ANY)
    return out


def size_of(md: c_void_p) -> int:
    """Bytes needed for memory of this description."""
    return int(loaded().dll.dnnl_memory_desc_get_size(md))


def equal(a: c_void_p, b: c_void_p) -> bool:
    """Whether two descriptors mean the same memory."""
    return bool(loaded().dll.dnnl_memory_desc_equal(a, b))


def plain_strides(md: c_void_p, rank: int) -> tuple[int, ...] | None:
    """Strides in elements, or None if the description is blocked."""
    blocks = c_int()
    loaded().call("dnnl_memory_desc_query", md, lib.QUERY_INNER_BLOCKS, byref(blocks))
    if blocks.value:
        return None
    found = ctypes.POINTER(ctypes.c_int64)()
    loaded().call("dnnl_memory_desc_query", md, lib.QUERY_STRIDES, byref(found))
    return tuple(found[i] for i in range(rank))


def ordered(array: np.ndarray) -> tuple[np.ndarray, bool]:
    """The array in one of the two orders read in place (copied if in neither), and whether it is channels-last."""
    if array.flags.c_contiguous:
        return array, False
    rank = array.ndim
    if rank > 2 and array.transpose(0, *range(2, rank), 1).flags.c_contiguous:
        return array, True
    return np.ascontiguousarray(array), False


def described(shape: tuple[int, ...], channels_last: bool) -> c_void_p:
    """The memory descriptor of an array of one of the two orders."""
    return strided(shape, channels_last_strides(shape) if channels_last else None)


def data_type(md: c_void_p) -> int:
    """The dnnl_data_type_t of a descriptor."""
    found = c_int()
    loaded().call("dnnl_memory_desc_query", md, lib.QUERY_DATA_TYPE, byref(found))
    return found.value


def loaded() -> Any:
    """The library; only called where `available()` has been asked."""
    library = lib.load()
    if library is None:
        raise RuntimeError(f"oneDNN is not available: {lib.reason()}")
    return library
