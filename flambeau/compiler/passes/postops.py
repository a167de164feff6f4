"""What follows a convolution or a matrix product, done by the primitive before it stores its result.

`convolution → add(residual) → relu` becomes one node "convolution_chain" with the attribute `post`, a tuple of
    ("add",)                 plus the next further input, of the result's shape
    ("relu",)                times the next further input, a single 0, where not above 0: nan stays nan
    ("leaky_relu", slope)
if nobody else reads what lies between. Whether oneDNN has a kernel for it is asked before anything is changed.
Products take no additions: those are gradients meeting, and the loop of the optimizer that reads them adds for nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.backends.onednn import available
from flambeau.compiler.graph import Graph, Node, Ref, Value, same_order
from flambeau.compiler.lower import convolution, products  # noqa: F401  registers the lowerings that are asked
from flambeau.compiler.passes.readers import Readers, shows_all
from flambeau.compiler.steps import LOWERINGS, Lowering

FLOAT = np.dtype(np.float32)
CHAINS = {"convolution": "convolution_chain", "linear": "linear_chain"}
LONGEST = 4


def fuse_post_ops(graph: Graph, threads: int = 1) -> int:
    """Replace layers and what follows them by chains, in place; how many chains there are now."""
    if not available():
        return 0
    readers = Readers(graph)
    zero: list[Value] = []
    taken: set[Node] = set()
    replaced: dict[Node, Node] = {}
    for layer in graph.nodes:
        if layer.op not in CHAINS or layer in taken:
            continue
        chain = following(layer, readers, taken)
        while chain:
            made = joined(graph, layer, chain, zero)
            if LOWERINGS[made.op](made, Lowering(graph, threads)) is not None:
                break
            layer_output(chain[-1]).node = chain[-1]
            chain.pop()
        if chain:
            taken.update((layer, *chain))
            replaced[chain[-1]] = made
    graph.nodes = [replaced.get(node, node) for node in graph.nodes if node not in taken or node in replaced]
    return len(replaced)


def layer_output(node: Node) -> Value:
    value = node.outputs[0]
    assert value is not None
    return value


def following(layer: Node, readers: Readers, taken: set[Node]) -> list[Node]:
    """The nodes that can be joined to a layer, in order."""
    chain: list[Node] = []
    last = layer
    while len(chain) < LONGEST:
        node = readers.only(last.outputs[0])
        if node is None or node in taken or not joins(node, layer_output(last)):
            break
        if node.op == "add" and layer.op != "convolution":
            break
        chain.append(node)
        last = node
        if node.op != "add":
            break
    return chain


def joins(node: Node, value: Value) -> bool:
    """Whether a node does to all of the value what a post-op can do."""
    out = node.outputs[0]
    if (
        out is None
        or out.dtype != FLOAT
        or out.shape != value.shape
        or not same_order(out.shape, out.strides, value.strides)
    ):
        return False
    if node.op == "relu":
        return shows_all(node.inputs[0], value)
    if node.op == "leaky_relu":
        return shows_all(node.inputs[0], value) and node.attrs["negative_slope"] != 0
    return node.op == "add" and len(node.inputs) == 2 and other_of(node, value) is not None


def other_of(node: Node, value: Value) -> Ref | None:
    """The operand added to the value, if it has the value's shape, type and order."""
    operands = [ref for ref in node.inputs if isinstance(ref, Ref)]
    mine = [ref for ref in operands if shows_all(ref, value)]
    others = [ref for ref in operands if ref.value is not value]
    if len(mine) != 1 or len(others) != 1:
        return None
    (other,) = others
    fits = other.dtype == FLOAT and other.shape == value.shape and same_order(other.shape, other.strides, value.strides)
    return other if fits else None


def joined(graph: Graph, layer: Node, chain: list[Node], zero: list[Value]) -> Node:
    """The layer with the chain as post-ops."""
    post: list[tuple[Any, ...]] = list(layer.attrs.get("post", ()))
    inputs = list(layer.inputs)
    last = layer
    for node in chain:
        if node.op == "add":
            post.append(("add",))
            inputs.append(other_of(node, layer_output(last)))
        elif node.op == "relu":
            post.append(("relu",))
            inputs.append(zero_of(graph, zero).whole())
        else:
            post.append(("leaky_relu", float(node.attrs["negative_slope"])))
        last = node
    return Node(CHAINS[layer.op], inputs, {**layer.attrs, "post": tuple(post)}, last.outputs, layer.line)


def zero_of(graph: Graph, zero: list[Value]) -> Value:
    """The constant [0.0], made when it is first wanted."""
    if not zero:
        zero.append(graph.value((1,), (1,), FLOAT))
        graph.constants[zero[0]] = np.zeros(1, FLOAT)
    return zero[0]


def release_bias(graph: Graph) -> int:
    """Make the bias of transposed convolutions an addition, to be fused with what follows; how many there were.

    oneDNN would need a pass for it.
    """
    nodes: list[Node] = []
    count = 0
    for node in graph.nodes:
        if node.op != "transposed_convolution" or node.inputs[2] is None or node.outputs[0] is None:
            nodes.append(node)
            continue
        out, (y, w, bias) = node.outputs[0], node.inputs
        between = graph.value(out.shape, out.strides, out.dtype)
        spatial = (1,) * (len(out.shape) - 2)
        along = Ref(bias.value, (1, *bias.shape, *spatial), (0, *bias.strides, *(0 for _ in spatial)), bias.offset)
        nodes.append(Node(node.op, [y, w, None], node.attrs, [between], node.line))
        added = Node("add", [between.whole(), along], {}, [out], node.line)
        added.compute = out.dtype
        nodes.append(added)
        count += 1
    graph.nodes = nodes
    return count
