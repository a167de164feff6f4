"""What a model computes for example inputs, as a graph in which its state is constant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flambeau.compiler.capture import Recorder
from flambeau.compiler.graph import Graph, Node, Ref
from flambeau.compiler.passes.batchnorm import fold_batch_norm
from flambeau.compiler.passes.clean import clean, make_constant, remove_dead
from flambeau.compiler.passes.decompose import along, contiguous, decompose
from flambeau.compiler.passes.postops import CHAINS, following, joined, layer_output
from flambeau.compiler.passes.readers import Readers
from flambeau.compiler.sources import Unrecordable
from flambeau.core.modes import modes
from flambeau.core.tensor import Tensor, wrap

_ADDED = 1 << 16  # bytes that folding a node may add to the constants beyond what it reads


@dataclass
class Captured:
    """`graph.inputs[i]` is argument `arguments[i]`; the first `results` outputs are what the model returns, in order.

    The other outputs are flags (bool): if one is false, the inputs were out of bounds.
    """

    graph: Graph
    inputs: list[np.ndarray]
    arguments: list[int]
    results: int


def capture(model: Any, example_inputs: Sequence[Tensor]) -> Captured:
    """Run the model and write down what it does. RuntimeError for what cannot leave Python."""
    tensors = [wrap(np.array(t._array, order="C")) for t in example_inputs]
    buffers = [(b, b._array.copy()) for b in model.buffers()] if hasattr(model, "buffers") else []
    before, modes.grad = modes.grad, False
    try:
        with Recorder(tensors) as recorder:
            result = model(*tensors)
            if recorder.failed is None:
                try:
                    outputs = [_output(recorder, t) for t in flat(result)]
                    flags = [recorder.ref(t._array) for t, _ in recorder.flags]
                except Unrecordable as error:
                    recorder.fail(error)
    finally:
        modes.grad = before
        for buffer, values in buffers:  # a model in training mode is refused, and stays as it was
            buffer._array[...] = values
    if recorder.failed is not None:
        raise RuntimeError(f"export: {recorder.failed}") from recorder.failed
    graph = recorder.graph
    if any(block.value is not block.entry for block in recorder.externals):
        raise RuntimeError("export: the model writes to its buffers or arguments; call model.eval() first")
    if any(node.effect for node in graph.nodes):
        raise RuntimeError("export: the model draws random numbers; call model.eval() first")
    if recorder.reads or recorder.guards:
        raise RuntimeError("export: Python reads the values of an argument, which exported code could not")
    for value in graph.inputs:
        if value.source.kind == "tensor":
            graph.constants[value] = np.array(value.source.what._array, order="K")
            value.source = None
        elif value.source.kind != "argument":
            raise RuntimeError(f"export: the model uses a {value.source.kind}, which only exists in Python")
    graph.inputs = [value for value in graph.inputs if value not in graph.constants]
    for ref in outputs:
        made = graph.value(ref.shape, contiguous(ref.shape), ref.dtype)
        graph.nodes.append(Node("@copy", [ref], {}, [made]))
        graph.outputs.append(made.whole())
    graph.outputs += [ref for ref in flags if ref is not None]
    arguments = [value.source.what for value in graph.inputs]
    return Captured(graph, [t._array for t in tensors], arguments, len(outputs))


def _output(recorder: Recorder, t: Tensor) -> Ref:
    ref = recorder.ref(t._array)
    if ref is None:
        raise Unrecordable("returns a tensor of unknown origin")
    return ref


def flat(result: Any) -> list[Tensor]:
    """The tensors of a result, in order. RuntimeError for results that hold anything else."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, dict):
        result = list(result.values())
    if not isinstance(result, (tuple, list)) or not result:
        raise RuntimeError(f"export: the model returns a {type(result).__name__}; expected tensors, and tuples, lists "
                           "and dicts of them")
    return [t for item in result for t in flat(item)]


def prepare(graph: Graph) -> None:
    """The passes before lowering: what depends on constants only is computed now, whatever its size."""
    clean(graph)
    fold(graph)
    fold_batch_norm(graph)
    fold(graph)
    fuse_chains(graph)
    for node in graph.nodes:
        if node.op in ("native_group_norm", "instance_norm"):  # the same arithmetic over other axes
            node.inputs = [node.inputs[0], *(along(x, len(node.inputs[0].shape)) for x in node.inputs[1:])]
            node.op = "native_layer_norm"
    decompose(graph)
    clean(graph)
    fold(graph)


def fold(graph: Graph) -> None:
    """Compute what depends on constants only, unless that would make the constants much larger."""
    kept = []
    outside = {ref.value for ref in graph.outputs}
    for node in graph.nodes:
        given = [x.value for x in node.refs]
        made = [value for value in node.outputs if value is not None]
        size = sum(value.nbytes for value in made)
        if (not given or not all(value in graph.constants for value in given) or outside.intersection(made)
                or size > _ADDED + sum(graph.constants[value].nbytes for value in given)):
            kept.append(node)
            continue
        make_constant(graph, node)
    graph.nodes = kept
    remove_dead(graph)


def fuse_chains(graph: Graph) -> None:
    """Additions and activations after layers join them (passes/postops.py), whatever oneDNN could do."""
    readers = Readers(graph)
    zero: list[Any] = []
    taken: set[Node] = set()
    replaced: dict[Node, Node] = {}
    for layer in graph.nodes:
        if layer.op not in CHAINS or layer in taken or layer.outputs[0] is None:
            continue
        chain = following(layer, readers, taken)
        if chain:
            made = joined(graph, layer, chain, zero)
            layer_output(chain[-1]).node = made
            taken.update((layer, *chain))
            replaced[chain[-1]] = made
    graph.nodes = [replaced.get(node, node) for node in graph.nodes if node not in taken or node in replaced]
