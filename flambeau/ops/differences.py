"""Differences of neighbours, slopes and integrals of samples along a dimension."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core.tensor import Tensor, computed, constant, wrap_dim
from flambeau.ops.comparison import logical_xor
from flambeau.ops.cumulative import cumsum
from flambeau.ops.joining import cat
from flambeau.ops.pointwise import add, div, mul, sub
from flambeau.ops.reductions import _sum, wrap_dims
from flambeau.ops.shape import _slice, _unsqueeze


def diff(input: Tensor, n: int = 1, dim: Any = -1, prepend: Tensor | None = None,
         append: Tensor | None = None) -> Tensor:
    """Differences of neighbours along `dim`, taken `n` times, with entries put before or after first."""
    if input._array.ndim == 0:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    dim = wrap_dim(dim, input._array.ndim, input)
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    if n == 0:
        return input.clone()
    if prepend is not None or append is not None:
        input = cat([t for t in (prepend, input, append) if t is not None], dim)
    subtract = logical_xor if input._array.dtype.kind == "b" else sub
    for _ in range(n):
        size = input._array.shape[dim]
        if size == 0:
            break
        input = subtract(*reversed(_neighbours(input, dim, size)))
    return input


def _areas(name: str, y: Tensor, x: Tensor | None, dx: Any, dim: Any) -> tuple[Tensor, int]:
    """The areas of the trapezoids between neighbours along `dim`."""
    dim = wrap_dim(dim, y._array.ndim)
    if y._array.dtype.kind == "b" or (x is not None and x._array.dtype.kind == "b"):
        raise RuntimeError(f"{name}: received a bool input for `{'y' if y._array.dtype.kind == 'b' else 'x'}`, but "
                           "bool is not supported")
    n = y._array.shape[dim] if y._array.ndim else 1
    pairs = add(*_neighbours(y, dim, n))
    if x is None:
        return mul(div(pairs, 2.0), dx), dim
    if x._array.ndim == 1:
        if x._array.size != n:
            raise RuntimeError(f"{name}: There must be one `x` value for each sample point")
        widths = sub(*reversed(_neighbours(x, 0, n)))
        for _ in range(y._array.ndim - dim - 1):
            widths = _unsqueeze(widths, dim=widths._array.ndim)
    else:
        while x._array.ndim < y._array.ndim:
            x = _unsqueeze(x, dim=0)
        widths = sub(*reversed(_neighbours(x, dim, x._array.shape[dim])))
    return div(mul(pairs, widths), 2.0), dim


def _neighbours(t: Tensor, dim: int, n: int) -> tuple[Tensor, Tensor]:
    return _slice(t, dim=dim, start=0, stop=max(n - 1, 0), step=1), _slice(t, dim=dim, start=1, stop=n, step=1)


def _no_choice(name: str, x: Any, dx: Any) -> None:
    if x is not None and dx is not None:
        raise TypeError(f"{name}() received an invalid combination of arguments - got both x and dx")


def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = None, dim: Any = -1) -> Tensor:
    """The integral of samples along `dim` by the trapezoidal rule, at points `x` or `dx` apart."""
    _no_choice("trapezoid", x, dx)
    if y._array.ndim and y._array.shape[wrap_dim(dim, y._array.ndim)] == 0:
        at = wrap_dim(dim, y._array.ndim)
        return constant(np.zeros([n for d, n in enumerate(y._array.shape) if d != at], y._array.dtype))
    areas, dim = _areas("trapezoid", y, x, 1 if dx is None else dx, dim)
    return _sum(areas, dims=(dim,), keepdim=False)


def cumulative_trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = None, dim: Any = -1) -> Tensor:
    """The running integral of samples along `dim` by the trapezoidal rule."""
    _no_choice("cumulative_trapezoid", x, dx)
    areas, dim = _areas("cumulative_trapezoid", y, x, 1 if dx is None else dx, dim)
    return cumsum(areas, dim)


# ---- slopes --------------------------------------------------------------------------------------------------


def gradient(input: Tensor, *, spacing: Any = None, dim: Any = None, edge_order: int = 1) -> tuple[Tensor, ...]:
    """Slopes along each dimension in `dim` by central differences, one-sided at the edges.

    `spacing`: the distance of samples (one number, or one per dimension), or their coordinates as vectors.
    """
    if isinstance(spacing, Tensor):
        spacing = spacing.item() if spacing._array.ndim == 0 else [spacing]
    dims = wrap_dims(dim, input)
    if edge_order not in (1, 2):
        raise RuntimeError("torch.gradient only supports edge_order=1 and edge_order=2.")
    if spacing is None or isinstance(spacing, (int, float, complex)):
        spacing = 1 if spacing is None else spacing
        steps = [spacing] * len(dims)
    else:
        steps = list(spacing)
        if len(steps) != len(dims):
            raise RuntimeError("torch.gradient expected spacing to be unspecified, a scalar or a list of length equal "
                               "to the number of "
                               f"dims, {len(dims)}, but got {len(steps)}")
    for d, step in zip(dims, steps, strict=True):
        n = input._array.shape[d] if input._array.ndim else 1
        if n < edge_order + 1:
            raise RuntimeError(f"torch.gradient expected each dimension size to be at least edge_order+1, got {n}")
        if isinstance(step, Tensor) and (step._array.ndim != 1 or step._array.size != n):
            raise RuntimeError("torch.gradient expected each spacing tensor to be a vector of the size of its "
                               "dimension, "
                               f"{n}, but got {list(step._array.shape)}")
    return tuple(_slope(input, d, step, edge_order) for d, step in zip(dims, steps, strict=True))


def _slope(f: Tensor, dim: int, step: Any, edge_order: int) -> Tensor:
    n = f._array.shape[dim]

    def at(start: int, stop: int) -> Tensor:
        return _slice(f, dim=dim, start=start, stop=stop, step=1)

    def step_at(start: int, stop: int) -> Any:
        """Distances between neighbours, shaped to multiply `f`."""
        if not isinstance(step, Tensor):
            return float(step) if not isinstance(step, complex) else step
        along = [-1 if d == dim else 1 for d in range(f._array.ndim)]
        return computed(lambda places: np.diff(places)[start:stop].reshape(along), step)

    parts = []
    if n > 2:
        before, after = step_at(0, n - 2), step_at(1, n - 1)
        parts.append(_three_points(at(0, n - 2), at(1, n - 1), at(2, n), before, after))
    if edge_order == 1:
        first = div(sub(at(1, 2), at(0, 1)), step_at(0, 1))
        last = div(sub(at(n - 1, n), at(n - 2, n - 1)), step_at(n - 2, n - 1))
    else:
        first = _edge(at(0, 1), at(1, 2), at(2, 3), step_at(0, 1), step_at(1, 2))
        steps = step_at(n - 2, n - 1), step_at(n - 3, n - 2)
        last = mul(_edge(at(n - 1, n), at(n - 2, n - 1), at(n - 3, n - 2), *steps), -1)
    return cat([first, *parts, last], dim)


def _three_points(left: Tensor, middle: Tensor, right: Tensor, before: Any, after: Any) -> Tensor:
    """The slope of the parabola through three points, at the middle one."""
    if not isinstance(before, Tensor) and before == after:
        return div(sub(right, left), 2 * before)
    both = before + after
    return add(add(mul(left, -after / (before * both)), mul(middle, (after - before) / (before * after))),
               mul(right, before / (after * both)))


def _edge(edge: Tensor, next_: Tensor, third: Tensor, near: Any, far: Any) -> Tensor:
    """The slope of the parabola through three points, at its first one."""
    both = near + far
    return add(sub(mul(next_, both / (near * far)), mul(edge, (2 * near + far) / (near * both))),
               mul(third, -near / (far * both)))
