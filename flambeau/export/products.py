"""Matrix products and direct convolutions as loops of our own, for code that must run without a library.

Both are one thing here: rows of A, whose elements lie at (row offset) + (inner offset), times panels of B. Rows are the
rows of a matrix or the places of an output image; the inner dimension is the columns, or channels and the places of the
kernel's window. B is packed into panels of as many columns as a few vector registers hold, inner index by inner index.
A tile of the result, some rows of one panel, stays in registers while the inner dimension is walked:

    for panel, for tile of rows, for k:  sums[row] += A[row offset + inner offset] * B[panel][k]

What follows a layer (bias, residual, activation) is done before a tile is stored.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from llvmlite import ir

from flambeau.backends.llvm import registers as reg
from flambeau.compiler.lower.points import const, loop, minimum
from flambeau.export.target import Target

UNROLLED = 16  # steps of the inner dimension that are written out


@dataclass(frozen=True)
class Axis:
    """A loop: how often, and how far A, B, the result and further operands move (in elements)."""

    size: int
    a: int = 0
    b: int = 0
    out: int = 0
    others: tuple[int, ...] = ()
    bias: int = 0


@dataclass(frozen=True)
class Product:
    """What a routine computes.

    Buffers: A, B packed, the bias padded to whole panels (if `bias`), the further operands, the result. `outer` are
    loops around everything; `rows` the dimensions of the rows, `inner` those of the inner dimension, outermost first;
    `columns` says how many columns there are, and how far the result and the others move from one to the next.
    """

    dtype: str
    outer: tuple[Axis, ...]
    rows: tuple[Axis, ...]
    inner: tuple[Axis, ...]
    columns: Axis
    bias: bool = False
    post: tuple[tuple[Any, ...], ...] = ()

    @property
    def depth(self) -> int:
        return math.prod(axis.size for axis in self.inner)

    @property
    def height(self) -> int:
        return math.prod(axis.size for axis in self.rows)

    def key(self) -> str:
        """Names the routine: equal keys are equal code."""
        return f"product.{hashlib.blake2b(repr(self).encode(), digest_size=12).hexdigest()}"


@dataclass(frozen=True)
class Tiling:
    """A tile of the result: `rows` times `vectors` registers of `lanes` columns."""

    rows: int
    vectors: int
    lanes: int

    @property
    def panel(self) -> int:
        return self.vectors * self.lanes


def tiling(target: Target, dtype: np.dtype, rows: int, columns: int) -> Tiling:
    """The tile that wastes least: sums, a panel's vectors and one broadcast element share the registers."""
    lanes = target.vector_bits // (8 * dtype.itemsize)
    room = target.registers - 1
    best, price = Tiling(1, 1, lanes), math.inf
    for vectors in (4, 3, 2, 1):
        if vectors > 1 and (vectors - 1) * lanes >= columns:
            continue
        most = room // vectors - 1
        for height in range(1, min(most, max(rows, 1)) + 1):
            tiles = math.ceil(rows / height) * math.ceil(columns / (vectors * lanes))
            # Each step costs its multiplications or its loads, two a cycle either way, and the tile a prologue.
            work = tiles * (max(height * vectors, height + vectors) + 0.4)
            if work < price:
                best, price = Tiling(height, vectors, lanes), work
    return best


def panels(columns: int, panel: int) -> int:
    """How many panels there are."""
    return -(-columns // panel)


def pack(b: np.ndarray, panel: int) -> np.ndarray:
    """B (outer, inner, columns) as (outer, panels, inner, panel), with zeros beyond the last column."""
    outer, inner, columns = b.shape
    made = np.zeros((outer, panels(columns, panel) * panel, inner), b.dtype)
    made[:, :columns] = b.transpose(0, 2, 1)
    return np.ascontiguousarray(made.reshape(outer, -1, panel, inner).transpose(0, 1, 3, 2))


@dataclass
class Writer:
    """Writes one routine."""

    product: Product
    tile: Tiling
    target: Target
    module: Any
    b: Any = None
    bases: list[Any] = field(default_factory=list)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.product.dtype)

    def routine(self) -> Any:
        """The function `void (ptr buffers)`."""
        name = self.product.key()
        made = self.module.globals.get(name)
        if made is not None:
            return made
        made = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [reg.pointer]), name)
        made.linkage = "internal"
        made.attributes.add("nounwind")
        self.b = ir.IRBuilder(made.append_basic_block())
        p = self.product
        count = 3 + p.bias + sum(step[0] == "add" for step in p.post)
        self.bases = [
            self.b.load(self.b.gep(made.args[0], [const(i)], source_etype=reg.pointer), typ=reg.pointer)
            for i in range(count)
        ]
        self.around(list(p.outer), [const(0)] * count)
        self.b.ret_void()
        return made

    def around(self, axes: list[Axis], offsets: list[Any]) -> None:
        """The outer loops, then the product."""
        if not axes:
            self.panels(offsets)
            return
        axis, *rest = axes
        others = axis.others or (0,) * sum(step[0] == "add" for step in self.product.post)
        strides = [axis.a, axis.b, *([axis.bias] if self.product.bias else []), *others, axis.out]

        def body(i: Any, _: Any) -> list[Any]:
            self.around(rest, [self.moved(o, i, s) for o, s in zip(offsets, strides)])
            return []

        loop(self.b, const(0), const(axis.size), 1, [], body)

    def moved(self, offset: Any, index: Any, stride: int) -> Any:
        return offset if not stride else self.b.add(offset, self.b.mul(index, const(stride)))

    def panels(self, offsets: list[Any]) -> None:
        """All columns: whole panels in a loop, then the last one, if it has fewer."""
        p, panel = self.product, self.tile.panel
        whole, rest = divmod(p.columns.size, panel)

        def body(i: Any, _: Any) -> list[Any]:
            self.rows(offsets, i, panel)
            return []

        loop(self.b, const(0), const(whole), 1, [], body)
        if rest:
            self.rows(offsets, const(whole), rest)

    def rows(self, offsets: list[Any], panel: Any, columns: int) -> None:
        """All rows of one panel, of which `columns` are wanted."""
        p = self.product
        tiles = -(-p.height // self.tile.rows)

        def body(t: Any, _: Any) -> list[Any]:
            first = self.b.mul(t, const(self.tile.rows))
            places = [minimum(self.b, self.b.add(first, const(r)), const(p.height - 1)) for r in range(self.tile.rows)]
            self.tile_of(offsets, panel, columns, places)
            return []

        loop(self.b, const(0), const(tiles), 1, [], body)

    def split(self, place: Any) -> list[Any]:
        """The index along each dimension of the rows."""
        found: list[Any] = []
        for axis in reversed(self.product.rows[1:]):
            found.insert(0, self.b.urem(place, const(axis.size)))
            place = self.b.udiv(place, const(axis.size))
        return [place, *found]

    def at(self, indices: list[Any], strides: list[int]) -> Any:
        total: Any = const(0)
        for index, stride in zip(indices, strides):
            total = self.moved(total, index, stride)
        return total

    def address(self, base: Any, offset: Any) -> Any:
        return self.b.gep(base, [offset], source_etype=reg.register_type(self.dtype))

    def tile_of(self, offsets: list[Any], panel: Any, columns: int, places: list[Any]) -> None:
        """One tile."""
        p, b, lanes = self.product, self.b, self.tile.lanes
        vectors = -(-columns // lanes)
        indices = [self.split(place) for place in places]
        starts = [self.address(self.bases[0], b.add(offsets[0], self.at(i, [x.a for x in p.rows]))) for i in indices]
        start = b.add(offsets[1], b.mul(panel, const(p.depth * self.tile.panel)))
        packed = self.address(self.bases[1], start)
        zero = reg.constant(0, self.dtype, lanes)
        sums = self.inner(starts, packed, vectors, [zero] * (len(places) * vectors))
        first = b.mul(panel, const(self.tile.panel))
        out = self.bases[-1]
        for r, index in enumerate(indices):
            to = b.add(b.add(offsets[-1], self.at(index, [x.out for x in p.rows])), b.mul(first, const(p.columns.out)))
            for v in range(vectors):
                count = min(lanes, columns - v * lanes)
                value = self.finished(sums[r * vectors + v], offsets, index, first, v, count)
                self.put(value, out, b.add(to, const(v * lanes * p.columns.out)), p.columns.out, count)

    def inner(self, starts: list[Any], packed: Any, vectors: int, sums: list[Any]) -> list[Any]:
        """The walk along the inner dimension."""
        axes = list(self.product.inner)
        unrolled: list[Axis] = []
        while axes and math.prod(a.size for a in unrolled) * axes[-1].size <= UNROLLED:
            unrolled.insert(0, axes.pop())
        if not unrolled and axes:
            axis = axes[-1]
            times = next(n for n in (8, 7, 6, 5, 4, 3, 2, 1) if axis.size % n == 0)
            axes[-1] = Axis(axis.size // times, axis.a * times)
            unrolled = [Axis(times, axis.a)]
        offsets = [0]
        for axis in unrolled:
            offsets = [o + i * axis.a for o in offsets for i in range(axis.size)]

        def walk(axes: list[Axis], at: Any, row: Any, sums: list[Any]) -> list[Any]:
            if not axes:
                return self.steps(starts, packed, at, row, offsets, vectors, sums)
            axis, *rest = axes
            size = len(offsets) * math.prod(a.size for a in rest)
            return loop(self.b, const(0), const(axis.size), 1, sums, lambda i, sums: walk(
                rest, self.moved(at, i, axis.a), self.moved(row, i, size), sums), reduced=True)

        return walk(axes, const(0), const(0), sums)

    def steps(self, starts: list[Any], packed: Any, at: Any, row: Any, offsets: list[int], vectors: int,
              sums: list[Any]) -> list[Any]:
        """The unrolled steps."""
        b, lanes = self.b, self.tile.lanes
        sums = list(sums)
        element = reg.register_type(self.dtype)
        here = self.address(packed, b.mul(row, const(self.tile.panel)))
        rows = [self.address(start, at) for start in starts]
        for k, offset in enumerate(offsets):
            seconds = [
                reg.load_value(b, self.address(here, const(k * self.tile.panel + v * lanes)), self.dtype, lanes)
                for v in range(vectors)
            ]
            for r, place in enumerate(rows):
                first = b.load(self.address(place, const(offset)), typ=element, align=self.dtype.itemsize)
                wide = reg.broadcast_value(b, first, lanes)
                for v in range(vectors):
                    sums[r * vectors + v] = self.fma(wide, seconds[v], sums[r * vectors + v])
        return sums

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        if self.target.has_fma:
            return reg.intrinsic(self.b, "fma", x, y, z)
        return self.b.fadd(self.b.fmul(x, y), z)

    # ---- what follows a layer --------------------------------------------------------------------------

    def finished(self, value: Any, offsets: list[Any], index: list[Any], first: Any, v: int, count: int) -> Any:
        p, b, lanes = self.product, self.b, self.tile.lanes
        if p.bias:
            at = b.add(offsets[2], b.add(first, const(v * lanes)))
            value = b.fadd(value, reg.load_value(b, self.address(self.bases[2], at), self.dtype, lanes))
        other = 0
        for step in p.post:
            zero = reg.constant(0, self.dtype, lanes)
            if step[0] == "add":
                slot = 2 + p.bias + other
                stride = p.columns.others[other]
                at = b.add(offsets[slot], self.at(index, [x.others[other] for x in p.rows]))
                at = b.add(at, b.mul(b.add(first, const(v * lanes)), const(stride)))
                value = b.fadd(value, self.get(self.bases[slot], at, stride, count))
                other += 1
            elif step[0] == "relu":
                value = b.select(b.fcmp_ordered("<", value, zero), zero, value)
            else:
                less = b.fmul(value, reg.constant(step[1], self.dtype, lanes))
                value = b.select(b.fcmp_ordered("<", value, zero), less, value)
        return value

    def put(self, value: Any, base: Any, at: Any, stride: int, count: int) -> None:
        """Store the first lanes of a vector."""
        b = self.b
        if stride == 1 and count == self.tile.lanes:
            reg.store_value(b, value, self.address(base, at), self.dtype)
            return
        for lane in range(count):
            one = b.extract_element(value, ir.Constant(reg.i32, lane)) if self.tile.lanes > 1 else value
            reg.store_value(b, one, self.address(base, b.add(at, const(lane * stride))), self.dtype)

    def get(self, base: Any, at: Any, stride: int, count: int) -> Any:
        """Load the first lanes of a vector."""
        b, lanes = self.b, self.tile.lanes
        if stride == 1 and count == lanes:
            return reg.load_value(b, self.address(base, at), self.dtype, lanes)
        value = reg.constant(0, self.dtype, lanes)
        for lane in range(count):
            one = reg.load_value(b, self.address(base, b.add(at, const(lane * stride))), self.dtype)
            value = b.insert_element(value, one, ir.Constant(reg.i32, lane)) if lanes > 1 else one
        return value


def emitter(product: Product, tile: Tiling, target: Target) -> Callable[[Any], Any]:
    """The function that adds a routine to a module."""
    return lambda module: Writer(product, tile, target, module).routine()
