"""Maximum pooling with its relatives: adaptive and fractional pools, and unpooling by position."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from flambeau.core.dispatch import primitive
from flambeau.core.modes import modes
from flambeau.core.tensor import Tensor, wrap
from flambeau.ops.native import accelerated, onednn, usable
from flambeau.ops.pooling import adaptive_arguments, batched_call, bins, overhang, pool_arguments
from flambeau.ops.random import uniform_draws, write_draws
from flambeau.ops.sliding import (
    Sizes,
    empty_like_order,
    hide,
    in_float32,
    in_order_last,
    on_meta,
    padded,
    shape_text,
    shifted,
    sizes,
)

__all__ = [
    "adaptive_max_pool1d", "adaptive_max_pool1d_with_indices", "adaptive_max_pool2d",
    "adaptive_max_pool2d_with_indices", "adaptive_max_pool3d", "adaptive_max_pool3d_with_indices",
    "fractional_max_pool2d", "fractional_max_pool2d_with_indices", "fractional_max_pool3d",
    "fractional_max_pool3d_with_indices", "max_pool1d", "max_pool1d_with_indices", "max_pool2d",
    "max_pool2d_with_indices", "max_pool3d", "max_pool3d_with_indices", "max_unpool1d", "max_unpool2d",
    "max_unpool3d",
]


# ---- sliding maxima ----------------------------------------------------------------------------


@primitive("max_pool", outputs=2)
@in_float32
def max_windows(x: Any, *, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, count: Sizes,
                track: bool) -> Any:
    """(maxima, place of each within its window): (N, C, *size) -> twice (N, C, *count).

    The first maximum counts; nan counts as largest. Places are small integers in row-major order of the kernel, which
    is all the derivative needs; without `track` they are left out (an empty array).
    """
    room = padded(x, overhang(x.shape[2:], count, kernel, stride, padding, dilation), lowest(x.dtype))
    seen = shifted(room, count, kernel, stride, dilation)
    best = empty_like_order(x, (*x.shape[:2], *count))
    best[...] = next(seen)
    if not track:
        for values in seen:
            np.maximum(best, values, out=best)
        return best, np.empty(0, np.uint8)
    place = empty_like_order(x, best.shape, np.uint8 if math.prod(kernel) <= 256 else np.int32)
    place[...] = first_inside(count, kernel, stride, padding, dilation)
    for number, values in enumerate(seen, 1):
        larger = values > best
        if x.dtype.kind in "fcV":
            larger |= np.isnan(values)
        np.copyto(best, values, where=larger)
        place[larger] = number
    return best, place


def lowest(dtype: np.dtype) -> Any:
    """The value of padding: below everything."""
    return np.iinfo(dtype).min if dtype.kind in "iu" else -np.inf


def first_inside(count: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes) -> np.ndarray:
    """For each window the first place that is not padding, for windows in which nothing exceeds -inf."""
    place: Any = np.zeros((), np.int64)
    for c, k, s, p, d in zip(count, kernel, stride, padding, dilation):
        place = np.add.outer(place * k, np.maximum(-(-(p - np.arange(c) * s) // d), 0))
    return place


@primitive("max_pool_backward")
@in_float32
def max_pool_backward(grad: Any, place: Any, *, size: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes,
                      dilation: Sizes) -> Any:
    """Each value of grad added where its window had the maximum: (N, C, *count) -> (N, C, *size)."""
    count = grad.shape[2:]
    pairs = overhang(size, count, kernel, stride, padding, dilation)
    out = empty_like_order(grad, (*grad.shape[:2], *(n + b + a for n, (b, a) in zip(size, pairs))))
    out.fill(0)
    apart = all(s >= d * (k - 1) + 1 for k, s, d in zip(kernel, stride, dilation))
    for number, target in enumerate(shifted(out, count, kernel, stride, dilation)):
        if apart:
            np.multiply(grad, place == number, out=target)
        else:
            target += grad * (place == number)
    return padded(out, tuple((-b, -a) for b, a in pairs))


@primitive("max_pool_select")
@in_float32
def max_pool_select(x: Any, place: Any, *, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes) -> Any:
    """The value of x at each window's place, the adjoint of `max_pool_backward`: (N, C, *size) -> (N, C, *count)."""
    count = place.shape[2:]
    room = padded(x, overhang(x.shape[2:], count, kernel, stride, padding, dilation))
    out = empty_like_order(x, place.shape)
    for number, values in enumerate(shifted(room, count, kernel, stride, dilation)):
        np.copyto(out, values, where=place == number)
    return out


@primitive("max_pool_indices", no_gradient="positions are integers")
@on_meta
def max_pool_indices(place: Any, *, size: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes) -> Any:
    """Places within windows as int64 positions in the flattened plane of the input, as PyTorch reports them."""
    count = place.shape[2:]
    flat: Any = np.zeros((), np.int64)
    for axis, coordinate in enumerate(np.unravel_index(place, kernel)):
        start = np.arange(count[axis]) * stride[axis] - padding[axis]
        here = start.reshape(-1, *(1,) * (len(count) - axis - 1)) + coordinate * dilation[axis]
        flat = flat * size[axis] + here
    return np.ascontiguousarray(flat)


def worth_it(x: Any, **attrs: Any) -> bool:
    """Whether oneDNN is faster than the maximum of a few views; nan and -inf, which it cannot do, it refuses itself."""
    return (attrs["track"] or math.prod(attrs["kernel"]) > 4) and usable(x)


@accelerated(max_windows, when=worth_it)
def onednn_max_pool(x: Any, *, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, count: Sizes,
                    track: bool) -> Any:
    best, memory = onednn(".pooling").max_pool_forward(x, kernel, stride, padding, dilation, count, track)
    return best, memory.positions if track else np.empty(0, np.uint8)


def in_onednn_order(grad: Any, place: Any, **attrs: Any) -> bool:
    """Whether the places are laid out as oneDNN leaves them."""
    return usable(grad) and in_order_last(place)


@accelerated(max_pool_backward, when=in_onednn_order)
def onednn_max_pool_backward(grad: Any, place: Any, *, size: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes,
                             dilation: Sizes) -> Any:
    pooling = onednn(".pooling")
    memory = pooling.max_pool_memory(place, (*grad.shape[:2], *size), kernel, stride, padding, dilation)
    return pooling.max_pool_backward(grad, memory)


@max_windows.vjp
def max_pool_vjp(grad: Any, out1: Tensor, shapes: Any, kernel: Sizes, stride: Sizes, padding: Sizes,
                 dilation: Sizes) -> Any:
    return hide(max_pool_backward(
        grad[0], out1, size=shapes[0][2:], kernel=kernel, stride=stride, padding=padding, dilation=dilation), grad[0])


max_pool_backward.vjp(
    grad=lambda grad, place, kernel, stride, padding, dilation: hide(max_pool_select(
        grad, place, kernel=kernel, stride=stride, padding=padding, dilation=dilation), grad),
)
max_pool_select.vjp(
    x=lambda grad, place, shapes, kernel, stride, padding, dilation: hide(max_pool_backward(
        grad, place, size=shapes[0][2:], kernel=kernel, stride=stride, padding=padding, dilation=dilation), grad),
)


def maxima(op: str, rank: int, input: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool,
           return_indices: bool) -> Any:
    """The checks and the call behind max_pool1d, 2d and 3d."""
    kernel, stride, padding, dilation, count = pool_arguments(
        op, rank, input, kernel_size, stride, padding, dilation, ceil_mode)
    geometry: dict[str, Any] = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    track = return_indices or (input._requires_grad and modes.grad)

    def run(x: Tensor) -> Any:
        values, place = max_windows(x, count=count, track=track, **geometry)
        if not return_indices:
            return values
        return values, max_pool_indices(place, size=x._array.shape[2:], **geometry)

    return batched_call(rank, input, run)


def max_pool1d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Any:
    """Largest value of each window along a sequence.

    Shapes: (N, C, L) or (C, L) -> (N, C, L'), L' = (L + 2*padding - dilation*(kernel-1) - 1) // stride + 1 (rounded up
    with `ceil_mode`). Dtypes: integers and floats, kept. `return_indices` adds the int64 position of each maximum in
    its plane. The derivative goes to the first maximum of a window. Raises: RuntimeError if the padding exceeds half
    the kernel.
    """
    return maxima("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Any:
    """Largest value of each window over images, (N, C, H, W) or (C, H, W). For the rest see `max_pool1d`."""
    return maxima("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Any:
    """Largest value of each window through volumes, (N, C, D, H, W) or (C, D, H, W). For the rest see `max_pool1d`."""
    return maxima("max_pool3d", 3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool1d_with_indices(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
                            ceil_mode: bool = False, return_indices: bool = False) -> Any:
    """`max_pool1d` that returns (maxima, indices)."""
    return max_pool1d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool2d_with_indices(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
                            ceil_mode: bool = False, return_indices: bool = False) -> Any:
    """`max_pool2d` that returns (maxima, indices)."""
    return max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool3d_with_indices(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
                            ceil_mode: bool = False, return_indices: bool = False) -> Any:
    """`max_pool3d` that returns (maxima, indices)."""
    return max_pool3d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


# ---- reading and writing planes by position ----------------------------------------------------


def flat_positions(index: np.ndarray, planes: Sizes, plane: int) -> np.ndarray:
    """Positions in the whole (N, C, *size) memory of indices (N, C or 1, *count) into planes."""
    start = np.arange(math.prod(planes)).reshape(*planes, *(1,) * (index.ndim - 2)) * plane
    return start + index


@primitive("gather_planes")
@on_meta
def gather_planes(x: Any, index: Any) -> Any:
    """x at flat positions of each plane: (N, C, *size), (N, C or 1, *count) -> (N, C, *count)."""
    x = np.ascontiguousarray(x)
    return x.reshape(-1)[flat_positions(index, x.shape[:2], math.prod(x.shape[2:]))]


@primitive("add_planes")
@in_float32
def add_planes(grad: Any, index: Any, *, size: Sizes) -> Any:
    """The adjoint of `gather_planes`: values added up at their positions, zero elsewhere."""
    out = np.zeros((*grad.shape[:2], *size), grad.dtype)
    np.add.at(out.reshape(-1), flat_positions(index, grad.shape[:2], math.prod(size)).reshape(-1), grad.reshape(-1))
    return out


@primitive("max_unpool", grad_name="MaxUnpoolBackward0")
@on_meta
def unpool(x: Any, index: Any, *, size: Sizes) -> Any:
    """Values written at their positions, zero elsewhere; the last one wins where several meet."""
    out = np.zeros((*x.shape[:2], *size), x.dtype)
    out.reshape(-1)[flat_positions(index, x.shape[:2], math.prod(size))] = x
    return out


gather_planes.vjp(x=lambda grad, index, shapes: add_planes(grad, index, size=shapes[0][2:]))
add_planes.vjp(grad=lambda grad, index: gather_planes(grad, index))
unpool.vjp(x=lambda grad, index: gather_planes(grad, index))


# ---- maxima of irregular windows ---------------------------------------------------------------


@primitive("argmax_boxes", no_gradient="positions are integers")
@in_float32
def argmax_boxes(x: Any, *, boxes: Any) -> Any:
    """The int64 position in its plane of the maximum of each window; `boxes` lists (start, end) per dimension."""
    size = x.shape[2:]
    out = np.empty((*x.shape[:2], *map(len, boxes)), np.int64)
    for place in itertools.product(*(range(len(ranges)) for ranges in boxes)):
        corner = [boxes[d][i] for d, i in enumerate(place)]
        box = x[(..., *(slice(start, end) for start, end in corner))]
        best = box.reshape(*x.shape[:2], -1).argmax(-1)
        inside = np.unravel_index(best, box.shape[2:])
        flat: Any = 0
        for n, (start, _), coordinate in zip(size, corner, inside):
            flat = flat * n + start + coordinate
        out[(..., *place)] = flat
    return out


@primitive("argmax_sampled_boxes", no_gradient="positions are integers")
@in_float32
def argmax_sampled_boxes(x: Any, samples: Any, *, kernel: Sizes, count: Sizes) -> Any:
    """The same for windows of one size at Graham's random starts, from one sample per plane and dimension."""
    out = np.empty((*x.shape[:2], *count), np.int64)
    # As PyTorch has it: over images the first sample is the width's, in volumes the depth's.
    order = (1, 0) if len(count) == 2 else (0, 1, 2)
    for n, c in np.ndindex(*x.shape[:2]):
        boxes = [
            [(start, start + k) for start in random_starts(float(samples[n, c, d]), size, number, k, samples.dtype)]
            for d, size, number, k in zip(order, x.shape[2:], count, kernel)
        ]
        out[n, c] = argmax_boxes.op.kernel(x[n:n + 1, c:c + 1], boxes=boxes)[0, 0]
    return out


def random_starts(sample: float, size: int, count: int, kernel: int, dtype: Any) -> list[int]:
    """Starts of `count` windows: steps of the integer sequence int((i + u) * alpha) (Graham 2014, section 2)."""
    kind = np.dtype(dtype).type if np.dtype(dtype).kind == "f" else np.float32
    u = kind(sample)
    starts = []
    if count > 1:
        alpha = kind(size - kernel) / kind(count - 1)
        starts = [int((kind(i) + u) * alpha) - int(u * alpha) for i in range(count - 1)]
    return [*starts, size - kernel]


def irregular(rank: int, input: Tensor, index_of: Any, return_indices: bool) -> Any:
    """Maxima read at the positions that `index_of` finds."""

    def run(x: Tensor) -> Any:
        index = index_of(x)
        values = gather_planes(x, index)
        return (values, index) if return_indices else values

    return batched_call(rank, input, run)


def adaptive_maxima(op: str, rank: int, input: Any, output_size: Any, return_indices: bool) -> Any:
    """The checks and the call behind adaptive_max_pool1d, 2d and 3d."""
    count = adaptive_arguments(op, rank, input, output_size)
    boxes = [bins(n, c) for n, c in zip(input._array.shape[-rank:], count)]
    return irregular(rank, input, lambda x: argmax_boxes(x, boxes=boxes), return_indices)


def adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """Maxima of even bins: (N, C, L) or (C, L) -> (N, C, output_size), with int64 positions on request."""
    return adaptive_maxima("adaptive_max_pool1d", 1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """Maxima of even bins: (N, C, H, W) or (C, H, W) -> (N, C, *output_size); None keeps a dimension's size."""
    return adaptive_maxima("adaptive_max_pool2d", 2, input, output_size, return_indices)


def adaptive_max_pool3d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """Maxima of even bins: (N, C, D, H, W) or (C, D, H, W) -> (N, C, *output_size); None keeps a dimension's size."""
    return adaptive_maxima("adaptive_max_pool3d", 3, input, output_size, return_indices)


def adaptive_max_pool1d_with_indices(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """`adaptive_max_pool1d` that returns (maxima, indices)."""
    return adaptive_max_pool1d(input, output_size, True)


def adaptive_max_pool2d_with_indices(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """`adaptive_max_pool2d` that returns (maxima, indices)."""
    return adaptive_max_pool2d(input, output_size, True)


def adaptive_max_pool3d_with_indices(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """`adaptive_max_pool3d` that returns (maxima, indices)."""
    return adaptive_max_pool3d(input, output_size, True)


def fractional_maxima(op: str, rank: int, input: Any, kernel_size: Any, output_size: Any, output_ratio: Any,
                      return_indices: bool, samples: Any) -> Any:
    """The checks and the call behind fractional_max_pool2d and 3d."""
    if output_size is None and output_ratio is None:
        raise ValueError(f"{op} requires specifying either an output_size or an output_ratio")
    if not isinstance(input, Tensor):
        raise TypeError(f"{op}(): argument 'input' must be Tensor, not {type(input).__name__}")
    x = input._array
    if x.ndim not in (rank + 1, rank + 2):
        raise RuntimeError(f"{op}: expected {rank + 1}D or {rank + 2}D input, got input {shape_text(x)}")
    kernel = sizes(kernel_size, rank, "kernel_size", op)
    if output_size is None:
        ratios = output_ratio if isinstance(output_ratio, (tuple, list)) else (output_ratio,) * rank
        count = tuple(int(n * ratio) for n, ratio in zip(x.shape[-rank:], ratios))
    else:
        count = sizes(output_size, rank, "output_size", op)
    if any(c + k - 1 > n or k < 1 or c < 1 for n, c, k in zip(x.shape[-rank:], count, kernel)):
        raise RuntimeError(
            f"{op}: windows {kernel} for an output of {list(count)} do not fit the input ({shape_text(x)})"
        )
    planes = (x.shape[0], x.shape[1]) if x.ndim == rank + 2 else (1, x.shape[0])
    if samples is None:
        drawn = x.dtype if x.dtype in (np.float32, np.float64) else np.dtype(np.float32)
        samples = write_draws(wrap(np.empty((*planes, rank), drawn)), uniform_draws(drawn, 0, 1, None))
    elif samples._array.ndim != 3 or samples.shape[0] < planes[0] or tuple(samples.shape[1:]) != (planes[1], rank):
        raise RuntimeError(f"{op}: expected random samples of shape {(*planes, rank)}, got {tuple(samples.shape)}")
    else:
        samples = samples[: planes[0]]  # as in PyTorch, they may be for a larger batch
    return irregular(
        rank, input, lambda t: argmax_sampled_boxes(t, samples, kernel=kernel, count=count), return_indices)


def fractional_max_pool2d(input: Tensor, kernel_size: Any, output_size: Any = None, output_ratio: Any = None,
                          return_indices: bool = False, _random_samples: Tensor | None = None) -> Any:
    """Maxima of windows whose starts are random, so that sizes shrink by fractions (Graham 2014).

    Shapes: (N, C, H, W) or (C, H, W) -> (N, C, *output_size), or int(size * `output_ratio`) per dimension.
    Raises: ValueError unless a size or a ratio is given; RuntimeError if the windows do not fit.
    """
    return fractional_maxima(
        "fractional_max_pool2d", 2, input, kernel_size, output_size, output_ratio, return_indices, _random_samples)


def fractional_max_pool3d(input: Tensor, kernel_size: Any, output_size: Any = None, output_ratio: Any = None,
                          return_indices: bool = False, _random_samples: Tensor | None = None) -> Any:
    """`fractional_max_pool2d` for volumes, (N, C, D, H, W) or (C, D, H, W)."""
    return fractional_maxima(
        "fractional_max_pool3d", 3, input, kernel_size, output_size, output_ratio, return_indices, _random_samples)


def fractional_max_pool2d_with_indices(input: Tensor, kernel_size: Any, output_size: Any = None,
                                       output_ratio: Any = None, return_indices: bool = False,
                                       _random_samples: Tensor | None = None) -> Any:
    """`fractional_max_pool2d` that returns (maxima, indices)."""
    return fractional_max_pool2d(input, kernel_size, output_size, output_ratio, True, _random_samples)


def fractional_max_pool3d_with_indices(input: Tensor, kernel_size: Any, output_size: Any = None,
                                       output_ratio: Any = None, return_indices: bool = False,
                                       _random_samples: Tensor | None = None) -> Any:
    """`fractional_max_pool3d` that returns (maxima, indices)."""
    return fractional_max_pool3d(input, kernel_size, output_size, output_ratio, True, _random_samples)


# ---- unpooling ---------------------------------------------------------------------------------


def unpooled(op: str, rank: int, input: Tensor, indices: Tensor, kernel_size: Any, stride: Any, padding: Any,
             output_size: Any) -> Tensor:
    """The checks and the call behind max_unpool1d, 2d and 3d."""
    kernel = sizes(kernel_size, rank, "kernel_size", op)
    stride = kernel if stride is None else sizes(stride, rank, "stride", op)
    padding = sizes(padding, rank, "padding", op)
    x, index = input._array, indices._array
    if index.dtype != np.int64:
        raise RuntimeError(f"{op}: elements in indices should be type int64 but got: {indices.dtype}")
    if x.ndim not in (rank + 1, rank + 2):
        raise RuntimeError(f"{op}: expected {rank + 1}D or {rank + 2}D input, got input {shape_text(x)}")
    if x.shape != index.shape:
        raise RuntimeError(f"{op}: expected indices of the input's shape {shape_text(x)}, got {shape_text(index)}")
    usual = tuple((n - 1) * s + k - 2 * p for n, k, s, p in zip(x.shape[-rank:], kernel, stride, padding))
    size = unpooled_size(op, usual, stride, output_size, rank)
    if index.size and (index.min() < 0 or index.max() >= math.prod(size)):
        raise RuntimeError(f"{op}: found an invalid max index: {index.max()} (output size {list(size)})")

    if x.ndim == rank + 2:
        return unpool(input, indices, size=size)
    return unpool(input.unsqueeze(0), indices.unsqueeze(0), size=size).squeeze(0)


def unpooled_size(op: str, usual: Sizes, stride: Sizes, wanted: Any, rank: int) -> Sizes:
    """The output size: the usual one, or one asked for that differs by less than a stride. ValueError otherwise."""
    if wanted is None:
        return usual
    wanted = tuple(wanted)
    if len(wanted) == rank + 2:
        wanted = wanted[2:]
    if len(wanted) != rank:
        raise ValueError(
            f"{op}: output_size should be a sequence containing {rank} or {rank + 2} elements, but it has {len(wanted)}"
        )
    if any(not u - s < w < u + s for u, s, w in zip(usual, stride, wanted)):
        raise ValueError(
            f"{op}: invalid output_size {list(wanted)}: it must lie within a stride ({stride}) of {list(usual)}"
        )
    return tuple(int(w) for w in wanted)


def max_unpool1d(input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
                 output_size: Any = None) -> Tensor:
    """Puts maxima back where `max_pool1d(..., return_indices=True)` found them, zeros elsewhere.

    Shapes: (N, C, L') or (C, L') -> (N, C, L), L = (L'-1)*stride + kernel - 2*padding unless `output_size` says
    otherwise.
    Raises: ValueError for an impossible output_size; RuntimeError for indices outside it.
    """
    return unpooled("max_unpool1d", 1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
                 output_size: Any = None) -> Tensor:
    """Puts maxima of `max_pool2d` back at their positions. See `max_unpool1d`."""
    return unpooled("max_unpool2d", 2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
                 output_size: Any = None) -> Tensor:
    """Puts maxima of `max_pool3d` back at their positions. See `max_unpool1d`."""
    return unpooled("max_unpool3d", 3, input, indices, kernel_size, stride, padding, output_size)
