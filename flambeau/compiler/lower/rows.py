"""Loops with reductions whose passes over the inner dimensions follow each other at every kept point.

Lanes lie along a reduced dimension (sums of rows; lanes are added up at the end of a pass) or along a kept one (sums of
columns; every lane is a point of its own). Sums of float32 run in float32 for a block and over blocks in float64, so
that their error stays like that of pairwise summation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from flambeau.backends.llvm import registers as reg
from flambeau.backends.llvm.scalars import Scalar
from flambeau.compiler.lower.nest import Nest, cost, result_dtype
from flambeau.compiler.lower.points import Scope, Writer, add, combine, const, identity, loop, minimum, mul, sweep
from flambeau.compiler.lower.pointwise import spread, unrolling

BLOCK = 128  # terms that one lane adds in float32 before they go into the sum in float64
DEAR = 10  # cost from which a value is kept for later passes
ROOM = 64 * 1024  # bytes of a row's intermediate results that are kept rather than computed again


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

    def finished(self, *registers: Any) -> Scalar:
        """The result in each lane, from what a pass has left."""
        m = self.writer.m
        total = Scalar(m.builder, registers[0], reg.float64) if self.wide else self.joined(registers)
        return m.cast(total, self.result)

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


def inner_loops(
    writer: Writer,
    dims: Sequence[int],
    accumulators: Sequence[Accumulator],
    run: Callable[[dict[int, Any], Any, Any, list[list[Any]]], list[list[Any]]],
    block: int,
) -> list[list[Any]]:
    """The loops of a pass; `run(index, start, stop, registers)` does a stretch of the last of `dims`.

    Returns for each accumulator its registers at the end, or the one in float64 where it has that.
    """
    b = writer.b
    shape = writer.nest.shape
    *outer, last = dims
    wide = any(a.wide for a in accumulators)
    counts = [len(a.carried()) for a in accumulators]

    def split(values: Sequence[Any]) -> list[list[Any]]:
        values = list(values)
        out = []
        for count in counts:
            out.append(values[:count])
            values = values[count:]
        return out

    def flat(groups: Sequence[Sequence[Any]]) -> list[Any]:
        return [value for group in groups for value in group]

    def stretch(index: dict[int, Any], start: Any, stop: Any, values: Sequence[Any]) -> list[Any]:
        groups = split(values)
        made = run(index, start, stop, [a.start() if a.wide else g for a, g in zip(accumulators, groups)])
        out = []
        for a, old, new in zip(accumulators, groups, made):
            if a.wide:
                total = writer.m.cast(a.joined(new), reg.float64)
                new = [b.fadd(old[0], total.value)]
            out.append(new)
        return flat(out)

    def nested(level: int, index: dict[int, Any], values: Sequence[Any]) -> Sequence[Any]:
        if level < len(outer):
            d = outer[level]
            return loop(b, const(0), const(shape[d]), 1, values, lambda i, v: nested(level + 1, {**index, d: i}, v))
        length = shape[last]
        if not wide or length <= block:
            return stretch(index, const(0), const(length), values)
        return loop(
            b,
            const(0),
            const(length),
            block,
            values,
            lambda i, v: stretch(index, i, minimum(b, add(b, i, const(block)), const(length)), v),
        )

    return split(nested(0, {}, flat(a.carried() for a in accumulators)))


def pass_unrolling(nest: Nest, roots: Sequence[int], reduces: int) -> int:
    """How many vectors at a time: at least two sums side by side hide the latency of an addition."""
    unroll = unrolling(nest, nest.demand(roots))
    return max(1, min(unroll, 8 // max(1, reduces)))


class Saved:
    """Values that a pass leaves in a buffer for the passes after it, because computing them again would cost more."""

    def __init__(self, writer: Writer, dims: Sequence[int], lanes: int):
        self.writer = writer
        nest = writer.nest
        self.dims = dims
        self.padded = -(-nest.shape[dims[-1]] // lanes) * lanes
        self.made_in = self.choose(nest, nest.size(dims[:-1]) * self.padded)
        self.memory: dict[int, Any] = {}
        for i in self.made_in:
            kind = reg.memory_type(result_dtype(nest.body, i))
            self.memory[i] = reg.stack_room(writer.b, ir.ArrayType(kind, nest.size(dims[:-1]) * self.padded))
            self.memory[i].align = 64

    @staticmethod
    def choose(nest: Nest, points: int) -> dict[int, int]:
        """The instructions worth keeping, each with the pass that computes it: dear ones, the last of a chain first."""
        roots = [[*reduces, *stores] for reduces, stores in nest.passes]
        chosen: dict[int, int] = {}
        room = ROOM
        for p, first in enumerate(roots):
            for i in sorted(nest.demand(first, set(chosen)), reverse=True):
                size = points * result_dtype(nest.body, i).itemsize
                again = any(i in nest.demand(later, set(chosen)) for later in roots[p + 1 :])
                dear = sum(cost(nest.body[j]) for j in nest.demand([i]) | {i}) >= DEAR
                if again and dear and size <= room and i not in chosen:
                    chosen[i] = p
                    room -= size
        return chosen

    def address(self, i: int, scope: Scope) -> Any:
        """Where the value of an instruction lies for this point."""
        b, nest = self.writer.b, self.writer.nest
        offset: Any = const(0)
        for d in self.dims[:-1]:
            offset = add(b, mul(b, offset, nest.shape[d]), scope.index[d])
        offset = add(b, mul(b, offset, self.padded), scope.index[self.dims[-1]])
        return b.gep(self.memory[i], [offset], source_etype=reg.memory_type(result_dtype(nest.body, i)))

    def fetch(self, scope: Scope, number: int) -> None:
        """What earlier passes have left for this point, into the scope."""
        nest = self.writer.nest
        ready = {i for i, made in self.made_in.items() if made < number}
        reduces, stores = nest.passes[number]
        for i in ready & nest.demand([*reduces, *stores], ready):
            dtype = result_dtype(nest.body, i)
            scope.values[i] = self.writer.m.load(self.address(i, scope), dtype, scope.lanes)

    def leave(self, scope: Scope, number: int) -> None:
        """What this pass has computed, for later ones."""
        for i, made in self.made_in.items():
            if made == number:
                self.writer.m.store(scope.vector(i), self.address(i, scope))


def write_along_rows(nest: Nest, axis: int, function: ir.Function, lanes: int) -> None:
    """Lanes along a reduced dimension; begin and end count kept points."""
    writer = Writer(nest, function, lanes)
    b = writer.b
    dims = [*(d for d in nest.inner_dims if d != axis), axis]
    saved = Saved(writer, dims, lanes)
    top = writer.scope()
    everything = [*nest.reduces, *nest.stores]
    top.hoist(everything, set(range(nest.rank)), lanes)

    def point(number: Any, _: Any) -> list[Any]:
        row = top.inside(dict(zip(nest.kept_dims, spread(b, number, [nest.shape[d] for d in nest.kept_dims]))))
        for p, (reduces, stores) in enumerate(nest.passes):
            roots = [*reduces, *stores]
            row.hoist(roots, set(nest.inner_dims), lanes)
            unroll = pass_unrolling(nest, roots, len(reduces))
            accumulators = [
                Accumulator(writer, i, lanes, unroll, -(-nest.size(dims) // (lanes * unroll))) for i in reduces
            ]

            def run(index: dict[int, Any], start: Any, stop: Any, groups: list[list[Any]]) -> list[list[Any]]:
                line = row.inside(index)
                if index:
                    line.hoist(roots, {axis}, lanes)

                def body(i: Any, vectors: int, mask: Any, values: list[Any]) -> list[Any]:
                    values = list(values)
                    for u in range(vectors):
                        scope = line.inside({axis: add(b, i, const(u * lanes))}, axis, lanes, mask)
                        saved.fetch(scope, p)
                        for n, a in enumerate(accumulators):
                            values[n * unroll + u] = a.add(values[n * unroll + u], scope)
                        saved.leave(scope, p)
                        scope.store_all(stores)
                    return values

                flat = sweep(b, start, stop, lanes, unroll, [v for group in groups for v in group], body)
                return [flat[n * unroll : (n + 1) * unroll] for n in range(len(groups))]

            sums = inner_loops(writer, dims, accumulators, run, BLOCK * lanes * unroll)
            for a, registers in zip(accumulators, sums):
                row.values[a.i] = a.across(a.finished(*registers))
        row.store_all(nest.row_stores)
        return []

    loop(b, function.args[1], function.args[2], 1, [], point)
    b.ret_void()


class Columns:
    """How kept points are cut into tiles of neighbouring columns."""

    def __init__(self, nest: Nest, axis: int, lanes: int, unroll: int):
        self.axis = axis
        self.others = [d for d in nest.kept_dims if d != axis]
        self.unroll = unroll
        self.tiles = -(-nest.shape[axis] // (lanes * unroll))
        self.extent = nest.size(self.others) * self.tiles


def write_along_columns(nest: Nest, columns: Columns, function: ir.Function, lanes: int) -> None:
    """Lanes along a kept dimension; begin and end count tiles of columns."""
    writer = Writer(nest, function, lanes)
    b, axis = writer.b, columns.axis
    dims = list(nest.inner_dims)
    top = writer.scope()
    everything = [*nest.reduces, *nest.stores]
    top.hoist(everything, set(range(nest.rank)), lanes)

    def columns_of(row: Scope, start: Any, vectors: int, mask: Any) -> None:
        tile = [row.inside({axis: add(b, start, const(u * lanes))}, axis, lanes, mask) for u in range(vectors)]
        for reduces, stores in nest.passes:
            roots = [*reduces, *stores]
            for column in tile:
                column.hoist(roots, set(dims), lanes)
            sums = [(u, Accumulator(writer, i, lanes, 1, nest.size(dims))) for i in reduces for u in range(vectors)]

            def run(index: dict[int, Any], first: Any, last: Any, groups: list[list[Any]]) -> list[list[Any]]:
                outer = [column.inside(index) for column in tile]
                for column in outer if index else ():
                    column.hoist(roots, {dims[-1]}, lanes)

                def body(i: Any, values: list[Any]) -> list[Any]:
                    points = [column.inside({dims[-1]: i}) for column in outer]
                    values = [a.add(value, points[u]) for value, (u, a) in zip(values, sums)]
                    for point in points:
                        point.store_all(stores)
                    return values

                return [[value] for value in loop(b, first, last, 1, [group[0] for group in groups], body)]

            registers = inner_loops(writer, dims, [a for _, a in sums], run, BLOCK)
            for (u, a), (register,) in zip(sums, registers):
                tile[u].values[a.i] = a.finished(register)
        for column in tile:
            column.store_all(nest.row_stores)

    def step(number: Any, _: Any) -> list[Any]:
        *at, which = spread(b, number, [*(nest.shape[d] for d in columns.others), columns.tiles])
        row = top.inside(dict(zip(columns.others, at)))
        row.hoist(everything, {axis, *dims}, lanes)
        width = lanes * columns.unroll
        start = mul(b, which, width)
        length = nest.shape[axis]
        if length % width == 0:
            columns_of(row, start, columns.unroll, None)
        else:
            stop = minimum(b, add(b, start, const(width)), const(length))

            def body(i: Any, vectors: int, mask: Any, _: Any) -> list[Any]:
                columns_of(row, i, vectors, mask)
                return []

            sweep(b, start, stop, lanes, columns.unroll, [], body)
        return []

    loop(b, function.args[1], function.args[2], 1, [], step)
    b.ret_void()
