"""Max and average pooling in one to three dimensions, channels-last.

oneDNN remembers for each window which element was the largest: a number inside the window, which
`max_pool_indices` turns into PyTorch's index inside the plane.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flambeau.backends.onednn import library as lib
from flambeau.backends.onednn.convolution import Sizes, pairs
from flambeau.backends.onednn.memory import (
    channels_last_strides,
    data_type,
    described,
    empty,
    ordered,
    plain_strides,
    pointer,
)
from flambeau.backends.onednn.primitive import Cache, Primitive, Unsupported, Workspace
from flambeau.backends.onednn.reorder import between


class _Pool:
    """Forward and backward primitives for one shape."""

    def __init__(self, algorithm: int, x_shape: Sizes, kernel: Sizes, stride: Sizes, padding: Any, dilation: Sizes,
                 out_shape: Sizes | None, training: bool):
        spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation)]
        count = out_shape or tuple((n + b + a - span) // s + 1
                                   for n, (b, a), span, s in zip(x_shape[2:], padding, spans, stride))
        after = [(c - 1) * s + span - n - b
                 for c, s, span, n, (b, _) in zip(count, stride, spans, x_shape[2:], padding)]
        before = [b for b, _ in padding]
        if any(b >= span or a >= span for b, a, span in zip(before, after, spans)):
            raise Unsupported("a pooling window lies wholly in the padding")
        self.x_shape, self.shape = x_shape, (*x_shape[:2], *count)
        self.kernel, self.stride, self.before, self.dilation = kernel, stride, before, dilation
        x, y = described(x_shape, True), described(self.shape, True)
        parameters = [*map(lib.dims, (stride, kernel, [d - 1 for d in dilation], before, after))]
        remembers = training and algorithm == lib.POOLING_MAX
        extra = [lib.ARG_WORKSPACE] if remembers else []
        self.run = Primitive("pooling_forward", [
            lib.FORWARD_TRAINING if training else lib.FORWARD_INFERENCE, algorithm, x, y, *parameters],
            [lib.ARG_SRC, lib.ARG_DST, *extra])
        self.workspace_dtype: Any = None
        if remembers:
            md = self.run.descriptions[lib.ARG_WORKSPACE]
            self.workspace_dtype = {lib.U8: np.uint8, lib.S32: np.int32}.get(data_type(md))
            if self.workspace_dtype is None or plain_strides(md, len(self.shape)) != channels_last_strides(self.shape):
                raise Unsupported("oneDNN keeps the positions of the maxima in an order of its own")
        if training:
            self.back = Primitive("pooling_backward", [algorithm, x, y, *parameters],
                                  [lib.ARG_DIFF_DST, lib.ARG_DIFF_SRC, *extra], self.run)


_pool = Cache(_Pool)


def _channels_last(array: np.ndarray, space: Workspace) -> int:
    """Address of the array's values in channels-last order."""
    array, last = ordered(array)
    return space.take(between(array.shape, last, True), array)


class MaxPoolMemory:
    """What `max_pool_backward` and `max_pool_indices` need to know of a forward pass."""

    __slots__ = ("plan", "positions")

    def __init__(self, plan: Any, positions: np.ndarray):
        self.plan = plan
        self.positions = positions  # (N, C, *count), channels-last: which element of its window


def max_pool_memory(positions: np.ndarray, x_shape: Sizes, kernel: Sizes, stride: Sizes, padding: Any,
                    dilation: Sizes) -> MaxPoolMemory:
    """The memory of a forward pass from the places of its maxima (channels-last, as `max_pool_forward` made them)."""
    plan = _pool(lib.POOLING_MAX, tuple(x_shape), kernel, stride, pairs(padding), dilation, positions.shape[2:], True)
    if positions.dtype != plan.workspace_dtype:
        raise Unsupported(f"places of type {positions.dtype} did not come from oneDNN")
    return MaxPoolMemory(plan, positions)


def max_pool_forward(x: np.ndarray, kernel: Sizes, stride: Sizes, padding: Any, dilation: Sizes,
                     out_shape: Sizes | None = None, training: bool = True) -> tuple[np.ndarray, MaxPoolMemory | None]:
    """Largest value of each window, (N, C, *size) -> (N, C, *count), and the memory for the other two functions.

    `out_shape` (spatial sizes only) says how many windows there are where `ceil_mode` makes it more. The memory is
    None unless `training`. Unsupported: arrays with nan, which oneDNN would drop where PyTorch passes it on, or
    with -inf, which it takes for its lowest finite number.
    """
    if not np.isfinite(x.min()):  # nan is the minimum of whatever holds one
        raise Unsupported("nan or infinite elements")
    plan = _pool(lib.POOLING_MAX, x.shape, kernel, stride, pairs(padding), dilation, out_shape, training)
    y = empty(plan.shape, True)
    with Workspace() as space:
        if not training:
            plan.run.run(_channels_last(x, space), pointer(y))
            return y, None
        positions = empty(plan.shape, True, plan.workspace_dtype)
        plan.run.run(_channels_last(x, space), pointer(y), pointer(positions))
    return y, MaxPoolMemory(plan, positions)


def max_pool_backward(grad: np.ndarray, memory: MaxPoolMemory) -> np.ndarray:
    """The gradient of `max_pool_forward` in its image, channels-last."""
    plan = memory.plan
    out = empty(plan.x_shape, True)
    with Workspace() as space:
        plan.back.run(_channels_last(grad, space), pointer(out), pointer(memory.positions))
    return out


def max_pool_indices(memory: MaxPoolMemory) -> np.ndarray:
    """Where each maximum was: int64 index into the flattened plane, as PyTorch's `return_indices`."""
    plan, inside = memory.plan, memory.positions.astype(np.int64)
    size, count = plan.x_shape[2:], plan.shape[2:]
    flat = np.zeros(plan.shape, np.int64)
    for axis in range(len(size)):
        step = inside // math.prod(plan.kernel[axis + 1:]) % plan.kernel[axis] * plan.dilation[axis]
        origin = np.arange(count[axis]) * plan.stride[axis] - plan.before[axis]
        flat += (step + origin.reshape(-1, *(1,) * (len(size) - axis - 1))) * math.prod(size[axis + 1:])
    return flat


def avg_pool_forward(x: np.ndarray, kernel: Sizes, stride: Sizes, padding: Any, count_include_pad: bool,
                     out_shape: Sizes | None = None) -> np.ndarray:
    """Mean of each window, (N, C, *size) -> (N, C, *count), channels-last.

    Windows that `ceil_mode` lets reach beyond the padding are not oneDNN's: Unsupported, unless padding is left out.
    """
    algorithm = _average(count_include_pad)
    plan = _pool(algorithm, x.shape, kernel, stride, pairs(padding), (1,) * len(kernel), out_shape, True)
    y = empty(plan.shape, True)
    with Workspace() as space:
        plan.run.run(_channels_last(x, space), pointer(y))
    return y


def avg_pool_backward(grad: np.ndarray, x_shape: Sizes, kernel: Sizes, stride: Sizes, padding: Any,
                      count_include_pad: bool) -> np.ndarray:
    """The gradient of `avg_pool_forward` in its image, channels-last."""
    plan = _pool(_average(count_include_pad), tuple(x_shape), kernel, stride, pairs(padding), (1,) * len(kernel),
                 grad.shape[2:], True)
    out = empty(plan.x_shape, True)
    with Workspace() as space:
        plan.back.run(_channels_last(grad, space), pointer(out))
    return out


def _average(count_include_pad: bool) -> int:
    return lib.POOLING_AVG_INCLUDE_PADDING if count_include_pad else lib.POOLING_AVG_EXCLUDE_PADDING
