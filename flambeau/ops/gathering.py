"""Index tensors along a dimension: `gather`, `scatter`, `index_select`, `index_add`, `take` and their relatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core.dispatch import primitive
from flambeau.core.inplace import scalar_name
from flambeau.core.tensor import Tensor, wrap, wrap_dim
from flambeau.ops.indexing import number_as
from flambeau.ops.indexing_kernels import add_at, add_rows, both, dimension_error, writer
from flambeau.ops.masking import common_shape
from flambeau.ops.pointwise import mul, zero_of
from flambeau.ops.shape import _expand, reshape


def _zeros(shape: Any, like: Tensor) -> Tensor:
    return wrap(np.zeros(shape, like._array.dtype))


def _check_index(name: str, index: Any) -> None:
    if not isinstance(index, Tensor):
        raise TypeError(f"{name}(): argument 'index' (position 2) must be Tensor, not {type(index).__name__}")
    if index._array.dtype not in (np.int64, np.int32):
        raise RuntimeError(f"{name}(): Expected dtype int32/int64 for index")


def _check_types(name: str, x: Tensor, source: Tensor) -> None:
    if x._array.dtype != source._array.dtype:
        raise RuntimeError(f"{name}(): Expected self.dtype to be equal to src.dtype, got {scalar_name(x._array.dtype)} and "
                           f"{scalar_name(source._array.dtype)}")


# ---- index_select and the ops that write along it ----------------------------------------------------


def _prefix(dim: int, index: Any) -> tuple[Any, ...]:
    return (slice(None),) * dim + (index,)


def _rows(index: Any) -> Any:
    return index.reshape(-1)


def _at_least_1d(x: Any) -> Any:
    """A 0-d array as a vector of one element that shares its memory."""
    return x.reshape(1) if x.ndim == 0 else x


@primitive("index_select")
def _index_select(x: Any, index: Any, *, dim: int) -> Any:
    """The entries of a dimension listed in `index`; a 0-d tensor stays 0-d."""
    try:
        made = np.take(_at_least_1d(x), _rows(index), axis=dim)
    except IndexError:
        raise IndexError("index out of range in self") from None
    return made.reshape(()) if x.ndim == 0 and made.size == 1 else made


@_index_select.vjp
def _index_select_vjp(grad: Tensor, index: Tensor, dim: int, shapes: Any) -> Any:
    return _index_add(_zeros(shapes[0], grad), index, grad, dim=dim), None


def index_select(input: Tensor, dim: Any, index: Tensor) -> Tensor:
    """The entries along `dim` listed in a vector (or one number) of positions. IndexError out of range."""
    if not isinstance(index, Tensor):
        raise TypeError(f"index_select(): argument 'index' (position 3) must be Tensor, not {type(index).__name__}")
    dim = wrap_dim(dim, input._array.ndim)
    if index._array.ndim > 1:
        raise IndexError("index_select(): Index is supposed to be a vector")
    if index._array.dtype not in (np.int64, np.int32):
        raise RuntimeError("index_select(): Expected dtype int32 or int64 for index")
    if index._array.size and index._array.min() < 0:
        raise IndexError("index out of range in self")
    if input._array.ndim == 0 and index._array.size != 1:
        raise IndexError("index_select(): Index to scalar can have only 1 value, got "
                         f"{index._array.size} value(s)")
    return _index_select(input, index, dim=dim)


@writer("index_add")
def _index_add(x: Any, index: Any, source: Any, *, dim: int) -> None:
    try:
        add_at(_at_least_1d(x), (dim,), (_rows(index),), _at_least_1d(source))
    except IndexError:
        raise IndexError("index out of range in self") from None


@_index_add.vjp
def _index_add_vjp(grad: Tensor, index: Tensor, dim: int, needs: Any, shapes: Any) -> Any:
    source = reshape(_index_select(grad, index, dim=dim), shapes[2]) if needs[2] else None
    return grad, None, source


def _check_along(name: str, input: Tensor, dim: Any, index: Tensor, source: Tensor) -> int:
    """The checks of index_add and index_copy: one entry of `source` per index, other sizes equal."""
    _check_index(name, index)
    dim = wrap_dim(dim, input._array.ndim)
    if index._array.ndim > 1:
        raise IndexError(f"{name}(): Index is supposed to be a vector, but got dim: {index._array.ndim}")
    shape, have = input._array.shape, source._array.shape
    if have and (len(have) != len(shape)) and shape:
        raise RuntimeError(f"{name}(): Source and destination must have the same number of dimensions, got {list(have)} and "
                           f"{list(shape)}")
    entries = have[dim] if have else 1
    if index._array.size != entries:
        raise RuntimeError(f"{name}(): Number of indices ({index._array.size}) should be equal to source.size(dim): "
                           f"({entries}), for dim: {dim}")
    if have and shape and any(n != m for d, (n, m) in enumerate(zip(shape, have, strict=True)) if d != dim):
        raise RuntimeError(f"{name}(): Source/destination tensor must have same slice shapes. Destination {list(shape)} at dimension "
                           f"{dim}, source {list(have)}")
    if not have and len(shape) > 1:
        raise RuntimeError(f"{name}(): source of 0 dimensions does not fit a tensor of shape {list(shape)}")
    limit = shape[dim] if shape else 1
    if index._array.size and (index._array.min() < 0 or index._array.max() >= limit):
        raise IndexError(f"{name}(): index out of range in self: {list(_rows(index._array))} for size {limit}")
    return dim


def _index_add_form(apply: Any, input: Tensor, dim: Any, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
    """`source` (times `alpha`) added to the entries along `dim` listed in `index`; repeated entries add up."""
    if input._array.dtype != source._array.dtype:
        raise RuntimeError(f"index_add_(): self ({scalar_name(input._array.dtype)}) and source ({scalar_name(source._array.dtype)}) "
                           "must have the same scalar type")
    dim = _check_along("index_add", input, dim, index, source)
    if alpha != 1:
        if isinstance(alpha, float) and input._array.dtype.kind in "biu":
            raise RuntimeError("For integral input tensors, argument alpha must not be a floating point number.")
        source = mul(source, alpha)
    return apply(_index_add, input, index, source, dim=dim)


@writer("index_copy")
def _index_copy(x: Any, index: Any, source: Any, *, dim: int) -> None:
    _at_least_1d(x)[_prefix(dim, _rows(index))] = _at_least_1d(source)


@_index_copy.vjp
def _index_copy_vjp(grad: Tensor, index: Tensor, dim: int, needs: Any, shapes: Any) -> Any:
    old = _index_fill(grad, index, zero_of(grad), dim=dim) if needs[0] else None
    new = reshape(_index_select(grad, index, dim=dim), shapes[2]) if needs[2] else None
    return old, None, new


def _index_copy_form(apply: Any, input: Tensor, dim: Any, index: Tensor, source: Tensor) -> Tensor:
    """The entries along `dim` listed in `index` replaced by those of `source`."""
    if index._array.dtype != np.int64:
        raise RuntimeError(f"index_copy_(): Expected a long tensor for index, but got {scalar_name(index._array.dtype)}")
    if input._array.dtype != source._array.dtype:
        raise RuntimeError("index_copy_(): self and source expected to have the same dtype, but got (self) "
                           f"{scalar_name(input._array.dtype)} and (source) {scalar_name(source._array.dtype)}")
    dim = _check_along("index_copy", input, dim, index, source)
    return apply(_index_copy, input, index, source, dim=dim)


@writer("index_fill")
def _index_fill(x: Any, index: Any, value: Any, *, dim: int) -> None:
    _at_least_1d(x)[_prefix(dim, _rows(index))] = value


@_index_fill.vjp
def _index_fill_vjp(grad: Tensor, index: Tensor, dim: int, needs: Any) -> Any:
    old = _index_fill(grad, index, zero_of(grad), dim=dim) if needs[0] else None
    value = _index_select(grad, index, dim=dim).sum() if needs[2] else None
    return old, None, value


def _index_fill_form(apply: Any, input: Tensor, dim: Any, index: Tensor, value: Any) -> Tensor:
    """The entries along `dim` listed in `index` set to a number or a 0-d tensor."""
    dim = wrap_dim(dim, input._array.ndim)
    if index._array.dtype not in (np.int64, np.int32):
        raise IndexError("index_fill_(): Expected dtype int64 for index.")
    if index._array.ndim > 1:
        raise RuntimeError("Index has to be a vector/scalar")
    limit = input._array.shape[dim] if input._array.ndim else 1
    if index._array.size and (index._array.min() < -limit or index._array.max() >= limit):
        raise IndexError(f"index {_rows(index._array)[0]} is out of bounds for dimension {dim} with size {limit}")
    if isinstance(value, Tensor):
        if value._array.ndim:
            raise RuntimeError("Only supports 0-dimension value tensor but got tensor with "
                               f"{value._array.ndim} dimensions.")
        value = value.to(input.dtype)
    else:
        value = wrap(number_as(value, input._array.dtype))
    return apply(_index_fill, input, index, value, dim=dim)


index_add, index_add_ = both("index_add", _index_add_form)
index_copy, index_copy_ = both("index_copy", _index_copy_form)
index_fill, index_fill_ = both("index_fill", _index_fill_form)

# ---- gather and scatter --------------------------------------------------------------------------------


def _within(x: Any, index: Any, dim: int) -> Any:
    """The part of `x` that an index of smaller shape addresses: all of `dim`, the beginning of the others."""
    return x[tuple(slice(None) if d == dim else slice(n) for d, n in enumerate(index.shape))]


def _range_error(index: Any, dim: int, size: int) -> RuntimeError:
    bad = index[(index < 0) | (index >= size)].reshape(-1)
    return RuntimeError(f"index {bad[0] if bad.size else ''} is out of bounds for dimension {dim} with size {size}")


@primitive("gather")
def _gather(x: Any, index: Any, *, dim: int) -> Any:
    """out[i][j] = x[index[i][j]][j] for dim 0."""
    source, where = _at_least_1d(x), _at_least_1d(index)
    if not where.size:
        return np.empty(index.shape, x.dtype)
    return np.take_along_axis(_within(source, where, dim), where, dim).reshape(index.shape)


@_gather.vjp
def _gather_vjp(grad: Tensor, index: Tensor, dim: int, shapes: Any) -> Any:
    return _scatter_add(_zeros(shapes[0], grad), index, grad, dim=dim), None


def _check_gather(name: str, x: Tensor, dim: Any, index: Any, source: Tensor | None) -> int:
    """The checks shared by gather and the scatters. RuntimeError for shapes or positions that do not fit."""
    if not isinstance(index, Tensor):
        raise TypeError(f"{name}(): argument 'index' (position 3) must be Tensor, not {type(index).__name__}")
    dim = wrap_dim(dim, x._array.ndim)
    array = index._array
    if array.dtype not in (np.int64, np.int32):
        raise RuntimeError(f"{name}(): Expected dtype int64 for index")
    if not array.size:
        return dim
    shape, wanted = x._array.shape or (1,), array.shape or (1,)
    if len(shape) != len(wanted):
        raise RuntimeError(f"Index tensor must have the same number of dimensions as {'input' if source is None else 'self'} tensor")
    if any(n > m for d, (n, m) in enumerate(zip(wanted, shape, strict=True)) if d != dim):
        if source is None and name == "gather":
            raise RuntimeError(f"Size does not match at dimension {_first_larger(wanted, shape, dim)} expected index "
                               f"{list(wanted)} to be no larger than self {list(shape)} apart from dimension {dim}")
        raise RuntimeError(f"Expected index {list(wanted)} to be no larger than self {list(shape)} apart from dimension {dim}")
    if source is not None:
        have = source._array.shape or (1,)
        if len(have) != len(wanted):
            raise RuntimeError("Index tensor must have the same number of dimensions as src tensor")
        if any(n > m for n, m in zip(wanted, have, strict=True)):
            raise RuntimeError(f"Expected index {list(wanted)} to be no larger than self {list(shape)} apart from dimension {dim} and "
                               f"to be no larger size than src {list(have)}")
    if array.min() < 0 or array.max() >= shape[dim]:
        raise _range_error(array, dim, shape[dim])
    return dim


def _first_larger(wanted: Any, shape: Any, dim: int) -> int:
    return next(d for d, (n, m) in enumerate(zip(wanted, shape, strict=True)) if d != dim and n > m)


def gather(input: Tensor, dim: Any, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """Values picked along `dim`: out[i][j] = input[index[i][j]][j] for dim 0. The result has the shape of `index`.

    RuntimeError when `index` is larger than the input in another dimension or points outside.
    """
    return _gather(input, index, dim=_check_gather("gather", input, dim, index, None))


@writer("scatter")
def _scatter(x: Any, index: Any, source: Any, *, dim: int) -> None:
    target, where = _at_least_1d(x), _at_least_1d(index)
    if not where.size:
        return
    values = source if source.ndim == 0 else source[tuple(slice(n) for n in where.shape)]
    np.put_along_axis(_within(target, where, dim), where.astype(np.int64, copy=False), values, dim)


@_scatter.vjp
def _scatter_vjp(grad: Tensor, index: Tensor, dim: int, needs: Any, shapes: Any) -> Any:
    old = _scatter(grad, index, zero_of(grad), dim=dim) if needs[0] else None
    return old, None, _source_grad(grad, index, dim, shapes[2]) if needs[2] else None


def _source_grad(grad: Tensor, index: Tensor, dim: int, shape: Any) -> Tensor:
    """What a scatter's source receives: the gradient where it went, zeros in the part the index does not reach."""
    found = _gather(grad, index, dim=dim)
    return found if found._array.shape == shape else _corner(found, shape=shape)


@primitive("scatter_source_grad")
def _corner(grad: Any, *, shape: Any) -> Any:
    """Zeros of `shape` with the gradient in the corner where all indices are small."""
    if grad.size == 1 and not shape:
        return grad.reshape(())
    out = np.zeros(shape, grad.dtype)
    out[tuple(slice(n) for n in grad.shape)] = grad
    return out


@_corner.vjp
def _corner_vjp(grad: Tensor, shapes: Any) -> Any:
    return reshape(grad[tuple(slice(n) for n in shapes[0])], shapes[0])


@writer("scatter_add")
def _scatter_add(x: Any, index: Any, source: Any, *, dim: int) -> None:
    target, where = _at_least_1d(x), _at_least_1d(index)
    if not where.size:
        return
    values = _at_least_1d(source)[tuple(slice(n) for n in where.shape)]
    positions = scattered_positions(target.shape, where, dim)
    if target.flags.c_contiguous:
        add_rows(target.reshape(-1, 1), positions, values.reshape(-1, 1))
    else:
        sums = np.zeros((target.size, 1), target.dtype)
        add_rows(sums, positions, values.reshape(-1, 1))
        target += sums.reshape(target.shape)


def scattered_positions(shape: Any, index: Any, dim: int) -> np.ndarray:
    """Where a scatter writes, as positions in the flattened target."""
    strides = [1] * len(shape)
    for d in range(len(shape) - 2, -1, -1):
        strides[d] = strides[d + 1] * shape[d + 1]
    flat: Any = index.astype(np.int64, copy=False) * strides[dim]
    for d, n in enumerate(index.shape):
        if d != dim:
            flat = flat + (np.arange(n) * strides[d]).reshape((-1,) + (1,) * (len(shape) - d - 1))
    return flat.reshape(-1)


@_scatter_add.vjp
def _scatter_add_vjp(grad: Tensor, index: Tensor, dim: int, needs: Any, shapes: Any) -> Any:
    return grad, None, _source_grad(grad, index, dim, shapes[2]) if needs[2] else None


def _scatter_add_form(apply: Any, input: Tensor, dim: Any, index: Tensor, src: Tensor) -> Tensor:
    """`src` added at positions along `dim`: out[index[i][j]][j] += src[i][j] for dim 0."""
    dim = _check_gather("scatter", input, dim, index, src)
    _check_types("scatter", input, src)
    return apply(_scatter_add, input, index, src, dim=dim)


def _scatter_form(apply: Any, input: Tensor, dim: Any, index: Tensor, src: Any = None, value: Any = None, *,
                  reduce: str | None = None) -> Tensor:
    """`src` (a tensor or a number) written at positions along `dim`; `reduce` "add" or "multiply" combines instead."""
    source = value if src is None else src
    if not isinstance(source, Tensor):
        number = wrap(number_as(source, input._array.dtype))
        dim = _check_gather("scatter", input, dim, index, None)
        if reduce is None:
            return apply(_scatter, input, index, number, dim=dim)
        source = _expand(number, shape=index._array.shape)
    else:
        dim = _check_gather("scatter", input, dim, index, source)
        _check_types("scatter", input, source)
        if reduce is None:
            return apply(_scatter, input, index, source, dim=dim)
    if reduce == "add":
        return apply(_scatter_add, input, index, source, dim=dim)
    if reduce == "multiply":
        return apply(_scatter_multiply, input, index, source, dim=dim)
    raise RuntimeError("reduce argument must be either add or multiply.")


@writer("scatter_multiply", no_gradient="PyTorch defines none: use scatter_reduce with \"prod\"")
def _scatter_multiply(x: Any, index: Any, source: Any, *, dim: int) -> None:
    target, where = _at_least_1d(x), _at_least_1d(index)
    if where.size:
        values = _at_least_1d(source)[tuple(slice(n) for n in where.shape)]
        made = np.ascontiguousarray(target)
        np.multiply.at(made.reshape(-1), scattered_positions(target.shape, where, dim), values.reshape(-1))
        target[...] = made


scatter, scatter_ = both("scatter", _scatter_form)
scatter_add, scatter_add_ = both("scatter_add", _scatter_add_form)

# ---- flat positions -----------------------------------------------------------------------------------


@primitive("take")
def _take(x: Any, index: Any) -> Any:
    try:
        return np.take(x.reshape(-1), index)
    except IndexError as error:
        raise dimension_error(error) from None


@_take.vjp
def _take_vjp(grad: Tensor, index: Tensor, shapes: Any) -> Any:
    return _put(_zeros(shapes[0], grad), index, grad, accumulate=True), None


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
        old = grad if accumulate else _put(grad, index, _zeros(index._array.shape, grad), accumulate=False)
    return old, None, reshape(_take(grad, index), shapes[2]) if needs[2] else None


def _put_form(apply: Any, input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """`source` written (or added) at positions of the flattened tensor. RuntimeError if sizes or types differ."""
    if index._array.dtype != np.int64:
        raise RuntimeError(f"put_(): Expected a long tensor for index, but got {scalar_name(index._array.dtype)}")
    if input._array.dtype != source._array.dtype:
        raise RuntimeError(f"put_(): self and source expected to have the same dtype, but got self.dtype = {input.dtype} and "
                           f"source.dtype = {source.dtype}")
    if index._array.size != source._array.size:
        raise RuntimeError("put_(): Expected source and index to have the same number of elements, but got source.numel() = "
                           f"{source._array.size}, index.numel() = {index._array.size}")
    if not input._array.size and index._array.size:
        raise IndexError("put_(): tried to put elements into an empty tensor")
    return apply(_put, input, index, source, accumulate=accumulate)


put, put_ = both("put", _put_form)


def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """Values at `indices` along `dim`, other dimensions broadcasting; without `dim`, both flattened."""
    if indices._array.dtype != np.int64:
        raise RuntimeError(f"torch.take_along_dim(): dtype of indices should be Long but got {scalar_name(indices._array.dtype)}")
    if dim is None:
        return gather(reshape(input, -1), 0, reshape(indices, -1))
    if input._array.ndim != indices._array.ndim:
        raise RuntimeError("torch.take_along_dim(): input and indices should have the same number of dimensions, but got "
                           f"{input._array.ndim} dimensions for input, and {indices._array.ndim} dimensions for indices")
    dim = wrap_dim(dim, input._array.ndim)
    if input._array.ndim == 0:
        return gather(input, dim, indices)
    n, m = list(input._array.shape), list(indices._array.shape)
    size, wanted = n[dim], m[dim]
    n[dim] = m[dim] = 1
    shape = list(common_shape(tuple(n), tuple(m)))
    input = input.expand(shape[:dim] + [size] + shape[dim + 1 :])
    indices = indices.expand(shape[:dim] + [wanted] + shape[dim + 1 :])
    return gather(input, dim, indices)

