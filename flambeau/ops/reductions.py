"""Sums, means, extremes and norms over dimensions."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core.dispatch import primitive
from flambeau.core.inplace import scalar_name
from flambeau.core.tensor import Tensor, constant, dim_of_name, wrap_dim
from flambeau.ops.casting import to_dtype
from flambeau.ops.comparison import eq, ne
from flambeau.ops.pointwise import conj, div, mul, sub, where, zero_of
from flambeau.ops.shape import _expand, _rejoin, _slice, _unsqueeze, reshape


def wrap_dims(dim: Any, input: Tensor, *, empty_is_all: bool = True) -> tuple[int, ...]:
    """The dimensions meant by None, a number, a name or a sequence, counted from the front."""
    n = input._array.ndim
    if dim is None:
        return tuple(range(n))
    if isinstance(dim, (tuple, list)):
        given = tuple(dim)
        if not given and empty_is_all:
            return tuple(range(n))
    else:
        given = (dim,)
    dims = tuple(dim_of_name(input, d) if isinstance(d, str) else wrap_dim(d, n) for d in given)
    if len(set(dims)) != len(dims):
        repeated = next(d for d in dims if dims.count(d) > 1)
        raise RuntimeError(f"dim {repeated} appears multiple times in the list of dims")
    return dims


def axes(dims: tuple[int, ...], x: Any) -> tuple[int, ...]:
    """Dimensions as NumPy axes: a 0-d array has none."""
    return dims if x.ndim else ()


def restore(value: Tensor, dims: tuple[int, ...], keepdim: bool, ndim: int) -> Tensor:
    """A reduced result with the reduced dimensions back as size 1, to broadcast against the input."""
    if keepdim or ndim == 0:
        return value
    for d in sorted(dims):
        value = _unsqueeze(value, dim=d)
    return value


LONG = 256  # elements that may be added up one by one in one float
_SHORT = 64  # elements of the innermost axis
_ROOM = 1 << 15  # running sums at a time, in the first- and second-level cache


def sum_along(x: np.ndarray, axis: int) -> np.ndarray:
    """Sum over one axis that is not the last, in blocks of at most `LONG`, then over the blocks' sums.

    NumPy adds such an axis row after row: on (1000000, 4) in float32 that lost two digits and took twice the time.
    """
    n, lead, trail = x.shape[axis], x.shape[:axis], x.shape[axis + 1 :]
    if n < LONG:
        return np.add.reduce(x, axis)
    # `rows` running sums, each over every rows-th element of one of `blocks` blocks
    rows = max(1, min(int(n**0.5), _ROOM // math.prod(trail)))
    blocks = -(-(n // rows) // LONG)
    terms = n // rows // blocks
    whole = blocks * terms * rows
    before = (slice(None),) * axis
    head, rest = (*before, slice(whole)), (*before, slice(whole, n))
    split = x[head].reshape(*lead, blocks, terms, rows, *trail)
    partial = np.add.reduce(split, axis + 1).reshape(*lead, blocks * rows, *trail)
    sums = sum_along(partial, axis)
    if whole != n:
        sums += sum_along(x[rest], axis)
    return sums


@functools.lru_cache(maxsize=4096)
def _by_blocks(shape: Any, strides: Any, dims: Any) -> Any:
    """How to sum over `dims` by `sum_along`; None where NumPy adds no more than `LONG` elements one by one.

    It adds the axis of the smallest stride in pairs, and all others row after row. Else: the axes in the order of
    memory, their sizes with neighbours joined, the joined axes to sum over, and the same for what is left.
    """
    order = sorted(range(len(shape)), key=lambda d: -abs(strides[d]) or -math.inf)  # repeated ones come first
    joined: list[list[Any]] = []  # size, stride, whether to sum
    for d in order:
        if shape[d] == 1:
            continue
        if joined and joined[-1][1] == strides[d] * shape[d] and joined[-1][2] == (d in dims):
            joined[-1][:2] = joined[-1][0] * shape[d], strides[d]
        else:
            joined.append([shape[d], strides[d], d in dims])
    if math.prod(size for size, _, summed in joined[:-1] if summed) < LONG:
        return None
    kept = [d for d in order if d not in dims]
    along = [i for i in reversed(range(len(joined) - 1)) if joined[i][2]]
    if joined[-1][2]:
        # If it is short, a loop of its own for each of its sums would be slow.
        along = [-1, *along] if joined[-1][0] >= _SHORT else [*along, -1]
    return (
        order,
        [size for size, _, _ in joined],
        along,
        [shape[d] for d in kept],
        [kept.index(d) for d in sorted(kept)],
    )


def total(x: Any, dims: Any, keepdim: bool) -> Any:
    """Sum over dimensions in the type of `x`; the error grows slowly with their size, in any order of memory."""
    everything = len(dims) == x.ndim and not keepdim
    way = None
    if x.size >= LONG and dims and not (everything and x.flags.forc):
        way = _by_blocks(x.shape, x.strides, dims)
    if way is None:
        if everything:
            return np.add.reduce(x, None)  # measured: half the time of naming all axes
        return np.add.reduce(x, axis=axes(dims, x), keepdims=keepdim)
    order, joined, summed, left, back = way
    sums = np.asarray(x).transpose(order).reshape(joined)
    for axis in summed:
        sums = np.add.reduce(sums, -1) if axis == -1 else sum_along(sums, axis)
    sums = sums.reshape(left).transpose(back)
    return np.expand_dims(sums, dims) if keepdim else sums


@primitive("sum")
def _sum(x: Any, *, dims: Any, keepdim: bool) -> Any:
    if x.dtype.itemsize == 2 and x.dtype.kind in "fV":  # half-width floats add up in float32
        return total(x.astype(np.float32), dims, keepdim).astype(x.dtype)
    return total(x, dims, keepdim)


@_sum.vjp
def _sum_vjp(grad: Tensor, dims: Any, keepdim: bool, shapes: Any) -> Any:
    shape = shapes[0]
    return _expand(restore(grad, dims, keepdim, len(shape)), shape=shape)


def sum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: dtypes.dtype | None = None) -> Tensor:
    """Sum over all elements or over `dim`. Integers and bools add up in int64; `dtype` casts first."""
    dims = wrap_dims(dim, input)
    if dtype is not None:
        input = _cast_first(input, dtype)
    elif input._array.dtype.kind in "biu" and input._array.dtype.num != 7:
        input = _cast_first(input, dtypes.int64)
    return _sum(input, dims=dims, keepdim=keepdim)


def _cast_first(input: Tensor, dtype: dtypes.dtype) -> Tensor:
    return input if input._array.dtype == dtype.numpy else to_dtype(input, dtype.numpy)


def sum_to_shape(g: Tensor, shape: Any) -> Tensor:
    """Undo broadcasting: sum over the dimensions in which `shape` has size 1 or none. RuntimeError if it cannot be."""
    have = g._array.shape
    added = len(have) - len(shape)
    dims = tuple(range(added)) + tuple(d for d in range(added, len(have)) if shape[d - added] == 1 and have[d] != 1)
    if added < 0:
        return reshape(g, shape) if g._array.size == np.prod(shape, dtype=int) else _expand(g, shape=shape)
    if dims:
        g = _sum(g, dims=dims, keepdim=False)
    if g._array.shape != shape:
        g = reshape(g, shape)
    return g


def mean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: dtypes.dtype | None = None) -> Tensor:
    """Mean over all elements or over `dim`. RuntimeError for integers without `dtype`."""
    if dtype is not None:
        input = _cast_first(input, dtype)
    if input._array.dtype.kind in "biu":
        raise RuntimeError(
            "mean(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. Got: "
            f"{scalar_name(input._array.dtype)}"
        )
    return _mean(input, dims=wrap_dims(dim, input), keepdim=keepdim)


@primitive("mean")
def _mean(x: Any, *, dims: Any, keepdim: bool) -> Any:
    count = np.prod([x.shape[d] for d in axes(dims, x)], dtype=np.int64) if x.ndim else 1
    wide = x.astype(np.float32) if x.dtype.itemsize == 2 else x
    sums = total(wide, dims, keepdim)
    return np.asanyarray(np.true_divide(sums, wide.dtype.type(count))).astype(x.dtype, copy=False)


@_mean.vjp
def _mean_vjp(grad: Tensor, dims: Any, keepdim: bool, shapes: Any) -> Any:
    shape = shapes[0]
    count = int(np.prod([shape[d] for d in dims], dtype=np.int64)) if shape else 1
    return _expand(div(restore(grad, dims, keepdim, len(shape)), float(count) if count else float("nan")), shape=shape)


# ---- products ---------------------------------------------------------------------------------------


@primitive("prod")
def _prod(x: Any, *, dim: int | None, keepdim: bool) -> Any:
    axis = None if dim is None or x.ndim == 0 else dim
    if x.dtype.itemsize == 2 and x.dtype.kind in "fV":
        return x.astype(np.float32).prod(axis=axis, keepdims=keepdim).astype(x.dtype)
    if x.dtype.kind == "b":
        return np.logical_and.reduce(x, axis=axis, keepdims=keepdim)
    return np.multiply.reduce(x, axis=axis, keepdims=keepdim)


@_prod.vjp
def _prod_vjp(grad: Tensor, x: Tensor, dim: int | None, keepdim: bool) -> Any:
    if dim is None:
        flat = reshape(x, (-1,))
        return reshape(mul(reshape(grad, ()), conj(_others(flat, 0))), x._array.shape)
    if x._array.ndim == 0:
        return grad
    full = restore(grad, (dim,), keepdim, x._array.ndim)
    return mul(full, conj(_others(x, dim)))


def _others(x: Tensor, dim: int) -> Tensor:
    """For each element the product of all others along `dim`, right with any number of zeros."""
    n = x._array.shape[dim]
    ones = constant(np.ones(tuple(1 if d == dim else s for d, s in enumerate(x._array.shape)), x._array.dtype))
    before, after = [ones], [ones]
    for i in range(n - 1):
        before.append(mul(before[-1], _slice(x, dim=dim, start=i, stop=i + 1, step=1)))
        after.append(mul(after[-1], _slice(x, dim=dim, start=n - 1 - i, stop=n - i, step=1)))
    if n == 0:
        return x
    return mul(_rejoin(*before, dim=dim), _rejoin(*after[::-1], dim=dim))


def prod(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: dtypes.dtype | None = None) -> Tensor:
    """Product over all elements or over one dimension. Integers and bools multiply in int64; `dtype` casts first."""
    if dtype is not None:
        input = _cast_first(input, dtype)
    elif input._array.dtype.kind in "biu":
        input = _cast_first(input, dtypes.int64)
    if dim is None:
        return _prod(input, dim=None, keepdim=keepdim)
    return _prod(input, dim=wrap_dims(dim, input)[0], keepdim=keepdim)


# ---- spread -----------------------------------------------------------------------------------------


@primitive("var")
def _var(x: Any, *, dims: Any, correction: float, keepdim: bool) -> Any:
    wide = x.astype(np.float32) if x.dtype.itemsize == 2 else x
    count = int(np.prod([x.shape[d] for d in axes(dims, x)], dtype=np.int64)) if x.ndim else 1
    centre = np.true_divide(total(wide, axes(dims, x), True), wide.real.dtype.type(max(count, 1)))
    apart = np.subtract(wide, centre)
    squares = total(np.square(np.abs(apart) if wide.dtype.kind == "c" else apart), axes(dims, x), keepdim)
    divisor = max(count - correction, 0)
    out = np.true_divide(squares, squares.dtype.type(divisor)) if count else np.full_like(squares, np.nan)
    return np.asarray(out).astype(x.real.dtype if x.dtype.kind == "c" else x.dtype, copy=False)


@_var.vjp
def _var_vjp(grad: Tensor, x: Tensor, dims: Any, correction: float, keepdim: bool) -> Any:
    count = int(np.prod([x._array.shape[d] for d in dims], dtype=np.int64)) if x._array.ndim else 1
    full = restore(grad, dims, keepdim, x._array.ndim)
    left = count - correction
    apart = sub(x, _mean(x, dims=dims, keepdim=True) if x._array.ndim else x)
    return mul(mul(full, 2 / left if left > 0 else float("nan")), apart)


def _spread_arguments(name: str, input: Tensor, dim: Any, unbiased: Any, correction: Any) -> tuple[Any, float]:
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if unbiased is not None:
        correction = 1 if unbiased else 0
    if input.dtype.category < dtypes.FLOAT:
        raise RuntimeError(f"{name}: std and var only support floating point and complex dtypes")
    return wrap_dims(dim, input), 1 if correction is None else correction


def var(
    input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None
) -> Tensor:
    """Variance: squared distance from the mean, summed and divided by count - correction (1)."""
    dims, correction = _spread_arguments("var", input, dim, unbiased, correction)
    return _var(input, dims=dims, correction=correction, keepdim=keepdim)


@primitive("std")
def _std(x: Any, *, dims: Any, correction: float, keepdim: bool) -> Any:
    return np.sqrt(_var.op.kernel(x, dims=dims, correction=correction, keepdim=keepdim))


@_std.vjp
def _std_vjp(grad: Tensor, x: Tensor, out: Tensor, dims: Any, correction: float, keepdim: bool) -> Any:
    flat = where(eq(out, 0), zero_of(grad), div(grad, mul(out, 2)))
    return _var_vjp(flat, x, dims, correction, keepdim)


def std(
    input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None
) -> Tensor:
    """Standard deviation: the square root of `var`."""
    dims, correction = _spread_arguments("std", input, dim, unbiased, correction)
    return _std(input, dims=dims, correction=correction, keepdim=keepdim)


def var_mean(
    input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None
) -> tuple[Tensor, Tensor]:
    """Variance and mean."""
    dims, correction = _spread_arguments("var_mean", input, dim, unbiased, correction)
    return _var(input, dims=dims, correction=correction, keepdim=keepdim), _mean(input, dims=dims, keepdim=keepdim)


def std_mean(
    input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None
) -> tuple[Tensor, Tensor]:
    """Standard deviation and mean."""
    dims, correction = _spread_arguments("std_mean", input, dim, unbiased, correction)
    return _std(input, dims=dims, correction=correction, keepdim=keepdim), _mean(input, dims=dims, keepdim=keepdim)


# ---- truth and counting --------------------------------------------------------------------------------

_COUNTS = "a count or a truth value is constant almost everywhere"


@primitive("all", no_gradient=_COUNTS)
def _all(x: Any, *, dims: Any, keepdim: bool) -> Any:
    return _truth(np.logical_and.reduce(x, axis=axes(dims, x), keepdims=keepdim), x)


@primitive("any", no_gradient=_COUNTS)
def _any(x: Any, *, dims: Any, keepdim: bool) -> Any:
    return _truth(np.logical_or.reduce(x, axis=axes(dims, x), keepdims=keepdim), x)


def _truth(value: Any, x: Any) -> Any:
    """uint8 was PyTorch's bool once: its truth values stay uint8."""
    return np.asarray(value).astype(np.uint8 if x.dtype == np.uint8 else np.bool_)


def all(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether all elements are true, over everything or over `dim`."""
    if dim is not None and not isinstance(dim, int) and len(dim) == 0:
        return (input != 0) if input.dtype is not dtypes.uint8 else (input != 0).to(dtypes.uint8)
    return _all(input, dims=wrap_dims(dim, input), keepdim=keepdim)


def any(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether any element is true, over everything or over `dim`."""
    if dim is not None and not isinstance(dim, int) and len(dim) == 0:
        return (input != 0) if input.dtype is not dtypes.uint8 else (input != 0).to(dtypes.uint8)
    return _any(input, dims=wrap_dims(dim, input), keepdim=keepdim)


@primitive("count_nonzero", no_gradient=_COUNTS)
def _count_nonzero(x: Any, *, dims: Any) -> Any:
    return np.asarray(np.count_nonzero(x, axis=axes(dims, x)), np.int64)


def count_nonzero(input: Tensor, dim: Any = None) -> Tensor:
    """How many elements are not zero, as int64."""
    return _count_nonzero(input, dims=wrap_dims(dim, input))


def nansum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: dtypes.dtype | None = None) -> Tensor:
    """Sum in which nan counts as 0."""
    if input.dtype.is_complex:
        raise RuntimeError("nansum does not support complex inputs")
    return sum(
        input if input.dtype.category < dtypes.FLOAT else where(ne(input, input), zero_of(input), input),
        dim,
        keepdim,
        dtype=dtype,
    )


def nanmean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: dtypes.dtype | None = None) -> Tensor:
    """Mean of the elements that are not nan."""
    if input.dtype.category < dtypes.FLOAT:
        raise RuntimeError(f"nanmean(): expected input to have floating point or complex dtype but got {input.dtype}")
    count = sum(eq(input, input), dim, keepdim)
    return div(nansum(input, dim, keepdim, dtype=dtype), count)
