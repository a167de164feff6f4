"""`Scalar`, a number in generated code that behaves like one in Python, and `Maths`, the functions of it.

The `.scalar` rules of elementwise primitives are written with these; the same rule makes code for one element and for a
vector of them. Arithmetic has NumPy's meaning: float32 stays float32 and is rounded at every step, integers wrap,
floor division and remainder follow the divisor's sign, nothing traps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.backends.llvm import registers as reg
from flambeau.backends.llvm.arithmetic import convert, divide_integers, integer_power, modulo_floats
from flambeau.backends.llvm.functions import call_function


class Scalar:
    """A value in registers: `builder` that makes its code, IR `value` (a scalar or a vector), NumPy `dtype`.

    Operators take Python numbers on either side, which become the Scalar's dtype, and Scalars of the same dtype (bool
    with anything). One lane meets many by repetition. `/` needs floats. Comparisons give bool Scalars.
    """

    __slots__ = ("builder", "value", "dtype")
    __hash__ = None  # type: ignore[assignment]  # == makes code
    __array_ufunc__ = None  # a NumPy number on the left leaves the operation to us

    def __init__(self, builder: Any, value: Any, dtype: Any):
        self.builder = builder
        self.value = value
        self.dtype = np.dtype(dtype)

    @property
    def lanes(self) -> int:
        """The width of the vector, 1 for a single element."""
        return reg.lanes_of(self.value)

    def __repr__(self) -> str:
        return f"Scalar({self.dtype}, lanes={self.lanes})"

    def __bool__(self) -> bool:
        raise TypeError("a Scalar has no truth value while code is made: use m.where")

    def __add__(self, other: Any) -> Scalar:
        return _arithmetic(self, other, "fadd", "add", "or_")

    def __radd__(self, other: Any) -> Scalar:
        return _arithmetic(other, self, "fadd", "add", "or_")

    def __sub__(self, other: Any) -> Scalar:
        return _arithmetic(self, other, "fsub", "sub", None)

    def __rsub__(self, other: Any) -> Scalar:
        return _arithmetic(other, self, "fsub", "sub", None)

    def __mul__(self, other: Any) -> Scalar:
        return _arithmetic(self, other, "fmul", "mul", "and_")

    def __rmul__(self, other: Any) -> Scalar:
        return _arithmetic(other, self, "fmul", "mul", "and_")

    def __truediv__(self, other: Any) -> Scalar:
        return _arithmetic(self, other, "fdiv", None, None)

    def __rtruediv__(self, other: Any) -> Scalar:
        return _arithmetic(other, self, "fdiv", None, None)

    def __floordiv__(self, other: Any) -> Scalar:
        return _divided(self, other, 0)

    def __rfloordiv__(self, other: Any) -> Scalar:
        return _divided(other, self, 0)

    def __mod__(self, other: Any) -> Scalar:
        return _divided(self, other, 1)

    def __rmod__(self, other: Any) -> Scalar:
        return _divided(other, self, 1)

    def __pow__(self, other: Any) -> Scalar:
        return _power(self, other)

    def __rpow__(self, other: Any) -> Scalar:
        return _power(other, self)

    def __neg__(self) -> Scalar:
        if reg.is_narrow(self.dtype):
            return _in_float32(lambda x: -x, self)
        if reg.is_float(self.dtype):
            return Scalar(self.builder, self.builder.fneg(self.value), self.dtype)
        if self.dtype == reg.bool_:
            raise TypeError("bool has no negative: use ~")
        return 0 - self

    def __pos__(self) -> Scalar:
        return self

    def __abs__(self) -> Scalar:
        if reg.is_narrow(self.dtype):
            return _in_float32(abs, self)
        if reg.is_float(self.dtype):
            return Scalar(self.builder, reg.intrinsic(self.builder, "fabs", self.value), self.dtype)
        if self.dtype.kind in "ub":
            return self
        return _select(self < 0, -self, self)

    def __lt__(self, other: Any) -> Scalar:
        return _compare("<", self, other)

    def __le__(self, other: Any) -> Scalar:
        return _compare("<=", self, other)

    def __gt__(self, other: Any) -> Scalar:
        return _compare(">", self, other)

    def __ge__(self, other: Any) -> Scalar:
        return _compare(">=", self, other)

    def __eq__(self, other: Any) -> Scalar:  # type: ignore[override]
        return _compare("==", self, other)

    def __ne__(self, other: Any) -> Scalar:  # type: ignore[override]
        return _compare("!=", self, other)

    def __and__(self, other: Any) -> Scalar:
        return _arithmetic(self, other, None, "and_", "and_")

    __rand__ = __and__

    def __or__(self, other: Any) -> Scalar:
        return _arithmetic(self, other, None, "or_", "or_")

    __ror__ = __or__

    def __xor__(self, other: Any) -> Scalar:
        return _arithmetic(self, other, None, "xor", "xor")

    __rxor__ = __xor__

    def __invert__(self) -> Scalar:
        return self ^ (True if self.dtype == reg.bool_ else -1)

    def __lshift__(self, other: Any) -> Scalar:
        return _shift(self, other, left=True)

    def __rlshift__(self, other: Any) -> Scalar:
        return _shift(other, self, left=True)

    def __rshift__(self, other: Any) -> Scalar:
        return _shift(self, other, left=False)

    def __rrshift__(self, other: Any) -> Scalar:
        return _shift(other, self, left=False)


def _functions(*names: str) -> Any:
    """Methods for functions of the table in functions.py."""
    return tuple(_function_method(name) for name in names)


def _function_method(name: str) -> Callable[..., Scalar]:
    def method(self: Maths, *arguments: Any) -> Scalar:
        operands = _together(arguments)
        if reg.is_narrow(operands[0].dtype):
            return _in_float32(getattr(self, name), *operands)
        if not reg.is_float(operands[0].dtype):
            raise TypeError(f"{name} of {operands[0].dtype}: cast it to a floating dtype")
        return call_function(self, name, operands)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"{name}, element by element, for floats."
    return method


class Maths:
    """The functions of Scalars, for one IR builder. Half-width floats are computed in float32 and rounded once.

    Rules get one as their first argument, `m`; whoever writes a loop makes it.
    """

    exp, exp2, expm1, log, log2, log10, log1p = _functions("exp", "exp2", "expm1", "log", "log2", "log10", "log1p")
    sin, cos, tan, asin, acos, atan, atan2 = _functions("sin", "cos", "tan", "asin", "acos", "atan", "atan2")
    sinh, cosh, tanh, asinh, acosh, atanh = _functions("sinh", "cosh", "tanh", "asinh", "acosh", "atanh")
    erf, erfc, lgamma, pow, hypot, nextafter = _functions("erf", "erfc", "lgamma", "pow", "hypot", "nextafter")
    sigmoid, softplus = _functions("sigmoid", "softplus")

    def __init__(self, builder: Any):
        self.builder = builder

    # ---- making values -----------------------------------------------------------------------------

    def number(self, value: Any, like: Scalar) -> Scalar:
        """A constant of `like`'s dtype and width."""
        return Scalar(self.builder, reg.constant(value, like.dtype, like.lanes), like.dtype)

    def constant(self, value: Any, dtype: Any, lanes: int = 1) -> Scalar:
        """A constant of any dtype and width."""
        return Scalar(self.builder, reg.constant(value, np.dtype(dtype), lanes), dtype)

    def known(self, x: Scalar) -> Any:
        """The number that x is in all lanes, if it is a constant; else None. Lets a rule choose a shorter formula."""
        number = reg.constant_value(x.value)
        if number is None or x.dtype == reg.bfloat16:
            return None
        return number if reg.is_float(x.dtype) else int(np.array(number & (2**64 - 1), np.uint64).astype(x.dtype))

    def load(self, address: Any, dtype: Any, lanes: int = 1, align: int | None = None) -> Scalar:
        """The value at an address (an IR pointer); by default aligned to one element only."""
        dtype = np.dtype(dtype)
        return Scalar(self.builder, reg.load_value(self.builder, address, dtype, lanes, align), dtype)

    def store(self, x: Scalar, address: Any, align: int | None = None) -> None:
        """Write x to an address."""
        reg.store_value(self.builder, x.value, address, x.dtype, align)

    def broadcast(self, x: Scalar, lanes: int) -> Scalar:
        """One lane repeated; a vector stays as it is."""
        return Scalar(self.builder, reg.broadcast_value(self.builder, x.value, lanes), x.dtype)

    def cast(self, x: Scalar, dtype: Any) -> Scalar:
        """Conversion as NumPy's `astype`: to bool, whether it is not 0; floats to integers are cut towards zero."""
        dtype = np.dtype(dtype)
        return Scalar(self.builder, convert(self.builder, x.value, x.dtype, dtype), dtype)

    def bits(self, x: Scalar, dtype: Any) -> Scalar:
        """The same bits as another dtype of equal size."""
        dtype = np.dtype(dtype)
        return Scalar(self.builder, self.builder.bitcast(x.value, reg.register_type(dtype, x.lanes)), dtype)

    # ---- choosing ----------------------------------------------------------------------------------

    def where(self, condition: Scalar, x: Any, y: Any) -> Scalar:
        """x where the condition holds, else y. One of the two may be a Python number."""
        return _select(condition, x, y)

    def maximum(self, x: Any, y: Any) -> Scalar:
        """The larger; nan if either is nan."""
        return _extreme(x, y, ">")

    def minimum(self, x: Any, y: Any) -> Scalar:
        """The smaller; nan if either is nan."""
        return _extreme(x, y, "<")

    def fmax(self, x: Any, y: Any) -> Scalar:
        """The larger; of a number and nan the number."""
        x, y = _pair(x, y)
        return _select((x >= y) | self.isnan(y), x, y)

    def fmin(self, x: Any, y: Any) -> Scalar:
        """The smaller; of a number and nan the number."""
        x, y = _pair(x, y)
        return _select((x <= y) | self.isnan(y), x, y)

    def abs(self, x: Scalar) -> Scalar:
        """The size of x, for modules that call something else `abs`."""
        return abs(x)

    # ---- questions ---------------------------------------------------------------------------------

    def isnan(self, x: Scalar) -> Scalar:
        """Whether x is nan; never, for integers."""
        return x != x

    def isinf(self, x: Scalar) -> Scalar:
        """Whether x is an infinity."""
        return abs(x) == np.inf if reg.is_float(x.dtype) else x != x

    def isfinite(self, x: Scalar) -> Scalar:
        """Whether x is neither infinite nor nan."""
        return abs(x) < np.inf if reg.is_float(x.dtype) else x == x

    def signbit(self, x: Scalar) -> Scalar:
        """Whether the sign bit is set, also of -0.0 and nan; for integers whether x < 0."""
        if reg.is_float(x.dtype):
            x = self.bits(x, f"i{x.dtype.itemsize}")
        return x < 0

    # ---- rounding, roots: one instruction each -------------------------------------------------------

    def floor(self, x: Scalar) -> Scalar:
        """Rounded down; integers stay."""
        return _rounded("floor", x)

    def ceil(self, x: Scalar) -> Scalar:
        """Rounded up; integers stay."""
        return _rounded("ceil", x)

    def trunc(self, x: Scalar) -> Scalar:
        """Rounded towards zero; integers stay."""
        return _rounded("trunc", x)

    def rint(self, x: Scalar) -> Scalar:
        """Rounded to the nearest integer, ties to even; integers stay."""
        return _rounded("rint", x)

    def sqrt(self, x: Scalar) -> Scalar:
        """The square root, correctly rounded."""
        return _intrinsic("sqrt", x)

    def rsqrt(self, x: Scalar) -> Scalar:
        """1 / sqrt(x), rounded twice as NumPy's would be."""
        return _in_float32(self.rsqrt, x) if reg.is_narrow(x.dtype) else 1 / self.sqrt(x)

    def fma(self, x: Any, y: Any, z: Any) -> Scalar:
        """x * y + z, rounded once (slow where the processor has no such instruction)."""
        return _intrinsic("fma", x, y, z)

    def muladd(self, x: Any, y: Any, z: Any) -> Scalar:
        """x * y + z, rounded once or twice, whichever is fast: for polynomials."""
        return _intrinsic("fmuladd", x, y, z)

    def copysign(self, x: Any, y: Any) -> Scalar:
        """|x| with the sign of y."""
        return _intrinsic("copysign", x, y)

    def fmod(self, x: Any, y: Any) -> Scalar:
        """The remainder with the dividend's sign; of integers 0 for a divisor of 0."""
        x, y = _pair(x, y)
        if not reg.is_float(x.dtype):
            return Scalar(x.builder, divide_integers(x.builder, x.value, y.value, x.dtype, floor=False)[1], x.dtype)
        if reg.is_narrow(x.dtype):
            return _in_float32(self.fmod, x, y)
        return Scalar(x.builder, x.builder.frem(x.value, y.value), x.dtype)


def apply_rule(m: Maths, op: Any, *operands: Scalar, **attrs: Any) -> Any:
    """The value(s) of a primitive by its rule; for half-width floats in float32, rounded once at the end."""
    narrow = next((x.dtype for x in operands if reg.is_narrow(x.dtype)), None)
    if narrow is None or op.name in ("to_copy", "copy"):
        return op.scalar(m, *operands, **attrs)
    out = op.scalar(m, *(m.cast(x, reg.float32) if x.dtype == narrow else x for x in operands), **attrs)
    if isinstance(out, tuple):
        return tuple(m.cast(x, narrow) if x.dtype == reg.float32 else x for x in out)
    return m.cast(out, narrow) if out.dtype == reg.float32 else out


# ---- operands --------------------------------------------------------------------------------------


def _together(operands: Any) -> list[Scalar]:
    """Python numbers and bools as the dtype of the other Scalars, all as wide as the widest."""
    scalars = [x for x in operands if isinstance(x, Scalar)]
    if not scalars:
        raise TypeError(f"no Scalar among {operands}: make one with m.number or m.constant")
    lanes = max(x.lanes for x in scalars)
    dtypes = {x.dtype for x in scalars}
    if len(dtypes) > 1:
        dtypes.discard(reg.bool_)
    if len(dtypes) > 1:
        raise TypeError(f"a rule mixes {', '.join(sorted(map(str, dtypes)))}: cast them to one dtype")
    (dtype,) = dtypes
    builder = scalars[0].builder
    made = []
    for x in operands:
        if not isinstance(x, Scalar):
            made.append(Scalar(builder, reg.constant(x, dtype, lanes), dtype))
            continue
        value = x.value if x.dtype == dtype else convert(builder, x.value, x.dtype, dtype)
        made.append(Scalar(builder, reg.broadcast_value(builder, value, lanes), dtype))
    return made


def _pair(x: Any, y: Any) -> list[Scalar]:
    return _together((x, y))


def _in_float32(run: Callable[..., Scalar], *operands: Scalar) -> Scalar:
    """The function of half-width floats: computed in float32, rounded once."""
    builder, dtype = operands[0].builder, operands[0].dtype
    wide = [Scalar(builder, convert(builder, x.value, x.dtype, reg.float32), reg.float32) for x in operands]
    out = run(*wide)
    return Scalar(builder, convert(builder, out.value, out.dtype, dtype), dtype)


# ---- operations ------------------------------------------------------------------------------------


def _arithmetic(x: Any, y: Any, floats: str | None, integers: str | None, bools: str | None) -> Scalar:
    """One instruction of the builder, chosen by kind; None where the kind has no such operation."""
    x, y = _pair(x, y)
    is_float = reg.is_float(x.dtype)
    name = floats if is_float else bools if x.dtype == reg.bool_ else integers
    if name is None:
        raise TypeError(f"no such operation on {x.dtype}: {floats or integers}")
    if is_float and reg.is_narrow(x.dtype):
        return _in_float32(lambda a, b: _arithmetic(a, b, floats, integers, bools), x, y)
    return Scalar(x.builder, getattr(x.builder, name)(x.value, y.value), x.dtype)


def _compare(sign: str, x: Any, y: Any) -> Scalar:
    x, y = _pair(x, y)
    builder, dtype, a, b = x.builder, x.dtype, x.value, y.value
    if dtype == reg.bfloat16:
        a, b = (convert(builder, v, dtype, reg.float32) for v in (a, b))
    if reg.is_float(dtype):
        compare = builder.fcmp_unordered if sign == "!=" else builder.fcmp_ordered
    else:
        compare = builder.icmp_signed if dtype.kind == "i" else builder.icmp_unsigned
    return Scalar(builder, compare(sign, a, b), reg.bool_)


def _select(condition: Scalar, x: Any, y: Any) -> Scalar:
    x, y = _pair(x, y)
    lanes = max(condition.lanes, x.lanes)
    builder = condition.builder
    chosen = [reg.broadcast_value(builder, v.value, lanes) for v in (x, y)]
    return Scalar(builder, builder.select(reg.broadcast_value(builder, condition.value, lanes), *chosen), x.dtype)


def _extreme(x: Any, y: Any, sign: str) -> Scalar:
    # select(x > y, x, y) is one instruction of x86 and gives y if either is nan; so a number goes to the left.
    if not isinstance(y, Scalar):
        x, y = y, x
    plain_number = not isinstance(x, Scalar) and x == x
    x, y = _pair(x, y)
    chosen = _select(_compare(sign, x, y), x, y)
    if plain_number or not reg.is_float(x.dtype):
        return chosen
    return _select(x != x, x, chosen)


def _rounded(name: str, x: Scalar) -> Scalar:
    return _intrinsic(name, x) if reg.is_float(x.dtype) else x


def _intrinsic(name: str, *arguments: Any) -> Scalar:
    operands = _together(arguments)
    first = operands[0]
    if not reg.is_float(first.dtype):
        raise TypeError(f"{name} of {first.dtype}: cast it to a floating dtype")
    if reg.is_narrow(first.dtype):
        return _in_float32(lambda *wide: _intrinsic(name, *wide), *operands)
    return Scalar(first.builder, reg.intrinsic(first.builder, name, *(x.value for x in operands)), first.dtype)


def _divided(x: Any, y: Any, which: int) -> Scalar:
    """Quotient (0) or remainder (1) of floor division."""
    x, y = _pair(x, y)
    if reg.is_narrow(x.dtype):
        return _in_float32(lambda a, b: _divided(a, b, which), x, y)
    if reg.is_float(x.dtype):
        return modulo_floats(Maths(x.builder), x, y)[which]
    return Scalar(x.builder, divide_integers(x.builder, x.value, y.value, x.dtype, floor=True)[which], x.dtype)


def _power(x: Any, y: Any) -> Scalar:
    x, y = _pair(x, y)
    m = Maths(x.builder)
    exponent = m.known(y)
    if not reg.is_float(x.dtype):
        return _small_power(x, exponent) if exponent in range(65) else integer_power(m, x, y)
    if reg.is_narrow(x.dtype):
        return _in_float32(_power, x, y)
    simple: Callable[[], Scalar] | None = {
        0: lambda: m.number(1, x),
        1: lambda: x,
        2: lambda: x * x,
        3: lambda: x * x * x,
        4: lambda: (x * x) * (x * x),
        0.5: lambda: m.sqrt(x),
        -0.5: lambda: m.rsqrt(x),
        -1: lambda: 1 / x,
        -2: lambda: 1 / (x * x),
    }.get(exponent)
    return simple() if simple is not None else m.pow(x, y)


def _small_power(x: Scalar, exponent: int) -> Scalar:
    """An integer to a constant power, by repeated squaring."""
    out, square = None, x
    while exponent:
        if exponent & 1:
            out = square if out is None else out * square
        exponent >>= 1
        square = square * square if exponent else square
    return Maths(x.builder).number(1, x) if out is None else out


def _shift(x: Any, y: Any, left: bool) -> Scalar:
    """NumPy's shifts: by the width or more (or less than 0) they leave nothing but the sign."""
    x, y = _pair(x, y)
    builder, dtype = x.builder, x.dtype
    if dtype.kind not in "iu":
        raise TypeError(f"no shift of {dtype}")
    bits = 8 * dtype.itemsize
    small = Scalar(builder, builder.icmp_unsigned("<", y.value, reg.constant(bits, dtype, y.lanes)), reg.bool_)
    if left:
        return _select(small, Scalar(builder, builder.shl(x.value, _select(small, y, 0).value), dtype), 0)
    if dtype.kind == "u":
        return _select(small, Scalar(builder, builder.lshr(x.value, _select(small, y, 0).value), dtype), 0)
    return Scalar(builder, builder.ashr(x.value, _select(small, y, bits - 1).value), dtype)
