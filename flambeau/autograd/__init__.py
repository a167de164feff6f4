"""Differentiation: the backward walk, switches, custom functions, gradient checks."""

from __future__ import annotations

from flambeau.autograd import methods as _methods
from flambeau.autograd.engine import backward, grad
from flambeau.autograd.modes import (
    detect_anomaly, enable_grad, inference_mode, is_anomaly_enabled, no_grad, set_detect_anomaly, set_grad_enabled,
)

_methods.bind()

__all__ = [
    "backward", "detect_anomaly", "enable_grad", "grad", "inference_mode", "is_anomaly_enabled", "no_grad", "set_detect_anomaly",
    "set_grad_enabled",
]
