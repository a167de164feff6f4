"""PyTorch's `torch.jit`: functions and modules as programs that run, and can be saved, without their Python source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from flambeau.jit import annotations, frontend  # type: ignore[assignment]  # (shadows the future import)
from flambeau.jit.files import load, save
from flambeau.jit.freezing import freeze, optimize_for_inference, run_frozen_optimizations
from flambeau.jit.modules import RecursiveScriptModule, ScriptFunction, ScriptModule, TopLevelTracedModule, TracedModule
from flambeau.jit.recorder import TracerWarning
from flambeau.jit.script import script
from flambeau.jit.state import is_scripting, is_tracing
from flambeau.jit.tracing import TracingCheckError, trace, trace_module
from flambeau.jit.types import isinstance

__all__ = [
    "Final", "RecursiveScriptModule", "ScriptFunction", "ScriptModule", "TopLevelTracedModule", "TracedModule",
    "TracerWarning", "TracingCheckError", "annotate", "annotations", "export", "freeze", "frontend", "ignore",
    "interface", "is_scripting", "is_tracing", "isinstance", "load", "optimize_for_inference",
    "run_frozen_optimizations", "save", "script", "trace", "trace_module", "unused",
]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def export(fn: F) -> F:
    """Mark a method as one to compile along with `forward`."""
    fn.__dict__["_jit_mark"] = "export"
    return fn


def unused(fn: F) -> F:
    """Mark a method as one that compiled code never reaches: calling it there raises."""
    fn.__dict__["_jit_mark"] = "unused"
    return fn


def ignore(drop: Any = False, **kwargs: Any) -> Any:
    """Mark a function as one that stays in Python: `@ignore`, `@ignore()` or `@ignore(drop=True)`."""
    if callable(drop):
        drop.__dict__["_jit_mark"] = "ignore"
        return drop

    def mark(fn: F) -> F:
        fn.__dict__["_jit_mark"] = "unused" if drop else "ignore"
        return fn

    return mark


def interface(obj: T) -> T:
    """Mark a class as an interface."""
    return obj


def annotate(the_type: Any, the_value: T) -> T:
    """The value; `the_type` is for compilers."""
    return the_value
