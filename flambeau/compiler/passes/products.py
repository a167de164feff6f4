"""What can be saved on products of matrices before they are lowered.

Columns that nobody reads are not computed: behind `cat([image, embedding(label)], 1)` the backward pass wants the
gradient of the embedding only. Gradients that meet are computed as one: products that are added up, to each other or to
what was there before, become one node "@products" (`lower/skinny.py`), which holds the sums in registers.
"""

from __future__ import annotations

import numpy as np

from flambeau.compiler.graph import Graph, Node, Ref, Value
from flambeau.compiler.lower.skinny import MOST, way
from flambeau.compiler.passes.readers import Readers, shows_all

FLOAT = np.dtype(np.float32)


def arrange_products(graph: Graph, threads: int) -> None:
    """Narrow and join the products of a graph, in place."""
    narrow(graph)
    join(graph, threads)


# ---- columns that nobody reads -----------------------------------------------------------------------


def narrow(graph: Graph) -> int:
    """Shrink matrix products to the columns that are read; how many were shrunk."""
    made = {value: node for node in graph.nodes if node.op == "matmul" for value in node.outputs if is_matrix(value)}
    outside = {ref.value for ref in (*graph.outputs, *graph.writes.values())}
    shown: dict[Value, list[Ref]] = {}
    for node in graph.nodes:
        for ref in node.refs:
            if ref.value in made and ref.value not in outside:
                shown.setdefault(ref.value, []).append(ref)
    smaller: dict[Value, tuple[Value, int]] = {}
    for value, refs in shown.items():
        spans = [columns_of(ref) for ref in refs]
        known = [span for span in spans if span is not None]
        if len(known) < len(spans):
            continue
        first, last = min(a for a, _ in known), max(b for _, b in known)
        rows, columns = value.shape
        if last - first + 1 == columns:
            continue
        part = graph.value((rows, last - first + 1), (last - first + 1, 1), value.dtype)
        node = made[value]
        x, y = node.inputs
        window = Ref(y.value, (y.shape[0], part.shape[1]), y.strides, y.offset + first * y.strides[1])
        node.inputs, node.outputs = [x, window], [part]
        part.node, value.node = node, None
        smaller[value] = part, first
    for node in graph.nodes if smaller else ():
        node.inputs = [moved(x, *smaller[x.value]) if isinstance(x, Ref) and x.value in smaller else x
                       for x in node.inputs]  # fmt: skip
    return len(smaller)


def is_matrix(value: Value | None) -> bool:
    """Whether a value is a float32 matrix that lies row after row."""
    return value is not None and value.dtype == FLOAT and len(value.shape) == 2 and value.strides == (value.shape[1], 1)


def columns_of(ref: Ref) -> tuple[int, int] | None:
    """The first and the last column that a window on a matrix shows; None if that cannot be told."""
    columns = ref.value.shape[1]
    first = last = ref.offset % columns
    for n, step in zip(ref.shape, ref.strides):
        if step < 0 or (step > columns and step % columns):
            return None
        if step < columns:
            last += (n - 1) * step
    return (first, last) if last < columns else None


def moved(ref: Ref, part: Value, first: int) -> Ref:
    """The same window on a value that has some columns only."""
    columns, left = ref.value.shape[1], part.shape[1]
    strides = tuple(step // columns * left if step >= columns else step for step in ref.strides)
    return Ref(part, ref.shape, strides, ref.offset // columns * left + ref.offset % columns - first)


# ---- products that are added up ------------------------------------------------------------------------


def join(graph: Graph, threads: int) -> int:
    """Make additions of products, which nobody else reads, one node; how many there are."""
    readers = Readers(graph)
    makers = {value: node for node in graph.nodes for value in node.outputs if value is not None}
    gone: set[Node] = set()
    replaced: dict[Node, Node] = {}
    for node in graph.nodes:
        out = node.outputs[0]
        if node.op != "add" or node.attrs or len(node.inputs) != 2 or out is None or not is_matrix(out):
            continue
        if not all(isinstance(x, Ref) and is_matrix(x.value) and shows_all(x, x.value) and x.shape == out.shape
                   for x in node.inputs):  # fmt: skip
            continue
        parts = {x.value: makers.get(x.value) for x in node.inputs if readers.only(x.value) is node}
        found = [maker for maker in parts.values() if maker is not None and joins(maker)][:MOST]
        if not found:
            continue
        for count in range(len(found), 0, -1):
            joined = found[:count]
            others = [x for x in node.inputs if parts.get(x.value) not in joined]
            pairs = [(maker.inputs[0], maker.inputs[1]) for maker in joined]
            if len(others) + count == 2 and way(pairs, out.whole(), threads, start=others[0] if others else None):
                operands = [*(ref for pair in pairs for ref in pair), *others]
                replaced[node] = Node("@products", operands, {"count": count}, [out], node.line)
                gone.update(joined)
                break
    graph.nodes = [replaced.get(node, node) for node in graph.nodes if node not in gone]
    return len(replaced)


def joins(node: Node) -> bool:
    """Whether a node is the product of two matrices."""
    return node.op == "matmul" and all(
        isinstance(x, Ref) and len(x.shape) == 2 and x.dtype == FLOAT for x in node.inputs
    )
