"""What the lowerings to oneDNN share: descriptors of windows, reorders into the layout a primitive asks for, steps.

The lowerings themselves are in `convolution.py`, `products.py` and `pooling.py`, by subject.
"""

from __future__ import annotations

from ctypes import c_void_p
from typing import Any

import numpy as np

from flambeau.backends.onednn import available
from flambeau.backends.onednn import library as lib
from flambeau.backends.onednn.memory import (
    channels_last_strides,
    contiguous_strides,
    described,
    equal,
    size_of,
    strided,
)
from flambeau.backends.onednn.primitive import Primitive
from flambeau.compiler.graph import Ref
from flambeau.compiler.kernel import Kernel, Load, Store
from flambeau.compiler.passes.readers import Steady
from flambeau.compiler.steps import KernelStep, LibraryStep, Lowering, Step

FLOAT = np.dtype(np.float32)
Sizes = tuple[int, ...]


def takes(*operands: Any) -> bool:
    """Whether these operands are oneDNN's business: non-empty float32 windows (None is skipped), library present."""
    given = [operand for operand in operands if operand is not None]
    return all(isinstance(o, Ref) and o.dtype == FLOAT and all(o.shape) for o in given) and available()


# ---- order of elements -------------------------------------------------------------------------


def lies_as(ref: Ref, strides: Sizes) -> bool:
    """Whether the window's elements lie at these strides; axes of one element have no stride."""
    return all(n == 1 or a == b for n, a, b in zip(ref.shape, ref.strides, strides))


def is_last(ref: Ref) -> bool:
    """Whether the memory of an (N, C, spatial…) window runs (N, spatial…, C), without gaps."""
    return lies_as(ref, channels_last_strides(ref.shape))


def is_plain(ref: Ref) -> bool:
    """Whether the window is contiguous."""
    return lies_as(ref, contiguous_strides(ref.shape))


def repeats(ref: Ref) -> bool:
    """Whether the window shows some element more than once (an expanded axis)."""
    return any(n > 1 and step == 0 for n, step in zip(ref.shape, ref.strides))


def reshaped(ref: Ref, shape: Sizes) -> Ref | None:
    """The window seen in another shape, if strides can say it: axes are split and joined, never copied."""
    strides: list[int] = []
    axes = [(n, step) for n, step in zip(ref.shape, ref.strides) if n != 1]
    wanted = list(shape)
    position = 0
    while position < len(wanted):
        if wanted[position] == 1:
            strides.append(0)
            position += 1
            continue
        if not axes:
            return None
        size, step = axes.pop(0)
        group = [wanted[position]]
        position += 1
        while True:
            count = int(np.prod(group))
            if count == size:
                break
            if count < size:
                if position == len(wanted):
                    return None
                group.append(wanted[position])
                position += 1
            else:
                if not axes:
                    return None
                more, next_step = axes.pop(0)
                if step != next_step * more:
                    return None
                size, step = size * more, next_step
        inner = [step]
        for n in reversed(group[1:]):
            inner.append(inner[-1] * n)
        strides += reversed(inner)
    return None if axes else Ref(ref.value, tuple(shape), tuple(strides), ref.offset)


# ---- steps -------------------------------------------------------------------------------------


class Plan:
    """The steps of one node while they are being put together."""

    def __init__(self, low: Lowering):
        self.low = low
        self.steps: list[Step] = []

    def run(self, primitive: Primitive, inputs: list[Ref], outputs: list[Ref], once: bool = False) -> None:
        """Execute a primitive whose arguments are these, in this order."""
        if primitive.scratchpad:
            outputs = [*outputs, self.room(primitive.scratchpad)]
        self.steps.append(LibraryStep(primitive, (*inputs, *outputs), len(outputs), once))

    def room(self, nbytes: int) -> Ref:
        """Memory of our own."""
        return self.low.temporary(nbytes).whole()

    def laid(self, ref: Ref, given: c_void_p, wanted: c_void_p) -> Ref:
        """The values of `ref`, which lie as `given` says, as `wanted` says: itself, or a reordered copy.

        A copy that an earlier step made for another node is used again.
        """
        if equal(given, wanted):
            return ref
        made = self.low.reordered.setdefault(ref.key, [])
        for primitive, target in made:
            if equal(primitive.descriptions[lib.ARG_DST], wanted):
                return target
        target, primitive = self.room(size_of(wanted)), reorder(given, wanted)
        self.run(primitive, [ref], [target], Steady(self.low.graph)(ref.value))
        made.append((primitive, target))
        return target

    def unlaid(self, ref: Ref | None, made: c_void_p, wanted: c_void_p | None) -> tuple[Ref, Primitive | None]:
        """Where a primitive writes whose result lies as `made` says and shall lie in `ref` as `wanted` says.

        With a primitive: run it from there to `ref` afterwards. Without `ref` nobody wants the result.
        """
        if ref is None or wanted is None:
            return self.room(size_of(made)), None
        if equal(made, wanted):
            return ref, None
        return self.room(size_of(made)), reorder(made, wanted)

    def dense(self, ref: Ref) -> Ref:
        """The window itself if no element repeats, else a contiguous copy (oneDNN knows no stride of 0)."""
        return self.copied(ref) if repeats(ref) else ref

    def copied(self, ref: Ref, last: bool = False) -> Ref:
        """A copy in plain or channels-last order, made by a loop."""
        strides = channels_last_strides(ref.shape) if last else contiguous_strides(ref.shape)
        target = self.low.graph.value(ref.shape, strides, ref.dtype)
        body = (Load(0, ref.strides, ref.offset, ref.dtype), Store(1, strides, 0, 0, ref.dtype))
        self.steps.append(KernelStep(Kernel(ref.shape, 0, body, 2), (ref.value, target), (ref.value,), (target,)))
        return target.whole()

    def vector(self, ref: Ref) -> Ref:
        """A vector with its elements next to each other."""
        return ref if is_plain(ref) else self.copied(ref)


def reorder(given: c_void_p, wanted: c_void_p) -> Primitive:
    """The primitive that copies from one description to another."""
    return Primitive("reorder", [given, wanted], [lib.ARG_SRC, lib.ARG_DST])


def description(ref: Ref) -> c_void_p:
    """The memory descriptor of a window at its own strides."""
    return strided(ref.shape, ref.strides)


def image(ref: Ref) -> c_void_p:
    """The descriptor of an (N, C, spatial…) window; plain and channels-last memory are told by their usual strides."""
    if is_last(ref):
        return described(ref.shape, True)
    return strided(ref.shape) if is_plain(ref) else description(ref)


def quality(primitive: Primitive) -> int:
    """2 for kernels made for these shapes, 1 for those over matrix products of copied columns, 0 for plain loops."""
    name = primitive.implementation
    if name.startswith(("ref", "simple")):
        return 0
    return 1 if name.startswith("gemm") or ":gemm" in name else 2
