"""3x3 convolutions of inference by Winograd's minimal filtering: 4 outputs from 16 products instead of 36.

    Y = A' [ (G g G') * (B' d B) ] A          for tiles d of 4x4 of the image, summed over channels

Lavin & Gray 2016, "Fast algorithms for convolutional neural networks", F(2x2, 3x3), whose constants are 1 and 1/2, so
that float32 loses next to nothing (measured: twice the direct way's error). The filters' transform depends on state
only and is computed once; the transforms of image and result are fused loops, the products a batch of 16 matrix
products. A few images at a time, so that what lies between stays in the cache. A nan or infinity reaches all outputs
of its tiles, one pixel further than it should: therefore only where the weights are steady, which is inference;
FLAMBEAU_WINOGRAD=0 switches it off.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from flambeau.backends.onednn import library as lib
from flambeau.backends.onednn.convolution import Geometry
from flambeau.backends.onednn.memory import contiguous_strides, free_choice, strided
from flambeau.backends.onednn.primitive import Primitive
from flambeau.compiler.graph import Node, Ref, Value
from flambeau.compiler.kernel import Apply, Instruction, Kernel, Load, Number, Store
from flambeau.compiler.lower import layer_products
from flambeau.compiler.lower.moves import copy_step, fill_step
from flambeau.compiler.lower.onednn import FLOAT, Plan, is_last
from flambeau.compiler.passes.readers import Steady
from flambeau.compiler.steps import KernelStep, Lowering

CHUNK = 6 << 20  # bytes of transformed images and results at a time
LEAST = 10_000_000  # multiply-adds from which it pays
FEW = 16  # channels
FEW_TILES = 32


def fits(node: Node, geometry: Geometry, w: Ref, out: Ref, low: Lowering) -> bool:
    """Whether the way covers a convolution and is worth it."""
    if os.environ.get("FLAMBEAU_WINOGRAD", "1") == "0" or len(geometry.x) != 4 or geometry.groups != 1:
        return False
    stride, dilation = tuple(geometry.parameters[0][:2]), tuple(geometry.parameters[1][:2])
    if tuple(geometry.w[2:]) != (3, 3) or stride != (1, 1) or dilation != (0, 0) or not is_last(out):
        return False
    work = int(np.prod(geometry.y)) * geometry.w[1] * 9
    tiles = geometry.x[0] * -(-geometry.y[2] // 2) * -(-geometry.y[3] // 2)
    if tiles < FEW_TILES:  # reading 16/9 as many weights takes longer than the products saved
        return False
    return min(geometry.w[:2]) >= FEW and work >= LEAST and Steady(low.graph)(w.value)


class Writer:
    """The body of a kernel: arithmetic on earlier instructions."""

    def __init__(self) -> None:
        self.body: list[Instruction] = []

    def emit(self, instruction: Instruction) -> int:
        self.body.append(instruction)
        return len(self.body) - 1

    def __call__(self, op: str, *args: int, **attrs: Any) -> int:
        return self.emit(Apply(op, args, tuple(sorted(attrs.items())), FLOAT))

    def combine(self, values: list[int], signs: tuple[int, ...]) -> int:
        """The sum of some values with these signs; the first that counts is positive."""
        terms = sorted(((v, s) for v, s in zip(values, signs) if s), key=lambda t: -t[1])
        total = terms[0][0]
        for v, s in terms[1:]:
            total = self("add" if s > 0 else "sub", total, v)
        return total

    def both_sides(self, matrix: list[tuple[int, ...]], tile: list[list[int]]) -> list[list[int]]:
        """matrix @ tile @ matrix'."""
        width = len(tile[0])
        rows = [[self.combine([line[j] for line in tile], signs) for j in range(width)] for signs in matrix]
        return [[self.combine(row, signs) for signs in matrix] for row in rows]


IMAGE = [(1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)]  # B'
RESULT = [(1, 1, 1, 0), (0, 1, -1, -1)]  # A'


def convolution(
    plan: Plan, geometry: Geometry, x: Ref, w: Ref, bias: Ref | None, others: list[Ref], post: Any, out: Ref
) -> None:
    """Add the steps of a convolution with bias and post-ops (passes/postops.py)."""
    graph = plan.low.graph
    images, channels, height, width = geometry.x
    outputs = geometry.w[0]
    tall, wide = (-(-n // 2) for n in geometry.y[2:])
    own = layer_products.fits(outputs, ())
    filters = _filters(plan, w, channels, outputs, own)
    chunk = max(1, min(images, CHUNK // (64 * tall * wide * (channels + outputs))))
    room = (2 * tall + 2, 2 * wide + 2)
    top, left = geometry.parameters[2][:2]
    for first in range(0, images, chunk):
        count = min(chunk, images - first)
        tiles = count * tall * wide
        padded = graph.value((count, *room, channels), contiguous_strides((count, *room, channels)), FLOAT)
        plan.steps.append(fill_step(0.0, padded, padded.shape, 0, padded.strides))
        part = Ref(x.value, (count, channels, height, width), x.strides, x.offset + first * x.strides[0])
        n, y, z, c = padded.strides
        plan.steps.append(copy_step(part, padded, top * y + left * z, (n, c, y, z)))
        seen = graph.value((16, tiles, channels), contiguous_strides((16, tiles, channels)), FLOAT)
        plan.steps.append(_image_step(padded, seen, tall, wide))
        made = graph.value((16, tiles, outputs), contiguous_strides((16, tiles, outputs)), FLOAT)
        if own:
            layer_products.product(plan, seen.whole(), filters, made.whole())
        else:
            _multiply(plan, seen, filters, made)
        for rows in _parts(geometry.y[2]):
            for columns in _parts(geometry.y[3]):
                plan.steps.append(
                    _result_step(made, bias, others, post, out, first, count, (tall, wide), rows, columns)
                )


def _filters(plan: Plan, w: Ref, channels: int, outputs: int, panels: bool) -> Value:
    """G g G' of every filter: (16, C, O), the matrices in panels if wanted."""
    broad = layer_products.width() if panels else outputs
    if panels:
        made = layer_products.panels_of(plan.low.graph, 16, channels, outputs)
    else:
        made = plan.low.graph.value((16, channels, outputs), contiguous_strides((16, channels, outputs)), FLOAT)
    write = Writer()
    half = write.emit(Number(0.5, FLOAT))
    o, c, y, z = w.strides
    g = [[write.emit(Load(0, (broad * o, c, o), w.offset + i * y + j * z, FLOAT)) for j in range(3)] for i in range(3)]

    def transform(line: list[int]) -> list[int]:
        ends = write("add", line[0], line[2])
        return [
            line[0],
            write("mul", write("add", ends, line[1]), half),
            write("mul", write("sub", ends, line[1]), half),
            line[2],
        ]

    columns = [transform([g[i][j] for i in range(3)]) for j in range(3)]
    for i in range(4):
        for j, value in enumerate(transform([columns[k][i] for k in range(3)])):
            write.emit(Store(1, (channels * broad, broad, 1), (4 * i + j) * channels * outputs, value, FLOAT))
    kernel = Kernel((outputs // broad, channels, broad), 0, tuple(write.body), 2)
    plan.steps.append(KernelStep(kernel, (w.value, made), (w.value,), (made,)))
    return made


def _image_step(padded: Value, seen: Value, tall: int, wide: int) -> KernelStep:
    """B' d B of every tile."""
    count, _, across, channels = padded.shape
    line = across * channels
    write = Writer()
    strides = (padded.strides[0], 2 * line, 2 * channels, 1)
    tile = [[write.emit(Load(0, strides, i * line + j * channels, FLOAT)) for j in range(4)] for i in range(4)]
    target = (tall * wide * channels, wide * channels, channels, 1)
    for i, row in enumerate(write.both_sides(IMAGE, tile)):
        for j, value in enumerate(row):
            write.emit(Store(1, target, (4 * i + j) * seen.strides[0], value, FLOAT))
    kernel = Kernel((count, tall, wide, channels), 0, tuple(write.body), 2)
    return KernelStep(kernel, (padded, seen), (padded,), (seen,))


def _multiply(plan: Plan, seen: Value, filters: Value, made: Value) -> None:
    """For each of the 16 places the product over channels."""
    primitive = Primitive(
        "matmul",
        [strided(seen.shape), free_choice(filters.shape), None, strided(made.shape)],
        [lib.ARG_SRC, lib.ARG_WEIGHTS, lib.ARG_DST],
    )
    weights = plan.laid(filters.whole(), strided(filters.shape), primitive.descriptions[lib.ARG_WEIGHTS])
    plan.run(primitive, [seen.whole(), weights], [made.whole()])


def _parts(size: int) -> list[tuple[int, int, int]]:
    """(first tile, tiles, outputs of each along this axis): the last tile of an odd size has one."""
    whole = [(0, size // 2, 2)] if size > 1 else []
    return whole + ([(size // 2, 1, 1)] if size % 2 else [])


def _result_step(
    made: Value,
    bias: Ref | None,
    others: list[Ref],
    post: Any,
    out: Ref,
    first: int,
    count: int,
    tiles: tuple[int, int],
    rows: tuple[int, int, int],
    columns: tuple[int, int, int],
) -> KernelStep:
    """A' m A of some tiles, with bias and post-ops, into the result."""
    outputs = made.shape[2]
    tall, wide = tiles
    (row, high, down), (column, broad, over) = rows, columns
    buffers = [made, out.value]
    write = Writer()
    start = (row * wide + column) * outputs
    place = (tall * wide * outputs, wide * outputs, outputs, 1)
    tile = [
        [write.emit(Load(0, place, (4 * i + j) * made.strides[0] + start, FLOAT)) for j in range(4)] for i in range(4)
    ]
    slots: dict[int, int] = {}

    def slot(ref: Ref) -> int:
        if ref.value.number not in slots:
            slots[ref.value.number] = len(buffers)
            buffers.append(ref.value)
        return slots[ref.value.number]

    def at(ref: Ref, i: int, j: int) -> tuple[tuple[int, ...], int]:
        n, c, y, z = ref.strides
        return (n, 2 * y, 2 * z, c), ref.offset + first * n + (2 * row + i) * y + (2 * column + j) * z

    shift = None if bias is None else write.emit(Load(slot(bias), (0, 0, 0, bias.strides[0]), bias.offset, FLOAT))
    results = write.both_sides(RESULT, tile)
    for i in range(down):
        for j in range(over):
            value = results[i][j] if shift is None else write("add", results[i][j], shift)
            further = iter(others)
            for kind, *options in post:
                if kind == "add":
                    other = next(further)
                    strides, offset = at(other, i, j)
                    value = write("add", value, write.emit(Load(slot(other), strides, offset, FLOAT)))
                elif kind == "relu":
                    next(further)  # the zero that oneDNN wants
                    value = write("relu", value)
                else:
                    value = write("leaky_relu", value, negative_slope=options[0])
            strides, offset = at(out, i, j)
            write.emit(Store(1, strides, offset, value, FLOAT))
    kernel = Kernel((count, high, broad, outputs), 0, tuple(write.body), len(buffers))
    reads = tuple(v for v in buffers if v is not out.value)
    return KernelStep(kernel, tuple(buffers), reads, (out.value,))
