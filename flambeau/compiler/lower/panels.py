"""Products of a small matrix with a large one, as layers have them at usual batch sizes, by code of our own.

    out[i, j] = sum over k of p[i, k] * q[k, j]        (+ bias, or + what was there; then perhaps an activation)

q is the small matrix: packed once into panels of two vectors, which stay in the second-level cache. p, the weights or
the gradient that makes a weight's gradient, streams past: six of its rows at a time against every panel, twelve vectors
of sums in registers. Rows of p are read where they lie if they run along k; else a few tiles are packed at a time.
Where the lanes run along rows of the result it is written directly; else ("turned") sums of a few tiles are kept in a
small buffer, which is transposed into the result. Sizes are data: one routine serves all products of a program.

Several products that are added up (one weight used twice) are one product over all their k.

Measured against oneDNN: docs/decisions/0013-skinny-products.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from llvmlite import ir

from flambeau.backends.llvm import registers as reg
from flambeau.backends.llvm import runtime
from flambeau.backends.llvm.jit import vector_lanes
from flambeau.backends.llvm.mersenne import loop
from flambeau.compiler.lower.skinny import (
    BIAS,
    BLOCK,
    BUFFERS,
    CHUNK,
    HEIGHT,
    LEAKY,
    LINE,
    LINEAR,
    MOST,
    NONE,
    SOURCE,
    START,
    VECTORS,
    WORDS,
)
from flambeau.compiler.lower.transposes import transposer

UNROLL = 4
STRIP = 4  # rows of the result that are written at a time: they may share places in the cache


def const(value: int) -> Any:
    """An i64."""
    return ir.Constant(reg.i64, value)


def begin(module: Any, name: str, parameters: list[Any]) -> tuple[Any, Any]:
    """The function of that name, and a builder for its body if it is new to the module."""
    found = module.globals.get(name)
    if found is not None:
        return found, None
    made = ir.Function(module, ir.FunctionType(ir.VoidType(), parameters), name)
    made.linkage = "internal"
    made.attributes.add("nounwind")
    made.attributes.add("noinline")
    return made, ir.IRBuilder(made.append_basic_block())


def at(b: Any, base: Any, *terms: Any) -> Any:
    """The address so many float32 on: the sum of the terms, of which pairs are multiplied."""
    total: Any = None
    for term in terms:
        if isinstance(term, tuple):
            first, second = (const(t) if isinstance(t, int) else t for t in term)
            term = b.mul(first, second)
        term = const(term) if isinstance(term, int) else term
        total = term if total is None else b.add(total, term)
    return b.gep(base, [total], source_etype=ir.FloatType())


def least(b: Any, x: Any, y: Any) -> Any:
    """The smaller of two i64."""
    x, y = (const(t) if isinstance(t, int) else t for t in (x, y))
    return b.select(b.icmp_signed("<", x, y), x, y)


def over(b: Any, x: Any, size: Any) -> Any:
    """x / size, rounded up."""
    size = const(size) if isinstance(size, int) else size
    return b.sdiv(b.sub(b.add(x, size), const(1)), size)


def load(b: Any, address: Any, count: int) -> Any:
    return b.load(address, typ=reg.vector_of(ir.FloatType(), count), align=4)


def prefetch(b: Any, address: Any) -> None:
    """Ask for a line of memory that is going to be read."""
    function = reg.declared(b.module, "llvm.prefetch.p0", ir.VoidType(), [reg.pointer, reg.i32, reg.i32, reg.i32])
    b.call(function, [address, *(ir.Constant(reg.i32, n) for n in (0, 2, 1))])  # to read, into the second level, data


def emit_tile(module: Any, lanes: int, height: int = HEIGHT) -> Any:
    """void (p, p_i, last, q, depth, start, start_i, c, c_i, soon, soon_step): c = start + p @ q for a tile.

    q is a panel. Rows after number `last` are read and written as that one, which does no harm. Meanwhile memory from
    `soon` on is asked for, a line for every UNROLL products.
    """
    i64, pointer = reg.i64, reg.pointer
    name = "panels.tile" if height == HEIGHT else f"panels.tile{height}"
    made, b = begin(module, name, [pointer, i64, i64, pointer, i64, pointer, i64, pointer, i64, pointer, i64])
    if b is None:
        return made
    p, p_i, last, q, depth, start, start_i, c, c_i, soon, soon_step = made.args
    width = VECTORS * lanes
    places = [(r, v) for r in range(height) for v in range(VECTORS)]
    lines, begins, targets = [p], [start], [c]
    for r in range(1, height):
        there = b.icmp_signed("<=", const(r), last)
        for known, step in ((lines, p_i), (begins, start_i), (targets, c_i)):
            known.append(at(b, known[-1], b.select(there, step, const(0))))
    first = [load(b, at(b, begins[r], v * lanes), lanes) for r, v in places]

    def steps(count: int, entry: list[Any], stop: Any) -> list[Any]:
        """`count` k at a time while there are so many before `stop`; the phis [k, soon, *sums] at the end."""
        before, body, done = b.block, b.append_basic_block(), b.append_basic_block()
        b.cbranch(b.icmp_signed("<", entry[0], stop), body, done)
        b.position_at_end(body)
        phis = [b.phi(value.type) for value in entry]
        k, ahead, sums = phis[0], phis[1], list(phis[2:])
        prefetch(b, ahead)
        panel, here = at(b, q, (k, width)), [at(b, line, k) for line in lines]
        for u in range(count):
            right = [load(b, at(b, panel, u * width + v * lanes), lanes) for v in range(VECTORS)]
            for r in range(height):
                one = b.load(at(b, here[r], u), typ=ir.FloatType(), align=4)
                left = reg.broadcast_value(b, one, lanes)
                for v in range(VECTORS):
                    sums[VECTORS * r + v] = reg.intrinsic(b, "fma", left, right[v], sums[VECTORS * r + v])
        after = [b.add(k, const(count)), at(b, ahead, soon_step), *sums]
        b.cbranch(b.icmp_signed("<", after[0], stop), body, done)
        for phi, a, z in zip(phis, entry, after):
            phi.add_incoming(a, before)
            phi.add_incoming(z, body)
        b.position_at_end(done)
        ends = [b.phi(value.type) for value in entry]
        for phi, a, z in zip(ends, entry, after):
            phi.add_incoming(a, before)
            phi.add_incoming(z, body)
        return ends

    whole = b.and_(depth, const(-UNROLL))
    found = steps(1, steps(UNROLL, [const(0), soon, *first], whole), depth)
    for (r, v), total in zip(places, found[2:]):
        b.store(total, at(b, targets[r], v * lanes), align=4)
    b.ret_void()
    return made


def emit_pack_q(module: Any, lanes: int) -> Any:
    """void (frame, begin, end, panels): these panels of q, of all sources one after the other."""
    made, b = begin(module, "panels.pack_q", [reg.pointer, reg.i64, reg.i64, reg.pointer])
    if b is None:
        return made
    f = frame_of(b, made.args[0])
    width = VECTORS * lanes
    with loop(b, made.args[1], made.args[2]) as n:
        left = b.sub(f.columns, b.mul(n, const(width)))
        partial = b.icmp_signed("<", left, const(width))
        panel = at(b, made.args[3], (b.mul(n, f.depth), width))
        with b.if_then(partial):  # the lanes beyond the end are computed with, and never stored
            fill = reg.declared(module, "memset", reg.pointer, [reg.pointer, reg.i32, reg.i64])
            b.call(fill, [panel, ir.Constant(reg.i32, 0), b.mul(f.depth, const(4 * width))])
        for source in f.each:
            with b.if_then(b.icmp_signed(">", source.depth, const(0))):
                with b.if_else(b.icmp_signed("!=", source.q_along, const(0))) as (along, across):
                    with along:
                        b.call(transposer(module, 4), [
                            at(b, source.q, (b.mul(n, const(width)), source.q_step)), source.q_step, panel,
                            const(width), least(b, left, width), source.depth])  # fmt: skip
                    with across, loop(b, 0, source.depth) as k:
                        line, target = at(b, source.q, (k, source.q_step), (n, width)), at(b, panel, (k, width))
                        with b.if_else(partial) as (some, all_):
                            with some, loop(b, 0, left) as j:
                                b.store(load(b, at(b, line, j), 1), at(b, target, j), align=4)
                            with all_:
                                for v in range(VECTORS):
                                    b.store(load(b, at(b, line, v * lanes), lanes), at(b, target, v * lanes), align=4)
            panel = at(b, panel, (source.depth, width))
    b.ret_void()
    return made


def emit_pack_together(module: Any, lanes: int) -> Any:
    """void (frame, begin, end): these panels, where all threads read them."""
    made, b = begin(module, "panels.pack_together", [reg.pointer, reg.i64, reg.i64])
    if b is not None:
        b.call(emit_pack_q(module, lanes), [*made.args, frame_of(b, made.args[0]).scratch])
        b.ret_void()
    return made


def frame_of(b: Any, address: Any) -> SimpleNamespace:
    """The words and addresses of a product as attributes, those of the sources in `each`."""
    found = words_of(b, address, WORDS, BUFFERS)
    each = [SimpleNamespace(**{word: found[f"{word}{s}"] for word in (*SOURCE, "p", "q")}) for s in range(MOST)]
    return SimpleNamespace(**found, each=each)


def words_of(b: Any, address: Any, words: Sequence[str], buffers: Sequence[str]) -> dict[str, Any]:
    """What a routine is given, by name: the numbers that the first of its buffers holds, and the others' addresses."""
    table = b.load(address, typ=reg.pointer)
    found: dict[str, Any] = {}
    for i, word in enumerate(words):
        found[word] = b.load(b.gep(table, [const(i)], source_etype=reg.i64), typ=reg.i64)
    for i, word in enumerate(buffers):
        found[word] = b.load(b.gep(address, [const(1 + i)], source_etype=reg.i64), typ=reg.pointer)
    return found


class Share:
    """The writer of what one thread computes: chunks of tiles, each against all panels."""

    def __init__(self, module: Any, lanes: int):
        self.module, self.lanes, self.width = module, lanes, VECTORS * lanes
        self.function, self.b = begin(module, "panels.share", [reg.pointer, reg.i64, reg.i64])
        if self.b is None:
            return
        b = self.b
        self.f = f = frame_of(b, self.function.args[0])
        self.tile = emit_tile(module, lanes)
        self.corner = reg.stack_room(b, ir.ArrayType(ir.FloatType(), HEIGHT * self.width))
        self.corner.align = 64
        zeros = ir.Constant(reg.vector_of(ir.FloatType(), lanes), None)
        self.zeros = reg.stack_room(b, ir.ArrayType(ir.FloatType(), self.width))
        for v in range(VECTORS):
            b.store(zeros, at(b, self.zeros, v * lanes), align=4)
        self.panels = over(b, f.columns, self.width)
        self.across = b.mul(self.panels, const(self.width))
        self.is_packed, self.is_turned = (b.icmp_signed("!=", word, const(0)) for word in (f.packed, f.turned))
        nothing = const(0)
        self.block = b.select(b.and_(self.is_turned, self.is_packed), const(BLOCK), f.depth)
        self.line = b.add(least(b, self.block, f.depth), const(LINE))  # of packed rows; not a power of two
        packed = b.select(self.is_packed, b.mul(self.line, const(CHUNK * HEIGHT)), nothing)
        sums = b.select(self.is_turned, b.mul(self.across, const(CHUNK * HEIGHT)), nothing)
        own = b.add(b.add(packed, sums), const(LINE))
        tiles = over(b, f.rows, HEIGHT)
        self.begins = b.icmp_signed("!=", f.begins, const(NONE))
        self.start_step = b.select(self.begins, f.start_step, nothing)
        self.matrices = [(f.out, f.out_step), (f.start, f.start_step)]
        with loop(b, *self.function.args[1:]) as share:
            size = b.mul(self.across, f.depth)
            apart = b.icmp_signed("!=", f.apart, const(0))
            self.q = at(b, f.scratch, b.select(apart, b.mul(share, size), nothing))
            with b.if_then(apart):
                b.call(emit_pack_q(module, lanes), [self.function.args[0], const(0), self.panels, self.q])
            self.own = at(b, f.scratch, (b.select(apart, f.shares, const(1)), size), (share, own))
            self.sums = at(b, self.own, packed)
            first, stop = (b.sdiv(b.mul(tiles, s), f.shares) for s in (share, b.add(share, const(1))))
            with loop(b, first, stop, CHUNK) as chunk:
                self.chunk(chunk, least(b, CHUNK, b.sub(stop, chunk)))
        b.ret_void()

    def chunk(self, first: Any, tiles: Any) -> None:
        """Some tiles: packed if they must be, multiplied, and transposed if they must be."""
        b, f = self.b, self.f
        top = b.mul(first, const(HEIGHT))
        height = least(b, b.mul(tiles, const(HEIGHT)), b.sub(f.rows, top))
        with b.if_then(self.is_turned):
            self.fill(top, height)
        with loop(b, 0, over(b, f.depth, self.block)) as number:
            k = b.mul(number, self.block)
            self.multiply(top, height, tiles, k, least(b, self.block, b.sub(f.depth, k)))
        with b.if_then(self.is_turned):
            self.activate(b.mul(height, self.across))
            with loop(b, 0, f.columns, STRIP) as j:
                b.call(transposer(self.module, 4), [
                    at(b, self.sums, j), self.across, at(b, f.out, top, (j, f.out_step)), f.out_step, height,
                    least(b, STRIP, b.sub(f.columns, j))])  # fmt: skip

    def multiply(self, top: Any, height: Any, tiles: Any, k: Any, depth: Any) -> None:
        """A chunk of tiles against all panels, `depth` products beginning with number k."""
        b, f = self.b, self.f
        step = f.each[0].p_step
        with b.if_then(self.is_packed):
            target = self.own
            for source in f.each:
                with b.if_then(b.icmp_signed(">", source.depth, const(0))):
                    b.call(transposer(self.module, 4), [
                        at(b, source.p, top, (k, source.p_step)), source.p_step, target, self.line,
                        least(b, source.depth, depth), height])  # fmt: skip
                target = at(b, target, source.depth)
        p = b.select(self.is_packed, self.own, at(b, f.p0, (top, step), k))
        p_i = b.select(self.is_packed, self.line, step)
        # What to ask for meanwhile: rows that are packed next, a line of each with every tile and a share of them with
        # every panel; or the rows of the next tile, which lie one after the other.
        after = b.add(k, depth)
        more = b.icmp_signed("<", after, f.depth)
        far = b.select(more, at(b, f.p0, top, (after, step)), at(b, f.p0, top, CHUNK * HEIGHT))
        rows = const(LINE // UNROLL)
        each = b.select(self.is_packed, b.mul(b.sdiv(depth, self.panels), step), b.mul(depth, rows))
        most = b.select(self.is_packed, self.panels, const(HEIGHT * UNROLL // LINE))
        self.soon_step = b.select(self.is_packed, step, const(LINE))
        with loop(b, 0, tiles) as t:
            row = b.mul(t, const(HEIGHT))
            last = least(b, HEIGHT - 1, b.sub(b.sub(height, row), const(1)))
            near = at(b, f.p0, (b.add(top, b.add(row, const(HEIGHT))), step))
            ahead = b.select(self.is_packed, at(b, far, (t, LINE)), near)
            line = at(b, p, (row, p_i))
            sums = at(b, self.sums, (row, self.across))
            target, start = (at(b, base, (b.add(top, row), s)) for base, s in self.matrices)
            with loop(b, 0, self.panels) as n:
                q = at(b, self.q, (b.add(b.mul(n, f.depth), k), self.width))
                self.soon = at(b, ahead, (least(b, n, most), each))
                left = [line, p_i, last, q, depth]
                with b.if_else(self.is_turned) as (turned, direct):
                    with turned:
                        c = at(b, sums, (n, self.width))
                        b.call(self.tile, [*left, c, self.across, c, self.across, self.soon, self.soon_step])
                    with direct:
                        self.direct(left, target, start, b.mul(n, const(self.width)))

    def direct(self, left: list[Any], target: Any, start: Any, place: Any) -> None:
        """A tile written where it belongs; at the right border by way of a buffer."""
        b, f, last, soon = self.b, self.f, left[2], [self.soon, self.soon_step]
        target, rest = at(b, target, place), b.sub(f.columns, place)
        with b.if_else(b.icmp_signed(">=", rest, const(self.width))) as (whole, border):
            with whole:
                base = b.select(self.begins, at(b, start, place), self.zeros)
                b.call(self.tile, [*left, base, self.start_step, target, f.out_step, *soon])
            with border:
                with loop(b, 0, b.add(last, const(1))) as r, loop(b, 0, rest) as j:
                    value = b.select(self.begins, at(b, start, (r, f.start_step), place, j), self.zeros)
                    b.store(load(b, value, 1), at(b, self.corner, (r, self.width), j), align=4)
                b.call(self.tile, [*left, self.corner, const(self.width), self.corner, const(self.width), *soon])
                with loop(b, 0, b.add(last, const(1))) as r, loop(b, 0, rest) as j:
                    value = load(b, at(b, self.corner, (r, self.width), j), 1)
                    b.store(value, at(b, target, (r, f.out_step), j), align=4)

    def fill(self, top: Any, height: Any) -> None:
        """What the sums of a chunk begin with, where they are transposed afterwards."""
        b, f = self.b, self.f
        biased = b.icmp_signed("==", f.begins, const(BIAS))
        with b.if_else(b.icmp_signed("==", f.begins, const(START))) as (started, other):
            with started:
                b.call(transposer(self.module, 4), [
                    at(b, f.start, top), f.start_step, self.sums, self.across, f.columns, height])  # fmt: skip
            with other, loop(b, 0, height) as i:
                one = b.load(b.select(biased, at(b, f.start, b.add(top, i)), self.zeros), typ=ir.FloatType(), align=4)
                value = reg.broadcast_value(b, one, self.lanes)
                with loop(b, 0, self.across, self.lanes) as j:
                    b.store(value, at(b, self.sums, (i, self.across), j), align=4)

    def activate(self, count: Any) -> None:
        """relu or leaky relu of the sums of a chunk: nan stays nan."""
        b, f = self.b, self.f
        kind = reg.vector_of(ir.FloatType(), self.lanes)
        slope = b.bitcast(b.trunc(f.slope, reg.i32), ir.FloatType())
        slopes = reg.broadcast_value(b, slope, self.lanes)
        zero = ir.Constant(kind, None)
        leaky = b.icmp_signed("==", f.activation, const(LEAKY))
        with b.if_then(b.icmp_signed("!=", f.activation, const(LINEAR))):
            with loop(b, 0, count, self.lanes) as i:
                place = at(b, self.sums, i)
                value = load(b, place, self.lanes)
                below = b.select(leaky, b.fmul(value, slopes), zero)
                b.store(b.select(b.fcmp_ordered("<=", value, zero), below, value), place, align=4)


def emit_product(module: Any) -> Any:
    """void (ptr buffers): the panels of q, then the tiles; buffers: numbers, BUFFERS."""
    lanes = vector_lanes(np.float32)
    made, b = begin(module, "panels.product", [reg.pointer])
    if b is None:
        return made
    f = frame_of(b, made.args[0])
    share = Share(module, lanes).function
    with b.if_then(b.icmp_signed("==", f.apart, const(0))):
        panels = over(b, f.columns, VECTORS * lanes)
        runtime.parallel_for(b, emit_pack_together(module, lanes), made.args[0], panels)
    with b.if_else(b.icmp_signed("==", f.shares, const(1))) as (alone, together):
        with alone:
            b.call(share, [made.args[0], const(0), const(1)])
        with together:
            runtime.parallel_for(b, share, made.args[0], f.shares)
    b.ret_void()
    return made
