"""From a `Kernel` to machine code: the choice among the ways to loop, and the calls that run what was emitted.

| kernel | code |
|---|---|
| no reductions | `pointwise.py`: one flat vector loop, or rows of it |
| sums along memory, many rows | `rows.py`: all passes over a row while the cache holds it |
| sums across memory, short | `rows.py`: each lane is a column of its own |
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from llvmlite import ir

from flambeau.backends.llvm import jit, runtime
from flambeau.backends.llvm import registers as reg
from flambeau.compiler.kernel import Gather, Kernel, Load, Store
from flambeau.compiler.lower.nest import Nest, Unsupported, cost, simplify
from flambeau.compiler.lower.pointwise import Rows, write_flat, write_rows
from flambeau.compiler.lower.rows import Columns, pass_unrolling, write_along_columns, write_along_rows

FUNCTION = ir.FunctionType(ir.VoidType(), [reg.pointer, reg.i64, reg.i64])


@dataclass(frozen=True)
class Phase:
    """A function `void f(ptr buffers, i64 begin, i64 end)` to be run over 0 … extent, in shares that are multiples of
    `grain`; `cost` is an estimate of the nanoseconds that all of it takes on one thread."""

    function: ir.Function
    extent: int
    grain: int
    cost: float


@dataclass(frozen=True)
class Emitted:
    """Phases, to be run one after the other, and the bytes of scratch memory that they want as one more buffer."""

    phases: tuple[Phase, ...]
    scratch: int
    threads: int
    flat: bool  # pointwise along one dimension: the function serves any extent


def emit(module: ir.Module, kernel: Kernel, threads: int = 1, width: int = 0) -> Emitted:
    """Code for a kernel in the module; equal kernels share it.

    `threads` is how many there may be at most, `width` the bytes of a vector register (0: this processor's).
    Raises: Unsupported.
    """
    width = width or jit.host().vector_bits // 8
    kernel = simplify(kernel)
    if 0 in kernel.shape[: len(kernel.shape) - kernel.inner] or not any(isinstance(i, Store) for i in kernel.body):
        return Emitted((), 0, threads, False)
    nest = Nest(kernel)
    return Emitter(module, threads, width).emitted(nest)


class Emitter:
    """Where and for what code is made."""

    def __init__(self, module: ir.Module, threads: int, width: int):
        self.module = module
        self.threads = threads
        self.width = width

    def emitted(self, nest: Nest) -> Emitted:
        """The phases for a simplified kernel."""
        if nest.reduces:
            return self.reduction(nest)
        return self.pointwise(nest)

    def lanes(self, nest: Nest) -> int:
        """How many elements of the kernel's main dtype a vector register holds."""
        return max(4, self.width // nest.width_dtype.itemsize)

    def phase(
        self,
        kind: str,
        nest: Nest,
        extent: int,
        write: Callable[[ir.Function], None],
        grain: int = 1,
        shared: bool = False,
    ) -> Phase:
        """The function for a kernel, written unless the module has it; `shared`: by kernels of any extent."""
        kernel = replace(nest.kernel, shape=()) if shared else nest.kernel
        key = repr((kernel, self.threads, self.width))
        name = f"loops.{kind}.{hashlib.blake2b(key.encode(), digest_size=12).hexdigest()}"
        function = self.module.globals.get(name)
        if function is None:
            function = ir.Function(self.module, FUNCTION, name)
            function.linkage = "internal"
            function.attributes.add("nounwind")
            write(function)
        return Phase(function, extent, grain, estimate(nest))

    def pointwise(self, nest: Nest) -> Emitted:
        lanes = self.lanes(nest)
        if nest.rank <= 1:
            extent = nest.shape[0] if nest.rank else 1
            phase = self.phase(
                "flat",
                nest,
                extent,
                lambda f: write_flat(nest, f, lanes),
                64 if nest.rank else 1,
                shared=nest.rank == 1,
            )
            return Emitted((phase,), 0, self.threads, nest.rank == 1)
        rows = Rows(nest, nest.best_axis(range(nest.rank)), self.threads)
        phase = self.phase("rows", nest, rows.extent, lambda f: write_rows(nest, rows, f, lanes))
        return Emitted((phase,), 0, self.threads, False)

    def reduction(self, nest: Nest) -> Emitted:
        lanes = self.lanes(nest)
        axis = nest.best_axis(range(nest.rank))
        if axis in nest.inner_dims or not nest.kept_dims:
            if axis not in nest.inner_dims:
                axis = nest.inner_dims[-1]
            extent = nest.size(nest.kept_dims)
            phase = self.phase("sums", nest, extent, lambda f: write_along_rows(nest, axis, f, lanes))
            return Emitted((phase,), 0, self.threads, False)
        unroll = max(pass_unrolling(nest, [*r, *s], len(r)) for r, s in nest.passes)
        columns = Columns(nest, axis, lanes, min(unroll, -(-nest.shape[axis] // lanes)))
        phase = self.phase("columns", nest, columns.extent, lambda f: write_along_columns(nest, columns, f, lanes))
        return Emitted((phase,), 0, self.threads, False)


PARALLEL = 20_000.0  # nanoseconds of work from which a parallel region pays: see `backends/llvm/runtime.py`


def estimate(nest: Nest) -> float:
    """Nanoseconds on one thread: the larger of the time for memory and that for arithmetic, roughly."""
    points = nest.size(range(nest.rank))
    nbytes = sum(
        nest.size(sorted(nest.varies[n])) * i.dtype.itemsize
        for n, i in enumerate(nest.body)
        if isinstance(i, (Load, Gather, Store))
    )
    work = sum(cost(i) for n, i in enumerate(nest.body) if not (nest.inner_dims and nest.is_row_level(n)))
    lanes = 32 / nest.width_dtype.itemsize
    return max(nbytes / 15, points * work / lanes / 6)


def emit_call(builder: ir.IRBuilder, emitted: Emitted, buffers: Any) -> None:
    """Emit the run of all phases; `buffers` is a `ptr` to the kernel's buffers and, last, its scratch memory."""
    for phase in emitted.phases:
        threads = emitted.threads if phase.cost >= PARALLEL and phase.extent > phase.grain else 1
        runtime.parallel_for(builder, phase.function, buffers, phase.extent, threads=threads, grain=phase.grain)


__all__ = ["Emitted", "Phase", "Unsupported", "emit"]
