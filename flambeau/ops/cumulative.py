"""Running sums, products and extremes along a dimension."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core import recording
from flambeau.core.dispatch import primitive
from flambeau.core.inplace import scalar_name
from flambeau.core.modes import modes
from flambeau.core.return_types import TYPES
from flambeau.core.tensor import Tensor, constant, wrap, wrap_dim
from flambeau.ops.casting import to_dtype
from flambeau.ops.comparison import eq, gt, logical_and
from flambeau.ops.indexing_kernels import HALF_WIDTH, at_least_1d, zeros
from flambeau.ops.masking import _masked_fill
from flambeau.ops.pointwise import add, div, exp, log, mul, neg, sub, where, zero_of
from flambeau.ops.rearranging import _flip
from flambeau.ops.reductions import LONG, _sum
from flambeau.ops.scattering import _scatter_add

_WIDER = {np.dtype(np.float32): np.dtype(np.float64), np.dtype(np.complex64): np.dtype(np.complex128)}


def accumulated(run: Any, x: np.ndarray, dim: int) -> np.ndarray:
    """A ufunc's running result. Half-width floats run in float32, and where errors would add up, float32 in float64."""
    wide = x.astype(np.float32) if x.dtype.itemsize == HALF_WIDTH and x.dtype.kind in "fV" else x
    long = x.ndim > 0 and x.shape[dim] >= LONG
    out = run.accumulate(at_least_1d(wide), axis=dim, dtype=_WIDER.get(x.dtype) if long else None)
    return out.reshape(x.shape).astype(x.dtype, copy=False)


def _prepared(input: Tensor, dim: Any, dtype: Any) -> tuple[Tensor, int]:
    """The input cast to `dtype`, or small integers to int64, and the dimension from the front."""
    dim = wrap_dim(dim, input._array.ndim, input)
    target = dtype.numpy if dtype is not None else np.dtype(np.int64) if input._array.dtype.kind in "biu" else None
    if target is not None and input._array.dtype != target:
        input = to_dtype(input, target)
    return input, dim


def _backwards(run: Any, x: Tensor, dim: int) -> Tensor:
    """A running result from the end."""
    dims = (dim,) if x._array.ndim else ()
    return _flip(run(_flip(x, dims=dims), dim=dim), dims=dims)


@primitive("cumsum")
def _cumsum(x: Any, *, dim: int) -> Any:
    return accumulated(np.add, x, dim)


_cumsum.vjp(x=lambda grad, dim: _backwards(_cumsum, grad, dim))


def cumsum(input: Tensor, dim: Any, *, dtype: dtypes.dtype | None = None) -> Tensor:
    """Running sums along `dim`; integers and bools in int64."""
    input, dim = _prepared(input, dim, dtype)
    return _cumsum(input, dim=dim)


@primitive("cumprod")
def _cumprod(x: Any, *, dim: int) -> Any:
    return accumulated(np.multiply, x, dim)


@_cumprod.vjp
def _cumprod_vjp(grad: Tensor, x: Tensor, out: Tensor, dim: int) -> Any:
    """d/dx_k = sum over j >= k of grad_j times the product of all x_i up to j but x_k."""
    if recording.recorder is None and not (x._array == 0).any():  # a record must hold for other values too
        return div(_backwards(_cumsum, mul(grad, out), dim), x)
    if modes.grad:
        return _cumprod_vjp_products(grad, x, dim)
    is_zero = eq(x, 0)
    met = _cumsum(is_zero.to(dtypes.int64), dim=dim)
    first = logical_and(is_zero, eq(met, 1))
    one = constant(np.ones((), x._array.dtype))
    before = div(_backwards(_cumsum, mul(grad, out), dim), _masked_fill(x, is_zero, one))
    at_zero = _backwards(_cumsum, mul(grad, _cumprod(_masked_fill(x, first, one), dim=dim)), dim)
    return where(first, at_zero, _masked_fill(before, gt(met, 0), zero_of(before)))


def _cumprod_vjp_products(grad: Tensor, x: Tensor, dim: int) -> Tensor:
    """The same from explicit products, so that it can be differentiated where x has zeros."""
    if x._array.ndim == 0:
        return grad
    # Row k of a new first dimension: x without x_k, multiplied up, from place k on.
    n, rank = x._array.shape[dim], x._array.ndim
    along = [1] * rank
    along[dim] = n
    place, row = np.arange(n).reshape(along), np.arange(n).reshape(n, *[1] * rank)
    one = constant(np.ones((), x._array.dtype))
    others = _cumprod(where(constant(place == row), one, x), dim=dim + 1)
    tail = where(constant(place >= row), mul(grad, others), zero_of(grad))
    return _sum(tail, dims=(dim + 1,), keepdim=False).movedim(0, dim)


def cumprod(input: Tensor, dim: Any, *, dtype: dtypes.dtype | None = None) -> Tensor:
    """Running products along `dim`; integers and bools in int64. The derivative holds where elements are zero too."""
    input, dim = _prepared(input, dim, dtype)
    return _cumprod(input, dim=dim)


# ---- running extremes ----------------------------------------------------------------------------------------


def _running(run: Any, x: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Running extremes and the last position that holds each; nan stays once met."""
    flat = at_least_1d(x)
    values = run.accumulate(flat, axis=dim)
    here = np.arange(flat.shape[dim]).reshape((-1,) + (1,) * (flat.ndim - dim - 1))
    held = np.where((flat == values) | (flat != flat), here, 0)
    return values.reshape(x.shape), np.maximum.accumulate(held, axis=dim).astype(np.int64, copy=False).reshape(x.shape)


@primitive("cummax", outputs=2)
def _cummax(x: Any, *, dim: int) -> Any:
    return _running(np.maximum, x, dim)


@primitive("cummin", outputs=2)
def _cummin(x: Any, *, dim: int) -> Any:
    return _running(np.minimum, x, dim)


def _to_holders(grad: Any, out1: Tensor, dim: int, shapes: Any) -> Tensor:
    return _scatter_add(zeros(shapes[0], grad[0]), out1, grad[0], dim=dim)


_cummax.vjp(x=_to_holders)
_cummin.vjp(x=_to_holders)


def cummax(input: Tensor, dim: Any) -> Any:
    """(values, indices): running maxima along `dim` and the last position that holds each."""
    return TYPES["cummax"](_cummax(input, dim=wrap_dim(dim, input._array.ndim, input)))


def cummin(input: Tensor, dim: Any) -> Any:
    """(values, indices): running minima along `dim` and the last position that holds each."""
    return TYPES["cummin"](_cummin(input, dim=wrap_dim(dim, input._array.ndim, input)))


@primitive("logcumsumexp")
def _logcumsumexp(x: Any, *, dim: int) -> Any:
    if x.dtype.kind == "c":  # around the largest real part: NumPy's logaddexp knows real numbers only
        flat = at_least_1d(x)
        top = np.max(flat.real, axis=dim, keepdims=True, initial=-np.inf)
        top = np.where(np.isfinite(top), top, 0)
        return (np.log(np.cumsum(np.exp(flat - top), axis=dim)) + top).astype(x.dtype).reshape(x.shape)
    return accumulated(np.logaddexp, x, dim)


@_logcumsumexp.vjp
def _logcumsumexp_vjp(grad: Tensor, x: Tensor, out: Tensor, dim: int) -> Any:
    """exp(x_k) * sum over j >= k of grad_j / exp(out_j), in logarithms, positive and negative parts apart."""
    if modes.grad:  # the logarithm of a part that is zero has no derivative: plainly, around the largest value
        top = at_least_1d(x._array).max(axis=dim, keepdims=True, initial=-np.inf)
        top = np.where(np.isfinite(top), top, 0).astype(x._array.dtype)
        center = wrap(top if x._array.ndim else top.reshape(()))
        return mul(exp(sub(x, center)), _backwards(_cumsum, mul(grad, exp(sub(center, out))), dim))
    lowest = constant(np.array(-np.inf, grad._array.dtype))

    def part(sign: Tensor) -> Tensor:
        logs = where(sign > 0, log(sign), lowest)
        return exp(add(_backwards(_logcumsumexp, sub(logs, out), dim), x))

    return sub(part(grad), part(neg(grad)))


def logcumsumexp(input: Tensor, dim: Any) -> Tensor:
    """Logarithms of the running sums of exponentials along `dim`, without overflow."""
    if input._array.dtype.kind in "biu":
        raise NotImplementedError(f"\"logcumsumexp_out_cpu\" not implemented for '{scalar_name(input._array.dtype)}'")
    return _logcumsumexp(input, dim=wrap_dim(dim, input._array.ndim, input))
