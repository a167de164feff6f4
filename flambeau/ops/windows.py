"""Windows to multiply a stretch of a signal with before its Fourier transform."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core.tensor import Tensor
from flambeau.ops.creation import delivered, numpy_dtype

__all__ = ["bartlett_window", "blackman_window", "hamming_window", "hann_window", "kaiser_window"]


def _window(name: str, length: int, periodic: builtins.bool, shape: Callable[[np.ndarray], np.ndarray],
            dtype: dtypes.dtype | None = None, layout: Any = None, device: Any = None,
            pin_memory: builtins.bool = False, requires_grad: builtins.bool = False) -> Tensor:
    """`shape` of points that run from 0 to 1; a periodic window is a longer one without its last point."""
    if length < 0:
        raise RuntimeError(f"{name} requires non-negative window_length, got window_length={length}")
    if not (dtype or dtypes.default_dtype()).is_floating_point:
        raise RuntimeError(f"{name} expects floating point dtypes, got: {dtype}")
    if length < 2:
        values = np.ones(length)
    else:
        values = shape(np.arange(length) / (length if periodic else length - 1))
    return delivered(name, values.astype(numpy_dtype(dtype)), None, device, requires_grad)


def _cosines(*weights: float) -> Callable[[np.ndarray], np.ndarray]:
    """w0 - w1 cos 2πx + w2 cos 4πx."""
    return lambda x: sum((-1) ** k * w * np.cos(2 * np.pi * k * x) for k, w in enumerate(weights))


def bartlett_window(window_length: int, periodic: builtins.bool = True, **options: Any) -> Tensor:
    """A triangle. Options of all windows: `dtype` (floating), `layout`, `device`, `pin_memory`, `requires_grad`."""
    return _window("bartlett_window", window_length, periodic, lambda x: 1 - np.abs(2 * x - 1), **options)


def hann_window(window_length: int, periodic: builtins.bool = True, **options: Any) -> Tensor:
    """(1 - cos 2πx) / 2."""
    return _window("hann_window", window_length, periodic, _cosines(0.5, 0.5), **options)


def hamming_window(window_length: int, periodic: builtins.bool = True, alpha: float = 0.54, beta: float = 0.46,
                   **options: Any) -> Tensor:
    """alpha - beta cos 2πx."""
    return _window("hamming_window", window_length, periodic, _cosines(alpha, beta), **options)


def blackman_window(window_length: int, periodic: builtins.bool = True, **options: Any) -> Tensor:
    """0.42 - 0.5 cos 2πx + 0.08 cos 4πx."""
    return _window("blackman_window", window_length, periodic, _cosines(0.42, 0.5, 0.08), **options)


def kaiser_window(window_length: int, periodic: builtins.bool = True, beta: float = 12.0, **options: Any) -> Tensor:
    """I0(beta √(1 - (2x - 1)²)) / I0(beta), with the modified Bessel function I0 (Kaiser 1974)."""
    return _window("kaiser_window", window_length, periodic,
                   lambda x: np.i0(beta * np.sqrt(np.maximum(1 - (2 * x - 1) ** 2, 0))) / np.i0(beta), **options)
