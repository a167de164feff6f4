"""What a recorder has to know of one call of an op: the type it computes in, and whether a record of it can stand."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core.operands import promoted
from flambeau.core.tensor import Tensor


def common_type(op: Any, inputs: list[Any]) -> np.dtype | None:
    """The dtype an elementwise op computes in."""
    types = {x._array.dtype for x in inputs if isinstance(x, Tensor)}
    numbers = any(not isinstance(x, Tensor) and x is not None for x in inputs)
    if len(types) == 1 and not numbers and not (op.float_op and next(iter(types)).kind in "biu"):
        return next(iter(types))
    if len(types) == 1 and next(iter(types)).kind == "f" and all(isinstance(x, (Tensor, int, float)) for x in inputs):
        return next(iter(types))  # Python's numbers leave a floating type as it is
    if any(x is None for x in inputs):
        return None
    # One element of each operand decides as well as all of them.
    small = [_first(x) for x in inputs]
    arrays = promoted(op, small)
    return next((a.dtype for a in arrays if isinstance(a, np.ndarray)), None)


def _first(x: Any) -> Any:
    if not isinstance(x, Tensor):
        return x
    made = object.__new__(Tensor)
    made._array = x._array if x._array.ndim == 0 else x._array[(slice(0, 1),) * x._array.ndim]
    return made


def holds_values(attribute: Any) -> bool:
    """Whether an attribute carries values of tensors, which another call would not have."""
    if isinstance(attribute, (Tensor, np.ndarray)):
        return True
    return isinstance(attribute, (tuple, list)) and any(holds_values(item) for item in attribute)
