"""`make_tensor`: random inputs for tests, drawn as PyTorch draws them."""

from __future__ import annotations

import math
from typing import Any

import flambeau as fl
from flambeau.core.tensor import Tensor


def make_tensor(
    *shape: Any,
    dtype: Any,
    device: Any,
    low: float | None = None,
    high: float | None = None,
    requires_grad: bool = False,
    noncontiguous: bool = False,
    exclude_zero: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """A tensor of random values in [low, high): by default [-9, 9) for floats, [-9, 10) for integers, [0, 10) uint8.

    Raises ValueError for an empty range, for a gradient of integers, and for `noncontiguous` with a memory format.
    """
    sizes = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (list, tuple)) else shape
    if noncontiguous and memory_format is not None:
        raise ValueError(f"make_tensor: noncontiguous=True contradicts memory_format={memory_format}")
    floating = dtype.is_floating_point or dtype.is_complex
    if requires_grad and not floating:
        raise ValueError(f"`requires_grad=True` needs a floating point or complex dtype, not {dtype}")
    repeated = (*sizes[:-1], sizes[-1] * 2) if noncontiguous and sizes and math.prod(sizes) > 1 else sizes
    result = _draws(repeated, dtype, device, *_limits(dtype, low, high))
    if repeated is not sizes:
        result = result[..., 1::2]
    elif memory_format is not None:
        result = result.clone(memory_format=memory_format)
    if exclude_zero:
        result[result == 0] = fl.finfo(dtype).tiny if floating else 1
    return result.requires_grad_() if requires_grad else result


def _limits(dtype: Any, low: Any, high: Any) -> tuple[Any, Any]:
    """The range asked for, checked, cut to what the dtype holds."""
    for name, value in (("low", low), ("high", high)):
        if isinstance(value, float) and math.isnan(value):
            raise ValueError(f"make_tensor: '{name}' must not be nan")
    if dtype is fl.bool:
        defaults, lowest, highest = (0, 2), 0, 2
    elif dtype.is_floating_point or dtype.is_complex:
        info = fl.finfo(dtype)
        defaults, lowest, highest = (-9, 9), info.min, info.max  # type: ignore[assignment]
    else:
        limits = fl.iinfo(dtype)
        defaults, lowest, highest = (-9 if dtype.is_signed else 0, 10), limits.min, limits.max + 1
    low, high = (default if value is None else value for value, default in zip((low, high), defaults))
    if low == high and (dtype.is_floating_point or dtype.is_complex):
        raise ValueError(f"make_tensor: 'low' must be less than 'high', got {low} and {high}")
    if low > high:
        raise ValueError(f"make_tensor: 'low' must be less than 'high', got {low} and {high}")
    low, high = max(low, lowest), min(high, highest)
    if dtype is fl.bool or not (dtype.is_floating_point or dtype.is_complex):
        return math.floor(low), math.ceil(high)
    return low, high


def _draws(sizes: Any, dtype: Any, device: Any, low: Any, high: Any) -> Tensor:
    if dtype.is_complex:
        result = fl.empty(sizes, dtype=dtype, device=device)
        fl.view_as_real(result).uniform_(low, high)
        return result
    if dtype.is_floating_point:
        return fl.empty(sizes, dtype=dtype, device=device).uniform_(low, high)
    return fl.randint(low, high, sizes, dtype=dtype, device=device)
