"""PyTorch's `torch.compiler` as far as libraries ask it: questions about compilation, and marks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

__all__ = [
    "allow_in_graph",
    "assume_constant_result",
    "cudagraph_mark_step_begin",
    "disable",
    "is_compiling",
    "is_dynamo_compiling",
    "is_exporting",
]


def is_compiling() -> bool:
    """False: capture runs the function itself, so there is no other code to choose for it."""
    return False


def is_dynamo_compiling() -> bool:
    """False."""
    return False


def is_exporting() -> bool:
    """False."""
    return False


def allow_in_graph(fn: F) -> F:
    """The function itself: capture sees into every function."""
    return fn


def assume_constant_result(fn: F) -> F:
    """The function itself."""
    return fn


def disable(fn: Any = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """Mark a function as one not to compile; it is ordinary Python either way. Also a decorator with options."""
    return fn if fn is not None else lambda function: function


def cudagraph_mark_step_begin() -> None:
    """Nothing: there are no CUDA graphs."""
