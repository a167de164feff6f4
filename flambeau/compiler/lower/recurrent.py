"""Recurrent layers: the scans over time as one native routine each (`backends/llvm/recurrences.py`).

The gradient of the recurrent weights is one product over all steps, which goes the way of every product. What a scan
cannot do (projections, other types, a few units, gradients of what only derivatives read) stays with
NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.backends.llvm.frames import FRAMES, SMALLEST, parts_of, scratch_size, visiting
from flambeau.compiler.graph import Node, Ref, Value
from flambeau.compiler.kernel import Kernel, Load, Reduce, Store
from flambeau.compiler.lower.onednn import FLOAT, Plan, contiguous_strides, is_plain
from flambeau.compiler.lower.products import swapped
from flambeau.compiler.steps import LOWERINGS, KernelStep, Lowering, RoutineStep, Step, lowering


def emit_call(module: Any, name: str, frame: str, numbers: dict[str, int], label: str) -> Any:
    """The routine `void (ptr buffers)` that runs a scan on these sizes; buffers are the addresses of its frame."""
    from llvmlite import ir

    from flambeau.backends.llvm import registers as reg
    from flambeau.backends.llvm.recurrences import EMITTERS
    from flambeau.backends.llvm.recurrent import const

    made = module.globals.get(label)
    if made is not None:
        return made
    scan = EMITTERS[name](module)
    made = ir.Function(module, ir.FunctionType(ir.VoidType(), [reg.pointer]), label)
    made.linkage = "internal"
    builder = ir.IRBuilder(made.append_basic_block())
    sizes, _, pointers = (part.split() for part in FRAMES[frame].partition("|"))
    room = reg.stack_room(builder, reg.i64, len(sizes) + len(pointers))
    words = [const(numbers[word]) for word in sizes]
    for i in range(len(pointers)):
        words.append(builder.load(builder.gep(made.args[0], [const(i)], source_etype=reg.i64), typ=reg.i64))
    for i, word in enumerate(words):
        builder.store(word, builder.gep(room, [const(i)], source_etype=reg.i64))
    builder.call(scan, [room])
    builder.ret_void()
    return made


class Scan:
    """The lowering of one node: operands by their names in the frame, in plain order."""

    def __init__(self, node: Node, low: Lowering, kind: str, weights: Ref):
        self.node, self.low, self.kind = node, low, kind
        self.plan = Plan(low)
        self.size = weights.shape[1]
        self.sizes, self.reverse = node.attrs["sizes"], node.attrs["reverse"]
        self.rows = sum(self.sizes)

    def read(self, **operands: Ref) -> dict[str, Ref]:
        """The operands, copied where they are not contiguous; only the rows of d_out may lie apart."""
        out = {}
        for name, ref in operands.items():
            apart = name == "d_out" and ref.strides[1] == 1 and ref.strides[0] > 0
            out[name] = ref if apart or is_plain(ref) else self.plan.copied(ref)
        return out

    def made(self, value: Value | None, *shape: int) -> Ref:
        """Where a result goes: the value, or memory of our own if nobody wants it."""
        if value is None:
            value = self.low.graph.value(shape, contiguous_strides(shape), FLOAT)
        return value.whole()

    def run(self, name: str, frame: str, arrays: dict[str, Ref]) -> None:
        """The step that runs a scan on the arrays, all of its frame but the table and the scratch memory."""
        batch = arrays["h0"].shape[0]
        parts = parts_of(self.kind, self.rows, batch, self.size, self.low.threads)
        table = visiting(self.sizes, self.reverse)
        graph = self.low.graph
        steps = graph.value(table.shape, contiguous_strides(table.shape), table.dtype)
        graph.constants[steps] = table
        scratch = self.low.temporary(scratch_size(self.kind, batch, self.size, parts))
        arrays = {**arrays, "table": steps.whole(), "scratch": scratch.whole()}
        numbers = {"parts": parts, "steps": len(self.sizes), "batch": batch, "size": self.size}
        if "d_out" in arrays:
            numbers["d_out_step"] = arrays["d_out"].strides[0]
        pointers = FRAMES[frame].partition("|")[2].split()
        key = f"scan.{name}." + ".".join(map(str, numbers.values()))
        operands = tuple(arrays[word] for word in pointers)
        written = len(pointers) - pointers.index("scratch")
        emit = lambda module: emit_call(module, name, frame, numbers, key)
        self.plan.steps.append(RoutineStep(key, emit, operands, written))

    def multiply(self, left: Ref, right: Ref, out: Value | None) -> bool:
        """out = left @ right; False if there is no way."""
        if out is None:
            return True
        owner = out.node
        steps = LOWERINGS["matmul"](Node("matmul", [left, right], {}, [out]), self.low)
        out.node = owner
        if steps is None:
            return False
        self.plan.steps += steps
        return True


def _suits(node: Node, weights: Any, *operands: Any) -> bool:
    """Whether a scan can do this: non-empty float32 windows, a fitting size, results in plain order."""
    given = [operand for operand in (weights, *operands) if operand is not None]
    if not all(isinstance(ref, Ref) and ref.dtype == FLOAT and all(ref.shape) for ref in given):
        return False
    results = [value for value in node.outputs if value is not None]
    return weights.shape[1] >= SMALLEST and all(is_plain(value.whole()) for value in results)


def _is_zero(low: Lowering, operand: Any) -> bool:
    """Whether an operand is known to be zero, or missing."""
    if operand is None:
        return True
    array = low.graph.constants.get(operand.value) if isinstance(operand, Ref) else None
    return array is not None and not array.any()


@lowering("lstm_scan")
def lstm(node: Node, low: Lowering) -> list[Step] | None:
    """Inputs gates, h0, c0, w_hh, w_hr; results out, h_n, c_n, acts, cells."""
    gates, h0, c0, w_hh, w_hr = node.inputs
    if w_hr is not None or not _suits(node, w_hh, gates, h0, c0):
        return None
    scan = Scan(node, low, "lstm", w_hh)
    shapes = [(scan.rows, scan.size), h0.shape, c0.shape, (scan.rows, 4 * scan.size), (scan.rows, scan.size)]
    results = [scan.made(value, *shape) for value, shape in zip(node.outputs, shapes)]
    scan.run("lstm", "lstm", {
        **scan.read(gates=gates, h0=h0, c0=c0, w_hh=w_hh),
        **dict(zip(("out", "h_n", "c_n", "acts", "cells"), results)),
    })  # fmt: skip
    return scan.plan.steps


@lowering("lstm_scan_backward")
def lstm_backward(node: Node, low: Lowering) -> list[Step] | None:
    """Results: gradients of gates, h0, c0, w_hh; the last, of w_hr, which is not there, is nobody's."""
    d_out, d_h, d_c, d_acts, d_cells, h0, c0, w_hh, w_hr, out, acts, cells = node.inputs
    if w_hr is not None or not (_is_zero(low, d_acts) and _is_zero(low, d_cells)):
        return None
    if not _suits(node, w_hh, d_out, d_h, d_c, h0, c0, out, acts, cells):
        return None
    scan = Scan(node, low, "lstm", w_hh)
    d_gates, d_h0, d_c0, d_w, _ = node.outputs
    results = {
        "d_gates": scan.made(d_gates, scan.rows, 4 * scan.size),
        "d_h0": scan.made(d_h0, *h0.shape),
        "d_c0": scan.made(d_c0, *c0.shape),
        "before": scan.made(None, scan.rows, scan.size),
    }
    given = scan.read(d_out=d_out, d_h=d_h, d_c=d_c, h0=h0, c0=c0, w_hh=w_hh, out=out, acts=acts, cells=cells)
    scan.run("lstm_backward", "lstm_backward", {**given, **results})
    fine = scan.multiply(swapped(results["d_gates"]), results["before"], d_w)
    return scan.plan.steps if fine else None


@lowering("gru_scan")
def gru(node: Node, low: Lowering) -> list[Step] | None:
    """Inputs gates, h0, w_hh, b_hh; results out, h_n, acts."""
    gates, h0, w_hh, b_hh = node.inputs
    if not _suits(node, w_hh, gates, h0, b_hh):
        return None
    scan = Scan(node, low, "gru", w_hh)
    if b_hh is None:
        none = low.graph.value((3 * scan.size,), (1,), FLOAT)
        low.graph.constants[none] = np.zeros(3 * scan.size, FLOAT)
        b_hh = none.whole()
    shapes = [(scan.rows, scan.size), h0.shape, (scan.rows, 4 * scan.size)]
    results = [scan.made(value, *shape) for value, shape in zip(node.outputs, shapes)]
    scan.run("gru", "gru", {
        **scan.read(gates=gates, h0=h0, w_hh=w_hh, b_hh=b_hh), **dict(zip(("out", "h_n", "acts"), results)),
    })  # fmt: skip
    return scan.plan.steps


@lowering("gru_scan_backward")
def gru_backward(node: Node, low: Lowering) -> list[Step] | None:
    """Results: gradients of gates, h0, w_hh, b_hh."""
    d_out, d_h, d_acts, h0, w_hh, out, acts = node.inputs
    if not _is_zero(low, d_acts) or not _suits(node, w_hh, d_out, d_h, h0, out, acts):
        return None
    scan = Scan(node, low, "gru", w_hh)
    d_gates, d_h0, d_w, d_b = node.outputs
    wide = (scan.rows, 3 * scan.size)
    results = {
        "d_gates": scan.made(d_gates, *wide),
        "d_recurrent": scan.made(None, *wide),
        "d_h0": scan.made(d_h0, *h0.shape),
        "before": scan.made(None, scan.rows, scan.size),
    }
    given = scan.read(d_out=d_out, d_h=d_h, h0=h0, w_hh=w_hh, out=out, acts=acts)
    scan.run("gru_backward", "gru_backward", {**given, **results})
    recurrent = results["d_recurrent"]
    if d_b is not None:
        scan.plan.steps.append(_sum_of_rows(recurrent, d_b))
    return scan.plan.steps if scan.multiply(swapped(recurrent), results["before"], d_w) else None


def _sum_of_rows(matrix: Ref, out: Value) -> KernelStep:
    """A contiguous matrix summed over its rows."""
    rows, columns = matrix.shape
    body = (Load(0, (1, columns), 0, FLOAT), Reduce("sum", 0, FLOAT), Store(1, (1, 0), 0, 1, FLOAT))
    return KernelStep(Kernel((columns, rows), 1, body, 2), (matrix.value, out), (matrix.value,), (out,))


@lowering("rnn_scan")
def rnn(node: Node, low: Lowering) -> list[Step] | None:
    """Inputs gates, h0, w_hh; results out, h_n."""
    gates, h0, w_hh = node.inputs
    if not _suits(node, w_hh, gates, h0):
        return None
    scan = Scan(node, low, "rnn", w_hh)
    results = [scan.made(value, *shape) for value, shape in zip(node.outputs, [(scan.rows, scan.size), h0.shape])]
    scan.run("rnn_relu" if node.attrs["relu"] else "rnn_tanh", "rnn", {
        **scan.read(gates=gates, h0=h0, w_hh=w_hh), **dict(zip(("out", "h_n"), results)),
    })  # fmt: skip
    return scan.plan.steps


@lowering("rnn_scan_backward")
def rnn_backward(node: Node, low: Lowering) -> list[Step] | None:
    """Results: gradients of gates, h0, w_hh."""
    d_out, d_h, h0, w_hh, out = node.inputs
    if not _suits(node, w_hh, d_out, d_h, h0, out):
        return None
    scan = Scan(node, low, "rnn", w_hh)
    d_gates, d_h0, d_w = node.outputs
    results = {
        "d_gates": scan.made(d_gates, scan.rows, scan.size),
        "d_h0": scan.made(d_h0, *h0.shape),
        "before": scan.made(None, scan.rows, scan.size),
    }
    given = scan.read(d_out=d_out, d_h=d_h, h0=h0, w_hh=w_hh, out=out)
    scan.run("rnn_relu_backward" if node.attrs["relu"] else "rnn_tanh_backward", "rnn_backward", {**given, **results})
    fine = scan.multiply(swapped(results["d_gates"]), results["before"], d_w)
    return scan.plan.steps if fine else None
