"""Operands of elementwise ops: promotion to a common type, and PyTorch's errors for what does not fit."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core.op import Op
from flambeau.core.tensor import Tensor

ndarray = np.ndarray
FLOATS = dtypes.NATIVE_FLOATS


def operand_error(op: Op, position: int, value: Any) -> TypeError:
    name = op.parameters[position] if position < len(op.parameters) else f"#{position}"
    return TypeError(
        f"{op.name}(): argument '{name}' (position {position + 1}) must be Tensor, not {type(value).__name__}"
    )


def promoted(op: Op, operands: Any) -> list[Any]:
    """Arrays of one common type from tensors and Python numbers, by PyTorch's promotion rules."""
    arrays, numbers = [], []
    for position, value in enumerate(operands):
        if isinstance(value, Tensor):
            arrays.append(value._array)
        elif isinstance(value, (bool, int, float, complex, np.generic)):
            numbers.append(value)
        else:
            raise operand_error(op, position, value)
    if op.name == "sub" and (any(a.dtype == bool for a in arrays) or any(isinstance(n, bool) for n in numbers)):
        raise RuntimeError(
            "Subtraction, the `-` operator, with a bool tensor is not supported. To invert a mask, use the `~` "
            "operator or `logical_not()`."
        )
    common = dtypes.result_of(arrays, numbers)
    if op.float_op and common.category < dtypes.FLOAT:
        common = dtypes.default_dtype()
    target = common.numpy
    out: list[Any] = []
    for value in operands:
        if isinstance(value, Tensor):
            array = value._array
            out.append(array if array.dtype == target else array.astype(target))
        elif target in FLOATS and not isinstance(value, np.generic):
            out.append(value)  # NumPy keeps the array's type next to a Python number
        else:
            out.append(number_array(value, common))
    if not any(isinstance(value, ndarray) for value in out):
        out[0] = np.asarray(out[0], target)
    return out


def number_array(value: Any, to: dtypes.dtype) -> np.ndarray:
    """A Python number as a 0-d array of a type; integers wrap around as in C."""
    if to.category == dtypes.INT and isinstance(value, int):
        bits = to.itemsize * 8
        value &= (1 << bits) - 1
        if to.is_signed and value >> (bits - 1):
            value -= 1 << bits
    return np.array(value, to.numpy)


def broadcast_error(op: Op, arrays: Any, error: Exception) -> Exception:
    """PyTorch's RuntimeError for shapes that do not fit; any other error unchanged."""
    shapes = [a.shape for a in arrays if isinstance(a, ndarray)]
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        a, b = shapes[0], shapes[-1]
        for first, second in itertools.pairwise(shapes):
            try:
                np.broadcast_shapes(first, second)
            except ValueError:
                a, b = first, second
                break
        rank = max(len(a), len(b))
        for d in range(rank - 1, -1, -1):
            m = a[d - rank + len(a)] if d - rank + len(a) >= 0 else 1
            n = b[d - rank + len(b)] if d - rank + len(b) >= 0 else 1
            if m != n and m != 1 and n != 1:
                return RuntimeError(
                    f"The size of tensor a ({m}) must match the size of tensor b ({n}) at non-singleton dimension {d}"
                )
    return error
