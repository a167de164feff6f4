"""Normalisation: batch, instance, layer, group, root-mean-square and local response.

One computation stands behind the first four: standardization.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flambeau.core import dispatch
from flambeau.core import dtype as dtypes
from flambeau.core.inplace import assign, bump
from flambeau.core.modes import modes
from flambeau.core.tensor import Tensor, plain, wrap
from flambeau.ops.casting import to_dtype
from flambeau.ops.padding import pad
from flambeau.ops.pointwise import add, mul
from flambeau.ops.pooling import avg_pool2d, avg_pool3d
from flambeau.ops.sliding import Sizes, hide, shape_text
from flambeau.ops.standardization import (
    along_channels,
    channel_affine,
    native_batch_norm,
    native_group_norm,
    native_instance_norm,
    native_layer_norm,
)

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "local_response_norm", "rms_norm"]

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
