"""Reductions too large for one thread or one cache: shares of the reduced points, each leaving a partial result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir

from flambeau.backends.llvm import registers as reg
from flambeau.backends.llvm.scalars import Scalar
from flambeau.compiler.kernel import Reduce
from flambeau.compiler.lower.accumulators import Accumulator, pass_unrolling
from flambeau.compiler.lower.nest import Nest
from flambeau.compiler.lower.points import Scope, Writer, add, combine, const, identity, loop, minimum, mul, sweep
from flambeau.compiler.lower.pointwise import spread
from flambeau.compiler.lower.rows import RowPass

GROUP = 8  # rows added up in registers at least, before they go into the partial results in memory
GROUPED = 16 * 1024  # bytes of the rows of a group


@dataclass(frozen=True)
class Partials:
    """Where partial results lie: for each reduction an array [shares, *kept dimensions] of its dtype.

    `strides` are those of the kept dimensions, `size` is the room for one share, both in elements.
    """

    slot: int
    offsets: dict[int, int]  # reduction -> byte
    shares: int
    cut: int  # the dimension that is cut into shares
    length: int  # points of a share along it
    strides: tuple[int, ...]
    size: int


def partial_dtype(reduce: Reduce) -> np.dtype:
    """The dtype of partial results: sums of floats go on in float64."""
    dtype = np.dtype(reduce.dtype)
    return reg.float64 if reduce.kind == "sum" and reg.is_float(dtype) else dtype


def cut_length(size: int, shares: int, multiple: int) -> int:
    """Points of a share: a multiple of something, so that no share begins within a vector or a group."""
    length = -(-size // shares)
    return -(-length // multiple) * multiple


def _place(writer: Writer, partials: Partials, i: int, share: Any, index: dict[int, Any], more: Any = None) -> Any:
    """The address of a partial result."""
    b, nest = writer.b, writer.nest
    dtype = partial_dtype(nest.body[i])
    at: Any = add(b, const(partials.offsets[i] // dtype.itemsize), mul(b, share, partials.size))
    for d, stride in zip(nest.kept_dims, partials.strides):
        if d in index:
            at = add(b, at, mul(b, index[d], stride))
    if more is not None:
        at = add(b, at, more)
    return b.gep(writer.buffer(partials.slot), [at], source_etype=reg.memory_type(dtype))


def _share(writer: Writer, partials: Partials, share: Any) -> dict[int, tuple[Any, Any]]:
    """From where to where a share goes along the dimension that is cut."""
    b = writer.b
    start = mul(b, share, partials.length)
    stop = minimum(b, add(b, start, const(partials.length)), const(writer.nest.shape[partials.cut]))
    return {partials.cut: (start, stop)}


def write_row_shares(nest: Nest, axis: int, partials: Partials, function: ir.Function, *, lanes: int) -> None:
    """Lanes along a reduced dimension; begin and end count shares of kept points."""
    writer = Writer(nest, function, lanes)
    dims = [*(d for d in nest.inner_dims if d != axis), axis]
    top = writer.scope()
    top.hoist([*nest.reduces, *nest.stores], set(range(nest.rank)), lanes)

    def step(number: Any, _: Any) -> list[Any]:
        *at, share = spread(writer.b, number, [*(nest.shape[d] for d in nest.kept_dims), partials.shares])
        index = dict(zip(nest.kept_dims, at))
        totals = RowPass(writer, top.inside(index), 0, dims, None).run(_share(writer, partials, share))
        for i, total in zip(nest.reduces, totals):
            value = writer.m.cast(total, partial_dtype(nest.body[i]))
            writer.m.store(value, _place(writer, partials, i, share, index))
        return []

    loop(writer.b, function.args[1], function.args[2], 1, [], step)
    writer.b.ret_void()


class ColumnShares:
    """Lanes along a kept dimension: rows are added into a line of partial results, a group of rows at a time."""

    def __init__(self, nest: Nest, axis: int, partials: Partials, function: ir.Function, lanes: int):
        self.nest = nest
        self.axis = axis
        self.partials = partials
        self.writer = Writer(nest, function, lanes)
        self.lanes = lanes
        self.others = [d for d in nest.kept_dims if d != axis]
        self.last = nest.inner_dims[-1]
        self.roots = [*nest.reduces, *nest.stores]
        self.unroll = pass_unrolling(nest, self.roots, len(nest.reduces))
        if self.unroll == 4:
            self.unroll = 8 // len(nest.reduces)
        self.group = group_of_rows(nest, axis)

    def write(self) -> None:
        """The function: begin and end count shares of kept points but for those along the axis."""
        b = self.writer.b
        top = self.writer.scope()
        top.hoist(self.roots, set(range(self.nest.rank)), self.lanes)
        sizes = [*(self.nest.shape[d] for d in self.others), self.partials.shares]

        def step(number: Any, _: Any) -> list[Any]:
            *at, share = spread(b, number, sizes)
            row = top.inside(dict(zip(self.others, at)))
            self.clear(row, share)
            bounds = _share(self.writer, self.partials, share)
            limits = [bounds.get(d, (const(0), const(self.nest.shape[d]))) for d in self.nest.inner_dims]
            self.descend(row, share, limits)
            return []

        function = self.writer.function
        loop(b, function.args[1], function.args[2], 1, [], step)
        b.ret_void()

    def clear(self, row: Scope, share: Any) -> None:
        """Partial results before anything was added."""
        m = self.writer.m

        def body(i: Any, _: Any) -> list[Any]:
            for reduce in self.nest.reduces:
                made: Reduce = self.nest.body[reduce]
                dtype = partial_dtype(made)
                start = m.constant(identity(made.kind, dtype), dtype, self.lanes)
                m.store(start, _place(self.writer, self.partials, reduce, share, row.index, i))
            return []

        loop(self.writer.b, const(0), const(self.nest.shape[self.axis]), self.lanes, [], body)

    def descend(self, row: Scope, share: Any, limits: Sequence[tuple[Any, Any]]) -> None:
        """Loops over the reduced dimensions, down to groups of rows."""
        b = self.writer.b
        dims = self.nest.inner_dims
        start, stop = limits[0]
        d = dims[len(dims) - len(limits)]
        if len(limits) > 1:

            def deeper(i: Any, _: Any) -> list[Any]:
                self.descend(row.inside({d: i}), share, limits[1:])
                return []

            loop(b, start, stop, 1, [], deeper)
            return

        def group(i: Any, _: Any) -> list[Any]:
            row.hoist(self.roots, {self.axis, self.last}, self.lanes)
            end = minimum(b, add(b, i, const(self.group)), stop)
            return sweep(
                b,
                const(0),
                const(self.nest.shape[self.axis]),
                self.lanes,
                self.unroll,
                [],
                lambda at, vectors, mask, _: self.tile(row, share, at, vectors, mask, i, end),
            )

        loop(b, start, stop, self.group, [], group)

    def tile(self, row: Scope, share: Any, at: Any, vectors: int, mask: Any, start: Any, stop: Any) -> list[Any]:
        """A group of rows of a tile of columns: summed in registers, then added to the partial results."""
        b, m, nest = self.writer.b, self.writer.m, self.nest
        columns = [
            row.inside({self.axis: add(b, at, const(u * self.lanes))}, self.axis, self.lanes, mask)
            for u in range(vectors)
        ]
        for column in columns:
            column.hoist(self.roots, {self.last}, self.lanes)
        sums = [(u, Accumulator(self.writer, i, self.lanes, 1, 0)) for i in nest.reduces for u in range(vectors)]

        def body(i: Any, values: list[Any]) -> list[Any]:
            points = [column.inside({self.last: i}) for column in columns]
            values = [a.add(value, points[u]) for value, (u, a) in zip(values, sums)]
            for point in points:
                point.store_all(nest.stores)
            return values

        values = loop(b, start, stop, 1, [a.start()[0] for _, a in sums], body)
        for value, (u, a) in zip(values, sums):
            place = _place(self.writer, self.partials, a.i, share, columns[u].index)
            dtype = partial_dtype(nest.body[a.i])
            more = m.cast(Scalar(b, value, a.dtype), dtype)
            m.store(combine(m, a.kind, m.load(place, dtype, self.lanes), more), place)
        return []


def write_column_shares(nest: Nest, axis: int, partials: Partials, function: ir.Function, *, lanes: int) -> None:
    """Lanes along a kept dimension; begin and end count shares of the other kept points."""
    ColumnShares(nest, axis, partials, function, lanes).write()


def group_of_rows(nest: Nest, axis: int) -> int:
    """How many rows to add up in registers: more where they are short, so that memory is touched seldom."""
    line = nest.shape[axis] * nest.width_dtype.itemsize
    return max(GROUP, min(128, GROUPED // max(1, line) // GROUP * GROUP))
