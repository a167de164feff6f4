"""The generalized Pareto distribution."""

from __future__ import annotations

from typing import Any

import flambeau as fl
from flambeau.core.tensor import Tensor
from flambeau.distributions import constraints
from flambeau.distributions.distribution import Distribution
from flambeau.distributions.utils import broadcast_all

__all__ = ["GeneralizedPareto"]


class GeneralizedPareto(Distribution):
    """Exceedances over `loc`: exponential for concentration 0, with heavy tails above and an end below."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive, "concentration": constraints.real}
    has_rsample = True

    def __init__(self, loc: Any, scale: Any, concentration: Any, validate_args: bool | None = None):
        self.loc, self.scale, self.concentration = broadcast_all(loc, scale, concentration)
        super().__init__(self.loc.size(), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> GeneralizedPareto:
        return self._expanded(GeneralizedPareto, batch_shape, _instance, "loc", "scale", "concentration")

    def _exponential(self) -> tuple[Tensor, Tensor]:
        """Where the concentration is as good as 0, and the concentration with 1 in those places."""
        flat = fl.isclose(self.concentration, fl.zeros_like(self.concentration))
        return flat, fl.where(flat, fl.ones_like(self.concentration), self.concentration)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        return self.icdf(fl.rand(shape, dtype=self.loc.dtype, device=self.loc.device))

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        away = (value - self.loc) / self.scale
        flat, shape = self._exponential()
        heavy = -(1 / shape + 1) * fl.log1p(shape * away)
        return fl.where(flat, -away, heavy) - fl.log(self.scale)

    def log_survival_function(self, value: Tensor) -> Tensor:
        """The logarithm of the probability of more than `value`."""
        if self._validate_args:
            self._validate_sample(value)
        away = (value - self.loc) / self.scale
        flat, shape = self._exponential()
        return fl.where(flat, -away, -fl.log1p(shape * away) / shape)

    def log_cdf(self, value: Tensor) -> Tensor:
        """The logarithm of the probability of at most `value`."""
        return fl.log1p(-fl.exp(self.log_survival_function(value)))

    def cdf(self, value: Tensor) -> Tensor:
        return fl.exp(self.log_cdf(value))

    def icdf(self, value: Tensor) -> Tensor:
        flat, shape = self._exponential()
        log_rest = fl.log1p(-value)
        return self.loc + self.scale * fl.where(flat, -log_rest, fl.expm1(-shape * log_rest) / shape)

    def _where_below(self, limit: float, value: Tensor) -> Tensor:
        return fl.where(self.concentration < limit, value, fl.full_like(value, fl.nan))

    @property
    def mean(self) -> Tensor:
        return self._where_below(1.0, self.loc + self.scale / (1 - self.concentration))

    @property
    def variance(self) -> Tensor:
        k = self.concentration
        return self._where_below(0.5, self.scale**2 / ((1 - k) ** 2 * (1 - 2 * k)))

    @property
    def mode(self) -> Tensor:
        return self.loc

    def entropy(self) -> Tensor:
        return fl.log(self.scale) + self.concentration + 1

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        end = fl.where(self.concentration < 0, self.loc - self.scale / self.concentration,
                       fl.full_like(self.loc, fl.inf))
        return constraints.interval(self.loc, end)
