"""Kullback-Leibler divergence: a table of formulas for pairs of families."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

from flambeau.core.tensor import Tensor
from flambeau.distributions.distribution import Distribution

__all__ = ["kl_divergence", "register_kl"]

_REGISTRY: dict[tuple[type, type], Any] = {}  # (class of p, class of q) -> formula


def register_kl(type_p: type, type_q: type) -> Callable[[Any], Any]:
    """Decorator: register a formula kl(p, q) for instances of two classes and of their subclasses."""
    for kind in (type_p, type_q):
        if not isinstance(kind, type) or not issubclass(kind, Distribution):
            raise TypeError(f"Expected a Distribution subclass but got {kind}")

    def register(formula: Any) -> Any:
        _REGISTRY[type_p, type_q] = formula
        _formula.cache_clear()
        return formula

    return register


@functools.cache
def _formula(type_p: Any, type_q: Any) -> Any:
    """The formula of the nearest pair of ancestors; None if there is none."""
    importlib.import_module("flambeau.distributions.kl_formulas")  # registers the library's own, at first use
    matches = [pair for pair in _REGISTRY if issubclass(type_p, pair[0]) and issubclass(type_q, pair[1])]
    if not matches:
        return None
    distance = lambda pair: (type_p.__mro__.index(pair[0]), type_q.__mro__.index(pair[1]))
    return _REGISTRY[min(matches, key=distance)]


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """The divergence of q from p, E_p[log p - log q], of shape batch_shape.

    Raises NotImplementedError for pairs without a formula.
    """
    formula = _formula(type(p), type(q))  # type: ignore[arg-type]
    if formula is None:
        raise NotImplementedError(f"No KL(p || q) is implemented for p type {type(p).__name__} and q type "
                                  f"{type(q).__name__}")
    return formula(p, q)
