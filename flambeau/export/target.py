"""The processors that code is exported for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flambeau.backends.llvm import jit

_LEVELS = {"x86-64": (128, False), "x86-64-v2": (128, False), "x86-64-v3": (256, True), "x86-64-v4": (512, True)}


@dataclass(frozen=True)
class Target:
    """A processor: LLVM's names for it, the bits of its vectors, whether it multiplies and adds in one instruction."""

    triple: str
    cpu: str
    features: str
    vector_bits: int
    has_fma: bool

    @property
    def registers(self) -> int:
        """Vector registers that generated code may fill."""
        return 32 if self.vector_bits == 512 or not self.triple.startswith(("x86_64", "i686", "amd64")) else 16

    def machine(self) -> Any:
        """LLVM's code generator for it: position independent, so that objects fit into programs and libraries."""
        import llvmlite.binding as llvm

        target = llvm.Target.from_triple(self.triple)
        return target.create_target_machine(cpu=self.cpu, features=self.features, opt=2, reloc="pic")


def target_for(cpu: str) -> Target:
    """The target that a name stands for.

    "native" is this machine; "generic" anything of this machine's family; "x86-64-v2", "x86-64-v3" and "x86-64-v4" are
    the levels of the x86-64 ABI (v3: AVX2 and FMA; v4: AVX-512).
    Raises: ValueError for other names, and for levels of x86-64 on another family.
    """
    host = jit.host()
    if cpu == "native":
        return Target(host.triple, host.cpu, host.features, host.vector_bits, host.has_fma)
    x86 = host.triple.startswith(("x86_64", "amd64"))
    if cpu == "generic":
        return Target(host.triple, "x86-64" if x86 else "generic", "", 128, not x86)
    if cpu not in _LEVELS or not x86:
        raise ValueError(f"cpu: expected 'native', 'generic' or, on x86-64, one of {', '.join(_LEVELS)}; got {cpu!r}")
    bits, fma = _LEVELS[cpu]
    return Target(host.triple, cpu, "", bits, fma)
