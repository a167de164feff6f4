"""Memory as a recorder sees it: who owns it, where an array begins and ends in it, and what it holds."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from flambeau.backends.onednn.memory import pointer as address
from flambeau.compiler.graph import Graph, Node, Ref, Value
from flambeau.compiler.sources import user_line
from flambeau.core.storage import _Memory
from flambeau.core.tensor import Tensor


class Block:
    """A stretch of memory and the value it holds now, which has the layout of the first one.

    What is read as another type (the parts of complex numbers) is a value of its own, a vector made by a node "@bits".
    """

    __slots__ = (
        "low", "high", "start", "all", "itemsize", "dtype", "shape", "strides", "value", "entry", "tensor", "seen"
    )  # fmt: skip

    def __init__(self, array: np.ndarray, value: Value):
        self.low, self.high = bounds(array)
        self.start = self.low if array.flags.c_contiguous else address(array)
        self.all = array.base is None  # the array owns its memory: no view of that reaches out of the block
        self.itemsize = array.itemsize
        self.dtype = array.dtype
        self.shape = value.shape
        self.strides = value.strides
        self.value = value
        self.entry: Value | None = None
        self.tensor: Any = None
        self.seen: tuple[Value, Value] | None = None  # a value, and what it is in another type

    def window(self, graph: Graph, array: np.ndarray) -> Ref | None:
        """What an array in this memory shows of the value; None if its elements lie across those of the value."""
        offset = 0
        if not self.all or array.base is not None:
            offset, rest = divmod(address(array) - self.start, array.itemsize)
            if rest:
                return None
        value = self.value
        if array.dtype != self.dtype:
            if any(s % array.itemsize for s in array.strides) or value.nbytes % array.itemsize:
                return None
            if self.seen is None or self.seen[0] is not value or self.seen[1].dtype != array.dtype:
                flat = graph.value((value.nbytes // array.itemsize,), (1,), array.dtype)
                graph.nodes.append(Node("@bits", [value.whole()], {"dtype": array.dtype}, [flat], user_line()))
                self.seen = (value, flat)
            value = self.seen[1]
        return Ref(value, array.shape, element_strides(array), offset)

    def write(self, graph: Graph, place: Ref, values: Ref) -> None:
        """Let the window `place` show other values from now on."""
        before, line = place.value, user_line()
        updated = graph.value(before.shape, before.strides, before.dtype)
        window = {"shape": place.shape, "strides": place.strides, "offset": place.offset}
        graph.nodes.append(Node("@update", [before.whole(), values], window, [updated], line))
        self.value = updated
        if before.dtype != self.dtype:
            self.value = graph.value(self.shape, self.strides, self.dtype)
            graph.nodes.append(Node("@bits", [updated.whole()], {"dtype": self.dtype}, [self.value], line))


# What numpy's as_strided puts between a view and its base.
_Strided: Any = type(np.lib.stride_tricks.as_strided(np.empty(1), (1,), (0,)).base)


def bounds(array: np.ndarray) -> tuple[int, int]:
    """The first byte and the one after the last. NumPy's `byte_bounds` takes five times as long."""
    low = high = address(array)
    if array.flags.c_contiguous:
        return low, low + array.nbytes
    for n, stride in zip(array.shape, array.strides):
        if stride < 0:
            low += (n - 1) * stride
        else:
            high += (n - 1) * stride
    return low, high + array.itemsize


def element_strides(array: np.ndarray) -> tuple[int, ...]:
    size = array.itemsize
    return tuple([s // size for s in array.strides])


def root_of(array: np.ndarray) -> Any:
    """The object that owns an array's memory."""
    while True:
        base = array.base
        if base is None:
            return array
        if type(base) is _Memory:
            base = base.owner
        elif type(base) is _Strided:
            base = base.base
        if not isinstance(base, np.ndarray):
            return base
        array = base


def overlap(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays reach into the same stretch of memory."""
    if not a.size or not b.size or root_of(a) is not root_of(b):
        return False
    (a_low, a_high), (b_low, b_high) = bounds(a), bounds(b)
    return a_low < b_high and b_low < a_high


def span(array: np.ndarray) -> int:
    """The number of elements from the first to the last in memory, gaps included."""
    low, high = bounds(array)
    return (high - low) // array.itemsize


def is_dense(array: np.ndarray) -> bool:
    """Whether the elements fill a stretch of memory without gaps or repetition."""
    if array.flags.c_contiguous:
        return True
    expected = 1
    for stride, n in sorted((s, n) for s, n in zip(element_strides(array), array.shape) if n != 1):
        if stride != expected:
            return False
        expected *= n
    return True


def living_tensors() -> Iterator[Tensor]:
    """Every tensor of this process that has memory."""
    kinds = frozenset(_with_subclasses(Tensor))
    everything = gc.get_objects()  # a hundred thousand and more: they are sifted in C
    for candidate in itertools.compress(everything, map(kinds.__contains__, map(type, everything))):
        if type(getattr(candidate, "_array", None)) is np.ndarray:
            yield candidate


def _with_subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    yield kind
    for derived in kind.__subclasses__():
        yield from _with_subclasses(derived)
