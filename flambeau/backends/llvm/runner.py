"""The native function that runs a program: it reads a list of records and does what each says.

One function serves all programs, so that a program of a thousand steps needs no code of its own beside its kernels. The
program is a header, a table of pointers and records of eight words, all in NumPy arrays:

    header   pointers, records, first, last, dynamic, starts, positions, status, release, execute, set_handle, extras
    record   kind, then what the kind wants (below)

A call `run(array, …)` first puts the data pointers of its arrays into the table: array i goes to the places
positions[starts[i]] … positions[starts[i + 1]], moved by extras bytes. Then records first … last run. Measured on Zen
3: 30 ns a call and 2 ns a record beside what the records do.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from flambeau.backends.llvm import builtin, jit, runtime
from flambeau.backends.llvm import registers as reg

SERIAL, PARALLEL, LIBRARY, ROUTINE, BATCH = range(5)
"""Kinds of records.

SERIAL:   function, buffers, extent                   function(buffers, 0, extent)
PARALLEL: function, buffers, extent, grain            the same, [0, extent) divided among the threads
LIBRARY:  primitive, stream, count, arguments, handles, number of handles
                                                      set each (memory, address of its pointer), then execute
ROUTINE:  function, buffers                           function(buffers)
BATCH:    function, buffers, starts, extents, count, slots, grains
                                                      one kernel on many sets of buffers, `slots` pointers each, in one
                                                      parallel region: set n has `extents[n]` points, which begin at
                                                      starts[n], a multiple of GRAIN, of all
"""

GRAIN = 64  # points of a batch that stay together: a kernel's shares begin at multiples of it

WORDS = 8
POINTERS, RECORDS, FIRST, LAST, DYNAMIC, STARTS, POSITIONS, STATUS, RELEASE, EXECUTE, SET_HANDLE, EXTRAS = range(12)
HEADER_WORDS = 12

_WORD = 8
_void = ir.VoidType()
_kernel = ir.FunctionType(_void, [reg.pointer, reg.i64, reg.i64])


def _at(b: Any, base: Any, index: Any) -> Any:
    return b.gep(base, [index if isinstance(index, ir.Value) else ir.Constant(reg.i64, index)], source_etype=reg.i64)


def _word(b: Any, base: Any, index: Any, kind: Any = reg.i64) -> Any:
    return b.load(_at(b, base, index), typ=kind)


def _call(b: Any, function: Any, kind: Any, arguments: list[Any]) -> Any:
    """A call through an address."""
    typed = ir.instructions.CastInstr(
        b.block, "bitcast", function, kind.as_pointer(), b.function.scope.deduplicate("f")
    )
    b._insert(typed)  # llvmlite wants to know the signature; to LLVM one pointer is like another
    return b.call(typed, arguments)


def _share(module: Any) -> Any:
    """What a thread of a parallel record does: data is the record, [begin, end) counts grains."""
    f = ir.Function(module, _kernel, "share")
    f.linkage = "private"
    b = ir.IRBuilder(f.append_basic_block())
    record, begin, end = f.args
    function, buffers = _word(b, record, 1, reg.pointer), _word(b, record, 2, reg.pointer)
    extent, grain = _word(b, record, 3), _word(b, record, 4)
    last = b.mul(end, grain)
    last = b.select(b.icmp_signed("<", last, extent), last, extent)
    _call(b, function, _kernel, [buffers, b.mul(begin, grain), last])
    b.ret_void()
    return f


def _batch_share(module: Any) -> Any:
    """What a thread of a batch does: data is the record, [begin, end) counts grains of all sets together."""
    f = ir.Function(module, _kernel, "batch_share")
    f.linkage = "private"
    b = ir.IRBuilder(f.append_basic_block())
    record, begin, end = f.args
    function, rows = _word(b, record, 1, reg.pointer), _word(b, record, 2, reg.pointer)
    starts, extents = _word(b, record, 3, reg.pointer), _word(b, record, 4, reg.pointer)
    grain, zero = ir.Constant(reg.i64, GRAIN), ir.Constant(reg.i64, 0)
    from_, to = b.mul(begin, grain), b.mul(end, grain)
    slots = _word(b, record, 6)

    def entry(n: Any) -> None:
        start, extent = _word(b, starts, n), _word(b, extents, n)
        first, last = b.sub(from_, start), b.sub(to, start)
        first = b.select(b.icmp_signed(">", first, zero), first, zero)
        last = b.select(b.icmp_signed("<", last, extent), last, extent)
        with b.if_then(b.icmp_signed("<", first, last)):
            _call(b, function, _kernel, [_at(b, rows, b.mul(n, slots)), first, last])

    _loop(b, zero, _word(b, record, 5), entry)
    b.ret_void()
    return f


def _loop(b: Any, begin: Any, end: Any, body: Callable[[Any], None]) -> None:
    """for i in range(begin, end): body(i)."""
    entry = b.block
    head, inside, after = (b.append_basic_block() for _ in range(3))
    b.branch(head)
    b.position_at_end(head)
    i = b.phi(reg.i64)
    i.add_incoming(begin, entry)
    b.cbranch(b.icmp_signed("<", i, end), inside, after)
    b.position_at_end(inside)
    body(i)
    i.add_incoming(b.add(i, ir.Constant(reg.i64, 1)), b.block)
    b.branch(head)
    b.position_at_end(after)


def _library(b: Any, header: Any, record: Any) -> None:
    set_handle = ir.FunctionType(reg.i32, [reg.pointer, reg.pointer])
    execute = ir.FunctionType(reg.i32, [reg.pointer, reg.pointer, reg.i32, reg.pointer])
    handles = _word(b, record, 5, reg.pointer)

    def put(i: Any) -> None:
        pair = b.mul(i, ir.Constant(reg.i64, 2))
        place = _word(b, handles, b.add(pair, ir.Constant(reg.i64, 1)), reg.pointer)
        _call(
            b,
            _word(b, header, SET_HANDLE, reg.pointer),
            set_handle,
            [_word(b, handles, pair, reg.pointer), _word(b, place, 0, reg.pointer)],
        )

    _loop(b, ir.Constant(reg.i64, 0), _word(b, record, 6), put)
    status = _call(
        b,
        _word(b, header, EXECUTE, reg.pointer),
        execute,
        [
            _word(b, record, 1, reg.pointer),
            _word(b, record, 2, reg.pointer),
            b.trunc(_word(b, record, 3), reg.i32),
            _word(b, record, 4, reg.pointer),
        ],
    )
    with b.if_then(b.icmp_signed("!=", status, ir.Constant(reg.i32, 0)), likely=False):
        b.store(b.sext(status, reg.i64), _at(b, header, STATUS))


def _steps(module: Any) -> Any:
    """The loop over records: void (ptr header)."""
    share, batch_share = _share(module), _batch_share(module)
    f = ir.Function(module, ir.FunctionType(_void, [reg.pointer]), "steps")
    f.linkage = "private"
    b = ir.IRBuilder(f.append_basic_block())
    (header,) = f.args
    records = _word(b, header, RECORDS, reg.pointer)
    zero = ir.Constant(reg.i64, 0)

    def step(i: Any) -> None:
        record = _at(b, records, b.mul(i, ir.Constant(reg.i64, WORDS)))
        after = b.append_basic_block()
        choice = b.switch(_word(b, record, 0), after)
        for kind in (SERIAL, PARALLEL, LIBRARY, ROUTINE, BATCH):
            block = b.append_basic_block()
            choice.add_case(ir.Constant(reg.i64, kind), block)
            b.position_at_end(block)
            if kind == LIBRARY:
                _library(b, header, record)
            elif kind == BATCH:
                runtime.parallel_for(b, batch_share, record, _word(b, record, 7))
            else:
                function, buffers = _word(b, record, 1, reg.pointer), _word(b, record, 2, reg.pointer)
                if kind == SERIAL:
                    _call(b, function, _kernel, [buffers, zero, _word(b, record, 3)])
                elif kind == ROUTINE:
                    _call(b, function, ir.FunctionType(_void, [reg.pointer]), [buffers])
                else:
                    extent, grain = _word(b, record, 3), _word(b, record, 4)
                    shares = b.udiv(b.sub(b.add(extent, grain), ir.Constant(reg.i64, 1)), grain)
                    runtime.parallel_for(b, share, record, shares)
            b.branch(after)
        b.position_at_end(after)

    _loop(b, _word(b, header, FIRST), _word(b, header, LAST), step)
    b.ret_void()
    return f


def _entry(module: Any, steps: Any) -> None:
    """The builtin: PyObject* (self, args, n)."""
    f = ir.Function(module, builtin.FUNCTION_TYPE, "run")
    b = ir.IRBuilder(f.append_basic_block())
    self, arguments, _ = f.args
    # self is the tuple (definition, keep), keep the array of the header
    keep = b.load(b.gep(self, [ir.Constant(reg.i64, builtin.HEADER + 2 * _WORD)], source_etype=reg.i8), typ=reg.pointer)
    header = builtin.array_data(b, keep)
    table = _word(b, header, POINTERS, reg.pointer)
    starts, positions = _word(b, header, STARTS, reg.pointer), _word(b, header, POSITIONS, reg.pointer)
    extras = _word(b, header, EXTRAS, reg.pointer)

    def fill(i: Any) -> None:
        array = _word(b, arguments, i, reg.pointer)
        data = builtin.array_data(b, array)
        end = _word(b, starts, b.add(i, ir.Constant(reg.i64, 1)))

        def put(j: Any) -> None:
            place = b.gep(data, [_word(b, extras, j)], source_etype=reg.i8)
            b.store(place, _at(b, table, _word(b, positions, j)))

        _loop(b, _word(b, starts, i), end, put)

    _loop(b, ir.Constant(reg.i64, 0), _word(b, header, DYNAMIC), fill)
    long = b.icmp_signed("!=", _word(b, header, RELEASE), ir.Constant(reg.i64, 0))
    with b.if_else(long) as (released, held):
        with released, builtin.without_lock(b):
            b.call(steps, [header])
        with held:
            b.call(steps, [header])
    builtin.return_object(b, None)


@functools.cache
def _code(kept: Callable[[Callable[[], bytes]], bytes]) -> Any:
    return jit.load_object(kept(_object), ["run"])


def _object() -> bytes:
    module = ir.Module("runner")
    module.triple = jit.host().triple
    _entry(module, _steps(module))
    return jit.compile_module(module)


def runner(header: Any, kept: Callable[[Callable[[], bytes]], bytes]) -> Callable[..., None]:
    """The function that runs the program whose header (an array of HEADER_WORDS words) this is.

    `kept(make)` is asked for the object file, which is always the same: it may come from a cache.
    """
    code = _code(kept)
    return builtin.make_builtin(code.address("run"), header, "run_program")
