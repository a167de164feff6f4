"""The regularised incomplete gamma functions P(a, x) and Q(a, x) = 1 - P(a, x).

Below a = 100: the power series of P for x < a + 1 and Legendre's continued fraction of Q beyond (Abramowitz & Stegun
6.5.29 and 6.5.31, the fraction by Lentz's method). From there on: Gauss-Legendre quadrature over the part of the
integrand that counts, which needs no more points however large a is (Press et al., Numerical Recipes, 6.2.2).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flambeau.core.dispatch import primitive
from flambeau.core.tensor import Tensor
from flambeau.ops.pointwise import exp, log, mul, neg, sub
from flambeau.ops.special import _lgamma_array, lgamma

LARGE = 100.0
STEPS = 400
TINY = 1e-300


def _front(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """x^a exp(-x) / Γ(a)."""
    return np.exp(a * np.log(x) - x - _lgamma_array(a))


def _series(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """P by its power series."""
    term = total = 1 / a
    for n in range(1, STEPS):
        term = term * x / (a + n)
        total = total + term
        if np.all(term <= total * 1e-17):
            break
    return total * _front(a, x)


def _fraction(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Q by its continued fraction."""
    b = x + 1 - a
    c = np.full_like(x, 1 / TINY)
    d = 1 / b
    h = d
    for n in range(1, STEPS):
        step = -n * (n - a)
        b = b + 2
        d = step * d + b
        d = 1 / np.where(np.abs(d) < TINY, TINY, d)
        c = b + step / c
        c = np.where(np.abs(c) < TINY, TINY, c)
        h = h * d * c
        if np.all(np.abs(d * c - 1) < 1e-16):
            break
    return _front(a, x) * h


def _quadrature(a: np.ndarray, x: np.ndarray, upper: bool) -> np.ndarray:
    """P, or Q if `upper`, for large a."""
    points, weights = np.polynomial.legendre.leggauss(48)
    points, weights = (points + 1) / 2, weights / 2
    below, spread = a - 1, np.sqrt(a - 1)
    right = x > below
    end = np.where(
        right,
        np.maximum(below + 11.5 * spread, x + 6 * spread),
        np.maximum(0.0, np.minimum(below - 7.5 * spread, x - 5 * spread)),
    )
    t = x[..., None] + (end - x)[..., None] * points
    centre = below[..., None]
    area = (weights * np.exp(centre - t + centre * (np.log(t) - np.log(centre)))).sum(-1)
    inverse = 1 / (a * a)  # Stirling's series, where the difference of lgamma(a) and its main part cancels
    log_gamma = (a - 0.5) * np.log(a) - a + 0.5 * math.log(2 * math.pi) + (1 / 12 - inverse * (1 / 360)) / a
    tail = area * (end - x) * np.exp(below * (np.log(below) - 1) - log_gamma)
    if upper:
        return np.where(right, tail, 1 + tail)
    return np.where(right, 1 - tail, -tail)


def _regularised(a: np.ndarray, x: np.ndarray, upper: bool) -> np.ndarray:
    """P or Q of float64 values of one shape, with the limits at 0 and infinity; nan outside a >= 0, x >= 0."""
    out = np.full(x.shape, np.nan)
    zero, one = (1.0, 0.0) if upper else (0.0, 1.0)
    valid = (a >= 0) & (x >= 0)
    out[valid & (x == 0) & (a > 0)] = zero
    out[valid & (a == 0) & (x > 0)] = one
    out[valid & np.isinf(a) & np.isfinite(x)] = zero
    out[valid & np.isinf(x) & np.isfinite(a)] = one
    inner = valid & (a > 0) & (x > 0) & np.isfinite(a) & np.isfinite(x)
    for where, compute in (
        (inner & (a >= LARGE), lambda a, x: _quadrature(a, x, upper)),
        (inner & (a < LARGE) & (x < a + 1), lambda a, x: 1 - _series(a, x) if upper else _series(a, x)),
        (inner & (a < LARGE) & (x >= a + 1), lambda a, x: _fraction(a, x) if upper else 1 - _fraction(a, x)),
    ):
        if where.any():
            out[where] = compute(a[where], x[where])
    return out


def _kernel(upper: bool) -> Any:
    def kernel(a: Any, x: Any) -> Any:
        kind = np.result_type(a, x)
        a, x = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(x, np.float64))
        with np.errstate(all="ignore"):
            return _regularised(a, x, upper).astype(kind)

    return kernel


igamma = primitive("igamma", elementwise=True, float_op=True)(_kernel(False))
igammac = primitive("igammac", elementwise=True, float_op=True)(_kernel(True))


def _density(a: Any, x: Any) -> Tensor:
    """dP/dx = x^(a - 1) exp(-x) / Γ(a)."""
    return exp(sub(sub(mul(sub(a, 1), log(x)), x), lgamma(a)))


def _refuse(name: str) -> Any:
    def vjp(grad: Tensor) -> Tensor:
        raise NotImplementedError(f"the derivative for '{name}: input' is not implemented.")

    return vjp


igamma.vjp(a=_refuse("igamma"), x=lambda grad, a, x: mul(grad, _density(a, x)))
igammac.vjp(a=_refuse("igammac"), x=lambda grad, a, x: neg(mul(grad, _density(a, x))))
