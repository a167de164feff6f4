"""Distances and similarities between vectors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core import recording
from flambeau.core.dispatch import primitive
from flambeau.core.inplace import write_out
from flambeau.core.tensor import Tensor, constant
from flambeau.ops.comparison import logical_and, ne
from flambeau.ops.sliding import in_float32, shape_text

__all__ = ["cdist", "cosine_similarity", "normalize", "pairwise_distance", "pdist"]

# From this many rows on, Euclidean distances come from one matrix product (PyTorch's default choice too).
MATMUL_ROWS = 25


# ---- norms of differences ----------------------------------------------------------------------


@primitive("difference_norm", grad_name="CdistBackward0")
@in_float32
def difference_norm(x: Any, *, p: float) -> Any:
    """The p-norm over the last dimension: (..., M) -> (...); p = 0 counts what is not zero."""
    if x.shape[-1] == 0:
        return np.zeros(x.shape[:-1], x.dtype)
    if p == 2:
        return np.sqrt(np.einsum("...m,...m->...", x, x))
    size = np.abs(x)
    if p == 0:
        return np.count_nonzero(size, -1).astype(x.dtype)
    if p == 1:
        return size.sum(-1)
    if math.isinf(p):
        return size.max(-1)
    return np.power(np.power(size, x.dtype.type(p)).sum(-1), x.dtype.type(1 / p))


@difference_norm.vjp
def difference_norm_vjp(grad: Tensor, x: Tensor, out: Tensor, p: float) -> Tensor:
    """0 at distance 0; for p = inf every largest coordinate receives the whole gradient, as in PyTorch's cdist."""
    grad, out = grad.unsqueeze(-1), out.unsqueeze(-1)
    if p == 0:
        return x * 0
    if p == 1:
        return grad * x.sign()
    if math.isinf(p):
        return grad * x.sign() * (x.abs() == out).to(x.dtype)
    apart = ne(out, 0)
    if p == 2:
        return (grad * x / out).where(apart, 0.0)
    usable = logical_and(ne(x, 0), ne(out, 0))
    return (grad * x.sign() * (x.abs() / out).pow(p - 1)).where(usable, 0.0)


@primitive("euclidean_distances", grad_name="CdistBackward0")
@in_float32
def euclidean_distances(x: Any, y: Any) -> Any:
    """sqrt(|x|^2 + |y|^2 - 2 x.y) between all rows: (..., P, M), (..., R, M) -> (..., P, R)."""
    squares = np.square(x).sum(-1)[..., :, None] + np.square(y).sum(-1)[..., None, :]
    squares -= 2 * np.matmul(x, y.swapaxes(-1, -2))
    return np.sqrt(np.maximum(squares, 0))


@euclidean_distances.vjp
def euclidean_distances_vjp(grad: Tensor, x: Tensor, y: Tensor, out: Tensor) -> Any:
    """Sum over the partners of grad / distance * (row - partner), 0 at distance 0, without forming the differences."""
    ratio = (grad / out).where(ne(out, 0), 0.0)
    back = ratio.transpose(-2, -1)
    return x * ratio.sum(dim=-1, keepdim=True) - ratio.matmul(y), y * back.sum(dim=-1, keepdim=True) - back.matmul(x)


def check_order(op: str, p: float) -> float:
    """RuntimeError for a negative p."""
    if p < 0:
        raise RuntimeError(f"{op} only supports non-negative p values, got {p}")
    return float(p)


def check_floating(op: str, *tensors: Tensor) -> None:
    for t in tensors:
        if not t.dtype.is_floating_point:
            raise RuntimeError(f"{op} only supports floating-point dtypes, got {t.dtype}")


def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: Any = "use_mm_for_euclid_dist_if_necessary") -> Tensor:
    """The p-norm distance between every row of x1 and every row of x2.

    Shapes: (..., P, M), (..., R, M) -> (..., P, R), batches broadcast. Dtypes: floats. The derivative at distance 0 is
    0.
    Raises: RuntimeError for a negative p or rows of different lengths; ValueError for an unknown `compute_mode`.
    """
    check_order("cdist", p)
    modes: dict[Any, bool | None] = {
        "use_mm_for_euclid_dist_if_necessary": None, "use_mm_for_euclid_dist": True,
        "donot_use_mm_for_euclid_dist": False, None: None, 0: None, 1: True, 2: False,
    }
    if compute_mode not in modes:
        raise ValueError(f"{compute_mode} is not a valid value for compute_mode")
    check_floating("cdist", x1, x2)
    a, b = x1._array, x2._array
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-1]:
        raise RuntimeError(
            f"cdist: expected two matrices (or batches) with rows of the same length, got {shape_text(a)} and "
            f"{shape_text(b)}"
        )
    product = modes[compute_mode]
    if product is None:
        product = a.shape[-2] > MATMUL_ROWS or b.shape[-2] > MATMUL_ROWS
    if p == 2 and product and a.dtype == b.dtype and a.shape[-1]:
        return euclidean_distances(x1, x2)
    return difference_norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), p=float(p))


def pdist(input: Tensor, p: float = 2) -> Tensor:
    """The p-norm distance between all pairs of rows, in the order of the upper triangle: (N, M) -> (N * (N-1) / 2,)."""
    check_order("pdist", p)
    if input.ndim != 2:
        raise RuntimeError(f"pdist only supports 2D tensors, got: {input.ndim}D")
    check_floating("pdist", input)
    first, second = np.triu_indices(input.shape[0], 1)
    rows = [input.index_select(0, constant(index.astype(np.int64))) for index in (first, second)]
    return difference_norm(rows[0] - rows[1], p=float(p))


def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """The p-norm of x1 - x2 + eps over the last dimension; shapes broadcast."""
    return (x1 - x2 + eps).norm(p, dim=-1, keepdim=keepdim)


# ---- directions --------------------------------------------------------------------------------


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between vectors along `dim`; shapes broadcast.

    Norms below `eps` count as `eps`; their derivative is kept, as in PyTorch.
    """
    kind = promoted_float(x1, x2)
    # Broadcast first: a dimension of size 1 along `dim` counts as often as it is repeated.
    shape = np.broadcast_shapes(x1._array.shape, x2._array.shape)
    x1, x2 = x1.to(kind).expand(shape), x2.to(kind).expand(shape)
    return (direction(x1, dim, eps) * direction(x2, dim, eps)).sum(dim=dim)


def promoted_float(x1: Tensor, x2: Tensor) -> Any:
    """The common type of both tensors. RuntimeError unless it is a floating type."""
    kind = dtypes.promote(x1.dtype, x2.dtype)
    if not kind.is_floating_point:
        raise RuntimeError(f"expected common dtype to be floating point, yet common dtype is {kind}")
    return kind


def direction(x: Tensor, dim: int, eps: float) -> Tensor:
    """x divided by its norm along `dim`, or by `eps` if that is larger."""
    norm = x.norm(2, dim=dim, keepdim=True)
    if recording.recorder is not None or (norm._array < eps).any():
        lifted = eps - norm.detach()
        norm = norm + lifted.masked_fill(lifted <= 0, 0)
    return x / norm


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Tensor | None = None) -> Tensor:
    """Vectors along `dim` divided by their p-norm, or by `eps` if that is larger."""
    result = input / input.norm(p, dim=dim, keepdim=True).clamp_min(eps)
    return result if out is None else write_out(result, out, "normalize")
