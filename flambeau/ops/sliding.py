"""Windows that slide over the last dimensions of an array: what convolution, pooling and unfold share.

Everything here works on NumPy arrays and for any number of sliding ("spatial") dimensions. A geometry is a tuple per
setting: `kernel`, `stride`, `dilation` hold one number per spatial dimension, `padding` a pair (before, after).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core.device import MetaArray, meta_array
from flambeau.core.tensor import Tensor

Sizes = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


# ---- the geometry ------------------------------------------------------------------------------


def sizes(value: Any, rank: int, what: str, op: str) -> Sizes:
    """One number per spatial dimension from a number or a sequence of 1 or `rank`. RuntimeError for another length."""
    if hasattr(value, "__index__"):
        return (int(value),) * rank
    try:
        values = tuple(int(v) if hasattr(v, "__index__") else _not_an_int(v, what, op) for v in value)
    except TypeError:
        _not_an_int(value, what, op)
    if len(values) == 1:
        return values * rank
    if len(values) != rank:
        raise RuntimeError(f"{op}: {what} must be one number or {rank}, got {list(values)}")
    return values


def _not_an_int(value: Any, what: str, op: str) -> Any:
    raise TypeError(f"{op}(): argument '{what}' must be int or a tuple of ints, not {type(value).__name__}")


def shape_text(array: Any) -> str:
    """2×3×8×8."""
    return "×".join(map(str, array.shape)) or "0-d"


def output_size(size: int, kernel: int, stride: int, padding: tuple[int, int], dilation: int,
                ceil_mode: bool = False) -> int:
    """How many windows fit along one dimension; with `ceil_mode` the last may overhang, but must start inside."""
    room = size + sum(padding) - dilation * (kernel - 1) - 1
    count = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (count - 1) * stride >= size + padding[0]:
        count -= 1
    return count


# ---- arrays ------------------------------------------------------------------------------------


def padded(array: np.ndarray, padding: Sequence[tuple[int, int]], value: Any = 0) -> np.ndarray:
    """The array with its last dimensions extended by `value` (cropped where the padding is negative)."""
    if not any(before or after for before, after in padding):
        return array
    lead = array.ndim - len(padding)
    shape = array.shape[:lead] + tuple(n + b + a for n, (b, a) in zip(array.shape[lead:], padding))
    if all(b <= 0 and a <= 0 for b, a in padding):
        return array[(..., *(slice(-b, n + a) for n, (b, a) in zip(array.shape[lead:], padding)))]
    out = empty_like_order(array, shape)
    out.fill(value)
    inside = (..., *(slice(max(b, 0), n + b + min(a, 0)) for n, (b, a) in zip(array.shape[lead:], padding)))
    source = (..., *(slice(max(-b, 0), n + min(a, 0)) for n, (b, a) in zip(array.shape[lead:], padding)))
    out[inside] = array[source]
    return out


def empty_like_order(array: np.ndarray, shape: Sizes, dtype: Any = None) -> np.ndarray:
    """Uninitialised memory of another shape, channels last if the array is."""
    dtype = array.dtype if dtype is None else dtype
    if array.ndim > 2 and array.shape[1] > 1 and not array.flags.c_contiguous and array.strides[1] == array.itemsize:
        return np.moveaxis(np.empty((shape[0], *shape[2:], shape[1]), dtype), -1, 1)
    return np.empty(shape, dtype)


def windows(array: np.ndarray, kernel: Sizes, stride: Sizes, dilation: Sizes) -> np.ndarray:
    """A read-only view (*lead, *positions, *kernel) of all windows of the last dimensions."""
    rank = len(kernel)
    lead = array.ndim - rank
    steps = array.strides[lead:]
    count = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(array.shape[lead:], kernel, stride, dilation)]
    return np.lib.stride_tricks.as_strided(
        array, (*array.shape[:lead], *count, *kernel),
        (*array.strides[:lead], *(t * s for t, s in zip(steps, stride)), *(t * d for t, d in zip(steps, dilation))),
        writeable=False,
    )


def shifted(array: np.ndarray, count: Sizes, kernel: Sizes, stride: Sizes, dilation: Sizes) -> Iterator[np.ndarray]:
    """For each place in the kernel, in row-major order, the view (*lead, *count) of what the windows see there."""
    for place in itertools.product(*map(range, kernel)):
        yield array[(..., *(
            slice(k * d, k * d + (n - 1) * s + 1, s) if n else slice(0, 0)
            for k, n, s, d in zip(place, count, stride, dilation)
        ))]


def add_windows(columns: np.ndarray, size: Sizes, stride: Sizes, dilation: Sizes, padding: Pairs) -> np.ndarray:
    """The adjoint of `windows`: (*lead, *kernel, *positions) summed into (*lead, *size), padding cut off."""
    rank = len(size)
    lead = columns.ndim - 2 * rank
    kernel, count = columns.shape[lead:lead + rank], columns.shape[lead + rank:]
    full = tuple(
        max(n + b + a, (c - 1) * s + (k - 1) * d + 1)
        for n, (b, a), c, s, k, d in zip(size, padding, count, stride, kernel, dilation)
    )
    out = np.zeros(columns.shape[:lead] + full, columns.dtype)
    flat = columns.reshape(*columns.shape[:lead], math.prod(kernel), *count)
    for place, target in enumerate(shifted(out, count, kernel, stride, dilation)):
        target += flat[(slice(None),) * lead + (place,)]
    return out[(..., *(slice(b, b + n) for n, (b, a) in zip(size, padding)))]


# ---- kernels for every dtype -------------------------------------------------------------------

_NARROW = frozenset({np.dtype(np.float16), *dtypes.NARROW_FLOATS})


def on_meta(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Let a kernel run on arrays of the `meta` device: zeros stand in for them, the results are placeholders again."""

    @functools.wraps(kernel)
    def run(*arrays: Any, **attrs: Any) -> Any:
        if type(arrays[0]) is not MetaArray:
            return kernel(*arrays, **attrs)
        real = [np.zeros(a.shape, a.dtype) if isinstance(a, np.ndarray) else a for a in arrays]
        return map_results(lambda out: meta_array(out.shape, out.dtype), kernel(*real, **attrs))

    return run


def in_float32(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Let a kernel compute in float32 when its arrays are float16 or bfloat16; results go back to the narrow type."""

    @functools.wraps(kernel)
    def run(*arrays: Any, **attrs: Any) -> Any:
        narrow = arrays[0].dtype
        if narrow not in _NARROW:
            return kernel(*arrays, **attrs)
        wide = [a.astype(np.float32) if isinstance(a, np.ndarray) and a.dtype in _NARROW else a for a in arrays]
        return map_results(lambda out: out.astype(narrow) if out.dtype == np.float32 else out, kernel(*wide, **attrs))

    return on_meta(run)


def map_results(function: Callable[[np.ndarray], np.ndarray], results: Any) -> Any:
    """`function` of one result or of each of several."""
    return tuple(map(function, results)) if isinstance(results, tuple) else function(results)


def hide(result: Any, *inputs: Tensor) -> Any:
    """Mark outputs that a kernel left channels-last in memory, so that they look contiguous to their user.

    When an input is channels-last openly, as its user asked, so are the outputs, and nothing is hidden.
    """
    if any(not t._hidden and t._array.ndim > 3 and openly_channels_last(t._array) for t in inputs):
        return result
    for out in result if isinstance(result, tuple) else (result,):
        if not out._hidden and not out._array.flags.c_contiguous:
            out._hidden = True
    return result


def openly_channels_last(array: np.ndarray) -> bool:
    """Whether memory runs (N, spatial…, C) and not also (N, C, spatial…)."""
    return not array.flags.c_contiguous and array.strides[1] == array.itemsize and in_order_last(array)


def in_order_last(array: np.ndarray) -> bool:
    """Whether memory runs (N, spatial…, C)."""
    return bool(array.transpose(0, *range(2, array.ndim), 1).flags.c_contiguous)
