"""Gamma and Dirichlet draws that carry gradients to their parameters.

A draw x of a distribution with cumulative function F(x; a) moves with its parameter by dx/da = -(dF/da) / p(x)
(implicit reparameterisation; Figurnov et al. 2018, arXiv:1805.08498). Here dF/da is an integral over one side of x,
in the variable in which the density has a single peak, taken by the double-exponential rule.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core import random_distributions as distributions
from flambeau.core.dispatch import primitive
from flambeau.core.tensor import Tensor, wrap
from flambeau.ops.random import generator_of
from flambeau.ops.reductions import sum as sum_

# Nodes and weights of the exp-sinh rule for integrals over [0, inf) (Takahasi and Mori 1974).
_STEPS = np.arange(-36, 37) * 0.1
_NODES = np.exp(np.pi / 2 * np.sinh(_STEPS))
_WEIGHTS = 0.1 * np.pi / 2 * np.cosh(_STEPS) * _NODES


def _half_line(integrand: Any, scale: Any) -> Any:
    """The integral of `integrand` over [0, inf) for arrays of problems whose width is about `scale`."""
    total = np.zeros_like(scale)
    for node, weight in zip(_NODES, _WEIGHTS):
        part = integrand(node * scale)
        total += np.where(np.isfinite(part), part, 0) * weight
    return total * scale


def _digamma(x: Any) -> Any:
    from flambeau.ops.special import digamma

    return digamma(wrap(x))._array


def standard_gamma_slope(alpha: Any, x: Any) -> Any:
    """dx/dalpha of standard gamma draws, float64 arrays of one shape."""
    side = np.where(x < alpha, -1.0, 1.0)               # away from the peak of x**alpha * exp(-x)
    log_x, psi = np.log(x), _digamma(alpha)
    scale = 1 / (np.abs(alpha - x) + np.sqrt(x) + 1e-30)
    integrand = lambda s: np.exp(side * alpha * s - x * np.expm1(side * s)) * (log_x + side * s - psi)
    return side * x * _half_line(integrand, scale)


def beta_slope(alpha: Any, total: Any, x: Any) -> Any:
    """dx/dalpha of draws of Beta(alpha, total - alpha), the other concentration held; float64 arrays of one shape."""
    beta = total - alpha
    side = np.where(x * total < alpha, -1.0, 1.0)       # away from the peak of x**alpha * (1 - x)**beta
    centre = np.log(x) - np.log1p(-x)
    offset = _digamma(alpha) - _digamma(total)
    scale = 1 / (np.abs(alpha - x * total) + np.sqrt(total * x * (1 - x)) + 1e-30)
    log_x, log_rest = np.log(x), np.log1p(-x)

    def integrand(s: Any) -> Any:
        place = centre + side * s
        log_t, log_u = -np.logaddexp(0, -place), -np.logaddexp(0, place)
        return np.exp(alpha * (log_t - log_x) + beta * (log_u - log_rest)) * (log_t - offset)

    return side * x * (1 - x) * _half_line(integrand, scale)


def _wide(*arrays: Any) -> list[Any]:
    return [np.asarray(a, np.float64) for a in np.broadcast_arrays(*arrays)]


@primitive("standard_gamma")
def _standard_gamma(alpha: Any, *, generator: Any) -> Any:
    """Gamma draws of scale 1."""
    return distributions.standard_gamma(generator, np.asarray(alpha, order="C"))


@primitive("standard_gamma_grad", no_gradient="the slope of a draw has no derivative, as in PyTorch")
def _standard_gamma_grad(alpha: Any, x: Any) -> Any:
    """How each draw moves with its concentration."""
    with np.errstate(all="ignore"):
        return standard_gamma_slope(*_wide(alpha, x)).astype(x.dtype)


_standard_gamma.vjp(alpha=lambda grad, alpha, out: grad * _standard_gamma_grad(alpha, out))


@primitive("sample_dirichlet")
def _sample_dirichlet(alpha: Any, *, generator: Any) -> Any:
    """Points of the simplex, one for each row of concentrations."""
    return distributions.dirichlet(generator, np.asarray(alpha, order="C"))


@primitive("dirichlet_grad", no_gradient="the slope of a draw has no derivative, as in PyTorch")
def _dirichlet_grad(x: Any, alpha: Any, total: Any) -> Any:
    """How each coordinate moves with its own concentration, divided by what is left of the simplex."""
    wide_x, wide_alpha, wide_total = _wide(x, alpha, total)
    with np.errstate(all="ignore"):
        return (beta_slope(wide_alpha, wide_total, wide_x) / (1 - wide_x)).astype(x.dtype)


def _dirichlet_vjp(grad: Tensor, alpha: Tensor, out: Tensor) -> Tensor:
    slope = _dirichlet_grad(out, alpha, sum_(alpha, dim=-1, keepdim=True))
    return slope * (grad - sum_(out * grad, dim=-1, keepdim=True))


_sample_dirichlet.vjp(alpha=_dirichlet_vjp)


def standard_gamma(alpha: Tensor, generator: Any = None) -> Tensor:
    """Gamma draws of the concentrations `alpha` and scale 1; same shape and dtype, differentiable."""
    return _standard_gamma(alpha, generator=generator_of(generator))


def sample_dirichlet(alpha: Tensor, generator: Any = None) -> Tensor:
    """Dirichlet draws of the concentrations in the last dimension; same shape and dtype, differentiable."""
    return _sample_dirichlet(alpha, generator=generator_of(generator))
