"""Softmax and its relatives."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core.dispatch import primitive
from flambeau.core.inplace import scalar_name
from flambeau.core.modes import modes
from flambeau.core.tensor import Tensor, computed, dim_of_name, wrap, wrap_dim
from flambeau.ops.casting import to_dtype
from flambeau.ops.native import accelerated, large, onednn
from flambeau.ops.pointwise import FORMULA, exp, log, mul, neg, sub
from flambeau.ops.random import exponential_
from flambeau.ops.reductions import sum

# Rows are treated in blocks of about this many elements, which stay in the cache from step to step.
_BLOCK = 1 << 15


def _over_dim(compute: Any) -> Any:
    """A kernel along one dimension: empty and 0-d arrays are taken care of, half-width floats computed in float32."""

    def kernel(x: Any, *, dim: int) -> Any:
        if x.size == 0:
            return np.empty_like(x)
        wide = x.astype(np.float32) if x.dtype.itemsize == 2 else x
        out = np.empty_like(wide)
        if x.ndim == 0:
            compute(wide.reshape(1), 0, out.reshape(1))
        elif dim in (-1, x.ndim - 1) and x.size > _BLOCK and wide.flags.c_contiguous:
            rows, out_rows = wide.reshape(-1, x.shape[-1]), out.reshape(-1, x.shape[-1])
            count = max(1, _BLOCK // x.shape[-1])
            for start in range(0, len(rows), count):
                compute(rows[start : start + count], 1, out_rows[start : start + count])
        else:
            compute(wide, dim, out)
        return out if wide is x else out.astype(x.dtype)

    kernel.__doc__ = compute.__doc__
    return kernel


def _softmax_array(x: Any, axis: int, out: Any) -> None:
    """exp(x), scaled to add up to 1 along a dimension."""
    np.subtract(x, np.maximum.reduce(x, axis=axis, keepdims=True), out=out)  # now exp cannot overflow
    np.exp(out, out=out)
    np.true_divide(out, np.add.reduce(out, axis=axis, keepdims=True), out=out)


def _log_softmax_array(x: Any, axis: int, out: Any) -> None:
    """The logarithm of softmax."""
    np.subtract(x, np.maximum.reduce(x, axis=axis, keepdims=True), out=out)
    np.subtract(out, np.log(np.add.reduce(np.exp(out), axis=axis, keepdims=True)), out=out)


_softmax = primitive("softmax")(_over_dim(_softmax_array))
_log_softmax = primitive("log_softmax")(_over_dim(_log_softmax_array))



@accelerated(_softmax, when=large)
def _onednn_softmax(x: Any, *, dim: int) -> Any:
    """Not for log_softmax, where the library's logarithm is off by 4e-6."""
    out = onednn().softmax(x, dim)
    # A row with nan or infinity is nan throughout; the library makes only one place of it nan.
    return _softmax.op.kernel(x, dim=dim) if np.isnan(np.add.reduce(out, axis=None)) else out



def _slope_over_dim(compute: Any) -> Any:
    """A kernel of a derivative along one dimension; half-width floats are computed in float32."""

    def kernel(grad: Any, y: Any, *, dim: int) -> Any:
        if y.size == 0 or y.ndim == 0:
            return np.zeros_like(y) if not np.isnan(y).any() else y.copy()
        wide, wide_grad = (a.astype(np.float32) if a.dtype.itemsize == 2 else a for a in (y, grad))
        out = np.empty_like(wide)
        if dim in (-1, y.ndim - 1) and wide.flags.c_contiguous:
            flat, out_rows = wide.reshape(-1, y.shape[-1]), out.reshape(-1, y.shape[-1])
            grad_rows = wide_grad.reshape(flat.shape)
            count = max(1, _BLOCK // y.shape[-1])
            for start in range(0, len(flat), count):
                rows = slice(start, start + count)
                compute(grad_rows[rows], flat[rows], 1, out_rows[rows])
        else:
            compute(wide_grad, wide, dim, out)
        return out if wide is y else out.astype(y.dtype)

    return kernel


def _softmax_slope(grad: Any, y: Any, axis: int, out: Any) -> None:
    np.multiply(grad, y, out=out)
    np.subtract(grad, np.add.reduce(out, axis=axis, keepdims=True), out=out)
    out *= y


def _log_softmax_slope(grad: Any, y: Any, axis: int, out: Any) -> None:
    np.exp(y, out=out)
    out *= np.add.reduce(grad, axis=axis, keepdims=True)
    np.subtract(grad, out, out=out)


_softmax_backward = primitive("softmax_backward", no_gradient=FORMULA)(_slope_over_dim(_softmax_slope))
_log_softmax_backward = primitive("log_softmax_backward", no_gradient=FORMULA)(_slope_over_dim(_log_softmax_slope))


@_softmax.vjp
def _softmax_vjp(grad: Tensor, out: Tensor, dim: int) -> Tensor:
    if not modes.grad:
        return _softmax_backward(grad, out, dim=dim)
    weighted = mul(grad, out)
    return sub(weighted, mul(out, sum(weighted, dim, keepdim=True)))


@_log_softmax.vjp
def _log_softmax_vjp(grad: Tensor, out: Tensor, dim: int) -> Tensor:
    if not modes.grad:
        return _log_softmax_backward(grad, out, dim=dim)
    return sub(grad, mul(exp(out), sum(grad, dim, keepdim=True)))


def softmax(input: Tensor, dim: Any = None, _stacklevel: int = 3, dtype: dtypes.dtype | None = None) -> Tensor:
    """exp(x) / sum(exp(x)) along `dim`; a row of -inf gives nan. `dtype` casts first.

    Shapes: any. Dtypes: floating, kept; NotImplementedError for integers without `dtype`.
    Raises: IndexError for dim out of range. Without `dim` it is chosen as older versions did, with a warning.

    >>> F.softmax(torch.tensor([0.0, 0.0]), dim=0).tolist()
    [0.5, 0.5]
    """
    return _softmax(*_prepare("softmax", input, dtype), dim=_dim(input, dim, "softmax", _stacklevel))


def log_softmax(input: Tensor, dim: Any = None, _stacklevel: int = 3, dtype: dtypes.dtype | None = None) -> Tensor:
    """log(softmax(x)) along `dim`, without overflow. As `softmax` otherwise."""
    return _log_softmax(*_prepare("log_softmax", input, dtype), dim=_dim(input, dim, "log_softmax", _stacklevel))


def softmin(input: Tensor, dim: Any = None, _stacklevel: int = 3, dtype: dtypes.dtype | None = None) -> Tensor:
    """softmax(-x) along `dim`. As `softmax` otherwise."""
    return softmax(neg(input), _dim(input, dim, "softmin", _stacklevel), dtype=dtype)


def _prepare(name: str, input: Tensor, dtype: dtypes.dtype | None) -> tuple[Tensor]:
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    if dtype is not None and input._array.dtype != dtype.numpy:
        input = to_dtype(input, dtype.numpy)
    if input._array.dtype.kind in "biuc":
        raise NotImplementedError(f"\"{name}_kernel_impl\" not implemented for '{scalar_name(input._array.dtype)}'")
    return (input,)


def _dim(input: Tensor, dim: Any, name: str, stacklevel: int) -> int:
    ndim = input._array.ndim
    if dim is None:
        warnings.warn(
            f"Implicit dimension choice for {name} has been deprecated. "
            "Change the call to include dim=X as an argument.",
            stacklevel=stacklevel,
        )
        return 0 if ndim in (0, 1, 3) else 1
    return dim_of_name(input, dim) if isinstance(dim, str) else wrap_dim(dim, ndim)


def gumbel_softmax(logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Tensor:
    """A random choice among the categories along `dim`, relaxed to weights that gradients pass through.

    `tau` is the temperature; with `hard` the result is one-hot, with the gradient of the soft weights.
    Shapes: any. Dtypes: floating, kept. Source: Jang et al. 2017, "Categorical reparameterization with Gumbel-softmax".
    """
    array = logits._array
    gumbels = -log(exponential_(wrap(np.empty(array.shape, array.dtype))))
    soft = softmax((logits + gumbels) / tau, dim)
    if not hard:
        return soft
    axis = wrap_dim(dim, array.ndim)

    def chosen(weights: np.ndarray) -> np.ndarray:
        found = np.zeros_like(weights, order="C") if weights.ndim else np.ones_like(weights)
        if weights.ndim:
            np.put_along_axis(found, np.expand_dims(weights.argmax(axis), axis), 1, axis)
        return found

    return computed(chosen, soft) - soft.detach() + soft


def _samples(make: Any) -> list[Any]:
    shapes = [(make(3, 4), 0), (make(3, 4), 1), (make(0, 2), 1), (make(2, 3, 4).permute(2, 1, 0), 2), (make(), 0)]
    return [((x,), {"dim": dim}) for x, dim in shapes]


_softmax.samples(_samples)
_log_softmax.samples(_samples)
