"""PyTorch's `torch.jit`: the marks that models carry for it. They change nothing where nothing is compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from flambeau import nn
from flambeau.absent import missing_function
from flambeau.jit import annotations

__all__ = [
    "Final", "ScriptFunction", "ScriptModule", "annotate", "annotations", "export", "ignore", "interface",
    "is_scripting", "is_tracing", "load", "save", "script", "trace", "unused",
]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class ScriptModule(nn.Module):
    """A module made by `script` or `trace`."""


class ScriptFunction:
    """A function made by `script` or `trace`."""


def is_scripting() -> bool:
    """Whether a function is being turned into a program: False in Python."""
    return False


def is_tracing() -> bool:
    """Whether a call is being traced by `trace`."""
    return False


def export(fn: F) -> F:
    """Mark a method as one to compile along with `forward`."""
    return fn


def unused(fn: F) -> F:
    """Mark a method as one that compiled code never reaches."""
    return fn


def ignore(drop: Any = False, **kwargs: Any) -> Any:
    """Mark a function as one that stays in Python: `@ignore`, `@ignore()` or `@ignore(drop=True)`."""
    return drop if callable(drop) else lambda fn: fn


def interface(obj: T) -> T:
    """Mark a class as an interface."""
    return obj


def annotate(the_type: Any, the_value: T) -> T:
    """The value; `the_type` is for compilers."""
    return the_value


script = missing_function("torch.jit.script")
trace = missing_function("torch.jit.trace")
save = missing_function("torch.jit.save")
load = missing_function("torch.jit.load")
