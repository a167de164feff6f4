"""Index tensors along a dimension: `index_select`, `index_add`, `index_copy`, `index_fill`; flat: `take`, `put`."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core import recording
from flambeau.core.dispatch import primitive
from flambeau.core.inplace import scalar_name
from flambeau.core.tensor import Tensor, constant, wrap_dim
from flambeau.ops.comparison import eq
from flambeau.ops.indexing import number_as
from flambeau.ops.indexing_kernels import add_at, add_rows, at_least_1d, both, dimension_error, writer, zeros
from flambeau.ops.pointwise import mul, where, zero_of
from flambeau.ops.shape import reshape


def _check_index(name: str, index: Any) -> None:
    if not isinstance(index, Tensor):
        raise TypeError(f"{name}(): argument 'index' (position 2) must be Tensor, not {type(index).__name__}")
    if index._array.dtype not in (np.int64, np.int32):
        raise RuntimeError(f"{name}(): Expected dtype int32/int64 for index")


# ---- index_select and the ops that write along it ----------------------------------------------------


def _prefix(dim: int, index: Any) -> tuple[Any, ...]:
    return (slice(None),) * dim + (index,)


def _rows(index: Any) -> Any:
    return index.reshape(-1)


@primitive("index_select")
def _index_select(x: Any, index: Any, *, dim: int) -> Any:
    """The entries of a dimension listed in `index`; a 0-d tensor stays 0-d."""
    try:
        made = np.take(at_least_1d(x), _rows(index), axis=dim)
    except IndexError:
        raise IndexError("index out of range in self") from None
    return made.reshape(()) if x.ndim == 0 and made.size == 1 else made


@_index_select.vjp
def _index_select_vjp(grad: Tensor, index: Tensor, dim: int, shapes: Any) -> Any:
    return _index_add(zeros(shapes[0], grad), index, grad, dim=dim), None


def index_select(input: Tensor, dim: Any, index: Tensor) -> Tensor:
    """The entries along `dim` listed in a vector (or one number) of positions. IndexError out of range."""
    if not isinstance(index, Tensor):
        raise TypeError(f"index_select(): argument 'index' (position 3) must be Tensor, not {type(index).__name__}")
    dim = wrap_dim(dim, input._array.ndim, input)
    if index._array.ndim > 1:
        raise IndexError("index_select(): Index is supposed to be a vector")
    if index._array.dtype not in (np.int64, np.int32):
        raise RuntimeError("index_select(): Expected dtype int32 or int64 for index")
    if recording.recorder is not None:
        limit = input._array.shape[dim] if input._array.ndim else 1
        recording.bounded(index, 0, limit - 1, IndexError("index out of range in self"))
    if index._array.size and index._array.min() < 0:
        raise IndexError("index out of range in self")
    if input._array.ndim == 0 and index._array.size != 1:
        raise IndexError("index_select(): Index to scalar can have only 1 value, got "
                         f"{index._array.size} value(s)")
    return _index_select(input, index, dim=dim)


@writer("index_add")
def _index_add(x: Any, index: Any, source: Any, *, dim: int) -> None:
    try:
        add_at(at_least_1d(x), (dim,), (_rows(index),), at_least_1d(source))
    except IndexError:
        raise IndexError("index out of range in self") from None


@_index_add.vjp
def _index_add_vjp(grad: Tensor, index: Tensor, dim: int, needs: Any, shapes: Any) -> Any:
    source = reshape(_index_select(grad, index, dim=dim), shapes[2]) if needs[2] else None
    return grad, None, source


def check_along(name: str, input: Tensor, dim: Any, index: Tensor, source: Tensor) -> int:
    """The checks of index_add and index_copy: one entry of `source` per index, other sizes equal."""
    _check_index(name, index)
    dim = wrap_dim(dim, input._array.ndim, input)
    if index._array.ndim > 1:
        raise IndexError(f"{name}(): Index is supposed to be a vector, but got dim: {index._array.ndim}")
    shape, have = input._array.shape, source._array.shape
    if have and (len(have) != len(shape)) and shape:
        raise RuntimeError(f"{name}(): Source and destination must have the same number of dimensions, got "
                           f"{list(have)} and "
                           f"{list(shape)}")
    entries = have[dim] if have else 1
    if index._array.size != entries:
        raise RuntimeError(f"{name}(): Number of indices ({index._array.size}) should be equal to source.size(dim): "
                           f"({entries}), for dim: {dim}")
    if have and shape and any(n != m for d, (n, m) in enumerate(zip(shape, have, strict=True)) if d != dim):
        raise RuntimeError(f"{name}(): Source/destination tensor must have same slice shapes. Destination "
                           f"{list(shape)} at dimension "
                           f"{dim}, source {list(have)}")
    if not have and len(shape) > 1:
        raise RuntimeError(f"{name}(): source of 0 dimensions does not fit a tensor of shape {list(shape)}")
    limit = shape[dim] if shape else 1
    if recording.recorder is not None:
        recording.bounded(index, 0, limit - 1, IndexError(f"{name}(): index out of range in self for size {limit}"))
    if index._array.size and (index._array.min() < 0 or index._array.max() >= limit):
        raise IndexError(f"{name}(): index out of range in self: {list(_rows(index._array))} for size {limit}")
    return dim


def _index_add_form(apply: Any, input: Tensor, dim: Any, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
    """`source` (times `alpha`) added to the entries along `dim` listed in `index`; repeated entries add up."""
    if input._array.dtype != source._array.dtype:
        raise RuntimeError(f"index_add_(): self ({scalar_name(input._array.dtype)}) and source "
                           f"({scalar_name(source._array.dtype)}) "
                           "must have the same scalar type")
    dim = check_along("index_add", input, dim, index, source)
    if alpha != 1:
        if isinstance(alpha, float) and input._array.dtype.kind in "biu":
            raise RuntimeError("For integral input tensors, argument alpha must not be a floating point number.")
        source = mul(source, alpha)
    return apply(_index_add, input, index, source, dim=dim)


@writer("index_copy")
def _index_copy(x: Any, index: Any, source: Any, *, dim: int) -> None:
    at_least_1d(x)[_prefix(dim, _rows(index))] = at_least_1d(source)


@_index_copy.vjp
def _index_copy_vjp(grad: Tensor, index: Tensor, dim: int, needs: Any, shapes: Any) -> Any:
    old = _index_fill(grad, index, zero_of(grad), dim=dim) if needs[0] else None
    new = reshape(_index_select(grad, index, dim=dim), shapes[2]) if needs[2] else None
    return old, None, new


def _index_copy_form(apply: Any, input: Tensor, dim: Any, index: Tensor, source: Tensor) -> Tensor:
    """The entries along `dim` listed in `index` replaced by those of `source`."""
    if index._array.dtype != np.int64:
        raise RuntimeError("index_copy_(): Expected a long tensor for index, but got "
                           f"{scalar_name(index._array.dtype)}")
    if input._array.dtype != source._array.dtype:
        raise RuntimeError("index_copy_(): self and source expected to have the same dtype, but got (self) "
                           f"{scalar_name(input._array.dtype)} and (source) {scalar_name(source._array.dtype)}")
    dim = check_along("index_copy", input, dim, index, source)
    return apply(_index_copy, input, index, source, dim=dim)


@writer("index_fill")
def _index_fill(x: Any, index: Any, value: Any, *, dim: int) -> None:
    at_least_1d(x)[_prefix(dim, _rows(index))] = value


@_index_fill.vjp
def _index_fill_vjp(grad: Tensor, index: Tensor, dim: int, needs: Any) -> Any:
    old = _index_fill(grad, index, zero_of(grad), dim=dim) if needs[0] else None
    if not needs[2]:
        return old, None, None
    one = constant(np.ones((), grad._array.dtype))
    filled = _index_fill(zeros(grad._array.shape, grad), index, one, dim=dim)
    return old, None, where(eq(filled, 1), grad, zero_of(grad)).sum()  # a position listed twice holds the value once


def _index_fill_form(apply: Any, input: Tensor, dim: Any, index: Tensor, value: Any) -> Tensor:
    """The entries along `dim` listed in `index` set to a number or a 0-d tensor."""
    dim = wrap_dim(dim, input._array.ndim, input)
    if index._array.dtype not in (np.int64, np.int32):
        raise IndexError("index_fill_(): Expected dtype int64 for index.")
    if index._array.ndim > 1:
        raise RuntimeError("Index has to be a vector/scalar")
    limit = input._array.shape[dim] if input._array.ndim else 1
    if recording.recorder is not None:
        recording.bounded(index, -limit, limit - 1, IndexError(f"index is out of bounds for size {limit}"))
    if index._array.size and (index._array.min() < -limit or index._array.max() >= limit):
        raise IndexError(f"index {_rows(index._array)[0]} is out of bounds for dimension {dim} with size {limit}")
    if isinstance(value, Tensor):
        if value._array.ndim:
            raise RuntimeError("Only supports 0-dimension value tensor but got tensor with "
                               f"{value._array.ndim} dimensions.")
        value = value.to(input.dtype)
    else:
        value = constant(number_as(value, input._array.dtype))
    return apply(_index_fill, input, index, value, dim=dim)


index_add, index_add_ = both("index_add", _index_add_form)
index_copy, index_copy_ = both("index_copy", _index_copy_form)
index_fill, index_fill_ = both("index_fill", _index_fill_form)

# ---- positions in the flattened tensor -----------------------------------------------------------------


@primitive("take")
def _take(x: Any, index: Any) -> Any:
    try:
        return np.take(x.reshape(-1), index)
    except IndexError as error:
        raise dimension_error(error) from None


@_take.vjp
def _take_vjp(grad: Tensor, index: Tensor, shapes: Any) -> Any:
    return _put(zeros(shapes[0], grad), index, grad, accumulate=True), None


def take(input: Tensor, index: Tensor) -> Tensor:
    """Elements of the flattened input at these positions; the shape of `index`. IndexError out of range."""
    if index._array.dtype != np.int64:
        raise RuntimeError(f"take(): Expected a long tensor for index, but got {scalar_name(index._array.dtype)}")
    if not input._array.size and index._array.size:
        raise IndexError("take(): tried to take from an empty tensor")
    return _take(input, index)


@writer("put")
def _put(x: Any, index: Any, source: Any, *, accumulate: bool) -> None:
    flat = np.ascontiguousarray(x).reshape(-1)
    where = index.reshape(-1)
    values = source.reshape(-1)
    try:
        if accumulate:
            where = np.where(where < 0, where + flat.size, where)
            if where.size and (where.min() < 0 or where.max() >= flat.size):
                raise IndexError("index out of range")
            add_rows(flat.reshape(-1, 1), where, values.reshape(-1, 1))
        else:
            flat[where] = values
    except IndexError:
        raise IndexError(f"put_(): index out of range for a tensor of {flat.size} elements") from None
    if not np.may_share_memory(flat, x):
        x[...] = flat.reshape(x.shape)


@_put.vjp
def _put_vjp(grad: Tensor, index: Tensor, accumulate: bool, needs: Any, shapes: Any) -> Any:
    old = None
    if needs[0]:
        old = grad if accumulate else _put(grad, index, zeros(index._array.shape, grad), accumulate=False)
    return old, None, reshape(_take(grad, index), shapes[2]) if needs[2] else None


def _put_form(apply: Any, input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """`source` written (or added) at positions of the flattened tensor. RuntimeError if sizes or types differ."""
    if index._array.dtype != np.int64:
        raise RuntimeError(f"put_(): Expected a long tensor for index, but got {scalar_name(index._array.dtype)}")
    if input._array.dtype != source._array.dtype:
        raise RuntimeError("put_(): self and source expected to have the same dtype, but got self.dtype = "
                           f"{input.dtype} and "
                           f"source.dtype = {source.dtype}")
    if index._array.size != source._array.size:
        raise RuntimeError("put_(): Expected source and index to have the same number of elements, but got "
                           "source.numel() = "
                           f"{source._array.size}, index.numel() = {index._array.size}")
    if not input._array.size and index._array.size:
        raise IndexError("put_(): tried to put elements into an empty tensor")
    return apply(_put, input, index, source, accumulate=accumulate)


put, put_ = both("put", _put_form)
