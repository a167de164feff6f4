"""The functions of an exported model in LLVM IR: `name_run`, `name_run_in`, `name_load`, `name_unload`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from flambeau.backends.llvm import registers as reg
from flambeau.backends.llvm import symbols
from flambeau.compiler.graph import Check, Ref, Value
from flambeau.compiler.lower import loops
from flambeau.compiler.lower.points import const, loop
from flambeau.compiler.plan import Plan, merged
from flambeau.compiler.steps import KernelStep, RoutineStep
from flambeau.export.capture import Captured
from flambeau.export.target import Target
from flambeau.export.weights import HEADER, MAGIC, MIX, SPREAD, Block

OK, NO_WEIGHTS, OUT_OF_BOUNDS, NO_MEMORY = 0, -1, -2, -3

_void = ir.VoidType()
Call = tuple[Any, list[tuple["Value | None", int]], list[Any]]  # function, places of its buffers, further arguments


def _i32(value: int) -> Any:
    return ir.Constant(reg.i32, value)


class Emitter:
    """Writes one module."""

    def __init__(self, name: str, captured: Captured, plan: Plan, target: Target, inside: bool):
        self.name, self.captured, self.plan, self.target, self.inside = name, captured, plan, target, inside
        self.module = ir.Module(name)
        self.module.triple = target.triple
        self._stand_in_for_threads()
        self.calls: list[Call] = []
        self.scratch = 0
        for step in plan.steps:
            self.calls += self._calls(step)
        constants = captured.graph.constants
        used = dict.fromkeys(value for _, row, _ in self.calls for value, _ in row if value in constants)
        self.block = Block(used, constants)
        self.arena = -(-plan.size // 64) * 64
        self.workspace = max(64, self.arena + self.scratch)
        self._weights()
        run = self._run_in()
        self._run(run)
        if not inside:
            self._load()
            self._unload()

    # ---- what generated code expects around it ----------------------------------------------------------

    def _stand_in_for_threads(self) -> None:
        """The functions of OpenMP, for one thread: routines of the compiler may ask for them."""
        answers = {"omp_get_max_threads": 1, "omp_get_num_threads": 1, "omp_get_thread_num": 0}
        for name, answer in answers.items():
            b = self._function(name, reg.i32, [], "internal")
            b.ret(_i32(answer))
        b = self._function("GOMP_parallel", _void, [reg.pointer, reg.pointer, reg.i32, reg.i32], "internal")
        body, data, _, _ = b.function.args
        kind = ir.FunctionType(_void, [reg.pointer])
        typed = ir.instructions.CastInstr(b.block, "bitcast", body, kind.as_pointer(), "f")
        b._insert(typed)
        b.call(typed, [data])
        b.ret_void()
        limit = ir.GlobalVariable(self.module, reg.i32, symbols.THREAD_LIMIT)
        limit.linkage, limit.global_constant, limit.initializer = "internal", True, _i32(1)

    def _function(self, name: str, result: Any, parameters: list[Any], linkage: str = "") -> Any:
        made = ir.Function(self.module, ir.FunctionType(result, parameters), name)
        made.linkage = linkage
        return ir.IRBuilder(made.append_basic_block())

    def _calls(self, step: Any) -> list[Call]:
        if isinstance(step, RoutineStep):
            row: list[tuple[Value | None, int]] = [
                (self.plan.home(ref.value), ref.offset * ref.dtype.itemsize) for ref in step.operands]
            return [(step.emit(self.module), row, [])]
        assert isinstance(step, KernelStep)
        kernel, homes = merged(step, self.plan)
        try:
            emitted = loops.emit(self.module, kernel, 1, self.target.vector_bits // 8)
        except loops.Unsupported as error:
            raise RuntimeError(f"export: there is no native code for a loop: {error}") from error
        row = list(homes)
        if emitted.scratch:
            row.append((None, 0))
            self.scratch = max(self.scratch, -(-emitted.scratch // 64) * 64)
        return [(phase.function, row, [const(0), const(phase.extent)]) for phase in emitted.phases]

    # ---- weights -----------------------------------------------------------------------------------------

    def _weights(self) -> None:
        self.symbol = f"{self.name}_weights_data"
        if self.inside:
            self.held = ir.GlobalVariable(self.module, reg.i8, self.symbol)
            self.held.linkage = "external"
        else:
            self.held = ir.GlobalVariable(self.module, reg.pointer, self.symbol)
            self.held.linkage, self.held.initializer = "internal", ir.Constant(reg.pointer, None)
            self.memory = ir.GlobalVariable(self.module, reg.pointer, f"{self.name}_weights_memory")
            self.memory.linkage, self.memory.initializer = "internal", ir.Constant(reg.pointer, None)

    def _pointer(self, variable: Any) -> Any:
        """A global as an opaque pointer."""
        return _Opaque(variable)

    def _c(self, name: str, result: Any, parameters: list[Any]) -> Any:
        return reg.declared(self.module, name, result, parameters)

    def _fail_if(self, b: Any, condition: Any, code: int, before: Callable[[], None] | None = None) -> None:
        with b.if_then(condition, likely=False):
            if before is not None:
                before()
            b.ret(_i32(code))

    def _load(self) -> None:
        """int name_load(const char* path)"""
        b = self._function(f"{self.name}_load", reg.i32, [reg.pointer])
        null = ir.Constant(reg.pointer, None)
        read = self._c("fread", reg.i64, [reg.pointer, reg.i64, reg.i64, reg.pointer])
        close = self._c("fclose", reg.i32, [reg.pointer])
        free = self._c("free", _void, [reg.pointer])
        mode = ir.GlobalVariable(self.module, ir.ArrayType(reg.i8, 3), f"{self.name}_mode")
        mode.linkage, mode.global_constant = "internal", True
        mode.initializer = ir.Constant(mode.value_type, bytearray(b"rb\0"))
        opened = self._c("fopen", reg.pointer, [reg.pointer, reg.pointer])
        file = b.call(opened, [b.function.args[0], self._pointer(mode)])
        self._fail_if(b, b.icmp_unsigned("==", file, null), NO_WEIGHTS)
        shut = lambda: b.call(close, [file]) and None
        head = reg.stack_room(b, reg.i64, HEADER // 8)
        wrong = b.icmp_unsigned("!=", b.call(read, [head, const(1), const(HEADER), file]), const(HEADER))
        self._fail_if(b, wrong, NO_WEIGHTS, shut)
        size = len(self.block.content)
        for i, word in enumerate((int.from_bytes(MAGIC, "little"), self.block.checksum, size)):
            found = b.load(b.gep(head, [const(i)], source_etype=reg.i64), typ=reg.i64)
            self._fail_if(b, b.icmp_unsigned("!=", found, const(_signed(word))), NO_WEIGHTS, shut)
        memory = b.call(self._c("malloc", reg.pointer, [reg.i64]), [const(size + 64)])
        self._fail_if(b, b.icmp_unsigned("==", memory, null), NO_MEMORY, shut)
        data = self._aligned(b, memory)
        count = b.call(read, [data, const(1), const(size), file])
        b.call(close, [file])
        drop = lambda: b.call(free, [memory]) and None
        self._fail_if(b, b.icmp_unsigned("!=", count, const(size)), NO_WEIGHTS, drop)

        def add(i: Any, sums: list[Any]) -> list[Any]:
            word = b.load(b.gep(data, [i], source_etype=reg.i64), typ=reg.i64)
            mixed = b.mul(b.xor(word, b.mul(i, const(_signed(SPREAD)))), const(_signed(MIX)))
            return [b.add(sums[0], mixed)]

        (total,) = loop(b, const(0), const(size // 8), 1, [const(0)], add)
        total = b.xor(total, const(size))
        self._fail_if(b, b.icmp_unsigned("!=", total, const(_signed(self.block.checksum))), NO_WEIGHTS, drop)
        b.call(free, [b.load(self._pointer(self.memory), typ=reg.pointer)])
        b.store(memory, self._pointer(self.memory))
        b.store(data, self._pointer(self.held))
        b.ret(_i32(OK))

    def _unload(self) -> None:
        """void name_unload(void)"""
        b = self._function(f"{self.name}_unload", _void, [])
        null = ir.Constant(reg.pointer, None)
        b.call(self._c("free", _void, [reg.pointer]), [b.load(self._pointer(self.memory), typ=reg.pointer)])
        b.store(null, self._pointer(self.memory))
        b.store(null, self._pointer(self.held))
        b.ret_void()

    def _aligned(self, b: Any, memory: Any) -> Any:
        """The first address from here on that is a multiple of 64."""
        return b.inttoptr(b.and_(b.add(b.ptrtoint(memory, reg.i64), const(63)), const(-64)), reg.pointer)

    # ---- running -----------------------------------------------------------------------------------------

    def _parameters(self) -> list[Any]:
        return [reg.pointer] * (len(self.captured.inputs) + self.captured.results)

    def _run_in(self) -> Any:
        """int name_run_in(void* workspace, inputs…, outputs…)"""
        b = self._function(f"{self.name}_run_in", reg.i32, [reg.pointer, *self._parameters()])
        workspace, *pointers = b.function.args
        graph = self.captured.graph
        self.places: dict[Value, Any] = {}
        for value, number in zip(graph.inputs, self.captured.arguments):
            self.places[value] = pointers[number]
        for number, ref in enumerate(graph.outputs[: self.captured.results]):
            self.places[ref.value] = pointers[len(self.captured.inputs) + number]
        if self.inside:
            self.data = self._pointer(self.held)
        else:
            self.data = b.load(self._pointer(self.held), typ=reg.pointer)
            self._fail_if(b, b.icmp_unsigned("==", self.data, ir.Constant(reg.pointer, None)), NO_WEIGHTS)
        self.start = workspace
        for check in graph.checks:
            self._fail_if(b, b.not_(self._holds(b, check)), OUT_OF_BOUNDS)
        row = reg.stack_room(b, reg.pointer, max((len(r) for _, r, _ in self.calls), default=1))
        for function, places, rest in self.calls:
            for i, place in enumerate(places):
                b.store(self._address(b, *place), b.gep(row, [const(i)], source_etype=reg.pointer))
            b.call(function, [row, *rest])
        for ref in graph.outputs[self.captured.results :]:
            flag = b.load(self._address(b, self.plan.home(ref.value), ref.offset), typ=reg.i8)
            self._fail_if(b, b.icmp_unsigned("==", flag, ir.Constant(reg.i8, 0)), OUT_OF_BOUNDS)
        b.ret(_i32(OK))
        return b.function

    def _address(self, b: Any, value: Value | None, extra: int) -> Any:
        if value is None:
            base, extra = self.start, self.arena
        elif value in self.places:
            base = self.places[value]
        elif value in self.block.offsets:
            base, extra = self.data, extra + self.block.offsets[value]
        else:
            base, extra = self.start, extra + self.plan.offsets[value]
        return b.gep(base, [const(extra)], source_etype=reg.i8) if extra else base

    def _holds(self, b: Any, check: Check) -> Any:
        """Whether all values of an input are within bounds."""
        ref: Ref = check.ref
        base = self.places[ref.value]

        def walk(axes: list[tuple[int, int]], at: Any, fine: Any) -> Any:
            if not axes:
                place = b.gep(base, [b.mul(at, const(ref.dtype.itemsize))], source_etype=reg.i8)
                x = reg.load_value(b, place, ref.dtype)
                return b.and_(fine, self._within(b, x, check, ref.dtype))
            (size, stride), *rest = axes
            return loop(b, const(0), const(size), 1, [fine], lambda i, given: [
                walk(rest, b.add(at, b.mul(i, const(stride))), given[0])])[0]

        return walk(list(zip(ref.shape, ref.strides)), const(ref.offset), ir.Constant(reg.i1, 1))

    def _within(self, b: Any, x: Any, check: Check, dtype: np.dtype) -> Any:
        def compare(sign: str, bound: Any) -> Any:
            number = reg.constant(bound, dtype)
            if reg.is_float(dtype):
                return b.fcmp_ordered(sign, x, number)
            return (b.icmp_unsigned if dtype.kind == "u" else b.icmp_signed)(sign, x, number)

        fine = b.and_(compare(">=", check.low), compare("<=", check.high))
        return fine if check.but is None else b.or_(fine, compare("==", check.but))

    def _run(self, run_in: Any) -> None:
        """int name_run(inputs…, outputs…): in memory of its own, or in new memory while another thread is in there."""
        b = self._function(f"{self.name}_run", reg.i32, self._parameters())
        kind = ir.ArrayType(reg.i8, self.workspace)
        room = ir.GlobalVariable(self.module, kind, f"{self.name}_workspace")
        room.linkage, room.align = "internal", 64
        room.initializer = ir.Constant(kind, None)
        busy = ir.GlobalVariable(self.module, reg.i32, f"{self.name}_busy")
        busy.linkage, busy.initializer = "internal", _i32(0)
        taken = b.extract_value(b.cmpxchg(busy, _i32(0), _i32(1), "acquire", "monotonic"), 1)
        with b.if_then(taken, likely=True):
            status = b.call(run_in, [self._pointer(room), *b.function.args])
            b.store_atomic(_i32(0), busy, "release", 4)
            b.ret(status)
        memory = b.call(self._c("malloc", reg.pointer, [reg.i64]), [const(self.workspace + 64)])
        self._fail_if(b, b.icmp_unsigned("==", memory, ir.Constant(reg.pointer, None)), NO_MEMORY)
        status = b.call(run_in, [self._aligned(b, memory), *b.function.args])
        b.call(self._c("free", _void, [reg.pointer]), [memory])
        b.ret(status)


class _Opaque:
    """A global seen as an opaque pointer, which llvmlite's typed globals are not."""

    def __init__(self, variable: Any):
        self.variable = variable
        self.type = reg.pointer

    def get_reference(self) -> str:
        return str(self.variable.get_reference())

    def __str__(self) -> str:
        return f"{self.type} {self.get_reference()}"


def _signed(word: int) -> int:
    """A 64-bit pattern as the signed number that LLVM's text wants."""
    return word - (1 << 64) if word >= 1 << 63 else word
