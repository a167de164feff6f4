"""Numbers that a compiled step computes anew at every call: learning rates, step counts, and what is made of them.

A `Symbol` is a float, so that ordinary Python runs on it while a step is recorded; its arithmetic is written into the
graph as 0-d float64 nodes. A comparison is answered by the present value and remembered as a guard: a later call for
which the answer differs is recorded again.
"""

from __future__ import annotations

import math
import operator
from typing import Any


class Symbol(float):
    """A float with a place in the graph: `ref` is its 0-d value, `evaluate(call)` its value at a later call.

    `moving`: it depends on state that the call itself changes (a step count), not on options only.
    """

    __slots__ = ("recorder", "ref", "evaluate", "moving")
    recorder: Any
    ref: Any
    evaluate: Any
    moving: bool

    def _binary(self, name: str, function: Any, other: Any, swapped: bool = False) -> Any:
        if not isinstance(other, (int, float)):
            return NotImplemented
        left, right = (other, self) if swapped else (self, other)
        return self.recorder.symbol_of(name, function, left, right)

    def __add__(self, other: Any) -> Any:
        return self._binary("add", operator.add, other)

    def __radd__(self, other: Any) -> Any:
        return self._binary("add", operator.add, other, True)

    def __sub__(self, other: Any) -> Any:
        return self._binary("sub", operator.sub, other)

    def __rsub__(self, other: Any) -> Any:
        return self._binary("sub", operator.sub, other, True)

    def __mul__(self, other: Any) -> Any:
        return self._binary("mul", operator.mul, other)

    def __rmul__(self, other: Any) -> Any:
        return self._binary("mul", operator.mul, other, True)

    def __truediv__(self, other: Any) -> Any:
        return self._binary("div", operator.truediv, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._binary("div", operator.truediv, other, True)

    def __pow__(self, other: Any, modulo: Any = None) -> Any:
        return self._binary("pow", operator.pow, other)

    def __rpow__(self, other: Any, modulo: Any = None) -> Any:
        return self._binary("pow", operator.pow, other, True)

    def __neg__(self) -> Any:
        return self.recorder.symbol_of("sub", operator.sub, 0.0, self)

    def __abs__(self) -> Any:
        return -self if self < 0 else self

    def _compare(self, function: Any, other: Any) -> bool:
        if not isinstance(other, (int, float)):
            return NotImplemented
        answer = bool(function(float(self), float(other)))
        self.recorder.require(function, self, other, answer)
        return answer

    def __lt__(self, other: Any) -> bool:
        return self._compare(operator.lt, other)

    def __le__(self, other: Any) -> bool:
        return self._compare(operator.le, other)

    def __gt__(self, other: Any) -> bool:
        return self._compare(operator.gt, other)

    def __ge__(self, other: Any) -> bool:
        return self._compare(operator.ge, other)

    def __eq__(self, other: Any) -> bool:
        return self._compare(operator.eq, other)

    def __ne__(self, other: Any) -> bool:
        return self._compare(operator.ne, other)

    def __bool__(self) -> bool:
        return self._compare(operator.ne, 0.0)

    __hash__ = float.__hash__

    def __float__(self) -> float:
        return float.__add__(self, 0.0)


def value_at(operand: Any, call: Any) -> Any:
    """What a number or symbol is worth at a call."""
    return operand.evaluate(call) if type(operand) is Symbol else operand


def evaluator(function: Any, left: Any, right: Any) -> Any:
    """How to compute function(left, right) again; nan where Python's arithmetic has no answer."""

    def evaluate(call: Any) -> float:
        try:
            return function(value_at(left, call), value_at(right, call))
        except (ZeroDivisionError, OverflowError):
            return math.nan

    return evaluate
