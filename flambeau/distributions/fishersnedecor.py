"""The F-distribution of Fisher and Snedecor."""

from __future__ import annotations

import math
from typing import Any

import flambeau as fl
from flambeau.core.tensor import Size, Tensor
from flambeau.distributions import constraints
from flambeau.distributions.distribution import Distribution
from flambeau.distributions.gamma import Gamma
from flambeau.distributions.utils import broadcast_all

__all__ = ["FisherSnedecor"]


class FisherSnedecor(Distribution):
    """The ratio of two chi-squared numbers, each divided by its degrees of freedom `df1`, `df2`."""

    arg_constraints = {"df1": constraints.positive, "df2": constraints.positive}
    support = constraints.positive
    has_rsample = True

    def __init__(self, df1: Any, df2: Any, validate_args: bool | None = None):
        self.df1, self.df2 = broadcast_all(df1, df2)
        self._gamma1 = Gamma(self.df1 * 0.5, self.df1)
        self._gamma2 = Gamma(self.df2 * 0.5, self.df2)
        super().__init__(self.df1.size(), validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return fl.where(self.df2 > 2, self.df2 / (self.df2 - 2), fl.full_like(self.df2, math.nan))

    @property
    def mode(self) -> Tensor:
        mode = (self.df1 - 2) / self.df1 * self.df2 / (self.df2 + 2)
        return fl.where(self.df1 > 2, mode, fl.full_like(mode, math.nan))

    @property
    def variance(self) -> Tensor:
        df2 = fl.where(self.df2 > 4, self.df2, fl.full_like(self.df2, math.nan))
        return 2 * df2.pow(2) * (self.df1 + df2 - 2) / (self.df1 * (df2 - 2).pow(2) * (df2 - 4))

    def expand(self, batch_shape: Any, _instance: Any = None) -> FisherSnedecor:
        new = self._expanded(FisherSnedecor, batch_shape, _instance, "df1", "df2")
        new._gamma1 = self._gamma1.expand(Size(batch_shape))
        new._gamma2 = self._gamma2.expand(Size(batch_shape))
        return new

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape, tiny = self._extended_shape(sample_shape), fl.finfo(self.df1.dtype).tiny
        over = self._gamma1.rsample(sample_shape).view(shape)
        under = self._gamma2.rsample(sample_shape).view(shape).clamp(min=tiny)
        return (over / under).clamp(min=tiny)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        half1, half2, ratio = self.df1 * 0.5, self.df2 * 0.5, self.df1 / self.df2
        log_beta = half1.lgamma() + half2.lgamma() - (half1 + half2).lgamma()
        density = half1 * ratio.log() + (half1 - 1) * fl.log(value)
        return density - (half1 + half2) * fl.log1p(ratio * value) - log_beta
