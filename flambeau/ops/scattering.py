"""Index tensors of the input's own rank: `gather` and the scatters, which go the other way."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core import recording
from flambeau.core.dispatch import primitive
from flambeau.core.inplace import scalar_name
from flambeau.core.tensor import Tensor, computed, constant, wrap_dim
from flambeau.ops.arithmetic import clamp_min
from flambeau.ops.comparison import eq, logical_and
from flambeau.ops.gathering import check_along
from flambeau.ops.indexing import number_as
from flambeau.ops.indexing_kernels import add_rows, at_least_1d, both, writer, zeros
from flambeau.ops.masking import _masked_fill, common_shape
from flambeau.ops.pointwise import div, mul, where, zero_of
from flambeau.ops.shape import _expand, reshape


def _check_types(name: str, x: Tensor, source: Tensor) -> None:
    if x._array.dtype != source._array.dtype:
        raise RuntimeError(f"{name}(): Expected self.dtype to be equal to src.dtype, got {scalar_name(x._array.dtype)} "
                           "and "
                           f"{scalar_name(source._array.dtype)}")


def _coordinates(index: np.ndarray, dim: int) -> tuple[Any, ...]:
    """The NumPy key of what an index addresses: itself along `dim`, its own coordinates elsewhere."""
    own = [np.arange(n).reshape((-1,) + (1,) * (index.ndim - d - 1)) for d, n in enumerate(index.shape)]
    own[dim] = index
    return tuple(own)


def _range_error(index: Any, dim: int, size: int) -> RuntimeError:
    bad = index[(index < 0) | (index >= size)].reshape(-1)
    return RuntimeError(f"index {bad[0] if bad.size else ''} is out of bounds for dimension {dim} with size {size}")


@primitive("gather")
def _gather(x: Any, index: Any, *, dim: int) -> Any:
    """out[i][j] = x[index[i][j]][j] for dim 0."""
    source, where = at_least_1d(x), at_least_1d(index)
    if not where.size:
        return np.empty(index.shape, x.dtype)
    return source[_coordinates(where, dim)].reshape(index.shape)


@_gather.vjp
def _gather_vjp(grad: Tensor, index: Tensor, dim: int, shapes: Any) -> Any:
    return _scatter_add(zeros(shapes[0], grad), index, grad, dim=dim), None


def _check_gather(name: str, x: Tensor, dim: Any, index: Any, source: Tensor | None) -> int:
    """The checks shared by gather and the scatters. RuntimeError for shapes or positions that do not fit."""
    if not isinstance(index, Tensor):
        raise TypeError(f"{name}(): argument 'index' (position 3) must be Tensor, not {type(index).__name__}")
    dim = wrap_dim(dim, x._array.ndim, x)
    array = index._array
    if not array.size:
        return dim
    if array.dtype not in (np.int64, np.int32):
        raise RuntimeError(f"{name}(): Expected dtype int64 for index")
    shape, wanted = x._array.shape or (1,), array.shape or (1,)
    if len(shape) != len(wanted):
        raise RuntimeError("Index tensor must have the same number of dimensions as "
                           f"{'input' if source is None else 'self'} tensor")
    if any(n > m for d, (n, m) in enumerate(zip(wanted, shape, strict=True)) if d != dim):
        if source is None and name == "gather":
            raise RuntimeError(f"Size does not match at dimension {_first_larger(wanted, shape, dim)} expected index "
                               f"{list(wanted)} to be no larger than self {list(shape)} apart from dimension {dim}")
        raise RuntimeError(f"Expected index {list(wanted)} to be no larger than self {list(shape)} apart from "
                           f"dimension {dim}")
    if source is not None:
        have = source._array.shape or (1,)
        if len(have) != len(wanted):
            raise RuntimeError("Index tensor must have the same number of dimensions as src tensor")
        if any(n > m for n, m in zip(wanted, have, strict=True)):
            raise RuntimeError(f"Expected index {list(wanted)} to be no larger than self {list(shape)} apart from "
                               f"dimension {dim} and "
                               f"to be no larger size than src {list(have)}")
    if recording.recorder is not None:
        error = IndexError(f"index is out of bounds for dimension {dim} with size {shape[dim]}")
        recording.bounded(index, 0, shape[dim] - 1, error)
    # Read as unsigned, negative positions are the largest: one pass finds both kinds.
    if array.view(np.uint64 if array.itemsize == 8 else np.uint32).max() >= shape[dim]:
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
    target, where = at_least_1d(x), at_least_1d(index)
    if not where.size:
        return
    values = source if source.ndim == 0 else source[tuple(slice(n) for n in where.shape)]
    target[_coordinates(where, dim)] = values


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
    target, where = at_least_1d(x), at_least_1d(index)
    if not where.size:
        return
    values = at_least_1d(source)[tuple(slice(n) for n in where.shape)]
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
        number = constant(number_as(source, input._array.dtype))
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
        return apply(_scatter_reduce, input, index, source, dim=dim, reduce="prod", include_self=True)
    raise RuntimeError("reduce argument must be either add or multiply.")


# ---- scatter_reduce ------------------------------------------------------------------------------------


@writer("scatter_reduce")
def _scatter_reduce(x: Any, index: Any, source: Any, *, dim: int, reduce: str, include_self: bool) -> None:
    target, where_ = at_least_1d(x), at_least_1d(index)
    if not where_.size:
        return
    values = at_least_1d(source)[tuple(slice(n) for n in where_.shape)].reshape(-1)
    positions = scattered_positions(target.shape, where_, dim)
    made = np.ascontiguousarray(target)
    flat = made.reshape(-1)
    if not include_self:
        flat[positions] = _identity(reduce, flat.dtype)
    if reduce in ("sum", "mean"):
        add_rows(flat.reshape(-1, 1), positions, values.reshape(-1, 1))
    if reduce == "mean":
        counts = np.bincount(positions, minlength=flat.size) + include_self
        divide = np.floor_divide if flat.dtype.kind in "iu" else np.true_divide
        flat[...] = divide(flat, np.maximum(counts, 1).astype(flat.dtype))
    elif reduce != "sum":
        {"prod": np.multiply, "amax": np.maximum, "amin": np.minimum}[reduce].at(flat, positions, values)
    if made is not target:
        target[...] = made


def _identity(reduce: str, dtype: Any) -> Any:
    """The value that leaves the other operand of a reduction unchanged."""
    if reduce in ("sum", "mean"):
        return 0
    if reduce == "prod":
        return 1
    lowest = reduce == "amax"
    if dtype.kind == "b":
        return not lowest
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return info.min if lowest else info.max
    return -np.inf if lowest else np.inf


@_scatter_reduce.vjp
def _scatter_reduce_vjp(grad: Tensor, x: Tensor, index: Tensor, source: Tensor, out: Tensor, dim: int, reduce: str,
                        include_self: bool, needs: Any, shapes: Any) -> Any:
    shape = index._array.shape
    corner = source if source._array.shape == shape else source[tuple(slice(n) for n in shape)]
    old, new = RULES[reduce](grad, x, index, corner, out, dim=dim, include_self=include_self)
    if not include_self:
        old = _scatter(old, index, zero_of(old), dim=dim)
    if new._array.shape != shapes[2]:
        new = _corner(new, shape=shapes[2])
    return old, None, new


def _sum_rule(grad: Tensor, x: Tensor, index: Tensor, source: Tensor, out: Tensor, *, dim: int,
              include_self: bool) -> Any:
    return grad, _gather(grad, index, dim=dim)


def _mean_rule(grad: Tensor, x: Tensor, index: Tensor, source: Tensor, out: Tensor, *, dim: int,
               include_self: bool) -> Any:
    counts = constant(np.full(x._array.shape, float(include_self), x._array.dtype))
    ones = constant(np.ones(index._array.shape, x._array.dtype))
    counts = _scatter_add(counts, index, ones, dim=dim)
    share = div(grad, clamp_min(counts, 1))
    return share, _gather(share, index, dim=dim)


def _prod_rule(grad: Tensor, x: Tensor, index: Tensor, source: Tensor, out: Tensor, *, dim: int,
               include_self: bool) -> Any:
    """Each factor receives the product of the others, right also when one or several factors are zero."""
    one = constant(np.ones((), x._array.dtype))

    def product(start: Tensor, factors: Tensor) -> Tensor:
        return _scatter_reduce(start, index, factors, dim=dim, reduce="prod", include_self=include_self)

    nonzero_x = _masked_fill(x, x == 0, one)
    old = div(mul(grad, product(nonzero_x, source)), nonzero_x)
    is_zero = eq(source, 0)
    counts = is_zero.to(dtypes.from_numpy(x._array.dtype))
    zeros_met = _scatter_add(zeros(x._array.shape, x), index, counts, dim=dim)
    only_zero = logical_and(is_zero, eq(_gather(zeros_met, index, dim=dim), 1))
    without = product(x, _masked_fill(source, only_zero, one))
    new = where(only_zero, _gather(mul(grad, without), index, dim=dim),
                div(_gather(mul(grad, out), index, dim=dim), _masked_fill(source, is_zero, one)))
    return old, new


def _extreme_rule(grad: Tensor, x: Tensor, index: Tensor, source: Tensor, out: Tensor, *, dim: int,
                  include_self: bool) -> Any:
    """All that equal the extreme share the gradient evenly."""
    dtype = x._array.dtype
    x_wins = eq(x, out).to(dtypes.from_numpy(dtype))
    source_wins = eq(source, _gather(out, index, dim=dim)).to(dtypes.from_numpy(dtype))
    winners = _scatter_add(x_wins, index, source_wins, dim=dim)
    share = div(grad, winners)
    return mul(x_wins, share), mul(source_wins, _gather(share, index, dim=dim))


RULES = {"sum": _sum_rule, "mean": _mean_rule, "prod": _prod_rule, "amax": _extreme_rule, "amin": _extreme_rule}


def _scatter_reduce_form(apply: Any, input: Tensor, dim: Any, index: Tensor, src: Tensor, reduce: str, *,
                         include_self: bool = True) -> Tensor:
    """`src` combined with what is at positions along `dim`: "sum", "prod", "mean", "amax" or "amin".

    With `include_self=False` the old values do not take part where something arrives.
    """
    if reduce not in RULES:
        raise RuntimeError(f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}")
    dim = _check_gather("scatter", input, dim, index, src)
    _check_types("scatter", input, src)
    return apply(_scatter_reduce, input, index, src, dim=dim, reduce=reduce, include_self=include_self)


def _index_reduce_form(apply: Any, input: Tensor, dim: Any, index: Tensor, source: Tensor, reduce: str, *,
                       include_self: bool = True) -> Tensor:
    """Like `index_add` with another way to combine: "prod", "mean", "amax" or "amin"."""
    if reduce not in RULES or reduce == "sum":
        raise RuntimeError(f"index_reduce(): Expected reduce to be one of prod, mean, amax or amin but got {reduce}.")
    if input._array.dtype != source._array.dtype:
        raise RuntimeError(f"index_reduce(): self ({scalar_name(input._array.dtype)}) and source "
                           f"({scalar_name(source._array.dtype)}) must have the same scalar type")
    dim = check_along("index_reduce", input, dim, index, source)
    if input._array.ndim > 0:
        shape = [1] * input._array.ndim
        shape[dim] = index._array.size
        if source._array.ndim == 0:
            source = reshape(source, [1] * input._array.ndim)
        index = _expand(reshape(index, shape), shape=source._array.shape)
    else:
        index, source = reshape(index, ()), reshape(source, ())
    return apply(_scatter_reduce, input, index, source, dim=dim, reduce=reduce, include_self=include_self)


scatter, scatter_ = both("scatter", _scatter_form)
scatter_add, scatter_add_ = both("scatter_add", _scatter_add_form)
scatter_reduce, scatter_reduce_ = both("scatter_reduce", _scatter_reduce_form)
index_reduce, index_reduce_ = both("index_reduce", _index_reduce_form)


def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """Values at `indices` along `dim`, other dimensions broadcasting; without `dim`, both flattened."""
    if indices._array.dtype != np.int64:
        raise RuntimeError("torch.take_along_dim(): dtype of indices should be Long but got "
                           f"{scalar_name(indices._array.dtype)}")
    if dim is None:
        return gather(reshape(input, -1), 0, reshape(indices, -1))
    if input._array.ndim != indices._array.ndim:
        raise RuntimeError("torch.take_along_dim(): input and indices should have the same number of dimensions, but "
                           "got "
                           f"{input._array.ndim} dimensions for input, and {indices._array.ndim} dimensions for "
                           "indices")
    dim = wrap_dim(dim, input._array.ndim)
    if input._array.ndim == 0:
        return gather(input, dim, indices)
    n, m = list(input._array.shape), list(indices._array.shape)
    size, wanted = n[dim], m[dim]
    n[dim] = m[dim] = 1
    shape = list(common_shape(tuple(n), tuple(m)))
    input = input.expand(shape[:dim] + [size] + shape[dim + 1 :])
    indices = indices.expand(shape[:dim] + [wanted] + shape[dim + 1 :])
    return gather(input, dim, indices if not size else computed(lambda i: i % size, indices))

