"""The processors that code is exported for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flambeau.backends.llvm import jit

_LEVELS = {"x86-64": (128, False), "x86-64-v2": (128, False), "x86-64-v3": (256, True), "x86-64-v4": (512, True)}
_FAMILIES = {"x86_64": "x86-64", "amd64": "x86-64", "aarch64": "aarch64", "arm64": "aarch64"}


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
        return 32 if self.vector_bits == 512 or family(self.triple) != "x86-64" else 16

    @property
    def is_elf(self) -> bool:
        """Whether its object files are in the format of Linux."""
        return any(part in self.triple for part in ("linux", "bsd", "elf"))

    def machine(self) -> Any:
        """LLVM's code generator for it: position independent, so that objects fit into programs and libraries."""
        import llvmlite.binding as llvm

        from flambeau.backends.llvm import codegen

        with codegen.lock:
            llvm.initialize_all_targets()
            llvm.initialize_all_asmprinters()
            target = llvm.Target.from_triple(self.triple)
            return target.create_target_machine(cpu=self.cpu, features=self.features, opt=2, reloc="pic")


def family(triple: str) -> str | None:
    """ "x86-64" or "aarch64"; None for processors that code was never generated for."""
    return _FAMILIES.get(triple.partition("-")[0])


def target_for(cpu: str, triple: str | None = None) -> Target:
    """The target that the names of a processor and, for another machine than this one, of a machine stand for.

    "native" is this machine; "generic" anything of the machine's family; "x86-64-v2", "x86-64-v3" and "x86-64-v4" are
    the levels of the x86-64 ABI (v3: AVX2 and FMA; v4: AVX-512). Of aarch64 every processor has vectors of 128 bits
    (NEON); LLVM knows many by name.
    Raises: ValueError for other names, other families, and levels of x86-64 on another family.
    """
    host = jit.host()
    if triple is None:
        if cpu == "native":
            return Target(host.triple, host.cpu, host.features, host.vector_bits, host.has_fma)
        triple = host.triple
    kind = family(triple)
    if kind is None:
        raise ValueError(f"triple: expected a machine with x86_64 or aarch64 processors, not {triple!r}")
    if kind == "aarch64":
        if cpu in _LEVELS:
            raise ValueError(f"cpu: {cpu!r} is a level of x86-64, and the machine is {triple!r}")
        return Target(triple, "generic" if cpu == "native" else cpu, "", 128, True)
    level = "x86-64" if cpu in ("native", "generic") else cpu
    if level not in _LEVELS:
        raise ValueError(f"cpu: expected 'native', 'generic' or, on x86-64, one of {', '.join(_LEVELS)}; got {cpu!r}")
    bits, fma = _LEVELS[level]
    # LLVM would split vectors of 512 bits, for the sake of the first processors that had them.
    return Target(triple, level, "-prefer-256-bit" if bits == 512 else "", bits, fma)
