"""From LLVM IR to machine code in memory: the one place that owns llvmlite's code generator.

`compile_module` makes an object file (bytes, which can be kept on disk), `load_object` puts one into memory as a
`Code`, whose functions live as long as it does. Both may be called from any thread.
"""

from __future__ import annotations

import functools
import itertools
import os
import sys
import threading
from collections.abc import Iterable, Mapping
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numpy as np

from flambeau.backends.llvm import symbols as known

# LLVM's state is shared: one compilation at a time. A fork waits for its end, or the child could never compile.
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)

# Processors on which 512-bit vectors are no slower per element than 256-bit ones (no lowered clock, or a full unit).
_FAST_512 = ("znver4", "znver5", "icelake", "sapphirerapids", "emeraldrapids", "graniterapids")


class Host:
    """The processor we make code for."""

    def __init__(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self.triple = llvm.get_process_triple()
        self.cpu = llvm.get_host_cpu_name()
        features = llvm.get_host_cpu_features()
        self.has_fma = bool(features.get("fma", "arm64" in self.triple or "aarch64" in self.triple))
        if features.get("avx512f") and features.get("avx512vl") and self.cpu.startswith(_FAST_512):
            self.vector_bits = 512
            features["prefer-256-bit"] = False
        else:
            self.vector_bits = 256 if features.get("avx2") else 128
        self.features = features.flatten()

    @property
    def identity(self) -> str:
        """What machine code depends on beside its source."""
        return f"{self.triple} {self.cpu} {self.features} LLVM {llvm.llvm_version_info} llvmlite {llvmlite.__version__}"

    def machine(self, level: int = 2) -> Any:
        """A new target machine that generates code at this level (0 to 3)."""
        target = llvm.Target.from_triple(self.triple)
        return target.create_target_machine(cpu=self.cpu, features=self.features, opt=level, reloc="pic")


@functools.cache
def host() -> Host:
    """The processor this process runs on."""
    with _lock:
        return Host()


def vector_lanes(dtype: Any) -> int:
    """How many elements of this dtype the widest good vector holds (a bool counts as a byte)."""
    return host().vector_bits // (8 * np.dtype(dtype).itemsize)


@functools.cache
def _machine(level: int) -> Any:
    return host().machine(level)


# ---- compiling -------------------------------------------------------------------------------------


def compile_module(module: Any, level: int = 1, machine: Any = None) -> bytes:
    """The object file of an llvmlite module or IR text.

    `level` 1 inlines what asks for it and cleans up: enough for code that is written as it should run. 2 adds LLVM's
    own loop passes (invariants, unrolling, vectors), at several times the price; 0 is for code that runs seldom.
    Raises: RuntimeError with LLVM's message if the IR is malformed.
    """
    text = str(module)
    with _lock:
        return bytes(_generate(text, level, "emit_object", machine))


def assembly(module: Any, level: int = 1) -> str:
    """The assembly text of a module, for reading."""
    text = str(module)
    with _lock:
        return str(_generate(text, level, "emit_assembly"))


def _generate(text: str, level: int, emit: str, machine: Any = None) -> Any:
    """A function of its own, so that LLVM's objects die inside the lock: llvmlite takes a lock to free them."""
    machine = machine or _machine(2 if level else 0)
    parsed = llvm.parse_assembly(text, llvm.create_context())
    parsed.verify()
    _optimise(parsed, machine, level)
    return getattr(machine, emit)(parsed)


def _optimise(parsed: Any, machine: Any, level: int) -> None:
    """Run the passes. Measured on 20 kernels of one vector loop and one scalar loop (Zen 3, processor time, an LLVM
    with assertions as llvmlite's wheels have it): LLVM's O1 80 ms, these 10 ms, for the same inner loops; then 100 ms
    for making machine code, 3 ms a loop, whatever the passes. Whoever wants it faster emits fewer loops."""
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=level))
    if level > 1:
        builder.getModulePassManager().run(parsed, builder)
        return
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_global_dead_code_eliminate_pass()
    if level:
        passes.add_sroa_pass()
        passes.add_instruction_combine_pass()
        passes.add_new_gvn_pass()
        passes.add_simplify_cfg_pass()
    passes.run(parsed, builder)


# ---- loading ---------------------------------------------------------------------------------------


@functools.cache
def _linker() -> Any:
    # JITLink lays out an object in one piece, so that code always reaches its constants.
    return llvm.create_lljit_compiler(host().machine(), use_jit_link=sys.platform != "win32")


_numbers = itertools.count()


class Code:
    """Machine code in memory; freed when nothing refers to it any more."""

    def __init__(self, tracker: Any, size: int):
        self._tracker = tracker
        self.size = size

    def address(self, name: str) -> int:
        """The address of a function. KeyError if it was not asked for when the object was loaded."""
        return int(self._tracker[name])


def load_object(object_file: bytes, names: Iterable[str], symbols: Mapping[str, int] | None = None) -> Code:
    """Put an object file into memory; `names` are the functions whose addresses will be asked for.

    `symbols` are addresses for this object only, by the names it declares (functions or data), beside those of
    symbols.py: what differs from process to process goes there, so that the object can be kept on disk.

    Raises: RuntimeError if the object is damaged, lacks one of the names, or calls functions nobody knows.
    """
    with _lock:
        linker = _linker()
        library = llvm.JITLibraryBuilder().add_object_img(object_file).add_current_process()
        for name, address in {**known.addresses(), **(symbols or {})}.items():
            library.import_symbol(name, address)
        for name in names:
            library.export_symbol(name)
        return Code(library.link(linker, f"flambeau{next(_numbers)}"), len(object_file))


def compile_and_load(module: Any, names: Iterable[str], level: int = 1) -> Code:
    """`compile_module` and `load_object` in one."""
    return load_object(compile_module(module, level), names)
