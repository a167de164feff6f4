"""Resampling along dimensions: the linear maps behind padding modes and interpolation.

Along one dimension every output is a weighted sum of a few inputs, given as (positions, weights), both (out, taps);
weights None means 1. A `plan` names such maps by hashable tuples, one per spatial dimension:
("reflect" | "replicate" | "circular", before, after) and ("nearest" | "nearest-exact" | "linear" | "cubic", out, scale,
align_corners, antialias). `resample` applies a plan to the last dimensions, `resample_backward` is its adjoint.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from flambeau.core.dispatch import primitive
from flambeau.ops.sliding import Sizes, hide, in_float32

Taps = tuple[np.ndarray, "np.ndarray | None"]


@functools.lru_cache(maxsize=256)
def taps(size: int, how: tuple[Any, ...], double: bool) -> Taps:
    """Positions and weights of one map for inputs of a size; `double` computes them in float64, else float32."""
    if how[0] in _PADDINGS:
        _, before, after = how
        return _PADDINGS[how[0]](np.arange(-before, size + after), size)[:, None], None
    kind, out, scale, align_corners, antialias = how
    real = np.float64 if double else np.float32
    if kind.startswith("nearest"):
        return nearest(size, out, scale, exact=kind == "nearest-exact"), None
    step = step_of(size, out, scale, align_corners, real)
    if antialias:
        return antialiased(size, out, step, kind, real)
    return (linear if kind == "linear" else cubic)(size, out, step, align_corners, real)


# ---- padding modes -----------------------------------------------------------------------------


def reflected(position: np.ndarray, size: int) -> np.ndarray:
    """Mirrored at both ends without repeating the edge."""
    return size - 1 - np.abs(size - 1 - np.abs(position))


def replicated(position: np.ndarray, size: int) -> np.ndarray:
    """The edge repeated."""
    return np.clip(position, 0, size - 1)


def wrapped(position: np.ndarray, size: int) -> np.ndarray:
    """Round and round what is left of the input where the padding at one side is negative."""
    first, last = max(position[0], 0), min(position[-1] + 1, size)
    return first + (position - first) % (last - first)


_PADDINGS: dict[str, Any] = {"reflect": reflected, "replicate": replicated, "circular": wrapped}


# ---- interpolation -----------------------------------------------------------------------------


def step_of(size: int, out: int, scale: float | None, align_corners: bool, real: Any) -> Any:
    """Distance in the input between neighbours in the output."""
    if align_corners:
        return real(size - 1) / real(out - 1) if out > 1 else real(0)
    return real(1.0 / scale) if scale is not None and scale > 0 else real(size) / real(out)


def nearest(size: int, out: int, scale: float | None, *, exact: bool) -> np.ndarray:
    """The element left of each point, or (`exact`) the one whose centre is nearest. Always in float32."""
    step = step_of(size, out, scale, False, np.float32)
    point = np.arange(out, dtype=np.float32) + np.float32(0.5 if exact else 0)
    return np.minimum(np.floor(point * step).astype(np.int64), size - 1)[:, None]


def source(out: int, step: Any, align_corners: bool, real: Any) -> np.ndarray:
    """Where the outputs lie in the input's coordinates."""
    index = np.arange(out, dtype=real)
    return index * step if align_corners else step * (index + real(0.5)) - real(0.5)


def linear(size: int, out: int, step: Any, align_corners: bool, real: Any) -> Taps:
    """Two neighbours, weighted by their distance."""
    if out == size and step == 1:
        return np.arange(size)[:, None], None
    point = np.maximum(source(out, step, align_corners, real), 0)
    left = np.minimum(point.astype(np.int64), size - 1)
    share = np.clip(point - left, 0, 1).astype(real)
    return np.stack([left, np.minimum(left + 1, size - 1)], 1), np.stack([1 - share, share], 1)


def cubic_weight(distance: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution kernel (Keys 1981)."""
    d = np.abs(distance)
    inner = ((a + 2) * d - (a + 3)) * d * d + 1
    outer = ((d - 5) * d + 8) * d * a - 4 * a
    return np.where(d <= 1, inner, np.where(d < 2, outer, 0)).astype(distance.dtype)


def cubic(size: int, out: int, step: Any, align_corners: bool, real: Any) -> Taps:
    """Four neighbours with Keys' weights, a = -0.75; the edge is repeated."""
    point = source(out, step, align_corners, real)
    left = np.minimum(np.floor(point).astype(np.int64), size - 1)
    share = np.clip(point - left, 0, 1).astype(real)
    offsets = np.arange(-1, 3)
    return np.clip(left[:, None] + offsets, 0, size - 1), cubic_weight(share[:, None] - offsets.astype(real), -0.75)


def antialiased(size: int, out: int, step: Any, kind: str, real: Any) -> Taps:
    """The kernel widened by the step when shrinking, so that no input is skipped; cubic with a = -0.5."""
    reach = 1.0 if kind == "linear" else 2.0
    support = real(reach) * (step if step >= 1 else real(1))
    inverse = 1 / step if step >= 1 else real(1)
    center = step * (np.arange(out, dtype=real) + real(0.5))
    first = np.maximum((center - support + real(0.5)).astype(np.int64), 0)
    last = np.minimum((center + support + real(0.5)).astype(np.int64), size)
    width = max(int((last - first).max(initial=1)), 1)
    position = first[:, None] + np.arange(width)
    distance = (position - center[:, None] + real(0.5)) * inverse
    weight = np.maximum(1 - np.abs(distance), 0) if kind == "linear" else cubic_weight(distance.astype(real), -0.5)
    weight = np.where(position < last[:, None], weight, 0)
    weight /= weight.sum(1, keepdims=True)
    return np.minimum(position, size - 1), weight.astype(real)


# A map whose input is no longer than this is applied as a matrix product: more work, but BLAS does it.
DENSE = 128


@functools.lru_cache(maxsize=64)
def dense(size: int, how: tuple[Any, ...], double: bool) -> np.ndarray:
    """One map as a matrix (out, size)."""
    positions, weights = taps(size, how, double)
    matrix = np.zeros((len(positions), size), np.float64 if double else np.float32)
    np.add.at(matrix, (np.arange(len(positions))[:, None], positions), 1 if weights is None else weights)
    return matrix


def product(x: np.ndarray, matrix: np.ndarray, axis: int) -> np.ndarray:
    """The matrix applied along one axis."""
    if axis == x.ndim - 1:
        return np.matmul(x, matrix.T)
    rows = x.reshape(*x.shape[: axis + 1], math.prod(x.shape[axis + 1 :]))
    return np.matmul(matrix, rows).reshape(*x.shape[:axis], len(matrix), *x.shape[axis + 1 :])


def multipliable(x: np.ndarray, size: int) -> bool:
    """Whether the matrix gives the same as the taps: it multiplies everything, so inf or nan would spread."""
    if size > DENSE or x.dtype not in (np.float32, np.float64):
        return False
    return bool(x.size and np.isfinite(x.min()) and np.isfinite(x.max()))


# ---- the primitives ----------------------------------------------------------------------------


@primitive("resample")
@in_float32
def resample(x: Any, *, plan: tuple[Any, ...]) -> Any:
    """The plan's maps applied to the last dimensions, the last one first. Bytes are rounded after each."""
    kind = x.dtype
    for axis, how in reversed(list(enumerate(plan, x.ndim - len(plan)))):
        positions, weights = taps(x.shape[axis], how, kind == np.float64)
        if weights is None:
            x = np.take(x, positions[:, 0], axis)
            continue
        if multipliable(x, x.shape[axis]):
            x = product(x, dense(x.shape[axis], how, kind == np.float64), axis)
            continue
        along = (-1,) + (1,) * (x.ndim - axis - 1)
        out: Any = None
        for tap in range(positions.shape[1]):
            part = np.take(x, positions[:, tap], axis) * weights[:, tap].reshape(along)
            out = part if out is None else np.add(out, part, out=out)
        x = out if kind != np.uint8 else np.clip(np.floor(out + np.float32(0.5)), 0, 255).astype(kind)
    return x


@primitive("resample_backward")
@in_float32
def resample_backward(grad: Any, *, plan: tuple[Any, ...], size: Sizes) -> Any:
    """The adjoint of `resample`: gradients added up where values came from."""
    double = grad.dtype == np.float64
    for axis, (how, n) in enumerate(zip(plan, size), grad.ndim - len(plan)):
        if multipliable(grad, n):
            grad = product(grad, dense(n, how, double).T, axis)
            continue
        positions, weights = taps(n, how, double)
        along = (-1,) + (1,) * (grad.ndim - axis - 1)
        out = np.zeros((*grad.shape[:axis], n, *grad.shape[axis + 1:]), grad.dtype)
        for tap in range(positions.shape[1]):
            part = grad if weights is None else grad * weights[:, tap].reshape(along)
            add_at(out, positions[:, tap], part, axis)
        grad = out
    return grad


def add_at(out: np.ndarray, positions: np.ndarray, values: np.ndarray, axis: int) -> None:
    """out[positions] += values along an axis, duplicates included: equal positions are summed first."""
    if positions.size == 0 or values.size == 0:
        return
    if np.any(np.diff(positions) < 0):
        order = np.argsort(positions, kind="stable")
        positions, values = positions[order], np.take(values, order, axis)
    starts = np.flatnonzero(np.diff(positions, prepend=-1))
    if len(starts) < len(positions):
        values = np.add.reduceat(values, starts, axis)
    out[(slice(None),) * axis + (positions[starts],)] += values


resample.vjp(
    x=lambda grad, shapes, plan: hide(
        resample_backward(grad, plan=plan, size=shapes[0][len(shapes[0]) - len(plan):]), grad),
)
resample_backward.vjp(grad=lambda grad, plan: hide(resample(grad, plan=plan), grad))
