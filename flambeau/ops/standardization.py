"""What normalisations compute: subtract the mean over some axes, divide by the standard deviation, scale and shift.

The primitives behind batch, instance, layer and group normalisation (normalization.py), with first and second
derivatives and the kernels of oneDNN. They differ in the axes and in how the weight lies; see `normalize_over`.
"""

from __future__ import annotations

import functools
import importlib
import math
import os
import sys
from typing import Any

import numpy as np

from flambeau.core.dispatch import primitive
from flambeau.core.tensor import Tensor
from flambeau.ops.native import accelerated, onednn, usable
from flambeau.ops.reductions import total
from flambeau.ops.sliding import Sizes, hide

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
