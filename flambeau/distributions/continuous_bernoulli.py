"""The continuous Bernoulli distribution (Loaiza-Ganem and Cunningham 2019, arXiv:1907.06845)."""

from __future__ import annotations

import math
from typing import Any

import flambeau as fl
from flambeau.core.tensor import Size, Tensor
from flambeau.distributions import constraints
from flambeau.distributions.bernoulli import chances
from flambeau.distributions.exp_family import ExponentialFamily
from flambeau.distributions.utils import broadcast_all, clamp_probs, lazy_property, logits_to_probs, probs_to_logits

__all__ = ["ContinuousBernoulli"]


class ContinuousBernoulli(ExponentialFamily):
    """In [0, 1], with density proportional to p**x * (1 - p)**(1 - x).

    Where p lies within `lims`, around 1/2, Taylor's series replaces formulas that lose their digits there.
    """

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.unit_interval
    has_rsample = True
    _mean_carrier_measure = 0

    def __init__(self, probs: Any = None, logits: Any = None, lims: tuple[float, float] = (0.499, 0.501),
                 validate_args: bool | None = None):
        parameter = chances(self, probs, logits)
        if probs is not None:
            if validate_args is not None and not self.arg_constraints["probs"].check(self.probs).all():
                raise ValueError("The parameter probs has invalid values")
            self.probs = clamp_probs(self.probs)
        self._param = parameter if probs is None else self.probs
        self._lims = lims
        super().__init__(self._param.size(), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> ContinuousBernoulli:
        new = self._expanded(ContinuousBernoulli, batch_shape, _instance, "probs", "logits", "_param")
        new._lims = self._lims
        return new

    def _outside(self) -> Tensor:
        return (self.probs <= self._lims[0]) | (self.probs > self._lims[1])

    def _cut(self) -> Tensor:
        """The probabilities, moved out of the unstable region."""
        return fl.where(self._outside(), self.probs, self._lims[0] * fl.ones_like(self.probs))

    def _log_constant(self) -> Tensor:
        cut = self._cut()
        below = fl.where(cut <= 0.5, cut, fl.zeros_like(cut))
        above = fl.where(cut >= 0.5, cut, fl.ones_like(cut))
        log_norm = fl.log(fl.abs(fl.log1p(-cut) - fl.log(cut))) - fl.where(
            cut <= 0.5, fl.log1p(-2.0 * below), fl.log(2.0 * above - 1.0))
        x = (self.probs - 0.5).pow(2)
        return fl.where(self._outside(), log_norm, math.log(2.0) + (4.0 / 3.0 + 104.0 / 45.0 * x) * x)

    @property
    def mean(self) -> Tensor:
        cut = self._cut()
        mean = cut / (2.0 * cut - 1.0) + 1.0 / (fl.log1p(-cut) - fl.log(cut))
        x = self.probs - 0.5
        return fl.where(self._outside(), mean, 0.5 + (1.0 / 3.0 + 16.0 / 45.0 * x.pow(2)) * x)

    @property
    def stddev(self) -> Tensor:
        return fl.sqrt(self.variance)

    @property
    def variance(self) -> Tensor:
        cut = self._cut()
        variance = cut * (cut - 1.0) / (1.0 - 2.0 * cut).pow(2) + 1.0 / (fl.log1p(-cut) - fl.log(cut)).pow(2)
        x = (self.probs - 0.5).pow(2)
        return fl.where(self._outside(), variance, 1.0 / 12.0 - (1.0 / 15.0 - 128.0 / 945.0 * x) * x)

    @lazy_property
    def logits(self) -> Tensor:
        """Log odds."""
        return probs_to_logits(self.probs, is_binary=True)

    @lazy_property
    def probs(self) -> Tensor:
        """The parameter p, away from 0 and 1."""
        return clamp_probs(logits_to_probs(self.logits, is_binary=True))

    @property
    def param_shape(self) -> Size:
        """The shape of the parameter given."""
        return self._param.size()

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with fl.no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        units = fl.rand(self._extended_shape(sample_shape), dtype=self.probs.dtype, device=self.probs.device)
        return self.icdf(units)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        logits, value = broadcast_all(self.logits, value)
        likelihood = -fl.nn.functional.binary_cross_entropy_with_logits(logits, value, reduction="none")
        return likelihood + self._log_constant()

    def cdf(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        cut = self._cut()
        cdf = (fl.pow(cut, value) * fl.pow(1.0 - cut, 1.0 - value) + cut - 1.0) / (2.0 * cut - 1.0)
        inside = fl.where(self._outside(), cdf, value)
        return fl.where(value <= 0.0, fl.zeros_like(value),
                        fl.where(value >= 1.0, fl.ones_like(value), inside))

    def icdf(self, value: Tensor) -> Tensor:
        cut = self._cut()
        inverse = (fl.log1p(-cut + value * (2.0 * cut - 1.0)) - fl.log1p(-cut)) / (fl.log(cut) - fl.log1p(-cut))
        return fl.where(self._outside(), inverse, value)

    def entropy(self) -> Tensor:
        log0, log1 = fl.log1p(-self.probs), fl.log(self.probs)
        return self.mean * (log0 - log1) - self._log_constant() - log0

    @property
    def _natural_params(self) -> tuple[Tensor, ...]:
        return (self.logits,)

    def _log_normalizer(self, x: Tensor) -> Tensor:
        outside = (x <= self._lims[0] - 0.5) | (x > self._lims[1] - 0.5)
        cut = fl.where(outside, x, (self._lims[0] - 0.5) * fl.ones_like(x))
        log_norm = fl.log(fl.abs(fl.special.expm1(cut))) - fl.log(fl.abs(cut))
        return fl.where(outside, log_norm, 0.5 * x + x.pow(2) / 24.0 - x.pow(4) / 2880.0)
