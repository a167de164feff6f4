"""Covariance and correlation of variables (rows) over observations (columns)."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core import recording
from flambeau.core.dtype import scalar_name
from flambeau.core.tensor import Tensor, constant
from flambeau.ops.arithmetic import clamp
from flambeau.ops.complex import complex as make_complex
from flambeau.ops.complex import imag, real
from flambeau.ops.matmul import mm
from flambeau.ops.pointwise import conj, div, mul, sqrt, sub
from flambeau.ops.reductions import sum as sum_
from flambeau.ops.shape import _squeeze, _transpose, _unsqueeze, diagonal

__all__ = ["corrcoef", "cov"]


def _check_weights(name: str, weights: Tensor, count: int, category: int) -> None:
    array = weights._array
    kind = "integral" if category == dtypes.INT else "floating point"
    if array.ndim > 1:
        raise RuntimeError(
            f"cov(): expected {name} to have one or fewer dimensions but got {name} with {array.ndim} dimensions"
        )
    if weights.dtype.category != category:
        raise RuntimeError(
            f"cov(): expected {name} to have {kind} dtype but got {name} with {scalar_name(array.dtype)} dtype"
        )
    if array.size != count:
        raise RuntimeError(
            f"cov(): expected {name} to have the same numel as there are observations in the input but got "
            f"{array.size} != {count}"
        )
    recording.read(weights)
    if array.size and array.min() < 0:
        raise RuntimeError(f"cov(): {name} cannot be negative")


def cov(
    input: Tensor, *, correction: int = 1, fweights: Tensor | None = None, aweights: Tensor | None = None
) -> Tensor:
    """Covariances of the rows of a (variables, observations) matrix: (variables, variables); 0-d for one variable.

    `fweights` counts how often each observation was made, `aweights` weighs it; the divisor is reduced by `correction`.
    RuntimeError for more than two dimensions, bools, or weights that do not fit.
    """
    if input._array.ndim > 2:
        raise RuntimeError(
            "cov(): expected input to have two or fewer dimensions but got an input with "
            f"{input._array.ndim} dimensions"
        )
    if input.dtype is dtypes.bool:
        raise RuntimeError("cov(): bool dtype is not supported for input")
    x = input if input._array.ndim == 2 else input.reshape(1, -1)
    x = x if x.dtype.category >= dtypes.FLOAT else x.to(dtypes.default_dtype())
    count = x._array.shape[1]
    weights: Any = None
    if fweights is not None:
        _check_weights("fweights", fweights, count, dtypes.INT)
        weights = fweights
    if aweights is not None:
        _check_weights("aweights", aweights, count, dtypes.FLOAT)
        weights = aweights if weights is None else mul(weights, aweights)
    total: Any = count if weights is None else sum_(weights)
    if weights is not None and count and total._array == 0:
        raise RuntimeError("cov(): weights sum to zero, can't be normalized")
    weighted = x if weights is None else mul(x, weights)
    average = div(sum_(weighted, 1), float(total) if weights is None and count else total)
    if weights is None:
        divisor: Any = float(count - correction)
    elif aweights is None or correction == 0:
        divisor = sub(total, correction)
    else:
        divisor = sub(total, mul(div(sum_(mul(weights, aweights)), total), correction))
    kind = x.real.dtype if x.is_complex() else x.dtype
    divisor = max(divisor, 0.0) if weights is None else clamp(divisor.to(kind), 0)
    apart = sub(x, _unsqueeze(average, dim=1))
    other = apart if weights is None else mul(apart, weights)
    product = mm(apart, _transpose(conj(other), dim0=0, dim1=1))
    if not isinstance(divisor, Tensor):
        divisor = constant(np.array(divisor, product._array.real.dtype))
    out = div(product, divisor)
    return _squeeze(out, dims=(0, 1)) if out._array.shape == (1, 1) else out


def corrcoef(input: Tensor) -> Tensor:
    """Pearson's correlations of the rows: covariances divided by both standard deviations, within [-1, 1]."""
    if input._array.ndim > 2:
        raise RuntimeError(
            "corrcoef(): expected input to have two or fewer dimensions but got an input with "
            f"{input._array.ndim} dimensions"
        )
    c = cov(input)
    if c._array.ndim == 0:
        return div(c, c)
    spread = diagonal(c)
    deviation = sqrt(real(spread) if spread.is_complex() else spread)
    c = div(div(c, _unsqueeze(deviation, dim=1)), deviation)
    if c.is_complex():
        return make_complex(clamp(real(c), -1, 1), clamp(imag(c), -1, 1))
    return clamp(c, -1, 1)
