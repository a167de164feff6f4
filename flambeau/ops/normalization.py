"""Normalisation: batch, instance, layer, group, root-mean-square and local response.

One computation stands behind the first four: subtract the mean over some axes, divide by the standard deviation,
scale and shift. They differ in the axes and in how the weight lies; see `normalize_over`.
"""

from __future__ import annotations

import functools
import importlib
import math
import os
import sys
from typing import Any

import numpy as np

from flambeau.core import dispatch
from flambeau.core import dtype as dtypes
from flambeau.core.dispatch import primitive
from flambeau.core.inplace import assign, bump
from flambeau.core.modes import modes
from flambeau.core.tensor import Tensor, plain, wrap
from flambeau.ops.casting import to_dtype
from flambeau.ops.native import accelerated, onednn, usable
from flambeau.ops.padding import pad
from flambeau.ops.pointwise import add, mul
from flambeau.ops.pooling import avg_pool2d, avg_pool3d
from flambeau.ops.reductions import total
from flambeau.ops.sliding import Sizes, hide, shape_text

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "local_response_norm", "rms_norm"]


# ---- the computation ---------------------------------------------------------------------------


def widened(array: Any) -> Any:
    """float16 and bfloat16 as float32; None and wider types unchanged."""
    return array.astype(np.float32) if array is not None and array.dtype.itemsize < 4 else array


def mean_over(array: np.ndarray, axes: Sizes) -> Any:
    """The mean over some axes, kept as size 1."""
    count = math.prod(array.shape[axis] for axis in axes)
    return total(array, axes, True) / array.dtype.type(count)


def sum_to(array: np.ndarray, shape: Sizes, dtype: Any) -> np.ndarray:
    """The sum over what broadcasting added to `shape`."""
    lead = array.ndim - len(shape)
    axes = (*range(lead), *(lead + i for i, n in enumerate(shape) if n == 1))
    return np.asarray(total(array, axes, False)).reshape(shape).astype(dtype, copy=False)


def normalize_over(x: Any, weight: Any, bias: Any, *, axes: Sizes, eps: float) -> Any:
    """((x - mean) / sqrt(var + eps) * weight + bias, mean, var) with statistics over `axes`, kept as size 1.

    Weight and bias broadcast against x. The variance is the biased one. Statistics of float16 and bfloat16 are float32.
    """
    wide = widened(x)
    mean = mean_over(wide, axes)
    out = wide - mean
    var = mean_over(np.square(out), axes)
    scale = 1 / np.sqrt(var + var.dtype.type(eps))
    if weight is not None and weight.shape == scale.shape:
        out *= scale * widened(weight)
    else:
        out *= scale
        if weight is not None:
            out *= widened(weight)
    if bias is not None:
        out += widened(bias)
    return out.astype(x.dtype, copy=False), mean, var


def normalize_backward(
    upstream: Any, x: Any, weight: Any, mean: Any, var: Any, *, axes: Sizes, eps: float, affine: Any
) -> Any:
    """(gradient of x, of weight, of bias); the last two have the shape `affine`, or are empty if that is None."""
    scale = 1 / np.sqrt(var + var.dtype.type(eps))
    unit = widened(x) - mean
    unit *= scale  # x hat
    wide = widened(upstream)
    scaled = wide if weight is None else wide * widened(weight)
    dx = scaled - mean_over(scaled, axes)
    dx -= unit * mean_over(scaled * unit, axes)
    dx *= scale
    dx = dx.astype(x.dtype, copy=False)
    if affine is None:
        return dx, np.empty(0, x.dtype), np.empty(0, x.dtype)
    unit *= wide
    kind = x.dtype if weight is None else weight.dtype
    return dx, sum_to(unit, affine, kind), sum_to(wide, affine, kind)


def second_derivative(grad: Any, upstream: Tensor, x: Tensor, weight: Any, axes: Sizes, eps: float, affine: Any) -> Any:
    """The derivative of `normalize_backward`, in ops; statistics are recomputed so that it has derivatives too.

    With h = upstream * weight, the gradient of x is scale * P(h), where P(v) = v - mean(v) - unit * mean(v * unit) is
    its own adjoint.
    """
    a, b, c = grad
    centred = x - x.mean(dim=axes, keepdim=True)
    scale = (centred.square().mean(dim=axes, keepdim=True) + eps).rsqrt()
    unit = centred * scale

    def mean(t: Tensor) -> Tensor:
        return t.mean(dim=axes, keepdim=True)

    def project(t: Tensor) -> Tensor:
        return t - mean(t) - unit * mean(t * unit)

    h = upstream if weight is None else upstream * weight
    dh = scale * project(a)
    of_unit = -scale * (a * mean(h * unit) + h * mean(a * unit))
    dupstream = dh if weight is None else dh * weight
    if affine is not None:
        dupstream = dupstream + b * unit + c
        of_unit = of_unit + b * upstream
    dx = scale * project(of_unit) - unit * scale * scale * mean(a * project(h))
    return dupstream, dx, None if weight is None else upstream * dh, None, None


# ---- the same for parameters that are vectors of channels --------------------------------------


def along_channels(t: Any, ndim: int) -> Any:
    """A vector (array or tensor) shaped (1, C, 1, ...) to lie along the channels; None stays."""
    return None if t is None else t.reshape(1, -1, *(1,) * (ndim - 2))


def normalize_channels(x: Any, weight: Any, bias: Any, *, axes: Sizes, eps: float) -> Any:
    """`normalize_over` for a weight and bias (C,) along the second dimension."""
    return normalize_over(x, along_channels(weight, x.ndim), along_channels(bias, x.ndim), axes=axes, eps=eps)


def normalize_channels_backward(
    upstream: Any, x: Any, weight: Any, mean: Any, var: Any, *, axes: Sizes, eps: float, affine: Any
) -> Any:
    """`normalize_backward` for a weight and bias (C,)."""
    shape = None if affine is None else (1, *affine, *(1,) * (x.ndim - 2))
    dx, dweight, dbias = normalize_backward(
        upstream, x, along_channels(weight, x.ndim), mean, var, axes=axes, eps=eps, affine=shape
    )
    return dx, dweight.reshape(-1), dbias.reshape(-1)


def second_channel_derivative(
    grad: Any, upstream: Tensor, x: Tensor, weight: Any, axes: Sizes, eps: float, affine: Any
) -> Any:
    """`second_derivative` for a weight and bias (C,)."""
    ndim = x._array.ndim
    a, b, c = grad[0], along_channels(grad[1], ndim), along_channels(grad[2], ndim)
    found = second_derivative((a, b, c), upstream, x, along_channels(weight, ndim), axes, eps, affine)
    of_weight = None if weight is None else found[2].sum(dim=(0, *range(2, ndim)))
    return found[0], found[1], of_weight, None, None


def declare(name: str, forward: Any, backward: Any, second: Any) -> Any:
    """A normalisation primitive, with the derivative as a second one, under a name that backends and `grad_fn` know."""
    forward = primitive(name, outputs=3)(forward)
    backward = primitive(name + "_backward", outputs=3)(backward)

    @forward.vjp
    def vjp(grad: Any, x: Tensor, weight: Any, bias: Any, out1: Tensor, out2: Tensor, axes: Sizes, eps: float) -> Any:
        affine = next((t._array.shape for t in (weight, bias) if t is not None), None)
        dx, dweight, dbias = hide(
            backward(grad[0], x, weight, out1.detach(), out2.detach(), axes=axes, eps=eps, affine=affine), grad[0]
        )
        return dx, None if weight is None else dweight, None if bias is None else dbias

    backward.vjp(second)
    return forward, backward


GENERAL = (normalize_over, normalize_backward, second_derivative)
CHANNELS = (normalize_channels, normalize_channels_backward, second_channel_derivative)

native_batch_norm, native_batch_norm_backward = declare("native_batch_norm", *CHANNELS)
native_instance_norm, native_instance_norm_backward = declare("instance_norm", *CHANNELS)
native_layer_norm, native_layer_norm_backward = declare("native_layer_norm", *GENERAL)
native_group_norm, native_group_norm_backward = declare("native_group_norm", *GENERAL)


@primitive("channel_affine")
def channel_affine(x: Any, scale: Any, shift: Any) -> Any:
    """x * scale + shift in the type of x, in one pass over memory."""
    out = widened(x) * widened(scale)
    out += widened(shift)
    return out.astype(x.dtype, copy=False)


channel_affine.vjp(x=lambda grad, scale: grad * scale, scale=lambda grad, x: grad * x, shift=lambda grad: grad)


# ---- oneDNN ------------------------------------------------------------------------------------


LARGE = 1 << 14  # elements of a batch that generated code is faster with than oneDNN
_patience = 1 << 25  # elements after which making or loading the code has paid off


def generated(x: np.ndarray) -> Any:
    """Batch normalisation and sums in generated code (`compiler/channels.py`), None where others shall do it."""
    global _patience
    if x.size < LARGE:
        return None
    if _patience > 0 and "flambeau.backends.llvm.jit" not in sys.modules:
        _patience -= x.size
        return None
    return _generated()


@functools.cache
def _generated() -> Any:
    if os.environ.get("FLAMBEAU_COMPILE") == "0":
        return None
    try:
        return importlib.import_module("flambeau.compiler.channels")
    except ImportError:  # no llvmlite
        return None


@accelerated(native_batch_norm)
def onednn_batch_norm(x: Any, weight: Any, bias: Any, *, axes: Sizes, eps: float) -> Any:
    native = generated(x)
    if native is not None:
        out, mean, var = native.batch_norm(x, weight, bias, eps)
    else:
        out, mean, var, _ = onednn(".normalization").batch_norm_train(x, weight, bias, eps)
    return out, along_channels(mean, x.ndim), along_channels(var, x.ndim)


@accelerated(native_batch_norm_backward)
def onednn_batch_norm_backward(
    upstream: Any, x: Any, weight: Any, mean: Any, var: Any, *, axes: Sizes, eps: float, affine: Any
) -> Any:
    native, mean, var = generated(x), mean.reshape(-1), var.reshape(-1)
    if native is not None:
        dx, *rest = native.batch_norm_backward(upstream, x, weight, mean, var, eps)
        found = (dx, *((None, None) if affine is None else rest))
    else:
        found = onednn(".normalization").batch_norm_backward(
            upstream, x, weight, mean, var, eps, shift=affine is not None
        )
    return with_shapes(found, affine)


@accelerated(native_layer_norm)
def onednn_layer_norm(x: Any, weight: Any, bias: Any, *, axes: Sizes, eps: float) -> Any:
    out, mean, var = onednn(".normalization").layer_norm(x, len(axes), weight, bias, eps)
    shape = (*x.shape[: axes[0]], *(1,) * len(axes))
    return out, mean.reshape(shape), var.reshape(shape)


@accelerated(native_layer_norm_backward)
def onednn_layer_norm_backward(
    upstream: Any, x: Any, weight: Any, mean: Any, var: Any, *, axes: Sizes, eps: float, affine: Any
) -> Any:
    found = onednn(".normalization").layer_norm_backward(
        upstream, x, len(axes), weight, mean, var, eps, shift=affine is not None
    )
    return with_shapes(found, affine)


def with_shapes(found: Any, affine: Any) -> Any:
    """The gradients of weight and bias in the shape of the parameters, zeros or empty where there are none."""
    shape = (0,) if affine is None else affine
    return found[0], *(np.zeros(shape, np.float32) if g is None else g.reshape(shape) for g in found[1:])


def onednn_rows(x: Any, weight: Any, bias: Any, *, axes: Sizes, eps: float) -> Any:
    """Rows normalised by oneDNN; a weight that changes within the row or between rows is applied here."""
    out, mean, var = onednn_layer_norm(x, None, None, axes=axes, eps=eps)
    if weight is not None:
        out *= weight
    if bias is not None:
        out += bias
    return out, mean, var


def onednn_rows_backward(
    upstream: Any, x: Any, weight: Any, mean: Any, var: Any, *, axes: Sizes, eps: float, affine: Any
) -> Any:
    scaled = upstream if weight is None else upstream * weight
    dx, *empty = onednn_layer_norm_backward(scaled, x, None, mean, var, axes=axes, eps=eps, affine=None)
    if affine is None:
        return dx, *empty
    # Both sums run over what the parameters do not distinguish: first along the end of each row, then over rows.
    end = next(i for i in range(x.ndim, 0, -1) if affine[i - 1] != 1 or i == 1)
    rows = (*x.shape[:end], math.prod(x.shape[end:]))
    plain_x, plain_up = x.reshape(rows), upstream.reshape(rows)
    mean, scale = (s.reshape(s.shape[:end]) for s in (mean, 1 / np.sqrt(var + np.float32(eps))))
    native = generated(x)
    if native is not None:
        sums, products = native.row_sums(plain_up, plain_x, np.broadcast_to(mean, rows[:-1]))
    else:
        sums, products = plain_up.sum(-1), np.einsum("...s,...s->...", plain_up, plain_x - mean[..., None])
    shape = affine[:end]
    dweight = sum_to(scale * products, shape, np.float32)
    return dx, dweight.reshape(affine), sum_to(sums, shape, np.float32).reshape(affine)


accelerated(native_group_norm)(onednn_rows)
accelerated(native_group_norm_backward)(onednn_rows_backward)


@accelerated(native_instance_norm)
def onednn_instance_norm(x: Any, weight: Any, bias: Any, *, axes: Sizes, eps: float) -> Any:
    return onednn_rows(x, along_channels(weight, x.ndim), along_channels(bias, x.ndim), axes=axes, eps=eps)


@accelerated(native_instance_norm_backward)
def onednn_instance_norm_backward(
    upstream: Any, x: Any, weight: Any, mean: Any, var: Any, *, axes: Sizes, eps: float, affine: Any
) -> Any:
    shape = None if affine is None else (1, *affine, *(1,) * (x.ndim - 2))
    dx, dweight, dbias = onednn_rows_backward(
        upstream, x, along_channels(weight, x.ndim), mean, var, axes=axes, eps=eps, affine=shape
    )
    return dx, dweight.reshape(-1), dbias.reshape(-1)


@accelerated(channel_affine, when=lambda x, scale, shift: x.ndim > 1 and usable(x, scale, shift))
def onednn_channel_affine(x: Any, scale: Any, shift: Any) -> Any:
    return onednn(".affine").channel_affine(x, scale.reshape(-1), shift.reshape(-1))


# ---- batch and instance ------------------------------------------------------------------------


def check_channels(op: str, input: Any, **per_channel: Any) -> int:
    """The number of channels; RuntimeError unless every tensor given has one element for each."""
    if not isinstance(input, Tensor):
        raise TypeError(f"{op}(): argument 'input' must be Tensor, not {type(input).__name__}")
    x = input._array
    if x.ndim < 2:
        raise RuntimeError(f"{op}: expected input with at least 2 dimensions, got {shape_text(x)}")
    if x.dtype.kind not in "fV":
        raise NotImplementedError(f"{op}: not implemented for {input.dtype}")
    channels = x.shape[1]
    for name, t in per_channel.items():
        if t is not None and t._array.size != channels:
            raise RuntimeError(
                f"{op}: {name} should contain {channels} elements, not {t._array.size} (input {shape_text(x)})"
            )
    return channels


def move_statistics(
    running_mean: Any, running_var: Any, mean: Tensor, var: Tensor, count: int, momentum: float
) -> None:
    """Move running statistics towards those of a batch; the variance is recorded unbiased."""
    for running, values, factor in ((running_mean, mean, 1), (running_var, var, count / max(count - 1, 1))):
        if running is None:
            continue
        if dispatch.interceptor is not None:  # whoever listens hears it as ops
            step = mul(mul(values.detach(), factor), momentum)
            assign(running, add(mul(running.detach(), 1 - momentum), to_dtype(step, running._array.dtype)))
            continue
        target = plain(running)
        target *= target.dtype.type(1 - momentum)
        target += (momentum * (values._array * factor)).astype(target.dtype, copy=False)
        bump(running)


def plain_float32(tensors: list[Tensor]) -> bool:
    """Whether nobody listens to operations on these tensors, no gradient is wanted, and all hold float32."""
    if dispatch.interceptor is not None or modes.autocast is not None:
        return False
    for t in tensors:
        array = t._array
        if type(array) is not np.ndarray or array.dtype != np.float32 or (t._requires_grad and modes.grad):
            return False
    return True


def fixed_norm(input: Tensor, running_mean: Tensor, running_var: Tensor, weight: Any, bias: Any, eps: float) -> Tensor:
    """Normalisation with given statistics, as one scale and shift per channel."""
    given = [t for t in (input, running_mean, running_var, weight, bias) if t is not None]
    ndim = input._array.ndim
    if plain_float32(given):  # the same on the arrays themselves
        scale = 1 / np.sqrt(running_var._array + np.float32(eps))
        if weight is not None:
            scale *= weight._array
        shift = -running_mean._array * scale
        if bias is not None:
            shift += bias._array
        scale, shift = (wrap(along_channels(array, ndim)) for array in (scale, shift))
        return hide(channel_affine(input, scale, shift), input)
    scale = (running_var.detach() + eps).rsqrt()
    if weight is not None:
        scale = scale * weight
    shift = -running_mean.detach() * scale
    if bias is not None:
        shift = shift + bias
    return hide(channel_affine(input, along_channels(scale, ndim), along_channels(shift, ndim)), input)


def untouched(input: Tensor, weight: Any, bias: Any) -> Tensor:
    """The result for an empty batch; weight and bias receive zero gradients, statistics stay."""
    out = input.clone()
    for t, join in ((weight, Tensor.mul), (bias, Tensor.add)):
        if t is not None and t._array.size:
            out = join(out, t.select(0, 0))
    return out


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Each channel with mean 0 and variance 1 over the batch, then scaled and shifted (Ioffe & Szegedy 2015).

    Shapes: (N, C, ...), all else (C,) -> the input's. In training the batch's own statistics are used, and the running
    ones move by `momentum`; otherwise the running ones are used.
    Raises: ValueError for a batch with one value per channel in training; RuntimeError when channels do not fit.
    """
    if training and eps <= 0:
        raise ValueError(f"batch_norm eps must be positive during training, but got {eps}")
    if isinstance(input, Tensor) and input._array.size == 0:
        return untouched(input, weight, bias)
    channels = check_channels(
        "batch_norm", input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias
    )
    if not training:
        if running_mean is None or running_var is None:
            raise RuntimeError("batch_norm: expected running_mean and running_var to be defined when training=False")
        return fixed_norm(input, running_mean, running_var, weight, bias, eps)
    x = input._array
    count = x.size // max(channels, 1)
    if count == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {input.shape}")
    axes = (0, *range(2, x.ndim))
    out, mean, var = native_batch_norm(input, weight, bias, axes=axes, eps=eps)
    if running_mean is not None or running_var is not None:
        move_statistics(running_mean, running_var, mean.reshape(-1), var.reshape(-1), count, momentum)
    return hide(out, input)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Each channel of each sample with mean 0 and variance 1 over its positions.

    Shapes: (N, C, ...), all else (C,). Running statistics, if given, move towards the mean over the samples; with
    `use_input_stats=False` they are used instead. Raises: ValueError for samples of one position.
    """
    check_channels("instance_norm", input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise RuntimeError(
                "instance_norm: expected running_mean and running_var to be defined when use_input_stats=False"
            )
        return fixed_norm(input, running_mean, running_var, weight, bias, eps)
    x = input._array
    count = math.prod(x.shape[2:])
    if count == 1:
        raise ValueError(f"Expected more than 1 spatial element when training, got input size {input.shape}")
    out, mean, var = native_instance_norm(input, weight, bias, axes=tuple(range(2, x.ndim)), eps=eps)
    if running_mean is not None or running_var is not None:
        over_samples = [s.detach().reshape(x.shape[:2]).mean(0) for s in (mean, var)]
        move_statistics(running_mean, running_var, *over_samples, count, momentum)
    return hide(out, input)


# ---- layer and group ---------------------------------------------------------------------------


def trailing(op: str, input: Any, normalized_shape: Any, **parameters: Any) -> Sizes:
    """The checked shape to normalise over. RuntimeError unless it ends the input's and is that of all parameters."""
    if not isinstance(input, Tensor):
        raise TypeError(f"{op}(): argument 'input' must be Tensor, not {type(input).__name__}")
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape:
        raise RuntimeError(f"{op}: expected normalized_shape to be at least 1-dimensional, got {list(shape)}")
    x = input._array
    for name, t in parameters.items():
        if t is not None and t._array.shape != shape:
            raise RuntimeError(
                f"{op}: expected {name} of shape {list(shape)}, the normalized_shape, got {list(t.shape)}"
            )
    if x.shape[x.ndim - len(shape) :] != shape or x.ndim < len(shape):
        wanted = ", ".join(map(str, shape))
        raise RuntimeError(
            f"{op}: given normalized_shape={list(shape)}, expected input with shape [*, {wanted}], but got input of "
            f"size {list(x.shape)}"
        )
    return shape


def layer_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Mean 0 and variance 1 over the last dimensions, then scaled and shifted per element (Ba, Kiros & Hinton 2016).

    Shapes: (..., *normalized_shape), weight and bias of normalized_shape -> the input's. Dtypes: floats.
    Raises: RuntimeError if the input's shape does not end with `normalized_shape`.
    """
    shape = trailing("layer_norm", input, normalized_shape, weight=weight, bias=bias)
    check_floating("layer_norm", input)
    ndim = input._array.ndim
    return native_layer_norm(input, weight, bias, axes=tuple(range(ndim - len(shape), ndim)), eps=eps)[0]


def check_floating(op: str, input: Tensor) -> None:
    """NotImplementedError for integers and bools."""
    if input._array.dtype.kind in "biu":
        raise NotImplementedError(f"{op}: not implemented for {input.dtype}")


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Mean 0 and variance 1 over each group of channels of each sample (Wu & He 2018).

    Shapes: (N, C, ...), weight and bias (C,) -> the input's. Raises: RuntimeError unless `num_groups` divides C.
    """
    channels = check_channels("group_norm", input, weight=weight, bias=bias)
    if num_groups <= 0 or channels % num_groups:
        raise RuntimeError(
            f"group_norm: expected number of channels in input to be divisible by num_groups, but got input of shape "
            f"{list(input.shape)} and num_groups={num_groups}"
        )
    shape = input.shape
    lanes = (num_groups, channels // num_groups)
    grouped = input.reshape(shape[0], *lanes, math.prod(shape[2:]))
    weight, bias = (None if t is None else t.reshape(1, *lanes, 1) for t in (weight, bias))
    return native_group_norm(grouped, weight, bias, axes=(2, 3), eps=eps)[0].reshape(shape)


# ---- others ------------------------------------------------------------------------------------


def rms_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """The input divided by its root mean square over the last dimensions, then scaled (Zhang & Sennrich 2019).

    Shapes: (..., *normalized_shape), weight of normalized_shape -> the input's. `eps` None is the dtype's epsilon.
    """
    shape = trailing("rms_norm", input, normalized_shape, weight=weight)
    check_floating("rms_norm", input)
    kind = input.dtype
    wide = input.to(dtypes.float32) if kind.itemsize < 4 else input
    if eps is None:
        eps = dtypes.finfo(wide.dtype).eps
    dims = tuple(range(-len(shape), 0))
    out = (wide * (wide.square().mean(dim=dims, keepdim=True) + eps).rsqrt()).to(kind)
    return out if weight is None else out * weight


def local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Each value divided by (k + alpha * mean of squares over `size` neighbouring channels) ** beta (Krizhevsky 2012).

    Shapes: (N, C, L...) with at least three dimensions -> the same. Raises: ValueError for fewer.
    """
    if input.ndim < 3:
        raise ValueError(f"Expected 3D or higher dimensionality input (got {input.ndim} dimensions)")
    if input._array.size == 0:
        return input
    shape = input.shape
    squares = (input * input).unsqueeze(1)  # (N, 1, C, L...)
    before, after = size // 2, (size - 1) // 2
    if input.ndim == 3:
        means = avg_pool2d(pad(squares, (0, 0, before, after)), (size, 1), stride=1)
    else:
        squares = squares.reshape(shape[0], 1, shape[1], shape[2], -1)
        means = avg_pool3d(pad(squares, (0, 0, 0, 0, before, after)), (size, 1, 1), stride=1)
    return input / means.reshape(shape).mul(alpha).add(k).pow(beta)


# ---- under the names of `flambeau.*`, where arguments come in another order ----------------------


def raw_batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,
) -> Tensor:
    """`nn.functional.batch_norm` with weight and bias first; `cudnn_enabled` is ignored."""
    return batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def raw_instance_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,
) -> Tensor:
    """`nn.functional.instance_norm` with weight and bias first; `cudnn_enabled` is ignored."""
    return instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


def raw_layer_norm(
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    """`nn.functional.layer_norm`; `cudnn_enable` is ignored."""
    return layer_norm(input, normalized_shape, weight, bias, eps)


def raw_group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    """`nn.functional.group_norm`; `cudnn_enabled` is ignored."""
    return group_norm(input, num_groups, weight, bias, eps)
