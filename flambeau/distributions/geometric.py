"""The geometric distribution."""

from __future__ import annotations

from typing import Any

import flambeau as fl
from flambeau.core.tensor import Tensor
from flambeau.distributions import constraints
from flambeau.distributions.bernoulli import chances
from flambeau.distributions.distribution import Distribution
from flambeau.distributions.utils import broadcast_all, holds, lazy_property, logits_to_probs, probs_to_logits

__all__ = ["Geometric"]


class Geometric(Distribution):
    """Failures before the first success of trials with probability `probs` or log odds `logits`: 0, 1, …"""

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.nonnegative_integer

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        super().__init__(chances(self, probs, logits).size(), validate_args=validate_args)
        if self._validate_args and probs is not None and not holds(self.probs > 0, "parameter probs", self):
            raise ValueError(
                f"Expected parameter probs ({type(self.probs).__name__} of shape {tuple(self.probs.shape)}) of "
                f"distribution {self!r} to be positive but found invalid values:\n{self.probs}")

    def expand(self, batch_shape: Any, _instance: Any = None) -> Geometric:
        return self._expanded(Geometric, batch_shape, _instance, "probs", "logits")

    @property
    def mean(self) -> Tensor:
        return 1.0 / self.probs - 1.0

    @property
    def mode(self) -> Tensor:
        return fl.zeros_like(self.probs)

    @property
    def variance(self) -> Tensor:
        return (1.0 / self.probs - 1.0) / self.probs

    @lazy_property
    def logits(self) -> Tensor:
        """Log odds of success."""
        return probs_to_logits(self.probs, is_binary=True)

    @lazy_property
    def probs(self) -> Tensor:
        """Probabilities of success."""
        return logits_to_probs(self.logits, is_binary=True)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with fl.no_grad():
            units = self.probs.new_empty(self._extended_shape(sample_shape))
            units.uniform_(fl.finfo(self.probs.dtype).tiny, 1)
            return (units.log() / (-self.probs).log1p()).floor()

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        value, probs = broadcast_all(value, self.probs)
        probs = probs.clone()
        probs[(probs == 1) & (value == 0)] = 0            # where 0 * log 0 would be nan
        return value * (-probs).log1p() + self.probs.log()

    def entropy(self) -> Tensor:
        return fl.nn.functional.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none") / self.probs
