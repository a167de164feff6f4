"""What a graph is lowered to: a list of steps, each of one of four kinds.

Operands are `Ref`s; the address of an operand is the start of its value's block plus offset times element size.
Memory that a lowering needs only for itself is a `Value` of bytes made by `Lowering.temporary`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flambeau.compiler.graph import Graph, Node, Ref, Value
from flambeau.compiler.kernel import Kernel


@dataclass(eq=False, repr=False)
class KernelStep:
    """A fused loop nest; slot i of the kernel is `buffers[i]` (whole blocks: windows are in the loads and stores)."""

    kernel: Kernel
    buffers: tuple[Value, ...]
    reads: tuple[Value, ...]
    writes: tuple[Value, ...]


@dataclass(eq=False, repr=False)
class LibraryStep:
    """A oneDNN primitive; `operands[i]` is its argument number `primitive.arguments[i]`.

    The last `outputs` operands are written. `once`: what it makes depends on state only, so it may run once per change.
    """

    primitive: Any
    operands: tuple[Ref, ...]
    outputs: int = 1
    once: bool = False


@dataclass(eq=False, repr=False)
class RoutineStep:
    """Our own native function `void name(i8** buffers)`; the last `outputs` operands are written.

    `emit(module)` adds the function to an llvmlite module and returns it (it may find it there already: `key` names it
    in full, equal keys are equal code). `label`: what it does, for people, where the key does not say it.
    """

    key: str
    emit: Callable[[Any], Any]
    operands: tuple[Ref, ...]
    outputs: int = 1
    label: str = ""


@dataclass(eq=False, repr=False)
class HostStep:
    """A call of Python: `run(*arrays) -> array or tuple`, copied into `outputs` (None: not wanted)."""

    run: Callable[..., Any]
    inputs: tuple[Any, ...]
    outputs: tuple[Value | None, ...]
    name: str = ""


Step = KernelStep | LibraryStep | RoutineStep | HostStep


@dataclass(eq=False, repr=False)
class Lowering:
    """What lowering functions get: the graph, the steps made so far, and memory for themselves."""

    graph: Graph
    threads: int = 1
    steps: list[Step] = field(default_factory=list)
    reordered: dict[Any, list[Any]] = field(default_factory=dict)  # window -> copies in other layouts (lower/onednn.py)

    def temporary(self, nbytes: int) -> Value:
        """A block of bytes, 64-byte aligned, that lives from its first to its last use."""
        return self.graph.value((nbytes,), (1,), np.dtype(np.uint8))


# Name of a primitive -> function (node, lowering) -> list of steps, or None to decline (the next way is tried).
LOWERINGS: dict[str, Callable[[Node, Lowering], list[Step] | None]] = {}


def lowering(*names: str) -> Callable[[Any], Any]:
    """Register the native lowering of primitives."""

    def register(function: Any) -> Any:
        for name in names:
            LOWERINGS[name] = function
        return function

    return register
