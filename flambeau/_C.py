"""The few names of PyTorch's native module that libraries call by themselves."""

from __future__ import annotations

from flambeau.core.random import Generator
from flambeau.core.tensor import Tensor as TensorBase

__all__ = ["Generator", "TensorBase"]


def _log_api_usage_once(event: str) -> None:
    """Nothing: no use is reported to anybody."""
