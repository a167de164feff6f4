"""Batch normalisation in generated code (`backends/llvm/channels.py`) for eager float32 arrays.

Two passes over memory in either direction: one for the sums, one for the elements. Other normalisations take the sums.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np

from flambeau.backends import threads
from flambeau.backends.llvm.frames import APART, FRAMES
from flambeau.backends.onednn.memory import empty, ordered, pointer
from flambeau.backends.onednn.reorder import channels_last, contiguous
from flambeau.compiler.native import compiled

_Frame = ctypes.c_int64 * len(FRAMES["channels"].replace("|", "").split())
_WORTH_A_THREAD = 1 << 16  # elements, some 20 µs


@functools.cache
def _function(kind: str, last: bool, gradient: bool) -> Any:
    """The compiled function; it lives as long as the process."""

    def emit(module: Any) -> Any:
        from flambeau.backends.llvm import channels

        return getattr(channels, f"emit_{kind}")(module, last, gradient)

    order = "last" if last else "plain"
    return compiled(emit, f"flambeau.channels.{kind}.{order}" + ".gradient" * gradient, ctypes.c_void_p)


class _Image:
    """An array (N, C, …) in one of the two orders that are read in place."""

    def __init__(self, x: np.ndarray):
        self.x, self.order = ordered(x)
        self.samples, self.channels = x.shape[:2]
        self.size = x.size // (self.samples * self.channels)
        self.last = self.order or self.size == 1  # with one element, a row is a row of channels in either order
        self.count = self.samples * self.size  # elements of a channel
        self.rows = self.count if self.last else self.samples * self.channels
        self.parts = max(1, min(threads.get_num_threads(), x.size // _WORTH_A_THREAD))

    def in_order(self, grad: np.ndarray) -> np.ndarray:
        """An array of this shape in the order of this image."""
        found, order = ordered(grad)
        if order != self.order:
            return channels_last(found) if self.order else contiguous(found)
        return found

    def middle(self) -> np.ndarray:
        """A number near the mean of each channel, from some elements: what is near 0 adds up without loss."""
        few = self.x.reshape(self.samples, self.channels, -1)[:: -(-self.samples // 4), :, :: -(-self.size // 8)]
        near = np.add.reduce(few, (0, 2)) * np.float32(1 / (len(few) * few.shape[2]))
        return near if np.isfinite(np.add.reduce(near)) else np.where(np.isfinite(near), near, np.float32(0))

    def _run(self, kind: str, grad: np.ndarray | None, out: np.ndarray, *vectors: np.ndarray) -> None:
        """Call generated code; vectors are shift, factor, offset and slope, or for sums shift and scratch memory."""
        if threads.stale():
            threads.apply()
        shift, *others = map(pointer, vectors)
        others = [0, 0, 0, *others] if kind == "sums" else others
        frame = _Frame(
            self.parts,
            self.rows,
            self.channels,
            self.size,
            pointer(self.x),
            0 if grad is None else pointer(grad),
            pointer(out),
            shift,
            *others,
        )
        _function(kind, self.last, grad is not None)(ctypes.addressof(frame))

    def sums(self, shift: np.ndarray, grad: np.ndarray | None = None) -> np.ndarray:
        """(2, C) in float64: the sums of x - shift and of its square, or of grad and of grad * (x - shift)."""
        if self.last:
            out = np.empty((self.parts, 2, self.channels))
            self._run("sums", grad, out, shift, np.empty((self.parts, 2 * self.channels + APART), np.float32))
            return np.add.reduce(out, 0)
        out = np.empty((self.samples, self.channels, 2))
        self._run("sums", grad, out, shift)
        return np.add.reduce(out, 0).T

    def elements(self, grad: np.ndarray | None, *vectors: np.ndarray) -> np.ndarray:
        """(x - shift) * factor + offset, or (grad - offset - (x - shift) * slope) * factor, of these vectors (C,)."""
        out = empty(self.x.shape, self.order)
        self._run("elements", grad, out, *[np.ascontiguousarray(vector, np.float32) for vector in vectors])
        return out


def batch_norm(
    x: np.ndarray, scale: np.ndarray | None, shift: np.ndarray | None, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normalise (N, C, …) by its own statistics: (output, mean, biased variance)."""
    image = _Image(x)
    with np.errstate(invalid="ignore", over="ignore"):
        middle = image.middle()
        first, second = image.sums(middle) / image.count
        mean, variance = middle + first, np.maximum(second - first * first, 0)
        narrow, factor = mean.astype(np.float32), 1 / np.sqrt(variance + eps)
        if scale is not None:
            factor *= scale
        offset = (narrow - mean) * factor  # what rounding took from the mean
        if shift is not None:
            offset += shift
        return image.elements(None, narrow, factor, offset), narrow, variance.astype(np.float32)


def batch_norm_backward(
    grad: np.ndarray, x: np.ndarray, scale: np.ndarray | None, mean: np.ndarray, variance: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradients in the image, in the scale and in the shift."""
    image = _Image(x)
    grad, mean = image.in_order(grad), np.ascontiguousarray(mean)
    with np.errstate(invalid="ignore", over="ignore"):
        total, product = image.sums(mean, grad)
        spread = 1 / np.sqrt(variance.astype(np.float64) + eps)
        product *= spread
        factor = spread if scale is None else spread * scale
        out = image.elements(grad, mean, factor, total / image.count, product * spread / image.count)
        return out, product.astype(np.float32), total.astype(np.float32)


def row_sums(grad: np.ndarray, x: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """(2, …) in float64: the sums of grad and of grad * (x - shift) over the last axis, for shifts of shape (…)."""
    rows, size = shift.size, x.shape[-1]
    image = _Image(x.reshape(1, rows, size))
    sums = image.sums(np.ascontiguousarray(shift.reshape(-1)), np.ascontiguousarray(grad.reshape(1, rows, size)))
    return sums.reshape(2, *shift.shape)
