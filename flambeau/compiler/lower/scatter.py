"""Rows added to, or written over, the rows of a table that an index names: gradients of look-ups, `index_add`,
`index_copy`.

The table's rows are divided among the threads; each walks the whole index and takes what falls to it, so that no two
write one row and rows are added in the order of the index, as on the host.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir

from flambeau.backends.llvm import registers as reg
from flambeau.backends.llvm import runtime
from flambeau.compiler.graph import Node, Ref
from flambeau.compiler.lower.moves import copy_step
from flambeau.compiler.lower.onednn import is_plain, reshaped
from flambeau.compiler.passes.decompose import known_index
from flambeau.compiler.steps import Lowering, RoutineStep, Step, lowering
from flambeau.core.digest import blake2b

FLOAT = np.dtype(np.float32)
LANES = 8
PARALLEL = 1 << 15  # elements from which threads pay: see `backends/llvm/runtime.py`


@lowering("embedding_backward")
def embedding_backward(node: Node, low: Lowering) -> list[Step] | None:
    """Zeros with the rows of a gradient added."""
    grad, index = node.inputs
    rows = node.attrs["rows"]
    return _scatter(node, low, grad, index, rows, None, adding=True)


@lowering("index_add", "index_copy")
def index_rows(node: Node, low: Lowering) -> list[Step] | None:
    """A table with rows added or replaced."""
    x, index, source = node.inputs
    if node.attrs["dim"] != 0 or not isinstance(x, Ref) or len(x.shape) < 2:
        return None
    return _scatter(node, low, source, index, x.shape[0], x, adding=node.op == "index_add")


def _scatter(
    node: Node, low: Lowering, values: Any, index: Any, rows: int, start: Ref | None, adding: bool
) -> list[Step] | None:
    out = node.outputs[0]
    if out is None or not isinstance(values, Ref) or not isinstance(index, Ref) or values.dtype != FLOAT:
        return None
    if out.dtype != FLOAT or not is_plain(out.whole()) or index.dtype != np.int64 or not all(values.shape):
        return None
    width = int(np.prod(out.shape[1:]))
    count = int(np.prod(index.shape))
    flat = reshaped(values, (count, width))
    places = reshaped(index, (count,))
    if flat is None or places is None or (width > 1 and flat.strides[1] != 1):
        return None
    if not _known(low, node, index, rows):
        return None
    steps: list[Step] = [] if start is None else [copy_step(start, out, 0, out.strides)]
    shape = (rows, width, count, flat.strides[0] if count > 1 else width, places.strides[0] if count > 1 else 1)
    key = f"scatter {shape} {start is None} {adding} {low.threads}"
    threads = low.threads if rows * width + count * width >= PARALLEL else 1

    def emit(module: Any) -> Any:
        return emit_scatter(module, key, shape, start is None, adding, threads)

    return [*steps, RoutineStep(key, emit, (flat, places, out.whole()), 1)]


def _known(low: Lowering, node: Node, index: Ref, rows: int) -> bool:
    """Whether the index lies within the table for certain."""
    from flambeau.compiler.passes.decompose import Builder

    return known_index(Builder(low.graph, node), index, rows)


def emit_scatter(module: Any, key: str, shape: tuple[int, ...], clear: bool, adding: bool, threads: int) -> Any:
    """void (ptr buffers): values, index, table."""
    rows, width, count, value_stride, index_stride = shape
    name = "scatter." + blake2b(key.encode(), digest_size=8).hexdigest()
    body = ir.Function(module, ir.FunctionType(ir.VoidType(), [reg.pointer, reg.i64, reg.i64]), name + ".rows")
    body.linkage = "internal"
    b = ir.IRBuilder(body.append_basic_block())
    buffers, begin, end = body.args
    values, index, table = (
        b.load(b.gep(buffers, [_const(i)], source_etype=reg.pointer), typ=reg.pointer) for i in range(3)
    )
    if clear:
        start = b.gep(table, [b.mul(begin, _const(width))], source_etype=ir.FloatType())
        clearing = reg.declared(module, "memset", reg.pointer, [reg.pointer, reg.i32, reg.i64])
        b.call(clearing, [start, ir.Constant(reg.i32, 0), b.mul(b.sub(end, begin), _const(4 * width))])

    def entry(i: Any) -> None:
        row = b.load(b.gep(index, [b.mul(i, _const(index_stride))], source_etype=reg.i64), typ=reg.i64)
        inside = b.and_(b.icmp_signed(">=", row, begin), b.icmp_signed("<", row, end))
        with b.if_then(inside):
            source = b.gep(values, [b.mul(i, _const(value_stride))], source_etype=ir.FloatType())
            target = b.gep(table, [b.mul(row, _const(width))], source_etype=ir.FloatType())
            vectors = width // LANES * LANES
            _loop(b, _const(0), _const(vectors), LANES, lambda j: _move(b, source, target, j, LANES, adding))
            _loop(b, _const(vectors), _const(width), 1, lambda j: _move(b, source, target, j, 1, adding))

    _loop(b, _const(0), _const(count), 1, entry)
    b.ret_void()
    made = ir.Function(module, ir.FunctionType(ir.VoidType(), [reg.pointer]), name)
    b2 = ir.IRBuilder(made.append_basic_block())
    runtime.parallel_for(b2, body, made.args[0], rows, threads=threads)
    b2.ret_void()
    return made


def _const(value: int) -> ir.Constant:
    return ir.Constant(reg.i64, value)


def _move(b: Any, source: Any, target: Any, j: Any, lanes: int, adding: bool) -> None:
    kind = reg.register_type(FLOAT, lanes)
    here, there = (b.gep(p, [j], source_etype=ir.FloatType()) for p in (source, target))
    value = b.load(here, typ=kind, align=4)
    if adding:
        value = b.fadd(b.load(there, typ=kind, align=4), value)
    b.store(value, there, align=4)


def _loop(b: Any, begin: Any, end: Any, step: int, body: Any) -> None:
    """for i in range(begin, end, step): body(i)."""
    entry = b.block
    head, inside, after = (b.append_basic_block() for _ in range(3))
    b.branch(head)
    b.position_at_end(head)
    i = b.phi(reg.i64)
    i.add_incoming(begin, entry)
    b.cbranch(b.icmp_signed("<", i, end), inside, after)
    b.position_at_end(inside)
    body(i)
    i.add_incoming(b.add(i, _const(step)), b.block)
    b.branch(head)
    b.position_at_end(after)
