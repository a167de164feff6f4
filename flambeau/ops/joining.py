"""Putting tensors together: `cat`, `stack` and their relatives."""

from __future__ import annotations

from typing import Any

from flambeau.core import dtype as dtypes
from flambeau.core.tensor import Tensor, wrap_dim
from flambeau.ops.casting import to_dtype
from flambeau.ops.shape import _rejoin, _restack, reshape


def _tensors(name: str, tensors: Any) -> list[Tensor]:
    """The arguments of a joining function as a list. TypeError for anything but tensors, RuntimeError for none."""
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
    if all(t._array.dtype == first for t in tensors):
        return tensors
    common = dtypes.result_of([t._array for t in tensors]).numpy
    return [t if t._array.dtype == common else to_dtype(t, common) for t in tensors]


def cat(tensors: Any, dim: int = 0) -> Tensor:
    """Tensors one after the other along an existing dimension; types are promoted, empty vectors skipped.

    RuntimeError when other dimensions differ.
    """
    found = _tensors("cat", tensors)
    if not found:
        raise ValueError("torch.cat(): expected a non-empty list of Tensors")
    found = promoted(found)
    for position, t in enumerate(found):
        if t._array.ndim == 0:
            raise RuntimeError(f"zero-dimensional tensor (at position {position}) cannot be concatenated")
    # A vector without elements fits everywhere: what scripts start accumulating from.
    shape = next((t._array.shape for t in found if t._array.shape != (0,)), (0,))
    dim = wrap_dim(dim, len(shape))
    kept = [t for t in found if t._array.shape != (0,)]
    if len(kept) < len(found):
        nothing = (*shape[:dim], 0, *shape[dim + 1 :])
        kept = [t if t._array.shape != (0,) else reshape(t, nothing) for t in found]
    for position, t in enumerate(kept):
        other = t._array.shape
        if len(other) != len(shape):
            raise RuntimeError(f"Tensors must have same number of dimensions: got {len(shape)} and {len(other)}")
        for d, (n, m) in enumerate(zip(shape, other, strict=True)):
            if n != m and d != dim:
                raise RuntimeError(
                    f"Sizes of tensors must match except in dimension {dim}. Expected size {n} but got size {m} for tensor number "
                    f"{position} in the list.")
    return _rejoin(*kept, dim=dim)


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
