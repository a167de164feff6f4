"""Normalisation with fixed statistics folded into the convolution or linear layer before it.

In eval mode batch norm is y * scale + shift per channel ("channel_affine"), with scale and shift computed from state.
    (w * x + b) * scale + shift  =  (w * scale) * x + (b * scale + shift)
so that nothing is left to do per image. The new weight is computed by nodes on state: once per change of it.
Rounding differs in the last place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flambeau.compiler.graph import Graph, Node, Ref, Value
from flambeau.compiler.passes.readers import Readers, Steady, shows_all

FLOAT = np.dtype(np.float32)
LAYERS = frozenset({"convolution", "linear"})  # output channels are the first axis of the weight, axis 1 of the result


def fold_batch_norm(graph: Graph) -> int:
    """Fold every `channel_affine` that follows a layer with a steady weight; how many there were."""
    readers, steady = Readers(graph), Steady(graph)
    replaced: dict[Node, list[Node]] = {}
    for layer in graph.nodes:
        norm = readers.only(layer.outputs[0]) if layer.op in LAYERS else None
        if norm is None or norm.op != "channel_affine" or not folds(layer, norm, steady):
            continue
        replaced[layer] = []
        replaced[norm] = folded(graph, layer, norm)
    graph.nodes = [made for node in graph.nodes for made in replaced.get(node, [node])]
    return len(replaced) // 2


def folds(layer: Node, norm: Node, steady: Steady) -> bool:
    """Whether scale and shift are vectors of channels, in single precision, and all parameters are steady."""
    x, scale, shift = norm.inputs
    w, bias = layer.inputs[1:3]
    result = layer.outputs[0]
    if not shows_all(x, result) or result is None or len(result.shape) < 2:
        return False
    if layer.op == "linear" and len(result.shape) != 2:
        return False
    channels = result.shape[1]
    vector = (1, channels, *(1,) * (len(result.shape) - 2))
    for given in (scale, shift):
        if not isinstance(given, Ref) or given.shape != vector:
            return False
    parameters = [ref for ref in (w, bias, scale, shift) if ref is not None]
    return all(ref.dtype == FLOAT and steady(ref.value) for ref in parameters)


def folded(graph: Graph, layer: Node, norm: Node) -> list[Node]:
    """The nodes that compute weight and bias, and the layer with them."""
    x, w, bias = layer.inputs
    scale, shift = (Ref(ref.value, (ref.shape[1],), (ref.strides[1],), ref.offset) for ref in norm.inputs[1:])
    along = Ref(
        scale.value,
        (*scale.shape, *(1,) * (len(w.shape) - 1)),
        (*scale.strides, *(0,) * (len(w.shape) - 1)),
        scale.offset,
    )
    weight, nodes = elementwise(graph, "mul", [w, along], w.shape)
    if bias is None:
        offset = shift
    else:
        scaled, more = elementwise(graph, "mul", [bias, scale], bias.shape)
        offset_value, last = elementwise(graph, "add", [scaled.whole(), shift], bias.shape)
        offset, nodes = offset_value.whole(), [*nodes, *more, *last]
    return [*nodes, Node(layer.op, [x, weight.whole(), offset], layer.attrs, norm.outputs, layer.line)]


def elementwise(graph: Graph, op: str, inputs: Sequence[Ref], shape: tuple[int, ...]) -> tuple[Value, list[Node]]:
    """A node of single precision, contiguous result."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    value = graph.value(shape, tuple(reversed(strides)), FLOAT)
    node = Node(op, list(inputs), {}, [value])
    node.compute = FLOAT
    return value, [node]
