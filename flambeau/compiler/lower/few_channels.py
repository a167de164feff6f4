"""Transposed convolution to images of few channels: one matrix product, and a loop that adds up what meets in a pixel.

    columns[window, c, tap] = sum over o of y[window, o] * w[o, c, tap];   image[c, pixel] = sum of the columns over it
oneDNN's kernel fills vectors with channels, so that an image of one takes it as long as one of eight: 7.5 ms where this
takes about 2 (128×64×14² to 128×1×28²).
"""

from __future__ import annotations

import math
from itertools import product

from flambeau.backends.onednn import library as lib
from flambeau.backends.onednn.convolution import Geometry
from flambeau.backends.onednn.memory import contiguous_strides, strided
from flambeau.backends.onednn.primitive import Primitive
from flambeau.compiler.graph import Ref
from flambeau.compiler.lower.maxima import Body, neighbours, segments
from flambeau.compiler.lower.onednn import FLOAT, Plan, Sizes, is_last, is_plain

FEW, NARROW = 4, 64  # channels; elements of a window's column


def fits(geometry: Geometry) -> bool:
    """Whether there are few channels and no kernel larger than a short loop, moving by more than one."""
    channels, taps = geometry.x[1], math.prod(geometry.w[2:])
    return (
        geometry.groups == 1
        and channels <= FEW
        and channels * taps <= NARROW
        and max(geometry.parameters[0][: len(geometry.w) - 2]) > 1
    )


def transposed_to_few(plan: Plan, geometry: Geometry, y: Ref, w: Ref, out: Ref, attrs: dict) -> None:
    """Add the steps that compute the image."""
    n, channels, *size = geometry.x
    outputs, count, kernel = geometry.w[0], geometry.y[2:], geometry.w[2:]
    y = y if is_last(y) else plan.copied(y, last=True)
    w = w if is_plain(w) else plan.copied(w)
    windows, wide = n * math.prod(count), channels * math.prod(kernel)
    columns = plan.low.graph.value(
        (n, *count, channels, *kernel), contiguous_strides((n, *count, channels, *kernel)), FLOAT
    )
    multiply = Primitive(
        "matmul",
        [strided((windows, outputs)), strided((outputs, wide)), None, strided((windows, wide))],
        [lib.ARG_SRC, lib.ARG_WEIGHTS, lib.ARG_DST],
    )
    plan.run(multiply, [y, w], [columns.whole()])
    rank = len(size)
    before = [pair[0] for pair in attrs["padding"]]
    axes = [
        segments(list(neighbours(s, c, k, t, b, d)))
        for s, c, k, t, b, d in zip(size, count, kernel, attrs["stride"], before, attrs["dilation"])
    ]
    of_window, of_tap = columns.strides[1 : 1 + rank], columns.strides[2 + rank :]
    seen: Sizes = (columns.strides[0], columns.strides[1 + rank], *of_window)
    written: Sizes = (*out.strides[:2], *(s * t for s, t in zip(attrs["stride"], out.strides[2:])))
    for part in product(*axes):
        body = Body()
        for corner in product(*(common for _, _, common in part)):
            total = -1
            for taps in product(*(sends for _, sends in corner)):
                offset = sum(
                    (first + shift) * step + k * inner
                    for (first, _, _), (k, shift), step, inner in zip(part, taps, of_window, of_tap)
                )
                value = body.load(columns.whole(), seen, offset)
                total = value if total < 0 else body.apply("add", total, value, dtype=FLOAT)
            start = sum(
                (first * s + rest) * t
                for (first, _, _), s, (rest, _), t in zip(part, attrs["stride"], corner, out.strides[2:])
            )
            body.store(out, written, start, body.number(0.0, FLOAT) if total < 0 else total)
        plan.steps.append(body.step((n, channels, *(length for _, length, _ in part)), out.value))
