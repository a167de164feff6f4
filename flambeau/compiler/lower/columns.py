"""Loops whose lanes lie along a kept dimension: every lane reduces a column of its own."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from flambeau.compiler.lower.accumulators import BLOCK, Accumulator, Bank, pass_unrolling
from flambeau.compiler.lower.nest import Nest
from flambeau.compiler.lower.points import Scope, Writer, add, const, loop, minimum, mul, sweep
from flambeau.compiler.lower.pointwise import spread


class Tiles:
    """How kept points are cut into tiles of neighbouring columns."""

    def __init__(self, nest: Nest, axis: int, lanes: int):
        self.axis = axis
        self.others = [d for d in nest.kept_dims if d != axis]
        unroll = max(pass_unrolling(nest, [*reduces, *stores], len(reduces)) for reduces, stores in nest.passes)
        self.unroll = min(unroll, -(-nest.shape[axis] // lanes))
        self.width = lanes * self.unroll
        self.tiles = -(-nest.shape[axis] // self.width)
        self.extent = nest.size(self.others) * self.tiles


class ColumnPass:
    """One pass down a tile of columns; `tile` has a scope for each vector of them."""

    def __init__(self, writer: Writer, tile: list[Scope], number: int):
        self.writer = writer
        self.tile = tile
        self.dims = list(writer.nest.inner_dims)
        self.reduces, self.stores = writer.nest.passes[number]
        self.roots = [*self.reduces, *self.stores]
        terms = writer.nest.size(self.dims)
        self.sums = [
            (u, Accumulator(writer, i, writer.lanes, 1, terms)) for i in self.reduces for u in range(len(tile))
        ]

    def run(self) -> None:
        """Write the pass; the results go into the tile's scopes."""
        for column in self.tile:
            column.hoist(self.roots, set(self.dims), self.writer.lanes)
        bank = Bank(self.writer, [a for _, a in self.sums])
        for (u, a), total in zip(self.sums, bank.run(self.dims, {}, self.stretch, BLOCK)):
            self.tile[u].values[a.i] = self.writer.m.cast(total, a.result)

    def stretch(self, index: dict[int, Any], start: Any, stop: Any, groups: list[list[Any]]) -> list[list[Any]]:
        """A part of the innermost of the reduced dimensions."""
        last = self.dims[-1]
        columns = [column.inside(index) for column in self.tile]
        for column in columns if index else ():
            column.hoist(self.roots, {last}, self.writer.lanes)

        def body(i: Any, values: list[Any]) -> list[Any]:
            points = [column.inside({last: i}) for column in columns]
            values = [a.add(value, points[u]) for value, (u, a) in zip(values, self.sums)]
            for point in points:
                point.store_all(self.stores)
            return values

        return [[value] for value in loop(self.writer.b, start, stop, 1, [group[0] for group in groups], body)]


def write_along_columns(nest: Nest, tiles: Tiles, function: ir.Function, lanes: int) -> None:
    """All passes for one tile of columns after the other; begin and end count tiles."""
    writer = Writer(nest, function, lanes)
    b, axis, length = writer.b, tiles.axis, nest.shape[tiles.axis]
    top = writer.scope()
    everything = [*nest.reduces, *nest.stores]
    top.hoist(everything, set(range(nest.rank)), lanes)

    def columns(row: Scope, start: Any, vectors: int, mask: Any) -> list[Any]:
        tile = [row.inside({axis: add(b, start, const(u * lanes))}, axis, lanes, mask) for u in range(vectors)]
        for number in range(len(nest.passes)):
            ColumnPass(writer, tile, number).run()
        for column in tile:
            column.store_all(nest.row_stores)
        return []

    def step(number: Any, _: Any) -> list[Any]:
        *at, which = spread(b, number, [*(nest.shape[d] for d in tiles.others), tiles.tiles])
        row = top.inside(dict(zip(tiles.others, at)))
        row.hoist(everything, {axis, *nest.inner_dims}, lanes)
        start = mul(b, which, tiles.width)
        if length % tiles.width == 0:
            return columns(row, start, tiles.unroll, None)
        stop = minimum(b, add(b, start, const(tiles.width)), const(length))
        return sweep(
            b, start, stop, lanes, tiles.unroll, [], lambda i, vectors, mask, _: columns(row, i, vectors, mask)
        )

    loop(b, function.args[1], function.args[2], 1, [], step)
    b.ret_void()
