"""Derivatives of the smooth activation functions, each as one kernel: gradient times slope, without temporaries.

Every function takes (grad, x, attributes). Where the derivative will be differentiated itself it is the formula in
tensor operations; NumPy, or oneDNN for large arrays, otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.core.dispatch import primitive
from flambeau.core.modes import modes
from flambeau.ops.native import accelerated, large, onednn
from flambeau.ops.pointwise import FORMULA, exp, mul, sigmoid, sub, tanh, where

_SQRT_HALF, _SQRT_2_OVER_PI = math.sqrt(0.5), math.sqrt(2 / math.pi)
_DENSITY = 1 / math.sqrt(2 * math.pi)


def _erf() -> Any:
    from flambeau.ops.special import erf  # a large family that most programs never load

    return erf


def _times_slope(slope: Callable[..., Any]) -> Callable[..., Any]:
    """The gradient times slope(x, attributes), in float32 for half-width floats."""

    def run(grad: Any, x: Any, **attrs: Any) -> Any:
        wide = x.astype(np.float32) if x.dtype.itemsize == 2 else x
        out = slope(wide, **attrs)
        out *= grad
        return out if wide is x else out.astype(x.dtype)

    return run


def _choose(as_primitive: Any, formula: Callable[..., Any]) -> Callable[..., Any]:
    """The formula where a graph of the derivative is wanted or numbers are complex, else the kernel."""

    def slope(grad: Any, x: Any, **attrs: Any) -> Any:
        if modes.grad or x._array.dtype.kind == "c":
            return formula(grad, x, **attrs)
        return as_primitive(grad, x, **attrs)

    slope.__doc__ = formula.__doc__
    return slope


# ---- elu -----------------------------------------------------------------------------------------


def _elu_slope_array(x: Any, *, alpha: float, scale: float, input_scale: float) -> Any:
    steep = alpha * scale * input_scale
    out = np.asanyarray(np.exp(np.fmin(x, 0) * input_scale) * steep)  # fmin: at nan the slope is that of the right side
    if steep != scale:
        np.positive(scale, out=out, where=~(x <= 0))
    return out


@primitive("elu_backward", no_gradient=FORMULA)
def _elu_backward(grad: Any, x: Any, *, alpha: float, scale: float, input_scale: float) -> Any:
    return _times_slope(_elu_slope_array)(grad, x, alpha=alpha, scale=scale, input_scale=input_scale)


@accelerated(_elu_backward, when=lambda grad, x, *, alpha, scale, input_scale: input_scale == 1 and large(grad, x))
def _onednn_elu_backward(grad: Any, x: Any, *, alpha: float, scale: float, input_scale: float) -> Any:
    out = onednn().eltwise_backward("elu", grad, x, alpha)
    return out if scale == 1 else np.multiply(out, np.float32(scale), out=out)


@_elu_backward.scalar
def _elu_backward_scalar(m: Any, grad: Any, x: Any, alpha: float, scale: float, input_scale: float) -> Any:
    return m.where(x <= 0, m.exp(x * input_scale) * (alpha * scale * input_scale), scale) * grad


def _elu_formula(grad: Any, x: Any, *, alpha: float, scale: float, input_scale: float) -> Any:
    """scale above 0, alpha * scale * input_scale * exp(input_scale * x) up to it."""
    return where(x <= 0, grad * (exp(x * input_scale) * (alpha * scale * input_scale)), grad * scale)


elu_slope = _choose(_elu_backward, _elu_formula)

# ---- gelu ----------------------------------------------------------------------------------------


def _gelu_slope_array(x: Any, *, approximate: str) -> Any:
    if approximate == "tanh":
        square = x * x
        t = np.tanh(_SQRT_2_OVER_PI * x * (1 + 0.044715 * square))
        bend = (1 - t * t) * x * (1 + 3 * 0.044715 * square)
        bend *= _SQRT_2_OVER_PI
        bend += 1 + t
        bend *= 0.5
        return bend
    out = x * np.exp(-0.5 * x * x)
    out *= _DENSITY
    below = _erf().op.kernel(x * _SQRT_HALF)
    out += 0.5 * below + 0.5
    return out


@primitive("gelu_backward", no_gradient=FORMULA)
def _gelu_backward(grad: Any, x: Any, *, approximate: str) -> Any:
    return _times_slope(_gelu_slope_array)(grad, x, approximate=approximate)


@accelerated(_gelu_backward, when=large)
def _onednn_gelu_backward(grad: Any, x: Any, *, approximate: str) -> Any:
    return onednn().eltwise_backward("gelu_tanh" if approximate == "tanh" else "gelu", grad, x)


@_gelu_backward.scalar
def _gelu_backward_scalar(m: Any, grad: Any, x: Any, approximate: str) -> Any:
    if approximate == "tanh":
        square = x * x
        t = m.tanh(_SQRT_2_OVER_PI * x * (1 + 0.044715 * square))
        bend = (1 - t * t) * x * (1 + 3 * 0.044715 * square)
        return (bend * _SQRT_2_OVER_PI + (1 + t)) * 0.5 * grad
    return (x * m.exp(-0.5 * x * x) * _DENSITY + (0.5 * m.erf(x * _SQRT_HALF) + 0.5)) * grad


def _gelu_formula(grad: Any, x: Any, *, approximate: str) -> Any:
    """The normal distribution's probability below x, plus x times its density; or the slope of the approximation."""
    if approximate == "tanh":
        t = tanh(_SQRT_2_OVER_PI * (x + 0.044715 * x * x * x))
        inner = _SQRT_2_OVER_PI * (1 + 3 * 0.044715 * x * x)
        return grad * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner)
    density = exp(-0.5 * x * x) * _DENSITY
    return grad * (0.5 * (1 + _erf()(x * _SQRT_HALF)) + x * density)


gelu_slope = _choose(_gelu_backward, _gelu_formula)

# ---- silu ----------------------------------------------------------------------------------------


def _silu_slope_array(x: Any) -> Any:
    s = sigmoid.op.kernel(x)
    out = 1 - s
    out *= x
    out += 1
    out *= s
    return out


@primitive("silu_backward", no_gradient=FORMULA)
def _silu_backward(grad: Any, x: Any) -> Any:
    return _times_slope(_silu_slope_array)(grad, x)


@accelerated(_silu_backward, when=large)
def _onednn_silu_backward(grad: Any, x: Any) -> Any:
    return onednn().eltwise_backward("silu", grad, x)


@_silu_backward.scalar
def _silu_backward_scalar(m: Any, grad: Any, x: Any) -> Any:
    s = m.sigmoid(x)
    return ((1 - s) * x + 1) * s * grad


def _silu_formula(grad: Any, x: Any) -> Any:
    """s * (1 + x * (1 - s)) with s the sigmoid."""
    s = sigmoid(x)
    return mul(grad, mul(s, mul(x, sub(1, s)) + 1))


silu_slope = _choose(_silu_backward, _silu_formula)

# ---- softplus ------------------------------------------------------------------------------------


def _softplus_slope_array(x: Any, *, beta: float, threshold: float) -> Any:
    scaled = np.asanyarray(x * beta)
    return np.positive(1.0, out=sigmoid.op.run(scaled), where=scaled > threshold)


@primitive("softplus_backward", no_gradient=FORMULA)
def _softplus_backward(grad: Any, x: Any, *, beta: float, threshold: float) -> Any:
    return _times_slope(_softplus_slope_array)(grad, x, beta=beta, threshold=threshold)


@_softplus_backward.scalar
def _softplus_backward_scalar(m: Any, grad: Any, x: Any, beta: float, threshold: float) -> Any:
    scaled = x * beta
    return m.where(scaled > threshold, 1.0, m.sigmoid(scaled)) * grad


def _softplus_formula(grad: Any, x: Any, *, beta: float, threshold: float) -> Any:
    """The sigmoid of beta * x, and 1 above the threshold."""
    scaled = x * beta
    return where(scaled > threshold, grad, grad * sigmoid(scaled))


softplus_slope = _choose(_softplus_backward, _softplus_formula)
