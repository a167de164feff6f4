"""The graph of one captured call: values in order of computation, and what each reads.

Memory is explicit. A `Value` is a whole block of memory at one moment (its strides say in which order the elements
lie); a `Ref` is a window on it (any view: transposed, sliced, expanded), so that views cost nothing and need no nodes.
A write in place makes a new value; `Graph.writes` says which outside memory must hold which value in the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


class Value:
    """One block of memory at one moment: what a node computed, or what came from outside.

    `shape` and `strides` (in elements) describe the whole block, without gaps: a permutation of contiguous order.
    """

    __slots__ = ("number", "shape", "strides", "dtype", "node", "source", "symbol")

    def __init__(self, number: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype):
        self.number = number
        self.shape = shape
        self.strides = strides
        self.dtype = dtype
        self.node: Node | None = None
        self.source: Any = None  # where a value without a node comes from: see capture.py
        self.symbol = False  # a 0-d float64 that stood as a Python number (symbols.py): it does not promote

    @property
    def size(self) -> int:
        count = 1
        for n in self.shape:
            count *= n
        return count

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def whole(self) -> Ref:
        """The window that shows everything in the value's own shape."""
        return Ref(self, self.shape, self.strides, 0)

    def __repr__(self) -> str:
        return f"%{self.number}"


@dataclass(eq=False, repr=False)
class Ref:
    """A window on a value: shape, strides and offset in elements from the start of its block."""

    value: Value
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @property
    def dtype(self) -> np.dtype:
        return self.value.dtype

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for equal windows on one value."""
        return (self.value.number, self.shape, self.strides, self.offset)

    def is_whole(self) -> bool:
        """Whether this is the value as it was made."""
        return (
            self.shape == self.value.shape
            and self.offset == 0
            and same_order(self.shape, self.strides, self.value.strides)
        )


def same_order(shape: tuple[int, ...], a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether two sets of strides mean the same places: dimensions of size 1 do not count."""
    return a == b or all(n == 1 or s == t for n, s, t in zip(shape, a, b))


def common_shape(refs: Iterable[Ref]) -> tuple[int, ...]:
    """The shape that windows broadcast to; NumPy is asked only where they differ, for it takes 10 us."""
    shapes = {ref.shape for ref in refs}
    return shapes.pop() if len(shapes) == 1 else np.broadcast_shapes(*shapes)


Operand = Any  # a Ref, a Python number, or None


class Node:
    """One operation: `op` is its name in the registry, `attrs` its attributes, `inputs` its tensor parameters.

    Who gives it other operands gives it another list of them.
    """

    __slots__ = ("op", "inputs", "attrs", "outputs", "line", "compute", "effect", "again", "_refs")

    def __init__(
        self, op: str, inputs: list[Operand], attrs: dict[str, Any], outputs: list[Value | None], line: Any = None
    ):
        self.op = op
        self.inputs = inputs
        self.attrs = attrs
        self.outputs = outputs
        self.line = line  # (file, number) in the user's code
        self.compute: Any = None  # elementwise ops: the dtype all operands are promoted to
        self.again = False  # computed again on purpose: not to be merged with the same thing computed earlier
        self.effect = False  # draws from a random stream: must run, once, in order
        self._refs: tuple[Any, list[Ref]] = (None, [])  # the operands of which, and its windows
        for value in outputs:
            if value is not None:
                value.node = self

    @property
    def refs(self) -> list[Ref]:
        """The windows it reads."""
        known = self._refs
        if known[0] is not self.inputs:
            known = self._refs = (self.inputs, [operand for operand in self.inputs if isinstance(operand, Ref)])
        return known[1]


@dataclass(eq=False, repr=False)
class Check:
    """What must hold of outside memory before a program runs: low <= values <= high, but for those equal to `but`."""

    ref: Ref
    low: Any
    high: Any
    but: Any = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Check) and self.key == other.key

    __hash__ = None  # type: ignore[assignment]

    @property
    def key(self) -> tuple[Any, ...]:
        return (self.ref.key, self.low, self.high, self.but)

    def holds(self, array: np.ndarray) -> bool:
        """Whether it holds of the window's values; nan is out of bounds."""
        if array.min() >= self.low and array.max() <= self.high:
            return True
        return self.but is not None and bool((((array >= self.low) & (array <= self.high)) | (array == self.but)).all())


@dataclass(eq=False, repr=False)
class Graph:
    """Nodes in order. `inputs` come from outside at each call, `constants` are fixed arrays.

    `writes` maps a value of outside memory to the value that its memory must hold after the call; `outputs` are
    windows handed back to the caller; `checks` say what must hold of inputs before a call may run.
    """

    nodes: list[Node] = field(default_factory=list)
    inputs: list[Value] = field(default_factory=list)
    constants: dict[Value, np.ndarray] = field(default_factory=dict)
    writes: dict[Value, Ref] = field(default_factory=dict)
    outputs: list[Ref] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    count: int = 0

    def value(self, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype) -> Value:
        """A new value, not yet computed by any node."""
        made = Value(self.count, tuple(shape), tuple(strides), np.dtype(dtype))
        self.count += 1
        return made

    def __str__(self) -> str:
        from flambeau.compiler.printing import text

        return text(self)
