"""Putting tensors together: `cat`, `stack` and their relatives."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core.dispatch import primitive
from flambeau.core.tensor import Tensor, constant, wrap_dim
from flambeau.ops.casting import to_dtype
from flambeau.ops.shape import _expand, _rejoin, _restack, reshape


def _tensors(name: str, tensors: Any) -> list[Tensor]:
    """The arguments of a joining function as a list. TypeError for anything but tensors."""
    if isinstance(tensors, Tensor):
        raise TypeError(f"{name}(): argument 'tensors' (position 1) must be tuple of Tensors, not Tensor")
    found = list(tensors)
    for position, t in enumerate(found):
        if not isinstance(t, Tensor):
            raise TypeError(f"expected Tensor as element {position} in argument 0, but got {type(t).__name__}")
    return found


def promoted(tensors: list[Tensor]) -> list[Tensor]:
    """The tensors in their common type."""
    first = tensors[0]._array.dtype
    for t in tensors:
        if t._array.dtype is not first and t._array.dtype != first:
            common = dtypes.result_of([t._array for t in tensors]).numpy
            return [t if t._array.dtype == common else to_dtype(t, common) for t in tensors]
    return tensors


def cat(tensors: Any, dim: int = 0) -> Tensor:
    """Tensors one after the other along an existing dimension; types are promoted, empty vectors skipped.

    RuntimeError when other dimensions differ.
    """
    found = _tensors("cat", tensors)
    if not found:
        raise ValueError("torch.cat(): expected a non-empty list of Tensors")
    found = promoted(found)
    shapes = [t._array.shape for t in found]
    if () in shapes:
        raise RuntimeError(f"zero-dimensional tensor (at position {shapes.index(())}) cannot be concatenated")
    if (0,) in shapes:  # a vector without elements fits everywhere: what scripts start accumulating from
        shape = next((s for s in shapes if s != (0,)), (0,))
        dim = wrap_dim(dim, len(shape))
        nothing = (*shape[:dim], 0, *shape[dim + 1 :])
        found = [t if t._array.shape != (0,) else reshape(t, nothing) for t in found]
    dim = wrap_dim(dim, found[0]._array.ndim, found[0])
    try:
        return _rejoin(*found, dim=dim)
    except ValueError:
        raise _misfit([t._array.shape for t in found], dim) from None


def _misfit(shapes: list[Any], dim: int) -> RuntimeError:
    """PyTorch's words for the first tensor that does not fit the first."""
    shape = shapes[0]
    for position, other in enumerate(shapes):
        if len(other) != len(shape):
            return RuntimeError(f"Tensors must have same number of dimensions: got {len(shape)} and {len(other)}")
        for d, (n, m) in enumerate(zip(shape, other, strict=True)):
            if n != m and d != dim:
                return RuntimeError(f"Sizes of tensors must match except in dimension {dim}. Expected size {n} but got "
                                    f"size {m} for "
                                    f"tensor number {position} in the list.")
    return RuntimeError(f"cannot concatenate tensors of shapes {shapes}")


def stack(tensors: Any, dim: int = 0) -> Tensor:
    """Tensors of one shape along a new dimension. RuntimeError when shapes differ."""
    found = _tensors("stack", tensors)
    if not found:
        raise RuntimeError("stack expects a non-empty TensorList")
    shape = found[0]._array.shape
    for position, t in enumerate(found):
        if t._array.shape != shape:
            raise RuntimeError(f"stack expects each tensor to be equal size, but got {list(shape)} at entry 0 and "
                               f"{list(t._array.shape)} at entry {position}")
    return _restack(*promoted(found), dim=wrap_dim(dim, len(shape) + 1))


# ---- along a fixed dimension ---------------------------------------------------------------------------


def hstack(tensors: Any) -> Tensor:
    """Side by side: along dimension 1, vectors along dimension 0."""
    found = _tensors("hstack", tensors)
    if not found:
        raise RuntimeError("hstack expects a non-empty TensorList")
    found = [atleast_1d(t) for t in found]
    return cat(found, 0 if found[0]._array.ndim == 1 else 1)


def vstack(tensors: Any) -> Tensor:
    """On top of each other: along dimension 0, vectors as rows."""
    found = _tensors("vstack", tensors)
    if not found:
        raise RuntimeError("vstack expects a non-empty TensorList")
    return cat([atleast_2d(t) for t in found], 0)


def dstack(tensors: Any) -> Tensor:
    """Behind each other: along dimension 2."""
    found = _tensors("dstack", tensors)
    if not found:
        raise RuntimeError("dstack expects a non-empty TensorList")
    return cat([atleast_3d(t) for t in found], 2)


def column_stack(tensors: Any) -> Tensor:
    """Side by side along dimension 1; vectors are columns."""
    found = _tensors("column_stack", tensors)
    if not found:
        raise RuntimeError("column_stack expects a non-empty TensorList")
    return cat([t if t._array.ndim > 1 else reshape(t, (-1, 1)) for t in found], 1)


def _for_each(function: Any) -> Any:
    """A function of one tensor that also takes several, or a sequence, and returns a tuple then."""

    def call(*tensors: Any) -> Any:
        if len(tensors) == 1 and isinstance(tensors[0], Tensor):
            return function(tensors[0])
        several = tensors[0] if len(tensors) == 1 else tensors
        return tuple(function(t) for t in _tensors(function.__name__, several))

    call.__name__ = call.__qualname__ = function.__name__
    call.__doc__ = function.__doc__
    return call


@_for_each
def atleast_1d(input: Tensor) -> Tensor:
    """A view with at least one dimension: a 0-d tensor becomes a vector."""
    return input if input._array.ndim else reshape(input, (1,))


@_for_each
def atleast_2d(input: Tensor) -> Tensor:
    """A view with at least two dimensions: a vector becomes a row."""
    shape = input._array.shape
    return input if len(shape) > 1 else reshape(input, (1, shape[0] if shape else 1))


@_for_each
def atleast_3d(input: Tensor) -> Tensor:
    """A view with at least three dimensions: a vector (N,) becomes (1, N, 1), a matrix (N, M) becomes (N, M, 1)."""
    shape = input._array.shape
    if len(shape) > 2:
        return input
    return reshape(input, (*shape, 1) if len(shape) == 2 else (1, shape[0] if shape else 1, 1))


# ---- blocks and combinations -----------------------------------------------------------------------------


@primitive("block_diag")
def _block_diag(*xs: Any) -> Any:
    out = np.zeros((sum(x.shape[0] for x in xs), sum(x.shape[1] for x in xs)), xs[0].dtype)
    row = column = 0
    for x in xs:
        out[row : row + x.shape[0], column : column + x.shape[1]] = x
        row, column = row + x.shape[0], column + x.shape[1]
    return out


@_block_diag.vjp
def _block_diag_vjp(grad: Tensor, shapes: Any) -> Any:
    parts, row, column = [], 0, 0
    for n, m in shapes:
        parts.append(grad[row : row + n, column : column + m])
        row, column = row + n, column + m
    return parts


def block_diag(*tensors: Tensor) -> Tensor:
    """A matrix with the given matrices (vectors as rows, numbers as 1×1) along its diagonal."""
    found = _tensors("block_diag", tensors)
    if not found:
        return constant(np.zeros((1, 0), dtypes.default_dtype().numpy))
    for position, t in enumerate(found):
        if t._array.ndim > 2:
            raise RuntimeError(f"torch.block_diag: Input tensors must have 2 or fewer dimensions. Input {position} has "
                               f"{t._array.ndim} dimensions")
    return _block_diag(*promoted([atleast_2d(t) for t in found]))


def meshgrid(*tensors: Any, indexing: str | None = None) -> tuple[Tensor, ...]:
    """The coordinates of a grid: for vectors of sizes N1…Nk, k views of shape (N1, …, Nk).

    `indexing="xy"` swaps the first two dimensions; without it PyTorch's default "ij" is taken with a warning.
    """
    several = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors
    found = _tensors("meshgrid", several)
    if not found:
        raise RuntimeError("meshgrid expects a non-empty TensorList")
    if indexing is None:
        warnings.warn("torch.meshgrid: in an upcoming release, it will be required to pass the indexing argument.",
                      UserWarning, stacklevel=2)
        indexing = "ij"
    if indexing not in ("ij", "xy"):
        raise RuntimeError(f'torch.meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}')
    for t in found:
        if t._array.ndim > 1:
            raise RuntimeError("torch.meshgrid: Expected 0D or 1D tensor in the tensor list but got a tensor of shape "
                               f"{list(t._array.shape)}")
        if t._array.dtype != found[0]._array.dtype:
            raise RuntimeError("meshgrid expects all tensors to have the same dtype")
    swap = indexing == "xy" and len(found) > 1
    if swap:
        found[0], found[1] = found[1], found[0]
    shape = tuple(t._array.size for t in found)
    grids = []
    for d, t in enumerate(found):
        sizes = [1] * len(found)
        sizes[d] = shape[d]
        grids.append(_expand(reshape(t, sizes), shape=shape))
    if swap:
        grids[0], grids[1] = grids[1], grids[0]
    return tuple(grids)


def cartesian_prod(*tensors: Tensor) -> Tensor:
    """All tuples with one element of each vector, as rows."""
    found = _tensors("cartesian_prod", tensors)
    for t in found:
        if t._array.ndim != 1:
            raise RuntimeError(f"Expect a 1D vector, but got shape {list(t._array.shape)}")
    if len(found) == 1:
        return found[0]
    return stack([reshape(g, -1) for g in meshgrid(*found, indexing="ij")], 1)


def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All choices of `r` elements of a vector, as rows, in the order of `itertools.combinations`."""
    if input._array.ndim != 1:
        raise RuntimeError(f"Expect a 1D vector, but got shape {list(input._array.shape)}")
    if r < 0:
        raise RuntimeError(f"Expect a non-negative number, but got {r}")
    if r == 0:
        return constant(np.empty(0, input._array.dtype))
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    positions = np.array(list(choose(range(input._array.size), r)), np.int64).reshape(-1, r)
    return input[constant(positions)]
