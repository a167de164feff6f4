"""Comparing whole tensors, and cleaning values: `equal`, `isclose`, `allclose`, `nan_to_num`, `round`."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core import recording, return_types
from flambeau.core.dispatch import primitive
from flambeau.core.inplace import scalar_name
from flambeau.core.tensor import Tensor, computed, constant
from flambeau.ops.comparison import eq, isfinite, isnan, logical_and, logical_or
from flambeau.ops.pointwise import abs as abs_
from flambeau.ops.pointwise import constant_grad, div, mul, pow, rint, sub, where, zero_of


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether both have the same shape and elements."""
    for position, t in enumerate((input, other)):
        if not isinstance(t, Tensor):
            raise TypeError(
                f"equal(): argument '{'input' if position == 0 else 'other'}' (position {position + 1}) must be "
                f"Tensor, not "
                f"{type(t).__name__}"
            )
    if input._array.shape != other._array.shape:
        return False
    if input._array.dtype != other._array.dtype:
        raise RuntimeError(
            f"Expected object of scalar type {scalar_name(input._array.dtype)} but got scalar type "
            f"{scalar_name(other._array.dtype)} for "
            "argument 'other'"
        )
    recording.read(input)
    recording.read(other)
    return bool(np.array_equal(input._array, other._array))


def isclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Tensor:
    """Where |input - other| <= atol + rtol * |other|. RuntimeError for different types or negative tolerances."""
    for position, (name, t) in enumerate((("input", input), ("other", other)), start=1):
        if not isinstance(t, Tensor):
            kind = type(t).__name__
            raise TypeError(f"isclose(): argument '{name}' (position {position}) must be Tensor, not {kind}")
    if input._array.dtype != other._array.dtype:
        raise RuntimeError(f"{scalar_name(input._array.dtype)} did not match {scalar_name(other._array.dtype)}")
    if rtol < 0:
        raise RuntimeError(f"rtol must be greater than or equal to zero, but got {rtol}")
    if atol < 0:
        raise RuntimeError(f"atol must be greater than or equal to zero, but got {atol}")
    input, other = input.detach(), other.detach()
    close = eq(input, other)
    if equal_nan and input.dtype.category >= dtypes.FLOAT:
        close = logical_or(close, logical_and(isnan(input), isnan(other)))
    if rtol == 0 and atol == 0:
        return close
    if input.dtype.category < dtypes.FLOAT:
        input, other = input.to(dtypes.float64), other.to(dtypes.float64)
    gap = abs_(sub(input, other))
    allowed = abs_(mul(other, rtol)) + atol
    return logical_or(close, logical_and(isfinite(gap), gap <= allowed))


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """Whether `isclose` holds everywhere."""
    return bool(isclose(input, other, rtol, atol, equal_nan).all())


@primitive("nan_to_num")
def _nan_to_num(x: Any, *, nan: float, posinf: Any, neginf: Any) -> Any:
    if x.dtype.kind in "biu":
        return x.copy()
    return np.nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf)


@_nan_to_num.vjp
def _nan_to_num_vjp(grad: Tensor, x: Tensor) -> Any:
    return where(isfinite(x), grad, zero_of(grad))


@_nan_to_num.scalar
def _nan_to_num_scalar(m: Any, x: Any, nan: float, posinf: Any, neginf: Any) -> Any:
    if x.dtype.kind in "biu":
        return x
    info = dtypes.finfo(dtypes.from_numpy(x.dtype))
    out = m.where(x == np.inf, info.max if posinf is None else posinf, x)
    return m.where(m.isnan(x), nan, m.where(x == -np.inf, info.min if neginf is None else neginf, out))


def nan_to_num(
    input: Tensor, nan: float | None = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """nan replaced by `nan`, infinities by the given numbers or the type's largest and smallest."""
    if input.dtype in (dtypes.float16, dtypes.bfloat16):
        info = dtypes.finfo(input.dtype)
        posinf, neginf = info.max if posinf is None else posinf, info.min if neginf is None else neginf
    return _nan_to_num(input, nan=0.0 if nan is None else nan, posinf=posinf, neginf=neginf)


@primitive("round_decimals", grad_name="RoundBackward1")
def _round_decimals(x: Any, *, decimals: int) -> Any:
    scale = x.dtype.type(10.0 ** abs(decimals))
    return np.rint(x * scale) / scale if decimals > 0 else np.rint(x / scale) * scale


_round_decimals.vjp(x=lambda grad: constant_grad(grad))


@_round_decimals.scalar
def _round_decimals_scalar(m: Any, x: Any, decimals: int) -> Any:
    scale = x.dtype.type(10.0 ** abs(decimals))
    return m.rint(x * scale) / scale if decimals > 0 else m.rint(x / scale) * scale


def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """Rounded to the nearest integer, halves to even; or to `decimals` places, which may be negative."""
    if input.dtype.is_complex:
        raise NotImplementedError('"round_vml_cpu" not implemented for \'' + scalar_name(input._array.dtype) + "'")
    if decimals == 0:
        return rint(input)
    if input.dtype.category < dtypes.FLOAT:
        raise NotImplementedError(f"\"round_vml_cpu\" not implemented for '{scalar_name(input._array.dtype)}'")
    return _round_decimals(input, decimals=decimals)


def frac(input: Tensor) -> Tensor:
    """The part after the decimal point, with the sign of the number."""
    if input.dtype.category < dtypes.FLOAT:
        raise NotImplementedError(f"\"frac_cpu\" not implemented for '{scalar_name(input._array.dtype)}'")
    return sub(input, input.detach().trunc())


def deg2rad(input: Tensor) -> Tensor:
    """Degrees to radians."""
    return mul(input, float(np.pi / 180))


def rad2deg(input: Tensor) -> Tensor:
    """Radians to degrees."""
    return mul(input, float(180 / np.pi))


def logaddexp(input: Tensor, other: Tensor) -> Tensor:
    """log(exp(input) + exp(other)) without overflow."""
    return _logaddexp(input, other)


_logaddexp = primitive("logaddexp", elementwise=True)(np.logaddexp)
_logaddexp.vjp(x=lambda grad, x, out: mul(grad, sub(x, out).exp()), y=lambda grad, y, out: mul(grad, sub(y, out).exp()))
_logaddexp2 = primitive("logaddexp2", elementwise=True)(np.logaddexp2)
_logaddexp2.vjp(
    x=lambda grad, x, out: mul(grad, pow(2.0, sub(x, out))), y=lambda grad, y, out: mul(grad, pow(2.0, sub(y, out)))
)


@_logaddexp.scalar
def _logaddexp_scalar(m: Any, x: Any, y: Any) -> Any:
    """Equal arguments apart: there infinities have no difference."""
    return m.where(x == y, x + np.log(2), m.maximum(x, y) + m.log1p(m.exp(-m.abs(x - y))))


@_logaddexp2.scalar
def _logaddexp2_scalar(m: Any, x: Any, y: Any) -> Any:
    return m.where(x == y, x + 1, m.maximum(x, y) + m.log1p(m.exp2(-m.abs(x - y))) * (1 / np.log(2)))


def logaddexp2(input: Tensor, other: Tensor) -> Tensor:
    """log2(2^input + 2^other) without overflow."""
    return _logaddexp2(input, other)


_heaviside = primitive("heaviside", elementwise=True, no_gradient="a step function")(np.heaviside)
_heaviside.scalar(lambda m, x, y: m.where(x == 0, y, m.where(m.isnan(x), x, m.where(x < 0, m.number(0, x), 1))))


def heaviside(input: Tensor, values: Tensor) -> Tensor:
    """0 for negative, 1 for positive elements, `values` at 0. RuntimeError for different types."""
    if input._array.dtype != values._array.dtype:
        raise RuntimeError("heaviside is not yet implemented for tensors with different dtypes.")
    if input.dtype.category < dtypes.FLOAT:
        return where(eq(input, 0), values, (input > 0).to(input.dtype))
    return _heaviside(input, values)


def ldexp(input: Tensor, other: Tensor) -> Tensor:
    """input * 2^other."""
    return mul(input, pow(2.0, other))


_gcd = primitive("gcd", elementwise=True, no_gradient="integers")(np.gcd)
_lcm = primitive("lcm", elementwise=True, no_gradient="integers")(np.lcm)


def gcd(input: Tensor, other: Tensor) -> Tensor:
    """Greatest common divisor of integers."""
    return _gcd(input, other)


def lcm(input: Tensor, other: Tensor) -> Tensor:
    """Least common multiple of integers."""
    return _lcm(input, other)


_nextafter = primitive("nextafter", elementwise=True)(np.nextafter)


# As in PyTorch: a step of one unit in the last place counts as none.
_nextafter.vjp(x=lambda grad: grad, y=lambda grad: constant_grad(grad))
_nextafter.scalar(lambda m, x, y: m.nextafter(x, y))


def nextafter(input: Tensor, other: Tensor) -> Tensor:
    """The next representable number towards `other`."""
    return _nextafter(input, other)


@primitive("frexp", outputs=2)
def _frexp(x: Any) -> Any:
    wide = x.astype(np.float32) if x.dtype.itemsize == 2 else x
    mantissa, exponent = np.frexp(wide)
    return mantissa.astype(x.dtype), np.where(np.isfinite(wide), exponent, 0).astype(np.int32)


@_frexp.vjp
def _frexp_vjp(grad: Any, out1: Tensor) -> Any:
    return (div(grad[0], pow(2.0, out1)),)


def frexp(input: Tensor) -> Any:
    """(mantissa, exponent) with input = mantissa · 2^exponent and 0.5 <= |mantissa| < 1. RuntimeError for integers."""
    if not input.dtype.is_floating_point:
        raise RuntimeError("torch.frexp() only supports floating-point dtypes")
    return return_types.TYPES["frexp"](*_frexp(input))


def positive(input: Tensor) -> Tensor:
    """The tensor itself. RuntimeError for bools."""
    if input.dtype is dtypes.bool:
        raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return input


def isposinf(input: Tensor) -> Tensor:
    """Where elements are +inf."""
    return eq(input, float("inf")) if input.dtype.is_floating_point else constant(np.zeros(input._array.shape, bool))


def isneginf(input: Tensor) -> Tensor:
    """Where elements are -inf."""
    return eq(input, float("-inf")) if input.dtype.is_floating_point else constant(np.zeros(input._array.shape, bool))


def isreal(input: Tensor) -> Tensor:
    """Where the imaginary part is 0."""
    if input._array.dtype.kind != "c":
        return constant(np.ones(input._array.shape, bool))
    return computed(lambda x: np.asarray(x.imag == 0), input)
