"""The formulas of `kl_divergence` for different families: mostly -H(p) - E_p[log q], with the moments of p."""

from __future__ import annotations

import math
from typing import Any

import flambeau as fl
from flambeau.core.tensor import Tensor
from flambeau.distributions.bernoulli import Bernoulli
from flambeau.distributions.beta import Beta
from flambeau.distributions.binomial import Binomial
from flambeau.distributions.continuous_bernoulli import ContinuousBernoulli
from flambeau.distributions.distribution import Distribution
from flambeau.distributions.exponential import Exponential
from flambeau.distributions.gamma import Gamma
from flambeau.distributions.gumbel import Gumbel
from flambeau.distributions.kl import register_kl
from flambeau.distributions.kl_formulas import infinite_like, infinite_where
from flambeau.distributions.laplace import Laplace
from flambeau.distributions.normal import Normal
from flambeau.distributions.pareto import Pareto
from flambeau.distributions.poisson import Poisson
from flambeau.distributions.uniform import Uniform
from flambeau.distributions.utils import euler_constant

# ---- the expected log density of q, from moments of p ------------------------------------------


def _under_normal(q: Any, mean: Tensor, variance: Tensor) -> Tensor:
    square = q.scale.pow(2)
    return -0.5 * (square * 2 * math.pi).log() - 0.5 * (variance + (mean - q.loc).pow(2)) / square


def _under_gamma(q: Any, mean: Tensor, log_mean: Tensor) -> Tensor:
    return (q.concentration * q.rate.log() - q.concentration.lgamma() + (q.concentration - 1) * log_mean
            - q.rate * mean)


def _under_exponential(q: Any, mean: Tensor) -> Tensor:
    return q.rate.log() - q.rate * mean


def _under_gumbel(q: Any, mean: Tensor, exp_mean: Tensor) -> Tensor:
    """`exp_mean` is E_p[exp(-x / scale)]."""
    return -q.scale.log() - (mean - q.loc) / q.scale - fl.exp(q.loc / q.scale) * exp_mean


def _under_continuous_bernoulli(q: Any, mean: Tensor) -> Tensor:
    return mean * q.logits + fl.log1p(-q.probs) + q._log_constant()


def _beyond(p_low: Any, p_high: Any, q_low: Any, q_high: Any) -> Tensor:
    return (q_low > p_low) | (q_high < p_high)


def _uniform_log_mean(p: Any) -> Tensor:
    xlogy = fl.special.xlogy
    return (xlogy(p.high, p.high) - xlogy(p.low, p.low)) / (p.high - p.low) - 1


@register_kl(Bernoulli, Poisson)
def _bernoulli_poisson(p: Any, q: Any) -> Tensor:
    return -p.entropy() - (p.probs * q.rate.log() - q.rate)


@register_kl(Beta, ContinuousBernoulli)
def _beta_continuous_bernoulli(p: Any, q: Any) -> Tensor:
    return -p.entropy() - _under_continuous_bernoulli(q, p.mean)


@register_kl(Beta, Exponential)
def _beta_exponential(p: Any, q: Any) -> Tensor:
    return -p.entropy() - _under_exponential(q, p.mean)


@register_kl(Beta, Gamma)
def _beta_gamma(p: Any, q: Any) -> Tensor:
    log_mean = p.concentration1.digamma() - (p.concentration1 + p.concentration0).digamma()
    return -p.entropy() - _under_gamma(q, p.mean, log_mean)


@register_kl(Beta, Normal)
@register_kl(ContinuousBernoulli, Normal)
@register_kl(Exponential, Normal)
@register_kl(Gamma, Normal)
@register_kl(Gumbel, Normal)
@register_kl(Laplace, Normal)
@register_kl(Uniform, Normal)
def _any_normal(p: Any, q: Any) -> Tensor:
    return -p.entropy() - _under_normal(q, p.mean, p.variance)


@register_kl(Beta, Uniform)
@register_kl(ContinuousBernoulli, Uniform)
def _bounded_uniform(p: Any, q: Any) -> Tensor:
    return infinite_where(_beyond(0, 1, q.low, q.high), -p.entropy() + (q.high - q.low).log())


@register_kl(ContinuousBernoulli, Exponential)
@register_kl(Gamma, Exponential)
def _positive_exponential(p: Any, q: Any) -> Tensor:
    return -p.entropy() - _under_exponential(q, p.mean)


@register_kl(Exponential, Gamma)
def _exponential_gamma(p: Any, q: Any) -> Tensor:
    return -p.entropy() - _under_gamma(q, p.mean, -euler_constant - p.rate.log())


@register_kl(Exponential, Gumbel)
def _exponential_gumbel(p: Any, q: Any) -> Tensor:
    product = p.rate * q.scale
    return -p.entropy() - _under_gumbel(q, p.mean, product / (product + 1))


@register_kl(Gamma, Gumbel)
def _gamma_gumbel(p: Any, q: Any) -> Tensor:
    exp_mean = (1 + (p.rate * q.scale).reciprocal()).pow(-p.concentration)
    return -p.entropy() - _under_gumbel(q, p.mean, exp_mean)


@register_kl(Normal, Gumbel)
def _normal_gumbel(p: Any, q: Any) -> Tensor:
    exp_mean = fl.exp(-p.loc / q.scale + 0.5 * (p.scale / q.scale).pow(2))
    return -p.entropy() - _under_gumbel(q, p.mean, exp_mean)


@register_kl(Normal, Laplace)
def _normal_laplace(p: Any, q: Any) -> Tensor:
    away = p.loc - q.loc
    distance = (math.sqrt(2 / math.pi) * p.scale * fl.exp(-0.5 * (away / p.scale).pow(2))
                + away * fl.erf(math.sqrt(0.5) * away / p.scale))
    return -p.entropy() + (2 * q.scale).log() + distance / q.scale


@register_kl(Pareto, Exponential)
def _pareto_exponential(p: Any, q: Any) -> Tensor:
    return infinite_where(p.alpha <= 1, -p.entropy() - _under_exponential(q, p.mean))


@register_kl(Pareto, Gamma)
def _pareto_gamma(p: Any, q: Any) -> Tensor:
    log_mean = p.scale.log() + p.alpha.reciprocal()
    return infinite_where(p.alpha <= 1, -p.entropy() - _under_gamma(q, p.mean, log_mean))


@register_kl(Pareto, Normal)
def _pareto_normal(p: Any, q: Any) -> Tensor:
    return infinite_where(p.alpha <= 2, -p.entropy() - _under_normal(q, p.mean, p.variance))


@register_kl(Poisson, Bernoulli)
@register_kl(Poisson, Binomial)
def _poisson_bounded(p: Any, q: Any) -> Tensor:
    return infinite_like(p.rate)


@register_kl(Uniform, Beta)
def _uniform_beta(p: Any, q: Any) -> Tensor:
    mirrored = Uniform(1 - p.high, 1 - p.low, validate_args=False)
    log_beta = (q.concentration1.lgamma() + q.concentration0.lgamma()
                - (q.concentration1 + q.concentration0).lgamma())
    log_q = ((q.concentration1 - 1) * _uniform_log_mean(p) + (q.concentration0 - 1) * _uniform_log_mean(mirrored)
             - log_beta)
    return infinite_where(_beyond(p.low, p.high, 0, 1), -p.entropy() - log_q)


@register_kl(Uniform, ContinuousBernoulli)
def _uniform_continuous_bernoulli(p: Any, q: Any) -> Tensor:
    kl = -p.entropy() - _under_continuous_bernoulli(q, p.mean)
    return infinite_where(_beyond(p.low, p.high, 0, 1), kl)


@register_kl(Uniform, Exponential)
def _uniform_exponential(p: Any, q: Any) -> Tensor:
    return infinite_where(p.low < 0, -p.entropy() - _under_exponential(q, p.mean))


@register_kl(Uniform, Gamma)
def _uniform_gamma(p: Any, q: Any) -> Tensor:
    return infinite_where(p.low < 0, -p.entropy() - _under_gamma(q, p.mean, _uniform_log_mean(p)))


@register_kl(Uniform, Gumbel)
def _uniform_gumbel(p: Any, q: Any) -> Tensor:
    exp_mean = q.scale / (p.high - p.low) * (fl.exp(-p.low / q.scale) - fl.exp(-p.high / q.scale))
    return -p.entropy() - _under_gumbel(q, p.mean, exp_mean)


@register_kl(Uniform, Pareto)
def _uniform_pareto(p: Any, q: Any) -> Tensor:
    log_q = q.alpha.log() + q.alpha * q.scale.log() - (q.alpha + 1) * _uniform_log_mean(p)
    return infinite_where(p.low < q.scale, -p.entropy() - log_q)


def _register_infinite() -> None:
    """Pairs where p always has mass that q excludes."""
    bounded: tuple[type[Distribution], ...] = (Beta, ContinuousBernoulli, Uniform)
    pairs: list[tuple[type, type, str]] = [(Beta, Pareto, "concentration1"), (ContinuousBernoulli, Pareto, "probs")]
    pairs += [(Exponential, q, "rate") for q in (*bounded, Pareto)]
    pairs += [(Gamma, q, "concentration") for q in (*bounded, Pareto)]
    pairs += [(Pareto, q, "scale") for q in bounded]
    pairs += [(p, q, "loc") for p in (Gumbel, Laplace, Normal) for q in (*bounded, Pareto, Exponential, Gamma)]
    for p, q, parameter in pairs:
        register_kl(p, q)(lambda first, second, name=parameter: infinite_like(getattr(first, name)))


_register_infinite()
