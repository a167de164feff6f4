"""The less simple arithmetic of Scalars: conversions, floor division, integer powers."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir

from flambeau.backends.llvm import registers as reg


def convert(builder: Any, value: Any, source: np.dtype, target: np.dtype) -> Any:
    """An IR value of one dtype as another, as NumPy's `astype`."""
    if source == target:
        return value
    lanes = reg.lanes_of(value)
    if source == reg.bfloat16:
        return convert(builder, _from_bfloat16(builder, value, lanes), reg.float32, target)
    if target == reg.bool_:
        zero = reg.constant(0, source, lanes)
        if reg.is_float(source):
            return builder.fcmp_unordered("!=", value, zero)
        return builder.icmp_unsigned("!=", value, zero)
    if target == reg.bfloat16:
        return _to_bfloat16(builder, convert(builder, value, source, reg.float32), lanes)
    kind = reg.register_type(target, lanes)
    if source == reg.float64 and target == reg.float16:
        return builder.fptrunc(_to_odd_float32(builder, value, lanes), kind)
    if reg.is_float(source):
        if reg.is_float(target):
            return (builder.fpext if source.itemsize < target.itemsize else builder.fptrunc)(value, kind)
        return _float_to_integer(builder, value, target, lanes)
    if reg.is_float(target):
        return (builder.sitofp if source.kind == "i" else builder.uitofp)(value, kind)
    if source != reg.bool_ and source.itemsize >= target.itemsize:
        return value if source.itemsize == target.itemsize else builder.trunc(value, kind)
    return (builder.sext if source.kind == "i" else builder.zext)(value, kind)


def _to_odd_float32(builder: Any, value: Any, lanes: int) -> Any:
    """float64 as float32, with the last bit set if that is not exact: rounding once more then cannot go wrong.

    (No processor turns float64 into float16, and LLVM would call a function of a compiler's library.)
    """
    near = builder.fptrunc(value, reg.register_type(reg.float32, lanes))
    back = builder.fpext(near, value.type)
    bits = builder.bitcast(near, reg.vector_of(reg.i32, lanes))
    even = builder.icmp_unsigned("==", builder.and_(bits, reg.splat(reg.i32, 1, lanes)), reg.splat(reg.i32, 0, lanes))
    below = builder.fcmp_ordered("<", reg.intrinsic(builder, "fabs", back), reg.intrinsic(builder, "fabs", value))
    step = builder.select(below, reg.splat(reg.i32, 1, lanes), reg.splat(reg.i32, -1, lanes))
    moved = builder.select(builder.and_(even, builder.fcmp_ordered("!=", back, value)), builder.add(bits, step), bits)
    return builder.bitcast(moved, near.type)


def _float_to_integer(builder: Any, value: Any, target: np.dtype, lanes: int) -> Any:
    """Cut towards zero. Values out of range give what the processor gives, as in NumPy, through the width C compilers
    choose: 32 bits for small integers, 64 for uint32; `freeze` keeps LLVM from assuming that there are none."""
    if target == reg.uint64:
        return reg.freeze(builder, builder.fptoui(value, reg.register_type(target, lanes)))
    wide = reg.int64 if target.itemsize == 8 or target == reg.uint32 else reg.int32
    cut = reg.freeze(builder, builder.fptosi(value, reg.register_type(wide, lanes)))
    return convert(builder, cut, wide, target)


def _from_bfloat16(builder: Any, value: Any, lanes: int) -> Any:
    wide = builder.zext(value, reg.vector_of(reg.i32, lanes))
    return builder.bitcast(builder.shl(wide, reg.splat(reg.i32, 16, lanes)), reg.register_type(reg.float32, lanes))


def _to_bfloat16(builder: Any, value: Any, lanes: int) -> Any:
    """Round to nearest, ties to even, by adding just under half a unit; nan would overflow into infinity."""

    def word(n: int) -> Any:
        return reg.splat(reg.i32, n, lanes)

    bits = builder.bitcast(value, reg.vector_of(reg.i32, lanes))
    odd = builder.and_(builder.lshr(bits, word(16)), word(1))
    rounded = builder.lshr(builder.add(bits, builder.add(odd, word(0x7FFF))), word(16))
    quiet = builder.or_(builder.and_(builder.lshr(bits, word(16)), word(0x8000)), word(0x7FC0))
    chosen = builder.select(builder.fcmp_unordered("uno", value, value), quiet, rounded)
    return builder.trunc(chosen, reg.vector_of(ir.IntType(16), lanes))


def divide_integers(builder: Any, x: Any, y: Any, dtype: np.dtype, floor: bool) -> tuple[Any, Any]:
    """Quotient and remainder, towards minus infinity or zero; both 0 for a divisor of 0, as NumPy gives.

    Neither division by zero nor the smallest integer by -1 traps: there the divisor is replaced.
    """
    if dtype == reg.bool_:
        raise TypeError("no division of bool")
    lanes = max(reg.lanes_of(x), reg.lanes_of(y))
    zero, one = (reg.constant(n, dtype, lanes) for n in (0, 1))
    is_zero = builder.icmp_unsigned("==", y, zero)
    if dtype.kind == "u":
        safe = builder.select(is_zero, one, y)
        quotient, remainder = builder.udiv(x, safe), builder.urem(x, safe)
        return builder.select(is_zero, zero, quotient), builder.select(is_zero, zero, remainder)
    is_minus_one = builder.icmp_signed("==", y, reg.constant(-1, dtype, lanes))
    safe = builder.select(builder.or_(is_zero, is_minus_one), one, y)
    quotient, remainder = builder.sdiv(x, safe), builder.srem(x, safe)
    quotient = builder.select(is_minus_one, builder.sub(zero, x), quotient)
    if floor:
        opposite = builder.icmp_signed("<", builder.xor(remainder, y), zero)
        adjust = builder.and_(builder.icmp_unsigned("!=", remainder, zero), opposite)
        quotient = builder.select(adjust, builder.sub(quotient, one), quotient)
        remainder = builder.select(adjust, builder.add(remainder, y), remainder)
    return builder.select(is_zero, zero, quotient), builder.select(is_zero, zero, remainder)


def modulo_floats(m: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Quotient rounded down and remainder with the divisor's sign. Source: Python's and NumPy's `divmod` of floats."""
    remainder = m.fmod(x, y)
    quotient = (x - remainder) / y
    wrong_sign = (remainder != 0) & ((y < 0) ^ (remainder < 0))
    quotient = m.where(wrong_sign, quotient - 1, quotient)
    remainder = m.where(wrong_sign, remainder + y, m.where(remainder == 0, m.copysign(0.0, y), remainder))
    down = m.floor(quotient)
    down = m.where(quotient - down > 0.5, down + 1, down)
    down = m.where(quotient == 0, m.copysign(0.0, x / y), down)
    by_zero = y == 0
    return m.where(by_zero, x / y, down), m.where(by_zero, m.fmod(x, y), remainder)


def integer_power(m: Any, x: Any, y: Any) -> Any:
    """x ** y by squaring, all bits of the exponent; negative exponents count as 0 (callers choose their meaning)."""
    out, square = m.number(1, x), x
    bits = 8 * x.dtype.itemsize - (x.dtype.kind == "i")
    exponent = y if x.dtype.kind == "u" else m.maximum(y, 0)
    for bit in range(bits):
        out = m.where((exponent >> bit & 1) != 0, out * square, out)
        square = square * square
    return out
