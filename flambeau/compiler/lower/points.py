"""Code for the instructions of a kernel at a point, or at `lanes` neighbouring points along one dimension (the axis).

A `Scope` is a place in the generated code (the body of a loop): which dimensions have an index there, and which
instructions have been computed there already. `hoist` computes before a loop what does not change within it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from flambeau.backends.llvm import registers as reg
from flambeau.backends.llvm.scalars import Maths, Scalar
from flambeau.compiler.kernel import Apply, Cast, Gather, Load, Number, Position, Reduce, Store
from flambeau.compiler.lower.nest import INT64, Fold, Nest, Unsupported, operands, result_dtype
from flambeau.core.dispatch import REGISTRY

i32, i64, pointer = reg.i32, reg.i64, reg.pointer


def const(value: int) -> ir.Constant:
    """An i64 constant."""
    return ir.Constant(i64, value)


def known(value: Any) -> int | None:
    """The number behind an IR constant, else None."""
    return value.constant if isinstance(value, ir.Constant) and isinstance(value.constant, int) else None


def add(b: ir.IRBuilder, x: Any, y: Any) -> Any:
    """x + y of i64, folded where both are constants."""
    first, second = known(x), known(y)
    if first is not None and second is not None:
        return const(first + second)
    return x if second == 0 else y if first == 0 else b.add(x, y)


def mul(b: ir.IRBuilder, x: Any, factor: int) -> Any:
    """x * factor of i64, folded where x is a constant."""
    number = known(x)
    if number is not None:
        return const(number * factor)
    return x if factor == 1 else b.mul(x, const(factor))


def minimum(b: ir.IRBuilder, x: Any, y: Any) -> Any:
    """The smaller of two i64."""
    first, second = known(x), known(y)
    if first is not None and second is not None:
        return const(min(first, second))
    return b.select(b.icmp_signed("<", x, y), x, y)


def loop(
    b: ir.IRBuilder,
    start: Any,
    stop: Any,
    step: int,
    carried: Sequence[Any],
    body: Callable[[Any, list[Any]], Sequence[Any]],
    reduced: bool = False,
) -> list[Any]:
    """`for i in range(start, stop, step)`; `body(i, values)` returns the values of the next round.

    A loop of no rounds makes no code, one of a single round no branch (where the bounds are constants). `reduced`: LLVM
    may replace the index by several pointers that move along, which pays where rows of many strides are walked at once.
    """
    first, last = known(start), known(stop)
    if first is not None and last is not None:
        if first >= last:
            return list(carried)
        if first + step >= last:
            return list(body(start, list(carried)))
    before = b.block
    inside = b.append_basic_block()
    after = b.append_basic_block()
    if first is not None and last is not None:
        b.branch(inside)
    else:
        b.cbranch(b.icmp_signed("<", start, stop), inside, after)
    b.position_at_end(inside)
    index = b.phi(i64)
    index.add_incoming(start, before)
    phis = [b.phi(v.type) for v in carried]
    for phi, value in zip(phis, carried):
        phi.add_incoming(value, before)
    made = list(body(index, list(phis)))
    end = b.block
    following = b.add(index, const(step), flags=("nuw", "nsw"))
    if not reduced:
        following = reg.opaque(b, following)
    index.add_incoming(following, end)
    for phi, value in zip(phis, made):
        phi.add_incoming(value, end)
    b.cbranch(b.icmp_signed("<", following, stop), inside, after)
    b.position_at_end(after)
    if not carried:
        return []
    out = []
    for initial, value in zip(carried, made):
        phi = b.phi(initial.type)
        if not (first is not None and last is not None):
            phi.add_incoming(initial, before)
        phi.add_incoming(value, end)
        out.append(phi)
    return out


def sweep(
    b: ir.IRBuilder,
    start: Any,
    stop: Any,
    width: int,
    unroll: int,
    carried: Sequence[Any],
    body: Callable[[Any, int, Any, list[Any]], Sequence[Any]],
) -> list[Any]:
    """All points from start to stop, `unroll` vectors of `width` at a time, then one by one, the last one masked.

    `body(index, vectors, mask, values)`; mask is None where all lanes are inside, else (bits, lanes inside as i64).
    """
    chunk = width * unroll
    first, last = known(start), known(stop)
    values = list(carried)
    if first is not None and last is not None:
        whole: Any = const(first + (last - first) // chunk * chunk)
        full = const(first + (last - first) // width * width)
    else:
        span = b.sub(stop, start)
        whole = b.add(start, b.and_(span, const(-chunk)))
        full = None
    values = loop(b, start, whole, chunk, values, lambda i, v: body(i, unroll, None, v))

    def masked(i: Any, v: list[Any]) -> Sequence[Any]:
        left = add(b, stop, mul(b, i, -1))
        inside = known(left)
        if inside is not None:
            bits = ir.Constant(ir.VectorType(reg.i1, width), [int(lane < inside) for lane in range(width)])
            return body(i, 1, (bits, left), v)
        lanes = ir.Constant(ir.VectorType(i32, width), list(range(width)))  # as wide as floats: no packing
        bits = b.icmp_signed("<", lanes, reg.broadcast_value(b, b.trunc(left, i32), width))
        return body(i, 1, (bits, left), v)

    if width == 1:
        return loop(b, whole, stop, 1, values, lambda i, v: body(i, 1, None, v)) if unroll > 1 else values
    if full is not None:
        values = loop(b, whole, full, width, values, lambda i, v: body(i, 1, None, v))
        return loop(b, full, stop, width, values, masked)
    return loop(b, whole, stop, width, values, masked)


class Writer:
    """The function being written: its builder, the addresses of its buffers, its vector width."""

    def __init__(self, nest: Nest, function: ir.Function, lanes: int):
        self.nest = nest
        self.function = function
        self.b = ir.IRBuilder(function.append_basic_block())
        self.m = Maths(self.b)
        self.lanes = lanes
        buffers = function.args[0]
        slots = sorted({i.slot for i in nest.body if isinstance(i, (Load, Gather, Store)) and i.slot >= 0})
        self.bases = {
            slot: self.b.load(self.b.gep(buffers, [const(slot)], source_etype=pointer), typ=pointer) for slot in slots
        }

    def buffer(self, slot: int) -> Any:
        """The address of a buffer that no instruction of the body names (scratch memory)."""
        if slot not in self.bases:
            address = self.b.gep(self.function.args[0], [const(slot)], source_etype=pointer)
            self.bases[slot] = self.b.load(address, typ=pointer)
        return self.bases[slot]

    def scope(self) -> Scope:
        """The outermost scope."""
        return Scope(self, None, {}, None, 1, None)

    def intrinsic(self, name: str, result: Any, arguments: Sequence[Any]) -> Any:
        """Call an intrinsic by its full name."""
        function = reg.declared(self.b.module, name, result, [a.type for a in arguments])
        return self.b.call(function, arguments)


class Scope:
    """Where code is being put: indices of dimensions, and the instructions whose values are known."""

    def __init__(
        self, writer: Writer, parent: Scope | None, index: dict[int, Any], axis: int | None, lanes: int, mask: Any
    ):
        self.writer = writer
        self.parent = parent
        self.index = index
        self.axis = axis
        self.lanes = lanes
        self.mask = mask
        self.values: dict[int, Scalar] = {}
        self.vectors: dict[int, Scalar] = {}
        self.addresses: dict[int, tuple[Any, frozenset[int]]] = {}
        self.offsets: dict[Any, Any] = {}

    def inside(self, index: dict[int, Any], axis: int | None = None, lanes: int = 1, mask: Any = None) -> Scope:
        """A scope within this one, with further indices."""
        if axis is None:
            axis, lanes, mask = self.axis, self.lanes, self.mask
        return Scope(self.writer, self, {**self.index, **index}, axis, lanes, mask)

    # ---- what is known ---------------------------------------------------------------------------------

    def find(self, i: int) -> Scalar | None:
        """The value of an instruction, if this scope or one around it has it."""
        scope: Scope | None = self
        while scope is not None:
            if i in scope.values:
                return scope.values[i]
            scope = scope.parent
        return None

    def value(self, i: int) -> Scalar:
        """The value of an instruction: one lane where it does not change along the axis."""
        found = self.find(i)
        if found is None:
            found = self.values[i] = self.compute(i)
        return found

    def vector(self, i: int) -> Scalar:
        """The value of an instruction in all lanes."""
        scope: Scope | None = self
        while scope is not None:
            if i in scope.vectors and scope.vectors[i].lanes == self.lanes:
                return scope.vectors[i]
            scope = scope.parent
        value = self.value(i)
        if value.lanes != self.lanes:
            instruction = self.writer.nest.body[i]
            m = self.writer.m
            if isinstance(instruction, Number):
                value = m.constant(instruction.value, instruction.dtype, self.lanes)
            else:
                value = self.vectors[i] = m.broadcast(value, self.lanes)
        return value

    def hoist(self, roots: Iterable[int], dims: set[int], lanes: int | None = None) -> None:
        """Compute here all that `roots` need and that does not vary along `dims`, the loops that will follow.

        `lanes`: also repeat it into vectors of this width, where varying instructions will want them.
        """
        nest = self.writer.nest
        seen: set[int] = set()

        def visit(i: int) -> None:
            if i in seen:
                return
            seen.add(i)
            if self.find(i) is not None:
                return
            instruction = nest.body[i]
            if isinstance(instruction, (Load, Gather, Store)):
                self._hoist_address(i, dims)
            if isinstance(instruction, Reduce):
                return
            if not isinstance(instruction, (Number, Store)) and not nest.varies[i] & dims and self.computable(i):
                self.value(i)
                return
            for j in operands(instruction):
                visit(j)
                if lanes is not None and self.find(j) is not None and not isinstance(nest.body[j], Number):
                    self._hoist_vector(j, lanes)

        for root in roots:
            visit(root)

    def _hoist_vector(self, i: int, lanes: int) -> None:
        value = self.find(i)
        if value is not None and value.lanes == 1 and lanes > 1 and i not in self.vectors:
            self.vectors[i] = self.writer.m.broadcast(value, lanes)

    def computable(self, i: int) -> bool:
        """Whether all reductions and indices that the instruction needs are known here."""
        if self.find(i) is not None:
            return True
        nest = self.writer.nest
        if isinstance(nest.body[i], Reduce):
            return False
        return nest.varies[i] <= self.index.keys() and all(self.computable(j) for j in operands(nest.body[i]))

    def _hoist_address(self, i: int, dims: set[int]) -> None:
        strides = self.writer.nest.body[i].strides
        if any(strides[d] for d in dims) and any(stride and d in self.index for d, stride in enumerate(strides)):
            bound = frozenset(self.index)
            self.addresses[i] = (self.address(i, so_far=True), bound)

    # ---- computing -------------------------------------------------------------------------------------

    def compute(self, i: int) -> Scalar:
        """Code for one instruction."""
        instruction = self.writer.nest.body[i]
        m = self.writer.m
        if isinstance(instruction, Load):
            return self.load(i, instruction)
        if isinstance(instruction, Gather):
            return self.gather(i, instruction)
        if isinstance(instruction, Number):
            return m.constant(instruction.value, instruction.dtype)
        if isinstance(instruction, Position):
            return self.position(instruction.dim)
        if isinstance(instruction, Cast):
            return m.cast(self.value(instruction.value), instruction.dtype)
        if isinstance(instruction, Fold):
            return self.fold(instruction)
        if isinstance(instruction, Apply):
            return self.apply(instruction)
        raise Unsupported(f"{type(instruction).__name__} before its pass")

    def apply(self, instruction: Apply) -> Scalar:
        op = REGISTRY.get(instruction.op)
        if op is None or op.scalar is None:
            raise Unsupported(f"{instruction.op} has no scalar rule")
        wide = any(self.value(j).lanes > 1 for j in instruction.args)
        arguments = [self.vector(j) if wide else self.value(j) for j in instruction.args]
        made = op.scalar(self.writer.m, *arguments, **dict(instruction.attrs))
        if made.dtype != instruction.dtype:
            made = self.writer.m.cast(made, instruction.dtype)
        return made

    def fold(self, instruction: Fold) -> Scalar:
        out = self.value(instruction.values[0])
        for j in instruction.values[1:]:
            out = combine(self.writer.m, instruction.kind, out, self.value(j))
        return out

    def position(self, dim: int) -> Scalar:
        index = Scalar(self.writer.b, self.index[dim], INT64)
        if dim != self.axis or self.lanes == 1:
            return index
        lanes = Scalar(self.writer.b, ir.Constant(ir.VectorType(i64, self.lanes), list(range(self.lanes))), INT64)
        return index + lanes

    # ---- memory ----------------------------------------------------------------------------------------

    def address(self, i: int, so_far: bool = False) -> Any:
        """Where an access goes at the first lane of this point; `so_far`: some dimensions have no index yet."""
        instruction = self.writer.nest.body[i]
        b = self.writer.b
        scope: Scope | None = self
        base: Any = self.writer.bases.get(instruction.slot)
        done: frozenset[int] = frozenset()
        start = instruction.offset
        while scope is not None:
            if i in scope.addresses:
                base, done = scope.addresses[i]
                start = 0
                break
            scope = scope.parent
        walked = [
            (self.index[d], stride)
            for d, stride in enumerate(instruction.strides)
            if stride and d not in done and not (so_far and d not in self.index)
        ]
        offset = self.offset(start, walked)
        if known(offset) == 0:
            return base
        return b.gep(base, [offset], source_etype=reg.memory_type(np.dtype(instruction.dtype)))

    def offset(self, start: int, walked: Sequence[tuple[Any, int]]) -> Any:
        """start + the sum of index * stride, written once for all accesses that lie alike."""
        key = (start, *((id(index), stride) for index, stride in walked))
        scope: Scope | None = self
        while scope is not None:
            if key in scope.offsets:
                return scope.offsets[key]
            scope = scope.parent
        total: Any = const(start)
        for index, stride in walked:
            total = add(self.writer.b, total, mul(self.writer.b, index, stride))
        self.offsets[key] = total
        return total

    def load(self, i: int, instruction: Load) -> Scalar:
        m = self.writer.m
        stride = instruction.strides[self.axis] if self.axis is not None else 0
        address = self.address(i)
        if self.lanes == 1 or stride == 0:
            return m.load(address, instruction.dtype)
        if stride != 1:
            return self._lane_by_lane(address, instruction.dtype, stride, None)
        if self.mask is None:
            return m.load(address, instruction.dtype, self.lanes)
        if instruction.dtype.itemsize < 4:
            return self._lane_by_lane(address, instruction.dtype, stride, None)
        kind = reg.memory_type(instruction.dtype, self.lanes)
        zero = ir.Constant(kind, None)
        align = ir.Constant(i32, instruction.dtype.itemsize)
        value = self.writer.intrinsic(
            f"llvm.masked.load.{mangled(kind)}.p0", kind, [address, align, self.mask[0], zero]
        )
        return Scalar(self.writer.b, value, instruction.dtype)

    def gather(self, i: int, instruction: Gather) -> Scalar:
        index = self.writer.m.cast(self.value(instruction.index), INT64)
        stride = instruction.strides[self.axis] if self.axis is not None else 0
        address = self.address(i)
        if index.lanes == 1:
            kind = reg.memory_type(instruction.dtype)
            moved = self.writer.b.gep(address, [mul(self.writer.b, index.value, instruction.scale)], source_etype=kind)
            if self.lanes == 1 or stride == 0:
                return self.writer.m.load(moved, instruction.dtype)
            if stride == 1 and self.mask is None:
                return self.writer.m.load(moved, instruction.dtype, self.lanes)
            return self._lane_by_lane(moved, instruction.dtype, stride, None)
        return self._lane_by_lane(address, instruction.dtype, stride, index.value, instruction.scale)

    def _lane_by_lane(self, address: Any, dtype: np.dtype, stride: int, index: Any, scale: int = 0) -> Scalar:
        """A vector put together from single loads; lanes beyond the end repeat the last one inside."""
        b, m = self.writer.b, self.writer.m
        kind = reg.memory_type(dtype)
        out: Any = ir.Constant(reg.memory_type(dtype, self.lanes), ir.Undefined)
        for lane in range(self.lanes):
            at: Any = const(lane)
            if self.mask is not None and lane:
                at = minimum(b, at, add(b, self.mask[1], const(-1)))
            offset = mul(b, at, stride)
            if index is not None:
                which = b.extract_element(index, at)
                offset = add(b, offset, mul(b, which, scale))
            value = b.load(b.gep(address, [offset], source_etype=kind), typ=kind, align=dtype.itemsize)
            out = b.insert_element(out, value, ir.Constant(i32, lane))
        if dtype == reg.bool_:
            out = b.icmp_unsigned("!=", out, reg.splat(reg.i8, 0, self.lanes))
        return Scalar(m.builder, out, dtype)

    def store(self, i: int) -> None:
        """Write what a `Store` says."""
        instruction: Store = self.writer.nest.body[i]
        b, m = self.writer.b, self.writer.m
        stride = instruction.strides[self.axis] if self.axis is not None else 0
        value = self.value(instruction.value)
        if value.dtype != instruction.dtype:
            raise Unsupported(f"a store of {value.dtype} as {instruction.dtype}")
        if self.lanes > 1 and stride:
            value = self.vector(instruction.value)
        address = self.address(i)
        if value.lanes == 1 or (stride == 1 and self.mask is None):
            m.store(value, address)
            return
        if stride == 0:
            raise Unsupported("a store that all points of a vector write to")
        raw = value.value
        kind = reg.memory_type(instruction.dtype, self.lanes)
        if instruction.dtype == reg.bool_:
            raw = b.zext(raw, kind)
        element, size = reg.memory_type(instruction.dtype), instruction.dtype.itemsize
        if stride == 1:
            self._store_masked(raw, address, element, size)
            return
        for lane in range(self.lanes):
            # Lanes beyond the end write the last one's value again.
            at: Any = const(lane)
            if self.mask is not None and lane:
                at = minimum(b, at, add(b, self.mask[1], const(-1)))
            part = b.extract_element(raw, at)
            b.store(part, b.gep(address, [mul(b, at, stride)], source_etype=element), align=size)

    def _store_masked(self, raw: Any, address: Any, element: Any, size: int) -> None:
        """The lanes inside: as shorter vectors where their number is known, for masked stores take many cycles."""
        b = self.writer.b
        inside = known(self.mask[1])
        if inside is None:
            align = ir.Constant(i32, size)
            name = f"llvm.masked.store.{mangled(raw.type)}.p0"
            self.writer.intrinsic(name, ir.VoidType(), [raw, address, align, self.mask[0]])
            return
        first = 0
        while first < inside:
            count = 1 << ((inside - first).bit_length() - 1)
            lanes = ir.Constant(ir.VectorType(i32, count), list(range(first, first + count)))
            part = b.shuffle_vector(raw, ir.Constant(raw.type, ir.Undefined), lanes)
            b.store(part, b.gep(address, [const(first)], source_etype=element), align=size)
            first += count

    def store_all(self, stores: Sequence[int]) -> None:
        """All that this point has to write; nothing is written before everything is read."""
        for i in stores:
            self.value(self.writer.nest.body[i].value)
        for i in stores:
            self.store(i)


def mangled(kind: Any) -> str:
    """An LLVM vector type as it stands in the names of intrinsics."""
    element = kind.element
    name = f"i{element.width}" if isinstance(element, ir.IntType) else element.intrinsic_name
    return f"v{kind.count}{name}"


# ---- reductions ------------------------------------------------------------------------------------------


def combine(m: Maths, kind: str, x: Scalar, y: Scalar) -> Scalar:
    """Two partial results of a reduction as one."""
    if kind == "sum":
        return x + y
    if kind == "prod":
        return x * y
    if kind == "any":
        return x | y
    if kind == "all":
        return x & y
    return m.maximum(x, y) if kind == "max" else m.minimum(x, y)


def identity(kind: str, dtype: np.dtype) -> Any:
    """What a reduction yields of nothing (for max and min: what changes nothing)."""
    if kind in ("sum", "any"):
        return 0
    if kind in ("prod", "all"):
        return 1
    if dtype == np.bool_:
        return kind == "min"
    if reg.is_float(dtype):
        return -np.inf if kind == "max" else np.inf
    bounds = np.iinfo(dtype)
    return bounds.min if kind == "max" else bounds.max


__all__ = [
    "Scope",
    "Writer",
    "add",
    "combine",
    "const",
    "identity",
    "known",
    "loop",
    "minimum",
    "mul",
    "result_dtype",
    "sweep",
]
