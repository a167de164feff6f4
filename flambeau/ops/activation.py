"""Smooth activation functions and their in-place forms; activation_piecewise.py has those of straight lines.

Gradients at corners: elu has 1 at 0; softplus exactly 1 above the threshold.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flambeau.core.dispatch import primitive
from flambeau.core.tensor import Tensor, wrap_dim
from flambeau.ops.activation_forms import assign, finish, in_float32, inplace_form, need_float, shapes
from flambeau.ops.activation_slopes import elu_slope, gelu_slope, silu_slope, softplus_slope
from flambeau.ops.native import accelerated, large, onednn
from flambeau.ops.pointwise import abs, div, mul, sigmoid, tanh
from flambeau.ops.shape import narrow


def log_of_1_and_exp(x: Any) -> Any:
    """log(1 + exp(x)) for x up to 80: NumPy's log is vectorised, its log1p is not.

    The rounding of u = 1 + z loses z - (u - 1), which moves log(u) by this over u.
    """
    z = np.exp(x)
    u = 1 + z
    z -= u - 1
    z /= u
    z += np.log(u)
    return z


@primitive("elu", elementwise=True)
@in_float32
def _elu(x: Any, *, alpha: float, scale: float, input_scale: float) -> Any:
    # expm1(z) as 2 t / (1 - t) with t = tanh(z / 2): NumPy's tanh is vectorised, its expm1 is not.
    t = np.tanh(np.minimum(x, 0) * (input_scale / 2))
    return np.maximum(x, 0) * scale + (2 * alpha * scale) * t / (1 - t)


@accelerated(_elu, when=lambda x, *, alpha, scale, input_scale: input_scale == 1 and large(x))
def _onednn_elu(x: Any, *, alpha: float, scale: float, input_scale: float) -> Any:
    out = onednn().eltwise("elu", x, alpha)
    return out if scale == 1 else np.multiply(out, np.float32(scale), out=out)


@_elu.vjp
def _elu_vjp(grad: Tensor, x: Tensor, alpha: float, scale: float, input_scale: float) -> Any:
    return (elu_slope(grad, x, alpha=alpha, scale=scale, input_scale=input_scale),)


@_elu.scalar
def _elu_scalar(m: Any, x: Any, alpha: float, scale: float, input_scale: float) -> Any:
    return m.maximum(0, x) * scale + alpha * scale * m.expm1(m.minimum(0, x) * input_scale)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha * (exp(x) - 1). Shapes: any. Dtypes: floating, kept.

    Source: Clevert et al. 2016, "Fast and accurate deep network learning by exponential linear units".
    """
    need_float("elu_cpu", input)
    return finish(_elu, input, inplace, alpha=alpha, scale=1.0, input_scale=1.0)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """A scaled elu whose outputs keep mean 0 and variance 1. Shapes: any. Dtypes: floating, kept.

    Source: Klambauer et al. 2017, "Self-normalizing neural networks", equation 2 and the constants of its footnote.
    """
    need_float("elu_cpu", input)
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    return finish(_elu, input, inplace, alpha=alpha, scale=scale, input_scale=1.0)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha * (exp(x / alpha) - 1): smooth for every alpha. RuntimeError if alpha is 0.

    Source: Barron 2017, "Continuously differentiable exponential linear units".
    """
    if alpha == 0:
        raise RuntimeError("ZeroDivisionError: alpha cannot be 0 for CELU")
    need_float("elu_cpu", input)
    return finish(_elu, input, inplace, alpha=alpha, scale=1.0, input_scale=1.0 / alpha)


def _erf() -> Any:
    from flambeau.ops.special import erf  # a large family that most programs never load

    return erf


_SQRT_HALF, _SQRT_2_OVER_PI = math.sqrt(0.5), math.sqrt(2 / math.pi)


@primitive("gelu", elementwise=True)
@in_float32
def _gelu(x: Any, *, approximate: str) -> Any:
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(_SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1 + _erf().op.kernel(x * _SQRT_HALF))


@accelerated(_gelu, when=large)
def _onednn_gelu(x: Any, *, approximate: str) -> Any:
    return onednn().eltwise("gelu_tanh" if approximate == "tanh" else "gelu", x)


@_gelu.vjp
def _gelu_vjp(grad: Tensor, x: Tensor, approximate: str) -> Any:
    return (gelu_slope(grad, x, approximate=approximate),)


@_gelu.scalar
def _gelu_scalar(m: Any, x: Any, approximate: str) -> Any:
    if approximate == "tanh":
        return 0.5 * x * (1 + m.tanh(_SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1 + m.erf(x * _SQRT_HALF))


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x times the normal distribution's probability of values below x; "tanh" takes a fast approximation.

    Shapes: any. Dtypes: floating, kept. Raises: RuntimeError for another `approximate`.
    Source: Hendrycks & Gimpel 2016, "Gaussian error linear units".
    """
    if approximate not in ("none", "tanh"):
        raise RuntimeError(f"approximate argument must be either none or tanh, got {approximate!r}.")
    need_float("GeluKernelImpl", input)
    return _gelu(input, approximate=approximate)


@primitive("silu", elementwise=True)
@in_float32
def _silu(x: Any) -> Any:
    return x * sigmoid.op.kernel(x)


@accelerated(_silu, when=large)
def _onednn_silu(x: Any) -> Any:
    return onednn().eltwise("silu", x)


_silu.vjp(x=lambda grad, x: silu_slope(grad, x))
_silu.scalar(lambda m, x: x * m.sigmoid(x))


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x * sigmoid(x), also called swish. Shapes: any. Dtypes: floating and complex, kept.

    Source: Elfwing et al. 2018, "Sigmoid-weighted linear units".
    """
    if input._array.dtype.kind != "c":
        need_float("silu_cpu", input)
    return finish(_silu, input, inplace)


@primitive("softplus", elementwise=True)
@in_float32
def _softplus(x: Any, *, beta: float, threshold: float) -> Any:
    scaled = x * beta
    if threshold > 80:  # where exp overflows in float32
        return np.where(scaled > threshold, x, np.log1p(np.exp(scaled)) / beta)
    out = np.asanyarray(log_of_1_and_exp(np.minimum(scaled, threshold)) / beta)
    return np.positive(x, out=out, where=scaled > threshold)


@_softplus.vjp
def _softplus_vjp(grad: Tensor, x: Tensor, beta: float, threshold: float) -> Any:
    return (softplus_slope(grad, x, beta=beta, threshold=threshold),)


@_softplus.scalar
def _softplus_scalar(m: Any, x: Any, beta: float, threshold: float) -> Any:
    scaled = x * beta
    return m.where(scaled > threshold, x, m.log1p(m.exp(m.minimum(threshold, scaled))) / beta)


def softplus(input: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """log(1 + exp(beta * x)) / beta, and x itself where beta * x > threshold. Shapes: any. Dtypes: floating, kept."""
    need_float("softplus_cpu", input)
    return _softplus(input, beta=beta, threshold=threshold)


@primitive("log_sigmoid", elementwise=True, grad_name="LogSigmoidBackward0")
@in_float32
def _log_sigmoid(x: Any) -> Any:
    return np.minimum(x, 0) - log_of_1_and_exp(-np.abs(x))


_log_sigmoid.vjp(x=lambda grad, x: mul(grad, sigmoid(-x)))
_log_sigmoid.scalar(lambda m, x: m.minimum(0, x) - m.log1p(m.exp(-m.abs(x))))


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x)), exact for large |x|. Shapes: any. Dtypes: floating, kept."""
    need_float("log_sigmoid_cpu", input)
    return _log_sigmoid(input)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x * tanh(softplus(x)). Shapes: any. Dtypes: floating, kept. Source: Misra 2019, "Mish"."""
    need_float("mish_cpu", input)
    return assign(input, _mish) if inplace else _mish(input)


def _mish(input: Tensor) -> Tensor:
    return input * tanh(softplus(input))


def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|). Shapes: any. Dtypes: floating and complex, kept; integers give the default dtype."""
    return div(input, abs(input) + 1)


def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x). Shapes: any. Dtypes: floating and complex, kept; integers give the default dtype."""
    return input - tanh(input)


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """a * sigmoid(b), with a and b the two halves of the input along `dim`.

    Shapes: (…, 2n, …) -> (…, n, …). Dtypes: floating, kept.
    Raises: RuntimeError for an odd size or a 0-d tensor, IndexError for dim out of range.
    Source: Dauphin et al. 2017, "Language modeling with gated convolutional networks".
    """
    need_float("glu_cpu", input)
    if input._array.ndim == 0:
        raise RuntimeError("glu does not support 0-dimensional tensors")
    dim = wrap_dim(dim, input._array.ndim)
    size = input._array.shape[dim]
    if size % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {dim} is size {size}")
    return narrow(input, dim, 0, size // 2) * sigmoid(narrow(input, dim, size // 2, size // 2))


elu_ = inplace_form(elu)
selu_ = inplace_form(selu)
celu_ = inplace_form(celu)
silu_ = inplace_form(silu)
mish_ = inplace_form(mish)


# ---- samples -------------------------------------------------------------------------------------

_elu.samples(lambda make: shapes(make, alpha=1.5, scale=1.2, input_scale=0.7))
_gelu.samples(lambda make: shapes(make, approximate="none") + shapes(make, approximate="tanh"))
_silu.samples(shapes)
_softplus.samples(lambda make: shapes(make, beta=2.0, threshold=1.0))
_log_sigmoid.samples(shapes)
