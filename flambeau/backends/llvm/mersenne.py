"""The random stream in generated code: MT19937 and the draws that PyTorch makes of its words, bit for bit.

The functions work on the memory of NumPy's engine (624 words and the position of the next one, `Generator.memory`), so
that compiled and eager draws take turns on one stream. What a word becomes is as in `core/random.py`,
`core/random_distributions.py` and `core/box_muller.py`, where its sources are named; here the fused multiply-adds are
the processor's own. Each `emit_…` puts a function `void (ptr state, ptr out, i64 count, …)` into a module, once.

Source of the engine: Matsumoto and Nishimura 1998, doi:10.1145/272991.272995.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import ir

from flambeau.backends.llvm import jit
from flambeau.backends.llvm import registers as reg
from flambeau.backends.llvm.scalars import Maths, Scalar
from flambeau.core import box_muller as numbers

WORDS, MIDDLE = 624, 397
MATRIX, UPPER, LOWER = 0x9908B0DF, 0x80000000, 0x7FFFFFFF
CHUNK = 4096  # words that wait on the stack, in the first-level cache, between the engine and what is made of them

uint32, int32, uint64, int64 = reg.uint32, reg.int32, reg.uint64, reg.int64
float32, float64 = reg.float32, reg.float64


def _i64(value: int) -> Any:
    return ir.Constant(reg.i64, value)


def _at(builder: Any, address: Any, index: Any, size: int = 4) -> Any:
    """The address of element number `index` (IR value or int) of `size` bytes."""
    index = _i64(index) if isinstance(index, int) else index
    return builder.gep(address, [index], source_etype=ir.IntType(8 * size))


@contextmanager
def loop(builder: Any, begin: Any, end: Any, step: int = 1) -> Iterator[Any]:
    """Emit `for index in range(begin, end, step)`; yields the index (i64). Two ints must not be an empty range."""
    begin = _i64(begin) if isinstance(begin, int) else begin
    end = _i64(end) if isinstance(end, int) else end
    before = builder.block
    body, done = builder.append_basic_block(), builder.append_basic_block()
    if isinstance(begin, ir.Constant) and isinstance(end, ir.Constant):
        builder.branch(body)
    else:
        builder.cbranch(builder.icmp_signed("<", begin, end), body, done)
    builder.position_at_end(body)
    index = builder.phi(reg.i64)
    index.add_incoming(begin, before)
    yield index
    following = reg.opaque(builder, builder.add(index, _i64(step)))
    index.add_incoming(following, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, end), body, done)
    builder.position_at_end(done)


def each(builder: Any, begin: Any, end: Any, lanes: int, body: Callable[[Any, int], None]) -> None:
    """Emit `body(index, lanes)` for vectors of elements from begin to end (IR values), and one by one for the rest."""
    begin = _i64(begin) if isinstance(begin, int) else begin
    end = _i64(end) if isinstance(end, int) else end
    whole = builder.and_(builder.sub(end, begin), _i64(-lanes))
    middle = builder.add(begin, whole)
    with loop(builder, begin, middle, lanes) as index:
        body(index, lanes)
    with loop(builder, middle, end) as index:
        body(index, 1)


def _function(module: Any, name: str, parameters: list[Any]) -> tuple[Any, Any]:
    """The function of that name, and a builder for its body, or None if the module has it."""
    found = module.globals.get(name)
    if found is not None:
        return found, None
    made = ir.Function(module, ir.FunctionType(ir.VoidType(), parameters), name)
    made.linkage = "internal"
    made.attributes.add("nounwind")
    made.attributes.add("noinline")
    return made, ir.IRBuilder(made.append_basic_block())


# ---- the engine ------------------------------------------------------------------------------------


def emit_twist(module: Any) -> Any:
    """`void (ptr state)`: the next 624 words, untempered, in place."""
    made, builder = _function(module, "flambeau.mt19937.twist", [reg.pointer])
    if builder is None:
        return made
    state, m = made.args[0], Maths(builder)

    def step(to: Any, following: Any, other: Any, lanes: int) -> None:
        word, after, far = (m.load(_at(builder, state, at), uint32, lanes) for at in (to, following, other))
        mixed = (word & UPPER) | (after & LOWER)
        odd = m.bits(m.bits(after, int32) << 31 >> 31, uint32)  # all ones or all zeros
        m.store(far ^ (mixed >> 1) ^ (odd & MATRIX), _at(builder, state, to))

    lanes, back = min(jit.vector_lanes(uint32), 8), _i64(WORDS - MIDDLE)
    # Both vector loops have a multiple of eight steps; seven words stay between them: three reach ahead, four back.
    with loop(builder, 0, 224, lanes) as index:
        step(index, builder.add(index, _i64(1)), builder.add(index, _i64(MIDDLE)), lanes)
    with loop(builder, 224, 231) as index:
        far = builder.select(builder.icmp_signed("<", index, back), _i64(MIDDLE), _i64(MIDDLE - WORDS))
        step(index, builder.add(index, _i64(1)), builder.add(index, far), 1)
    with loop(builder, 231, WORDS - 1, lanes) as index:
        step(index, builder.add(index, _i64(1)), builder.sub(index, back), lanes)
    step(WORDS - 1, 0, MIDDLE - 1, 1)
    builder.ret_void()
    return made


def emit_words(module: Any) -> Any:
    """`void (ptr state, ptr out, i64 count)`: the next words of 32 bits."""
    made, builder = _function(module, "flambeau.mt19937.words", [reg.pointer, reg.pointer, reg.i64])
    if builder is None:
        return made
    twist = emit_twist(module)
    state, out, count = made.args
    place = _at(builder, state, WORDS)
    entry = builder.block
    first = builder.zext(builder.load(place, typ=reg.i32), reg.i64)
    head, body, fresh, run, done = (builder.append_basic_block() for _ in range(5))
    builder.branch(head)
    builder.position_at_end(head)
    position, written = builder.phi(reg.i64), builder.phi(reg.i64)
    builder.cbranch(builder.icmp_signed("<", written, count), body, done)
    builder.position_at_end(body)
    builder.cbranch(builder.icmp_signed("==", position, _i64(WORDS)), fresh, run)
    builder.position_at_end(fresh)
    builder.call(twist, [state])
    builder.branch(run)
    builder.position_at_end(run)
    start = builder.phi(reg.i64)
    start.add_incoming(position, body)
    start.add_incoming(_i64(0), fresh)
    left, wanted = builder.sub(_i64(WORDS), start), builder.sub(count, written)
    number = builder.select(builder.icmp_signed("<", left, wanted), left, wanted)
    source, target = _at(builder, state, start), _at(builder, out, written)
    m = Maths(builder)

    def temper(index: Any, lanes: int) -> None:
        y = m.load(_at(builder, source, index), uint32, lanes)
        y = y ^ (y >> 11)
        y = y ^ ((y << 7) & 0x9D2C5680)
        y = y ^ ((y << 15) & 0xEFC60000)
        m.store(y ^ (y >> 18), _at(builder, target, index))

    each(builder, 0, number, jit.vector_lanes(uint32), temper)
    position.add_incoming(first, entry)
    position.add_incoming(builder.add(start, number), builder.block)
    written.add_incoming(_i64(0), entry)
    written.add_incoming(builder.add(written, number), builder.block)
    builder.branch(head)
    builder.position_at_end(done)
    builder.store(builder.trunc(position, reg.i32), place)
    builder.ret_void()
    return made


def _drawing(module: Any, name: str, parameters: list[Any], words: int, size: int, lanes: int,
             rule: Callable[..., Scalar]) -> Any:
    """A draw of `words` words an element: `rule(m, drawn, *parameters)` makes the elements, of `size` bytes, of them.

    `drawn` is a uint32, or for two words the uint64 whose upper half came first.
    """
    made, builder = _function(module, name, [reg.pointer, reg.pointer, reg.i64, *parameters])
    if builder is None:
        return made
    fill, kind = emit_words(module), uint32 if words == 1 else uint64
    state, out, count, *given = made.args
    room, m = reg.stack_room(builder, reg.i32, CHUNK), Maths(builder)
    elements = CHUNK // words
    with loop(builder, 0, count, elements) as start:
        left = builder.sub(count, start)
        number = builder.select(builder.icmp_signed("<", left, _i64(elements)), left, _i64(elements))
        builder.call(fill, [state, room, builder.mul(number, _i64(words))])
        target = _at(builder, out, start, size)

        def element(index: Any, lanes: int) -> None:
            drawn = m.load(_at(builder, room, index, kind.itemsize), kind, lanes, align=4)
            if words == 2:
                drawn = (drawn << 32) | (drawn >> 32)
            values = [m.broadcast(Scalar(builder, value, _DTYPES[value.type]), lanes) for value in given]
            m.store(rule(m, drawn, *values), _at(builder, target, index, size))

        each(builder, 0, number, lanes, element)
    builder.ret_void()
    return made


_DTYPES = {ir.FloatType(): float32, ir.DoubleType(): float64, reg.i64: uint64}
_DTYPES |= {ir.IntType(8 * n): np.dtype(f"u{n}") for n in (1, 2, 4)}


# ---- uniform, bernoulli, integers ------------------------------------------------------------------


def _unit32(m: Any, word: Any) -> Any:
    return m.cast(m.bits(word & 0xFFFFFF, int32), float32) * 2.0**-24


def _between(m: Any, unit: Any, low: Any, span: Any, high: Any) -> Any:
    """low + unit * span, rounded once; where rounding reached the excluded end, the other one."""
    value = m.fma(unit, span, low)
    return m.where(value == high, low, value)


def emit_uniform(module: Any, dtype: Any) -> Any:
    """Numbers uniform in [low, high); parameters `low, high - low, high` of the dtype, float32 or float64."""
    if dtype == float64:
        def rule(m: Any, drawn: Any, low: Any, span: Any, high: Any) -> Any:
            return _between(m, m.cast(drawn & ((1 << 53) - 1), float64) * 2.0**-53, low, span, high)
    else:
        def rule(m: Any, drawn: Any, low: Any, span: Any, high: Any) -> Any:
            return _between(m, _unit32(m, drawn), low, span, high)
    kind = reg.register_type(dtype)
    return _drawing(module, f"flambeau.uniform.{dtype}", [kind] * 3, dtype.itemsize // 4, dtype.itemsize,
                    jit.vector_lanes(dtype), rule)


def emit_bernoulli(module: Any, size: int) -> Any:
    """An element of `size` bytes with a given bit pattern (of true, of 1.0) with probability p, else zero.

    Parameters: `limit`, the smallest integer not below p * 2**53 (i64), and the pattern (an integer of that size).
    """
    def rule(m: Any, drawn: Any, limit: Any, pattern: Any) -> Any:
        # Signed comparison is the one that processors have; all numbers are small.
        happens = m.bits(drawn & ((1 << 53) - 1), int64) < m.bits(limit, int64)
        return m.where(happens, pattern, 0)

    return _drawing(module, f"flambeau.bernoulli.{size}", [reg.i64, ir.IntType(8 * size)], 2, size,
                    jit.vector_lanes(uint32), rule)


def emit_randint(module: Any) -> Any:
    """int64 numbers low + word % span; parameters `low`, `span` (below 2**32), and 2**64 // span + 1, all i64.

    The remainder without division: Lemire, Kaser and Kurz 2019, doi:10.1002/spe.2689. A span of 1 has the factor 0.
    """
    def rule(m: Any, drawn: Any, low: Any, span: Any, factor: Any) -> Any:
        builder, wide = m.builder, ir.IntType(128)
        fraction = builder.mul(builder.zext(drawn.value, reg.i64), factor.value)
        product = builder.mul(builder.zext(fraction, wide), builder.zext(span.value, wide))
        remainder = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), reg.i64)
        return Scalar(builder, builder.add(remainder, low.value), int64)

    return _drawing(module, "flambeau.randint", [reg.i64] * 3, 1, 8, 1, rule)


def emit_randperm(module: Any) -> Any:
    """The int64 numbers 0 … count-1 in random order, for count below 2**32 / 20; Fisher and Yates from the front."""
    made, builder = _function(module, "flambeau.randperm", [reg.pointer, reg.pointer, reg.i64])
    if builder is None:
        return made
    fill = emit_words(module)
    state, out, count = made.args
    room, last = reg.stack_room(builder, reg.i32, CHUNK), builder.sub(count, _i64(1))
    with loop(builder, 0, count) as index:
        builder.store(index, _at(builder, out, index, 8))
    with loop(builder, 0, last, CHUNK) as start:
        left = builder.sub(last, start)
        number = builder.select(builder.icmp_signed("<", left, _i64(CHUNK)), left, _i64(CHUNK))
        builder.call(fill, [state, room, number])
        with loop(builder, 0, number) as index:
            place = builder.add(start, index)
            remaining = builder.trunc(builder.sub(count, place), reg.i32)
            word = builder.load(_at(builder, room, index), typ=reg.i32)
            chosen = builder.add(place, builder.zext(builder.urem(word, remaining), reg.i64))
            here, there = (_at(builder, out, at, 8) for at in (place, chosen))
            mine, other = (builder.load(address, typ=reg.i64) for address in (here, there))
            builder.store(other, here)
            builder.store(mine, there)
    builder.ret_void()
    return made


# ---- normal ----------------------------------------------------------------------------------------


def _polynomial(m: Any, coefficients: Any, x: Any) -> Any:
    first, *others = (m.number(c, x) for c in coefficients)
    for coefficient in others:
        first = m.fma(first, x, coefficient)
    return first


def _log(m: Any, x: Any) -> Any:
    """`numbers._log` with the processor's fused multiply-adds."""
    bits = m.bits(x, int32)
    exponent = (bits - int(numbers.SQRT_HALF_BITS)) >> 23
    rest = m.bits(bits - (exponent << 23), float32) - 1
    turns, square = m.cast(exponent, float32), rest * rest
    y = _polynomial(m, numbers.LOG, rest) * rest
    y = m.fma(y, square, turns * float(numbers.LOG_2_LOW))
    return y - square * 0.5 + rest + turns * float(numbers.LOG_2_HIGH)


def _sine_and_cosine(m: Any, x: Any) -> tuple[Any, Any]:
    """`numbers._sine_and_cosine`, likewise."""
    octant = (m.cast(x * float(numbers.FOUR_OVER_PI), int32) + 1) & ~1
    turns = m.cast(octant, float32)
    x = x - turns * float(numbers.PI_QUARTER_1)
    x = x - turns * float(numbers.PI_QUARTER_2)
    x = m.fma(-turns, float(numbers.PI_QUARTER_3), x)
    square = x * x
    even = _polynomial(m, numbers.COS, square) * square
    even = m.fma(even, square, -(square * 0.5)) + 1
    odd = m.fma(_polynomial(m, numbers.SIN, square) * square, x, x)
    sine, cosine = m.bits(odd, int32), m.bits(even, int32)
    exchange = (sine ^ cosine) & -(octant >> 1 & 1)
    sine = sine ^ exchange ^ ((octant & 4) << 29)
    cosine = cosine ^ exchange ^ (((octant + 2) & 4) << 29)
    return m.bits(sine, float32), m.bits(cosine, float32)


def emit_normal(module: Any) -> Any:
    """float32 normal numbers, for a count of at least 16; parameters `mean`, `std` (float32).

    Words are used in groups of 16, 8 for the radii and 8 for the angles; if the count is no multiple of 16, the last
    16 elements are drawn again.
    """
    kind = ir.FloatType()
    group, builder = _function(module, "flambeau.normal.groups", [reg.pointer, reg.pointer, reg.i64, kind, kind])
    if builder is not None:
        words, out, count, *given = group.args
        m = Maths(builder)
        mean, std = (m.broadcast(Scalar(builder, value, float32), 8) for value in given)
        with loop(builder, 0, count, 16) as index:
            first, second = (_unit32(m, m.load(_at(builder, words, builder.add(index, _i64(k))), uint32, 8))
                             for k in (0, 8))
            radius = m.sqrt(_log(m, 1 - first) * -2)
            sine, cosine = _sine_and_cosine(m, second * float(numbers.TWO_PI))
            for k, direction in ((0, cosine), (8, sine)):
                m.store(m.fma(direction * radius, std, mean), _at(builder, out, builder.add(index, _i64(k))))
        builder.ret_void()
    made, builder = _function(module, "flambeau.normal", [reg.pointer, reg.pointer, reg.i64, kind, kind])
    if builder is None:
        return made
    fill = emit_words(module)
    state, out, count, *given = made.args
    room = reg.stack_room(builder, reg.i32, CHUNK)
    with loop(builder, 0, count, CHUNK) as start:
        left = builder.sub(count, start)
        number = builder.select(builder.icmp_signed("<", left, _i64(CHUNK)), left, _i64(CHUNK))
        builder.call(fill, [state, room, number])
        builder.call(group, [room, _at(builder, out, start), builder.and_(number, _i64(-16)), *given])
    rest = builder.and_(count, _i64(15))
    with builder.if_then(builder.icmp_signed("!=", rest, _i64(0))):
        builder.call(fill, [state, room, _i64(16)])
        builder.call(group, [room, _at(builder, out, builder.sub(count, _i64(16))), _i64(16), *given])
    builder.ret_void()
    return made
