"""Running a graph node by node with the ops' own kernels: the slow, obvious meaning that native programs must match."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.compiler.graph import Graph, Node, Ref, Value
from flambeau.core.dispatch import REGISTRY
from flambeau.core.modes import modes
from flambeau.core.tensor import Tensor, wrap


def window(array: np.ndarray, ref: Ref) -> np.ndarray:
    """The part of a value's memory that a reference shows; `array` has the value's shape and strides."""
    if ref.is_whole():
        return array
    if 0 in array.strides and array.size > 1:  # a constant whose elements are all the same is kept as one of them
        laid = empty_value(ref.value)
        laid[...] = array
        array = laid
    start = array.reshape(-1)[:0] if array.size == 0 else array
    base = np.lib.stride_tricks.as_strided(start, (array.size,), (array.itemsize,)) if array.size else start
    return np.lib.stride_tricks.as_strided(
        base[ref.offset :], ref.shape, tuple(s * array.itemsize for s in ref.strides)
    )


def empty_value(value: Value) -> np.ndarray:
    """New memory in a value's layout."""
    order = sorted(range(len(value.shape)), key=lambda d: (-value.strides[d], d))
    memory = np.empty([value.shape[d] for d in order], value.dtype)
    return memory.transpose(np.argsort(order)) if order else memory


def _in_memory_order(dense: np.ndarray) -> np.ndarray:
    """The elements of an array without gaps, as a vector on its memory."""
    return np.lib.stride_tricks.as_strided(dense, (dense.size,), (dense.itemsize,))


def run_node(node: Node, operands: list[Any]) -> tuple[Any, ...]:
    """The results of a node on arrays (numbers stay numbers)."""
    if node.op == "@copy":
        return (operands[0],)
    if node.op == "@update":
        made = node.outputs[0]
        assert made is not None
        out = empty_value(made)
        out[...] = operands[0]
        reference = Ref(made, node.attrs["shape"], node.attrs["strides"], node.attrs["offset"])
        window(out, reference)[...] = operands[1]
        return (out,)
    if node.op == "@call":
        found = node.attrs["run"](*operands)
        return found if isinstance(found, tuple) else (found,)
    if node.op == "@bits":
        made = node.outputs[0]
        assert made is not None
        out = empty_value(made)
        _in_memory_order(out)[...] = _in_memory_order(operands[0]).view(made.dtype)
        return (out,)
    if node.op == "@reduce":
        reduce = {
            "sum": np.add,
            "prod": np.multiply,
            "max": np.maximum,
            "min": np.minimum,
            "any": np.logical_or,
            "all": np.logical_and,
        }[node.attrs["kind"]].reduce
        return (np.asarray(reduce(operands[0], axis=node.attrs["dims"], keepdims=node.attrs["keepdim"])),)
    if node.op == "@gather":
        return (np.take(operands[0], operands[1], axis=node.attrs["dim"]),)
    if node.op == "@position":
        value = node.outputs[0]
        assert value is not None
        shape = [n if d == node.attrs["dim"] else 1 for d, n in enumerate(value.shape)]
        return (np.broadcast_to(np.arange(value.shape[node.attrs["dim"]]).reshape(shape), value.shape),)
    if node.op == "where":
        return (np.where(*operands),)
    if node.op == "@draw":
        value = node.outputs[0]
        assert value is not None
        made = empty_value(value)
        order = sorted(range(made.ndim), key=lambda d: -made.strides[d])
        plain = made.flags.c_contiguous
        target = made if plain else made.transpose(order)
        target[...] = node.attrs["run"](target.shape, made.dtype, plain)
        return (made,)
    # A number made by symbols stands where a Python number stood.
    made = node.outputs[0]
    if made is not None and made.symbol and node.op != "to_copy":
        return (np.asarray(REGISTRY[node.op].kernel(*map(np.float64, operands))),)
    given = [
        (float(x) if isinstance(ref, Ref) and ref.value.symbol else wrap(x)) if isinstance(x, np.ndarray) else x
        for x, ref in zip(operands, node.inputs)
    ]
    before, modes.grad = modes.grad, False
    try:
        result = REGISTRY[node.op].function(*given, **node.attrs)
    finally:
        modes.grad = before
    if isinstance(result, Tensor):
        return (result._array,)
    return tuple(t._array if isinstance(t, Tensor) else t for t in result)


def run(graph: Graph, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Outputs for these arrays of `graph.inputs`, whose memory receives the graph's writes."""
    memory: dict[Value, np.ndarray] = dict(zip(graph.inputs, arrays))
    memory.update(graph.constants)
    for node in graph.nodes:
        operands = [window(memory[x.value], x) if isinstance(x, Ref) else x for x in node.inputs]
        for value, made in zip(node.outputs, run_node(node, operands)):
            if value is not None:
                kept = empty_value(value)
                kept[...] = made
                memory[value] = kept
    outputs = [np.array(window(memory[ref.value], ref), order="K") for ref in graph.outputs]
    written = [(memory[target], window(memory[ref.value], ref)) for target, ref in graph.writes.items()]
    for target, values in written:
        target[...] = values
    return outputs
