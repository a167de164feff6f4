"""Activation functions made of straight lines (hardswish of one parabola too), with PyTorch's gradients at corners.

Gradients at corners: relu has 0 at 0, leaky_relu its slope; relu6, hardtanh and hardsigmoid have 0 at both ends;
hardswish has 0 at -3 and 1 at 3.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flambeau.core import dispatch, random, recording
from flambeau.core.dispatch import primitive
from flambeau.core.inplace import bump, inplace_of
from flambeau.core.modes import modes
from flambeau.core.tensor import Tensor, wrap
from flambeau.ops.activation_forms import assign, finish, in_float32, inplace_form, need_float, shapes
from flambeau.ops.native import FEW
from flambeau.ops.pointwise import constant_grad, masked, where
from flambeau.ops.shape import reshape

ZERO, INFINITY = np.float32(0), np.float32(math.inf)

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
    return finish(_threshold, input, inplace, threshold=threshold, value=value)


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
    return finish(_leaky_relu, input, inplace, negative_slope=negative_slope)


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
    return finish(_hardtanh, input, inplace, min_val=min_val, max_val=max_val)


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
    return finish(_hardsigmoid, input, inplace)


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
    return finish(_hardswish, input, inplace)


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
    return assign(input, _prelu, weights) if inplace else _prelu(input, weights)


threshold_ = inplace_form(threshold)
leaky_relu_ = inplace_form(leaky_relu)
hardtanh_ = inplace_form(hardtanh)
relu6_ = inplace_form(relu6)
hardsigmoid_ = inplace_form(hardsigmoid)
hardswish_ = inplace_form(hardswish)
rrelu_ = inplace_form(rrelu)


# ---- samples -------------------------------------------------------------------------------------

_relu.samples(shapes)
_threshold.samples(lambda make: shapes(make, threshold=0.1, value=20.0))
_leaky_relu.samples(lambda make: shapes(make, negative_slope=0.01))
_hardtanh.samples(lambda make: shapes(make, min_val=-0.5, max_val=0.7))
_hardshrink.samples(lambda make: shapes(make, lambd=0.4))
_softshrink.samples(lambda make: shapes(make, lambd=0.4))
_hardsigmoid.samples(shapes)
_hardswish.samples(shapes)
_prelu.samples(lambda make: [((make(3, 4), make(4)), {}), ((make(2, 3), make()), {})])
_relu_backward.samples(lambda make: [((make(3, 4), make(3, 4)), {})])
_piecewise.samples(lambda make: [
    ((make(3, 4), make(3, 4)), {"low": -0.5, "high": 0.8, "inside": 2.0, "outside": -1.0, "edges": edges})
    for edges in (False, True)
])  # fmt: skip
