"""Loops without reductions: one vector loop, inside of loops over the other dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from flambeau.compiler.lower.nest import Nest, cost
from flambeau.compiler.lower.points import Scope, Writer, add, const, known, loop, minimum, mul, sweep

FEW = 4096  # points below which code is kept small rather than fast
LONG = 4096  # points of the innermost dimension given to a thread at least, where rows are cut


def unrolling(nest: Nest, instructions: Sequence[int] | set[int], points: int) -> int:
    """How many vectors to do in one round: several where there is little to do for each, but much in all."""
    if points < FEW:
        return 1
    total = sum(cost(nest.body[i]) for i in instructions)
    return 4 if total <= 10 else 2 if total <= 24 else 1


def spread(b: ir.IRBuilder, number: Any, sizes: Sequence[int]) -> list[Any]:
    """The indices that a row number stands for, the last one running fastest."""
    out = []
    for at, size in reversed(list(enumerate(sizes))):
        if at == 0:
            out.append(number)
        else:
            out.append(b.urem(number, const(size)))
            number = b.udiv(number, const(size))
    return out[::-1]


def write_points(scope: Scope, axis: int, start: Any, stop: Any, roots: Sequence[int], unroll: int) -> None:
    """The vector loop: from start to stop along the axis, all stores."""
    writer = scope.writer
    b, lanes = writer.b, writer.lanes

    def body(i: Any, vectors: int, mask: Any, _: Any) -> list[Any]:
        for u in range(vectors):
            point = scope.inside({axis: add(b, i, const(u * lanes))}, axis, lanes, mask)
            point.store_all(roots)
        return []

    sweep(b, start, stop, lanes, unroll, [], body)


def write_flat(nest: Nest, function: ir.Function, lanes: int) -> None:
    """One dimension (or none): begin and end are points; the code does not know how many there are."""
    writer = Writer(nest, function, lanes)
    top = writer.scope()
    roots = nest.stores
    if nest.rank == 0:
        top.store_all(roots)
    else:
        top.hoist(roots, {0}, lanes)
        write_points(top, 0, function.args[1], function.args[2], roots, unrolling(nest, nest.demand(roots), FEW))
    writer.b.ret_void()


class Rows:
    """How a space of several dimensions is cut: (outer dimensions and pieces of the axis) | middle | axis."""

    def __init__(self, nest: Nest, axis: int, threads: int):
        self.axis = axis
        others = [d for d in range(nest.rank) if d != axis]
        self.middle: list[int] = []
        if len(others) > 1 and nest.size(others[:-1]) >= 8 * threads:
            self.middle = [others.pop()]
        self.outer = others
        self.length = nest.shape[axis]
        self.piece = self.length
        if threads > 1 and nest.size(others) < 8 * threads and self.length > LONG:
            self.piece = LONG
        self.pieces = -(-self.length // self.piece) if self.piece else 0
        self.extent = nest.size(others) * self.pieces


def write_rows(nest: Nest, rows: Rows, function: ir.Function, lanes: int) -> None:
    """Several dimensions: begin and end count pieces of rows."""
    writer = Writer(nest, function, lanes)
    b = writer.b
    top = writer.scope()
    roots = nest.stores
    unroll = unrolling(nest, nest.demand(roots), nest.size(range(nest.rank)))
    top.hoist(roots, set(range(nest.rank)), lanes)

    def row(number: Any, _: Any) -> list[Any]:
        sizes = [nest.shape[d] for d in rows.outer]
        start, stop = const(0), const(rows.length)
        if rows.pieces > 1:
            *at, piece = spread(b, number, [*sizes, rows.pieces])
            start = mul(b, piece, rows.piece)
            stop = minimum(b, add(b, start, const(rows.piece)), const(rows.length))
        else:
            at = spread(b, number, sizes)
        scope = top.inside(dict(zip(rows.outer, at)))
        scope.hoist(roots, {*rows.middle, rows.axis}, lanes)
        if not rows.middle:
            write_points(scope, rows.axis, start, stop, roots, unroll)
            return []

        def middle(index: Any, _: Any) -> list[Any]:
            line = scope.inside({rows.middle[0]: index})
            line.hoist(roots, {rows.axis}, lanes)
            write_points(line, rows.axis, start, stop, roots, unroll)
            return []

        loop(b, const(0), const(nest.shape[rows.middle[0]]), 1, [], middle)
        return []

    loop(b, function.args[1], function.args[2], 1, [], row)
    b.ret_void()


__all__ = ["Rows", "known", "spread", "unrolling", "write_flat", "write_points", "write_rows"]
