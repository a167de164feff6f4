"""Initial values of parameters, drawn as PyTorch draws them.

Every function fills the tensor it is given, records no history, and returns the tensor.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.core import random as stream
from flambeau.core import random_distributions as distributions
from flambeau.core.inplace import bump, check_overlap
from flambeau.core.random import Generator
from flambeau.core.tensor import Tensor, plain
from flambeau.ops.random import generator_of, in_memory_order, normal_draws, uniform_draws, write_draws

__all__ = [
    "calculate_gain", "uniform_", "normal_", "trunc_normal_", "constant_", "ones_", "zeros_", "eye_", "dirac_",
    "xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_", "orthogonal_", "sparse_",
    "uniform", "normal", "constant", "eye", "dirac", "xavier_uniform", "xavier_normal", "kaiming_uniform",
    "kaiming_normal", "orthogonal", "sparse",
]

LINEAR = ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which weights before a nonlinearity are scaled to keep the variance of what passes.

    1 for linear layers and sigmoid, 5/3 tanh, sqrt(2) relu, sqrt(2 / (1 + slope²)) leaky_relu (slope `param`, 0.01),
    3/4 selu. ValueError for other names and for a slope that is no number.
    """
    if nonlinearity in LINEAR or nonlinearity == "sigmoid":
        return 1
    if nonlinearity == "tanh":
        return 5.0 / 3
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ValueError(f"negative_slope {param} not a valid number")
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity == "selu":
        return 3.0 / 4                                  # found by experiment
    raise ValueError(f"Unsupported nonlinearity {nonlinearity}")


def _overwrite(tensor: Tensor, values: Any) -> Tensor:
    """Write values over the memory of a tensor, without history."""
    if not tensor.is_meta:
        array = plain(tensor)
        check_overlap(array)
        array[...] = values
        bump(tensor)
    return tensor


# ---- constants -----------------------------------------------------------------------------------


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with one value."""
    return _overwrite(tensor, val)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with ones."""
    return _overwrite(tensor, 1)


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with zeros."""
    return _overwrite(tensor, 0)


def eye_(tensor: Tensor) -> Tensor:
    """Fill a matrix with the identity. ValueError unless it has two dimensions."""
    if tensor.ndimension() != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    return _overwrite(tensor, np.eye(*tensor.shape, dtype=tensor._array.dtype))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Fill convolution weights (out, in, …) so that each group passes as many channels through as it can.

    ValueError unless there are 3, 4 or 5 dimensions and the first is divisible by `groups`.
    """
    if tensor.ndimension() not in (3, 4, 5):
        raise ValueError("Only tensors with 3, 4, or 5 dimensions are supported")
    out_channels, in_channels, *kernel = tensor.shape
    if out_channels % groups:
        raise ValueError("dim 0 must be divisible by groups")
    per_group = out_channels // groups
    middle = tuple(n // 2 for n in kernel)
    values = np.zeros(tensor._array.shape, tensor._array.dtype)
    for first in range(0, out_channels, per_group or 1):
        for channel in range(min(per_group, in_channels)):
            values[(first + channel, channel, *middle)] = 1
    return _overwrite(tensor, values)


# ---- uniform and normal ----------------------------------------------------------------------------


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with numbers uniform in [a, b)."""
    return write_draws(tensor, uniform_draws(tensor._array.dtype, a, b, generator))


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with normal numbers."""
    return write_draws(tensor, normal_draws(tensor._array.dtype, mean, std, generator))


def trunc_normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0,
                  generator: Generator | None = None) -> Tensor:
    """Fill with normal numbers that lie in [a, b]; works best when the mean does.

    Where more than 0.3 of the bell lies inside, numbers outside are drawn again; else uniform candidates are accepted
    in proportion to the density.
    """
    if tensor.is_meta:
        return tensor
    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn("mean is more than 2 std from [a, b] in nn.init.trunc_normal_. The distribution of values may be "
                      "incorrect.", stacklevel=2)
    array = plain(tensor)
    target = in_memory_order(array)
    drawn = np.empty(target.shape, target.dtype)
    inside = (math.erf((b - mean) / std / math.sqrt(2)) - math.erf((a - mean) / std / math.sqrt(2))) / 2
    if inside > 0.3:
        _normals_inside(drawn, mean, std, a, b, generator_of(generator), target is array)
    else:
        _accepted_uniforms(drawn, mean, std, a, b, generator_of(generator))
    target[...] = drawn
    bump(tensor)
    return tensor


def _normals_inside(drawn: np.ndarray, mean: float, std: float, a: float, b: float, gen: Generator,
                    contiguous: bool) -> None:
    low, high = (float(np.array(bound).astype(drawn.dtype)) for bound in (a, b))
    outside = np.ones(drawn.shape, bool)
    while outside.any():                                # every round draws for all elements
        np.copyto(drawn, stream.normal(gen, drawn.shape, drawn.dtype, mean, std, contiguous=contiguous), where=outside)
        outside = (drawn < low) | (drawn > high)


def _accepted_uniforms(drawn: np.ndarray, mean: float, std: float, a: float, b: float, gen: Generator) -> None:
    peak = -0.5 * ((max(a, min(mean, b)) - mean) / std) ** 2
    number = drawn.dtype.type
    pending = np.ones(drawn.shape, bool)
    while pending.any():
        candidates = stream.uniform(gen, drawn.shape, drawn.dtype, a, b)
        np.copyto(drawn, candidates, where=pending)
        deviation = (candidates - number(mean)) / number(std)
        log_density = deviation * deviation * number(-0.5) - number(peak)
        with np.errstate(divide="ignore"):
            pending &= np.log(stream.uniform(gen, drawn.shape, drawn.dtype)) > log_density


# ---- scaled by the number of connections -------------------------------------------------------------


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """Connections into and out of a unit of weights (out, in, *kernel). ValueError for fewer than 2 dimensions."""
    if tensor.dim() < 2:
        raise ValueError("Fan in and fan out can not be computed for tensor with fewer than 2 dimensions")
    out_channels, in_channels, *kernel = tensor.shape
    field = math.prod(kernel)
    return in_channels * field, out_channels * field


def _calculate_correct_fan(tensor: Tensor, mode: str) -> int:
    """The fan that `mode` ("fan_in" or "fan_out") names."""
    mode = mode.lower()
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    return fan_in if mode == "fan_in" else fan_out


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform in ±gain·sqrt(6 / (fan_in + fan_out)). Source: Glorot and Bengio 2010."""
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    bound = math.sqrt(3.0) * (gain * math.sqrt(2.0 / float(fan_in + fan_out)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal of deviation gain·sqrt(2 / (fan_in + fan_out)). Source: Glorot and Bengio 2010."""
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / float(fan_in + fan_out)), generator)


def kaiming_uniform_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
                     generator: Generator | None = None) -> Tensor:
    """Uniform in ±gain·sqrt(3 / fan); `a` is the slope of a leaky_relu. Source: He et al. 2015."""
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    std = calculate_gain(nonlinearity, a) / math.sqrt(_calculate_correct_fan(tensor, mode))
    bound = math.sqrt(3.0) * std
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
                    generator: Generator | None = None) -> Tensor:
    """Normal of deviation gain / sqrt(fan); `a` is the slope of a leaky_relu. Source: He et al. 2015."""
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    std = calculate_gain(nonlinearity, a) / math.sqrt(_calculate_correct_fan(tensor, mode))
    return normal_(tensor, 0, std, generator)


# ---- matrices --------------------------------------------------------------------------------------


def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor:
    """Fill with a (semi-)orthogonal matrix; dimensions after the first are flattened. Source: Saxe et al. 2013.

    ValueError for fewer than 2 dimensions.
    """
    if tensor.ndimension() < 2:
        raise ValueError("Only tensors with 2 or more dimensions are supported")
    if tensor.numel() == 0 or tensor.is_meta:
        return tensor
    rows = tensor.shape[0]
    matrix = stream.normal(generator_of(generator), (rows, tensor.numel() // rows), tensor._array.dtype)
    wide = matrix.shape[0] < matrix.shape[1]
    q, r = np.linalg.qr(matrix.T if wide else matrix)
    q *= np.sign(np.diagonal(r))                        # makes the distribution uniform (Mezzadri 2006)
    return _overwrite(tensor, ((q.T if wide else q) * q.dtype.type(gain)).reshape(tensor._array.shape))


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Tensor:
    """Fill a matrix with normal numbers, a fraction `sparsity` of each column zero. Source: Martens 2010.

    The places of the zeros come from the default generator. ValueError unless there are 2 dimensions.
    """
    if tensor.ndimension() != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    if tensor.is_meta:
        return tensor
    rows, columns = tensor.shape
    zeros = math.ceil(sparsity * rows)
    normal_(tensor, 0, std, generator)
    for column in range(columns):
        tensor._array[distributions.randperm(stream.default_generator, rows)[:zeros], column] = 0
    bump(tensor)
    return tensor


# ---- the names of old, without underscore ------------------------------------------------------------


def _deprecated(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    new = function.__name__
    old = new[:-1]

    def call(*args: Any, **kwargs: Any) -> Tensor:
        warnings.warn(f"`nn.init.{old}` is now deprecated in favor of `nn.init.{new}`.", FutureWarning, stacklevel=2)
        return function(*args, **kwargs)

    call.__name__ = call.__qualname__ = old
    call.__doc__ = f"Deprecated name of `{new}`."
    return call


uniform = _deprecated(uniform_)
normal = _deprecated(normal_)
constant = _deprecated(constant_)
eye = _deprecated(eye_)
dirac = _deprecated(dirac_)
xavier_uniform = _deprecated(xavier_uniform_)
xavier_normal = _deprecated(xavier_normal_)
kaiming_uniform = _deprecated(kaiming_uniform_)
kaiming_normal = _deprecated(kaiming_normal_)
orthogonal = _deprecated(orthogonal_)
sparse = _deprecated(sparse_)
