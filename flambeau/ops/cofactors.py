"""The cofactors of a matrix: the derivative of its determinant, defined for singular matrices as well."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core.dispatch import primitive
from flambeau.core.tensor import Tensor


def _factors(A: np.ndarray) -> tuple[Any, ...]:
    """U, S, Vh with A = U diag(S) Vh, and det(U) det(Vh), to be multiplied with matrices."""
    U, S, Vh = np.linalg.svd(A)
    return U, S, Vh, (np.linalg.det(U) * np.linalg.det(Vh))[..., None, None]


def _product_without_two(S: np.ndarray) -> np.ndarray:
    """P[i, j] = the product of all S but S[i] and S[j] for i != j; 0 on the diagonal. (..., n) -> (..., n, n)."""
    n = S.shape[-1]
    ones = np.ones((*S.shape[:-1], 1), S.dtype)
    before = np.concatenate([ones, np.cumprod(S, -1)[..., :-1]], -1)  # of all before i
    after = np.concatenate([ones, np.cumprod(S[..., ::-1], -1)[..., :-1]], -1)[..., ::-1]
    later = np.triu(np.ones((n, n), bool), 1)
    between = np.cumprod(np.where(later, S[..., None, :], 1), -1)
    between = np.concatenate([np.ones_like(between[..., :1]), between[..., :-1]], -1)  # of all after i and before j
    upper = np.where(later, before[..., :, None] * between * after[..., None, :], 0)
    return upper + upper.swapaxes(-1, -2)


@primitive("cofactors")
def cofactors(A: Any) -> Any:
    """d det(A) / dA[i, j], (..., n, n) -> (..., n, n). Singular matrices: from the singular value decomposition."""
    size = np.linalg.det(A)
    if (size != 0).all():
        return size[..., None, None].astype(A.dtype) * np.linalg.inv(A).swapaxes(-1, -2)
    U, S, Vh, turn = _factors(A)
    others = np.stack([np.prod(np.delete(S, i, -1), -1) for i in range(S.shape[-1])], -1)
    return (turn * np.matmul(np.conj(U) * others[..., None, :], np.conj(Vh))).astype(A.dtype)


@primitive("cofactors_backward", no_gradient="the determinant of a singular matrix is differentiated twice at most")
def _cofactors_backward(grad: Any, A: Any) -> Any:
    """The derivative by A of cofactors(A).

    Cofactors of a product are the product of cofactors, and those of U and Vh are known. At the diagonal matrix of
    singular values d cof[i, i] = P[i, j] dX[j, j] (summed over j) and d cof[i, j] = -P[i, j] dX[j, i].
    """
    if not A.size:
        return np.zeros_like(A)
    U, S, Vh, turn = _factors(A)
    P = _product_without_two(S)
    X = np.conj(turn) * (U.swapaxes(-1, -2) @ grad @ Vh.swapaxes(-1, -2))
    slope = -P * X.swapaxes(-1, -2)
    places = np.arange(S.shape[-1])
    slope[..., places, places] = (P @ X[..., places, places, None])[..., 0]
    return (U @ slope @ Vh).astype(A.dtype)


@cofactors.vjp
def _cofactors_vjp(grad: Tensor, A: Tensor) -> tuple[Tensor]:
    return (_cofactors_backward(grad, A),)
