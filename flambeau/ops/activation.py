"""Activation functions, with PyTorch's gradients at their corners, and their in-place forms.

Gradients at corners: relu has 0 at 0, leaky_relu its slope, elu 1; relu6, hardtanh and hardsigmoid have 0 at both
ends; hardswish has 0 at -3 and 1 at 3; softplus exactly 1 above the threshold.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.core import dispatch, random, recording
from flambeau.core.dispatch import primitive
from flambeau.core.inplace import bump, inplace_of, scalar_name
from flambeau.core.modes import modes
from flambeau.core.tensor import Tensor, wrap, wrap_dim
from flambeau.ops.activation_slopes import elu_slope, gelu_slope, silu_slope, softplus_slope
from flambeau.ops.native import FEW, accelerated, large, onednn
from flambeau.ops.pointwise import abs, constant_grad, div, masked, mul, sigmoid, tanh, where
from flambeau.ops.shape import narrow, reshape

ZERO, INFINITY = np.float32(0), np.float32(math.inf)

# ---- on arrays -----------------------------------------------------------------------------------


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


def in_float32(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel that computes half-width floats in float32 and rounds once, as PyTorch does."""

    @functools.wraps(kernel)
    def run(x: Any, **attrs: Any) -> Any:
        if x.dtype.itemsize == 2 and x.dtype.kind in "fV":
            return kernel(x.astype(np.float32), **attrs).astype(x.dtype)
        return kernel(x, **attrs)

    return run


def need_float(name: str, input: Any) -> None:
    """NotImplementedError for tensors of integers, bools (and complex numbers), TypeError for anything else."""
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    if input._array.dtype.kind in "biuc":
        raise NotImplementedError(f"\"{name}\" not implemented for '{scalar_name(input._array.dtype)}'")


# ---- piecewise linear ----------------------------------------------------------------------------


@primitive("piecewise_backward")
def _piecewise(
    grad: Any, x: Any, *, low: float, high: float, inside: float, outside: float, edges: bool = False
) -> Any:
    """The gradient times `inside` where low < x < high (or x is nan), times `outside` elsewhere.

    With `edges` low and high themselves belong to the inside.
    """
    if high == math.inf:
        beyond = x < low if edges else x <= low
    else:
        beyond = ((x < low) | (x > high)) if edges else ((x <= low) | (x >= high))
    if outside == 0:
        return masked(grad if inside == 1 else grad * grad.dtype.type(inside), ~beyond)
    if inside == 0:
        return masked(grad if outside == 1 else grad * grad.dtype.type(outside), beyond)
    slopes = np.array([inside, outside], grad.dtype)
    return grad * slopes.take(beyond.view(np.uint8))


_piecewise.vjp(
    grad=lambda grad, x, low, high, inside, outside, edges: _piecewise(
        grad, x, low=low, high=high, inside=inside, outside=outside, edges=edges
    ),
    x=lambda grad: constant_grad(grad),
)


@_piecewise.scalar
def _piecewise_scalar(
    m: Any, grad: Any, x: Any, low: float, high: float, inside: float, outside: float, edges: bool = False
) -> Any:
    beyond = x < low if edges else x <= low
    if high != math.inf:
        beyond = beyond | (x > high if edges else x >= high)
    below, within = (0 if slope == 0 else grad if slope == 1 else grad * slope for slope in (outside, inside))
    return m.where(beyond, below, within)


@primitive("relu", elementwise=True)
def _relu(x: Any) -> Any:
    if x.dtype.kind == "b":
        raise RuntimeError("Boolean inputs not supported for relu")
    if x.dtype == np.float32 and x.size >= FEW:
        return np.clip(x, ZERO, INFINITY)  # 3 times as fast as `maximum` with one number; nan stays nan in both
    return np.maximum(x, 0)


@primitive("relu_backward", grad_name="ThresholdBackwardBackward0")
def _relu_backward(grad: Any, out: Any) -> Any:
    """The gradient where relu let its input pass (or saw nan)."""
    return masked(grad, ~(out <= 0))


_relu.vjp(x=lambda grad, out: _relu_backward(grad, out))
_relu.scalar(lambda m, x: m.maximum(0, x))
_relu_backward.vjp(grad=lambda grad, out: _relu_backward(grad, out), out=lambda grad: constant_grad(grad))
_relu_backward.scalar(lambda m, grad, out: m.where(out <= 0, 0, grad))


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(0, x), element by element; the gradient at 0 is 0. Shapes: any. Dtypes: real, kept; RuntimeError for bool.

    >>> F.relu(torch.tensor([-1.0, 0.0, 2.0])).tolist()
    [0.0, 0.0, 2.0]
    """
    return relu_(input) if inplace else _relu(input)


_relu_with_history = inplace_of(_relu, "relu_")


def relu_(input: Tensor) -> Tensor:
    """In-place form of `relu`: writes the result over the tensor and returns it."""
    if not isinstance(input, Tensor):
        return _relu_with_history(input)
    array = input._array
    if (dispatch.interceptor is not None or recording.recorder is not None or (input._requires_grad and modes.grad)
            or type(array) is not np.ndarray or array.dtype != np.float32 or 0 in array.strides):
        return _relu_with_history(input)
    np.clip(array, ZERO, INFINITY, out=array)
    bump(input)
    return input


relu_.functional = _relu  # type: ignore[attr-defined]


@primitive("threshold", elementwise=True)
def _threshold(x: Any, *, threshold: float, value: float) -> Any:
    return np.where(x <= threshold, x.dtype.type(value), x)


@_threshold.vjp
def _threshold_vjp(grad: Tensor, x: Tensor, threshold: float) -> Any:
    return (_piecewise(grad, x, low=threshold, high=math.inf, inside=1, outside=0),)


@_threshold.scalar
def _threshold_scalar(m: Any, x: Any, threshold: float, value: float) -> Any:
    number = m.cast(x, np.float64) if x.dtype.kind in "iu" else x
    return m.where(number <= threshold, x.dtype.type(value), x)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where x > threshold, else value. Shapes: any. Dtypes: real, kept; NotImplementedError for bool."""
    if input._array.dtype.kind == "b":
        raise NotImplementedError("\"threshold_cpu\" not implemented for 'Bool'")
    return _finish(_threshold, input, inplace, threshold=threshold, value=value)


@primitive("leaky_relu", elementwise=True)
def _leaky_relu(x: Any, *, negative_slope: float) -> Any:
    if 0 <= negative_slope <= 1:
        return np.maximum(x, x * negative_slope)
    return np.where(x > 0, x, x * negative_slope)


@_leaky_relu.vjp
def _leaky_relu_vjp(grad: Tensor, x: Tensor, negative_slope: float) -> Any:
    return (_piecewise(grad, x, low=0, high=math.inf, inside=1, outside=negative_slope),)


@_leaky_relu.scalar
def _leaky_relu_scalar(m: Any, x: Any, negative_slope: float) -> Any:
    return m.maximum(x, x * negative_slope) if 0 <= negative_slope <= 1 else m.where(x > 0, x, x * negative_slope)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, else negative_slope * x. Shapes: any. Dtypes: floating, kept.

    Source: Maas et al. 2013, "Rectifier nonlinearities improve neural network acoustic models".
    """
    need_float("leaky_relu", input)
    return _finish(_leaky_relu, input, inplace, negative_slope=negative_slope)


@primitive("hardtanh", elementwise=True)
def _hardtanh(x: Any, *, min_val: float, max_val: float) -> Any:
    kind = x.dtype.type
    return np.clip(x, kind(min_val), kind(max_val))


@_hardtanh.vjp
def _hardtanh_vjp(grad: Tensor, x: Tensor, min_val: float, max_val: float) -> Any:
    return (_piecewise(grad, x, low=min_val, high=max_val, inside=1, outside=0),)


@_hardtanh.scalar
def _hardtanh_scalar(m: Any, x: Any, min_val: float, max_val: float) -> Any:
    return m.minimum(x.dtype.type(max_val), m.maximum(x.dtype.type(min_val), x))


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x, no less than min_val and no more than max_val; the gradient at both is 0. RuntimeError for bool and uint8.

    Raises: ValueError if min_val > max_val.
    """
    if input._array.dtype.kind == "b":
        raise RuntimeError("Bool inputs not supported for hardtanh")
    if min_val > max_val:
        raise ValueError(f"min_val cannot be greater than max_val, got {min_val} > {max_val}")
    if input._array.dtype.kind == "u" and min_val < 0:
        raise RuntimeError("cannot do hardtanh on an unsigned type with negative limits")
    return _finish(_hardtanh, input, inplace, min_val=min_val, max_val=max_val)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(0, x), 6); the gradient at 0 and 6 is 0."""
    return hardtanh(input, 0.0, 6.0, inplace)


@primitive("hardsigmoid", elementwise=True)
@in_float32
def _hardsigmoid(x: Any) -> Any:
    return np.clip(x + 3, 0, 6) / 6


_hardsigmoid.vjp(x=lambda grad, x: _piecewise(grad, x, low=-3, high=3, inside=1 / 6, outside=0))
_hardsigmoid.scalar(lambda m, x: m.minimum(6, m.maximum(0, x + 3)) / 6)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """(x + 3) / 6 between 0 and 1: a sigmoid of straight lines. Shapes: any. Dtypes: floating, kept.

    Source: Howard et al. 2019, "Searching for MobileNetV3".
    """
    need_float("hardsigmoid", input)
    return _finish(_hardsigmoid, input, inplace)


@primitive("hardswish", elementwise=True)
@in_float32
def _hardswish(x: Any) -> Any:
    return x * np.clip(x + 3, 0, 6) / 6


_hardswish.vjp(x=lambda grad, x: where(x <= -3, 0, where(x < 3, grad * (x / 3 + 0.5), grad)))
_hardswish.scalar(lambda m, x: x * m.minimum(6, m.maximum(0, x + 3)) / 6)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x * hardsigmoid(x). Shapes: any. Dtypes: floating, kept.

    Source: Howard et al. 2019, "Searching for MobileNetV3".
    """
    need_float("hardswish_cpu", input)
    return _finish(_hardswish, input, inplace)


@primitive("hardshrink", elementwise=True)
def _hardshrink(x: Any, *, lambd: float) -> Any:
    return np.where((x >= -lambd) & (x <= lambd), x.dtype.type(0), x)


@primitive("softshrink", elementwise=True)
def _softshrink(x: Any, *, lambd: float) -> Any:
    return np.where(x > lambd, x - lambd, np.where(x < -lambd, x + lambd, x * 0))


def _shrink_vjp(grad: Tensor, x: Tensor, lambd: float) -> Any:
    return (_piecewise(grad, x, low=-lambd, high=lambd, inside=0, outside=1, edges=True),)


_hardshrink.vjp(_shrink_vjp)
_softshrink.vjp(_shrink_vjp)
_hardshrink.scalar(lambda m, x, lambd: m.where((x >= -lambd) & (x <= lambd), 0, x))
_softshrink.scalar(lambda m, x, lambd: m.where(x > lambd, x - lambd, m.where(x < -lambd, x + lambd, x * 0)))


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x where |x| > lambd, else 0. Shapes: any. Dtypes: floating, kept."""
    need_float("hardshrink_cpu", input)
    return _hardshrink(input, lambd=lambd)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved by lambd towards 0, and 0 in between. Shapes: any. Dtypes: floating, kept. RuntimeError if lambd < 0."""
    need_float("softshrink_cpu", input)
    if not lambd >= 0:
        raise RuntimeError(f"lambda must be greater or equal to 0, but found to be {lambd}.")
    return _softshrink(input, lambd=lambd)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x where x > 0, else weight * x, with one weight, or one for each channel (dimension 1).

    Shapes: input (N, C, …), weight (1,), () or (C,). Dtypes: floating, both the same.
    Raises: RuntimeError for a weight of another size or dtype.
    Source: He et al. 2015, "Delving deep into rectifiers".
    """
    need_float("prelu_cpu", input)
    channels = input._array.shape[1] if input._array.ndim > 1 else 1
    if weight._array.dtype != input._array.dtype:
        raise RuntimeError(f"prelu: Type promoting not supported. Got {input.dtype} and {weight.dtype}")
    if weight._array.ndim > 1:
        raise RuntimeError(
            f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = {weight._array.ndim}"
        )
    if weight._array.size != 1:
        if input._array.ndim == 0:
            raise RuntimeError("prelu: Not allow zero-dim input tensor.")
        if weight._array.size != channels:
            raise RuntimeError(
                "prelu: Mismatch of parameter numbers and input channel size. Found parameter numbers = "
                f"{weight._array.size} and channel size = {channels}."
            )
        weight = reshape(weight, (channels, *[1] * (input._array.ndim - 2)))
    elif weight._array.ndim:
        weight = reshape(weight, ())
    return _prelu(input, weight)


@primitive("prelu", elementwise=True)
def _prelu(x: Any, w: Any) -> Any:
    return np.where(x > 0, x, w * x)


_prelu.vjp(
    x=lambda grad, x, w: _where_positive(grad, x) + w * _where_negative(grad, x),
    w=lambda grad, x: x * _where_negative(grad, x),
)
_prelu.scalar(lambda m, x, w: m.where(x > 0, x, w * x))


def _where_positive(grad: Tensor, x: Tensor) -> Tensor:
    return _piecewise(grad, x, low=0, high=math.inf, inside=1, outside=0)


def _where_negative(grad: Tensor, x: Tensor) -> Tensor:
    return _piecewise(grad, x, low=0, high=math.inf, inside=0, outside=1)


def rrelu(
    input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, inplace: bool = False
) -> Tensor:
    """A leaky relu whose slope is drawn uniformly for each element in training, and the mean of both ends otherwise.

    Shapes: any. Dtypes: floating, kept. Source: Xu et al. 2015, "Empirical evaluation of rectified activations in
    convolutional network".
    """
    need_float("rrelu_with_noise", input)
    if lower > upper:
        raise RuntimeError(f"Lower bound should be less than or equal to the upper bound, got {lower} > {upper}")
    if not training:
        return leaky_relu(input, (lower + upper) / 2, inplace)
    recording.read(input)  # how many are drawn depends on it
    negative = input._array <= 0
    slopes = np.ones(input._array.shape, input._array.dtype)
    low, high = (float(slopes.dtype.type(end)) for end in (lower, upper))  # PyTorch rounds the ends to the dtype
    drawn = random.uniform(random.default_generator, int(negative.sum()), np.dtype(np.float64), low, high)
    slopes[negative] = drawn
    weights = wrap(slopes)
    return _assign(input, _prelu, weights) if inplace else _prelu(input, weights)


# ---- smooth --------------------------------------------------------------------------------------


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
    return _finish(_elu, input, inplace, alpha=alpha, scale=1.0, input_scale=1.0)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """A scaled elu whose outputs keep mean 0 and variance 1. Shapes: any. Dtypes: floating, kept.

    Source: Klambauer et al. 2017, "Self-normalizing neural networks", equation 2 and the constants of its footnote.
    """
    need_float("elu_cpu", input)
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    return _finish(_elu, input, inplace, alpha=alpha, scale=scale, input_scale=1.0)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha * (exp(x / alpha) - 1): smooth for every alpha. RuntimeError if alpha is 0.

    Source: Barron 2017, "Continuously differentiable exponential linear units".
    """
    if alpha == 0:
        raise RuntimeError("ZeroDivisionError: alpha cannot be 0 for CELU")
    need_float("elu_cpu", input)
    return _finish(_elu, input, inplace, alpha=alpha, scale=1.0, input_scale=1.0 / alpha)


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
    return _finish(_silu, input, inplace)


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
    return _assign(input, _mish) if inplace else _mish(input)


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


# ---- in place ------------------------------------------------------------------------------------


def _assign(input: Tensor, function: Any, *args: Any, **attrs: Any) -> Tensor:
    return inplace_of(function)(input, *args, **attrs)


def _finish(op: Any, input: Tensor, inplace: bool, **attrs: Any) -> Tensor:
    return _assign(input, op, **attrs) if inplace else op(input, **attrs)


def _inplace(function: Any) -> Any:
    """`function_`: the same with inplace=True, for users who spell it that way."""

    @functools.wraps(function)
    def run(input: Tensor, *args: Any, **options: Any) -> Tensor:
        return function(input, *args, **options, inplace=True)

    run.__name__ = run.__qualname__ = function.__name__ + "_"
    run.__doc__ = f"In-place form of `{function.__name__}`: writes the result over the tensor and returns it."
    return run


threshold_ = _inplace(threshold)
leaky_relu_ = _inplace(leaky_relu)
hardtanh_ = _inplace(hardtanh)
relu6_ = _inplace(relu6)
hardsigmoid_ = _inplace(hardsigmoid)
hardswish_ = _inplace(hardswish)
rrelu_ = _inplace(rrelu)
elu_ = _inplace(elu)
selu_ = _inplace(selu)
celu_ = _inplace(celu)
silu_ = _inplace(silu)
mish_ = _inplace(mish)


# ---- samples -------------------------------------------------------------------------------------


def _shapes(make: Any, **attrs: Any) -> list[Any]:
    return [((make(3, 4),), attrs), ((make(0, 2),), attrs), ((make(4, 3).T,), attrs), ((make(),), attrs)]


_relu.samples(_shapes)
_threshold.samples(lambda make: _shapes(make, threshold=0.1, value=20.0))
_leaky_relu.samples(lambda make: _shapes(make, negative_slope=0.01))
_hardtanh.samples(lambda make: _shapes(make, min_val=-0.5, max_val=0.7))
_hardshrink.samples(lambda make: _shapes(make, lambd=0.4))
_softshrink.samples(lambda make: _shapes(make, lambd=0.4))
_hardsigmoid.samples(_shapes)
_hardswish.samples(_shapes)
_elu.samples(lambda make: _shapes(make, alpha=1.5, scale=1.2, input_scale=0.7))
_gelu.samples(lambda make: _shapes(make, approximate="none") + _shapes(make, approximate="tanh"))
_silu.samples(_shapes)
_softplus.samples(lambda make: _shapes(make, beta=2.0, threshold=1.0))
_log_sigmoid.samples(_shapes)
_prelu.samples(lambda make: [((make(3, 4), make(4)), {}), ((make(2, 3), make()), {})])
_relu_backward.samples(lambda make: [((make(3, 4), make(3, 4)), {})])
_piecewise.samples(lambda make: [
    ((make(3, 4), make(3, 4)), {"low": -0.5, "high": 0.8, "inside": 2.0, "outside": -1.0, "edges": edges})
    for edges in (False, True)
])  # fmt: skip
