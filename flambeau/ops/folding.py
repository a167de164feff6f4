"""Patches to columns and back, and the rearrangements between channels and space."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flambeau.core.dispatch import primitive
from flambeau.core.tensor import Tensor
from flambeau.ops.sliding import (
    Sizes,
    add_windows,
    in_float32,
    on_meta,
    output_size,
    padded,
    shape_text,
    sizes,
    windows,
)

__all__ = ["channel_shuffle", "fold", "native_channel_shuffle", "pixel_shuffle", "pixel_unshuffle", "unfold"]


# ---- unfold and fold ---------------------------------------------------------------------------


@primitive("im2col")
@on_meta
def im2col(x: Any, *, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes) -> Any:
    """Every window as a column: (N, C, *size) -> (N, C * kernel, positions)."""
    rank = len(kernel)
    view = windows(padded(x, tuple((p, p) for p in padding)), kernel, stride, dilation)
    n, c = x.shape[:2]
    columns = view.transpose(0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
    return np.array(columns).reshape(n, c * math.prod(kernel), math.prod(view.shape[2:2 + rank]))


@primitive("col2im")
@in_float32
def col2im(columns: Any, *, size: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes) -> Any:
    """The adjoint of `im2col`: columns added up where they came from."""
    count = positions(size, kernel, stride, padding, dilation)
    shaped = columns.reshape(columns.shape[0], columns.shape[1] // math.prod(kernel), *kernel, *count)
    return np.array(add_windows(shaped, size, stride, dilation, tuple((p, p) for p in padding)))


def positions(size: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes) -> Sizes:
    """How many windows there are along each dimension."""
    return tuple(
        output_size(n, k, s, (p, p), d) for n, k, s, p, d in zip(size, kernel, stride, padding, dilation)
    )


im2col.vjp(
    x=lambda grad, shapes, kernel, stride, padding, dilation: col2im(
        grad, size=shapes[0][2:], kernel=kernel, stride=stride, padding=padding, dilation=dilation),
)
col2im.vjp(
    columns=lambda grad, kernel, stride, padding, dilation: im2col(
        grad, kernel=kernel, stride=stride, padding=padding, dilation=dilation),
)


def geometry(op: str, input: Any, ranks: Any, kernel: Any, dilation: Any, padding: Any,
             stride: Any) -> dict[str, Sizes]:
    """The checked settings of fold and unfold, as attributes of the primitives."""
    if not isinstance(input, Tensor):
        raise TypeError(f"{op}(): argument 'input' must be Tensor, not {type(input).__name__}")
    if input._array.ndim not in ranks:
        raise RuntimeError(f"{op}: expected {ranks[0]}D or {ranks[1]}D input, got input {shape_text(input._array)}")
    found = {
        "kernel": sizes(kernel, 2, "kernel_size", op), "stride": sizes(stride, 2, "stride", op),
        "padding": sizes(padding, 2, "padding", op), "dilation": sizes(dilation, 2, "dilation", op),
    }
    for name, values in found.items():
        least = 0 if name == "padding" else 1
        if min(values) < least:
            raise RuntimeError(f"{op}: {name} should be at least {least}, but got {values}")
    return found


def unfold(input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """All sliding windows of images as columns.

    Shapes: (N, C, H, W) or (C, H, W) -> (N, C * KH * KW, positions). Dtypes: any, kept.
    Raises: RuntimeError if no window fits.
    """
    how = geometry("unfold", input, (3, 4), kernel_size, dilation, padding, stride)
    x = input._array
    count = positions(x.shape[-2:], **how)
    if min(count) < 1 or 0 in x.shape[-3:]:
        raise RuntimeError(
            f"unfold: windows {how['kernel']} do not fit the padded input ({shape_text(x)}): positions {count}"
        )
    return im2col(input, **how) if x.ndim == 4 else im2col(input.unsqueeze(0), **how).squeeze(0)


def fold(input: Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0,
         stride: Any = 1) -> Tensor:
    """Columns added up to images: the adjoint of `unfold`, not its inverse where windows overlap.

    Shapes: (N, C * KH * KW, positions) or without N -> (N, C, *output_size).
    Raises: RuntimeError if the columns do not divide into kernels or their number is not that of the positions.
    """
    how = geometry("fold", input, (2, 3), kernel_size, dilation, padding, stride)
    size = sizes(output_size, 2, "output_size", "fold")
    x = input._array
    area = math.prod(how["kernel"])
    if x.shape[-2] % area or x.shape[-2] == 0 or x.shape[-1] == 0:
        raise RuntimeError(
            f"fold: expected size of input's dimension 1 to be divisible by the product of kernel_size "
            f"{how['kernel']}, but got "
            f"input {shape_text(x)}"
        )
    count = positions(size, **how)
    if math.prod(count) != x.shape[-1] or min(count) < 1:
        raise RuntimeError(
            f"fold: for output_size {size} and {how}, expected {' * '.join(map(str, count))} = {math.prod(count)} "
            f"columns, got "
            f"{x.shape[-1]} (input {shape_text(x)})"
        )
    return col2im(input, size=size, **how) if x.ndim == 3 else col2im(input.unsqueeze(0), size=size, **how).squeeze(0)


# ---- channels and space ------------------------------------------------------------------------


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Channels spread over a finer grid: (*, C * r * r, H, W) -> (*, C, H * r, W * r) (Shi et al. 2016).

    Raises: RuntimeError unless the channels divide by the factor squared.
    """
    r = upscale_factor
    if input.ndim < 3:
        raise RuntimeError(
            f"pixel_shuffle expects input to have at least 3 dimensions, but got input with {input.ndim} dimension(s)"
        )
    if r <= 0:
        raise RuntimeError(f"pixel_shuffle expects a positive upscale_factor, but got {r}")
    *lead, c, h, w = input.shape
    if c % (r * r):
        raise RuntimeError(
            f"pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of upscale_factor, "
            f"but "
            f"input.size(-3)={c} is not divisible by {r * r}"
        )
    n = len(lead)
    split = input.reshape(*lead, c // (r * r), r, r, h, w)
    order = (*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return unshared(split.permute(order).reshape(*lead, c // (r * r), h * r, w * r))


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """The inverse of `pixel_shuffle`: (*, C, H * r, W * r) -> (*, C * r * r, H, W)."""
    r = downscale_factor
    if input.ndim < 3:
        raise RuntimeError(
            f"pixel_unshuffle expects input to have at least 3 dimensions, but got input with {input.ndim} dimension(s)"
        )
    if r <= 0:
        raise RuntimeError(f"pixel_unshuffle expects a positive downscale_factor, but got {r}")
    *lead, c, h, w = input.shape
    if h % r or w % r:
        raise RuntimeError(
            f"pixel_unshuffle expects height and width to be divisible by downscale_factor, but {h}x{w} is not "
            f"divisible by {r}"
        )
    n = len(lead)
    split = input.reshape(*lead, c, h // r, r, w // r, r)
    order = (*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return unshared(split.permute(order).reshape(*lead, c * r * r, h // r, w // r))


def unshared(result: Tensor) -> Tensor:
    """A copy where rearranging moved nothing and left a view of the input."""
    return result if result._base is None else result.clone()


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Channels dealt out over groups: channel g * K + k comes to k * groups + g (Zhang et al. 2018).

    Shapes: (N, C, ...), at least three dimensions. Raises: RuntimeError unless `groups` divides C.
    """
    if input.ndim < 3:
        raise RuntimeError(f"channel_shuffle expects input with > 2 dims, but got input with sizes {list(input.shape)}")
    channels = input.shape[1]
    if groups <= 0 or channels % groups:
        raise RuntimeError(
            f"channel_shuffle: number of channels must be divisible by groups, got {channels} channels and {groups} "
            f"groups"
        )
    shape = input.shape
    split = input.reshape(shape[0], groups, channels // groups, math.prod(shape[2:]))
    return unshared(split.transpose(1, 2).reshape(shape))


def native_channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Another name of `channel_shuffle`."""
    return channel_shuffle(input, groups)
