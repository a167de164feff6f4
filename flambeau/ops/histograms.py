"""Counting: `bincount`, `histc`, `histogram`, `histogramdd`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flambeau.core import recording
from flambeau.core.inplace import scalar_name
from flambeau.core.return_types import TYPES
from flambeau.core.tensor import Tensor, computed, constant, wrap


def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each of 0, 1, 2, … occurs in a vector, or the sums of `weights` per value.

    RuntimeError for negative values, NotImplementedError for floats.
    """
    recording.read(input)
    array = input._array
    if array.dtype.kind not in "iu":
        raise NotImplementedError(f"\"bincount_cpu\" not implemented for '{scalar_name(array.dtype)}'")
    if minlength < 0:
        raise RuntimeError("minlength should be >= 0")
    if array.ndim == 1 and array.size == 0:
        return constant(np.zeros(minlength, np.int64))
    if array.ndim != 1 or array.min() < 0:
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    if weights is None:
        return constant(np.bincount(array, minlength=minlength).astype(np.int64, copy=False))
    if weights._array.shape != array.shape:
        raise RuntimeError("weights should be 1-d and have the same length as input")
    kind = np.float32 if weights._array.dtype == np.float32 else np.float64
    return computed(lambda x, w: np.bincount(x, w.astype(np.float64), minlength).astype(kind), input, weights)


def histc(input: Tensor, bins: int = 100, min: Any = 0, max: Any = 0) -> Tensor:
    """Counts in `bins` equal intervals from `min` to `max` (from the data when equal); what lies outside is ignored."""
    array = input._array
    if bins <= 0:
        raise RuntimeError(f"torch.histogram(): bins must be > 0, but got {bins} for dimension 0")
    if array.dtype.kind in "bc" or array.dtype.itemsize == 1:
        raise NotImplementedError(f"\"histogram_cpu\" not implemented for '{scalar_name(array.dtype)}'")
    low, high = (float(v.item()) if isinstance(v, Tensor) else float(v) for v in (min, max))
    if low > high:
        raise RuntimeError("torch.histc: max must be larger than min")

    def count(x: np.ndarray) -> np.ndarray:
        flat = x.reshape(-1).astype(np.float64)
        first, last = _range(flat, low, high, "torch.histc", margin=1.0)
        inside = flat[(flat >= first) & (flat <= last)]
        bin_of = np.minimum(((inside - first) * bins / (last - first)).astype(np.int64), bins - 1)
        return np.bincount(bin_of, minlength=bins).astype(x.dtype)

    return computed(count, input)


def _range(flat: np.ndarray, low: float, high: float, name: str, margin: float) -> tuple[float, float]:
    """The outer edges: as given, from the data when both are equal, widened by `margin` when the data are constant."""
    if low == high and flat.size:
        low, high = float(flat.min()), float(flat.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise RuntimeError(f"{name}: range of [{low}, {high}] is not finite")
    return (low - margin, high + margin) if low == high else (low, high)


def histogram(input: Tensor, bins: Any, *, range: Any = None, weight: Tensor | None = None,
              density: bool = False) -> Any:
    """(hist, bin_edges) of all elements: `bins` equal intervals over `range` (or the data), or the edges themselves."""
    array = input._array
    _check_floats(array)
    flat = array.reshape(-1, 1)
    weights = None if weight is None else weight._array.reshape(-1)
    if weight is not None and weight._array.shape != array.shape:
        raise RuntimeError("torch.histogram(): if weight tensor is provided it should have the same shape as the input "
                           "tensor "
                           "excluding its innermost dimension")
    edges = [_edges(flat[:, 0], bins, None if range is None else tuple(range), "torch.histogram")]
    hist = _counts(flat, edges, weights, density)
    return TYPES["histogram"](wrap(hist), wrap(edges[0]))


def histogramdd(input: Tensor, bins: Any, *, range: Any = None, weight: Tensor | None = None,
                density: bool = False) -> Any:
    """(hist, bin_edges) of points in the last dimension (N, D): one number of bins, or bins per coordinate."""
    array = input._array
    _check_floats(array)
    if array.ndim < 2:
        raise RuntimeError("torch.histogramdd: input tensor should have at least 2 dimensions")
    points = array.reshape(-1, array.shape[-1])
    d = points.shape[1]
    per_dim = [bins] * d if isinstance(bins, (int, Tensor)) else list(bins)
    if len(per_dim) != d:
        raise RuntimeError(f"torch.histogramdd: expected {d} sequences of bin edges for a {d}-dimensional histogram "
                           f"but got {len(per_dim)}")
    spans = [None] * d if range is None else [tuple(range[2 * i : 2 * i + 2]) for i in np.arange(d)]
    columns = zip(points.T, per_dim, spans, strict=True)
    edges = [_edges(column, b, span, "torch.histogramdd") for column, b, span in columns]
    hist = _counts(points, edges, None if weight is None else weight._array.reshape(-1), density)
    return TYPES["histogramdd"](wrap(hist), tuple(wrap(e) for e in edges))


def _check_floats(array: np.ndarray) -> None:
    if array.dtype not in (np.float32, np.float64):
        raise NotImplementedError(f"\"histogram_cpu\" not implemented for '{scalar_name(array.dtype)}'")


def _edges(values: np.ndarray, bins: Any, span: Any, name: str) -> np.ndarray:
    if isinstance(bins, Tensor):
        return bins._array
    if isinstance(bins, (tuple, list)) and bins and isinstance(bins[0], Tensor):
        return bins[0]._array
    count = int(bins[0] if isinstance(bins, (tuple, list)) else bins)
    if count <= 0:
        raise RuntimeError(f"{name}(): bins must be > 0, but got {count} for dimension 0")
    low, high = span or (0.0, 0.0)
    if low == high:
        low, high = _range(values, low, high, name, margin=0.5) if values.size else (0.0, 1.0)
    return np.linspace(low, high, count + 1, dtype=values.dtype)


def _counts(points: np.ndarray, edges: list[np.ndarray], weights: Any, density: bool) -> np.ndarray:
    """Points per cell; the last edge belongs to the last cell."""
    shape = tuple(len(e) - 1 for e in edges)
    cells = np.zeros(len(points), np.int64)
    inside = np.ones(len(points), bool)
    for i, edge in enumerate(edges):
        values = points[:, i]
        cell = np.searchsorted(edge, values, "right") - 1
        cell[values == edge[-1]] = shape[i] - 1
        inside &= (values >= edge[0]) & (values <= edge[-1])
        cells = cells * shape[i] + cell
    chosen = None if weights is None else weights[inside].astype(np.float64)
    hist = np.bincount(cells[inside], chosen, math.prod(shape)).astype(points.dtype).reshape(shape)
    if density:
        volume: Any = 1.0
        for i, edge in enumerate(edges):
            volume = volume * np.diff(edge).reshape((-1,) + (1,) * (len(edges) - i - 1))
        hist = (hist / hist.sum() / volume).astype(points.dtype)
    return hist
