"""Factors L D Lᴴ of symmetric and Hermitian matrices that need not be definite, with Bunch and Kaufman's pivots.

Source: J. Bunch, L. Kaufman, "Some stable methods for calculating inertia and solving symmetric linear systems",
Mathematics of Computation 31 (1977); the compact form and the meaning of the pivots are those of LAPACK's `sytrf`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flambeau.core import return_types
from flambeau.core.dispatch import primitive
from flambeau.core.tensor import Tensor
from flambeau.ops.decompositions import LinAlgError, check_matrix

ALPHA = (1 + math.sqrt(17)) / 8


def _size(values: Any) -> Any:
    """|Re| + |Im|: LAPACK's cheap measure of complex numbers."""
    return np.abs(values.real) + np.abs(values.imag) if values.dtype.kind == "c" else np.abs(values)


def _pivot(A: np.ndarray, k: int) -> tuple[int, int]:
    """The row to exchange at step k and the size of the pivot block, 1 or 2; a block of 0 for a column of zeros."""
    here = _size(A[k, k])
    if k == len(A) - 1:
        return k, int(here != 0)
    other = k + 1 + int(np.argmax(_size(A[k + 1 :, k])))
    column = _size(A[other, k])
    if here == 0 and column == 0:
        return k, 0
    if here >= ALPHA * column:
        return k, 1
    row = max(_size(A[other, k:other]).max(), _size(A[other + 1 :, other]).max(initial=0))
    if here >= ALPHA * column * (column / row):
        return k, 1
    return (other, 1) if _size(A[other, other]) >= ALPHA * row else (other, 2)


def _exchange(A: np.ndarray, kk: int, kp: int, conj: Any) -> None:
    """Swap rows and columns kk < kp of the trailing matrix, of which only the lower triangle is stored."""
    A[kp + 1 :, [kk, kp]] = A[kp + 1 :, [kp, kk]]
    middle = conj(A[kk + 1 : kp, kk]).copy()
    A[kk + 1 : kp, kk] = conj(A[kp, kk + 1 : kp])
    A[kp, kk + 1 : kp] = middle
    A[kp, kk] = conj(A[kp, kk])
    A[kk, kk], A[kp, kp] = A[kp, kp], A[kk, kk]


def _factor(A: np.ndarray, hermitian: bool) -> tuple[np.ndarray, int]:
    """Factor one matrix in place; the pivots and the first zero on the diagonal, counted from 1 (0: none)."""
    n, info, k = len(A), 0, 0
    conj = np.conj if hermitian else np.asarray
    pivots = np.zeros(n, np.int32)
    while k < n:
        kp, block = _pivot(A, k)
        if block == 0:
            info = info or k + 1
        kk = k + max(block, 1) - 1
        if kp != kk:
            _exchange(A, kk, kp, conj)
            if block == 2:
                A[k + 1, k], A[kp, k] = A[kp, k], A[k + 1, k]
        if block == 1:
            pivots[k] = kp + 1
            below = A[k + 1 :, k].copy()
            A[k + 1 :, k] /= A[k, k]
            A[k + 1 :, k + 1 :] -= np.tril(np.outer(A[k + 1 :, k], conj(below)))
        elif block == 2:
            pivots[k : k + 2] = -(kp + 1)
            below = A[k + 2 :, k : k + 2].copy()
            D = np.array([[A[k, k], conj(A[k + 1, k])], [A[k + 1, k], A[k + 1, k + 1]]])
            A[k + 2 :, k : k + 2] = np.linalg.solve(D.T, below.T).T
            A[k + 2 :, k + 2 :] -= np.tril(A[k + 2 :, k : k + 2] @ conj(below).T)
        else:
            pivots[k] = kp + 1
        if hermitian and A.dtype.kind == "c":
            span = np.arange(k, min(k + max(block, 1), n))
            A[span, span] = A[span, span].real
        k += max(block, 1)
    return pivots, info


@primitive("ldl_factor", outputs=3, no_gradient="not differentiable in PyTorch")
def _ldl_factor(A: Any, *, hermitian: bool) -> Any:
    LD = np.tril(A)
    flat = LD.reshape(math.prod(A.shape[:-2]), *A.shape[-2:])
    found = [_factor(matrix, hermitian) for matrix in flat]
    pivots = np.array([p for p, _ in found], np.int32).reshape(A.shape[:-1])
    return LD, pivots, np.array([i for _, i in found], np.int32).reshape(A.shape[:-2])


def ldl_factor_ex(A: Tensor, *, hermitian: bool = False, check_errors: bool = False) -> Any:
    """(LD, pivots, info): like `ldl_factor`, but a zero pivot is told in `info` (its position, from 1; 0 if none)."""
    check_matrix("ldl_factor_ex", A, square=True)
    out = _ldl_factor(A, hermitian=hermitian)
    if check_errors:
        _check(out[2])
    return return_types.TYPES["linalg_ldl_factor_ex"](*out)


def ldl_factor(A: Tensor, *, hermitian: bool = False) -> Any:
    """(LD, pivots) of (..., n, n), of which the lower triangle is read; L is unit lower, D has blocks of 1 and 2.

    LinAlgError (a RuntimeError) when D is singular.
    """
    check_matrix("ldl_factor", A, square=True)
    LD, pivots, info = _ldl_factor(A, hermitian=hermitian)
    _check(info)
    return return_types.TYPES["linalg_ldl_factor"](LD, pivots)


def _check(info: Tensor) -> None:
    if info.any():
        raise LinAlgError(f"torch.linalg.ldl_factor: D is singular: its entry {info._array.max()} is zero")


def _solve_one(LD: np.ndarray, pivots: np.ndarray, B: np.ndarray, hermitian: bool) -> None:
    """Overwrite B with the solution: down through L and D, then up through Lᴴ."""
    n, k = len(LD), 0
    conj = np.conj if hermitian else np.asarray
    starts = []
    while k < n:
        block = 1 if pivots[k] > 0 else 2
        kp, end = abs(int(pivots[k])) - 1, k + block
        B[[end - 1, kp]] = B[[kp, end - 1]]
        B[end:] -= LD[end:, k:end] @ B[k:end]
        if block == 1:
            B[k] /= LD[k, k]
        else:
            D = np.array([[LD[k, k], conj(LD[k + 1, k])], [LD[k + 1, k], LD[k + 1, k + 1]]])
            B[k:end] = np.linalg.solve(D, B[k:end])
        starts.append((k, end, kp))
        k = end
    for k, end, kp in reversed(starts):
        B[k:end] -= conj(LD[end:, k:end]).T @ B[end:]
        B[[end - 1, kp]] = B[[kp, end - 1]]


@primitive("ldl_solve", no_gradient="not differentiable in PyTorch")
def _ldl_solve(LD: Any, pivots: Any, B: Any, *, hermitian: bool) -> Any:
    batch = np.broadcast_shapes(LD.shape[:-2], B.shape[:-2])
    out = np.array(np.broadcast_to(B, batch + B.shape[-2:]))
    n, count = LD.shape[-1], math.prod(batch)
    matrices = np.broadcast_to(LD, batch + LD.shape[-2:]).reshape(count, n, n)
    orders = np.broadcast_to(pivots, (*batch, n)).reshape(count, n)
    for matrix, order, right in zip(matrices, orders, out.reshape(count, *B.shape[-2:])):
        _solve_one(matrix, order, right, hermitian)
    return out


def ldl_solve(LD: Tensor, pivots: Tensor, B: Tensor, *, hermitian: bool = False) -> Tensor:
    """X with A X = B, given `ldl_factor` of A: (..., n, n), (..., n) and (..., n, k) give (..., n, k)."""
    check_matrix("ldl_solve", LD, square=True)
    if B._array.ndim < 2:
        raise RuntimeError(
            f"torch.linalg.ldl_solve: Expected B to have at least 2 dimensions, but it has {B._array.ndim} dimensions "
            "instead"
        )
    if B._array.shape[-2] != LD._array.shape[-2]:
        raise RuntimeError(
            f"torch.linalg.ldl_solve: Expected LD.size(-2) and B.size(-2) to be equal, got {LD._array.shape[-2]} and "
            f"{B._array.shape[-2]}"
        )
    if pivots._array.shape != LD._array.shape[:-1]:
        raise RuntimeError(
            "torch.linalg.ldl_solve: Expected LD.shape[:-1] and pivots.shape to be the same, but got pivots with shape "
            f"{list(pivots._array.shape)}"
        )
    if pivots._array.dtype.kind not in "iu":
        raise RuntimeError(f"torch.linalg.ldl_solve: Expected pivots to be integers. Got {pivots.dtype}")
    if LD._array.dtype != B._array.dtype:
        raise RuntimeError(f"torch.linalg.ldl_solve: LD and B should have the same type, got {LD.dtype} and {B.dtype}")
    return _ldl_solve(LD, pivots, B, hermitian=hermitian)
