"""Lower one node and run its steps as a program would, by ctypes: the check of lowerings without the compiler."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

import flambeau.compiler.lower.convolution
import flambeau.compiler.lower.maxima
import flambeau.compiler.lower.pooling
import flambeau.compiler.lower.products
import flambeau.ops.convolution
import flambeau.ops.matmul
import flambeau.ops.pooling_max  # noqa: F401  the imports fill the registries
from flambeau.backends.onednn.memory import loaded
from flambeau.compiler import interpreter
from flambeau.compiler.api import Compiled
from flambeau.compiler.graph import Graph, Node, Ref, Value
from flambeau.compiler.interpreter import empty_value, run_node
from flambeau.compiler.steps import LOWERINGS, KernelStep, LibraryStep, Lowering, RoutineStep, Step
from flambeau.core.dispatch import REGISTRY
from tests.compiler.interpreter import interpret

CODES: dict[str, tuple[Any, str]] = {}  # routines by key: equal keys are equal code


class Program:
    """A graph under construction, and memory for its values."""

    def __init__(self, graph: Graph | None = None) -> None:
        self.graph = graph or Graph()
        self.memory: dict[Value, np.ndarray] = {}
        self.owners: dict[int, Value] = {}

    def ref(self, array: np.ndarray | None) -> Ref | None:
        """The window on the block of memory behind an array."""
        if array is None:
            return None
        owner = array
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        block = owner.ravel(order="K")
        assert block.size == owner.size and (owner.size == 0 or np.shares_memory(block, owner)), "gaps in the owner"
        value = self.owners.get(id(owner))
        if value is None:
            value = self.graph.value(owner.shape, steps_of(owner), owner.dtype)
            self.owners[id(owner)] = value
            self.memory[value] = block
            self.graph.inputs.append(value)
        offset = (array.__array_interface__["data"][0] - owner.__array_interface__["data"][0]) // array.itemsize
        return Ref(value, array.shape, steps_of(array), offset)

    def room(self, value: Value) -> np.ndarray:
        """The value's memory; that of temporaries and results begins as nan."""
        if value not in self.memory and value in self.graph.constants:
            self.memory[value] = self.graph.constants[value].reshape(-1)
        elif value not in self.memory:
            raw = np.empty(value.nbytes + 64, np.uint8)
            start = -raw.ctypes.data % 64
            block = raw[start : start + value.nbytes]
            block[...] = 0xFF
            self.memory[value] = block.view(value.dtype)
        return self.memory[value]

    def address(self, ref: Ref) -> int:
        return self.room(ref.value).ctypes.data + ref.offset * ref.dtype.itemsize

    def show(self, ref: Ref) -> np.ndarray:
        """The window as an array."""
        memory = self.room(ref.value)[ref.offset :]
        return np.lib.stride_tricks.as_strided(memory, ref.shape, [s * ref.dtype.itemsize for s in ref.strides])

    def run(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if isinstance(step, LibraryStep):
                self.library(step)
            elif isinstance(step, KernelStep):
                interpret(step.kernel, [self.room(value) for value in step.buffers])
            else:
                assert isinstance(step, RoutineStep)
                self.routine(step)

    def library(self, step: LibraryStep) -> None:
        dll, primitive = loaded().dll, step.primitive
        assert len(step.operands) == primitive.count == len(primitive.memories)
        for memory, operand in zip(primitive.memories, step.operands):
            dll.dnnl_memory_set_data_handle(memory, self.address(operand))
        status = dll.dnnl_primitive_execute(
            primitive.handle, primitive.stream, primitive.count, primitive.exec_arguments
        )
        assert status == 0

    def routine(self, step: RoutineStep) -> None:
        """Compile our own function and call it."""
        from llvmlite import ir

        from flambeau.backends.llvm import jit

        if step.key not in CODES:
            module = ir.Module("test")
            function = step.emit(module)
            function.linkage = ""
            CODES[step.key] = jit.compile_and_load(module, [function.name]), function.name
        code, name = CODES[step.key]
        addresses = (ctypes.c_void_p * len(step.operands))(*(self.address(o) for o in step.operands))
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(code.address(name))(ctypes.addressof(addresses))

    def fill(self, arrays: Sequence[np.ndarray]) -> None:
        """Give the graph's inputs and constants their values."""
        for value, array in [*zip(self.graph.inputs, arrays), *self.graph.constants.items()]:
            self.memory[value] = empty_value(value).ravel(order="K")
            self.show(value.whole())[...] = array

    def execute(self, arrays: Sequence[np.ndarray], threads: int = 2) -> tuple[list[np.ndarray], set[str]]:
        """The graph's outputs and the ops that ran as steps; others run with the ops' own kernels."""
        self.fill(arrays)
        native = set()
        for node in self.graph.nodes:
            lower = LOWERINGS.get(node.op)
            steps = lower(node, Lowering(self.graph, threads)) if lower is not None else None
            if steps is not None:
                native.add(node.op)
                self.run(steps)
                continue
            operands = [self.show(x) if isinstance(x, Ref) else x for x in node.inputs]
            for value, made in zip(node.outputs, run_node(node, operands)):
                if value is not None:
                    self.show(value.whole())[...] = made
        return [self.show(ref).copy() for ref in self.graph.outputs], native


def steps_of(array: np.ndarray) -> tuple[int, ...]:
    """Strides in elements."""
    return tuple(s // array.itemsize for s in array.strides)


def captured(monkeypatch: Any, function: Any, *tensors: Any) -> tuple[Graph, list[np.ndarray], list[np.ndarray]]:
    """The graph of a call of the function, the arrays of its inputs, and what the interpreter makes of them."""
    graphs = []

    def program(graph: Graph) -> Any:
        return lambda arrays: graphs.append((graph, [a.copy() for a in arrays])) or interpreter.run(graph, arrays)

    monkeypatch.setattr("flambeau.compiler.program.program", program)
    compiled = Compiled(function, fullgraph=True)
    for _ in range(4):  # optimizers make their state in the first
        compiled(*tensors)
        if graphs:
            break
    graph, arrays = graphs[-1]
    return graph, arrays, interpreter.run(graph, [a.copy() for a in arrays])


def lowered(
    op: str, arrays: Sequence[np.ndarray | None], attrs: dict[str, Any], like: Sequence[np.ndarray], threads: int = 2
) -> tuple[list[np.ndarray], list[Step]] | None:
    """The node's outputs computed by its lowering, with the shapes and orders of `like`; None if it is declined."""
    program = Program()
    inputs = [program.ref(array) for array in arrays]
    outputs = [program.graph.value(a.shape, steps_of(a), a.dtype) for a in like]
    node = Node(op, inputs, attrs, outputs)
    steps = LOWERINGS[op](node, Lowering(program.graph, threads))
    if steps is None:
        return None
    program.run(steps)
    return [program.show(value.whole()) for value in outputs], steps


def check(op: str, *arrays: np.ndarray | None, tolerance: float = 1e-4, **attrs: Any) -> list[Step]:
    """Assert that the lowering agrees with the op's own kernel; its steps."""
    expected = REGISTRY[op].kernel(*arrays, **attrs)
    like = REGISTRY[op].run(*arrays, **attrs)
    expected, like = (found if isinstance(found, tuple) else (found,) for found in (expected, like))
    found = lowered(op, arrays, attrs, [np.empty_like(array) for array in like])  # without gaps
    assert found is not None, "declined"
    outputs, steps = found
    for mine, theirs in zip(outputs, expected):
        scale = float(np.abs(theirs).max(initial=1.0)) if theirs.dtype.kind == "f" else 0
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance * scale, equal_nan=True)
    return steps
