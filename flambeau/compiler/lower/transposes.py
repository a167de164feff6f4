"""Pointwise loops over operands whose memory runs in different directions: tiles, transposed in registers.

A tile of an operand that runs across is transposed into a small buffer on the stack (or, for a store, out of one); the
vector loop then reads and writes the buffer side by side with everything else. Plain transposing copies go through the
buffer too: whole lines of the cache are read and written at a time, which is three times as fast where the strides are
powers of two.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from llvmlite import ir

from flambeau.backends.llvm import registers as reg
from flambeau.compiler.kernel import Kernel, Load, Store
from flambeau.compiler.lower.nest import Nest
from flambeau.compiler.lower.points import Scope, Writer, add, const, loop, minimum, mul
from flambeau.compiler.lower.pointwise import spread, unrolling, write_points

SMALLEST = 8  # points along either direction from which tiles pay


class Tiling:
    """Which accesses of a kernel run across its axis, along which other dimension, and how the space is cut."""

    def __init__(self, nest: Nest, axis: int):
        self.axis = axis
        sizes: dict[int, int] = {}
        for i in nest.body:
            if isinstance(i, (Load, Store)) and abs(i.strides[axis]) > 1:
                for d, stride in enumerate(i.strides):
                    if stride == 1 and d != axis:
                        sizes[d] = sizes.get(d, 0) + i.dtype.itemsize
        self.cross = max(sizes, key=lambda d: sizes[d]) if sizes else axis
        self.accesses = [
            n
            for n, i in enumerate(nest.body)
            if isinstance(i, (Load, Store)) and i.strides[self.cross] == 1 and abs(i.strides[axis]) > 1
        ]
        self.pays = bool(sizes) and min(nest.shape[axis], nest.shape[self.cross]) >= SMALLEST
        # Measured, float32 of 2048 x 2048 (Zen 3): side 16 2.5 GB/s, 32 9.3, 64 12.6; a copy in order 19.
        room = sum(nest.body[n].dtype.itemsize for n in self.accesses)
        self.side = 64 if room <= 8 else 32
        self.others = [d for d in range(nest.rank) if d not in (axis, self.cross)]
        self.tiles = [-(-nest.shape[d] // self.side) for d in (self.cross, axis)]
        self.extent = nest.size(self.others) * self.tiles[0] * self.tiles[1]


class Tiled:
    """The writer of a tiled kernel."""

    def __init__(self, nest: Nest, tiling: Tiling, function: ir.Function, lanes: int):
        self.whole = nest
        self.tiling = tiling
        body = list(nest.body)
        for number, i in enumerate(tiling.accesses):
            strides = tuple({tiling.axis: 1, tiling.cross: tiling.side}.get(d, 0) for d in range(nest.rank))
            body[i] = replace(body[i], slot=-1 - number, strides=strides, offset=0)
        self.nest = Nest(Kernel(nest.shape, 0, tuple(body), nest.slots))
        self.writer = Writer(self.nest, function, lanes)
        self.buffers: dict[int, Any] = {}
        for i in tiling.accesses:
            kind = reg.memory_type(nest.body[i].dtype)
            self.buffers[i] = reg.stack_room(self.writer.b, ir.ArrayType(kind, tiling.side**2))
            self.buffers[i].align = 64

    def write(self) -> None:
        """The function: begin and end count tiles."""
        writer, tiling, b = self.writer, self.tiling, self.writer.b
        top = writer.scope()
        top.hoist(self.nest.stores, set(range(self.nest.rank)), writer.lanes)

        def step(number: Any, _: Any) -> list[Any]:
            *at, down, along = spread(b, number, [*(self.whole.shape[d] for d in tiling.others), *tiling.tiles])
            row = top.inside(dict(zip(tiling.others, at)))
            row.hoist(self.nest.stores, {tiling.axis, tiling.cross}, writer.lanes)
            # A single tile: its size is known, so that its last vector needs no mask.
            corner = [const(0) if n == 1 else mul(b, i, tiling.side) for i, n in zip((down, along), tiling.tiles)]
            return self.tile(row, *corner)

        loop(b, writer.function.args[1], writer.function.args[2], 1, [], step)
        b.ret_void()

    def address(self, i: int, row: Scope, cross: Any, along: Any) -> Any:
        """Where an access of the whole kernel goes at the corner of a tile."""
        access: Load | Store = self.whole.body[i]
        b = self.writer.b
        index = {**row.index, self.tiling.cross: cross, self.tiling.axis: along}
        at: Any = const(access.offset)
        for d, stride in enumerate(access.strides):
            if stride:
                at = add(b, at, mul(b, index[d], stride))
        return b.gep(self.writer.buffer(access.slot), [at], source_etype=reg.memory_type(np.dtype(access.dtype)))

    def tile(self, row: Scope, cross: Any, along: Any) -> list[Any]:
        """One tile: transpose what is read across, compute, transpose what is written across."""
        b, tiling, body = self.writer.b, self.tiling, self.whole.body
        height = minimum(b, add(b, const(self.whole.shape[tiling.cross]), mul(b, cross, -1)), const(tiling.side))
        width = minimum(b, add(b, const(self.whole.shape[tiling.axis]), mul(b, along, -1)), const(tiling.side))
        scope = row.inside({})
        shift = add(b, mul(b, along, -1), mul(b, cross, -tiling.side))
        for i in tiling.accesses:
            kind = reg.memory_type(body[i].dtype)
            scope.addresses[i] = (b.gep(self.buffers[i], [shift], source_etype=kind), frozenset())
            if isinstance(body[i], Load):
                step = const(body[i].strides[tiling.axis])
                source = self.address(i, row, cross, along)
                self.transpose(body[i].dtype, source, step, self.buffers[i], const(tiling.side), width, height)
        stores = self.nest.stores
        unroll = unrolling(self.nest, self.nest.demand(stores), tiling.side**2)

        def line(c: Any, _: Any) -> list[Any]:
            inside = scope.inside({tiling.cross: c})
            inside.hoist(stores, {tiling.axis}, self.writer.lanes)
            write_points(inside, tiling.axis, along, add(b, along, width), stores, min(unroll, 2))
            return []

        loop(b, cross, add(b, cross, height), 1, [], line)
        for i in tiling.accesses:
            if isinstance(body[i], Store):
                step = const(body[i].strides[tiling.axis])
                target = self.address(i, row, cross, along)
                self.transpose(body[i].dtype, self.buffers[i], const(tiling.side), target, step, height, width)
        return []

    def transpose(self, dtype: np.dtype, *arguments: Any) -> None:
        """A call of the routine below."""
        self.writer.b.call(transposer(self.writer.b.module, np.dtype(dtype).itemsize), arguments)


def transposer(module: ir.Module, itemsize: int) -> ir.Function:
    """`void f(source, stride, target, stride, rows, columns)`: target[c * stride + r] = source[r * stride + c].

    Blocks go through registers of 32 bytes whose halves hold different rows, so that no shuffle crosses the halves.
    """
    name = f"loops.transpose{itemsize}"
    found = module.globals.get(name)
    if found is not None:
        return found
    i64, pointer = reg.i64, reg.pointer
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer, i64, pointer, i64, i64, i64]), name)
    function.linkage = "internal"
    function.attributes.add("nounwind")
    function.attributes.add("noinline")
    source, source_stride, target, target_stride, rows, columns = function.args
    b = ir.IRBuilder(function.append_basic_block())
    element = ir.IntType(8 * itemsize)
    half = 16 // itemsize
    full_rows = b.and_(rows, const(-2 * half))
    full_columns = b.and_(columns, const(-half))

    def place(base: Any, stride: Any, major: Any, minor: Any) -> Any:
        return b.gep(base, [b.add(b.mul(major, stride), minor)], source_etype=element)

    def block(r: Any, c: Any) -> list[Any]:
        part = ir.VectorType(element, half)
        joined = ir.Constant(ir.VectorType(reg.i32, 2 * half), list(range(2 * half)))
        lines = []
        for n in range(half):
            halves = (place(source, source_stride, b.add(r, const(k)), c) for k in (n, n + half))
            low, high = (b.load(at, typ=part, align=itemsize) for at in halves)
            lines.append(b.shuffle_vector(low, high, joined))
        for n, line in enumerate(interleaved(b, lines, half)):
            b.store(line, place(target, target_stride, b.add(c, const(n)), r), align=itemsize)
        return []

    def single(r: Any, c: Any) -> list[Any]:
        value = b.load(place(source, source_stride, r, c), typ=element, align=itemsize)
        b.store(value, place(target, target_stride, c, r), align=itemsize)
        return []

    def nested(starts: Any, stops: Any, steps: Any, body: Any) -> None:
        loop(
            b,
            starts[0],
            stops[0],
            steps[0],
            [],
            lambda r, _: loop(b, starts[1], stops[1], steps[1], [], lambda c, _: body(r, c), reduced=True),
            reduced=True,
        )

    zero = const(0)
    nested((zero, zero), (full_rows, full_columns), (2 * half, half), block)
    nested((zero, full_columns), (full_rows, columns), (1, 1), single)
    nested((full_rows, zero), (rows, columns), (1, 1), single)
    b.ret_void()
    return function


def interleaved(b: ir.IRBuilder, lines: list[Any], half: int) -> list[Any]:
    """Square blocks in both halves of the registers, transposed by repeated interleaving."""
    kind = ir.VectorType(reg.i32, 2 * half)
    picks = []
    for first in (0, half // 2):
        pairs = [(base + first + n, 2 * half + base + first + n) for base in (0, half) for n in range(half // 2)]
        picks.append(ir.Constant(kind, [index for pair in pairs for index in pair]))
    rounds = half.bit_length() - 1
    for _ in range(rounds):
        middle = half // 2
        lines = [b.shuffle_vector(lines[n], lines[n + middle], pick) for n in range(middle) for pick in picks]
    return lines
