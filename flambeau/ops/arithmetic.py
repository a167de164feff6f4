"""Arithmetic as users call it: `add` with `alpha`, `div` with a rounding mode, `clamp`, `lerp`, `addcmul`."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core import dispatch
from flambeau.core import dtype as dtypes
from flambeau.core.dispatch import primitive
from flambeau.core.inplace import bump, check_overlap, inplace, inplace_of, scalar_name
from flambeau.core.modes import modes
from flambeau.core.tensor import Tensor, constant
from flambeau.ops import pointwise
from flambeau.ops.comparison import ge, le, logical_and, logical_not
from flambeau.ops.pointwise import where, zero_of


def is_default(factor: Any) -> bool:
    """Whether a factor is the 1 of the signature. The value of others is not looked at: while a step is recorded it may
    stand for a number that changes from call to call."""
    return type(factor) is int and factor == 1


def add(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """input + alpha * other, with broadcasting and type promotion."""
    if not is_default(alpha):
        other = _scaled(input, other, alpha)
    return pointwise.add(input, other)


def sub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """input - alpha * other, with broadcasting and type promotion."""
    if not is_default(alpha):
        if isinstance(other, Tensor) and other.dtype is dtypes.bool:
            return pointwise.sub(0, other)  # raises: bools are not subtracted, whatever scales them
        other = _scaled(input, other, alpha)
    return pointwise.sub(input, other)


def _scaled(input: Any, other: Any, alpha: Any) -> Any:
    if isinstance(alpha, bool) and not all(v.dtype is dtypes.bool for v in (input, other) if isinstance(v, Tensor)):
        raise RuntimeError("Boolean alpha only supported for Boolean results.")
    if isinstance(alpha, (float, complex)):
        kinds = [v.dtype.category for v in (input, other) if isinstance(v, Tensor)]
        if kinds and max(kinds) < dtypes.FLOAT and not isinstance(input, float) and not isinstance(other, float):
            raise RuntimeError("For integral input tensors, argument alpha must not be a floating point number.")
    if all(v.dtype is dtypes.bool for v in (input, other) if isinstance(v, Tensor)) and isinstance(alpha, int):
        alpha = bool(alpha)
    if not isinstance(other, Tensor):
        return other * alpha
    if isinstance(input, Tensor) and input._array.dtype != other._array.dtype:  # alpha acts in the common type
        common = dtypes.result_of([input._array, other._array])
        other = other.to(common) if common.category >= other.dtype.category else other
    return pointwise.mul(other, alpha)


def rsub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """other - alpha * input."""
    return sub(other, input, alpha=alpha)


def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """input / other; `rounding_mode` "trunc" or "floor" rounds the quotient and keeps integers."""
    if rounding_mode is None:
        return pointwise.div(input, other)
    if rounding_mode == "floor":
        return pointwise.div_floor(input, other)
    if rounding_mode == "trunc":
        return pointwise.div_trunc(input, other)
    raise RuntimeError(f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'")


def floor_divide(input: Any, other: Any) -> Tensor:
    """The quotient rounded down. NotImplementedError for two bools."""
    if all(v.dtype is dtypes.bool if isinstance(v, Tensor) else isinstance(v, bool) for v in (input, other)):
        raise NotImplementedError("\"div_floor_cpu\" not implemented for 'Bool'")
    return pointwise.floor_divide(input, other)


def pow(input: Any, exponent: Any) -> Tensor:
    """input to the power of exponent; either may be a number. RuntimeError for integers to a negative number."""
    if isinstance(exponent, int) and exponent < 0 and isinstance(input, Tensor) and input.dtype.category < dtypes.FLOAT:
        raise RuntimeError("Integers to negative integer powers are not allowed.")
    return pointwise.pow(input, exponent)


def float_power(input: Any, exponent: Any) -> Tensor:
    """The power in float64 (complex128 for complex operands)."""
    is_complex = any(v.is_complex() if isinstance(v, Tensor) else isinstance(v, complex) for v in (input, exponent))
    wide = dtypes.complex128 if is_complex else dtypes.float64
    return pointwise.pow(
        *(v.to(wide) if isinstance(v, Tensor) else constant(np.array(v, wide.numpy)) for v in (input, exponent))
    )


_float_power_ = inplace_of(float_power)


def float_power_(self: Tensor, exponent: Any) -> Tensor:
    """In-place form of `float_power`. RuntimeError unless the tensor has the type of the result."""
    other = exponent.is_complex() if isinstance(exponent, Tensor) else isinstance(exponent, complex)
    wide = dtypes.complex128 if other or self.is_complex() else dtypes.float64
    if self.dtype is not wide:
        raise RuntimeError(
            f"the base given to float_power_ has dtype {scalar_name(self._array.dtype)} but the operation's result "
            f"requires dtype {scalar_name(wide.numpy)}"
        )
    return _float_power_(self, exponent)


def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Each element moved into [min, max]; the gradient passes on the bounds. RuntimeError without any bound."""
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    if not isinstance(min, Tensor) and not isinstance(max, Tensor):
        common = dtypes.result_of([input._array], [v for v in (min, max) if v is not None])
        if common is dtypes.bool or common.is_complex:
            raise NotImplementedError(f"\"clamp_scalar_cpu\" not implemented for '{common.name}'")
        return _clamp(input if input.dtype is common else input.to(common), min=min, max=max)
    if min is not None and max is not None:
        low, high = _bound(min, input), _bound(max, input)
        return _clamp_tensors(input, low, high)
    if min is not None:
        return _clamp_low(input, min)
    return _clamp_high(input, max)


def _bound(value: Any, input: Tensor) -> Tensor:
    return (
        value
        if isinstance(value, Tensor)
        else constant(np.array(value, dtypes.result_of([input._array], [value]).numpy))
    )


@primitive("clamp")
def _clamp(x: Any, *, min: Any, max: Any) -> Any:
    if any(isinstance(b, float) and b != b for b in (min, max)):
        return np.full_like(x, np.nan)
    return np.clip(x, _in_range(min, x.dtype), _in_range(max, x.dtype))


def _in_range(bound: Any, dtype: Any) -> Any:
    """A bound as a number of the array's type; infinities become the limits of an integer type."""
    if bound is None:
        return None
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        if bound == float("inf"):
            bound = info.max
        elif bound == float("-inf"):
            bound = info.min
        return dtype.type(np.clip(int(bound), info.min, info.max))
    return dtype.type(bound)


@_clamp.vjp
def _clamp_vjp(grad: Tensor, x: Tensor, min: Any, max: Any) -> Any:
    bounds = ([] if min is None else [ge(x, min)]) + ([] if max is None else [le(x, max)])
    inside = logical_and(*bounds) if len(bounds) == 2 else bounds[0]
    return where(inside, grad, zero_of(grad))


@_clamp.scalar
def _clamp_scalar(m: Any, x: Any, min: Any, max: Any) -> Any:
    if any(isinstance(b, float) and b != b for b in (min, max)):
        return m.number(np.nan, x)
    x = x if min is None else m.maximum(_in_range(min, x.dtype), x)
    return x if max is None else m.minimum(_in_range(max, x.dtype), x)


@primitive("clamp_tensor", elementwise=True, grad_name="ClampBackward1")
def _clamp_tensors_kernel(x: Any, low: Any, high: Any, *, unused: Any = None) -> Any:
    return np.minimum(np.maximum(x, low), high)


@_clamp_tensors_kernel.vjp
def _clamp_tensors_vjp(grad: Tensor, x: Tensor, low: Tensor, high: Tensor) -> Any:
    zero = zero_of(grad)
    swapped = logical_not(ge(high, low))  # where the bounds cross, the upper one wins
    inside = logical_and(ge(x, low), le(x, high))
    at_low = logical_and(x < low, low < high)
    at_high = (x > high) | swapped
    return where(inside, grad, zero), where(at_low, grad, zero), where(at_high, grad, zero)


_clamp_tensors_kernel.scalar(lambda m, x, low, high, unused=None: m.minimum(m.maximum(x, low), high))


def _clamp_tensors(input: Any, low: Any, high: Any) -> Tensor:
    return _clamp_tensors_kernel(input, low, high)


_low = primitive("clamp_min", elementwise=True)(np.maximum)
_low.vjp(
    x=lambda grad, x, y: where(ge(x, y), grad, zero_of(grad)), y=lambda grad, x, y: where(x < y, grad, zero_of(grad))
)
_high = primitive("clamp_max", elementwise=True)(np.minimum)
_high.vjp(
    x=lambda grad, x, y: where(le(x, y), grad, zero_of(grad)), y=lambda grad, x, y: where(x > y, grad, zero_of(grad))
)
_clamp_low, _clamp_high = _low, _high
_low.scalar(lambda m, x, y: m.maximum(x, y))
_high.scalar(lambda m, x, y: m.minimum(x, y))


def clamp_min(input: Tensor, min: Any) -> Tensor:
    """Each element raised to at least `min`."""
    return clamp(input, min=min)


def clamp_max(input: Tensor, max: Any) -> Tensor:
    """Each element lowered to at most `max`."""
    return clamp(input, max=max)


# ---- combinations that optimizers live on -----------------------------------------------------------


@primitive("lerp", elementwise=True)
def _lerp(x: Any, end: Any, weight: Any, *, unused: Any = None) -> Any:
    """From the nearer end, as PyTorch does it: exact at both."""
    gap = end - x
    if not isinstance(weight, np.ndarray):
        return x + weight * gap if abs(weight) < 0.5 else end - gap * (1 - weight)
    return np.where(np.abs(weight) < 0.5, x + weight * gap, end - gap * (1 - weight))


@_lerp.vjp
def _lerp_vjp(grad: Tensor, x: Any, end: Any, weight: Any, needs: Any) -> Any:
    rest = pointwise.sub(1, weight) if isinstance(weight, Tensor) else 1 - weight
    return (
        pointwise.mul(grad, rest) if needs[0] else None,
        pointwise.mul(grad, weight) if needs[1] else None,
        pointwise.mul(grad, pointwise.sub(end, x)) if needs[2] else None,
    )


@_lerp.scalar
def _lerp_scalar(m: Any, x: Any, end: Any, weight: Any, unused: Any = None) -> Any:
    gap = end - x
    return m.where(m.abs(weight) < 0.5, x + weight * gap, end - gap * (1 - weight))


def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """input + weight * (end - input). RuntimeError for different types."""
    if input._array.dtype != end._array.dtype:
        raise RuntimeError(f"expected dtype {_cname(input)} for `end` but got dtype {_cname(end)}")
    if isinstance(weight, Tensor) and weight._array.dtype != input._array.dtype:
        raise RuntimeError(f"expected dtype {_cname(input)} for `weight` but got dtype {_cname(weight)}")
    return _lerp(input, end, weight)


def _cname(t: Tensor) -> str:
    return {"float32": "float", "float64": "double"}.get(t.dtype.name, t.dtype.name)


def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """input + value * tensor1 * tensor2."""
    product = pointwise.mul(tensor1, tensor2)
    return pointwise.add(input, product if is_default(value) else pointwise.mul(product, value))


def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """input + value * tensor1 / tensor2. RuntimeError for integers on both sides."""
    if all(t.dtype.category < dtypes.FLOAT for t in (tensor1, tensor2)):
        raise RuntimeError(
            "Integer division with addcdiv is no longer supported, and in a future  release addcdiv will perform a "
            "true division of "
            "tensor1 and tensor2. The historic addcdiv behavior can be implemented as (input + value * "
            "torch.trunc(tensor1 / "
            "tensor2)).to(input.dtype) for integer inputs and as (input + value * tensor1 / tensor2) for float inputs."
        )
    quotient = pointwise.div(tensor1, tensor2)
    return pointwise.add(input, quotient if is_default(value) else pointwise.mul(quotient, value))


# ---- in place ----------------------------------------------------------------------------------------

_add_inplace = inplace(pointwise.add)
_sub_inplace = inplace_of(pointwise.sub)


def add_(self: Tensor, other: Any, *, alpha: Any = 1) -> Tensor:
    """self += alpha * other, in place."""
    if not is_default(alpha):
        if _add_multiple(self, other, alpha):
            return self
        other = _scaled(self, other, alpha)
    return _add_inplace(self, other)


def sub_(self: Tensor, other: Any, *, alpha: Any = 1) -> Tensor:
    """self -= alpha * other, in place."""
    if not is_default(alpha):
        if type(alpha) is float and _add_multiple(self, other, -alpha):
            return self
        other = _scaled(self, other, alpha)
    return _sub_fast(self, other)


def _add_multiple(self: Tensor, other: Any, alpha: Any) -> bool:
    """self += alpha * other without detours, where NumPy may do it; else False."""
    if not (isinstance(other, Tensor) and isinstance(self, Tensor) and _quick(self, other, alpha)
            and _fits_in(self, other)):
        return False
    array = self._array
    check_overlap(array)
    np.add(array, np.multiply(other._array, alpha), out=array)
    bump(self)
    return True


mul_ = inplace(pointwise.mul)
_pow_inplace = inplace_of(pow)
_div_general = inplace_of(div)


def _quick(self: Any, *others: Any) -> bool:
    """Whether NumPy may write straight into `self`: float operands of one type, no history wanted."""
    if dispatch.interceptor is not None:
        return False
    dtype = self._array.dtype
    if dtype not in dtypes.NATIVE_FLOATS or (self._requires_grad and modes.grad):
        return False
    for other in others:
        if isinstance(other, Tensor):
            if other._array.dtype is not dtype or (other._requires_grad and modes.grad):
                return False
        elif type(other) is not float and type(other) is not int:
            return False
    return True


def _fits_in(self: Tensor, *others: Any) -> bool:
    shape = self._array.shape
    for other in others:
        if isinstance(other, Tensor) and other._array.shape != shape and other._array.ndim:
            return False
    return True


def _sub_fast(self: Tensor, other: Any) -> Tensor:
    if isinstance(self, Tensor) and _quick(self, other) and _fits_in(self, other):
        array = self._array
        check_overlap(array)
        np.subtract(array, other._array if isinstance(other, Tensor) else other, out=array)
        bump(self)
        return self
    return _sub_inplace(self, other)


def div_(self: Tensor, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """self /= other, in place. RuntimeError when the result does not fit the type."""
    if rounding_mode is None and _quick(self, other) and _fits_in(self, other):
        array = self._array
        check_overlap(array)
        np.true_divide(array, other._array if isinstance(other, Tensor) else other, out=array)
        bump(self)
        return self
    return _div_general(self, other, rounding_mode=rounding_mode)


_lerp_inplace, _addcmul_inplace, _addcdiv_inplace = inplace_of(lerp), inplace_of(addcmul), inplace_of(addcdiv)


def lerp_(self: Tensor, end: Tensor, weight: Any) -> Tensor:
    """self += weight * (end - self), in place."""
    if type(weight) is float and _quick(self, end) and _fits_in(self, end):
        array = self._array
        check_overlap(array)
        gap = np.subtract(end._array, array)
        if -0.5 < weight < 0.5:
            np.multiply(gap, weight, out=gap if gap.ndim else None)
            np.add(array, gap if gap.ndim else gap * weight, out=array)
        else:
            np.subtract(end._array, gap * (1 - weight), out=array)
        bump(self)
        return self
    return _lerp_inplace(self, end, weight)


def addcmul_(self: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """self += value * tensor1 * tensor2, in place."""
    if _quick(self, tensor1, tensor2, value) and _fits_in(self, tensor1, tensor2):
        array = self._array
        check_overlap(array)
        # value * tensor1 first, as PyTorch's kernel does: the rounding then agrees.
        product = np.multiply(np.multiply(tensor1._array, value) if value != 1 else tensor1._array, tensor2._array)
        np.add(array, product, out=array)
        bump(self)
        return self
    return _addcmul_inplace(self, tensor1, tensor2, value=value)


def addcdiv_(self: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """self += value * tensor1 / tensor2, in place."""
    if _quick(self, tensor1, tensor2, value) and _fits_in(self, tensor1, tensor2):
        array = self._array
        check_overlap(array)
        quotient = np.true_divide(np.multiply(tensor1._array, value) if value != 1 else tensor1._array, tensor2._array)
        np.add(array, quotient, out=array)
        bump(self)
        return self
    return _addcdiv_inplace(self, tensor1, tensor2, value=value)
