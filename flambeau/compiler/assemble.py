"""All code of one program: kernels and routines are asked for, then compiled together or found on disk.

What is asked for is known without any IR, so that a program found in the cache (cache.py) is loaded without making
some.
"""

from __future__ import annotations

import marshal
from dataclasses import dataclass
from typing import Any

from flambeau.backends.llvm import jit
from flambeau.compiler import cache
from flambeau.compiler.kernel import Kernel
from flambeau.compiler.steps import RoutineStep


@dataclass(eq=False, repr=False)
class Phase:
    """A function of a kernel as the runner calls it."""

    name: str
    extent: int
    grain: int
    parallel: bool


@dataclass(eq=False, repr=False)
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
        self.codes: list[Any] = []  # must live as long as the addresses are used
        self.addresses: dict[str, int] = {}

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
        return self.addresses[name]

    def routine_address(self, step: RoutineStep) -> int:
        return self.address(self.names[step.key])

    def load(self) -> None:
        """Compile everything, or take it from the cache."""
        key = cache.key_of("program", str(self.threads), *map(repr, self.kernels), *self.routines)
        payload = cache.cached(key, self._compile)
        size = int.from_bytes(payload[:8], "little")
        kernels, self.names, objects = marshal.loads(payload[8 : 8 + size])
        self.found = [
            None if parts is None else Parts(tuple(Phase(*facts) for facts in parts[0]), *parts[1:])
            for parts in kernels
        ]
        at = 8 + size
        for length, names in objects:
            code = jit.load_object(payload[at : at + length], names)
            self.codes.append(code)
            self.addresses.update((name, code.address(name)) for name in names)
            at += length

    def _compile(self) -> bytes:
        """A description of the code, and the object files. Who could forge the one could forge the others."""
        from llvmlite import ir  # not for those who find their program in the cache

        module = ir.Module("program")
        module.triple = jit.host().triple
        compiled = jit.Compilation(module, len(self.kernels) + len(self.routines))
        try:
            return self._compile_into(module, compiled)
        finally:
            compiled.close()

    def _compile_into(self, module: Any, compiled: jit.Compilation) -> bytes:
        from flambeau.compiler.lower import loops

        pending: list[str] = []

        def exported(function: Any) -> str:
            function.linkage = ""
            pending.append(str(function.name))
            if len(pending) >= jit.PART:
                compiled.take(pending)
                pending.clear()
            return str(function.name)

        kernels: list[tuple[Any, ...] | None] = []
        for kernel in self.kernels:
            try:
                emitted = loops.emit(module, kernel, self.threads)
            except loops.Unsupported:
                kernels.append(None)
                continue
            phases = tuple(
                (
                    exported(p.function),
                    p.extent,
                    p.grain,
                    emitted.threads > 1 and p.cost >= loops.PARALLEL and p.extent > p.grain,
                )
                for p in emitted.phases
            )
            kernels.append((phases, emitted.scratch, emitted.flat))
        routines = {key: exported(step.emit(module)) for key, step in self.routines.items()}
        compiled.take(pending)
        objects = compiled.objects()
        described = marshal.dumps((kernels, routines, [(len(content), names) for content, names in objects]))
        return b"".join([len(described).to_bytes(8, "little"), described, *(content for content, _ in objects)])
