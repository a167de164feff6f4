"""All code of one program in one object: kernels and routines are asked for, then compiled together or found on disk.

What is asked for is known without any IR, so that a program found in the cache (cache.py) is loaded without making
some.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from flambeau.backends.llvm import jit
from flambeau.compiler import cache
from flambeau.compiler.kernel import Kernel
from flambeau.compiler.steps import RoutineStep


@dataclass(frozen=True)
class Phase:
    """A function of a kernel as the runner calls it."""

    name: str
    extent: int
    grain: int
    parallel: bool


@dataclass(frozen=True)
class Parts:
    """What a kernel became: phases to run one after the other, and bytes of scratch memory as one more buffer.

    `flat`: one phase that serves any extent, so that several calls can share a parallel region.
    """

    phases: tuple[Phase, ...]
    scratch: int
    flat: bool


class Assembly:
    """Collects what a program needs; after `load`, `parts` and `address` answer."""

    def __init__(self, threads: int):
        self.threads = threads
        self.kernels: dict[Kernel, int] = {}
        self.routines: dict[str, RoutineStep] = {}
        self.found: list[Parts | None] = []
        self.names: dict[str, str] = {}
        self.code: Any = None

    def kernel(self, kernel: Kernel) -> int:
        """Ask for a kernel; the number to ask `parts` with."""
        return self.kernels.setdefault(kernel, len(self.kernels))

    def routine(self, step: RoutineStep) -> None:
        """Ask for a routine."""
        self.routines.setdefault(step.key, step)

    def parts(self, number: int) -> Parts | None:
        """The code of a kernel; None if there is no way to generate it."""
        return self.found[number]

    def address(self, name: str) -> int:
        return int(self.code.address(name))

    def routine_address(self, step: RoutineStep) -> int:
        return self.address(self.names[step.key])

    def load(self) -> None:
        """Compile everything, or take it from the cache."""
        key = cache.key_of("program", str(self.threads), *map(repr, self.kernels), *self.routines)
        payload = cache.cached(key, self._compile)
        size = int.from_bytes(payload[:8], "little")
        described = json.loads(payload[8 : 8 + size])
        self.names = described["routines"]
        self.found = [
            None
            if parts is None
            else Parts(tuple(Phase(**p) for p in parts["phases"]), parts["scratch"], parts["flat"])
            for parts in described["kernels"]
        ]
        functions = {p.name for parts in self.found if parts is not None for p in parts.phases} | set(
            self.names.values()
        )
        self.code = jit.load_object(payload[8 + size :], functions) if functions else None

    def _compile(self) -> bytes:
        """A description of the code in JSON, and the object file."""
        from llvmlite import ir  # not for those who find their program in the cache

        from flambeau.compiler.lower import loops

        module = ir.Module("program")
        module.triple = jit.host().triple
        kernels: list[dict[str, Any] | None] = []
        for kernel in self.kernels:
            try:
                emitted = loops.emit(module, kernel, self.threads)
            except loops.Unsupported:
                kernels.append(None)
                continue
            phases = [
                Phase(
                    _exported(p.function),
                    p.extent,
                    p.grain,
                    emitted.threads > 1 and p.cost >= loops.PARALLEL and p.extent > p.grain,
                )
                for p in emitted.phases
            ]
            kernels.append(asdict(Parts(tuple(phases), emitted.scratch, emitted.flat)))
        routines = {key: _exported(step.emit(module)) for key, step in self.routines.items()}
        text = json.dumps({"kernels": kernels, "routines": routines}).encode()
        return len(text).to_bytes(8, "little") + text + jit.compile_module(module)


def _exported(function: Any) -> str:
    function.linkage = ""
    return str(function.name)
