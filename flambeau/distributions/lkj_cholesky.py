"""The LKJ distribution over Cholesky factors of correlation matrices (Lewandowski, Kurowicka and Joe 2009)."""

from __future__ import annotations

import math
from typing import Any

import flambeau as fl
from flambeau.core.tensor import Size, Tensor
from flambeau.distributions import constraints
from flambeau.distributions.beta import Beta
from flambeau.distributions.distribution import Distribution
from flambeau.distributions.utils import broadcast_all

__all__ = ["LKJCholesky"]


class LKJCholesky(Distribution):
    """Factors L of dim × dim correlation matrices, with density proportional to det(L L^T)**(concentration - 1)."""

    arg_constraints = {"concentration": constraints.positive}
    support = constraints.corr_cholesky

    def __init__(self, dim: int, concentration: Any = 1.0, validate_args: bool | None = None):
        if dim < 2:
            raise ValueError(f"Expected dim to be an integer greater than or equal to 2. Found dim={dim}.")
        self.dim = dim
        (self.concentration,) = broadcast_all(concentration)
        # Heights of the rows in the onion method of section 3.2; the first row has none.
        marginal = self.concentration + 0.5 * (dim - 2)
        offset = fl.arange(dim - 1, dtype=self.concentration.dtype, device=self.concentration.device)
        offset = fl.cat([offset.new_zeros((1,)), offset])
        self._beta = Beta(offset + 0.5, marginal.unsqueeze(-1) - 0.5 * offset)
        super().__init__(self.concentration.size(), Size((dim, dim)), validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> LKJCholesky:
        new = self._expanded(LKJCholesky, batch_shape, _instance, "concentration")
        new.dim = self.dim
        new._beta = self._beta.expand(Size(batch_shape) + (self.dim,))
        return new

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with fl.no_grad():
            height = self._beta.sample(sample_shape).unsqueeze(-1)
            normal = fl.randn(self._extended_shape(sample_shape), dtype=height.dtype, device=height.device).tril(-1)
            direction = normal / normal.norm(dim=-1, keepdim=True)
            direction[..., 0, :].fill_(0.0)             # the first row had length 0
            rows = fl.sqrt(height) * direction
            rest = fl.clamp(1 - fl.sum(rows**2, dim=-1), min=fl.finfo(rows.dtype).tiny).sqrt()
            return rows + fl.diag_embed(rest)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        below = value.diagonal(dim1=-1, dim2=-2)[..., 1:]
        order = fl.arange(2, self.dim + 1, device=self.concentration.device)
        order = 2 * (self.concentration - 1).unsqueeze(-1) + self.dim - order
        unnormalized = fl.sum(order * below.log(), dim=-1)
        n = self.dim - 1
        alpha = self.concentration + 0.5 * n
        normalizer = (0.5 * n * math.log(math.pi) + fl.mvlgamma(alpha - 0.5, n) - fl.lgamma(alpha) * n)
        return unnormalized - normalizer
