"""All code of one program in one module: kernels and routines asked for by name, compiled together, or from the cache."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from flambeau.backends.llvm import jit
from flambeau.backends.llvm import registers as reg
from flambeau.compiler.kernel import Kernel
from flambeau.compiler.lower import loops
from flambeau.compiler.steps import RoutineStep


@dataclass
class Part:
    """A phase of a kernel as the runner calls it."""

    name: str
    extent: int
    grain: int
    parallel: bool


@dataclass
class Parts:
    phases: list[Part]
    scratch: int


class Assembly:
    """Collects the functions of a program."""

    def __init__(self, threads: int):
        self.threads = threads
        self.module = ir.Module("program")
        self.module.triple = jit.host().triple
        self.exported: dict[str, Any] = {}

    def kernel(self, kernel: Kernel) -> Parts:
        """Code for a kernel. Raises: loops.Unsupported."""
        emitted = loops.emit(self.module, kernel, self.threads)
        phases = []
        for phase in emitted.phases:
            parallel = emitted.threads > 1 and phase.cost >= loops.PARALLEL and phase.extent > phase.grain
            phases.append(Part(self.export(phase.function), phase.extent, phase.grain, parallel))
        return Parts(phases, emitted.scratch)

    def routine(self, step: RoutineStep) -> str:
        """Code for a routine."""
        return self.export(step.emit(self.module))

    def export(self, function: Any) -> str:
        function.linkage = ""
        self.exported[function.name] = function
        return str(function.name)

    def load(self) -> Any:
        """Compile what was collected."""
        if not self.exported:
            return None
        return jit.compile_and_load(self.module, list(self.exported))
