"""From graph to steps for code that stands alone: no library, no Python.

Fused kernels, pooling, copies and recurrences are those of the compiler; products and convolutions are routines of
products.py. What has no lowering cannot be exported, and the error names it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product as combinations
from typing import Any

import numpy as np

from flambeau.compiler.graph import Graph, Node, Ref, Value
from flambeau.compiler.kernel import Apply, Instruction, Kernel, Load, Number, Reduce, Store
from flambeau.compiler.lower import maxima, moves, recurrent  # noqa: F401  (they register lowerings)
from flambeau.compiler.lower.maxima import Body, segments
from flambeau.compiler.lower.moves import copy_step, fill_step
from flambeau.compiler.lower.nodes import kernel_step, wanted_outside
from flambeau.compiler.passes.decompose import contiguous
from flambeau.compiler.passes.fuse import fuse
from flambeau.compiler.steps import LOWERINGS, KernelStep, Lowering, RoutineStep, Step
from flambeau.export.products import Axis, Product, emitter, pack, panels, tiling
from flambeau.export.target import Target

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
OURS = frozenset({"max_pool", "@update", "rejoin", "restack", "cat", "stack", "reshape_copy", "@copy", "to_copy",
                  "contiguous", "lstm_scan", "gru_scan", "rnn_scan", "index_add", "index_copy"})

Lower = Callable[["Exporter", Node], "list[Step] | None"]
RULES: dict[str, Lower] = {}


def rule(*names: str) -> Callable[[Lower], Lower]:
    """Register how nodes of these kinds are lowered."""

    def register(function: Lower) -> Lower:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


class Exporter:
    """Lowers the nodes of one graph for one target."""

    def __init__(self, graph: Graph, target: Target):
        self.graph = graph
        self.target = target
        self.low = Lowering(graph, 1)

    def steps(self) -> list[Step]:
        """All steps, in order. RuntimeError for an operation that needs Python."""
        groups, positions = fuse(self.graph, 1)
        wanted = wanted_outside(self.graph, groups)
        found: list[Step] = []
        for group in groups:
            if group.fused:
                found.append(kernel_step(group, positions, wanted))
            else:
                found += self.node(group.members[0])
        return found

    def node(self, node: Node) -> list[Step]:
        """The steps of a node that was not fused."""
        made = None
        if node.op in RULES:
            made = RULES[node.op](self, node)
        elif node.op in OURS:
            made = LOWERINGS[node.op](node, self.low)
        if made is None:
            line = f" ({node.line[0]}:{node.line[1]})" if node.line else ""
            given = ", ".join(f"{x.dtype}{list(x.shape)}" if isinstance(x, Ref) else repr(x) for x in node.inputs)
            raise RuntimeError(f"export: there is no native code for {node.op}({given}){line}")
        return made

    def constant(self, array: np.ndarray) -> Ref:
        """A constant in plain order."""
        value = self.graph.value(array.shape, contiguous(array.shape), array.dtype)
        self.graph.constants[value] = np.ascontiguousarray(array)
        return value.whole()

    def known(self, ref: Ref) -> np.ndarray | None:
        """The values of a constant operand."""
        from flambeau.compiler.interpreter import window

        array = self.graph.constants.get(ref.value)
        return None if array is None else window(array, ref)

    def temporary(self, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype) -> Value:
        return self.graph.value(shape, strides, dtype)

    def packed(self, b: Ref, panel: int, steps: list[Step]) -> tuple[Ref, int]:
        """B (outer, inner, columns) in panels, and how far one matrix is from the next: packed now, or by steps."""
        outer, inner, columns = b.shape
        size = panels(columns, panel) * inner * panel
        array = self.known(b)
        if array is not None:
            return self.constant(pack(array, panel)), size
        whole, rest = divmod(columns, panel)
        shape = (outer, panels(columns, panel), inner, panel)
        value = self.temporary(shape, contiguous(shape), b.dtype)
        so, sk, sc = b.strides
        if whole:
            source = Ref(b.value, (outer, whole, inner, panel), (so, panel * sc, sk, sc), b.offset)
            steps.append(copy_step(source, value, 0, value.strides))
        if rest:
            start = whole * inner * panel
            last = (size, panel, 1)
            source = Ref(b.value, (outer, inner, rest), (so, sk, sc), b.offset + whole * panel * sc)
            steps.append(copy_step(source, value, start, last))
            steps.append(fill_step(0, value, (outer, inner, panel - rest), start + rest, last))
        return value.whole(), size

    def padded_bias(self, bias: Ref, panel: int, steps: list[Step]) -> Ref:
        """A bias (outer, columns) with room for whole panels."""
        made, _ = self.packed(Ref(bias.value, (bias.shape[0], 1, bias.shape[1]), (bias.strides[0], 0, bias.strides[1]),
                                  bias.offset), panel, steps)
        return made


def post_of(node: Node) -> tuple[tuple[tuple[Any, ...], ...], list[Ref]]:
    """The post-ops of a chain and the operands of its additions."""
    post = tuple(node.attrs.get("post", ()))
    rest = iter(node.inputs[3:])
    others = []
    for step in post:
        if step[0] in ("add", "relu"):
            operand = next(rest)
            if step[0] == "add":
                others.append(operand)
    return post, others


# ---- products ------------------------------------------------------------------------------------------


@rule("linear", "linear_chain")
def _linear(e: Exporter, node: Node) -> list[Step] | None:
    x, w, bias = node.inputs[:3]
    out = node.outputs[0]
    post, others = post_of(node)
    if out is None or not _floats(x, w, *others) or not all(x.shape):
        return None
    steps: list[Step] = []
    tile = tiling(e.target, w.dtype, math.prod(x.shape[:-1]), w.shape[0])
    b, _ = e.packed(Ref(w.value, (1, w.shape[1], w.shape[0]), (0, w.strides[1], w.strides[0]), w.offset), tile.panel,
                    steps)
    operands = [x, b]
    if bias is not None:
        operands.append(e.padded_bias(Ref(bias.value, (1, *bias.shape), (0, *bias.strides), bias.offset), tile.panel,
                                      steps))
    target = out.whole()
    rows = tuple(Axis(n, a=x.strides[d], out=target.strides[d], others=tuple(o.strides[d] for o in others))
                 for d, n in enumerate(x.shape[:-1]))
    made = Product(w.dtype.name, (), merged(rows), (Axis(x.shape[-1], a=x.strides[-1]),),
                   Axis(w.shape[0], out=target.strides[-1], others=tuple(o.strides[-1] for o in others)),
                   bias is not None, post)
    return [*steps, RoutineStep(made.key(), emitter(made, tile, e.target), (*operands, *others, target))]


@rule("matmul")
def _matmul(e: Exporter, node: Node) -> list[Step] | None:
    x, y = node.inputs
    out = node.outputs[0]
    if out is None or not _floats(x, y) or not all(x.shape) or not all(y.shape):
        return None
    shapes = [ref.shape for ref in (x, y)]
    # Vectors are matrices with one row or column.
    xs, xt = ((1, *x.shape), (0, *x.strides)) if len(x.shape) == 1 else (x.shape, x.strides)
    ys, yt = ((*y.shape, 1), (*y.strides, 0)) if len(y.shape) == 1 else (y.shape, y.strides)
    shape, strides = list(out.shape), list(out.strides)
    if len(shapes[1]) == 1:
        shape, strides = [*shape, 1], [*strides, 0]
    if len(shapes[0]) == 1:
        shape, strides = [*shape[:-1], 1, shape[-1]], [*strides[:-1], 0, strides[-1]]
    batch = len(shape) - 2

    def along(given: tuple[int, ...], steps: tuple[int, ...]) -> list[int]:
        more = batch - (len(given) - 2)
        return [0] * more + [0 if n == 1 else t for n, t in zip(given[:-2], steps)]

    steps: list[Step] = []
    tile = tiling(e.target, x.dtype, shape[-2], shape[-1])
    matrices = list(ys[:-2])
    flat = _flat_batch(e, Ref(y.value, ys, yt, y.offset), steps)
    b, size = e.packed(flat, tile.panel, steps)
    b_strides, step = [0] * batch, size
    for d in reversed(range(len(matrices))):
        if matrices[d] != 1:
            b_strides[batch - len(matrices) + d] = step
        step *= matrices[d]
    outer = tuple(Axis(n, a=a, b=bs, out=o) for n, a, bs, o in zip(shape, along(xs, xt), b_strides, strides))
    made = Product(x.dtype.name, outer, (Axis(shape[-2], a=xt[-2], out=strides[-2]),), (Axis(xs[-1], a=xt[-1]),),
                   Axis(shape[-1], out=strides[-1]))
    return [*steps, RoutineStep(made.key(), emitter(made, tile, e.target), (x, b, out.whole()))]


def _flat_batch(e: Exporter, y: Ref, steps: list[Step]) -> Ref:
    """The matrices of y (…, K, N) as (count, K, N), copied if their strides do not allow it."""
    batch, inner = y.shape[:-2], y.shape[-2:]
    axes = merged(tuple(Axis(n, a=s) for n, s in zip(batch, y.strides)))
    if len(axes) <= 1:
        size, stride = (axes[0].size, axes[0].a) if axes else (1, 0)
        return Ref(y.value, (size, *inner), (stride, *y.strides[-2:]), y.offset)
    value = e.temporary(y.shape, contiguous(y.shape), y.dtype)
    steps.append(copy_step(y, value, 0, value.strides))
    return Ref(value, (math.prod(batch), *inner), (math.prod(inner), inner[1], 1), 0)


def merged(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """The same loops in fewer: neighbours that everything walks as one, and none of size 1."""
    found: list[Axis] = []
    for axis in axes:
        if axis.size == 1:
            continue
        if found:
            last, n = found[-1], axis.size
            if (last.a == axis.a * n and last.out == axis.out * n and last.b == axis.b * n
                    and all(p == q * n for p, q in zip(last.others, axis.others))):
                found[-1] = Axis(last.size * n, axis.a, axis.b, axis.out, axis.others)
                continue
        found.append(axis)
    return tuple(found) or axes[:1] or (Axis(1),)


# ---- convolution -----------------------------------------------------------------------------------------


@rule("convolution", "convolution_chain")
def _convolution(e: Exporter, node: Node) -> list[Step] | None:
    x, w, bias = node.inputs[:3]
    out = node.outputs[0]
    post, others = post_of(node)
    if out is None or not _floats(x, w, *others) or not all(x.shape):
        return None
    attrs = node.attrs
    steps: list[Step] = []
    x = padded(e, x, attrs["padding"], steps)
    groups, rank = attrs["groups"], len(w.shape) - 2
    columns, channels = w.shape[0] // groups, w.shape[1]
    places = math.prod(out.shape[2:])
    tile = tiling(e.target, w.dtype, places, columns)
    target = out.whole()
    inner = [Axis(n, a=s, b=t) for n, s, t in zip(
        w.shape[1:], (x.strides[1], *(s * d for s, d in zip(x.strides[2:], attrs["dilation"]))), w.strides[1:])]
    inner.sort(key=lambda axis: -axis.a)
    b, size = e.packed(_weights(e, w, groups, inner, steps), tile.panel, steps)
    operands = [x, b]
    width = panels(columns, tile.panel) * tile.panel
    if bias is not None:
        operands.append(e.padded_bias(Ref(bias.value, (groups, columns), (bias.strides[0] * columns, bias.strides[0]),
                                          bias.offset), tile.panel, steps))

    def axis(n: int, d: int, a: int) -> Axis:
        return Axis(n, a=a, out=target.strides[d], others=tuple(o.strides[d] for o in others))

    rows = tuple(axis(out.shape[d], d, x.strides[d] * attrs["stride"][d - 2]) for d in range(2, 2 + rank))
    group = Axis(groups, a=x.strides[1] * channels, b=size, out=target.strides[1] * columns,
                 others=tuple(o.strides[1] * columns for o in others), bias=width)
    outer = (axis(x.shape[0], 0, x.strides[0]), *([group] if groups > 1 else []))
    made = Product(w.dtype.name, outer, merged(rows), tuple(Axis(i.size, a=i.a) for i in merged_inner(inner)),
                   axis(columns, 1, 0), bias is not None, post)
    return [*steps, RoutineStep(made.key(), emitter(made, tile, e.target), (*operands, *others, target))]


def merged_inner(inner: list[Axis]) -> list[Axis]:
    """The inner dimension in fewer loops; B is packed in its order anyway."""
    found: list[Axis] = []
    for axis in inner:
        if axis.size == 1:
            continue
        if found and found[-1].a == axis.a * axis.size:
            found[-1] = Axis(found[-1].size * axis.size, a=axis.a)
        else:
            found.append(Axis(axis.size, a=axis.a))
    return found or [Axis(1)]


def _weights(e: Exporter, w: Ref, groups: int, inner: list[Axis], steps: list[Step]) -> Ref:
    """The weight as (groups, inner, columns), the inner dimension in the order of the loops."""
    columns = w.shape[0] // groups
    sizes, strides = [axis.size for axis in inner], [axis.b for axis in inner]
    depth = math.prod(sizes)
    view = Ref(w.value, (groups, *sizes, columns), (w.strides[0] * columns, *strides, w.strides[0]), w.offset)
    array = e.known(view)
    if array is not None:
        return e.constant(array.reshape(groups, depth, columns))
    value = e.temporary(view.shape, contiguous(view.shape), w.dtype)
    steps.append(copy_step(view, value, 0, value.strides))
    return Ref(value, (groups, depth, columns), (depth * columns, columns, 1), 0)


def padded(e: Exporter, x: Ref, padding: Any, steps: list[Step]) -> Ref:
    """The image with zeros around it, in the order of memory that it has; itself without padding."""
    if not any(any(pair) for pair in padding):
        return x
    if any(n < 0 for pair in padding for n in pair):
        inside = [max(0, -lo) for lo, _ in padding]
        sizes = [n - max(0, -lo) - max(0, -hi) for n, (lo, hi) in zip(x.shape[2:], padding)]
        x = Ref(x.value, (*x.shape[:2], *sizes), x.strides,
                x.offset + sum(i * s for i, s in zip(inside, x.strides[2:])))
        padding = [(max(0, lo), max(0, hi)) for lo, hi in padding]
    shape = (*x.shape[:2], *(n + lo + hi for n, (lo, hi) in zip(x.shape[2:], padding)))
    order = sorted(range(len(shape)), key=lambda d: (-x.strides[d], d))
    strides, step = [0] * len(shape), 1
    for d in reversed(order):
        strides[d] = step
        step *= shape[d]
    value = e.temporary(shape, tuple(strides), x.dtype)
    start = sum(lo * s for (lo, _), s in zip(padding, strides[2:]))
    steps.append(fill_step(0, value, shape, 0, value.strides))
    steps.append(copy_step(x, value, start, value.strides))
    return value.whole()


@rule("transposed_convolution")
def _transposed(e: Exporter, node: Node) -> list[Step] | None:
    """As a convolution over the input with zeros between its elements, with the kernel turned around."""
    y, w, bias = node.inputs[:3]
    out = node.outputs[0]
    attrs = node.attrs
    array = e.known(w)
    if out is None or not _floats(y, w) or array is None:
        return None
    groups, rank = attrs["groups"], len(w.shape) - 2
    kernel, stride, dilation = w.shape[2:], attrs["stride"], attrs["dilation"]
    steps: list[Step] = []
    reach = [(k - 1) * d for k, d in zip(kernel, dilation)]
    sizes = [o + r for o, r in zip(out.shape[2:], reach)]
    starts = [r - lo for r, (lo, _) in zip(reach, attrs["padding"])]
    if any(s < 0 for s in starts) or any(s + (n - 1) * t >= size for s, n, t, size in zip(
            starts, y.shape[2:], stride, sizes)):
        return None
    shape = (*y.shape[:2], *sizes)
    value = e.temporary(shape, contiguous(shape), y.dtype)
    spread = (*value.strides[:2], *(s * t for s, t in zip(value.strides[2:], stride)))
    steps.append(fill_step(0, value, shape, 0, value.strides))
    steps.append(copy_step(y, value, sum(s * t for s, t in zip(starts, value.strides[2:])), spread))
    # (in, out / groups, …) -> (out, in / groups, …), windows turned around.
    turned = array.reshape(groups, -1, *w.shape[1:]).swapaxes(1, 2)
    turned = np.flip(turned, tuple(range(3, 3 + rank))).reshape(-1, w.shape[0] // groups, *kernel)
    plain = {"padding": ((0, 0),) * rank, "stride": (1,) * rank, "dilation": dilation, "groups": groups}
    inside = Node("convolution", [value.whole(), e.constant(turned), bias], plain, [out], node.line)
    rest = _convolution(e, inside)
    out.node = node
    return None if rest is None else steps + rest


# ---- moving ----------------------------------------------------------------------------------------------


@rule("constant_pad")
def _constant_pad(e: Exporter, node: Node) -> list[Step] | None:
    """A border of one value around the last dimensions; negative numbers cut off."""
    x, out = node.inputs[0], node.outputs[0]
    if out is None or not isinstance(x, Ref) or not moves.simple(x, out):
        return None
    pairs = [(0, 0)] * (len(x.shape) - len(node.attrs["padding"])) + list(node.attrs["padding"])
    steps: list[Step] = [fill_step(node.attrs["value"], out, out.shape, 0, out.strides)]
    sizes = [n + min(lo, 0) + min(hi, 0) for n, (lo, hi) in zip(x.shape, pairs)]
    if all(n > 0 for n in sizes):
        seen = x.offset - sum(min(lo, 0) * s for (lo, _), s in zip(pairs, x.strides))
        start = sum(max(lo, 0) * s for (lo, _), s in zip(pairs, out.strides))
        steps.append(copy_step(Ref(x.value, tuple(sizes), x.strides, seen), out, start, out.strides))
    return steps


@rule("roll")
def _roll(e: Exporter, node: Node) -> list[Step] | None:
    """Blocks that change places."""
    x, out, dims = node.inputs[0], node.outputs[0], node.attrs["dims"]
    if out is None or not isinstance(x, Ref) or dims is None or not moves.simple(x, out) or not all(x.shape):
        return None
    by = [0] * len(x.shape)
    for shift, dim in zip(node.attrs["shifts"], dims):
        by[dim] = (by[dim] + shift) % x.shape[dim]
    parts = [[(0, n, 0)] if not s else [(0, n - s, s), (n - s, s, 0)] for n, s in zip(x.shape, by)]
    steps: list[Step] = []
    for part in combinations(*parts):
        seen = x.offset + sum(first * s for (first, _, _), s in zip(part, x.strides))
        start = sum(to * s for (_, _, to), s in zip(part, out.strides))
        source = Ref(x.value, tuple(n for _, n, _ in part), x.strides, seen)
        steps.append(copy_step(source, out, start, out.strides))
    return steps


@rule("repeat")
def _repeat(e: Exporter, node: Node) -> list[Step] | None:
    """Copies side by side."""
    x, out, times = node.inputs[0], node.outputs[0], node.attrs["times"]
    if out is None or not isinstance(x, Ref) or not moves.simple(x, out) or not all(out.shape):
        return None
    more = len(times) - len(x.shape)
    sizes, strides = (*(1,) * more, *x.shape), (*(0,) * more, *x.strides)
    shape = tuple(n for pair in zip(times, sizes) for n in pair)
    seen = tuple(s for pair in zip((0,) * len(times), strides) for s in pair)
    to = tuple(s for size, step in zip(sizes, out.strides) for s in (size * step, step))
    return [copy_step(Ref(x.value, shape, seen, x.offset), out, 0, to)]


# ---- pooling ---------------------------------------------------------------------------------------------


@rule("avg_pool")
def _avg_pool(e: Exporter, node: Node) -> list[Step] | None:
    x, out, attrs = node.inputs[0], node.outputs[0], node.attrs
    if out is None or not _floats(x) or not all(x.shape):
        return None
    axes = []
    for n, k, s, p, count in zip(x.shape[2:], *(attrs[name] for name in ("kernel", "stride", "padding", "count"))):
        windows = []
        for o in range(count):
            first, last = o * s - p, min(o * s - p + k, n + p)
            low, high = max(first, 0), min(last, n)
            counted = last - first if attrs["include_pad"] else high - low
            windows.append((low - o * s, high - low, counted))
        axes.append([(start, length, s, common) for start, length, common in segments(windows)])
    return _means(x, out, axes, attrs["divisor"])


@rule("adaptive_avg_pool")
def _adaptive_avg_pool(e: Exporter, node: Node) -> list[Step] | None:
    x, out = node.inputs[0], node.outputs[0]
    if out is None or not _floats(x) or not all(x.shape):
        return None
    axes = []
    for n, count in zip(x.shape[2:], node.attrs["count"]):
        if n % count == 0:
            axes.append([(0, count, n // count, (0, n // count, n // count))])
            continue
        bins = [(i * n // count, -(-(i + 1) * n // count)) for i in range(count)]
        axes.append([(i, 1, 0, (low, high - low, high - low)) for i, (low, high) in enumerate(bins)])
    return _means(x, out, axes, None)


def _means(x: Ref, out: Value, axes: list[Any], divisor: int | None) -> list[Step]:
    """Means of windows. Each axis is a list of (first, how many, stride, (start - first * stride, size, counted))."""
    steps: list[Step] = []
    target = out.whole()
    for part in combinations(*axes):
        counts = [length for _, length, _, _ in part]
        sizes = [size for _, _, _, (_, size, _) in part]
        start = x.offset + sum((first * s + low) * t for (first, _, s, (low, _, _)), t in zip(part, x.strides[2:]))
        to = target.offset + sum(first * t for (first, _, _, _), t in zip(part, target.strides[2:]))
        by = divisor or math.prod(counted for _, _, _, (_, _, counted) in part)
        seen = (*x.strides[:2], *(s * t for (_, _, s, _), t in zip(part, x.strides[2:])))
        rank = len(sizes)
        if 0 in sizes:
            raise RuntimeError("export: an average over a window that holds nothing but padding")
        if math.prod(sizes) <= 16:
            body = Body()
            total = -1
            for where in combinations(*map(range, sizes)):
                offset = start - x.offset + sum(i * t for i, t in zip(where, x.strides[2:]))
                value = body.load(x, seen, offset)
                total = value if total < 0 else body.apply("add", total, value, dtype=x.dtype)
            mean = body.apply("div", total, body.number(by, x.dtype), dtype=x.dtype)
            body.store(target, target.strides, to - target.offset, mean)
            steps.append(body.step((*x.shape[:2], *counts), out))
            continue
        shape = (*x.shape[:2], *counts, *sizes)
        lines: list[Instruction] = [
            Load(0, (*seen, *x.strides[2:]), start, x.dtype), Reduce("sum", 0, x.dtype), Number(by, x.dtype),
            Apply("div", (1, 2), (), x.dtype), Store(1, (*target.strides, *(0,) * rank), to, 3, x.dtype),
        ]  # fmt: skip
        steps.append(KernelStep(Kernel(shape, rank, tuple(lines), 2), (x.value, out), (x.value,), (out,)))
    return steps


def _floats(*refs: Any) -> bool:
    given = [ref for ref in refs if ref is not None]
    return all(isinstance(ref, Ref) and ref.dtype in FLOATS and ref.dtype == given[0].dtype for ref in given)
