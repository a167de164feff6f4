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
from functools import partial
from typing import Any

from llvmlite import ir

from flambeau.backends.llvm import jit, runtime
from flambeau.backends.llvm import registers as reg
from flambeau.compiler.kernel import Apply, Cast, Gather, Kernel, Load, Store
from flambeau.compiler.lower.columns import Tiles, write_along_columns
from flambeau.compiler.lower.nest import Nest, Unsupported, cost, simplify
from flambeau.compiler.lower.partials import cut_length, group_of_rows, write_column_shares, write_row_shares
from flambeau.compiler.lower.pointwise import FEW, Rows, write_flat, write_rows
from flambeau.compiler.lower.rows import write_along_rows, write_single_row
from flambeau.compiler.lower.stages import Shares, Stages
from flambeau.compiler.lower.transposes import Tiled, Tiling

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
        key = repr((kind, kernel, self.threads, self.width))
        name = f"loops.{kind.partition(chr(32))[0]}.{hashlib.blake2b(key.encode(), digest_size=12).hexdigest()}"
        function = self.module.globals.get(name)
        if function is None:
            function = ir.Function(self.module, FUNCTION, name)
            function.linkage = "internal"
            function.attributes.add("nounwind")
            try:
                write(function)
            except BaseException as error:
                del self.module.globals[name]  # nobody shall find half a function
                if isinstance(error, TypeError):  # from a rule or a register type
                    raise Unsupported(str(error)) from error
                raise
        return Phase(function, extent, grain, estimate(nest))

    def pointwise(self, nest: Nest) -> Emitted:
        axis = nest.best_axis(range(nest.rank)) if nest.rank else 0
        lanes = self.lanes(nest)
        tiling = Tiling(nest, axis) if nest.rank > 1 else None
        if tiling is not None and tiling.pays:
            phase = self.phase("tiles", nest, tiling.extent, lambda f: Tiled(nest, tiling, f, lanes).write())
            return Emitted((phase,), 0, self.threads, False)
        if nest.rank and scattered(nest, axis):
            lanes = 1
        if nest.rank <= 1:
            phase = self.phase(
                "flat" if lanes > 1 else "flat single",
                nest,
                nest.shape[0] if nest.rank else 1,
                lambda f: write_flat(nest, f, lanes),
                64 if nest.rank else 1,
                shared=nest.rank == 1,
            )
            return Emitted((phase,), 0, self.threads, nest.rank == 1)
        rows = Rows(nest, axis, self.threads)
        phase = self.phase("rows", nest, rows.extent, lambda f: write_rows(nest, rows, f, lanes))
        return Emitted((phase,), 0, self.threads, False)

    def reduction(self, nest: Nest, whole: bool = False) -> Emitted:
        """`whole`: all passes over a kept point follow each other, whatever the sizes."""
        lanes = self.lanes(nest)
        axis = nest.best_axis(range(nest.rank))
        if axis not in nest.kept_dims:
            points = nest.size(nest.kept_dims)
            alone = self.threads == 1 or estimate(nest) < PARALLEL
            if nest.rank == 1 and alone:
                return self.single_row(nest)
            if not whole and points < 2 * self.threads and self.threads > 1 and estimate(nest) > PARALLEL:
                return self.staged(nest, None, axis, 4 * self.threads // points)
            phase = self.phase("sums", nest, points, lambda f: write_along_rows(nest, axis, f, lanes))
            return Emitted((phase,), 0, self.threads, False)
        tiles = Tiles(nest, axis, lanes)
        down = nest.size(nest.inner_dims) * nest.width_dtype.itemsize
        if (
            not whole
            and (down * tiles.width > TILE or (tiles.extent < self.threads and estimate(nest) > PARALLEL))
            and down * nest.shape[axis] > SLAB
        ):
            points = nest.size(tiles.others)
            shares = 1 if points >= 2 * self.threads else self.threads if points == 1 else 2 * self.threads // points
            return self.staged(nest, axis, axis, shares)
        phase = self.phase("columns", nest, tiles.extent, lambda f: write_along_columns(nest, tiles, f, lanes))
        return Emitted((phase,), 0, self.threads, False)

    def single_row(self, nest: Nest) -> Emitted:
        """One row for one thread: the code does not know its length, so that all such rows share it."""
        typical = Nest(replace(nest.kernel, shape=(1 << 20,)))
        lanes = self.lanes(nest)
        phase = self.phase("row", nest, nest.shape[0], lambda f: write_single_row(typical, f, lanes), shared=True)
        return Emitted((replace(phase, grain=max(1, phase.extent)),), 0, self.threads, False)

    def staged(self, nest: Nest, kept_axis: int | None, axis: int, shares: int) -> Emitted:
        """In several phases, each reduction in shares that the next phase adds up."""
        lanes = self.lanes(nest)
        cut = max(nest.inner_dims, key=lambda d: (nest.shape[d], -d))
        multiple = 4 * lanes if cut == axis else group_of_rows(nest, axis) if cut == nest.inner_dims[-1] else 1
        length = cut_length(nest.shape[cut], max(1, shares), multiple)
        stages = Stages(nest, Shares(-(-nest.shape[cut] // length), cut, length), kept_axis, lanes)
        phases: list[Phase] = []
        for number, (reduces, _) in enumerate(nest.passes):
            if not reduces:
                phases += self.emitted(Nest(simplify(stages.points(number)))).phases
                continue
            kernel, partials = stages.partial(number)
            part = Nest(kernel)
            if kept_axis is None:
                extent = nest.size(nest.kept_dims) * partials.shares
                write = partial(write_row_shares, part, axis, partials, lanes=lanes)
            else:
                extent = nest.size([d for d in nest.kept_dims if d != axis]) * partials.shares
                write = partial(write_column_shares, part, axis, partials, lanes=lanes)
            phases.append(self.phase(f"shares {partials}", part, extent, write))
            phases += self.reduction_or_points(Nest(simplify(stages.combined(number)))).phases
        return Emitted(tuple(phases), stages.room.nbytes, self.threads, False)

    def reduction_or_points(self, nest: Nest) -> Emitted:
        return self.reduction(nest, whole=True) if nest.reduces else self.pointwise(nest)


TILE = 32 * 1024  # bytes of a tile of columns that the first cache holds
SLAB = 128 * 1024  # bytes of all columns together that the second cache holds
PARALLEL = 20_000.0  # nanoseconds of work from which a parallel region pays: see `backends/llvm/runtime.py`


def scattered(nest: Nest, axis: int) -> bool:
    """Whether vectors along this axis are put together from single elements, for little work at few points.

    Then points go one by one, which takes a sixth longer (sums of 9 elements, Zen 3) and a tenth of the code.
    """
    if nest.size(range(nest.rank)) >= FEW:
        return False
    accesses = [i for i in nest.body if isinstance(i, (Load, Gather, Store)) and i.strides[axis]]
    if any(isinstance(i, Gather) or i.strides[axis] == 1 for i in accesses):
        return False
    return sum(cost(i) for i in nest.body if isinstance(i, (Apply, Cast))) <= 2 * len(accesses)


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


__all__ = ["Emitted", "Phase", "Unsupported", "emit", "emit_call"]
