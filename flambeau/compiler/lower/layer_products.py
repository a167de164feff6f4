"""Convolutions of inference that are products of pixels with weights, by code of our own (`layer_panels.py`).

    out[b, i, j] = sum over k of p[b, i, k] * q[b, k, j]        (+ bias[j]) (+ further[b, i, j]); then perhaps relu

p are pixels of a channels-last image, read where they lie, q the weights in panels of two vectors of columns. 1x1
convolutions are such products, and so is what minimal filtering multiplies (winograd.py).

Small weights, and those of many pixels, are put into panels once per change of the weights. Large ones would lie twice
in memory: they are read where they are, and each thread makes a few panels at a time of them in every call, with batch
norm's factor. That is one copy of a weight for all pixels, done while the cache waits for the weight anyhow.

Measured against oneDNN: docs/decisions/0016-layer-products.md.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from flambeau.backends.onednn.convolution import Geometry
from flambeau.backends.onednn.memory import contiguous_strides
from flambeau.compiler.graph import Graph, Ref, Value
from flambeau.compiler.kernel import Kernel, Load, Store
from flambeau.compiler.lower.moves import copy_step, fill_step
from flambeau.compiler.lower.onednn import FLOAT, Plan, is_last, is_plain
from flambeau.compiler.lower.skinny import HEIGHT, VECTORS, possible
from flambeau.compiler.steps import KernelStep, RoutineStep

# What generated code knows of a product: sizes, steps in elements (0: the same for all), and how it is divided.
WORDS = (
    "rows depth columns p_step p_batch q_batch w_step out_step out_batch further_step further_batch biased added scaled"
    " activation slope height chunk chunks groups block panels items"
).split()
BUFFERS = ["p", "q", "bias", "further", "scale", "scratch", "out"]
LINEAR, RELU, LEAKY = range(3)
LOW = 5  # rows of the other tile: less is wasted on the 49 pixels of a 7x7 image
NEAR = 100_000  # elements of p that are multiplied with all of q before the next: they stay in the second-level cache
TALL = 192  # rows at most
PARALLEL = 1 << 20  # multiply-adds from which threads pay: some 20 µs
LARGE = 1 << 17  # elements of a weight from which it is read in place,
FEW = 1024  # if there are at most so many pixels: with more, panels made once are 5 % faster
VERY_LARGE = 1 << 20  # elements of a weight of several taps from which its pixels are copied to make it a product,
VERY_FEW = 64  # if there are at most so many
BLOCK = 1 << 15  # elements of the panels that a thread makes at a time: half of the second-level cache is for pixels


@dataclass(frozen=True)
class Weight:
    """A weight (columns, depth) where it lies, its columns multiplied with `scale` if there is one."""

    matrix: Ref
    scale: Ref | None


def width() -> int:
    """Columns of a panel."""
    from flambeau.backends.llvm.jit import vector_lanes

    return VECTORS * vector_lanes(FLOAT)


def fits(columns: int, post: Any) -> bool:
    """Whether there is code for so many columns and for what follows."""
    kinds = [kind for kind, *_ in post]
    follows = kinds in ([], ["add"], ["relu"], ["leaky_relu"], ["add", "relu"], ["add", "leaky_relu"])
    return follows and possible() and columns % width() == 0


# ---- convolutions --------------------------------------------------------------------------------


def covers(geometry: Geometry, x: Ref, w: Ref, others: list[Ref], out: Ref, post: Any) -> bool:
    """Whether a convolution of steady weights is done as a product."""
    if geometry.groups != 1 or not all(is_last(image) for image in (out, *(o for o in others if o.shape != (1,)))):
        return False
    if not fits(geometry.w[0], post):
        return False
    if math.prod(geometry.w[2:]) == 1:
        return not any(geometry.parameters[2][: len(geometry.w) - 2]) and (_strided(geometry) or is_last(x))
    dilated = any(geometry.parameters[1][: len(geometry.w) - 2])
    return len(geometry.w) == 4 and not dilated and in_place(geometry, w)


def in_place(geometry: Geometry, w: Ref) -> bool:
    """Whether a weight that `covers` takes is read where it lies."""
    if w.value.node is not None or not is_plain(w):
        return False
    pixels = geometry.y[0] * math.prod(geometry.y[2:])
    least, most = (LARGE, FEW) if math.prod(geometry.w[2:]) == 1 else (VERY_LARGE, VERY_FEW)
    return math.prod(geometry.w) >= least and pixels <= most


def _strided(geometry: Geometry) -> bool:
    return any(step != 1 for step in geometry.parameters[0][: len(geometry.w) - 2])


def convolution(
    plan: Plan,
    geometry: Geometry,
    x: Ref,
    w: Ref,
    bias: Ref | None,
    others: list[Ref],
    post: Any,
    out: Ref,
    scale: Ref | None = None,
) -> None:
    """Add the steps of a convolution that `covers` takes; `scale`, one number for each output, if it is in place."""
    added = [_pixels(other) for other in others if other.shape != (1,)]
    target = _pixels(out)
    if math.prod(geometry.w[2:]) > 1:
        p = _taps(plan, geometry, x)
    else:
        p = _pixels(plan.copied(_seen(geometry, x), last=True) if _strided(geometry) else x)
    if in_place(geometry, w):
        depth = math.prod(w.shape[1:])
        weight = Weight(Ref(w.value, (w.shape[0], depth), (depth, 1), w.offset), scale)
        product(plan, p, weight, target, bias, added, post)
    else:
        product(plan, p, _pack(plan, w), target, bias, added, post)


def _pixels(image: Ref) -> Ref:
    """A channels-last image as (1, pixels, channels)."""
    channels = image.shape[1]
    pixels = image.shape[0] * math.prod(image.shape[2:])
    return Ref(image.value, (1, pixels, channels), (0, channels, 1), image.offset)


def _seen(geometry: Geometry, x: Ref) -> Ref:
    """The pixels that a 1x1 convolution with a stride reads."""
    steps = geometry.parameters[0][: len(geometry.w) - 2]
    strides = (*x.strides[:2], *(step * stride for step, stride in zip(steps, x.strides[2:])))
    return Ref(x.value, (*x.shape[:2], *geometry.y[2:]), strides, x.offset)


def _taps(plan: Plan, geometry: Geometry, x: Ref) -> Ref:
    """For each pixel of the result what its taps see, in the order of the weight: (1, pixels, channels * taps)."""
    graph = plan.low.graph
    images, channels, high, wide = geometry.x
    _, _, *taps = geometry.w
    (down, across), (top, left) = geometry.parameters[0][:2], geometry.parameters[2][:2]
    tall, broad = geometry.y[2:]
    room = (max((tall - 1) * down + taps[0], top + high), max((broad - 1) * across + taps[1], left + wide))
    padded = graph.value((images, *room, channels), contiguous_strides((images, *room, channels)), FLOAT)
    n, y, z, c = padded.strides
    plan.steps.append(fill_step(0.0, padded, padded.shape, 0, padded.strides))
    plan.steps.append(copy_step(x, padded, top * y + left * z, (n, c, y, z)))
    shape = (images, tall, broad, channels, *taps)
    made = graph.value(shape, contiguous_strides(shape), FLOAT)
    seen = (n, down * y, across * z, c, y, z)
    body = (Load(0, seen, 0, FLOAT), Store(1, made.strides, 0, 0, FLOAT))
    plan.steps.append(KernelStep(Kernel(shape, 0, body, 2), (padded, made), (padded,), (made,)))
    depth = channels * math.prod(taps)
    return Ref(made, (1, images * tall * broad, depth), (0, depth, 1))


# ---- weights -------------------------------------------------------------------------------------


def panels_of(graph: Graph, batch: int, depth: int, columns: int) -> Value:
    """Memory for `batch` matrices (depth, columns) in panels: [matrix][panel][k][column]."""
    strides = (depth * columns, depth * width(), width(), 1)
    return graph.value((batch, columns // width(), depth, width()), strides, FLOAT)


def _pack(plan: Plan, w: Ref) -> Value:
    """The weight of a 1x1 convolution in panels."""
    columns, depth = w.shape[:2]
    made = panels_of(plan.low.graph, 1, depth, columns)
    along, down = w.strides[:2]
    shape = (columns // width(), depth, width())
    body = (Load(0, (width() * along, down, along), w.offset, FLOAT), Store(1, made.strides[1:], 0, 0, FLOAT))
    plan.steps.append(KernelStep(Kernel(shape, 0, body, 2), (w.value, made), (w.value,), (made,)))
    return made


# ---- the product ---------------------------------------------------------------------------------


def product(
    plan: Plan,
    p: Ref,
    q: Value | Weight,
    out: Ref,
    bias: Ref | None = None,
    others: list[Ref] | None = None,
    post: Any = (),
) -> None:
    """Add the step. `p`, `out` and what is added are (batch, rows, columns) windows whose last axis is contiguous."""
    batch, rows, depth = p.shape
    columns = out.shape[2]
    kinds = [kind for kind, *_ in post]
    further = others[0] if others and "add" in kinds else None
    last = post[-1] if post and kinds[-1] != "add" else ("",)
    low = plan.low
    division = divided(batch, rows, depth, columns, low.threads, isinstance(q, Weight))
    numbers = {
        "rows": rows, "depth": depth, "columns": columns, "p_step": p.strides[1], "p_batch": p.strides[0],
        "q_batch": 0 if isinstance(q, Weight) else q.strides[0],
        "w_step": q.matrix.strides[0] if isinstance(q, Weight) else 0,
        "out_step": out.strides[1], "out_batch": out.strides[0],
        "further_step": further.strides[1] if further else 0, "further_batch": further.strides[0] if further else 0,
        "biased": int(bias is not None), "added": int(further is not None),
        "scaled": int(isinstance(q, Weight) and q.scale is not None),
        "activation": {"": LINEAR, "relu": RELU, "leaky_relu": LEAKY}[last[0]],
        "slope": int(np.float32(last[1] if last[0] == "leaky_relu" else 0.0).view(np.int32)),
        **division,
    }  # fmt: skip
    table = low.graph.value((len(WORDS),), (1,), np.dtype(np.int64))
    low.graph.constants[table] = np.array([numbers[word] for word in WORDS], np.int64)
    room = low.temporary(4 * division["groups"] * division["block"] * depth * width())
    weight = q.matrix if isinstance(q, Weight) else q.whole()
    scale = q.scale if isinstance(q, Weight) else None
    given = [None if ref is None else plan.vector(ref) for ref in (bias, scale)]
    operands = (
        table.whole(), p, weight, given[0] or p, further or p, given[1] or p, room.whole(), out,  # p: there is none
    )  # fmt: skip
    parallel = low.threads > 1 and division["items"] > 1 and batch * rows * depth * columns >= PARALLEL
    kind = isinstance(q, Weight), parallel
    way = "in place" if division["block"] else "panels"
    label = f"product {batch}x{rows}x{depth} {batch}x{depth}x{columns}: {way}"
    plan.steps.append(RoutineStep(name_of(*kind), functools.partial(_emit, *kind), operands, 2, label))


def divided(batch: int, rows: int, depth: int, columns: int, threads: int, in_place: bool) -> dict[str, int]:
    """How the work is cut: tiles of `height` rows, chunks of rows, groups of panels; an item is a chunk and a group.

    In place there is one chunk, and `block` panels of a group are made at a time.
    """
    panels = columns // width()
    height = min(HEIGHT, LOW, key=lambda h: -(-rows // h) * h * (1 if h == HEIGHT else 1.02))
    if in_place:
        groups = min(panels, threads)
        block = max(1, min(BLOCK // (depth * width()), -(-panels // groups)))
        return {"height": height, "chunk": rows, "chunks": 1, "groups": groups, "block": block, "panels": panels,
                "items": groups}  # fmt: skip
    tiles = -(-rows // height)
    most = min(TALL // height, max(1, NEAR // depth // height))
    each = -(-tiles // -(-tiles // most))  # tiles of a chunk: all chunks are about equal
    chunk, chunks, groups = each * height, -(-tiles // each), 1
    if batch * chunks % threads and batch * chunks < 4 * threads:
        groups = min(panels, threads)
    return {"height": height, "chunk": chunk, "chunks": chunks, "groups": groups, "block": 0, "panels": panels,
            "items": batch * chunks * groups}  # fmt: skip


def name_of(in_place: bool, parallel: bool) -> str:
    """The routine that serves all such products."""
    return f"layer.product{'.in_place' * in_place}{'.parallel' * parallel}"


def _emit(in_place: bool, parallel: bool, module: Any) -> Any:
    from flambeau.compiler.lower import layer_panels

    return layer_panels.emit_product(module, in_place, parallel)
