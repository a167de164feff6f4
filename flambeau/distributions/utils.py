"""Small helpers of the families: broadcasting parameters, probabilities and logits, packing triangles."""

from __future__ import annotations

import math
from functools import update_wrapper
from numbers import Number
from typing import Any

import flambeau as fl
from flambeau.core import recording
from flambeau.core.tensor import Tensor

euler_constant = 0.57721566490153286060  # Euler and Mascheroni

__all__ = ["broadcast_all", "clamp_probs", "euler_constant", "lazy_property", "logits_to_probs", "probs_to_logits",
           "tril_matrix_to_vec", "vec_to_tril_matrix"]


def broadcast_all(*values: Any) -> tuple[Tensor, ...]:
    """Tensors of one shape; numbers become tensors of the default type, or of the first tensor's type.

    Raises ValueError for anything that is neither a tensor nor a number.
    """
    if not all(isinstance(v, (Tensor, Number)) for v in values):
        kinds = ", ".join(type(v).__name__ for v in values)
        raise ValueError(f"Input arguments must all be numbers or tensors, got {kinds}")
    if not all(isinstance(v, Tensor) for v in values):
        options: dict[str, Any] = {"dtype": fl.get_default_dtype()}
        for value in values:
            if isinstance(value, Tensor):
                options = {"dtype": value.dtype, "device": value.device}
                break
        values = tuple(v if isinstance(v, Tensor) else fl.tensor(v, **options) for v in values)
    return tuple(fl.broadcast_tensors(*values))


def holds(condition: Tensor, what: str, owner: Any) -> bool:
    """Whether a condition on `what` ("parameter scale") of a distribution holds everywhere.

    Where a step is recorded nobody looks: later calls in which it does not hold raise a ValueError.
    """
    if recording.recorder is not None:
        error = ValueError(f"{type(owner).__name__}: expected {what} within its constraint, but found invalid values")
        if recording.required(condition, error):
            return bool(condition._array.all())
    return bool(condition.all())


def standard_normal(shape: Any, dtype: Any, device: Any) -> Tensor:
    """Normal draws of mean 0 and deviation 1."""
    return fl.normal(fl.zeros(shape, dtype=dtype, device=device), fl.ones(shape, dtype=dtype, device=device))


def sum_rightmost(value: Tensor, dim: int) -> Tensor:
    """The sum over the last `dim` dimensions."""
    return value if dim == 0 else value.reshape(value.shape[:-dim] + (-1,)).sum(-1)


def logits_to_probs(logits: Tensor, is_binary: bool = False) -> Tensor:
    """Probabilities from log odds (`is_binary`) or from unnormalised log probabilities along the last dimension."""
    return fl.sigmoid(logits) if is_binary else fl.softmax(logits, dim=-1)


def clamp_probs(probs: Tensor) -> Tensor:
    """Probabilities kept away from 0 and 1 by the type's epsilon."""
    eps = fl.finfo(probs.dtype).eps
    return probs.clamp(min=eps, max=1 - eps)


def probs_to_logits(probs: Tensor, is_binary: bool = False) -> Tensor:
    """The inverse of `logits_to_probs`, finite for probabilities 0 and 1."""
    clamped = clamp_probs(probs)
    return fl.log(clamped) - fl.log1p(-clamped) if is_binary else fl.log(clamped)


class lazy_property:
    """A property computed at first use, with gradients on, and kept in the instance."""

    def __init__(self, wrapped: Any):
        self.wrapped = wrapped
        update_wrapper(self, wrapped)  # type: ignore[arg-type]

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return property(self.wrapped)
        with fl.enable_grad():
            value = self.wrapped(instance)
        setattr(instance, self.wrapped.__name__, value)
        return value


def tril_matrix_to_vec(mat: Tensor, diag: int = 0) -> Tensor:
    """The elements on and below diagonal `diag` of (…, n, n) matrices, row by row: (…, elements)."""
    n = mat.shape[-1]
    if not -n <= diag < n:
        raise ValueError(f"diag ({diag}) provided is outside [{-n}, {n - 1}].")
    rows, columns = fl.tril_indices(n, n, offset=diag)
    return mat[..., rows, columns]


def vec_to_tril_matrix(vec: Tensor, diag: int = 0) -> Tensor:
    """The inverse of `tril_matrix_to_vec`: (…, elements) to (…, n, n)."""
    n = (-(1 + 2 * diag) + math.sqrt((1 + 2 * diag) ** 2 + 8 * vec.shape[-1] + 4 * abs(diag) * (diag + 1))) / 2
    if round(n) - n > fl.finfo(vec.dtype).eps:
        raise ValueError(f"The size of last dimension is {vec.shape[-1]} which cannot be expressed as "
                         "the lower triangular part of a square D x D matrix.")
    size = round(n)
    rows, columns = fl.tril_indices(size, size, offset=diag)
    mat = vec.new_zeros(vec.shape[:-1] + (size, size))
    mat[..., rows, columns] = vec
    return mat
