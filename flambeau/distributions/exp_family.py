"""`ExponentialFamily`: densities h(x) exp(<t(x), theta> - F(theta)), whose entropy follows from F."""

from __future__ import annotations

from typing import Any

import flambeau as fl
from flambeau.core.tensor import Tensor
from flambeau.distributions.distribution import Distribution

__all__ = ["ExponentialFamily"]


class ExponentialFamily(Distribution):
    """A family that knows its natural parameters and its log normalizer F."""

    @property
    def _natural_params(self) -> tuple[Tensor, ...]:
        raise NotImplementedError

    def _log_normalizer(self, *natural_params: Any) -> Tensor:
        raise NotImplementedError

    @property
    def _mean_carrier_measure(self) -> Any:
        """The mean of log h(x)."""
        raise NotImplementedError

    def entropy(self) -> Tensor:
        """F(theta) - <theta, grad F(theta)> - E[log h], the gradient by autograd."""
        natural = [p.detach().requires_grad_() for p in self._natural_params]
        with fl.enable_grad():
            normalizer = self._log_normalizer(*natural)
            slopes = fl.autograd.grad(normalizer.sum(), natural, create_graph=True)
        result = -self._mean_carrier_measure + normalizer
        for parameter, slope in zip(natural, slopes):
            result = result - (parameter * slope).reshape(self._batch_shape + (-1,)).sum(-1)
        return result
