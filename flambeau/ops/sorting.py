"""Order: `sort`, `topk`, `kthvalue`, `unique`, `searchsorted`, `isin`."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core import recording
from flambeau.core.dispatch import primitive
from flambeau.core.return_types import TYPES
from flambeau.core.tensor import Tensor, computed, constant, wrap, wrap_dim
from flambeau.ops.indexing_kernels import at_least_1d, zeros
from flambeau.ops.scattering import _scatter
from flambeau.ops.shape import _unsqueeze

_POSITIONS = "positions are integers"


def comparable(x: np.ndarray) -> np.ndarray:
    """Values in a type NumPy sorts by itself: the narrow floats as float32."""
    return x.astype(np.float32) if x.dtype in dtypes.NARROW_FLOATS else x


# ---- sort ----------------------------------------------------------------------------------------------------


def sort_positions(x: np.ndarray, dim: int, descending: bool) -> np.ndarray:
    """Positions in sorted order; equal values keep their order, nan counts as the largest."""
    x = comparable(x)
    if not descending:
        return np.argsort(x, axis=dim, kind="stable")
    # Backwards, ascending, backwards again: equal values stay in their original order.
    found = np.argsort(np.flip(x, dim), axis=dim, kind="stable")
    return x.shape[dim] - 1 - np.flip(found, dim)


@primitive("sort", outputs=2)
def _sort(x: Any, *, dim: int, descending: bool) -> Any:
    flat = at_least_1d(x)
    order = np.ascontiguousarray(sort_positions(flat, dim, descending))
    return np.take_along_axis(flat, order, dim).reshape(x.shape), order.reshape(x.shape)


def _back_to_place(grad: Any, out1: Tensor, dim: int, shapes: Any) -> Tensor:
    """Each value's gradient at the position it was taken from."""
    return _scatter(zeros(shapes[0], grad[0]), out1, grad[0], dim=dim)


_sort.vjp(x=_back_to_place)


def _check_order(name: str, input: Tensor) -> None:
    if input._array.dtype.kind == "c":
        raise RuntimeError(f" {name} does not support complex dtypes on CPU")


def sort(input: Tensor, dim: Any = -1, descending: bool = False, stable: bool | None = None) -> Any:
    """(values, indices) sorted along `dim`; nan counts as the largest, equal values keep their order."""
    _check_order("Sort", input)
    dim = wrap_dim(dim, input._array.ndim, input)
    return TYPES["sort"](_sort(input, dim=dim, descending=bool(descending)))


def argsort(input: Tensor, dim: Any = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """The positions that sort the input along `dim`."""
    return sort(input.detach(), dim, descending)[1]


def msort(input: Tensor) -> Tensor:
    """The values sorted along the first dimension."""
    return sort(input, 0)[0]


# ---- the largest, the k-th -----------------------------------------------------------------------------------


@primitive("topk", outputs=2)
def _topk(x: Any, *, k: int, dim: int, largest: bool) -> Any:
    flat = at_least_1d(x)
    values = np.moveaxis(comparable(flat), dim, -1)
    n = values.shape[-1]
    if n > 128 and 0 < k < n // 4:
        chosen = np.argpartition(values, n - k if largest else k, axis=-1)
        chosen = chosen[..., n - k :] if largest else chosen[..., :k]
        order = sort_positions(np.take_along_axis(values, chosen, -1), chosen.ndim - 1, largest)
        chosen = np.take_along_axis(chosen, order, -1)
    else:
        chosen = sort_positions(values, values.ndim - 1, largest)[..., :k]
    chosen = np.ascontiguousarray(np.moveaxis(chosen, -1, dim))
    picked = np.take_along_axis(flat, chosen, dim)
    return (picked, chosen) if x.ndim else (picked.reshape(()), chosen.reshape(()))


_topk.vjp(x=_back_to_place)


def topk(input: Tensor, k: int, dim: Any = -1, largest: bool = True, sorted: bool = True) -> Any:
    """(values, indices) of the `k` largest (or smallest) along `dim`, in order. RuntimeError if there are fewer."""
    dim = wrap_dim(dim, input._array.ndim, input)
    _check_order("Topk", input)
    k = int(k)
    if not 0 <= k <= (input._array.shape[dim] if input._array.ndim else 1):
        raise RuntimeError("selected index k out of range")
    if input._array.ndim == 0 and k == 0:
        return TYPES["topk"](constant(np.empty(0, input._array.dtype)), constant(np.empty(0, np.int64)))
    return TYPES["topk"](_topk(input, k=k, dim=dim, largest=bool(largest)))


@primitive("kthvalue", outputs=2)
def _kthvalue(x: Any, *, k: int, dim: int, keepdim: bool) -> Any:
    flat = at_least_1d(x)
    place = np.take(np.argsort(comparable(flat), axis=dim, kind="stable"), [k - 1], axis=dim)
    value = np.take_along_axis(flat, place, dim)
    if not keepdim or x.ndim == 0:
        place, value = np.squeeze(place, dim), np.squeeze(value, dim)
    return value, place


@_kthvalue.vjp
def _kthvalue_vjp(grad: Any, out1: Tensor, dim: int, keepdim: bool, shapes: Any) -> Any:
    value, place = grad[0], out1
    if not keepdim and shapes[0]:
        value, place = _unsqueeze(value, dim=dim), _unsqueeze(place, dim=dim)
    return _scatter(zeros(shapes[0], value), place, value, dim=dim)


def kthvalue(input: Tensor, k: int, dim: Any = -1, keepdim: bool = False) -> Any:
    """(value, index) of the k-th smallest along `dim`, counted from 1. RuntimeError out of range."""
    dim = wrap_dim(dim, input._array.ndim, input)
    n = input._array.shape[dim] if input._array.ndim else 1
    if input._array.ndim and n == 0:
        raise IndexError(f"kthvalue(): Expected reduction dim {dim} to have non-zero size.")
    if not 0 < k <= n:
        raise RuntimeError(f"kthvalue(): selected number k out of range for dimension {dim}")
    return TYPES["kthvalue"](_kthvalue(input, k=int(k), dim=dim, keepdim=bool(keepdim)))


# ---- distinct values -----------------------------------------------------------------------------------------


def _answer(values: Tensor, inverse: Any, counts: Any, return_inverse: bool, return_counts: bool) -> Any:
    """The values alone, or a tuple with what was asked for."""
    if not return_inverse and not return_counts:
        return values
    return (values, *((wrap(inverse),) if return_inverse else ()), *((wrap(counts),) if return_counts else ()))


def unique(input: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False,
           dim: Any = None) -> Any:
    """The distinct values in ascending order, or the distinct slices along `dim`; nan differs from itself.

    `return_inverse` adds where each element went, `return_counts` how often each value occurs.
    """
    recording.read(input)
    array = input._array
    if dim is not None and array.ndim:
        dim = wrap_dim(dim, array.ndim)
        return _unique_slices(array, dim, return_inverse, return_counts, in_order=False)
    values, inverse, counts = np.unique(comparable(array), return_inverse=True, return_counts=True, equal_nan=False)
    values = values.astype(array.dtype, copy=False)
    return _answer(wrap(values), inverse.reshape(array.shape), counts, return_inverse, return_counts)


def unique_consecutive(input: Tensor, return_inverse: bool = False, return_counts: bool = False,
                       dim: Any = None) -> Any:
    """Each run of equal values (or equal slices along `dim`) once."""
    recording.read(input)
    array = input._array
    if dim is not None and array.ndim:
        return _unique_slices(array, wrap_dim(dim, array.ndim), return_inverse, return_counts, in_order=True)
    flat = array.reshape(-1)
    starts = np.concatenate(([True], flat[1:] != flat[:-1])) if flat.size else np.zeros(0, bool)
    inverse = np.cumsum(starts) - 1
    counts = np.bincount(inverse)
    return _answer(wrap(flat[starts]), inverse.reshape(array.shape), counts, return_inverse, return_counts)


def _unique_slices(array: np.ndarray, dim: int, return_inverse: bool, return_counts: bool, *, in_order: bool) -> Any:
    n = array.shape[dim]
    if array.size == 0:
        if n and any(m == 0 for d, m in enumerate(array.shape) if d != dim):
            raise RuntimeError("There are 0 sized dimensions, and they aren't selected, so unique cannot be applied")
        nothing = np.zeros(0, np.int64)
        return _answer(wrap(array.copy()), nothing, nothing, return_inverse, return_counts)
    rows = comparable(np.moveaxis(array, dim, 0)).reshape(n, -1)
    order = np.arange(n) if in_order else np.lexsort(rows.T[::-1])
    ordered = rows[order]
    starts = np.concatenate(([True], (ordered[1:] != ordered[:-1]).any(1)))
    inverse = np.empty(n, np.int64)
    inverse[order] = np.cumsum(starts) - 1
    values = np.take(array, order[starts], axis=dim)
    return _answer(wrap(values), inverse, np.bincount(inverse), return_inverse, return_counts)


def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """For each element whether it occurs among `test_elements`."""
    arrays = [v._array for v in (elements, test_elements) if isinstance(v, Tensor)]
    if not arrays:
        raise TypeError("isin(): at least one of elements and test_elements must be a Tensor")
    both = (elements, test_elements)
    kind = dtypes.result_of(arrays, [v for v in both if not isinstance(v, Tensor)]).numpy

    def occurs(*arrays: np.ndarray) -> np.ndarray:
        a, b = (comparable(v.astype(kind)) for v in arrays)
        return np.asarray(np.isin(a, b, invert=invert))

    return computed(occurs, *(v if isinstance(v, Tensor) else constant(np.asarray(v)) for v in both))


# ---- places in a sorted sequence ------------------------------------------------------------------------------


def searchsorted(sorted_sequence: Tensor, input: Any, *, out_int32: bool = False, right: bool = False,
                 side: str | None = None, sorter: Tensor | None = None) -> Tensor:
    """Where values would have to be inserted into a sorted sequence (or, row by row, into the last dimension).

    `right`: after equal values instead of before them.
    """
    if side is not None:
        if side not in ("left", "right"):
            raise RuntimeError(f"torch.searchsorted(): side can only be 'left' or 'right' but got {side}")
        if side == "left" and right:
            raise RuntimeError("torch.searchsorted(): side and right can't be set to opposites, got side of left while "
                               "right was True")
        right = side == "right"
    sequence = sorted_sequence._array
    if sorter is not None:
        if sorter._array.shape != sequence.shape:
            raise RuntimeError("torch.searchsorted(): boundary and sorter must have the same size, but got boundary "
                               "tensor "
                               f"{list(sequence.shape)} and got sorter tensor {list(sorter._array.shape)}")
        if sorter._array.dtype != np.int64:
            raise RuntimeError("torch.searchsorted(): sorter must be a tensor of long dtype but got dtype "
                               f"{sorter.dtype}")
        if sorter._array.size and (sorter._array.min() < 0 or sorter._array.max() >= sequence.shape[-1]):
            raise RuntimeError("torch.searchsorted(): sorter index out of range")
    values = input._array if isinstance(input, Tensor) else np.asarray(input)
    if not isinstance(input, Tensor) and sequence.ndim != 1:
        raise RuntimeError("torch.searchsorted(): input value can be a scalar only when boundaries tensor dimension is "
                           "1")
    differs = values.dtype != sequence.dtype and (values.ndim > 0 or sequence.dtype.kind != values.dtype.kind)
    if isinstance(input, Tensor) and differs:
        raise RuntimeError("torch.searchsorted(): boundary tensor and input value tensor should have same dtype, but "
                           "got boundary "
                           f"tensor dtype {sorted_sequence.dtype} and input value tensor dtype {input.dtype}")
    if sequence.ndim == 0:
        raise RuntimeError("torch.searchsorted(): boundaries tensor should have positive dimension, but got 0 "
                           "dimension")
    if sequence.ndim > 1 and (values.ndim != sequence.ndim or values.shape[:-1] != sequence.shape[:-1]):
        raise RuntimeError("torch.searchsorted(): boundaries tensor should be 1 dimension or the first N-1 dimensions "
                           "of boundaries "
                           "tensor and input value tensor must match, but we got boundaries tensor "
                           f"{list(sequence.shape)} and input "
                           f"value tensor {list(values.shape)}")
    return _insertion(sorted_sequence, input, right, out_int32, sorter)


def _insertion(sequence: Tensor, values: Any, right: bool, out_int32: bool, sorter: Tensor | None = None) -> Tensor:
    """The positions as a tensor; `sorter` lists the sequence in order."""
    side: Any = "right" if right else "left"
    kind = np.int32 if out_int32 else np.int64

    def find(sequence: np.ndarray, values: np.ndarray, *order: np.ndarray) -> np.ndarray:
        for positions in order:
            sequence = np.take_along_axis(sequence, positions, -1)
        sequence, values = comparable(sequence), comparable(values)
        if sequence.ndim == 1:
            return np.asarray(np.searchsorted(sequence, values, side)).astype(kind, copy=False)
        out = np.empty(values.shape, kind)
        for row in np.ndindex(sequence.shape[:-1]):
            out[row] = np.searchsorted(sequence[row], values[row], side)
        return out

    if not isinstance(values, Tensor):
        values = constant(np.asarray(values))
    return computed(find, sequence, values, *([] if sorter is None else [sorter]))


def bucketize(input: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """Which interval between `boundaries` each value lies in; `right` puts a value on a boundary into the next."""
    if boundaries._array.ndim != 1:
        raise RuntimeError(f"bucketize(): boundaries tensor must be 1 dimension, but got dim({boundaries._array.ndim})")
    return _insertion(boundaries, input, right, out_int32)
