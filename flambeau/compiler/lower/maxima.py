"""Max pooling and its derivative as loops of our own.

oneDNN drops nan and takes -inf for its lowest number, and a program cannot look before it calls. Each kernel covers
windows (or places in the image) with the same neighbours: the inside, and the edges, where padding cuts some off.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby, product
from typing import Any

import numpy as np

from flambeau.compiler.graph import Node, Ref, Value
from flambeau.compiler.kernel import Apply, Instruction, Kernel, Load, Number, Store
from flambeau.compiler.lower.onednn import Sizes
from flambeau.compiler.steps import KernelStep, Lowering, Step, lowering

MOST = 64  # elements of a window, or stores of one kernel; larger ones go to the op's own body
BOOL = np.dtype(bool)
Segment = tuple[int, int, tuple[Any, ...]]  # first index, how many, what they have in common


def segments(structure: Sequence[tuple[Any, ...]]) -> list[Segment]:
    """Runs of equal entries."""
    out, start = [], 0
    for common, run in groupby(structure):
        length = len(list(run))
        out.append((start, length, common))
        start += length
    return out


class Body:
    """The instructions of a kernel under construction; equal ones are written once."""

    def __init__(self) -> None:
        self.lines: list[Instruction] = []
        self.places: dict[Instruction, int] = {}  # in `lines`
        self.values: list[Value] = []

    def slot(self, value: Value) -> int:
        if value not in self.values:
            self.values.append(value)
        return self.values.index(value)

    def add(self, line: Instruction) -> int:
        found = self.places.setdefault(line, len(self.lines))
        if found == len(self.lines):
            self.lines.append(line)
        return found

    def apply(self, op: str, *args: int, dtype: np.dtype) -> int:
        return self.add(Apply(op, args, (), dtype))

    def load(self, ref: Ref, strides: Sizes, offset: int) -> int:
        return self.add(Load(self.slot(ref.value), strides, ref.offset + offset, ref.dtype))

    def number(self, value: Any, dtype: np.dtype) -> int:
        return self.add(Number(value, dtype))

    def store(self, ref: Ref, strides: Sizes, offset: int, value: int) -> None:
        self.lines.append(Store(self.slot(ref.value), strides, ref.offset + offset, value, ref.dtype))

    def step(self, shape: Sizes, *written: Value) -> KernelStep:
        reads = tuple(value for value in self.values if value not in written)
        kernel = Kernel(shape, 0, tuple(self.lines), len(self.values))
        return KernelStep(kernel, tuple(self.values), reads, tuple(v for v in self.values if v in written))


@lowering("max_pool")
def max_pool(node: Node, low: Lowering) -> list[Step] | None:
    """The maxima (nan counts as largest), and with `track` the number of each one's place in its window."""
    (x,), (best, place) = node.inputs, node.outputs
    if not fits(x, node.attrs) or best is None:
        return None
    attrs = node.attrs
    kernel, stride, padding, dilation, count = (
        attrs[name] for name in ("kernel", "stride", "padding", "dilation", "count")
    )
    tracked = place.whole() if attrs["track"] and place is not None else None
    axes = [
        segments(
            [
                tuple(k for k in range(kernel[a]) if 0 <= o * stride[a] - padding[a] + k * dilation[a] < n)
                for o in range(count[a])
            ]
        )
        for a, n in enumerate(x.shape[2:])
    ]
    steps: list[Step] = []
    for part in product(*axes):
        if any(not inside for _, _, inside in part):
            return None  # a window that sees only padding
        shape = (*x.shape[:2], *(length for _, length, _ in part))
        seen = (*x.strides[:2], *(s * t for s, t in zip(stride, x.strides[2:])))
        body = Body()
        largest = number = -1
        for where in product(*(inside for _, _, inside in part)):
            offset = sum(
                (o * s - p + k * d) * t
                for (o, _, _), s, p, k, d, t in zip(part, stride, padding, where, dilation, x.strides[2:])
            )
            value = body.load(x, seen, offset)
            mine = body.number(flat_number(where, kernel), tracked.dtype) if tracked is not None else -1
            if largest < 0:
                largest, number = value, mine
                continue
            if tracked is None:
                largest = body.apply("maximum", largest, value, dtype=x.dtype)
                continue
            larger = body.apply("gt", value, largest, dtype=BOOL)
            same = body.apply("eq", value, value, dtype=BOOL)  # false for nan
            largest = body.apply(
                "where", same, body.apply("where", larger, value, largest, dtype=x.dtype), value, dtype=x.dtype
            )
            number = body.apply(
                "where", same, body.apply("where", larger, mine, number, dtype=tracked.dtype), mine, dtype=tracked.dtype
            )
        for target, result in ((best.whole(), largest), (tracked, number)):
            if target is not None:
                start = sum(o * t for (o, _, _), t in zip(part, target.strides[2:]))
                body.store(target, target.strides, start, result)
        steps.append(body.step(shape, best, *([] if tracked is None else [tracked.value])))
    return steps


def flat_number(where: Sizes, kernel: Sizes) -> int:
    """The number of a place in row-major order of the window."""
    return int(np.ravel_multi_index(where, kernel))


def fits(x: Any, attrs: dict[str, Any]) -> bool:
    """Whether loops are written for it: single or double precision, not empty, a window that is not too large."""
    return (
        isinstance(x, Ref)
        and x.dtype in (np.float32, np.float64)
        and 0 not in x.shape
        and math.prod(attrs["kernel"]) <= MOST
        and math.prod(attrs["stride"]) <= MOST
    )


@lowering("max_pool_backward")
def max_pool_backward(node: Node, low: Lowering) -> list[Step] | None:
    """For each place of the image the sum of what the windows over it send back.

    The space runs over strides, not over single places: what lies between two windows' starts is stored by one kernel.
    """
    (grad, place), (out,) = node.inputs, node.outputs
    if not fits(grad, node.attrs) or not isinstance(place, Ref) or out is None:
        return None
    target = out.whole()
    attrs = node.attrs
    axes = [
        segments(list(neighbours(n, count, *how)))
        for n, count, *how in zip(
            attrs["size"], grad.shape[2:], *(attrs[name] for name in ("kernel", "stride", "padding", "dilation"))
        )
    ]
    steps: list[Step] = []
    for part in product(*axes):
        body = Body()
        zero = body.number(0, grad.dtype)
        shape = (*grad.shape[:2], *(length for _, length, _ in part))
        written = (*target.strides[:2], *(s * t for s, t in zip(attrs["stride"], target.strides[2:])))
        for corner in product(*(common for _, _, common in part)):  # (rest, ((k, shift), …)) per axis
            total = -1
            for windows in product(*(sends for _, sends in corner)):
                number = flat_number(tuple(k for k, _ in windows), attrs["kernel"])
                at = [first + shift for (first, _, _), (_, shift) in zip(part, windows)]
                mine = body.load(place, place.strides, sum(o * t for o, t in zip(at, place.strides[2:])))
                value = body.load(grad, grad.strides, sum(o * t for o, t in zip(at, grad.strides[2:])))
                chosen = body.apply("eq", mine, body.number(number, place.dtype), dtype=BOOL)
                sent = body.apply("where", chosen, value, zero, dtype=grad.dtype)
                total = sent if total < 0 else body.apply("add", total, sent, dtype=grad.dtype)
            start = sum(
                (first * s + rest) * t
                for (first, _, _), s, (rest, _), t in zip(part, attrs["stride"], corner, target.strides[2:])
            )
            body.store(target, written, start, zero if total < 0 else total)
        steps.append(body.step(shape, out))
    return steps


def neighbours(size: int, count: int, kernel: int, stride: int, padding: int, dilation: int) -> Iterator[tuple]:
    """For q = 0, 1, … of one axis: (rest, ((k, shift), …)) for each place i = q * stride + rest of the image.

    The place is number k of window q + shift.
    """
    for q in range(-(-size // stride)):
        found = []
        for rest in range(min(stride, size - q * stride)):
            reached = ((k, rest + padding - k * dilation) for k in range(kernel))
            found.append(
                (
                    rest,
                    tuple(
                        (k, far // stride) for k, far in reached if far % stride == 0 and 0 <= q + far // stride < count
                    ),
                )
            )
        yield tuple(found)
