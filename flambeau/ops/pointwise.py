"""Arithmetic, powers, exponentials, trigonometry and rounding: one value in, one value out.

These are the primitives; `ops/arithmetic.py` gives them PyTorch's public signatures where those have more arguments.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core.dispatch import primitive
from flambeau.core.modes import modes
from flambeau.core.operands import broadcast_error
from flambeau.core.tensor import Tensor, constant
from flambeau.ops.native import accelerated, large, onednn

# NumPy warns where PyTorch silently returns inf or nan.
np.seterr(all="ignore")

# Below this many elements NumPy's own functions win over tricks that take several passes.
_FEW = 4096

# Why the kernels of first derivatives have none of their own.
FORMULA = "second derivatives take the formula in tensor operations"


def conj(x: Any) -> Any:
    """The complex conjugate; a real tensor or number is returned as it is."""
    if isinstance(x, Tensor):
        return conj_physical(x) if x._array.dtype.kind == "c" else x
    return x.conjugate()


conj_physical = primitive("conj_physical", elementwise=True)(np.conjugate)
conj_physical.vjp(x=lambda grad: conj(grad))
conj_physical.scalar(lambda m, x: x)


@primitive("real", elementwise=True)
def real(x: Any) -> Any:
    """The real part."""
    return np.array(x.real)


real.vjp(x=lambda grad: grad)
real.scalar(lambda m, x: x)


def constant_grad(grad: Tensor) -> Tensor:
    """The derivative of a step function: zero."""
    return constant(np.zeros(grad._array.shape, grad._array.dtype))


# ---- arithmetic --------------------------------------------------------------------------------

add = primitive("add", elementwise=True)(np.add)
add.vjp(x=lambda grad: grad, y=lambda grad: grad)
add.scalar(lambda m, x, y: x + y)

_subtract = np.subtract


@primitive("sub", elementwise=True)
def sub(x: Any, y: Any) -> Any:
    """x - y. RuntimeError for bool tensors."""
    try:
        return _subtract(x, y)
    except TypeError:
        raise RuntimeError(
            "Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or `logical_xor()` "
            "operator "
            "instead."
        ) from None


sub.vjp(x=lambda grad: grad, y=lambda grad: neg(grad))
sub.scalar(lambda m, x, y: x - y)

mul = primitive("mul", elementwise=True)(np.multiply)
mul.vjp(x=lambda grad, y: mul(grad, conj(y)), y=lambda grad, x: mul(grad, conj(x)))
mul.scalar(lambda m, x, y: x * y)

div = primitive("div", elementwise=True, float_op=True)(np.true_divide)
div.vjp(x=lambda grad, y: div(grad, conj(y)), y=lambda grad, x, y: neg(mul(grad, conj(div(x, mul(y, y))))))
div.scalar(lambda m, x, y: x / y)


def _check_divisor(x: Any, y: Any) -> None:
    kind = np.result_type(x, y).kind
    if kind in "iu" and not np.all(y):
        raise RuntimeError("ZeroDivisionError")


@primitive("floor_divide", elementwise=True, no_gradient="a step function, as in PyTorch")
def floor_divide(x: Any, y: Any) -> Any:
    """Quotient rounded down. RuntimeError for an integer division by zero."""
    _check_divisor(x, y)
    return np.floor_divide(x, y)


floor_divide.scalar(lambda m, x, y: x // y)


div_floor = primitive("div_floor", elementwise=True, grad_name="DivBackward1")(floor_divide.op.kernel)
div_floor.vjp(x=constant_grad, y=constant_grad)
div_floor.scalar(lambda m, x, y: x // y)


@primitive("div_trunc", elementwise=True, grad_name="DivBackward1")
def div_trunc(x: Any, y: Any) -> Any:
    """Quotient rounded towards zero. RuntimeError for an integer division by zero."""
    _check_divisor(x, y)
    if np.result_type(x, y).kind in "iu":
        quotient = np.floor_divide(x, y)
        inexact = np.remainder(x, y) != 0
        return quotient + ((quotient < 0) & inexact).astype(quotient.dtype)
    return np.trunc(np.true_divide(x, y))


div_trunc.vjp(x=constant_grad, y=constant_grad)
div_trunc.scalar(lambda m, x, y: (x - m.fmod(x, y)) // y if x.dtype.kind in "iu" else m.trunc(x / y))


@primitive("remainder", elementwise=True)
def remainder(x: Any, y: Any) -> Any:
    """x modulo y with the divisor's sign. RuntimeError for an integer division by zero."""
    _check_divisor(x, y)
    return np.remainder(x, y)


remainder.vjp(x=lambda grad: grad, y=lambda grad, x, y: neg(mul(grad, floor_of_quotient(x, y))))
remainder.scalar(lambda m, x, y: x % y)


@primitive("fmod", elementwise=True)
def fmod(x: Any, y: Any) -> Any:
    """x modulo y with the dividend's sign. RuntimeError for an integer division by zero."""
    _check_divisor(x, y)
    return np.fmod(x, y)


fmod.vjp(x=lambda grad: grad, y=lambda grad, x, y: neg(mul(grad, trunc(div(x, y)))))
fmod.scalar(lambda m, x, y: m.fmod(x, y))


def floor_of_quotient(x: Any, y: Any) -> Any:
    """floor(x / y) without history of its own."""
    return floor(div(x, y))


@primitive("neg", elementwise=True)
def neg(x: Any) -> Any:
    """-x. RuntimeError for bool tensors."""
    if x.dtype.kind == "b":
        raise RuntimeError(
            "Negation, the `-` operator, on a bool tensor is not supported. If you are trying to invert a mask, use "
            "the `~` or "
            "`logical_not()` operator instead."
        )
    return np.negative(x)


neg.vjp(x=lambda grad: neg(grad))
neg.scalar(lambda m, x: -x)

reciprocal = primitive("reciprocal", elementwise=True, float_op=True)(np.reciprocal)
reciprocal.vjp(x=lambda grad, out: neg(mul(grad, conj(mul(out, out)))))
reciprocal.scalar(lambda m, x: 1 / x)


@primitive("square", elementwise=True, grad_name="PowBackward0")
def square(x: Any) -> Any:
    """x * x; bools count as integers."""
    return np.square(x.astype(np.int64) if x.dtype.kind == "b" else x)


square.vjp(x=lambda grad, x: mul(grad, mul(2, conj(x))))


@square.scalar
def _square_scalar(m: Any, x: Any) -> Any:
    x = m.cast(x, np.int64) if x.dtype.kind == "b" else x
    return x * x


@primitive("pow", elementwise=True)
def pow(x: Any, y: Any) -> Any:
    """x to the power of y. RuntimeError for integers to negative powers, NotImplementedError for bools."""
    kind = np.result_type(x, y).kind
    if kind == "b":
        raise NotImplementedError("\"pow\" not implemented for 'Bool'")
    if kind in "iu" and np.any(np.less(y, 0)):
        return _integer_power(np.asarray(x), np.asarray(y))
    if type(y) is float or type(y) is int:
        if y == 2:
            return np.multiply(x, x)
        if y == 0.5 and kind == "f":
            return np.sqrt(x)
    return np.power(x, y)


def _integer_power(x: Any, y: Any) -> Any:
    """Integers to powers that may be negative: 1 and -1 stay themselves up to sign, everything else becomes 0."""
    inverse = np.where(np.abs(x) == 1, np.where(y % 2 == 0, 1, x), 0)
    return np.where(y < 0, inverse, np.power(x, np.maximum(y, 0))).astype(np.result_type(x, y))


def _pow_vjp_base(grad: Any, x: Any, y: Any) -> Any:
    if not isinstance(y, Tensor):
        if y == 0:
            return constant_grad(grad)
        return mul(grad, conj(mul(pow(x, y - 1), y)))
    return where(y == 0, zero_of(grad), mul(grad, conj(mul(pow(x, y - 1), y))))


def _pow_vjp_exponent(grad: Any, x: Any, y: Any, out: Any) -> Any:
    if not isinstance(x, Tensor):
        if x == 0:
            return where(y >= 0, zero_of(grad), mul(grad, mul(out, float("-inf"))))
        return mul(grad, conj(mul(out, float(np.log(x)) if np.isreal(x) and x >= 0 else np.log(complex(x)))))
    at_zero = (x == 0) & (y >= 0) if out._array.dtype.kind != "c" else (x == 0)
    return where(at_zero, zero_of(grad), mul(grad, conj(mul(out, log(x)))))


pow.vjp(x=_pow_vjp_base, y=_pow_vjp_exponent)


@pow.scalar
def _pow_scalar(m: Any, x: Any, y: Any) -> Any:
    """Integers may have negative exponents, as in the kernel."""
    exponent = m.known(y)
    if x.dtype.kind != "i" or (exponent is not None and exponent >= 0):
        return x**y
    inverse = m.where(x == 1, 1, m.where(x == -1, m.where((y & 1) == 0, 1, x), 0))
    return m.where(y < 0, inverse, x**y)


@primitive("abs", elementwise=True)
def abs(x: Any) -> Any:
    """Absolute value; the modulus of a complex number. NotImplementedError for bool."""
    if x.dtype.kind == "b":
        raise NotImplementedError("\"abs_cpu\" not implemented for 'Bool'")
    return np.abs(x)


abs.vjp(x=lambda grad, x: mul(grad, sgn(x)))
abs.scalar(lambda m, x: m.abs(x))


@primitive("sign", elementwise=True)
def sign(x: Any) -> Any:
    """-1, 0 or 1; nan stays 0 as in PyTorch. RuntimeError for complex tensors."""
    if x.dtype.kind == "c":
        raise RuntimeError(
            "Unlike NumPy, torch.sign doesn't support complex numbers.  Consider using torch.sgn(), which does."
        )
    if x.dtype.kind == "b":
        return x.copy()
    return np.nan_to_num(np.sign(x), nan=0.0) if x.dtype.kind == "f" else np.sign(x)


sign.vjp(x=lambda grad: constant_grad(grad))


def _sign_scalar(m: Any, x: Any) -> Any:
    if x.dtype.kind == "b":
        return x
    return m.where(x > 0, m.number(1, x), 0 if x.dtype.kind == "u" else m.where(x < 0, m.number(-1, x), 0))


sign.scalar(_sign_scalar)


@primitive("sgn", elementwise=True)
def sgn(x: Any) -> Any:
    """x / |x|, 0 at 0; the sign of a real number."""
    if x.dtype.kind != "c":
        return sign.op.kernel(x)
    size = np.abs(x)
    return np.where(size == 0, 0, x / np.where(size == 0, 1, size)).astype(x.dtype)


def _sgn_vjp(grad: Any, x: Any, out: Any) -> Any:
    if out._array.dtype.kind != "c":
        return constant_grad(grad)
    size = abs(x)
    inside = div(sub(mul(grad, 1), mul(real(mul(grad, conj(out))), out)), where(size == 0, ones_like_of(size), size))
    return where(size == 0, zero_of(inside), inside)


sgn.vjp(x=_sgn_vjp)
sgn.scalar(_sign_scalar)


def ones_like_of(x: Tensor) -> Tensor:
    """1 + 0 * x without history: for denominators that must not be zero."""
    return constant(np.ones(x._array.shape, x._array.dtype))


# ---- exponentials and logarithms -----------------------------------------------------------------

exp = primitive("exp", elementwise=True, float_op=True)(np.exp)
exp.vjp(x=lambda grad, out: mul(grad, conj(out)))
exp.scalar(lambda m, x: m.exp(x))

exp2 = primitive("exp2", elementwise=True, float_op=True)(np.exp2)
exp2.vjp(x=lambda grad, out: mul(grad, mul(conj(out), float(np.log(2)))))
exp2.scalar(lambda m, x: m.exp2(x))

expm1 = primitive("expm1", elementwise=True, float_op=True)(np.expm1)
expm1.vjp(x=lambda grad, out: mul(grad, conj(add(out, 1))))
expm1.scalar(lambda m, x: m.expm1(x))

log = primitive("log", elementwise=True, float_op=True)(np.log)
log.vjp(x=lambda grad, x: div(grad, conj(x)))
log.scalar(lambda m, x: m.log(x))

log2 = primitive("log2", elementwise=True, float_op=True)(np.log2)
log2.vjp(x=lambda grad, x: div(grad, conj(mul(x, float(np.log(2))))))
log2.scalar(lambda m, x: m.log2(x))

log10 = primitive("log10", elementwise=True, float_op=True)(np.log10)
log10.vjp(x=lambda grad, x: div(grad, conj(mul(x, float(np.log(10))))))
log10.scalar(lambda m, x: m.log10(x))


@primitive("log1p", elementwise=True, float_op=True)
def log1p(x: Any) -> Any:
    """log(1 + x), exact for small x."""
    if x.dtype != np.float32 or x.size < _FEW:
        return np.log1p(x)
    # NumPy's log is vectorised in float32, its log1p is not. The rounding of u = 1 + x loses x - (u - 1), which moves
    # log(u) by this over u; where this is no small number (u = 0, infinity) log(u) is the answer.
    u = 1 + x
    lost = x - (u - 1)
    lost /= u
    np.positive(0.0, out=lost, where=~(np.abs(lost) < 1))
    lost += np.log(u, out=u)
    return lost


log1p.vjp(x=lambda grad, x: div(grad, conj(add(x, 1))))
log1p.scalar(lambda m, x: m.log1p(x))

sqrt = primitive("sqrt", elementwise=True, float_op=True)(np.sqrt)
sqrt.vjp(x=lambda grad, out: div(grad, mul(2, conj(out))))
sqrt.scalar(lambda m, x: m.sqrt(x))


@primitive("rsqrt", elementwise=True, float_op=True)
def rsqrt(x: Any) -> Any:
    """1 / sqrt(x)."""
    root = np.sqrt(x)
    return np.reciprocal(root, out=root) if isinstance(root, np.ndarray) else np.reciprocal(root)


rsqrt.vjp(x=lambda grad, out: mul(mul(grad, -0.5), conj(pow(out, 3))))
rsqrt.scalar(lambda m, x: m.rsqrt(x))


def _in_float32(x: Any) -> Any:
    """Half-width floats are computed in float32 and rounded once, as PyTorch does."""
    return x.astype(np.float32) if x.dtype.itemsize == 2 else x


@primitive("sigmoid", elementwise=True, float_op=True)
def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    wide = _in_float32(x)
    out = np.negative(wide, out=np.empty_like(wide))
    np.exp(out, out=out)
    np.add(out, 1, out=out)
    np.reciprocal(out, out=out)
    return out if wide is x else out.astype(x.dtype)


@accelerated(sigmoid, when=large)
def _onednn_sigmoid(x: Any) -> Any:
    return onednn().eltwise("sigmoid", x)


@primitive("sigmoid_backward", no_gradient=FORMULA)
def _sigmoid_backward(grad: Any, out: Any) -> Any:
    wide = _in_float32(out)
    slope = np.subtract(1, wide)
    slope *= _in_float32(grad)
    slope *= wide
    return slope if wide is out else slope.astype(out.dtype)


@accelerated(_sigmoid_backward, when=large)
def _onednn_sigmoid_backward(grad: Any, out: Any) -> Any:
    return onednn().eltwise_backward("sigmoid", grad, out)


_sigmoid_backward.scalar(lambda m, grad, out: (1 - out) * grad * out)


def sigmoid_backward(grad: Any, out: Any) -> Any:
    """grad * out * (1 - out)."""
    if modes.grad or out._array.dtype.kind == "c":
        return mul(mul(grad, sub(1, conj(out))), conj(out))
    return _sigmoid_backward(grad, out)


sigmoid.vjp(x=lambda grad, out: sigmoid_backward(grad, out))
sigmoid.scalar(lambda m, x: m.sigmoid(x))

tanh = primitive("tanh", elementwise=True, float_op=True)(np.tanh)


@primitive("tanh_backward", no_gradient=FORMULA)
def _tanh_backward(grad: Any, out: Any) -> Any:
    wide = _in_float32(out)
    slope = np.multiply(wide, wide)
    slope = np.subtract(1, slope, out=slope) if slope.ndim else 1 - slope
    slope *= _in_float32(grad)
    return slope if wide is out else slope.astype(out.dtype)


@accelerated(_tanh_backward, when=large)
def _onednn_tanh_backward(grad: Any, out: Any) -> Any:
    return onednn().eltwise_backward("tanh", grad, out)


_tanh_backward.scalar(lambda m, grad, out: (1 - out * out) * grad)


def _tanh_vjp(grad: Any, out: Any) -> Any:
    if modes.grad or out._array.dtype.kind == "c":
        return mul(grad, sub(1, conj(mul(out, out))))
    return _tanh_backward(grad, out)


tanh.vjp(x=_tanh_vjp)
tanh.scalar(lambda m, x: m.tanh(x))

# ---- signs ---------------------------------------------------------------------------------------

copysign = primitive("copysign", elementwise=True, float_op=True)(np.copysign)
copysign.vjp(
    x=lambda grad, x, out: where(x == 0, zero_of(grad), mul(grad, div(out, where(x == 0, ones_like_of(x), x)))),
    y=lambda grad: constant_grad(grad),
)
copysign.scalar(lambda m, x, y: m.copysign(x, y))

# ---- rounding ------------------------------------------------------------------------------------


def _keeps_integers(run: Any) -> Any:
    def kernel(x: Any) -> Any:
        return x.copy() if x.dtype.kind in "iu" else run(x)

    return kernel


floor = primitive("floor", elementwise=True)(_keeps_integers(np.floor))
floor.vjp(x=constant_grad)
floor.scalar(lambda m, x: m.floor(x))
ceil = primitive("ceil", elementwise=True)(_keeps_integers(np.ceil))
ceil.vjp(x=constant_grad)
ceil.scalar(lambda m, x: m.ceil(x))
trunc = primitive("trunc", elementwise=True)(_keeps_integers(np.trunc))
trunc.vjp(x=constant_grad)
trunc.scalar(lambda m, x: m.trunc(x))
rint = primitive("round", elementwise=True)(_keeps_integers(np.rint))
rint.vjp(x=constant_grad)
rint.scalar(lambda m, x: m.rint(x))

# ---- choosing ------------------------------------------------------------------------------------

maximum = primitive("maximum", elementwise=True)(np.maximum)
maximum.vjp(x=lambda grad, x, y: _share(grad, x, y, x > y), y=lambda grad, x, y: _share(grad, x, y, y > x))
maximum.scalar(lambda m, x, y: m.maximum(x, y))

minimum = primitive("minimum", elementwise=True)(np.minimum)
minimum.vjp(x=lambda grad, x, y: _share(grad, x, y, x < y), y=lambda grad, x, y: _share(grad, x, y, y < x))
minimum.scalar(lambda m, x, y: m.minimum(x, y))


def _share(grad: Any, x: Any, y: Any, wins: Any) -> Any:
    """All of the gradient where this side wins, half of it on a tie."""
    return where(x == y, mul(grad, 0.5), where(wins, grad, zero_of(grad)))


fmax = primitive("fmax", elementwise=True)(np.fmax)
fmax.vjp(
    x=lambda grad, x, y: where((x >= y) | (y != y), grad, zero_of(grad)),
    y=lambda grad, x, y: where((x >= y) | (y != y), zero_of(grad), grad),
)
fmax.scalar(lambda m, x, y: m.fmax(x, y))

fmin = primitive("fmin", elementwise=True)(np.fmin)
fmin.vjp(
    x=lambda grad, x, y: where((x <= y) | (y != y), grad, zero_of(grad)),
    y=lambda grad, x, y: where((x <= y) | (y != y), zero_of(grad), grad),
)
fmin.scalar(lambda m, x, y: m.fmin(x, y))


_BITS = {4: np.int32, 8: np.int64}


def masked(values: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """`values` where `keep`, else 0. Unlike a product with the mask it stops nan; np.where takes 4 times as long."""
    bits = _BITS.get(values.itemsize)
    if values.size < _FEW or bits is None or values.shape != keep.shape or values.dtype.kind == "c":
        return np.where(keep, values, values.dtype.type(0))
    mask = keep.view(np.int8).astype(bits)
    np.negative(mask, out=mask)  # all bits set, or none
    mask &= values.view(bits)
    return mask.view(values.dtype)


def _is_zero(x: np.ndarray) -> bool:
    return x.ndim == 0 and not x and not np.signbit(x)


@primitive("where", elementwise=False)
def where_arrays(condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, else y; the arrays already have one type."""
    if condition.size >= _FEW and type(condition) is np.ndarray and condition.dtype == bool and x.dtype.kind in "fi":
        if x.shape == condition.shape and _is_zero(y):
            return masked(x, condition)
        if y.shape == condition.shape and _is_zero(x):
            return masked(y, ~condition)
    return np.where(condition, x, y)


where_arrays.vjp(
    x=lambda grad, condition: where_arrays(condition, grad, zero_of(grad)),
    y=lambda grad, condition: where_arrays(condition, zero_of(grad), grad),
)
where_arrays.scalar(lambda m, condition, x, y: m.where(m.cast(condition, bool), x, y))


def zero_of(x: Tensor) -> Tensor:
    """A 0-d zero of the same type."""
    return constant(np.zeros((), x._array.dtype))


def where(condition: Tensor, x: Any, y: Any) -> Tensor:
    """x where `condition` holds, else y; x and y are promoted to a common type. Source: torch.where."""
    arrays = [v._array for v in (x, y) if isinstance(v, Tensor)]
    numbers = [v for v in (x, y) if not isinstance(v, Tensor)]
    common = dtypes.result_of(arrays, numbers).numpy
    x = x if isinstance(x, Tensor) else constant(np.array(x, common))
    y = y if isinstance(y, Tensor) else constant(np.array(y, common))
    if x._array.dtype != common:
        x = _cast(x, dtype=common)
    if y._array.dtype != common:
        y = _cast(y, dtype=common)
    try:
        return where_arrays(condition, x, y)
    except ValueError as error:
        raise broadcast_error(where_arrays.op, (condition._array, x._array, y._array), error) from None


@primitive("to_copy", grad_name="ToCopyBackward0")
def _cast(x: Any, *, dtype: Any) -> Any:
    """A copy of another element type."""
    return cast_array(x, dtype)


_cast.vjp(x=lambda grad: grad)
_cast.scalar(lambda m, x, dtype: m.cast(x, dtype))


def cast_array(x: Any, dtype: Any) -> Any:
    """`astype` with PyTorch's rules: complex to real drops the imaginary part, anything non-zero is True."""
    if x.dtype.kind == "c" and dtype.kind != "c" and dtype.kind != "b":
        x = x.real
    return x.astype(dtype)
