"""The code of products of pixels with weights (layer_products.py): tiles of rows against panels of two vectors."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from llvmlite import ir

from flambeau.backends.llvm import registers as reg
from flambeau.backends.llvm import runtime
from flambeau.backends.llvm.jit import vector_lanes
from flambeau.backends.llvm.mersenne import loop
from flambeau.compiler.lower.layer_products import BUFFERS, LEAKY, LOW, WORDS, name_of
from flambeau.compiler.lower.panels import UNROLL, at, begin, const, emit_tile, least, load, prefetch, words_of
from flambeau.compiler.lower.skinny import HEIGHT, LINE, VECTORS
from flambeau.compiler.lower.transposes import transposer


def frame_of(b: Any, address: Any) -> SimpleNamespace:
    """The words and addresses of a product."""
    return SimpleNamespace(**words_of(b, address, WORDS, BUFFERS))


class Items:
    """The writer of `void (frame, begin, end)`: these items, each a chunk of rows against a group of panels."""

    def __init__(self, module: Any, lanes: int, in_place: bool):
        self.module, self.lanes, self.width = module, lanes, VECTORS * lanes
        name = f"layer.items{'.in_place' * in_place}"
        self.function, self.b = begin(module, name, [reg.pointer, reg.i64, reg.i64])
        if self.b is None:
            return
        b = self.b
        self.f = f = frame_of(b, self.function.args[0])
        self.zero = ir.Constant(reg.vector_of(ir.FloatType(), lanes), None)
        self.zeros = reg.stack_room(b, ir.ArrayType(ir.FloatType(), self.width))
        for v in range(VECTORS):
            b.store(self.zero, at(b, self.zeros, v * lanes), align=4)
        self.biased, self.added, self.scaled, self.active = (
            b.icmp_signed("!=", word, const(0)) for word in (f.biased, f.added, f.scaled, f.activation)
        )
        self.late = b.and_(self.added, self.biased)  # sums begin with what is added, or else with the bias
        self.leaky = b.icmp_signed("==", f.activation, const(LEAKY))
        self.is_low = b.icmp_signed("==", f.height, const(LOW))
        slope = b.bitcast(b.trunc(f.slope, reg.i32), ir.FloatType())
        self.slope = reg.broadcast_value(b, slope, lanes)
        with loop(b, *self.function.args[1:]) as item:
            group, which = b.srem(item, f.groups), b.sdiv(item, f.groups)
            chunk, batch = b.srem(which, f.chunks), b.sdiv(which, f.chunks)
            top = b.mul(chunk, f.chunk)
            self.height = least(b, f.chunk, b.sub(f.rows, top))
            self.tiles = b.sdiv(b.sub(b.add(self.height, f.height), const(1)), f.height)
            self.left = at(b, f.p, (batch, f.p_batch), (top, f.p_step))
            self.target = at(b, f.out, (batch, f.out_batch), (top, f.out_step))
            self.further = at(b, f.further, (batch, f.further_batch), (top, f.further_step))
            first, stop = (b.sdiv(b.mul(f.panels, g), f.groups) for g in (group, b.add(group, const(1))))
            if in_place:
                self.in_place(group, first, stop)
            else:
                self.packed(at(b, f.q, (batch, f.q_batch)), first, stop)
        b.ret_void()

    def packed(self, right: Any, first: Any, stop: Any) -> None:
        """One panel after the other against all tiles; the next panel is asked for meanwhile."""
        b, f = self.b, self.f
        with loop(b, first, stop) as n:
            q = at(b, right, (b.mul(n, const(self.width)), f.depth))
            with loop(b, 0, self.tiles) as t:
                soon = at(b, q, (f.depth, self.width), (b.mul(t, const(LINE // UNROLL)), f.depth))
                self.step(t, n, q, soon)

    def in_place(self, group: Any, first: Any, stop: Any) -> None:
        """Some panels at a time: made of the weight, then all tiles; weights of the next are asked for meanwhile."""
        b, f = self.b, self.f
        size = b.mul(f.depth, const(self.width))
        room = at(b, f.scratch, (b.mul(group, f.block), size))
        outer, done, inside = b.append_basic_block(), b.append_basic_block(), b.append_basic_block()
        entry = b.block
        b.branch(outer)
        b.position_at_end(outer)
        block = b.phi(reg.i64)
        block.add_incoming(first, entry)
        b.cbranch(b.icmp_signed("<", block, stop), inside, done)
        b.position_at_end(inside)
        count = least(b, f.block, b.sub(stop, block))
        with loop(b, 0, count) as n:
            self.make_panel(b.add(block, n), at(b, room, (n, size)))
        with loop(b, 0, self.tiles) as t, loop(b, 0, count) as n:
            # Of each of the next panels four rows of the weight with each of the first four tiles; then pixels.
            row = b.add(b.mul(b.add(b.add(block, count), n), const(self.width)), b.mul(t, const(UNROLL)))
            weights = at(b, f.q, (least(b, row, b.sub(f.columns, const(1))), f.w_step))
            pixels = at(b, self.left, (b.mul(b.add(t, const(1)), f.height), f.p_step))
            soon = b.select(b.icmp_signed("<", t, const(self.width // UNROLL)), weights, pixels)
            self.step(t, b.add(block, n), at(b, room, (n, size)), soon)
        block.add_incoming(b.add(block, count), b.block)
        b.branch(outer)
        b.position_at_end(done)

    def make_panel(self, n: Any, panel: Any) -> None:
        """Panel number n of the weight, times the scale."""
        b, f = self.b, self.f
        place = b.mul(n, const(self.width))
        b.call(transposer(self.module, 4), [
            at(b, f.q, (place, f.w_step)), f.w_step, panel, const(self.width), const(self.width), f.depth])  # fmt: skip
        with b.if_then(self.scaled):
            scale = [load(b, at(b, f.scale, place, v * self.lanes), self.lanes) for v in range(VECTORS)]
            with loop(b, 0, f.depth) as k:
                for v in range(VECTORS):
                    there = at(b, panel, (k, self.width), v * self.lanes)
                    b.store(b.fmul(load(b, there, self.lanes), scale[v]), there, align=4)

    def step(self, t: Any, n: Any, q: Any, soon: Any) -> None:
        """Tile t against panel n at q."""
        b, f = self.b, self.f
        place, row = b.mul(n, const(self.width)), b.mul(t, f.height)
        last = b.sub(least(b, f.height, b.sub(self.height, row)), const(1))
        target = at(b, self.target, (row, f.out_step), place)
        bias = b.select(self.biased, at(b, f.bias, place), self.zeros)
        start = b.select(self.added, at(b, self.further, (row, f.further_step), place), bias)
        step = b.select(self.added, f.further_step, const(0))
        # Measured: without it a product of 256 channels waits a fifth of its time for what it adds to.
        for r in range(HEIGHT):
            prefetch(b, at(b, target, (b.add(f.height, const(r)), f.out_step)))
        with b.if_then(self.added):
            for r in range(HEIGHT):
                prefetch(b, at(b, start, (b.add(f.height, const(r)), step)))
        given = [at(b, self.left, (row, f.p_step)), f.p_step, last, q, f.depth, start, step, target, f.out_step, soon,
                 const(LINE)]  # fmt: skip
        with b.if_else(self.is_low) as (low, usual):
            with low:
                b.call(emit_tile(self.module, self.lanes, LOW), given)
            with usual:
                b.call(emit_tile(self.module, self.lanes, HEIGHT), given)
        with b.if_then(b.or_(self.late, self.active)), loop(b, 0, b.add(last, const(1))) as r:
            for v in range(VECTORS):
                where = at(b, target, (r, f.out_step), v * self.lanes)
                shift = b.select(self.late, load(b, at(b, bias, v * self.lanes), self.lanes), self.zero)
                value = b.fadd(load(b, where, self.lanes), shift)
                below = b.select(self.leaky, b.fmul(value, self.slope), self.zero)
                acted = b.select(b.fcmp_ordered("<=", value, self.zero), below, value)
                b.store(b.select(self.active, acted, value), where, align=4)


def emit_product(module: Any, in_place: bool, parallel: bool) -> Any:
    """void (ptr buffers): all items; buffers: numbers, BUFFERS."""
    made, b = begin(module, name_of(in_place, parallel), [reg.pointer])
    if b is None:
        return made
    items = Items(module, vector_lanes(np.float32), in_place).function
    count = frame_of(b, made.args[0]).items
    if parallel:
        runtime.parallel_for(b, items, made.args[0], count)
    else:
        b.call(items, [made.args[0], const(0), count])
    b.ret_void()
    return made
