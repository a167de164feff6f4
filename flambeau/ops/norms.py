"""Norms, logsumexp and distances between whole tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core.dispatch import primitive
from flambeau.core.inplace import write_out
from flambeau.core.tensor import Tensor, constant
from flambeau.ops import pointwise
from flambeau.ops.comparison import eq
from flambeau.ops.decompositions import svdvals
from flambeau.ops.extremes import _amax, _amin
from flambeau.ops.pointwise import abs as abs_
from flambeau.ops.pointwise import div, exp, mul, pow, sgn, sub, where, zero_of
from flambeau.ops.reductions import _cast_first, _sum, axes, restore, total, wrap_dims
from flambeau.ops.shape import permute

INF = float("inf")


@primitive("logsumexp", float_op=True)
def _logsumexp(x: Any, *, dims: Any, keepdim: bool) -> Any:
    wide = x.astype(np.float32) if x.dtype.itemsize == 2 else x
    ax = axes(dims, x)
    if x.size == 0:
        return np.log(np.add.reduce(np.exp(wide), axis=ax, keepdims=keepdim)).astype(x.dtype)
    top = np.maximum.reduce(wide.real, axis=ax, keepdims=True)
    top = np.where(np.isinf(top), 0, top).astype(top.dtype)
    out = np.log(total(np.exp(wide - top), ax, True)) + top
    return (out if keepdim else np.squeeze(out, ax)).astype(x.dtype, copy=False)


@_logsumexp.vjp
def _logsumexp_vjp(grad: Tensor, x: Tensor, out: Tensor, dims: Any, keepdim: bool) -> Any:
    ndim = x._array.ndim
    return mul(restore(grad, dims, keepdim, ndim), pointwise.conj(exp(sub(x, restore(out, dims, keepdim, ndim)))))


def logsumexp(input: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """log(sum(exp(input))) over `dim`, without overflow."""
    return _logsumexp(input, dims=wrap_dims(dim, input), keepdim=keepdim)


def _check_order(ord: Any, input: Tensor, dims: Any) -> None:
    shape = input._array.shape
    if ord < 0 or ord == INF:
        size = int(np.prod([shape[d] for d in dims], dtype=np.int64)) if shape else 1
        if size == 0:
            raise RuntimeError(
                f"linalg.vector_norm cannot compute the {ord} norm on an empty tensor because the operation does not "
                f"have an identity"
            )


def vector_norm(
    x: Tensor, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: dtypes.dtype | None = None
) -> Tensor:
    """(sum |x|^ord)^(1/ord) over `dim` (all elements by default); inf, -inf and 0 as limits.

    RuntimeError for integers.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"linalg_vector_norm(): argument 'input' (position 1) must be Tensor, not {type(x).__name__}")
    if x.dtype.category < dtypes.FLOAT:
        raise RuntimeError(
            f"linalg.vector_norm: Expected a floating point or complex tensor as input. Got {_title(x.dtype)}"
        )
    if dtype is not None:
        x = _cast_first(x, dtype)
    dims = wrap_dims(dim, x)
    ord = float(ord)
    _check_order(ord, x, dims)
    if ord == INF:
        return _amax(abs_(x), dims=dims, keepdim=keepdim)
    if ord == -INF:
        return _amin(abs_(x), dims=dims, keepdim=keepdim)
    return _norm(x, ord=ord, dims=dims, keepdim=keepdim)


def _title(d: dtypes.dtype) -> str:
    return {"int64": "Long", "int32": "Int", "int16": "Short", "int8": "Char", "uint8": "Byte", "bool": "Bool"}.get(
        d.name, d.name
    )


@primitive("norm", grad_name="LinalgVectorNormBackward0")
def _norm(x: Any, *, ord: float, dims: Any, keepdim: bool) -> Any:
    wide = x.astype(np.float32) if x.dtype.itemsize == 2 else x
    real = x.real.dtype if x.dtype.kind == "c" else x.dtype
    ax = axes(dims, x)
    size = np.abs(wide)
    if ord == 0:
        out = np.add.reduce(size != 0, axis=ax, keepdims=keepdim, dtype=size.dtype)
    elif ord == 1:
        out = np.add.reduce(size, axis=ax, keepdims=keepdim)
    elif ord == 2:
        out = np.sqrt(np.add.reduce(np.square(size), axis=ax, keepdims=keepdim))
    else:
        out = np.power(np.add.reduce(np.power(size, ord), axis=ax, keepdims=keepdim), 1 / ord)
    return np.asarray(out).astype(real, copy=False)


@_norm.vjp
def _norm_vjp(grad: Tensor, x: Tensor, out: Tensor, ord: float, dims: Any, keepdim: bool) -> Any:
    """The derivative at 0 is 0 where PyTorch chooses so."""
    ndim = x._array.ndim
    grad, out = restore(grad, dims, keepdim, ndim), restore(out, dims, keepdim, ndim)
    if ord == 0:
        return mul(zero_of(grad), x)
    if ord == 1:
        return mul(grad, sgn(x))
    if ord == 2:
        return mul(x, where(eq(out, 0), zero_of(grad), div(grad, out)))
    if ord < 1:
        slope = mul(sgn(x), where(eq(x, 0), zero_of(grad), pow(abs_(x), ord - 1)))
        return mul(slope, mul(grad, pow(out, 1 - ord)))
    slope = mul(sgn(x), pow(abs_(x), ord - 1)) if ord < 2 else mul(x, pow(abs_(x), ord - 2))
    scale = where(eq(out, 0), zero_of(grad), div(grad, pow(out, ord - 1)))
    return mul(slope, scale)


def matrix_norm(
    A: Tensor, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: dtypes.dtype | None = None
) -> Tensor:
    """Norm of matrices in the two dimensions `dim`: "fro", "nuc", inf, -inf, 1, -1, 2, -2."""
    if A._array.ndim < 2:
        raise RuntimeError("linalg.matrix_norm: The input tensor A must have at least 2 dimensions.")
    if A.dtype.category < dtypes.FLOAT:
        raise RuntimeError(
            f"linalg.matrix_norm: Expected a floating point or complex tensor as input. Got {_title(A.dtype)}"
        )
    if isinstance(dim, int) or len(dim) != 2:
        raise RuntimeError("linalg.matrix_norm: dim must be a 2-tuple of ints")
    rows, columns = wrap_dims(dim, A)
    if rows == columns:
        raise RuntimeError(f"linalg.matrix_norm: dims must be different. Got ({dim[0]}, {dim[1]})")
    if dtype is not None:
        A = _cast_first(A, dtype)
    if ord == "fro":
        return _norm(A, ord=2.0, dims=(rows, columns), keepdim=keepdim)
    if ord in ("nuc", 2, -2):
        n = A._array.ndim
        order = [d for d in range(n) if d not in (rows, columns)] + [rows, columns]
        values = svdvals(permute(A, order))
        last = (values._array.ndim - 1,)
        if ord == "nuc":
            out = _sum(values, dims=last, keepdim=False)
        else:
            out = _largest_or_smallest(values, last, False, ord == 2)
        return restore(out, (rows, columns), False, n) if keepdim else out
    if ord in (1, -1, INF, -INF):
        first, second = (rows, columns) if ord in (1, -1) else (columns, rows)
        sums = _sum(abs_(A), dims=(first,), keepdim=keepdim)
        left = second if keepdim or second < first else second - 1
        return _largest_or_smallest(sums, (left,), keepdim, ord > 0)
    raise RuntimeError(f"linalg.matrix_norm: Order {ord} not supported.")


def _largest_or_smallest(values: Tensor, dims: Any, keepdim: bool, largest: bool) -> Tensor:
    """The extreme of norms, which are not negative: the largest of none is 0, the smallest an IndexError."""
    if values._array.shape[dims[0]] == 0:
        if largest:
            return _sum(values.detach(), dims=dims, keepdim=keepdim)
        raise IndexError(f"amin(): Expected reduction dim {dims[0]} to have non-zero size.")
    return (_amax if largest else _amin)(values, dims=dims, keepdim=keepdim)


def linalg_norm(
    A: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: dtypes.dtype | None = None
) -> Tensor:
    """A vector norm, or a matrix norm when `dim` names two dimensions (or is None for a matrix and `ord` is given)."""
    if ord is None:
        if dim is None:
            out = vector_norm(A.reshape(-1), 2, dtype=dtype)
            return out.reshape((1,) * A._array.ndim) if keepdim else out
        return vector_norm(A, 2, dim, keepdim, dtype=dtype)
    if dim is None:
        if A._array.ndim > 2:
            raise RuntimeError(
                "linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got "
                + f"{A._array.ndim}D."
            )
        dim = tuple(range(A._array.ndim)) if A._array.ndim == 2 else None
        if A._array.ndim == 0:
            dim = 0
    two = dim is not None and not isinstance(dim, int) and len(dim) == 2
    return matrix_norm(A, ord, dim, keepdim, dtype=dtype) if two else vector_norm(A, ord, dim, keepdim, dtype=dtype)


def norm(
    input: Tensor,
    p: Any = "fro",
    dim: Any = None,
    keepdim: bool = False,
    out: Any = None,
    dtype: dtypes.dtype | None = None,
) -> Tensor:
    """The older norm: p is a number, "fro" or "nuc"; over all elements or `dim`."""
    if p == "fro" or p is None:
        result = vector_norm(input, 2, dim, keepdim, dtype=dtype)
    elif p == "nuc":
        result = matrix_norm(input, "nuc", (-2, -1) if dim is None else dim, keepdim, dtype=dtype)
    elif isinstance(p, str):
        raise RuntimeError(f"unsupported norm type {p}")
    else:
        result = vector_norm(input, p, dim, keepdim, dtype=dtype)
    if out is not None:
        return write_out(result, out, "norm")
    return result


def dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    """The p-norm of the difference."""
    return vector_norm(sub(input, other), p)


def renorm(input: Tensor, p: float, dim: int, maxnorm: float) -> Tensor:
    """Each slice along `dim` scaled down to a p-norm of at most `maxnorm`."""
    (dim,) = wrap_dims(dim, input)
    if input._array.ndim < 2:
        raise RuntimeError(f"renorm: input needs at least 2 dimensions, got {input._array.ndim} dimensions")
    if p <= 0:
        raise RuntimeError("renorm: non-positive-norm not supported")
    if maxnorm < 0:
        raise RuntimeError(f"renorm: expected maxnorm to be >= 0 but got {maxnorm}")
    others = tuple(d for d in range(input._array.ndim) if d != dim)
    size = vector_norm(input, p, others, True)
    factor = where(size > maxnorm, div(maxnorm, size + 1e-7), constant(np.ones((), size._array.dtype)))
    return mul(input, factor)
