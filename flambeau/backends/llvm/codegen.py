"""LLVM's code generator: IR text in, object file out. As a program, it serves another process until its input ends.

    python codegen.py FOLDER    with llvmlite in FOLDER; see workers.py

This file imports nothing of flambeau, so that the program starts as fast as LLVM does.
"""

from __future__ import annotations

import functools
import os
import pickle
import signal
import sys
import threading
from typing import Any

if __name__ == "__main__":
    sys.path.append(sys.argv[1])

import llvmlite.binding as llvm

# LLVM's state is shared: one compilation at a time in a process. A fork waits for its end, or the child could never
# compile.
lock = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)

# Processors on which 512-bit vectors are no slower per element than 256-bit ones (no lowered clock, or a full unit).
# The same that have avx512_vbmi2, by which jit.Host tells them without LLVM.
FAST_512 = (
    "znver4", "znver5", "icelake", "tigerlake", "rocketlake", "sapphirerapids", "emeraldrapids", "graniterapids",
)  # fmt: skip


@functools.cache
def host() -> dict[str, Any]:
    """LLVM's names for this processor, and the vectors it should use."""
    with lock:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        triple, cpu, features = llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features()
    fma = bool(features.get("fma", triple.startswith(("aarch64", "arm64"))))
    if features.get("avx512f") and features.get("avx512vl") and cpu.startswith(FAST_512):
        bits = 512
        features["prefer-256-bit"] = False
    else:
        bits = 256 if features.get("avx2") else 128
    return {"triple": triple, "cpu": cpu, "features": features.flatten(), "vector_bits": bits, "has_fma": fma}


@functools.cache
def machine(level: int = 2) -> Any:
    """A target machine for this processor that generates code at this level (0 to 3)."""
    facts = host()
    with lock:
        target = llvm.Target.from_triple(facts["triple"])
        # The small code model: what an object defines lies together, so that constants are one instruction away.
        model = "small" if facts["triple"].startswith("x86_64") and sys.platform == "linux" else "jitdefault"
        return target.create_target_machine(
            cpu=facts["cpu"], features=facts["features"], opt=level, reloc="pic", codemodel=model
        )


def generate(text: str, level: int, emit: str, target: Any = None) -> Any:
    """`emit_object` (bytes) or `emit_assembly` (text) of a module. Raises: RuntimeError if the IR is malformed."""
    with lock:
        return _generate(text, level, emit, target or machine(2 if level else 0))


def _generate(text: str, level: int, emit: str, target: Any) -> Any:
    """A function of its own, so that LLVM's objects die inside the lock: llvmlite takes a lock to free them."""
    parsed = llvm.parse_assembly(text, llvm.create_context())
    parsed.verify()
    _optimise(parsed, target, level)
    return getattr(target, emit)(parsed)


def _optimise(parsed: Any, target: Any, level: int) -> None:
    """Run the passes. Measured on 20 kernels of one vector loop and one scalar loop (Zen 3, processor time, an LLVM
    with assertions as llvmlite's wheels have it): LLVM's O1 80 ms, these 10 ms, for the same inner loops; then 100 ms
    for making machine code, 3 ms a loop, whatever the passes. Whoever wants it faster emits fewer loops."""
    builder = llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options(speed_level=level))
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


# ---- serving -----------------------------------------------------------------------------------------


def serve(requests: Any, answers: Any) -> None:
    """Answer pickled requests (text, level) with (the object or None, a message) until there are none."""
    while True:
        try:
            text, level = pickle.load(requests)
        except EOFError:
            return
        try:
            answer: tuple[bytes | None, str] = bytes(generate(text, level, "emit_object")), ""
        except RuntimeError as error:
            answer = None, str(error)
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    serve(sys.stdin.buffer, sys.stdout.buffer)
