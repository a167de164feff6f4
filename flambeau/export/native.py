"""`export`: a model as an object file or shared library with a C header, to run without Python.

    from flambeau.export import native
    native.export(model, torch.zeros(1, 1, 28, 28), "build", name="digits")

writes `build/digits.o` and `build/digits.h`; `cc program.c build/digits.o -lm` makes a program that calls

    int digits_run(const float* x, float* y);

The code needs the C library and nothing else. docs/export.md shows it whole.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flambeau.core.tensor import Tensor
from flambeau.export.header import TYPES, header

__all__ = ["Exported", "c_compiler", "export"]


@dataclass(frozen=True)
class Exported:
    """What was written: paths (None for what was not asked for), and how much memory a run needs."""

    object: Path
    header: Path
    weights: Path | None
    library: Path | None
    workspace: int


def export(model: Any, example_inputs: Any, folder: str | os.PathLike, name: str = "model", weights: str = "inside",
           shared: bool = False, cpu: str = "native", triple: str | None = None) -> Exported:
    """Write a model's inference as native code into a folder.

    `model` is a module (in eval mode) or a function of tensors, run once on `example_inputs` (a tensor, or a sequence
    of them), whose shapes and dtypes the code is for. Writes `name.o` and `name.h`; with weights="beside" also
    `name.weights`, which `name_load(path)` reads; with `shared` also a library, linked by the C compiler. `cpu` names
    the processor: "native", "generic", or a level such as "x86-64-v3"; `triple` the machine, if it is another one, such
    as "aarch64-linux-gnu". Results equal those of eager up to rounding.

    Raises: RuntimeError for models that draw random numbers, write to their state, depend on values in Python, or use
    an operation without native code (the message names it and the line); ValueError for other arguments; ImportError
    without llvmlite.
    """
    if not name.isidentifier() or not name.isascii():
        raise ValueError(f"export: the name of the model becomes part of C names; {name!r} cannot")
    if weights not in ("inside", "beside"):
        raise ValueError(f"export: weights is 'inside' or 'beside', not {weights!r}")
    given = [example_inputs] if isinstance(example_inputs, Tensor) else list(example_inputs)
    if not given or not all(isinstance(t, Tensor) for t in given):
        raise ValueError("export: example_inputs must be a tensor or a sequence of tensors")
    from flambeau.export.target import target_for

    target = target_for(cpu, triple)
    made = emitted(model, given, name, target, weights == "inside")
    captured = made.captured
    outputs = [ref.value for ref in captured.graph.outputs[: captured.results]]
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    beside = f"{name}.weights" if weights == "beside" else None
    text = header(name, captured.inputs, outputs, made.workspace, beside)
    paths = Exported(place / f"{name}.o", place / f"{name}.h", None if beside is None else place / beside,
                     place / _library_name(name, target.triple) if shared else None, made.workspace)
    _write(paths.object, _compiled(made, target))
    _write(paths.header, text.encode())
    if paths.weights is not None:
        _write(paths.weights, made.block.file())
    if paths.library is not None:
        _link(paths.object, paths.library, triple)
    return paths


def emitted(model: Any, example_inputs: Sequence[Tensor], name: str, target: Any, inside: bool = True) -> Any:
    """The functions for a model in LLVM IR (`Emitter.module`), and what the header says of them."""
    from flambeau.compiler.plan import plan
    from flambeau.export.capture import capture, prepare
    from flambeau.export.emit import Emitter
    from flambeau.export.lowering import Exporter

    captured = capture(model, example_inputs)
    _check_types(captured)
    prepare(captured.graph)
    steps = Exporter(captured.graph, target).steps()
    return Emitter(name, captured, plan(captured.graph, steps), target, inside)


def _check_types(captured: Any) -> None:
    for t in (*captured.inputs, *(ref for ref in captured.graph.outputs[: captured.results])):
        if t.dtype.name not in TYPES:
            raise RuntimeError(f"export: there is no C type for tensors of {t.dtype.name}")


def _compiled(made: Any, target: Any) -> bytes:
    """The object file."""
    from flambeau.backends.llvm import jit
    from flambeau.export.weights import definition, filled

    text = str(made.module)
    if not made.inside:
        return jit.compile_module(text, machine=target.machine())
    declared = f'@"{made.symbol}" = external global i8'
    assert declared in text
    content = made.block.content or bytes(64)
    text = text.replace(declared, definition(made.symbol, content, target.is_elf))
    object_file = jit.compile_module(text, machine=target.machine())
    return filled(object_file, content) if target.is_elf else object_file


def _library_name(name: str, triple: str) -> str:
    if "windows" in triple:
        return f"{name}.dll"
    return f"lib{name}.dylib" if "darwin" in triple or "macos" in triple else f"lib{name}.so"


def _write(path: Path, content: bytes) -> None:
    """Replace a file in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def c_compiler(triple: str | None = None) -> str | None:
    """The C compiler of this machine, if it has one; with `triple`, the one for that other machine."""
    names = [os.environ.get("CC") or "cc", "gcc", "clang"] if triple is None else [f"{triple}-gcc", f"{triple}-cc"]
    return next((found for found in map(shutil.which, names) if found), None)


def _link(source: Path, library: Path, triple: str | None) -> None:
    compiler = c_compiler(triple)
    if compiler is None:
        wanted = "cc, gcc, clang" if triple is None else f"{triple}-gcc"
        raise RuntimeError(f"export: a shared library needs a linker, and there is no C compiler here ({wanted})")
    temporary = library.with_name(f".{library.name}.{os.getpid()}.tmp")
    try:
        done = subprocess.run([compiler, "-shared", "-o", str(temporary), str(source), "-lm"], capture_output=True,
                              text=True)
        if done.returncode:
            raise RuntimeError(f"export: {compiler} could not link {library.name}: {done.stderr.strip()}")
        os.replace(temporary, library)
    finally:
        temporary.unlink(missing_ok=True)
