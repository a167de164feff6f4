"""Differentiation: the backward walk, switches, custom functions, gradient checks."""

from __future__ import annotations

from typing import Any

from flambeau.autograd import methods as _methods
from flambeau.autograd.engine import backward, grad
from flambeau.autograd.function import Function, once_differentiable
from flambeau.autograd.modes import (
    detect_anomaly,
    enable_grad,
    inference_mode,
    is_anomaly_enabled,
    no_grad,
    set_detect_anomaly,
    set_grad_enabled,
)
from flambeau.autograd.variable import Variable

_methods.bind()

__all__ = [
    "Function",
    "Variable",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "functional",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "inference_mode",
    "is_anomaly_enabled",
    "no_grad",
    "once_differentiable",
    "set_detect_anomaly",
    "set_grad_enabled",
]


def __getattr__(name: str) -> Any:
    # Not needed by ordinary training: imported when asked for.
    import importlib

    if name in ("functional", "profiler", "grad_mode"):
        return importlib.import_module(f"flambeau.autograd.{name}")
    if name in ("gradcheck", "gradgradcheck", "GradcheckError"):
        # The submodule has the function's name; once imported it must not hide the function.
        module = importlib.import_module("flambeau.autograd.gradcheck")
        for each in ("gradcheck", "gradgradcheck", "GradcheckError"):
            globals()[each] = getattr(module, each)
        return globals()[name]
    raise AttributeError(f"module 'flambeau.autograd' has no attribute '{name}'")
