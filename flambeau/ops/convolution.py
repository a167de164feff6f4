"""Convolution in one, two and three dimensions, transposed or not: one N-d implementation.

A convolution is linear in the image and in the weight, so three primitives are closed under derivatives:
`convolution` (image, weight -> output), `transposed_convolution` (output, weight -> image) and `weight_gradient`
(image, output -> weight).
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

from flambeau.core import dispatch
from flambeau.core import dtype as dtypes
from flambeau.core.dispatch import primitive
from flambeau.core.modes import modes
from flambeau.core.storage import EXPOSED
from flambeau.core.tensor import Tensor, storage_of
from flambeau.ops.native import accelerated, onednn
from flambeau.ops.pointwise import conj
from flambeau.ops.sliding import (
    Pairs,
    Sizes,
    add_windows,
    hide,
    in_float32,
    output_size,
    padded,
    shape_text,
    sizes,
    windows,
)

__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]

# Columns of one run of the NumPy kernel: large enough for one good matrix product, small enough to stay in cache.
COLUMN_BYTES = 16 << 20


# ---- the three primitives ----------------------------------------------------------------------


@primitive("convolution")
@in_float32
def convolution(x: Any, w: Any, bias: Any, *, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int) -> Any:
    """Products of the weight with every window: (N, C, *size), (O, C/groups, *kernel) -> (N, O, *positions)."""
    kernel = w.shape[2:]
    x = padded(x, padding)
    count = tuple(output_size(n, k, s, (0, 0), d) for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation))
    samples, outputs = x.shape[0], w.shape[0]
    out = np.empty((samples, groups, outputs // groups, math.prod(count)), x.dtype)
    matrix = w.reshape(groups, outputs // groups, math.prod(w.shape[1:]))
    for part in chunks(samples, x.shape[1] * math.prod(kernel) * math.prod(count) * x.itemsize):
        np.matmul(matrix, columns(x[part], kernel, stride, dilation, groups), out=out[part])
    out = out.reshape(samples, outputs, *count)
    if bias is not None:
        out += bias.reshape(-1, *(1,) * len(count))
    return out


@primitive("transposed_convolution", grad_name="ConvolutionBackward0")
@in_float32
def transposed_convolution(y: Any, w: Any, bias: Any, *, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int,
                           size: Sizes) -> Any:
    """The adjoint in the image: each value of y adds a weighted kernel: (N, O, *positions) -> (N, C, *size)."""
    kernel, count = w.shape[2:], y.shape[2:]
    samples, outputs = y.shape[:2]
    channels = w.shape[1] * groups
    matrix = w.reshape(groups, outputs // groups, math.prod(w.shape[1:])).swapaxes(1, 2)
    out = np.empty((samples, channels, *size), y.dtype)
    for part in chunks(samples, channels * math.prod(kernel) * math.prod(count) * y.itemsize):
        values = y[part].reshape(-1, groups, outputs // groups, math.prod(count))
        product = np.matmul(matrix, values).reshape(len(values), channels, *kernel, *count)
        out[part] = add_windows(product, size, stride, dilation, padding)
    if bias is not None:
        out += bias.reshape(-1, *(1,) * len(size))
    return out


@primitive("weight_gradient", outputs=2, grad_name="ConvolutionBackward0")
@in_float32
def weight_gradient(x: Any, y: Any, *, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int, kernel: Sizes,
                    want_bias: bool) -> Any:
    """The adjoint in weight and bias: (N, C, *size), (N, O, *positions) -> (O, C/groups, *kernel), (O,).

    Without `want_bias` the second result is empty.
    """
    count = y.shape[2:]
    # What lies beyond the last window is never looked at: the stride did not divide the room.
    x = padded(x, padding)[(..., *(
        slice(0, (n - 1) * s + (k - 1) * d + 1) for n, s, k, d in zip(count, stride, kernel, dilation)
    ))]
    channels, outputs = x.shape[1], y.shape[1]
    out = np.zeros((groups, outputs // groups, channels // groups * math.prod(kernel)), x.dtype)
    for part in chunks(x.shape[0], channels * math.prod(kernel) * math.prod(count) * x.itemsize):
        seen = columns(x[part], kernel, stride, dilation, groups)       # (n, groups, C/groups * kernel, positions)
        values = y[part].reshape(-1, groups, outputs // groups, math.prod(count))
        for g in range(groups):
            out[g] += np.tensordot(values[:, g], seen[:, g], ((0, 2), (0, 2)))
    bias = y.sum((0, *range(2, y.ndim))) if want_bias else np.empty(0, y.dtype)
    return out.reshape(outputs, channels // groups, *kernel), bias


def columns(image: np.ndarray, kernel: Sizes, stride: Sizes, dilation: Sizes, groups: int) -> np.ndarray:
    """All windows as a matrix per sample and group: (N, groups, C/groups * kernel, positions)."""
    rank = len(kernel)
    view = windows(image, kernel, stride, dilation)                     # (N, C, *positions, *kernel)
    n, c = view.shape[:2]
    order = (0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
    positions = math.prod(view.shape[2:2 + rank])
    return view.transpose(order).reshape(n, groups, c // groups * math.prod(kernel), positions)


def chunks(samples: int, bytes_per_sample: int) -> list[slice]:
    """The batch in pieces whose columns fit in COLUMN_BYTES (at least one sample each)."""
    step = max(1, COLUMN_BYTES // max(bytes_per_sample, 1))
    return [slice(start, min(start + step, samples)) for start in range(0, samples, step)]


# ---- oneDNN ------------------------------------------------------------------------------------


class _Given(threading.local):
    """The weight of the convolution that is being called, and whose memory it is: kernels only see arrays."""

    array: np.ndarray | None = None
    key: tuple[Any, int] | None = None


_given = _Given()


def memory_key(weight: Tensor) -> tuple[Any, int] | None:
    """Storage and version of a weight; None where its values could change without the version telling."""
    array = weight._array
    if type(array) is not np.ndarray or not array.flags.c_contiguous:
        return None
    storage = storage_of(weight)
    if storage.flags & EXPOSED or not storage.owner.flags.owndata:  # others hold the memory
        return None
    return storage, storage.version


@accelerated(convolution)
def onednn_convolution(x: Any, w: Any, bias: Any, *, stride: Sizes, padding: Pairs, dilation: Sizes,
                       groups: int) -> Any:
    key = _given.key if _given.array is w else None
    return onednn(".convolution").conv_forward(x, w, bias, stride, padding, dilation, groups, key)


@accelerated(transposed_convolution)
def onednn_transposed_convolution(y: Any, w: Any, bias: Any, *, stride: Sizes, padding: Pairs, dilation: Sizes,
                                  groups: int, size: Sizes) -> Any:
    shape = (y.shape[0], w.shape[1] * groups, *size)
    out = onednn(".convolution").conv_backward_input(y, w, shape, stride, padding, dilation, groups)
    if bias is not None:
        out += bias.reshape(-1, *(1,) * len(size))
    return out


@accelerated(weight_gradient)
def onednn_weight_gradient(x: Any, y: Any, *, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int,
                           kernel: Sizes, want_bias: bool) -> Any:
    shape = (y.shape[1], x.shape[1] // groups, *kernel)
    dw, db = onednn(".convolution").conv_backward_weight(y, x, shape, stride, padding, dilation, groups, want_bias)
    return dw, np.empty(0, np.float32) if db is None else db


# ---- their derivatives: each in terms of the other two -----------------------------------------


@convolution.vjp
def convolution_vjp(grad: Tensor, x: Tensor, w: Tensor, needs: Any, stride: Sizes, padding: Pairs, dilation: Sizes,
                    groups: int) -> Any:
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    dx = dw = db = None
    if needs[0]:
        dx = hide(transposed_convolution(grad, conj(w), None, size=x._array.shape[2:], **how), grad, x)
    if needs[1]:
        dw, db = weight_gradient(conj(x), grad, kernel=w._array.shape[2:], want_bias=needs[2], **how)
    elif needs[2]:
        db = channel_sum(grad)
    return dx, dw, db if needs[2] else None


@transposed_convolution.vjp
def transposed_convolution_vjp(grad: Tensor, y: Tensor, w: Tensor, needs: Any, stride: Sizes, padding: Pairs,
                               dilation: Sizes, groups: int) -> Any:
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    dy = dw = None
    if needs[0]:
        dy = cropped(hide(convolution(grad, conj(w), None, **how), grad, y), y._array.shape)
    if needs[1]:
        dw = weight_gradient(grad, conj(y), kernel=w._array.shape[2:], want_bias=False, **how)[0]
    return dy, dw, channel_sum(grad) if needs[2] else None


@weight_gradient.vjp
def weight_gradient_vjp(grad: Any, x: Tensor, y: Tensor, needs: Any, stride: Sizes, padding: Pairs, dilation: Sizes,
                        groups: int, want_bias: bool) -> Any:
    of_weight, of_bias = grad                                           # shaped like the weight, like the bias
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    dx = dy = None
    if needs[0]:
        dx = hide(transposed_convolution(conj(y), of_weight, None, size=x._array.shape[2:], **how), y, x)
    if needs[1]:
        dy = cropped(hide(convolution(conj(x), of_weight, None, **how), y, x), y._array.shape)
        if want_bias:
            dy = dy + of_bias.reshape(1, -1, *(1,) * (y.ndim - 2))
    return dx, dy


def channel_sum(grad: Tensor) -> Tensor:
    """The derivative of a bias: the sum over everything but channels."""
    return grad.sum(dim=(0, *range(2, grad.ndim)))


def cropped(out: Tensor, shape: Sizes) -> Tensor:
    """Without the positions that an output padding as large as the stride made room for."""
    for axis in range(2, len(shape)):
        if out._array.shape[axis] != shape[axis]:
            out = out.narrow(axis, 0, shape[axis])
    return out


# ---- the public functions ----------------------------------------------------------------------


def check_operands(op: str, rank: int, input: Any, weight: Any, bias: Any) -> None:
    """TypeError for what is no tensor; RuntimeError for a wrong number of dimensions or mixed types."""
    for name, value in (("input", input), ("weight", weight), ("bias", bias)):
        if not isinstance(value, Tensor) and not (name == "bias" and value is None):
            raise TypeError(f"{op}(): argument '{name}' must be Tensor, not {type(value).__name__}")
    x, w = input._array, weight._array
    if w.ndim != rank + 2:
        raise RuntimeError(f"{op}: expected a weight of {rank + 2} dimensions, got {w.ndim} (weight {shape_text(w)})")
    if x.ndim not in (rank + 1, rank + 2):
        raise RuntimeError(
            f"Expected {rank + 1}D (unbatched) or {rank + 2}D (batched) input to {op}, but got input of size: "
            f"{list(x.shape)}"
        )
    if x.dtype != w.dtype and modes.autocast is None:
        raise RuntimeError(
            f"{op}: input type ({type_name(x)}) and weight type ({type_name(w)}) should be the same"
        )
    if x.dtype.kind == "b":
        raise RuntimeError(f"{op}: not implemented for bool tensors")
    if bias is not None and bias._array.dtype != x.dtype and modes.autocast is None:
        raise RuntimeError(
            f"{op}: input type ({type_name(x)}) and bias type ({type_name(bias._array)}) should be the same"
        )


def type_name(array: np.ndarray) -> str:
    """What PyTorch calls a type in C's words: float, double, long."""
    name = dtypes.from_numpy(array.dtype).name
    in_c = {"float32": "float", "float64": "double", "float16": "c10::Half", "bfloat16": "c10::BFloat16",
            "int64": "long", "int32": "int"}
    return in_c.get(name, name)


def check_geometry(op: str, stride: Sizes, dilation: Sizes, groups: int, padding: Any) -> None:
    """RuntimeError for a stride, dilation or number of groups below 1, or a negative padding."""
    for name, values, least in (("stride", stride, 1), ("dilation", dilation, 1), ("groups", (groups,), 1),
                                ("padding", padding, 0)):
        if any(value < least for value in values):
            raise RuntimeError(f"{op}: {name} must be at least {least}, got {values if len(values) > 1 else values[0]}")


def check_bias(op: str, bias: Tensor | None, channels: int) -> None:
    """RuntimeError unless there is one bias per output channel."""
    if bias is not None and bias._array.shape != (channels,):
        raise RuntimeError(f"{op}: expected a bias of {channels} elements, got {shape_text(bias._array)}")


def resolve_padding(op: str, padding: Any, kernel: Sizes, stride: Sizes, dilation: Sizes) -> Pairs:
    """Pairs of paddings from numbers, "valid" or "same" (which puts the odd one at the end)."""
    if not isinstance(padding, str):
        values = sizes(padding, len(kernel), "padding", op)
        if min(values) < 0:
            raise RuntimeError(f"{op}: negative padding is not supported, got {values}")
        return tuple((p, p) for p in values)
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if padding != "same":
        raise RuntimeError(f"{op}: padding must be 'same', 'valid' or numbers, got '{padding}'")
    if any(s != 1 for s in stride):
        raise RuntimeError(f"{op}: padding='same' is not supported for strided convolutions (stride {stride})")
    totals = [d * (k - 1) for k, d in zip(kernel, dilation)]
    return tuple((total // 2, total - total // 2) for total in totals)


def conv(op: str, rank: int, input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any,
         groups: int) -> Tensor:
    """The checks and the call behind conv1d, conv2d and conv3d."""
    check_operands(op, rank, input, weight, bias)
    x, w = input._array, weight._array
    stride, dilation = sizes(stride, rank, "stride", op), sizes(dilation, rank, "dilation", op)
    check_geometry(op, stride, dilation, groups, ())
    kernel = w.shape[2:]
    pairs = resolve_padding(op, padding, kernel, stride, dilation)
    channels, size = x.shape[-rank - 1], x.shape[-rank:]
    if w.shape[1] * groups != channels:
        raise RuntimeError(
            f"{op}: expected {w.shape[1] * groups} input channels, got {channels} (input {shape_text(x)}, weight "
            f"{shape_text(w)}"
            + (f", groups {groups})" if groups > 1 else ")")
        )
    if w.shape[0] % groups:
        raise RuntimeError(
            f"{op}: {w.shape[0]} output channels do not divide into {groups} groups (weight {shape_text(w)})"
        )
    check_bias(op, bias, w.shape[0])
    if any(n + b + a < d * (k - 1) + 1 or k < 1 for n, (b, a), k, d in zip(size, pairs, kernel, dilation)):
        room = " x ".join(str(n + b + a) for n, (b, a) in zip(size, pairs))
        spans = " x ".join(str(d * (k - 1) + 1) for k, d in zip(kernel, dilation))
        raise RuntimeError(
            f"{op}: kernel ({spans}) can't be greater than the padded input ({room}) (input {shape_text(x)}, weight "
            f"{shape_text(w)})"
        )
    batched = input if x.ndim == rank + 2 else input.unsqueeze(0)
    if dispatch.interceptor is None:
        _given.array, _given.key = w, memory_key(weight)
    try:
        out = hide(convolution(
            batched, weight, bias, stride=stride, padding=pairs, dilation=dilation, groups=groups), batched)
    finally:
        _given.array = _given.key = None
    return out if x.ndim == rank + 2 else out.squeeze(0)


def conv1d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
           dilation: Any = 1, groups: int = 1) -> Tensor:
    """Slide a kernel along a sequence.

    Shapes: (N, C, L) or (C, L), weight (O, C/groups, K) -> (N, O, L'), L' = (L + 2*padding - dilation*(K-1) - 1) //
    stride + 1.
    Dtypes: integers and floats, the same for all tensors. `padding` is a number, "valid" or "same".
    Raises: RuntimeError when channels, types or sizes do not fit.
    """
    return conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
           dilation: Any = 1, groups: int = 1) -> Tensor:
    """Slide a kernel over images.

    Shapes: (N, C, H, W) or (C, H, W), weight (O, C/groups, KH, KW) -> (N, O, H', W'). For the rest see `conv1d`.
    """
    return conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
           dilation: Any = 1, groups: int = 1) -> Tensor:
    """Slide a kernel through volumes.

    Shapes: (N, C, D, H, W) or (C, D, H, W), weight (O, C/groups, KD, KH, KW) -> (N, O, D', H', W'). See `conv1d`.
    """
    return conv("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def conv_transpose(op: str, rank: int, input: Any, weight: Any, bias: Any, stride: Any, padding: Any,
                   output_padding: Any, groups: int, dilation: Any) -> Tensor:
    """The checks and the call behind conv_transpose1d, 2d and 3d."""
    check_operands(op, rank, input, weight, bias)
    y, w = input._array, weight._array
    stride, dilation = sizes(stride, rank, "stride", op), sizes(dilation, rank, "dilation", op)
    padding, extra = sizes(padding, rank, "padding", op), sizes(output_padding, rank, "output_padding", op)
    check_geometry(op, stride, dilation, groups, padding)
    channels = y.shape[-rank - 1]
    if w.shape[0] != channels:
        raise RuntimeError(
            f"{op}: expected {w.shape[0]} input channels, got {channels} (input {shape_text(y)}, weight "
            f"{shape_text(w)})"
        )
    if channels % groups:
        raise RuntimeError(
            f"{op}: {channels} input channels do not divide into {groups} groups (weight {shape_text(w)})"
        )
    check_bias(op, bias, w.shape[1] * groups)
    if any(e < 0 or e >= max(s, d) for e, s, d in zip(extra, stride, dilation)):
        raise RuntimeError(
            f"{op}: output padding must be smaller than either stride or dilation, got output_padding {extra}, stride "
            f"{stride}, "
            f"dilation {dilation}"
        )
    size = tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + e + 1
        for n, s, p, d, k, e in zip(y.shape[-rank:], stride, padding, dilation, w.shape[2:], extra)
    )
    if min(size) < 1:
        raise RuntimeError(
            f"{op}: the output would have size {list(size)} (input {shape_text(y)}, weight {shape_text(w)})"
        )
    batched = input if y.ndim == rank + 2 else input.unsqueeze(0)
    out = hide(transposed_convolution(
        batched, weight, bias, stride=stride, padding=tuple((p, p) for p in padding), dilation=dilation, groups=groups,
        size=size), batched)
    return out if y.ndim == rank + 2 else out.squeeze(0)


def conv_transpose1d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
                     output_padding: Any = 0, groups: int = 1, dilation: Any = 1) -> Tensor:
    """The transpose of `conv1d`: each element of the input adds a weighted kernel to the output.

    Shapes: (N, C, L) or (C, L), weight (C, O/groups, K) -> (N, O, L'),
    L' = (L-1)*stride - 2*padding + dilation*(K-1) + output_padding + 1. Dtypes: integers and floats, the same for all.
    Raises: RuntimeError when channels, types or sizes do not fit.
    """
    return conv_transpose("conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
                     output_padding: Any = 0, groups: int = 1, dilation: Any = 1) -> Tensor:
    """The transpose of `conv2d`.

    Shapes: (N, C, H, W) or (C, H, W), weight (C, O/groups, KH, KW) -> (N, O, H', W'). See `conv_transpose1d`.
    """
    return conv_transpose("conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
                     output_padding: Any = 0, groups: int = 1, dilation: Any = 1) -> Tensor:
    """The transpose of `conv3d`.

    Shapes: (N, C, D, H, W) or (C, D, H, W), weight (C, O/groups, KD, KH, KW) -> (N, O, D', H', W'). See
    `conv_transpose1d`.
    """
    return conv_transpose("conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups, dilation)
