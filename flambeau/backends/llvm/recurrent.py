"""What the recurrences in generated code are made of: the frame of their arguments, the walk over time, the product.

A scan is one call for all time steps of a layer, `void (ptr frame)`; the frame is an array of 64-bit words (sizes and
addresses, `FRAMES`). Sizes are data, so one function serves all layers. The shares of the batch run on threads of their
own from the first step to the last: sequences do not know of each other, so nobody waits.

The recurrent product is a register-blocked one on weights packed into panels: at these heights (a batch, a few dozen
rows) a BLAS call reaches two thirds of what it does on large matrices, and its result would have to be written and read
again. Here the gates of 8 units are finished while they are in the first-level cache. Measured on one Zen 3 core at
batch 32 (packed, 1280 rows) and 256 units: LSTM forward 31 ms in NumPy and OpenBLAS, 12 ms here, 9 of them the product.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from llvmlite import ir

from flambeau.backends.llvm import registers as reg
from flambeau.backends.llvm import runtime
from flambeau.backends.llvm.frames import FRAMES, GATES, UNITS
from flambeau.backends.llvm.mersenne import each, loop
from flambeau.backends.llvm.scalars import Maths, Scalar

HEIGHTS = {2: (6, 4, 2, 1), 3: (4, 2, 1)}  # by vectors in a panel's row: rows whose sums fill 16 registers, and fewer

float32 = reg.float32
VECTOR = ir.VectorType(ir.FloatType(), UNITS)


def const(value: int) -> Any:
    """An i64 constant."""
    return ir.Constant(reg.i64, value)


class Writer:
    """An IR builder with the few operations that the scans are made of; addresses count float32 elements."""

    def __init__(self, function: Any):
        self.function = function
        self.b = ir.IRBuilder(function.append_basic_block())
        self.m = Maths(self.b)

    def frame(self, address: Any, kind: str) -> Any:
        """The words of a frame as attributes."""
        numbers, _, pointers = (part.strip() for part in FRAMES[kind].partition("|"))
        found = SimpleNamespace()
        for i, name in enumerate([*numbers.split(), *pointers.split()]):
            wanted = reg.i64 if name in numbers.split() else reg.pointer
            word = self.b.gep(address, [const(i)], source_etype=reg.i64)
            setattr(found, name, self.b.load(word, typ=wanted))
        return found

    def number(self, term: Any) -> Any:
        """A product of IR values and numbers (a tuple), or a single one, as an IR value."""
        if isinstance(term, tuple):
            total: Any = None
            for factor in term:
                factor = self.number(factor)
                total = factor if total is None else self.b.mul(total, factor)
            return total
        return const(term) if isinstance(term, int) else term

    def at(self, address: Any, *terms: Any) -> Any:
        """`address` plus the sum of the terms, of which each is an IR value, a number, or a tuple to be multiplied."""
        total: Any = None
        for term in terms:
            total = self.number(term) if total is None else self.b.add(total, self.number(term))
        return self.b.gep(address, [total], source_etype=ir.FloatType())

    def load(self, address: Any) -> Scalar:
        """One vector."""
        return self.m.load(address, float32, UNITS)

    def store(self, value: Scalar, address: Any) -> None:
        """Write one vector."""
        self.m.store(value, address)

    def copy(self, target: Any, source: Any, count: Any, add: bool = False) -> None:
        """Copy `count` floats, or add them to what is there."""

        def body(i: Any, lanes: int) -> None:
            value, place = self.m.load(self.at(source, i), float32, lanes), self.at(target, i)
            self.store(value + self.m.load(place, float32, lanes) if add else value, place)

        each(self.b, 0, count, UNITS, body)

    @contextmanager
    def blocks(self, size: Any, width: int = UNITS) -> Iterator[tuple[Any, Any]]:
        """A loop over blocks of `width` units: yields where the block would begin, and where it does.

        The last one begins earlier than it would if it would reach over the end. So what a block does may happen twice
        to some units: it must not change what it reads.
        """
        last = self.b.sub(size, const(width))
        with loop(self.b, 0, size, width) as block:
            yield block, self.b.select(self.b.icmp_signed("<", block, last), block, last)

    def step(self, table: Any, k: Any) -> tuple[Any, Any]:
        """First row and number of rows of the step visited as number k."""
        first = self.b.gep(table, [self.b.shl(k, const(1))], source_etype=reg.i64)
        second = self.b.gep(first, [const(1)], source_etype=reg.i64)
        return self.b.load(first, typ=reg.i64), self.b.load(second, typ=reg.i64)

    def share(self, rows: Any, part: Any, parts: Any) -> Any:
        """How many of the rows part, part + parts, part + 2 * parts, … there are below `rows`."""
        return self.b.sdiv(self.b.sub(self.b.add(rows, self.b.sub(parts, const(1))), part), parts)

    def own(self, f: Any, part: Any, gates: int, width: Any) -> Any:
        """Memory of one share behind the panels: `width` floats for each of its rows."""
        b = self.b
        blocks = b.sdiv(b.add(f.size, const(2 * UNITS - 1)), const(2 * UNITS))
        most = b.sdiv(b.add(f.batch, b.sub(f.parts, const(1))), f.parts)
        return self.at(f.scratch, (blocks, f.size, gates * 2 * UNITS), (part, most, width))

    def done(self) -> Any:
        """The function, whose body ends here."""
        self.b.ret_void()
        return self.function


def begin(module: Any, name: str, parameters: list[Any]) -> tuple[Any, Writer | None]:
    """The function of that name, with a writer of its body if it is new to the module."""
    found = module.globals.get(name)
    if found is not None:
        return found, None
    made = ir.Function(module, ir.FunctionType(ir.VoidType(), parameters), name)
    made.linkage = "internal"
    made.attributes.add("nounwind")
    made.attributes.add("noinline")
    return made, Writer(made)


def begin_share(module: Any, name: str) -> tuple[Any, Writer | None]:
    """`begin` for what one thread does: `void (ptr frame, i64 begin, i64 end)`, the shares begin … end - 1."""
    return begin(module, f"flambeau.{name}.share", [reg.pointer, reg.i64, reg.i64])


# ---- the product -----------------------------------------------------------------------------------


def emit_block(module: Any, height: int, vectors: int) -> Any:
    """`void (ptr a, i64 a_step, ptr panel, i64 depth, ptr c, i64 c_step)`: c = a @ panel, for a few rows of a.

    The panel has `depth` rows of some vectors, one after the other; c gets as many columns. Steps lead from row to row.
    """
    parameters = [reg.pointer, reg.i64, reg.pointer, reg.i64, reg.pointer, reg.i64]
    made, w = begin(module, f"flambeau.scan.block{height}x{vectors}", parameters)
    if w is None:
        return made
    b, (a, a_step, panel, depth, c, c_step) = w.b, made.args
    places = [(r, v) for r in range(height) for v in range(vectors)]
    rows = [w.at(a, (a_step, r)) for r in range(height)]
    targets = [w.at(c, (c_step, r), UNITS * v) for r, v in places]
    zero = reg.splat(ir.FloatType(), 0.0, UNITS)
    entry, body, done = b.block, b.append_basic_block(), b.append_basic_block()
    b.branch(body)
    b.position_at_end(body)
    k = b.phi(reg.i64)
    sums = [b.phi(VECTOR) for _ in places]
    right = [w.load(w.at(panel, (k, vectors * UNITS), UNITS * v)) for v in range(vectors)]
    left = [w.m.broadcast(w.m.load(w.at(row, k), float32), UNITS) for row in rows]
    new = [w.m.fma(left[r], right[v], Scalar(b, total, float32)).value for (r, v), total in zip(places, sums)]
    following = b.add(k, const(1))
    for phi, start, value in zip([k, *sums], [const(0), *[zero] * len(sums)], [following, *new]):
        phi.add_incoming(start, entry)
        phi.add_incoming(value, b.block)
    b.cbranch(b.icmp_signed("<", following, depth), body, done)
    b.position_at_end(done)
    for value, target in zip(new, targets):
        w.store(Scalar(b, value, float32), target)
    return w.done()


def emit_product(module: Any, vectors: int) -> Any:
    """`void (ptr a, i64 a_step, i64 rows, ptr panel, i64 depth, ptr c, i64 c_step)`: all rows of a times one panel."""
    parameters = [reg.pointer, reg.i64, reg.i64, reg.pointer, reg.i64, reg.pointer, reg.i64]
    made, w = begin(module, f"flambeau.scan.product{vectors}", parameters)
    if w is None:
        return made
    b, (a, a_step, rows, panel, depth, c, c_step) = w.b, made.args
    start: Any = const(0)
    for height in HEIGHTS[vectors]:
        block = emit_block(module, height, vectors)
        stop = b.sub(rows, b.srem(b.sub(rows, start), const(height)))
        with loop(b, start, stop, height) as r:
            b.call(block, [w.at(a, (a_step, r)), a_step, panel, depth, w.at(c, (c_step, r)), c_step])
        start = stop
    return w.done()


def pack_gates(w: Writer, f: Any, gates: int, vectors: int, units: int = UNITS) -> None:
    """Panels of the transposed weights (gates * size, size), for every `units` units all their gates.

    A panel has `vectors` vectors in a row: the gates of 8 units side by side, or 16 units of the only gate.
    """
    b = w.b
    with w.blocks(f.size, units) as (block, unit):
        for place in range(gates * units // UNITS):
            gate, part = divmod(place, units // UNITS)
            panel, side = divmod(place, vectors)
            # The panels of the blocks before, and of this block the panels before this one.
            target = w.at(f.scratch, (block, f.size, gates), (f.size, panel * vectors * UNITS), side * UNITS)
            first = b.add(unit, w.number((f.size, gate)))
            with loop(b, 0, UNITS) as j, loop(b, 0, f.size) as k:
                source = w.at(f.w_hh, (b.add(first, b.add(j, const(part * UNITS))), f.size), k)
                value = b.load(source, typ=ir.FloatType(), align=4)
                b.store(value, w.at(target, (k, vectors * UNITS), j), align=4)


def pack_columns(w: Writer, f: Any, gates: int) -> None:
    """Panels of the weights (gates * size, size) as they are: 16 columns each."""
    depth = w.number((f.size, gates))
    with w.blocks(f.size, 2 * UNITS) as (block, column):
        target = w.at(f.scratch, (block, depth))
        with loop(w.b, 0, depth) as k:
            for v in (0, UNITS):
                w.store(w.load(w.at(f.w_hh, (k, f.size), column, v)), w.at(target, (k, 2 * UNITS), v))


# ---- the walk over time ----------------------------------------------------------------------------


def emit_forward(module: Any, kind: str, frame: str, share: Any, states: list[tuple[str, str]], vectors: int,
                 units: int = UNITS) -> Any:
    """A forward scan: packs the weights, copies each (end, start) of the states, and runs the shares."""
    made, w = begin(module, f"flambeau.{kind}", [reg.pointer])
    if w is None:
        return made
    f = w.frame(made.args[0], frame)
    pack_gates(w, f, GATES[frame], vectors, units)
    return _shared_out(w, f, states, share)


def emit_backward(module: Any, kind: str, frame: str, share: Any, states: list[tuple[str, str]]) -> Any:
    """The walk back, likewise."""
    made, w = begin(module, f"flambeau.{kind}_backward", [reg.pointer])
    if w is None:
        return made
    f = w.frame(made.args[0], f"{frame}_backward")
    pack_columns(w, f, GATES[frame])
    return _shared_out(w, f, states, share)


def _shared_out(w: Writer, f: Any, states: list[tuple[str, str]], share: Any) -> Any:
    for end, start in states:
        w.copy(getattr(f, end), getattr(f, start), w.number((f.batch, f.size)))
    frame = w.function.args[0]
    with w.b.if_else(w.b.icmp_signed("==", f.parts, const(1))) as (alone, together):
        with alone:
            w.b.call(share, [frame, const(0), const(1)])
        with together:
            runtime.parallel_for(w.b, share, frame, f.parts)
    return w.done()


class Step:
    """One time step of one share while a forward scan is written: its rows, and the products with the state."""

    def __init__(self, w: Writer, f: Any, part: Any, k: Any, gates: int, vectors: int, product: Any):
        self.w, self.f, self.part, self.product = w, f, part, product
        self.gates, self.vectors = gates, vectors
        self.first, rows = w.step(f.table, k)
        self.rows = w.share(rows, part, f.parts)
        self.width = max(gates, vectors) * UNITS
        self.sums = w.own(f, part, gates, self.width)

    def row(self, r: Any) -> tuple[Any, Any]:
        """The sequence, and the row of all steps, that the share's row number r stands for."""
        sequence = self.w.b.add(self.part, self.w.b.mul(r, self.f.parts))
        return sequence, self.w.b.add(self.first, sequence)

    def multiply(self, block: Any) -> None:
        """The state times the panels of a block of units, into `sums`."""
        w, f = self.w, self.f
        for panel in range(self.width // (self.vectors * UNITS)):
            at = w.at(f.scratch, (block, f.size, self.gates), (f.size, panel * self.vectors * UNITS))
            w.b.call(self.product, [
                w.at(f.h_n, (self.part, f.size)), w.number((f.parts, f.size)), self.rows, at, f.size,
                w.at(self.sums, panel * self.vectors * UNITS), const(self.width)])

    def keep(self, *states: tuple[Any, Any]) -> None:
        """Make the new rows of (state, rows of all steps) the states. Only now: all blocks read the old ones."""
        w, f = self.w, self.f
        with loop(w.b, 0, self.rows) as r:
            sequence, row = self.row(r)
            for state, rows in states:
                w.copy(w.at(state, (sequence, f.size)), w.at(rows, (row, f.size)), f.size)


class BackStep:
    """One time step of one share while the walk back is written."""

    def __init__(self, w: Writer, f: Any, part: Any, visited: Any):
        self.w, self.f, self.part = w, f, part
        b = w.b
        k = b.sub(b.sub(f.steps, const(1)), visited)
        self.first, rows = w.step(f.table, k)
        started = b.icmp_signed("==", k, const(0))
        self.previous, known = w.step(f.table, b.select(started, k, b.sub(k, const(1))))
        self.known = b.select(started, const(0), known)
        self.rows = w.share(rows, part, f.parts)

    row = Step.row

    def started_from(self, sequence: Any, values: Any, initial: Any) -> Any:
        """The row of a state that the step started from: of the step visited before, or of the initial state."""
        w, f = self.w, self.f
        return w.b.select(w.b.icmp_signed("<", sequence, self.known),
                          w.at(values, (w.b.add(self.previous, sequence), f.size)),
                          w.at(initial, (sequence, f.size)))

    def multiply(self, product: Any, gradients: Any, gates: int) -> None:
        """The gradients of this step's gates times the weights: into d_h0, where the gradient of the state is."""
        w, f = self.w, self.f
        depth = w.number((f.size, gates))
        with w.blocks(f.size, 2 * UNITS) as (block, column):
            w.b.call(product, [
                w.at(gradients, (w.b.add(self.first, self.part), depth)), w.number((f.parts, depth)), self.rows,
                w.at(f.scratch, (block, depth)), depth, w.at(f.d_h0, (self.part, f.size), column),
                w.number((f.parts, f.size))])
