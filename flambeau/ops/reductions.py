"""Sums, means, extremes and norms over dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core.dispatch import primitive
from flambeau.core.inplace import scalar_name
from flambeau.core.tensor import Tensor, dim_of_name, wrap_dim
from flambeau.ops.casting import to_dtype
from flambeau.ops.pointwise import div
from flambeau.ops.shape import _expand, _unsqueeze, reshape


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


@primitive("sum")
def _sum(x: Any, *, dims: Any, keepdim: bool) -> Any:
    if x.dtype.itemsize == 2 and x.dtype.kind in "fV":  # half-width floats add up in float32
        return x.astype(np.float32).sum(axis=axes(dims, x), keepdims=keepdim).astype(x.dtype)
    return np.add.reduce(x, axis=axes(dims, x), keepdims=keepdim)


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
    dims = tuple(range(added)) + tuple(
        d for d in range(added, len(have)) if shape[d - added] == 1 and have[d] != 1
    )
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
    total = np.add.reduce(wide, axis=axes(dims, x), keepdims=keepdim)
    return np.asarray(np.true_divide(total, wide.dtype.type(count))).astype(x.dtype, copy=False)


@_mean.vjp
def _mean_vjp(grad: Tensor, dims: Any, keepdim: bool, shapes: Any) -> Any:
    shape = shapes[0]
    count = int(np.prod([shape[d] for d in dims], dtype=np.int64)) if shape else 1
    return _expand(div(restore(grad, dims, keepdim, len(shape)), float(count) if count else float("nan")), shape=shape)
