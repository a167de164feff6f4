"""The registers in which reductions gather, and the loops that feed them.

Sums of float32 run in float32 for a block and over blocks in float64, so that their error stays like that of pairwise
summation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from flambeau.backends.llvm import registers as reg
from flambeau.backends.llvm.scalars import Scalar
from flambeau.compiler.lower.nest import Nest
from flambeau.compiler.lower.points import Scope, Writer, add, combine, const, identity, loop, minimum
from flambeau.compiler.lower.pointwise import unrolling

BLOCK = 128  # terms that one lane adds in float32 before they go into the sum in float64

# (indices of the outer dimensions, start, stop, registers) -> registers, for a stretch of the innermost dimension
Stretch = Callable[[dict[int, Any], Any, Any, list[list[Any]]], list[list[Any]]]


class Accumulator:
    """The registers of one reduction: `unroll` vectors, and for long sums of floats a vector in float64 behind them."""

    def __init__(self, writer: Writer, i: int, lanes: int, unroll: int, terms: int):
        nest = writer.nest
        self.writer = writer
        self.i = i
        self.kind = nest.body[i].kind
        self.source = nest.body[i].value
        self.result = np.dtype(nest.body[i].dtype)
        self.dtype = reg.float32 if reg.is_narrow(self.result) else self.result
        self.lanes = lanes
        self.unroll = unroll
        self.wide = self.kind == "sum" and self.dtype == reg.float32 and terms > BLOCK

    def start(self) -> list[Any]:
        """Registers before anything was added."""
        return [reg.constant(identity(self.kind, self.dtype), self.dtype, self.lanes)] * self.unroll

    def carried(self) -> list[Any]:
        """What is carried from block to block."""
        if self.wide:
            return [reg.constant(0, reg.float64, self.lanes)]
        return self.start()

    def add(self, register: Any, scope: Scope) -> Any:
        """A register with the value at a point added."""
        m = self.writer.m
        value = m.cast(scope.vector(self.source), self.dtype)
        value = m.broadcast(value, self.lanes)
        if scope.mask is not None:
            value = m.where(Scalar(m.builder, scope.mask[0], reg.bool_), value, identity(self.kind, self.dtype))
        return combine(m, self.kind, Scalar(m.builder, register, self.dtype), value).value

    def joined(self, registers: Sequence[Any]) -> Scalar:
        """Several registers as one."""
        m = self.writer.m
        parts = [Scalar(m.builder, r, self.dtype) for r in registers]
        while len(parts) > 1:
            half = (len(parts) + 1) // 2
            parts = [
                combine(m, self.kind, x, parts[half + n]) if half + n < len(parts) else x
                for n, x in enumerate(parts[:half])
            ]
        return parts[0]

    def gathered(self, before: list[Any], block: list[Any]) -> list[Any]:
        """The carried registers after a block."""
        if not self.wide:
            return block
        m = self.writer.m
        return [m.builder.fadd(before[0], m.cast(self.joined(block), reg.float64).value)]

    def total(self, registers: Sequence[Any]) -> Scalar:
        """The result in each lane, from the carried registers that a pass has left."""
        return Scalar(self.writer.b, registers[0], reg.float64) if self.wide else self.joined(registers)

    def across(self, x: Scalar) -> Scalar:
        """All lanes of a vector as one."""
        m, b = self.writer.m, self.writer.b
        while x.lanes > 1:
            half = x.lanes // 2
            undefined = ir.Constant(x.value.type, ir.Undefined)
            if half == 1:
                low, high = (b.extract_element(x.value, ir.Constant(reg.i32, n)) for n in (0, 1))
            else:
                kind = ir.VectorType(reg.i32, half)
                low, high = (
                    b.shuffle_vector(x.value, undefined, ir.Constant(kind, list(range(first, first + half))))
                    for first in (0, half)
                )
            x = combine(m, self.kind, Scalar(b, low, x.dtype), Scalar(b, high, x.dtype))
        return x


class Bank:
    """The accumulators of one pass over the inner dimensions."""

    def __init__(self, writer: Writer, accumulators: Sequence[Accumulator]):
        self.writer = writer
        self.accumulators = accumulators
        self.wide = any(a.wide for a in accumulators)

    def grouped(self, values: Sequence[Any], counts: Sequence[int]) -> list[list[Any]]:
        """A flat list of registers, by accumulator."""
        values = list(values)
        out, at = [], 0
        for count in counts:
            out.append(values[at : at + count])
            at += count
        return out

    def run(
        self, dims: Sequence[int], bounds: dict[int, tuple[Any, Any]], stretch: Stretch, block: int
    ) -> list[Scalar]:
        """The loops over `dims`, where not said otherwise from end to end; what each accumulator has gathered.

        `stretch` does a part of the last dimension, at most `block` of it where a block must be kept short.
        """
        b, shape = self.writer.b, self.writer.nest.shape
        *outer, last = dims
        counts = [len(a.carried()) for a in self.accumulators]
        limits = {d: bounds.get(d, (const(0), const(shape[d]))) for d in dims}

        def piece(index: dict[int, Any], start: Any, stop: Any, values: Sequence[Any]) -> list[Any]:
            groups = self.grouped(values, counts)
            made = stretch(index, start, stop, [a.start() if a.wide else g for a, g in zip(self.accumulators, groups)])
            return flat(a.gathered(old, new) for a, old, new in zip(self.accumulators, groups, made))

        def level(n: int, index: dict[int, Any], values: Sequence[Any]) -> Sequence[Any]:
            start, stop = limits[dims[n]]
            if n < len(outer):
                return loop(b, start, stop, 1, values, lambda i, v: level(n + 1, {**index, dims[n]: i}, v))
            if not self.wide or (last not in bounds and shape[last] <= block):
                return piece(index, start, stop, values)
            return loop(
                b,
                start,
                stop,
                block,
                values,
                lambda i, v: piece(index, i, minimum(b, add(b, i, const(block)), stop), v),
            )

        carried = level(0, {}, flat(a.carried() for a in self.accumulators))
        return [a.total(g) for a, g in zip(self.accumulators, self.grouped(carried, counts))]


def flat(groups: Any) -> list[Any]:
    """A list of lists as one."""
    return [value for group in groups for value in group]


def pass_unrolling(nest: Nest, roots: Sequence[int], reduces: int) -> int:
    """How many vectors at a time, so that sums hide the latency of an addition and all fit the registers."""
    unroll = unrolling(nest, nest.demand(roots), nest.size(range(nest.rank)))
    return max(1, min(unroll, 8 // max(1, reduces)))
