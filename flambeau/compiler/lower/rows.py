"""Loops whose lanes lie along a reduced dimension: all passes over a row, then the lanes added up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from flambeau.backends.llvm import registers as reg
from flambeau.compiler.lower.accumulators import BLOCK, Accumulator, Bank, flat, pass_unrolling
from flambeau.compiler.lower.nest import Nest, cost, result_dtype
from flambeau.compiler.lower.points import Scope, Writer, add, const, loop, mul, sweep
from flambeau.compiler.lower.pointwise import spread

DEAR = 10  # cost from which a value is kept for later passes
ROOM = 64 * 1024  # bytes of a row's intermediate results that are kept rather than computed again


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


class RowPass:
    """One pass over the inner dimensions of a row."""

    def __init__(self, writer: Writer, row: Scope, number: int, dims: Sequence[int], saved: Saved | None):
        self.writer = writer
        self.row = row
        self.number = number
        self.dims = dims
        self.axis = dims[-1]
        self.saved = saved
        nest, lanes = writer.nest, writer.lanes
        self.reduces, self.stores = nest.passes[number]
        self.roots = [*self.reduces, *self.stores]
        self.unroll = pass_unrolling(nest, self.roots, len(self.reduces))
        terms = -(-nest.size(dims) // (lanes * self.unroll))
        self.accumulators = [Accumulator(writer, i, lanes, self.unroll, terms) for i in self.reduces]

    def run(self, bounds: dict[int, tuple[Any, Any]]) -> list[Any]:
        """Write the pass; for each of its reductions the result over all lanes (a wide one still in float64)."""
        self.row.hoist(self.roots, set(self.dims), self.writer.lanes)
        block = BLOCK * self.writer.lanes * self.unroll
        totals = Bank(self.writer, self.accumulators).run(self.dims, bounds, self.stretch, block)
        return [a.across(total) for a, total in zip(self.accumulators, totals)]

    def stretch(self, index: dict[int, Any], start: Any, stop: Any, groups: list[list[Any]]) -> list[list[Any]]:
        """A part of the innermost dimension, vector by vector."""
        line = self.row.inside(index)
        if index:
            line.hoist(self.roots, {self.axis}, self.writer.lanes)

        def body(i: Any, vectors: int, mask: Any, values: list[Any]) -> list[Any]:
            values = list(values)
            for u in range(vectors):
                self.point(line, i, u, mask, values)
            return values

        values = sweep(self.writer.b, start, stop, self.writer.lanes, self.unroll, flat(groups), body)
        return [values[n * self.unroll : (n + 1) * self.unroll] for n in range(len(groups))]

    def point(self, line: Scope, i: Any, u: int, mask: Any, values: list[Any]) -> None:
        """One vector of points: the reductions' registers number `u` are replaced in `values`."""
        lanes = self.writer.lanes
        scope = line.inside({self.axis: add(self.writer.b, i, const(u * lanes))}, self.axis, lanes, mask)
        if self.saved is not None:
            self.saved.fetch(scope, self.number)
        for n, a in enumerate(self.accumulators):
            values[n * self.unroll + u] = a.add(values[n * self.unroll + u], scope)
        if self.saved is not None:
            self.saved.leave(scope, self.number)
        scope.store_all(self.stores)


def write_along_rows(nest: Nest, axis: int, function: ir.Function, lanes: int) -> None:
    """All passes for one kept point after the other; begin and end count kept points."""
    writer = Writer(nest, function, lanes)
    dims = [*(d for d in nest.inner_dims if d != axis), axis]
    saved = Saved(writer, dims, lanes)
    top = writer.scope()
    top.hoist([*nest.reduces, *nest.stores], set(range(nest.rank)), lanes)

    def point(number: Any, _: Any) -> list[Any]:
        sizes = [nest.shape[d] for d in nest.kept_dims]
        row = top.inside(dict(zip(nest.kept_dims, spread(writer.b, number, sizes))))
        for p, (reduces, _) in enumerate(nest.passes):
            totals = RowPass(writer, row, p, dims, saved).run({})
            for i, total in zip(reduces, totals):
                row.values[i] = writer.m.cast(total, nest.body[i].dtype)
        row.store_all(nest.row_stores)
        return []

    loop(writer.b, function.args[1], function.args[2], 1, [], point)
    writer.b.ret_void()


def write_single_row(nest: Nest, function: ir.Function, lanes: int) -> None:
    """All passes over the only dimension, from begin to end; the shape of the nest is not used but for its size."""
    writer = Writer(nest, function, lanes)
    row = writer.scope()
    row.hoist([*nest.reduces, *nest.stores], {0}, lanes)
    for p, (reduces, _) in enumerate(nest.passes):
        totals = RowPass(writer, row, p, [0], None).run({0: (function.args[1], function.args[2])})
        for i, total in zip(reduces, totals):
            row.values[i] = writer.m.cast(total, nest.body[i].dtype)
    row.store_all(nest.row_stores)
    writer.b.ret_void()
