"""Programs: a lowered graph as records that one native call runs (backends/llvm/runner.py).

Where native code cannot be made (no llvmlite, another interpreter than CPython) the graph is interpreted.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flambeau.backends import allocation, threads
from flambeau.compiler import cache, interpreter
from flambeau.compiler.assemble import Assembly, Parts
from flambeau.compiler.graph import Graph, Ref, Value
from flambeau.compiler.kernel import Apply, Reduce
from flambeau.compiler.passes.batch import gather_updates
from flambeau.compiler.passes.batchnorm import fold_batch_norm
from flambeau.compiler.passes.clean import clean
from flambeau.compiler.passes.decompose import decompose
from flambeau.compiler.passes.postops import fuse_post_ops, release_bias
from flambeau.compiler.passes.steady import Split, split_steady
from flambeau.compiler.plan import Plan, merged, plan, reads_of
from flambeau.compiler.steps import HostStep, KernelStep, LibraryStep, RoutineStep, Step
from flambeau.core.storage import EXPOSED, WATCHED
from flambeau.core.tensor import storage_of

BATCH = 1 << 15  # points of equal kernels in a row from which one parallel region for all pays
LARGE = 16 << 20  # bytes of a program's memory from which malloc is asked to give its own back
LONG = 200_000  # elements of work from which other threads of Python get to run meanwhile


def prepare(graph: Graph) -> None:
    """The passes that change a graph before it is lowered."""
    clean(graph)
    fold_batch_norm(graph)
    release_bias(graph)
    fuse_post_ops(graph, threads.get_num_threads())
    decompose(graph)
    clean(graph)


def program(graph: Graph) -> Callable[[list[np.ndarray]], list[np.ndarray]]:
    """What runs a graph: a function from the arrays of `graph.inputs` to those of `graph.outputs`."""
    prepare(graph)
    try:
        from flambeau.backends.llvm import builtin
    except ImportError:
        return lambda arrays: interpreter.run(graph, arrays)
    if not builtin.supported():
        return lambda arrays: interpreter.run(graph, arrays)
    return Program(graph)


class Program:
    """A graph made native: `program(arrays)` runs it."""

    def __init__(self, graph: Graph):
        from flambeau.compiler.lower.nodes import lower

        self.graph = graph
        self.threads = threads.get_num_threads()
        self.generation = threads.generation
        self.lock = threading.Lock()
        steps, self.parts = lower(graph, self.threads)
        steady = divide(graph, gather_updates(graph, steps))
        self.steady_steps = len(steady.first)
        self.plan: Plan = plan(graph, [*steady.first, *steady.rest], steady.kept)
        if self.plan.size > LARGE:  # what the captured call freed is not wanted again
            allocation.give_back()
        self.arena = allocation.block(self.plan.size + 64)
        self.base = -(-self.arena.ctypes.data // 64) * 64
        self.kept: list[Any] = []
        self.constants = {value: _laid(array, value) for value, array in graph.constants.items()}
        self.outputs = list(dict.fromkeys(ref.value for ref in graph.outputs))
        self.dynamic = {value: i for i, value in enumerate([*graph.inputs, *self.outputs])}
        self._build()

    # ---- building ----------------------------------------------------------------------------------

    def _build(self) -> None:
        from flambeau.backends.llvm import runner as native

        assembly = Assembly(self.threads)
        self.pointers: list[int] = []
        self.places: dict[Value, list[int]] = {}
        records: list[list[int]] = []
        handles: list[list[int]] = []
        self.hosts: list[tuple[int, HostStep]] = []  # (number of records before it, step)
        self.names: list[str] = []
        self.first = 0  # records that depend on state only: they run when it has changed
        pending = [self._step(step, assembly) for step in self.plan.steps]
        assembly.load()
        skip = 0
        table: list[tuple[int, int]] = []  # (record, word) that hold an offset into the pointer table
        for number, (step, make) in enumerate(zip(self.plan.steps, pending)):
            if number == self.steady_steps:
                self.first = len(records)
            if number < skip:
                continue
            skip = self._batch_end(number, pending, assembly)
            if skip > number + 1:
                table.append((len(records), 2))
                records.append(self._batch_record(pending[number:skip], assembly, native))
                self.names.append(f"{skip - number} times {describe(step)}")
                continue
            if isinstance(step, HostStep):
                self.hosts.append((len(records), step))
                continue
            for record in make(assembly, native):
                kind, *words = record
                if kind == native.LIBRARY:
                    handles.append(words.pop())
                    words += [len(handles) - 1, len(handles[-1]) // 2]
                else:
                    table.append((len(records), 2))
                records.append([kind, *words, *[0] * (native.WORDS - 1 - len(words))])
                self.names.append(describe(step))
        self._lay_out(records, handles, table, native)
        self.codes = assembly.codes

    def _step(self, step: Step, assembly: Any) -> Any:
        """Ask for the code of a step; what is returned makes its records once the code is loaded."""
        if isinstance(step, KernelStep):
            kernel, homes = merged(step, self.plan)
            return KernelCode(self, assembly.kernel(kernel), homes)
        if isinstance(step, RoutineStep):
            assembly.routine(step)
            return lambda code, native: [
                [native.ROUTINE, code.routine_address(step), self._row([self._place(ref) for ref in step.operands])]
            ]
        if isinstance(step, LibraryStep):
            return lambda code, native: [self._library_record(step, native)]
        return None

    def _kernel_records(
        self, parts: Parts | None, homes: list[tuple[Value, int]], code: Assembly, native: Any
    ) -> list[list[int]]:
        if parts is None:
            raise RuntimeError("a kernel that cannot be generated")
        row: list[tuple[Any, int]] = list(homes)
        if parts.scratch:
            scratch = np.empty(parts.scratch + 64, np.uint8)
            self.kept.append(scratch)
            row.append((None, -(-scratch.ctypes.data // 64) * 64))
        at = self._row(row)
        found = []
        for phase in parts.phases:
            address = code.address(phase.name)
            if phase.parallel:
                found.append([native.PARALLEL, address, at, phase.extent, phase.grain])
            else:
                found.append([native.SERIAL, address, at, phase.extent])
        return found

    def _batch_end(self, number: int, pending: list[Any], code: Assembly) -> int:
        """One past the last of the equal flat kernels that begin with step `number` and are worth a parallel region."""
        first = pending[number]
        function = first.flat(code) if isinstance(first, KernelCode) and self.threads > 1 else None
        if function is None:
            return number + 1
        end = number + 1
        while end < len(pending) and isinstance(pending[end], KernelCode) and pending[end].flat(code) == function:
            end += 1
        if number < self.steady_steps < end:
            end = self.steady_steps
        points = sum(made.extent(code) for made in pending[number:end])
        return end if points >= BATCH else number + 1

    def _batch_record(self, kernels: list[KernelCode], code: Assembly, native: Any) -> list[int]:
        starts, extents = [0], []
        for made in kernels:
            extents.append(made.extent(code))
            starts.append(starts[-1] + -(-extents[-1] // native.GRAIN) * native.GRAIN)
        rows = [self._row(made.homes) for made in kernels]
        words = np.array([*starts, *extents], np.int64)
        self.kept.append(words)
        address = words.ctypes.data
        return [
            native.BATCH,
            code.address(kernels[0].flat(code)),
            rows[0],
            address,
            address + 8 * len(starts),
            len(kernels),
            len(kernels[0].homes),
            starts[-1] // native.GRAIN,
        ]

    def _library_record(self, step: LibraryStep, native: Any) -> list[Any]:
        primitive = step.primitive
        self.kept.append(primitive)
        at = self._row([self._place(ref) for ref in step.operands])
        pairs = [word for i, memory in enumerate(primitive.memories) for word in (memory, at + i)]
        return [native.LIBRARY, primitive.handle, primitive.stream, primitive.count, primitive.exec_arguments, pairs]

    def _place(self, ref: Ref) -> tuple[Value | None, int]:
        return self.plan.home(ref.value), ref.offset * ref.dtype.itemsize

    def _row(self, row: Sequence[tuple[Value | None, int]]) -> int:
        """Put pointers into the table; where they begin. Places of values given at each call are filled then."""
        start = len(self.pointers)
        for value, extra in row:
            if value in self.dynamic:
                if extra:
                    value = self._moved(value, extra)
                self.places.setdefault(value, []).append(len(self.pointers))
                self.pointers.append(0)
            elif value is None:
                self.pointers.append(extra)
            elif value in self.constants:
                self.pointers.append(self.constants[value].ctypes.data + extra)
            else:
                self.pointers.append(self.base + self.plan.offsets[value] + extra)
        return start

    def _moved(self, value: Value, extra: int) -> Any:
        """A place inside the memory of a value given at each call: the pointer table gets the sum."""
        return (value, extra)

    def _lay_out(
        self, records: list[list[int]], handles: list[list[int]], table: list[tuple[int, int]], native: Any
    ) -> None:
        word = np.int64
        self.table = np.array(self.pointers or [0], word)
        base = self.table.ctypes.data
        self.handles = []
        for record in records:
            if record[0] == native.LIBRARY:
                pairs = np.array(handles[record[5]] or [0], word)
                pairs[1::2] = base + 8 * pairs[1::2]
                self.handles.append(pairs)
                record[5] = pairs.ctypes.data
        for number, at in table:
            records[number][at] = base + 8 * records[number][at]
        self.records = np.array(records or [[0] * native.WORDS], word)
        self.count = len(records)
        order = list(self.dynamic)
        inside: dict[Value, list[tuple[int, list[int]]]] = {}
        for key, places in self.places.items():
            value, extra = key if isinstance(key, tuple) else (key, 0)
            inside.setdefault(value, []).append((extra, places))
        starts, positions, extras = [0], [], []
        for value in order:
            for extra, places in inside.get(value, ()):
                positions += places
                extras += [extra] * len(places)
            starts.append(len(positions))
        self.starts, self.positions = np.array(starts, word), np.array(positions or [0], word)
        self.extras = np.array(extras or [0], word)
        self.header = np.zeros(native.HEADER_WORDS, word)
        h = self.header
        h[native.POINTERS], h[native.RECORDS] = base, self.records.ctypes.data
        h[native.DYNAMIC], h[native.STARTS], h[native.POSITIONS] = (
            len(order),
            self.starts.ctypes.data,
            self.positions.ctypes.data,
        )
        h[native.EXTRAS] = self.extras.ctypes.data
        h[native.LAST] = self.count
        if handles:
            from flambeau.backends.onednn.memory import loaded

            dll = loaded().dll
            h[native.EXECUTE] = ctypes.cast(dll.dnnl_primitive_execute, ctypes.c_void_p).value
            h[native.SET_HANDLE] = ctypes.cast(dll.dnnl_memory_set_data_handle, ctypes.c_void_p).value
        h[native.RELEASE] = sum(v.size for node in self.graph.nodes for v in node.outputs if v is not None) > LONG
        self.native = native.runner(self.header, kept_runner)
        self.seen: tuple[list[Any], list[Any]] | None = None
        self._watch()
        # Without library calls and in one go nothing can fail, and Python's own lock is lock enough.
        alone = not handles and not h[native.RELEASE] and not self.first
        self.run: Callable[..., None] = self.native if alone else self._run_locked
        self.FIRST, self.LAST, self.STATUS = native.FIRST, native.LAST, native.STATUS

    # ---- running -----------------------------------------------------------------------------------

    def __call__(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """Run on the memory of the inputs; returns new arrays for the outputs."""
        made = [interpreter.empty_value(value) for value in self.outputs]
        if self.hosts:
            with self.lock:
                self._run_with_hosts(arrays, made)
        else:
            self.run(*arrays, *made)
        if len(made) == len(self.graph.outputs):
            return made
        return [made[self.outputs.index(ref.value)] for ref in self.graph.outputs]

    def _run_locked(self, *arrays: np.ndarray) -> None:
        """Run a program that lets other threads of Python run meanwhile, or that calls libraries."""
        with self.lock:
            if threads.stale():
                threads.apply()
            if self.first:
                self.header[self.FIRST] = 0 if self._state_changed(arrays) else self.first
            self.native(*arrays)
            self._check()

    def _state_changed(self, arrays: tuple[np.ndarray, ...]) -> bool:
        """Whether what the steady steps read is not what it was when they ran last; notes what it is now."""
        memory = [arrays[i] for i, _ in self.watched]
        marks = [(id(t._storage), t._storage.version, t._storage.flags) for _, t in self.watched]
        before, self.seen = self.seen, (memory, marks)
        if before is None or any(flags & EXPOSED for _, _, flags in marks) or marks != before[1]:
            return True
        return any(a is not b for a, b in zip(memory, before[0]))

    def _watch(self) -> None:
        """Find the tensors behind the inputs that steady steps read."""
        read = {v for step in self.plan.steps[: self.steady_steps] for v in reads_of(step)}
        self.watched = []
        for i, value in enumerate(self.graph.inputs):
            if value in read:
                t = value.source.what._grad if value.source.kind == "grad" else value.source.what
                storage_of(t).flags |= WATCHED
                self.watched.append((i, t))

    def _check(self) -> None:
        status = int(self.header[self.STATUS])
        if status:
            self.header[self.STATUS] = 0
            raise RuntimeError(f"a library call of a compiled program failed with status {status}")

    def _run_with_hosts(self, arrays: list[np.ndarray], made: list[np.ndarray]) -> None:
        known = dict(zip(self.dynamic, [*arrays, *made]))
        if threads.stale():
            threads.apply()
        at = 0
        if self.first and not self._state_changed(tuple(arrays)):
            at = self.first
        for number, step in self.hosts:
            self._run_native(at, number, arrays, made)
            self._run_host(step, known)
            at = number
        self._run_native(at, self.count, arrays, made)

    def _run_native(self, first: int, last: int, arrays: list[np.ndarray], made: list[np.ndarray]) -> None:
        if first < last:
            self.header[self.FIRST], self.header[self.LAST] = first, last
            self.native(*arrays, *made)
            self._check()

    # ---- measuring -----------------------------------------------------------------------------------

    def timed(self, on: bool) -> None:
        """From now on run step by step and measure each (or no longer). Native steps only."""
        if on:
            self.seconds = [0.0] * self.count
            self.usual, self.run = self.run, self._run_timed
        else:
            self.run = self.usual

    def timings(self) -> list[tuple[str, float]]:
        """(description, seconds in all) of each native step since `timed(True)`."""
        return list(zip(self.names, self.seconds))

    def _run_timed(self, *arrays: np.ndarray) -> None:
        with self.lock:
            for number in range(self.first if self.first and not self._state_changed(arrays) else 0, self.count):
                self.header[self.FIRST], self.header[self.LAST] = number, number + 1
                begin = time.perf_counter()
                self.native(*arrays)
                self.seconds[number] += time.perf_counter() - begin
            self.header[self.FIRST], self.header[self.LAST] = 0, self.count
            self._check()

    def array(self, value: Value, known: dict[Value, np.ndarray]) -> np.ndarray:
        """The memory of a value as an array of its shape."""
        home = self.plan.home(value)
        if home in known:
            memory = known[home]
            return memory if home is value else _as(memory, value)
        if home in self.constants:
            return self.constants[home]
        start = self.base - self.arena.ctypes.data + self.plan.offsets[home]
        flat = self.arena[start : start + value.nbytes].view(value.dtype)
        return _as(flat, value)

    def _run_host(self, step: HostStep, known: dict[Value, np.ndarray]) -> None:
        operands = [interpreter.window(self.array(x.value, known), x) if isinstance(x, Ref) else x for x in step.inputs]
        for value, result in zip(step.outputs, step.run(*operands)):
            if value is not None and (
                value in self.plan.offsets
                or self.plan.home(value) in known
                or self.plan.home(value) in self.plan.offsets
            ):
                if np.shape(result) != value.shape:
                    raise RuntimeError(f"{step.name} of a compiled program made {np.shape(result)}, not {value.shape}")
                self.array(value, known)[...] = result


def kept_runner(make: Callable[[], bytes]) -> bytes:
    """The runner's object file, from the cache on disk if it is there."""
    return cache.cached(cache.key_of("runner"), make)


def divide(graph: Graph, steps: list[Step]) -> Split:
    """The steps on state alone, apart from the others; nothing is set apart if the state can change unnoticed."""
    split = split_steady(graph, steps)
    for value in split.state:
        kind, what = (value.source.kind, value.source.what) if value.source is not None else ("", None)
        t = what if kind == "tensor" else what._grad if kind == "grad" else None
        if t is None or storage_of(t).flags & EXPOSED:
            return Split([], steps, set(), set())
    return split


class KernelCode:
    """A kernel step whose code is asked for: called with the loaded code, it makes its records."""

    def __init__(self, program: Program, number: int, homes: list[tuple[Value, int]]):
        self.program = program
        self.number = number
        self.homes = homes

    def __call__(self, code: Assembly, native: Any) -> list[list[int]]:
        return self.program._kernel_records(code.parts(self.number), self.homes, code, native)

    def flat(self, code: Assembly) -> str | None:
        """The name of the kernel's only function, if that serves any extent."""
        parts = code.parts(self.number)
        return parts.phases[0].name if parts is not None and parts.flat and not parts.scratch else None

    def extent(self, code: Assembly) -> int:
        parts = code.parts(self.number)
        assert parts is not None
        return parts.phases[0].extent


def describe(step: Step) -> str:
    """What a step does, in a few words."""
    if isinstance(step, KernelStep):
        ops = [
            i.op if isinstance(i, Apply) else f"{type(i).__name__.lower()} {i.kind}"
            for i in step.kernel.body
            if isinstance(i, (Apply, Reduce))
        ]
        counted = [f"{op} x{ops.count(op)}" if ops.count(op) > 1 else op for op in dict.fromkeys(ops)]
        return f"kernel {list(step.kernel.shape)}: {', '.join(counted) or 'copy'}"
    if isinstance(step, LibraryStep):
        shapes = " ".join("x".join(map(str, ref.shape)) for ref in step.operands)
        return f"library {step.primitive.name} {step.primitive.implementation}: {shapes}"
    return f"routine {step.label or step.key[:60]}" if isinstance(step, RoutineStep) else f"host {step.name}"


def _laid(array: np.ndarray, value: Value) -> np.ndarray:
    """A constant in memory of the value's layout; state that lies in place (a generator's) is itself."""
    if array.strides == tuple(s * array.itemsize for s in value.strides):
        return array
    made = interpreter.empty_value(value)
    made[...] = array
    return made


def _as(memory: np.ndarray, value: Value) -> np.ndarray:
    return np.lib.stride_tricks.as_strided(memory, value.shape, tuple(s * value.dtype.itemsize for s in value.strides))
