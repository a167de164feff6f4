"""Parallel loops in generated code, on the threads of the OpenMP runtime that oneDNN uses (libgomp).

Two runtimes would fight for the processors, so regions are entered through `GOMP_parallel`, which is what a compiler
emits for `#pragma omp parallel`. Measured on 2 cores of Zen 3: 1.0–1.3 µs for an empty region of two threads right
after another one, while the team still spins; 6 ns when one thread runs the body in place. A team that has gone to
sleep, or whose processors are busy with other programs, costs more (a time slice: milliseconds). So a loop should have
some 20 µs of work before it is divided.

The threads of a region are the smallest of: what the caller of `parallel_for` allows, what OpenMP allows for the
calling thread (`threads.set_num_threads`, OMP_NUM_THREADS; 1 on the workers of `threads.parallel`), and the limit
below. Without libgomp everything runs in place.

A forked child has none of its parent's threads, and libgomp would wait for them forever. So the limit, a word that all
generated code reads, becomes 1 in the child; code compiled in the parent goes on to work there, on one thread.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from flambeau.backends.llvm import registers as reg
from flambeau.backends.llvm import symbols


def parallel_for(builder: Any, body: Any, data: Any, count: Any, *, threads: int = 0, grain: int = 1) -> None:
    """Emit the call of `body(data, begin, end)` for [0, count), divided among threads.

    `body` is a function `void (ptr data, i64 begin, i64 end)` of the same module, `data` a pointer, `count` an i64 (IR
    value or number). At most `threads` threads (0: as many as OpenMP allows) get one contiguous part each, whose
    boundaries are multiples of `grain`; parts may be empty (`begin == end`) and are then not called. Returns when all
    are done.
    """
    if not isinstance(count, ir.Value):
        count = ir.Constant(reg.i64, count)
    zero = ir.Constant(reg.i64, 0)
    if threads == 1 or not symbols.has_openmp():
        builder.call(body, [data, zero, count])
        return
    allowed = _allowed(builder, threads)
    with builder.if_else(builder.icmp_signed(">", allowed, ir.Constant(reg.i32, 1))) as (several, alone):
        with several:
            shared = reg.stack_room(builder, reg.i64, 2)
            builder.store(data, _field(builder, shared, 0))
            builder.store(count, _field(builder, shared, 1))
            enter = reg.declared(
                builder.module, "GOMP_parallel", ir.VoidType(), [reg.pointer, reg.pointer, reg.i32, reg.i32]
            )
            builder.call(enter, [_divided(builder.module, body, grain), shared, allowed, ir.Constant(reg.i32, 0)])
        with alone:
            builder.call(body, [data, zero, count])


def _field(builder: Any, shared: Any, number: int) -> Any:
    """The address of a word of what the threads of a region share: the body's data, and the count to divide."""
    return builder.gep(shared, [ir.Constant(reg.i64, number)], inbounds=True, source_etype=reg.i64)


def _allowed(builder: Any, threads: int) -> Any:
    """The number of threads this region gets (i32)."""
    module = builder.module
    limit = module.globals.get(symbols.THREAD_LIMIT)
    if limit is None:
        limit = ir.GlobalVariable(module, reg.i32, symbols.THREAD_LIMIT)
        limit.linkage = "external"
    most = builder.call(reg.declared(module, "omp_get_max_threads", reg.i32, []), [])
    for bound in [builder.load(limit, typ=reg.i32)] + ([ir.Constant(reg.i32, threads)] if threads else []):
        most = builder.select(builder.icmp_signed("<", bound, most), bound, most)
    return most


def _divided(module: Any, body: Any, grain: int) -> Any:
    """The function that every thread of a region runs: it finds its part and calls the body."""
    name = f"{body.name}.part{grain}"
    made = module.globals.get(name)
    if made is not None:
        return made
    made = ir.Function(module, ir.FunctionType(ir.VoidType(), [reg.pointer]), name)
    made.linkage = "private"
    builder = ir.IRBuilder(made.append_basic_block())
    shared = made.args[0]
    data = builder.load(_field(builder, shared, 0), typ=reg.pointer)
    count = builder.load(_field(builder, shared, 1), typ=reg.i64)
    number, threads = (
        builder.sext(builder.call(reg.declared(module, name, reg.i32, []), []), reg.i64)
        for name in ("omp_get_thread_num", "omp_get_num_threads")
    )
    # Thread t of T takes the grains from t * G / T to (t + 1) * G / T.
    size = ir.Constant(reg.i64, grain)
    grains = builder.udiv(builder.add(count, ir.Constant(reg.i64, grain - 1)), size)

    def boundary(thread: Any) -> Any:
        place = builder.mul(builder.udiv(builder.mul(thread, grains), threads), size)
        return builder.select(builder.icmp_unsigned("<", place, count), place, count)

    begin, end = boundary(number), boundary(builder.add(number, ir.Constant(reg.i64, 1)))
    with builder.if_then(builder.icmp_unsigned("<", begin, end)):
        builder.call(body, [data, begin, end])
    builder.ret_void()
    return made
