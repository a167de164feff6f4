"""Average pooling: plain, power-average and adaptive, in one, two and three dimensions. Maxima: `pooling_max.py`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flambeau.core.dispatch import primitive
from flambeau.core.tensor import Tensor
from flambeau.ops.native import accelerated, onednn, usable
from flambeau.ops.sliding import (
    Pairs,
    Sizes,
    empty_like_order,
    hide,
    in_float32,
    output_size,
    padded,
    shape_text,
    shifted,
    sizes,
)

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d",
    "lp_pool1d", "lp_pool2d", "lp_pool3d",
]


# ---- the geometry of a pool --------------------------------------------------------------------


def overhang(size: Sizes, count: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes) -> Pairs:
    """Padding in pairs such that every window lies inside: the last ones of ceil_mode may reach further."""
    return tuple(
        (p, max((c - 1) * s + d * (k - 1) + 1 - n - p, 0))
        for n, c, k, s, p, d in zip(size, count, kernel, stride, padding, dilation)
    )


def pool_arguments(op: str, rank: int, input: Any, kernel: Any, stride: Any, padding: Any, dilation: Any,
                   ceil_mode: bool) -> tuple[Sizes, Sizes, Sizes, Sizes, Sizes]:
    """Checked (kernel, stride, padding, dilation, output size). RuntimeError for an impossible geometry."""
    if not isinstance(input, Tensor):
        raise TypeError(f"{op}(): argument 'input' must be Tensor, not {type(input).__name__}")
    x = input._array
    if x.ndim not in (rank + 1, rank + 2):
        raise RuntimeError(f"{op}: expected {rank + 1}D or {rank + 2}D input, got input {shape_text(x)}")
    if any(n == 0 for n in x.shape[-rank - 1:]):
        raise RuntimeError(f"{op}: expected input with non-zero channels and sizes, got input {shape_text(x)}")
    kernel = sizes(kernel, rank, "kernel_size", op)
    stride = kernel if stride is None or stride == () or stride == [] else sizes(stride, rank, "stride", op)
    padding, dilation = sizes(padding, rank, "padding", op), sizes(dilation, rank, "dilation", op)
    if min(kernel) < 1 or min(stride) < 1 or min(dilation) < 1:
        raise RuntimeError(
            f"{op}: kernel_size, stride and dilation must be greater than zero, got {kernel}, {stride}, {dilation}"
        )
    if any(p < 0 or 2 * p > k for p, k in zip(padding, kernel)):
        raise RuntimeError(
            f"{op}: padding must be between 0 and half of the kernel size, got padding {padding}, kernel_size {kernel}"
        )
    count = tuple(
        output_size(n, k, s, (p, p), d, ceil_mode)
        for n, k, s, p, d in zip(x.shape[-rank:], kernel, stride, padding, dilation)
    )
    if min(count) < 1:
        raise RuntimeError(
            f"{op}: the output would have size {list(count)}: the windows ({kernel}) are larger than the input "
            f"({shape_text(x)})"
        )
    return kernel, stride, padding, dilation, count


def batched_call(rank: int, input: Tensor, function: Any) -> Any:
    """`function` of the input with a batch dimension, which is taken away again if there was none."""
    if input._array.ndim == rank + 2:
        return hide(function(input), input)
    batch = input.unsqueeze(0)
    out = hide(function(batch), batch)
    return tuple(o.squeeze(0) for o in out) if isinstance(out, tuple) else out.squeeze(0)


# ---- averages ----------------------------------------------------------------------------------


def divisors(size: Sizes, count: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, include_pad: bool) -> np.ndarray:
    """How many elements each window counts: clipped at the padded edge, or at the edge of the input."""
    total: Any = np.ones((), np.int64)
    for n, c, k, s, p in zip(size, count, kernel, stride, padding):
        first = np.arange(c) * s - p
        last = np.minimum(first + k, n + p)
        if not include_pad:
            first, last = np.maximum(first, 0), np.minimum(last, n)
        total = np.multiply.outer(total, last - first)
    return total


def divide(values: np.ndarray, by: Any) -> np.ndarray:
    """Quotient in the type of `values`; integers are cut towards zero, as in C."""
    if values.dtype.kind in "iu":
        return (np.abs(values) // np.abs(by) * (np.sign(values) * np.sign(by))).astype(values.dtype)
    values /= by if isinstance(by, int) else by.astype(values.dtype)
    return values


@primitive("avg_pool")
@in_float32
def avg_pool(x: Any, *, kernel: Sizes, stride: Sizes, padding: Sizes, count: Sizes, include_pad: bool,
             divisor: int | None) -> Any:
    """The mean of each window: (N, C, *size) -> (N, C, *count)."""
    ones = (1,) * len(kernel)
    size = x.shape[2:]
    room = padded(x, overhang(size, count, kernel, stride, padding, ones))
    out = empty_like_order(x, (*x.shape[:2], *count))
    out.fill(0)
    for seen in shifted(room, count, kernel, stride, ones):
        out += seen
    return divide(out, divisor or divisors(size, count, kernel, stride, padding, include_pad))


@primitive("avg_pool_backward")
@in_float32
def avg_pool_backward(grad: Any, *, size: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, count: Sizes,
                      include_pad: bool, divisor: int | None) -> Any:
    """The adjoint of `avg_pool`: every window's share spread over its elements."""
    ones = (1,) * len(kernel)
    by = divisor or divisors(size, count, kernel, stride, padding, include_pad).astype(grad.dtype)
    share = grad / by
    pairs = overhang(size, count, kernel, stride, padding, ones)
    out = empty_like_order(grad, (*grad.shape[:2], *(n + b + a for n, (b, a) in zip(size, pairs))))
    out.fill(0)
    for target in shifted(out, count, kernel, stride, ones):
        target += share
    return padded(out, tuple((-b, -a) for b, a in pairs))


def divides_as_onednn(x: Any, *, kernel: Sizes, stride: Sizes, padding: Sizes, count: Sizes, include_pad: bool,
                      divisor: int | None, size: Sizes | None = None) -> bool:
    """Whether oneDNN counts the same elements: it does not clip windows at the padded edge."""
    if divisor is not None or not usable(x):
        return False
    reach = ((c - 1) * s + k - 2 * p for c, s, k, p in zip(count, stride, kernel, padding))
    return not include_pad or all(end <= n for end, n in zip(reach, size or x.shape[2:]))


@accelerated(avg_pool, when=divides_as_onednn)
def onednn_avg_pool(x: Any, *, kernel: Sizes, stride: Sizes, padding: Sizes, count: Sizes, include_pad: bool,
                    divisor: None) -> Any:
    return onednn(".pooling").avg_pool_forward(x, kernel, stride, padding, include_pad, count)


@accelerated(avg_pool_backward, when=divides_as_onednn)
def onednn_avg_pool_backward(grad: Any, *, size: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, count: Sizes,
                             include_pad: bool, divisor: None) -> Any:
    shape = (*grad.shape[:2], *size)
    return onednn(".pooling").avg_pool_backward(grad, shape, kernel, stride, padding, include_pad)


avg_pool.vjp(
    x=lambda grad, shapes, kernel, stride, padding, count, include_pad, divisor: hide(avg_pool_backward(
        grad, size=shapes[0][2:], kernel=kernel, stride=stride, padding=padding, count=count, include_pad=include_pad,
        divisor=divisor), grad),
)
avg_pool_backward.vjp(
    grad=lambda grad, kernel, stride, padding, count, include_pad, divisor: hide(avg_pool(
        grad, kernel=kernel, stride=stride, padding=padding, count=count, include_pad=include_pad,
        divisor=divisor), grad),
)


def average(op: str, rank: int, input: Any, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool,
            count_include_pad: bool, divisor_override: int | None) -> Tensor:
    """The checks and the call behind avg_pool1d, 2d and 3d."""
    kernel, stride, padding, _, count = pool_arguments(op, rank, input, kernel_size, stride, padding, 1, ceil_mode)
    if divisor_override == 0:
        raise RuntimeError(f"{op}: divisor must be not zero")
    return batched_call(rank, input, lambda x: avg_pool(
        x, kernel=kernel, stride=stride, padding=padding, count=count, include_pad=bool(count_include_pad),
        divisor=divisor_override))


def avg_pool1d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
               count_include_pad: bool = True) -> Tensor:
    """Mean of each window along a sequence.

    Shapes: (N, C, L) or (C, L) -> (N, C, L'), L' = (L + 2*padding - kernel) // stride + 1 (rounded up with
    `ceil_mode`). The padding counts as zeros unless `count_include_pad` is False. Raises: RuntimeError if it exceeds
    half the kernel.
    """
    return average("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None) -> Tensor:
    """Mean of each window over images, (N, C, H, W) or (C, H, W); `divisor_override` replaces the number of elements.

    For the rest see `avg_pool1d`.
    """
    return average("avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool3d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None) -> Tensor:
    """Mean of each window through volumes, (N, C, D, H, W) or (C, D, H, W). See `avg_pool2d`."""
    return average("avg_pool3d", 3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


# ---- power averages ----------------------------------------------------------------------------


def power_average(op: str, rank: int, input: Tensor, norm_type: float, kernel_size: Any, stride: Any,
                  ceil_mode: bool) -> Tensor:
    """(sum of x**p over each window) ** (1/p), made from the mean; the sign guards the root as in PyTorch."""
    kernel = sizes(kernel_size, rank, "kernel_size", op)
    mean = average(op, rank, input.pow(norm_type), kernel, stride, 0, ceil_mode, True, None)
    return (mean.sign() * mean.abs().relu()).mul(math.prod(kernel)).pow(1.0 / norm_type)


def lp_pool1d(input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Tensor:
    """The p-norm (p = `norm_type`) of each window along a sequence: (N, C, L) or (C, L)."""
    return power_average("lp_pool1d", 1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Tensor:
    """The p-norm (p = `norm_type`) of each window over images: (N, C, H, W) or (C, H, W)."""
    return power_average("lp_pool2d", 2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Tensor:
    """The p-norm (p = `norm_type`) of each window through volumes: (N, C, D, H, W) or (C, D, H, W)."""
    return power_average("lp_pool3d", 3, input, norm_type, kernel_size, stride, ceil_mode)


# ---- adaptive averages -------------------------------------------------------------------------


def bins(size: int, count: int) -> list[tuple[int, int]]:
    """`count` windows (start, end) that cover `size` elements as evenly as integers allow; neighbours may overlap."""
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def adaptive_arguments(op: str, rank: int, input: Any, output_size: Any) -> Sizes:
    """The checked output size; None keeps a dimension."""
    if not isinstance(input, Tensor):
        raise TypeError(f"{op}(): argument 'input' must be Tensor, not {type(input).__name__}")
    x = input._array
    if rank > 1 and isinstance(output_size, (tuple, list)) and x.ndim <= len(output_size):
        raise ValueError(f"{op}: input dimension should be at least {len(output_size) + 1}, got input {shape_text(x)}")
    if x.ndim not in (rank + 1, rank + 2):
        raise RuntimeError(f"{op}: expected {rank + 1}D or {rank + 2}D input, got input {shape_text(x)}")
    if any(n == 0 for n in x.shape[-rank - 1:]):
        raise RuntimeError(f"{op}: expected input with non-zero channels and sizes, got input {shape_text(x)}")
    if output_size is None:
        output_size = (None,) * rank
    if isinstance(output_size, (tuple, list)) and len(output_size) == rank:
        output_size = tuple(n if given is None else given for given, n in zip(output_size, x.shape[-rank:]))
    count = sizes(output_size, rank, "output_size", op)
    if min(count) < 0:
        raise RuntimeError(f"{op}: elements of output_size must be at least 0, got {count}")
    return count


@primitive("adaptive_avg_pool")
@in_float32
def adaptive_pool(x: Any, *, count: Sizes) -> Any:
    """The mean of each of `count` bins per dimension: (N, C, *size) -> (N, C, *count)."""
    for axis, number in enumerate(count, 2):
        means = [x[cut(axis, start, end)].mean(axis, keepdims=True) for start, end in bins(x.shape[axis], number)]
        x = np.concatenate(means, axis) if means else x[cut(axis, 0, 0)]
    return x


@primitive("adaptive_avg_pool_backward")
@in_float32
def adaptive_pool_backward(grad: Any, *, size: Sizes) -> Any:
    """The adjoint of `adaptive_avg_pool`."""
    for axis, n in enumerate(size, 2):
        out = np.zeros((*grad.shape[:axis], n, *grad.shape[axis + 1:]), grad.dtype)
        for i, (start, end) in enumerate(bins(n, grad.shape[axis])):
            out[cut(axis, start, end)] += grad[cut(axis, i, i + 1)] / (end - start)
        grad = out
    return grad


def cut(axis: int, start: int, end: int) -> tuple[slice, ...]:
    """The index that keeps start..end of one axis."""
    return (slice(None),) * axis + (slice(start, end),)


adaptive_pool.vjp(x=lambda grad, shapes: adaptive_pool_backward(grad, size=shapes[0][2:]))
adaptive_pool_backward.vjp(grad=lambda grad, shapes: adaptive_pool(grad, count=shapes[0][2:]))


def adaptive_average(op: str, rank: int, input: Any, output_size: Any) -> Tensor:
    """The checks and the call behind adaptive_avg_pool1d, 2d and 3d; even bins are an ordinary pool."""
    count = adaptive_arguments(op, rank, input, output_size)
    size = input._array.shape[-rank:]
    if all(n == 1 for n in count):
        return input.mean(dim=tuple(range(-rank, 0)), keepdim=True)
    if all(c > 0 and n % c == 0 for n, c in zip(size, count)):
        kernel = tuple(n // c for n, c in zip(size, count))
        return batched_call(rank, input, lambda x: avg_pool(
            x, kernel=kernel, stride=kernel, padding=(0,) * rank, count=count, include_pad=True, divisor=None))
    return batched_call(rank, input, lambda x: adaptive_pool(x, count=count))


def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """Means of `output_size` even bins along a sequence: (N, C, L) or (C, L) -> (N, C, output_size)."""
    return adaptive_average("adaptive_avg_pool1d", 1, input, output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """Means of even bins: (N, C, H, W) or (C, H, W) -> (N, C, *output_size); None keeps a dimension's size."""
    return adaptive_average("adaptive_avg_pool2d", 2, input, output_size)


def adaptive_avg_pool3d(input: Tensor, output_size: Any) -> Tensor:
    """Means of even bins: (N, C, D, H, W) or (C, D, H, W) -> (N, C, *output_size); None keeps a dimension's size."""
    return adaptive_average("adaptive_avg_pool3d", 3, input, output_size)
