"""The graph as text, one node a line."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.compiler.graph import Graph, Node, Ref, Value


def shape_text(dtype: np.dtype, shape: tuple[int, ...]) -> str:
    """ "f32[3, 4]"."""
    names = {"float32": "f32", "float64": "f64", "int64": "i64", "int32": "i32", "uint8": "u8"}
    return f"{names.get(dtype.name, dtype.name)}{list(shape)}"


def operand_text(x: Any) -> str:
    if isinstance(x, Ref):
        if x.is_whole():
            return repr(x.value)
        return f"{x.value!r}[{'x'.join(map(str, x.shape))}:{','.join(map(str, x.strides))}+{x.offset}]"
    return repr(x)


def attribute_text(value: Any) -> str:
    if isinstance(value, (int, float, bool, str, type(None), np.dtype)):
        return repr(value) if not isinstance(value, np.dtype) else value.name
    if isinstance(value, (tuple, list)):
        return "(" + ", ".join(map(attribute_text, value)) + ")"
    return type(value).__name__


def value_text(value: Value) -> str:
    return f"{value!r}: {shape_text(value.dtype, value.shape)}"


def node_text(node: Node) -> str:
    """ "%3: f32[4] = add(%1, %2)"."""
    made = ", ".join("_" if v is None else value_text(v) for v in node.outputs)
    attrs = ", ".join(f"{k}={attribute_text(v)}" for k, v in node.attrs.items())
    return f"{made} = {node.op}({', '.join([operand_text(x) for x in node.inputs] + ([attrs] if attrs else []))})"


def text(graph: Graph) -> str:
    """Inputs with their sources, constants, nodes, writes and outputs."""
    lines = [f"{value_text(value)} = {value.source}" for value in graph.inputs]
    lines += [f"{value_text(value)} = constant" for value in graph.constants]
    lines += [node_text(node) for node in graph.nodes]
    lines += [f"write {operand_text(ref)} -> {value!r}" for value, ref in graph.writes.items()]
    lines.append("return " + ", ".join(map(operand_text, graph.outputs)))
    return "\n".join(lines)
