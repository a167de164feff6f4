"""Approximate decompositions of large matrices from their action on a few random vectors.

Source: N. Halko, P. Martinsson, J. Tropp, "Finding structure with randomness: probabilistic algorithms for constructing
approximate matrix decompositions", SIAM Review 53 (2011), algorithms 4.4 and 5.1.
"""

from __future__ import annotations

from typing import Any

from flambeau.core import dtype as dtypes
from flambeau.core.tensor import Tensor
from flambeau.ops.decompositions import qr, svd
from flambeau.ops.matmul import matmul
from flambeau.ops.pointwise import sub
from flambeau.ops.random import randn
from flambeau.ops.reductions import mean
from flambeau.ops.reshaping import broadcast_to

__all__ = ["pca_lowrank", "svd_lowrank"]


def _range_finder(A: Tensor, q: int, niter: int, M: Tensor | None) -> Tensor:
    """Orthonormal columns that nearly span the range of A - M: (..., m, q)."""

    def along(X: Tensor, mean: Tensor | None, by: Tensor) -> Tensor:
        return matmul(X, by) if mean is None else sub(matmul(X, by), matmul(mean, by))

    Q = qr(along(A, M, randn(A._array.shape[-1], q, dtype=A.dtype))).Q
    for _ in range(niter):
        Q = qr(along(A.mH, None if M is None else M.mH, Q)).Q
        Q = qr(along(A, M, Q)).Q
    return Q


def svd_lowrank(A: Tensor, q: int | None = 6, niter: int | None = 2, M: Tensor | None = None) -> Any:
    """(U, S, V) with U diag(S) Vᴴ close to A - M: (..., m, q), (..., q) and (..., n, q), after `niter` power steps."""
    q, niter = 6 if q is None else q, 2 if niter is None else niter
    M = None if M is None else broadcast_to(M, A._array.shape)
    wide = A._array.shape[-2] < A._array.shape[-1]
    if wide:
        A, M = A.mH, None if M is None else M.mH
    Q = _range_finder(A, q, niter, M)
    B = matmul(Q.mH, A) if M is None else sub(matmul(Q.mH, A), matmul(Q.mH, M))
    U, S, Vh = svd(B, full_matrices=False)
    U, V = matmul(Q, U), Vh.mH
    return (V, S, U) if wide else (U, S, V)


def pca_lowrank(A: Tensor, q: int | None = None, center: bool = True, niter: int = 2) -> Any:
    """The q principal components of the rows of A, as `svd_lowrank` of A without its mean row (unless not `center`).

    ValueError for a q beyond the smaller size or a negative `niter`.
    """
    m, n = A._array.shape[-2:]
    if q is None:
        q = min(6, m, n)
    elif not 0 <= q <= min(m, n):
        raise ValueError(f"q(={q}) must be non-negative integer and not greater than min(m, n)={min(m, n)}")
    if niter < 0:
        raise ValueError(f"niter(={niter}) must be non-negative integer")
    A = A if A.dtype.category >= dtypes.FLOAT else A.to(dtypes.default_dtype())
    return svd_lowrank(sub(A, mean(A, (-2,), True)) if center else A, q, niter)
