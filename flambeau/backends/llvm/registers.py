"""NumPy dtypes as LLVM types: in registers, in memory, as constants; loads and stores; intrinsics.

A bool is one bit in registers and one byte in memory. bfloat16, for which llvmlite has no type, lies in registers as
the 16 bits of memory. `lanes` is the width of a vector; 1 means a plain scalar.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.ir.instructions import Instruction
from ml_dtypes import bfloat16 as _bfloat16

bool_ = np.dtype(np.bool_)
int8, int16, int32, int64 = (np.dtype(f"i{n}") for n in (1, 2, 4, 8))
uint8, uint16, uint32, uint64 = (np.dtype(f"u{n}") for n in (1, 2, 4, 8))
float16, float32, float64 = (np.dtype(f"f{n}") for n in (2, 4, 8))
bfloat16 = np.dtype(_bfloat16)

_FLOATS = {float16: ir.HalfType(), float32: ir.FloatType(), float64: ir.DoubleType()}

pointer = ir.PointerType()
i1, i8, i32, i64 = (ir.IntType(n) for n in (1, 8, 32, 64))


def is_float(dtype: np.dtype) -> bool:
    """Whether the dtype is a floating point type, bfloat16 included."""
    return dtype.kind == "f" or dtype == bfloat16


def is_narrow(dtype: np.dtype) -> bool:
    """Whether the dtype is a 16-bit float, which is computed in float32 and rounded after every operation."""
    return dtype.itemsize == 2 and is_float(dtype)


def vector_of(element: Any, lanes: int) -> Any:
    """`<lanes x element>`, or the element for one lane."""
    return element if lanes == 1 else ir.VectorType(element, lanes)


def lanes_of(value: Any) -> int:
    """The number of lanes of an IR value."""
    return value.type.count if isinstance(value.type, ir.VectorType) else 1


def register_type(dtype: np.dtype, lanes: int = 1) -> Any:
    """The type of a value in registers. TypeError for complex and structured dtypes."""
    if dtype in _FLOATS:
        return vector_of(_FLOATS[dtype], lanes)
    if dtype == bool_:
        return vector_of(i1, lanes)
    if dtype.kind in "iu" or dtype == bfloat16:
        return vector_of(ir.IntType(8 * dtype.itemsize), lanes)
    raise TypeError(f"generated code has no type for {dtype}")


def memory_type(dtype: np.dtype, lanes: int = 1) -> Any:
    """The type of a value in memory: that in registers, but bytes for bool."""
    return vector_of(i8, lanes) if dtype == bool_ else register_type(dtype, lanes)


class _Splat(ir.Constant):
    """A vector constant written as one word: spelling out the lanes would dominate the time of making small kernels."""

    def __init__(self, kind: Any, element: ir.Constant):
        self.type = kind
        self.constant = element

    def _get_reference(self) -> str:
        return f"splat ({self.type.element} {self.constant.get_reference()})"

    def _to_string(self) -> str:
        return f"{self.type} {self._get_reference()}"


def splat(element: Any, value: Any, lanes: int = 1) -> Any:
    """A constant of an LLVM element type, repeated in all lanes."""
    constant = ir.Constant(element, value)
    if lanes == 1:
        return constant
    return _Splat(ir.VectorType(element, lanes), constant)


def constant(value: Any, dtype: np.dtype, lanes: int = 1) -> Any:
    """A Python or NumPy number as a constant of this dtype.

    Raises: TypeError if the dtype has no such value (2.5 as an integer); integers wrap.
    """
    if dtype == bool_:
        return splat(i1, int(bool(value)), lanes)
    if is_float(dtype):
        if dtype == bfloat16:
            return splat(ir.IntType(16), int(np.array(value, dtype).view(np.uint16)), lanes)
        return splat(_FLOATS[dtype], float(np.array(value).astype(dtype)), lanes)
    if value != int(value):
        raise TypeError(f"{value} is no number of type {dtype}")
    bits = 8 * dtype.itemsize
    return splat(ir.IntType(bits), int(value) & ((1 << bits) - 1), lanes)


def constant_value(value: Any) -> Any:
    """The number in all lanes of a constant made here; None for what is no constant."""
    value = value.constant if isinstance(value, _Splat) else value
    number = value.constant if isinstance(value, ir.Constant) else None
    return number if isinstance(number, (int, float)) else None


def load_value(builder: Any, address: Any, dtype: np.dtype, lanes: int = 1, align: int | None = None) -> Any:
    """The value at an address, as it lies in registers; by default aligned to one element only."""
    value = builder.load(address, typ=memory_type(dtype, lanes), align=align or dtype.itemsize)
    return builder.icmp_unsigned("!=", value, splat(i8, 0, lanes)) if dtype == bool_ else value


def store_value(builder: Any, value: Any, address: Any, dtype: np.dtype, align: int | None = None) -> None:
    """Write a value of this dtype from registers."""
    if dtype == bool_:
        value = builder.zext(value, memory_type(dtype, lanes_of(value)))
    builder.store(value, address, align=align or dtype.itemsize)


def broadcast_value(builder: Any, value: Any, lanes: int) -> Any:
    """A scalar value repeated in all lanes; a vector is returned as it is."""
    if lanes == 1 or isinstance(value.type, ir.VectorType):
        return value
    number = constant_value(value)
    if number is not None:
        return splat(value.type, number, lanes)
    vector = ir.VectorType(value.type, lanes)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(i32, 0))
    return builder.shuffle_vector(
        first, ir.Constant(vector, ir.Undefined), ir.Constant(vector_of(i32, lanes), [0] * lanes)
    )


def freeze(builder: Any, value: Any) -> Any:
    """The value, or some value where it has none that LLVM promises. (llvmlite has no method for the instruction.)"""
    instruction = Instruction(builder.block, value.type, "freeze", [value])
    builder._insert(instruction)
    return instruction


def opaque(builder: Any, x: Any) -> Any:
    """The same i64, of which LLVM knows nothing.

    Of an index that is counted this way it does not know that it is one, so that its loop strength reduction, which
    takes half the time of making machine code, has nothing to do. Measured on the kernels of four models (Zen 3): the
    code is as fast, for addresses of base and index cost nothing extra.
    """
    return builder.asm(ir.FunctionType(i64, [i64]), "", "=r,0", [x], False)


def stack_room(builder: Any, element: Any, count: int = 1) -> Any:
    """The address of room for some values of an LLVM type on the stack, made once per call of the function."""
    with builder.goto_entry_block():
        made = builder.alloca(element, count)
    made.type = pointer  # llvmlite gives it a typed pointer, which mixes badly with the others
    return made


def declared(module: Any, name: str, result: Any, parameters: Any) -> Any:
    """The function of that name in the module, declared there if it is not."""
    found = module.globals.get(name)
    return found if found is not None else ir.Function(module, ir.FunctionType(result, parameters), name)


def intrinsic(builder: Any, name: str, *arguments: Any) -> Any:
    """Call `llvm.NAME.TYPE`, overloaded on the type of its first argument, which it returns."""
    kind = arguments[0].type
    element = kind.element if isinstance(kind, ir.VectorType) else kind
    suffix = f"i{element.width}" if isinstance(element, ir.IntType) else element.intrinsic_name
    if element is not kind:
        suffix = f"v{kind.count}{suffix}"
    function = declared(builder.module, f"llvm.{name}.{suffix}", kind, [a.type for a in arguments])
    return builder.call(function, arguments)
