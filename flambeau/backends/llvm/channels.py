"""Sums over the channels of an image, and what is computed from them, in generated code: batch normalisation's passes.

An image of C channels lies in one of two orders: `plain`, as rows (a sample's channel) of `size` elements one after the
other, or channels-last, as rows of one element of each channel. Each function is `void (ptr frame)`; its frame (see
`frames.py`) has `rows` of either kind, and vectors of C float32 numbers:

    sums       of x - shift and its square, or of grad and grad * (x - shift): float64, (rows, 2) if plain, else
               (parts, 2, C), which the caller adds up
    elements   (x - shift) * factor + offset, or (grad - offset - (x - shift) * slope) * factor: float32, into `out`

One float32 number holds the sum of at most `TERMS` elements before it is added to a float64 one: on 32×64×64×64 a
variance is off by 1e-7 of itself, where oneDNN 2023.2, which adds a channel up in float32, is off by 3e-5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from flambeau.backends.llvm import jit, runtime
from flambeau.backends.llvm import registers as reg
from flambeau.backends.llvm.frames import APART
from flambeau.backends.llvm.mersenne import each, loop
from flambeau.backends.llvm.recurrent import Writer, begin, begin_share, const
from flambeau.backends.llvm.scalars import Scalar

TERMS = 128  # elements that are added up in one float32 number
AT_ONCE = 4  # rows, or vectors of a row, whose terms are added to each other first

float32, float64 = reg.float32, reg.float64


def emit_sums(module: Any, last: bool, gradient: bool) -> Any:
    """The sums of an image, channels-last or plain: of its deviations and their squares, or of its gradient's."""
    return _emit(module, _name("sums", last, gradient), _sums_last if last else _sums_plain, gradient, shares=last)


def emit_elements(module: Any, last: bool, gradient: bool) -> Any:
    """An image normalised, or its gradient made from that of the normalised one."""
    write = _elements_last if last else _elements_plain
    return _emit(module, _name("elements", last, gradient), write, gradient, shares=False)


def _name(kind: str, last: bool, gradient: bool) -> str:
    return f"channels.{kind}.{'last' if last else 'plain'}" + ".gradient" * gradient


def _emit(module: Any, name: str, write: Callable[..., None], gradient: bool, shares: bool) -> Any:
    """`void (ptr frame)`: what `write` does with rows (or shares) begin … end, divided among threads."""
    share, w = begin_share(module, name)
    if w is not None:
        frame, first, stop = share.args
        write(w, w.frame(frame, "channels"), first, stop, gradient)
        w.done()
    made, w = begin(module, f"flambeau.{name}", [reg.pointer])
    if w is None:
        return made
    f = w.frame(made.args[0], "channels")
    count = f.parts if shares else f.rows
    with w.b.if_else(w.b.icmp_signed("==", f.parts, const(1))) as (alone, together):
        with alone:
            w.b.call(share, [made.args[0], const(0), count])
        with together:
            runtime.parallel_for(w.b, share, made.args[0], count, grain=1 if shares else AT_ONCE)
    return w.done()


def _least(b: Any, x: Any, y: Any) -> Any:
    return b.select(b.icmp_signed("<", x, y), x, y)


def _double(w: Writer, address: Any, *terms: Any) -> Any:
    """The address of a float64 number, that many behind `address`."""
    index = const(0)
    for term in terms:
        index = w.b.add(index, w.number(term))
    return w.b.gep(address, [index], source_etype=ir.DoubleType())


def _terms(w: Writer, f: Any, place: Any, shift: Scalar, gradient: bool) -> tuple[Scalar, Scalar]:
    """The terms of both sums for the elements at an index, as many as `shift` has lanes."""
    apart = w.m.load(w.at(f.x, place), float32, shift.lanes) - shift
    if not gradient:
        return apart, apart * apart
    grad = w.m.load(w.at(f.grad, place), float32, shift.lanes)
    return grad, grad * apart


def _vectors(f: Any, gradient: bool) -> list[Any]:
    """The vectors that the elements are made with, in the order in which `_element` takes their values."""
    return [f.shift, f.factor, f.offset, *([f.slope] if gradient else [])]


def _element(w: Writer, f: Any, place: Any, given: list[Scalar], gradient: bool) -> None:
    """Make the elements at an index, as many as the given numbers have lanes."""
    m, (shift, factor, offset, *slope) = w.m, given
    apart = m.load(w.at(f.x, place), float32, shift.lanes) - shift
    if gradient:
        grad = m.load(w.at(f.grad, place), float32, shift.lanes)
        made = m.muladd(-slope[0], apart, grad - offset) * factor
    else:
        made = m.muladd(apart, factor, offset)
    w.store(made, w.at(f.out, place))


def _in_pairs(terms: list[Scalar]) -> Scalar:
    while len(terms) > 1:
        terms = [x + y for x, y in zip(terms[::2], terms[1::2])] + terms[len(terms) & ~1 :]
    return terms[0]


# ---- plain: rows of one channel ----------------------------------------------------------------


class _Sum:
    """A running sum that stays in a register (LLVM makes one of its room on the stack)."""

    def __init__(self, w: Writer, dtype: Any, lanes: int):
        self.w, self.dtype, self.lanes = w, dtype, lanes
        self.room = reg.stack_room(w.b, reg.register_type(dtype, lanes))

    def clear(self) -> None:
        self.w.m.store(self.w.m.constant(0, self.dtype, self.lanes), self.room)

    def value(self) -> Scalar:
        return self.w.m.load(self.room, self.dtype, self.lanes)

    def add(self, term: Scalar) -> None:
        self.w.m.store(self.value() + self.w.m.cast(term, self.dtype), self.room)


def _sums_plain(w: Writer, f: Any, first: Any, stop: Any, gradient: bool) -> None:
    b, m, lanes = w.b, w.m, jit.vector_lanes(float32)
    # For each of the two sums: float32 vectors that take turns, a float32 number for what is left over, and the totals.
    turns = [[_Sum(w, float32, lanes) for _ in range(AT_ONCE)] for _ in range(2)]
    single, wide, total = (
        [_Sum(w, dtype, n) for _ in range(2)] for dtype, n in ((float32, 1), (float64, lanes), (float64, 1))
    )
    with loop(b, first, stop) as row:
        shift = m.load(w.at(f.shift, b.urem(row, f.channels)), float32)
        for kept in (*wide, *total):
            kept.clear()
        with loop(b, 0, f.size, TERMS * AT_ONCE * lanes) as start:
            for kept in (*turns[0], *turns[1], *single):
                kept.clear()
            end = _least(b, f.size, b.add(start, const(TERMS * AT_ONCE * lanes)))
            middle = b.add(start, b.and_(b.sub(end, start), const(-AT_ONCE * lanes)))

            def add(index: Any, width: int, turn: int) -> None:
                place = b.add(w.number((row, f.size)), index)
                for which, term in enumerate(_terms(w, f, place, m.broadcast(shift, width), gradient)):
                    (turns[which][turn] if width > 1 else single[which]).add(term)

            with loop(b, start, middle, AT_ONCE * lanes) as index:
                for turn in range(AT_ONCE):
                    add(b.add(index, const(turn * lanes)), lanes, turn)
            each(b, middle, end, lanes, lambda index, width: add(index, width, 0))
            for which in range(2):
                wide[which].add(_in_pairs([kept.value() for kept in turns[which]]))
                total[which].add(single[which].value())
        for which in range(2):
            vector = wide[which].value()
            across = [
                Scalar(b, b.extract_element(vector.value, ir.Constant(reg.i32, k)), float64) for k in range(lanes)
            ]
            w.m.store(_in_pairs([*across, total[which].value()]), _double(w, f.out, (row, 2), which))


def _elements_plain(w: Writer, f: Any, first: Any, stop: Any, gradient: bool) -> None:
    b, m = w.b, w.m
    with loop(b, first, stop) as row:
        channel = b.urem(row, f.channels)
        given = [m.load(w.at(vector, channel), float32) for vector in _vectors(f, gradient)]

        def make(index: Any, lanes: int) -> None:
            wide = [m.broadcast(number, lanes) for number in given]
            _element(w, f, b.add(w.number((row, f.size)), index), wide, gradient)

        each(b, 0, f.size, jit.vector_lanes(float32), make)


# ---- channels-last: rows of all channels -------------------------------------------------------


def _by_rows(w: Writer, f: Any, first: Any, stop: Any, body: Callable[[Any, list[Any], int], None]) -> None:
    """`body(channel, places, lanes)` for rows first … stop - 1, some at once: `places` are the indices of the elements
    of that channel (and of the following lanes - 1) in each of the rows."""
    b, lanes = w.b, jit.vector_lanes(float32)
    middle = b.add(first, b.and_(b.sub(stop, first), const(-AT_ONCE)))
    for begin_at, end_at, height in ((first, middle, AT_ONCE), (middle, stop, 1)):
        with loop(b, begin_at, end_at, height) as row:
            rows = [w.number((b.add(row, const(k)), f.channels)) for k in range(height)]

            def step(channel: Any, width: int, rows: list[Any] = rows) -> None:
                body(channel, [b.add(r, channel) for r in rows], width)

            each(b, 0, f.channels, lanes, step)


def _sums_last(w: Writer, f: Any, first: Any, stop: Any, gradient: bool) -> None:
    b, m, lanes = w.b, w.m, jit.vector_lanes(float32)
    twice = w.number((f.channels, 2))
    with loop(b, first, stop) as part:
        narrow = w.at(f.scratch, (part, b.add(twice, const(APART))))
        begin_at, end_at = (b.sdiv(w.number((f.rows, p)), f.parts) for p in (part, b.add(part, const(1))))

        def clear(index: Any, width: int) -> None:
            m.store(m.constant(0, float32, width), w.at(narrow, index))
            m.store(m.constant(0, float64, width), _double(w, f.out, (part, twice), index))

        def flush(index: Any, width: int) -> None:
            target = _double(w, f.out, (part, twice), index)
            found = m.cast(m.load(w.at(narrow, index), float32, width), float64)
            m.store(m.load(target, float64, width) + found, target)
            m.store(m.constant(0, float32, width), w.at(narrow, index))

        def add(channel: Any, places: list[Any], width: int) -> None:
            shift = m.load(w.at(f.shift, channel), float32, width)
            pairs = [_terms(w, f, place, shift, gradient) for place in places]
            for terms, target in zip(zip(*pairs), (w.at(narrow, channel), w.at(narrow, channel, f.channels))):
                m.store(m.load(target, float32, width) + _in_pairs([*terms]), target)

        each(b, 0, twice, lanes, clear)
        with loop(b, begin_at, end_at, TERMS * AT_ONCE) as row:
            _by_rows(w, f, row, _least(b, end_at, b.add(row, const(TERMS * AT_ONCE))), add)
            each(b, 0, twice, lanes, flush)


def _elements_last(w: Writer, f: Any, first: Any, stop: Any, gradient: bool) -> None:
    def make(channel: Any, places: list[Any], width: int) -> None:
        given = [w.m.load(w.at(vector, channel), float32, width) for vector in _vectors(f, gradient)]
        for place in places:
            _element(w, f, place, given, gradient)

    _by_rows(w, f, first, stop, make)
