"""Passes that only take away: dead nodes, repeated nodes, copies, and what is known before the first call."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import numpy as np

from flambeau.compiler import interpreter
from flambeau.compiler.graph import Graph, Node, Ref, Value, same_order

FOLDED = 1 << 16  # elements; larger constants are computed in the program instead of being kept


def replace_values(graph: Graph, new: dict[Value, Value]) -> None:
    """Let every reader read other values, which have the same layout."""
    if not new:
        return

    def follow(value: Value) -> Value:
        while value in new:
            value = new[value]
        return value

    def moved(x: Any) -> Any:
        return Ref(follow(x.value), x.shape, x.strides, x.offset) if isinstance(x, Ref) and x.value in new else x

    for node in graph.nodes:
        if _reads(node, new):
            node.inputs = [moved(x) for x in node.inputs]
    graph.outputs = [moved(x) for x in graph.outputs]
    graph.writes = {target: moved(x) for target, x in graph.writes.items()}


def _reads(node: Node, values: Container[Value]) -> bool:
    for ref in node.refs:  # a loop: this is asked of every node several times
        if ref.value in values:
            return True
    return False


def remove_dead(graph: Graph) -> None:
    """Drop nodes whose results nobody reads, and constants that are not used. Draws stay: the stream moves on."""
    wanted = {ref.value for ref in (*graph.outputs, *graph.writes.values())}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.effect or any(value in wanted for value in node.outputs):
            wanted.update(ref.value for ref in node.refs)
            kept.append(node)
    graph.nodes = kept[::-1]
    graph.constants = {value: array for value, array in graph.constants.items() if value in wanted}


def merge_copies(graph: Graph) -> None:
    """Values never change, so that a copy in the same layout is the value itself."""
    new: dict[Value, Value] = {}
    kept = []
    outside = {ref.value for ref in graph.outputs}
    for node in graph.nodes:
        made = node.outputs[0]
        x = node.inputs[0] if node.inputs else None
        if (
            node.op in ("@copy", "to_copy", "reshape_copy")
            and made is not None
            and isinstance(x, Ref)
            and x.dtype == made.dtype
            and x.is_whole()
            and x.shape == made.shape
            and same_order(made.shape, made.strides, x.value.strides)
            and not (made in outside and x.value.node is None)
        ):
            if made in outside and (x.value in outside or _root(x.value, new) in outside):
                kept.append(node)  # two results must not share memory
                continue
            new[made] = x.value
            if made in outside:
                outside.add(_root(x.value, new))
            continue
        kept.append(node)
    graph.nodes = kept
    replace_values(graph, new)


def _root(value: Value, new: dict[Value, Value]) -> Value:
    while value in new:
        value = new[value]
    return value


def _attribute_key(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(map(_attribute_key, value))
    if isinstance(value, np.dtype):
        return value.str
    if isinstance(value, float) and value != value:
        return "nan"
    return (type(value), value)


def _key(node: Node) -> Any:
    key = (
        tuple(x.key if isinstance(x, Ref) else _attribute_key(x) for x in node.inputs),
        tuple((k, _attribute_key(v)) for k, v in node.attrs.items()),
        tuple(None if v is None else (v.shape, v.strides, v.dtype.str) for v in node.outputs),
        None if node.compute is None else node.compute.str,
        node.again,
    )
    hash(key)
    return key


def _equal(one: Node, other: Node) -> bool:
    """Whether two nodes of the same op on the same values compute the same."""
    try:
        return bool(_key(one) == _key(other))
    except TypeError:  # an attribute that cannot be compared (a function): never equal
        return False


def merge_equal(graph: Graph) -> None:
    """Common subexpressions: equal nodes on equal operands are computed once."""
    seen: dict[Any, list[Node]] = {}
    new: dict[Value, Value] = {}
    outside = {ref.value for ref in graph.outputs}
    kept = []
    for node in graph.nodes:
        if _reads(node, new):
            node.inputs = [
                Ref(_root(x.value, new), x.shape, x.strides, x.offset) if isinstance(x, Ref) and x.value in new else x
                for x in node.inputs
            ]
        if node.effect:
            kept.append(node)
            continue
        alike = seen.setdefault((node.op, *[ref.value for ref in node.refs]), [])  # most nodes have none
        first = next((other for other in alike if _equal(other, node)), node)
        if first is node:
            alike.append(node)
        if first is node or any(v in outside for v in node.outputs):
            kept.append(node)
            continue
        for value, known in zip(node.outputs, first.outputs):
            if value is not None and known is not None:
                new[value] = known
    graph.nodes = kept
    replace_values(graph, new)


def fold_constants(graph: Graph) -> None:
    """Compute at once what depends on constants only."""
    kept = []
    for node in graph.nodes:
        if (
            node.effect
            or node.op.startswith("@")
            or any(ref.value not in graph.constants for ref in node.refs)
            or any(v is not None and v.size > FOLDED for v in node.outputs)
        ):
            kept.append(node)
            continue
        make_constant(graph, node)
    graph.nodes = kept


def make_constant(graph: Graph, node: Node) -> None:
    """Compute a node of constants now: its results become constants of the graph, which the caller takes it out of."""
    operands = [interpreter.window(graph.constants[x.value], x) if isinstance(x, Ref) else x for x in node.inputs]
    for value, made in zip(node.outputs, interpreter.run_node(node, operands)):
        if value is not None:
            array = interpreter.empty_value(value)
            array[...] = made
            graph.constants[value] = array
            value.node = None


def copy_results(graph: Graph) -> None:
    """Let results that no node makes (constants, memory from outside) be copies: they have memory of their own."""
    for slot, ref in enumerate(graph.outputs):
        if ref.value.node is None:
            made = graph.value(ref.shape, ref.value.strides, ref.dtype)
            graph.nodes.append(Node("@copy", [ref], {}, [made]))
            graph.outputs[slot] = made.whole()


def clean(graph: Graph) -> None:
    """All of them, in the order that leaves the least."""
    merge_copies(graph)
    fold_constants(graph)
    copy_results(graph)
    merge_equal(graph)
    remove_dead(graph)
