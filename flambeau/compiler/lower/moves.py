"""Copies that are not elementwise: into a window of a value, several values side by side, another shape."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.compiler.graph import Node, Ref, Value
from flambeau.compiler.kernel import Cast, Instruction, Kernel, Load, Number, Store
from flambeau.compiler.passes.fuse import TYPES
from flambeau.compiler.steps import KernelStep, Lowering, Step, lowering


def copy_step(source: Ref, target: Value, offset: int, strides: tuple[int, ...]) -> KernelStep:
    """target[offset + strides] = source, cast to the target's type."""
    if source.dtype == target.dtype and source.dtype not in TYPES:
        return _copy_of_words(source, target, offset, strides)
    body: list[Instruction] = [Load(0, source.strides, source.offset, source.dtype)]
    if source.dtype != target.dtype:
        body.append(Cast(0, target.dtype))
    body.append(Store(1, strides, offset, len(body) - 1, target.dtype))
    kernel = Kernel(source.shape, 0, tuple(body), 2)
    return KernelStep(kernel, (source.value, target), (source.value,), (target,))


def _copy_of_words(source: Ref, target: Value, offset: int, strides: tuple[int, ...]) -> KernelStep:
    """The same for elements that loops cannot compute with (complex, half-width): their bits."""
    size = source.dtype.itemsize
    word = np.dtype(_WORDS[min(size, 8)])
    count = size // word.itemsize
    shape, inside = (source.shape, ()) if count == 1 else ((*source.shape, count), (1,))
    read = (*(s * count for s in source.strides), *inside)
    written = (*(s * count for s in strides), *inside)
    body = (Load(0, read, source.offset * count, word), Store(1, written, offset * count, 0, word))
    return KernelStep(Kernel(shape, 0, body, 2), (source.value, target), (source.value,), (target,))


_WORDS = {1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}


def fill_step(number: Any, target: Value, shape: tuple[int, ...], offset: int, strides: tuple[int, ...]) -> KernelStep:
    """target[offset + strides] = number."""
    body = (Number(number, target.dtype), Store(0, strides, offset, 0, target.dtype))
    return KernelStep(Kernel(shape, 0, body, 1), (target,), (), (target,))


def simple(*values: Value | Ref) -> bool:
    return all(v.dtype in TYPES for v in values)


def movable(*values: Value | Ref) -> bool:
    """Whether values can be copied into one another: loops compute with all of them, or they are of one type."""
    return simple(*values) or len({v.dtype for v in values}) == 1


@lowering("@update")
def update(node: Node, low: Lowering) -> list[Step] | None:
    """A value with one window replaced. Either may be a number."""
    old, values = node.inputs
    out = node.outputs[0]
    assert out is not None
    shape, strides, offset = (node.attrs[k] for k in ("shape", "strides", "offset"))
    given = [x for x in (old, values) if isinstance(x, Ref)]
    if not (movable if len(given) == 2 else simple)(out, *given) or (isinstance(values, Ref) and values.shape != shape):
        return None
    first = (
        copy_step(old, out, 0, out.strides) if isinstance(old, Ref) else fill_step(old, out, out.shape, 0, out.strides)
    )
    if isinstance(values, Ref):
        return [first, copy_step(values, out, offset, strides)]
    return [first, fill_step(values, out, shape, offset, strides)]


@lowering("@bits")
def bits(node: Node, low: Lowering) -> list[Step] | None:
    """The same bytes as another type: both are blocks in memory order."""
    source, out = node.inputs[0], node.outputs[0]
    assert isinstance(source, Ref) and out is not None
    word = np.dtype(np.int32 if out.nbytes % 4 == 0 else np.int8)
    body = (Load(0, (1,), 0, word), Store(1, (1,), 0, 0, word))
    kernel = Kernel((out.nbytes // word.itemsize,), 0, body, 2)
    return [KernelStep(kernel, (source.value, out), (source.value,), (out,))]


@lowering("rejoin", "restack", "cat", "stack")
def join(node: Node, low: Lowering) -> list[Step] | None:
    """Operands side by side along one dimension, an old or a new one."""
    out = node.outputs[0]
    dim = node.attrs.get("dim")
    if out is None or not isinstance(dim, int) or not all(isinstance(x, Ref) for x in node.inputs):
        return None
    if not movable(out, *node.inputs):
        return None
    fresh = node.op in ("restack", "stack")
    strides = out.strides[:dim] + out.strides[dim + 1 :] if fresh else out.strides
    steps: list[Step] = []
    at = 0
    for x in node.inputs:
        if len(x.shape) != len(strides):
            return None
        if all(x.shape):
            steps.append(copy_step(x, out, at * out.strides[dim], strides))
        at += 1 if fresh else x.shape[dim]
    return steps


@lowering("reshape_copy", "@copy", "to_copy", "contiguous", "clone")
def reshape(node: Node, low: Lowering) -> list[Step] | None:
    """The elements in plain order, in another shape."""
    x, out = node.inputs[0], node.outputs[0]
    if out is None or not isinstance(x, Ref) or not movable(x, out) or np.prod(x.shape) != out.size:
        return None
    if x.shape == out.shape:
        return [copy_step(x, out, 0, out.strides)]
    plain, step = [], 1
    for n in reversed(x.shape):
        plain.append(step)
        step *= n
    expected, step = [], 1
    for n in reversed(out.shape):
        expected.append(step)
        step *= n
    if out.strides != tuple(reversed(expected)):
        return None
    return [copy_step(x, out, 0, tuple(reversed(plain)))]
