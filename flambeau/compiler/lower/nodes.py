"""From groups and nodes to steps: kernels for what was fused, the registered lowerings for the rest, else the host."""

from __future__ import annotations

from flambeau.compiler import interpreter
from flambeau.compiler.graph import Graph, Node, Value
from flambeau.compiler.lower import (  # noqa: F401  (importing them registers their lowerings)
    convolution,
    maxima,
    moves,
    pooling,
    products,
    random,
    recurrent,
    scatter,
)
from flambeau.compiler.passes.factors import keep_factors
from flambeau.compiler.passes.fuse import Group, fuse
from flambeau.compiler.passes.kernels import KernelBuilder
from flambeau.compiler.passes.products import arrange_products
from flambeau.compiler.steps import LOWERINGS, HostStep, KernelStep, Lowering, Step

Part = tuple[list[Node], list[Step]]  # nodes, and the steps they became


def lower(graph: Graph, threads: int) -> tuple[list[Step], list[Part]]:
    """The steps of a graph, in order, and which nodes each came from."""
    arrange_products(graph, threads)
    keep_factors(graph, threads)
    groups, positions = fuse(graph, threads)
    low = Lowering(graph, threads)
    wanted = wanted_outside(graph, groups)
    steps: list[Step] = []
    parts: list[Part] = []
    for group in groups:
        made = [kernel_step(group, positions, wanted)] if group.fused else node_steps(group.members[0], low)
        parts.append((group.members, made))
        steps += made
    return steps, parts


def wanted_outside(graph: Graph, groups: list[Group]) -> set[Value]:
    """Values that somebody reads from memory: another group, or the caller."""
    wanted = {ref.value for ref in (*graph.outputs, *graph.writes.values())}
    for group in groups:
        for node in group.members:
            wanted.update(ref.value for ref in node.refs if ref.value not in group.made)
    return wanted


def kernel_step(group: Group, positions: dict[Value, Node], wanted: set[Value]) -> KernelStep:
    kernel, buffers, reads, writes = KernelBuilder(group, positions, wanted).build()
    return KernelStep(kernel, buffers, reads, writes)


def node_steps(node: Node, low: Lowering) -> list[Step]:
    """The steps of a node that was not fused."""
    make = LOWERINGS.get(node.op)
    if make is not None and not any(v is None for v in node.outputs[:1]):
        steps = make(node, low)
        if steps is not None:
            return steps
    return [host_step(node)]


def host_step(node: Node) -> HostStep:
    """The op's own kernel, called from Python."""
    return HostStep(
        lambda *operands: interpreter.run_node(node, list(operands)), tuple(node.inputs), tuple(node.outputs), node.op
    )
