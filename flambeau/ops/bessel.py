"""Modified Bessel functions of the first kind, orders 0 and 1, plain and scaled by exp(-|x|).

Two formulas of Abramowitz & Stegun, Handbook of Mathematical Functions: the ascending series 9.6.10 (all terms
positive, so nothing cancels) up to |x| = 30, and the asymptotic expansion 9.7.1 beyond.
"""

from __future__ import annotations

import math

import numpy as np

from flambeau.core.dispatch import primitive
from flambeau.core.tensor import Tensor, constant
from flambeau.ops.comparison import eq
from flambeau.ops.pointwise import add, div, mul, neg, sign, sub, where
from flambeau.ops.special import in_float64

FAR = 30.0
SERIES_TERMS = 75  # (15²)^k / k!² falls below 2^-53 of the sum before that
FAR_TERMS = 25


def _scaled(order: int, x: np.ndarray) -> np.ndarray:
    """exp(-|x|) I_order(|x|) of float64 values."""
    size = np.abs(x)
    near = np.minimum(size, FAR)
    quarter = near * near / 4
    term = total = (near / 2) ** order / math.factorial(order)
    for k in range(1, SERIES_TERMS):
        term = term * quarter / (k * (k + order))
        total = total + term
    far = np.maximum(size, FAR)
    part = tail = np.ones_like(far)
    for k in range(1, FAR_TERMS):
        part = part * ((2 * k - 1) ** 2 - 4 * order * order) / (8 * k * far)
        tail = tail + part
    value = np.where(size <= FAR, total * np.exp(-near), tail / np.sqrt(2 * math.pi * far))
    return np.where(np.isnan(x), x, value)


def i0e_array(x: np.ndarray) -> np.ndarray:
    """exp(-|x|) I0(x) of float64 values."""
    return _scaled(0, x)


def i1e_array(x: np.ndarray) -> np.ndarray:
    """exp(-|x|) I1(x) of float64 values; odd."""
    return np.copysign(_scaled(1, x), x)


def _grown(scaled: np.ndarray, x: np.ndarray) -> np.ndarray:
    """scaled * exp(|x|), in two halves so that it overflows no sooner than the product."""
    half = np.exp(np.abs(x) / 2)
    value = scaled * half * half
    return np.where(np.isinf(x), np.copysign(np.inf, scaled), value)


i0 = primitive("i0", elementwise=True, float_op=True)(in_float64(lambda x: _grown(i0e_array(x), x)))
i0e = primitive("i0e", elementwise=True, float_op=True, grad_name="SpecialI0EBackward0")(in_float64(i0e_array))
i1 = primitive("i1", elementwise=True, float_op=True, grad_name="SpecialI1Backward0")(
    in_float64(lambda x: _grown(i1e_array(x), x))
)
i1e = primitive("i1e", elementwise=True, float_op=True, grad_name="SpecialI1EBackward0")(in_float64(i1e_array))


def _over(y: Tensor, x: Tensor) -> Tensor:
    """y / x for y = I1(x) or its scaled form, whose limit at 0 is a half."""
    zero = eq(x, 0)
    one, half = constant(np.array(1, x._array.dtype)), constant(np.array(0.5, x._array.dtype))
    return where(zero, half, div(y, where(zero, one, x)))


i0.vjp(x=lambda grad, x: mul(grad, i1(x)))
i0e.vjp(x=lambda grad, x, out: mul(grad, sub(i1e(x), mul(sign(x), out))))
i1.vjp(x=lambda grad, x, out: mul(grad, sub(i0(x), _over(out, x))))
i1e.vjp(x=lambda grad, x, out: mul(grad, add(sub(i0e(x), mul(out, sign(x))), neg(_over(out, x)))))
