"""Matrix factorisations with derivatives: Cholesky, QR, SVD, eigenvalues, LU.

Derivatives follow M. Giles, "An extended collection of matrix derivative results" (2008) and, for the gauge of complex
factors, the contract of torch.linalg. All take batches: the last two dimensions are the matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core import recording, return_types
from flambeau.core.dispatch import primitive
from flambeau.core.inplace import scalar_name
from flambeau.core.tensor import Tensor, computed, constant, wrap
from flambeau.ops.joining import cat
from flambeau.ops.matmul import matrix_product as mm
from flambeau.ops.matmul import mH
from flambeau.ops.pointwise import add, conj, div, mul, neg, real, sub, where
from flambeau.ops.rearranging import tril, triu
from flambeau.ops.shape import _slice, _unsqueeze


class _LinAlgError(RuntimeError):
    """A matrix that is singular, not positive-definite, or did not converge."""


LinAlgError = _LinAlgError  # the public name; PyTorch's class is called with the underscore, and prints so


def check_matrix(name: str, A: Any, *, square: bool = False) -> None:
    """Raise as PyTorch does unless `A` is a (batch of) floating point matrices, square if asked."""
    if not isinstance(A, Tensor):
        raise TypeError(f"linalg_{name}(): argument 'A' (position 1) must be Tensor, not {type(A).__name__}")
    if A._array.ndim < 2:
        raise RuntimeError(f"linalg.{name}: The input tensor A must have at least 2 dimensions.")
    if A._array.dtype.kind not in "fc" or A._array.dtype.itemsize < 4:
        raise RuntimeError(
            f"linalg.{name}: Low precision dtypes not supported. Got {scalar_name(A._array.dtype)}"
            if A._array.dtype.kind in "fV"
            else f"linalg.{name}: Expected a floating point or complex tensor as input. Got "
            f"{scalar_name(A._array.dtype)}"
        )
    if square and A._array.shape[-1] != A._array.shape[-2]:
        m, n = A._array.shape[-2:]
        raise RuntimeError(f"linalg.{name}: A must be batches of square matrices, but they are {m} by {n} matrices")


def guarded(name: str, run: Any) -> Any:
    """NumPy's LinAlgError as ours."""
    try:
        return run()
    except np.linalg.LinAlgError as error:
        raise LinAlgError(f"linalg.{name}: {error}") from None


def columns(x: Tensor, start: int, stop: int) -> Tensor:
    """A range of columns."""
    return _slice(x, dim=x._array.ndim - 1, start=start, stop=stop, step=1)


def rows(x: Tensor, start: int, stop: int) -> Tensor:
    """A range of rows."""
    return _slice(x, dim=x._array.ndim - 2, start=start, stop=stop, step=1)


def row_vector(x: Tensor) -> Tensor:
    """(..., n) -> (..., 1, n)."""
    return _unsqueeze(x, dim=x._array.ndim - 1)


def column_vector(x: Tensor) -> Tensor:
    """(..., n) -> (..., n, 1)."""
    return _unsqueeze(x, dim=x._array.ndim)


def eye_like(x: Tensor, n: int) -> Tensor:
    """The identity in the type of `x`."""
    return constant(np.eye(n, dtype=x._array.dtype))


@primitive("triangular_solve_kernel", grad_name="LinalgSolveTriangularBackward0")
def triangular(A: Any, B: Any, *, upper: bool, unit: bool) -> Any:
    """X with tri(A) X = B, by substitution over the whole batch at once."""
    n = A.shape[-1]
    shape = np.broadcast_shapes(A.shape[:-2], B.shape[:-2])
    X = np.array(np.broadcast_to(B, (*shape, *B.shape[-2:])))
    order = range(n - 1, -1, -1) if upper else range(n)
    for i in order:
        done = slice(i + 1, n) if upper else slice(0, i)
        if n:
            X[..., i, :] -= np.matmul(A[..., i : i + 1, done], X[..., done, :])[..., 0, :]
            if not unit:
                X[..., i, :] /= A[..., i, i][..., None]
    return X


@triangular.vjp
def _triangular_vjp(grad: Tensor, A: Tensor, out: Tensor, upper: bool, unit: bool, needs: Any) -> Any:
    to_B = triangular(mH(A), grad, upper=not upper, unit=unit)
    to_A = None
    if needs[0]:
        full = neg(mm(to_B, mH(out)))
        to_A = triu(full, 1 if unit else 0) if upper else tril(full, -1 if unit else 0)
    return to_A, to_B


@primitive("solve", grad_name="LinalgSolveExBackward0")
def solve_square(A: Any, B: Any) -> Any:
    """X with A X = B for matrices B; the batch dimensions broadcast."""
    return np.linalg.solve(A, B)


@solve_square.vjp
def _solve_vjp(grad: Tensor, A: Tensor, out: Tensor, needs: Any) -> Any:
    to_B = solve_square(mH(A), grad)
    return (neg(mm(to_B, mH(out))) if needs[0] else None), to_B


# ---- Cholesky ----------------------------------------------------------------------------------------------


@primitive("cholesky", grad_name="LinalgCholeskyExBackward0")
def _cholesky(A: Any) -> Any:
    return np.linalg.cholesky(np.tril(A) + np.conj(np.swapaxes(np.tril(A, -1), -1, -2)))


@_cholesky.vjp
def _cholesky_vjp(grad: Tensor, out: Tensor) -> Any:
    inner = tril(mm(mH(out), grad))
    half = sub(inner, mul(_diagonal_matrix(inner), 0.5))
    full = mul(add(half, mH(half)), 0.5)
    left = triangular(mH(out), full, upper=True, unit=False)
    return mH(triangular(mH(out), mH(left), upper=True, unit=False))


def _diagonal_matrix(x: Tensor) -> Tensor:
    return mul(x, eye_like(x, x._array.shape[-1]))


def cholesky(A: Tensor, *, upper: bool = False) -> Tensor:
    """Lower L with A = L Lᴴ (or upper with A = Uᴴ U). LinAlgError unless positive-definite."""
    check_matrix("cholesky", A, square=True)
    try:
        L = _cholesky(A)
    except np.linalg.LinAlgError:
        raise LinAlgError(
            "linalg.cholesky: The factorization could not be completed because the input is not positive-definite (the "
            "leading minor of some order is not positive-definite)."
        ) from None
    return mH(L) if upper else L


def cholesky_old(input: Tensor, upper: bool = False) -> Tensor:
    """The older signature of `linalg.cholesky`."""
    return cholesky(input, upper=upper)


def cholesky_ex(A: Tensor, *, upper: bool = False, check_errors: bool = False) -> Any:
    """(L, info): info is 0, or the order of the leading minor that is not positive-definite."""
    check_matrix("cholesky", A, square=True)
    try:
        L = cholesky(A, upper=upper)
        info = np.zeros(A._array.shape[:-2], np.int32)
    except LinAlgError:
        if check_errors:
            raise
        L, info = _cholesky_where_possible(A, upper)
    return return_types.TYPES["linalg_cholesky_ex"](L, wrap(info))


def _cholesky_where_possible(A: Tensor, upper: bool) -> tuple[Tensor, np.ndarray]:
    array = A._array
    out, info = np.zeros_like(array), np.zeros(array.shape[:-2], np.int32)
    for place in np.ndindex(array.shape[:-2]):
        for order in range(1, array.shape[-1] + 1):
            try:
                out[place][:order, :order] = np.linalg.cholesky(array[place][:order, :order])
            except np.linalg.LinAlgError:
                info[place] = order
                break
    L = wrap(out)
    return (mH(L) if upper else L), info


# ---- QR ----------------------------------------------------------------------------------------------------


@primitive("qr", outputs=2, grad_name="LinalgQrBackward0")
def _qr(A: Any, *, mode: str) -> Any:
    if mode == "r":
        return np.zeros((0,), A.dtype), np.linalg.qr(A, "r")
    Q, R = np.linalg.qr(A, mode)
    return np.ascontiguousarray(Q), np.ascontiguousarray(R)


@_qr.vjp
def _qr_vjp(grad: Any, out: Any, mode: str, shapes: Any) -> Any:
    m, n = shapes[0][-2:]
    if mode == "r":
        raise RuntimeError(
            "The derivative of linalg.qr depends on Q, which is not computed when mode='r'. Please use "
            "linalg.qr(A, mode='reduced') if you are going to require gradients through linalg.qr."
        )
    if mode == "complete" and m > n:
        raise RuntimeError("The QR decomposition is not differentiable when mode='complete' and nrows > ncols")
    gQ, gR = grad
    Q, R = out
    if m >= n:
        return (_qr_tall(gQ, gR, Q, R),)
    # Wide: A = Q [R1 R2]; R2 = Qᴴ A2 is a product, the rest is the square case.
    R1, gR1, gR2 = columns(R, 0, m), columns(gR, 0, m), columns(gR, m, n)
    R2 = columns(R, m, n)
    A2 = mm(Q, R2)
    to_A1 = _qr_tall(add(gQ, mm(A2, mH(gR2))), gR1, Q, R1)
    to_A2 = mm(Q, gR2)
    return (cat([to_A1, to_A2], -1),)


def _qr_tall(gQ: Tensor, gR: Tensor, Q: Tensor, R: Tensor) -> Tensor:
    M = sub(mm(R, mH(gR)), mm(mH(gQ), Q))
    lower = tril(M, -1)
    symmetric = add(add(lower, mH(lower)), _diagonal_matrix(real(M) if M.is_complex() else M).to(M.dtype))
    right = add(gQ, mm(Q, symmetric))  # X with X Rᴴ = right
    return mH(triangular(R, mH(right), upper=True, unit=False))


def qr(A: Tensor, mode: str = "reduced") -> Any:
    """(Q, R) with A = Q R; `mode` "reduced", "complete" or "r"."""
    check_matrix("qr", A)
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(
            f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), 'r', or 'complete'"
        )
    Q, R = _qr(A, mode=mode)
    return return_types.TYPES["linalg_qr"](Q, R)


def old_qr(input: Tensor, some: bool = True) -> Any:
    """The older name: `some=False` is mode "complete"."""
    return return_types.TYPES["qr"](*qr(input, "reduced" if some else "complete"))


# ---- SVD ---------------------------------------------------------------------------------------------------


@primitive("svd", outputs=3, grad_name="LinalgSvdBackward0")
def _svd(A: Any, *, full: bool) -> Any:
    U, S, Vh = guarded("svd", lambda: np.linalg.svd(A, full_matrices=full))
    return np.ascontiguousarray(U), S, np.ascontiguousarray(Vh)


def _arrived(grad: Tensor) -> bool:
    """Whether a gradient is more than the zeros that stand for none; these make terms that fail for equal values."""
    return grad._requires_grad or not recording.fixed(grad) or bool(grad._array.any())


@_svd.vjp
def _svd_vjp(grad: Any, out: Any, shapes: Any) -> Any:
    gU, gS, gVh = grad
    U, S, Vh = out
    m, n = shapes[0][-2:]
    k = min(m, n)
    U, gU = columns(U, 0, k), columns(gU, 0, k)
    Vh, gVh = rows(Vh, 0, k), rows(gVh, 0, k)
    inner = _diag_embed(gS.to(U.dtype) if U.is_complex() else gS)
    if not (_arrived(gU) or _arrived(gVh)):
        return (mm(mm(U, inner), Vh),)
    squares = mul(S, S)
    gap = sub(row_vector(squares), column_vector(squares))  # E_ij = s_j² - s_i²
    same = np.eye(k, dtype=bool)
    gap = where(constant(same), constant(np.ones((), S._array.dtype)), gap)
    UhgU = mm(mH(U), gU)
    VhgV = mm(Vh, mH(gVh))
    skewU, skewV = sub(UhgU, mH(UhgU)), sub(VhgV, mH(VhgV))
    inner = add(inner, div(add(mul(skewU, row_vector(S)), mul(skewV, column_vector(S))), gap))
    if U.is_complex():
        turn = mul(_diagonal_matrix(skewU), div(0.5, row_vector(S)))
        inner = add(inner, turn)
    result = mm(mm(U, inner), Vh)
    if m > k:
        outside = sub(gU, mm(U, UhgU))
        result = add(result, mm(div(outside, row_vector(S)), Vh))
    if n > k:
        outside = sub(gVh, mm(mH(VhgV), Vh))
        result = add(result, mm(U, div(outside, column_vector(S))))
    return (result,)


def _diag_embed(x: Tensor) -> Tensor:
    return mul(column_vector(x), eye_like(x, x._array.shape[-1]))


def svd(A: Tensor, full_matrices: bool = True, *, driver: str | None = None) -> Any:
    """(U, S, Vh) with A = U diag(S) Vh."""
    check_matrix("svd", A)
    return return_types.TYPES["linalg_svd"](*_svd(A, full=full_matrices))


def svdvals(A: Tensor, *, driver: str | None = None) -> Tensor:
    """The singular values, largest first."""
    check_matrix("svdvals", A)
    return _svd(A, full=False)[1]


def old_svd(input: Tensor, some: bool = True, compute_uv: bool = True) -> Any:
    """The older form: (U, S, V), V not transposed."""
    U, S, Vh = _svd(input, full=not some)
    if not compute_uv:
        m, n = input._array.shape[-2:]
        batch = input._array.shape[:-2]
        U = constant(np.zeros((*batch, m, m), input._array.dtype))
        return return_types.TYPES["svd"](U, S, constant(np.zeros((*batch, n, n), input._array.dtype)))
    return return_types.TYPES["svd"](U, S, mH(Vh))


# ---- eigenvalues ---------------------------------------------------------------------------------------------


@primitive("eigh", outputs=2, grad_name="LinalgEighBackward0")
def _eigh(A: Any, *, lower: bool) -> Any:
    values, vectors = guarded("eigh", lambda: np.linalg.eigh(A, "L" if lower else "U"))
    return values, np.ascontiguousarray(vectors)


@_eigh.vjp
def _eigh_vjp(grad: Any, out: Any) -> Any:
    gL, gV = grad
    L, V = out
    n = L._array.shape[-1]
    inner = _diag_embed(gL.to(V.dtype) if V.is_complex() else gL)
    if _arrived(gV):
        gap = sub(row_vector(L), column_vector(L))
        gap = where(constant(np.eye(n, dtype=bool)), constant(np.full((), np.inf, L._array.dtype)), gap)
        inner = add(inner, div(mm(mH(V), gV), gap))
    full = mm(mm(V, inner), mH(V))
    return (mul(add(full, mH(full)), 0.5),)


def eigh(A: Tensor, UPLO: str = "L") -> Any:
    """(eigenvalues ascending, eigenvectors) of Hermitian matrices, read from the lower or upper triangle."""
    check_matrix("eigh", A, square=True)
    if UPLO.upper() not in ("L", "U"):
        raise RuntimeError(f"Expected UPLO argument to be 'L' or 'U', but got {UPLO}")
    return return_types.TYPES["linalg_eigh"](*_eigh(A, lower=UPLO.upper() == "L"))


def eigvalsh(A: Tensor, UPLO: str = "L") -> Tensor:
    """The eigenvalues of Hermitian matrices, ascending."""
    return eigh(A, UPLO)[0]


@primitive("eig", outputs=2, grad_name="LinalgEigBackward0")
def _eig(A: Any) -> Any:
    values, vectors = guarded("eig", lambda: np.linalg.eig(A))
    kind = np.complex64 if A.dtype in (np.float32, np.complex64) else np.complex128
    return values.astype(kind), np.ascontiguousarray(vectors.astype(kind))


@_eig.vjp
def _eig_vjp(grad: Any, out: Any) -> Any:
    gL, gV = grad
    L, V = out
    inner = _diag_embed(gL)
    if _arrived(gV):
        n = L._array.shape[-1]
        gap = conj(sub(row_vector(L), column_vector(L)))
        gap = where(constant(np.eye(n, dtype=bool)), constant(np.full((), np.inf, L._array.dtype)), gap)
        VhgV = mm(mH(V), gV)
        along = _diagonal_matrix(real(VhgV).to(VhgV.dtype))
        inner = add(inner, div(sub(VhgV, mm(mm(mH(V), V), along)), gap))
    result = solve_square(mH(V), mm(inner, mH(V)))
    return (result,)


def eig(A: Tensor) -> Any:
    """(eigenvalues, eigenvectors) of square matrices, complex."""
    check_matrix("eig", A, square=True)
    return return_types.TYPES["linalg_eig"](*_eig(A))


def eigvals(A: Tensor) -> Tensor:
    """The eigenvalues of square matrices, complex."""
    check_matrix("eigvals", A, square=True)
    return _eig(A)[0]


# ---- LU ------------------------------------------------------------------------------------------------------


def lu_arrays(A: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gaussian elimination with partial pivoting over a batch: packed LU, pivots (LAPACK's, from 1), info."""
    LU = np.array(A)
    m, n = LU.shape[-2:]
    batch = LU.shape[:-2]
    flat = LU.reshape(int(np.prod(batch)), m, n)
    k = min(m, n)
    pivots = np.zeros((flat.shape[0], k), np.int32)
    info = np.zeros(flat.shape[0], np.int32)
    for b, a in enumerate(flat):
        for i in range(k):
            p = i + int(np.argmax(np.abs(a[i:, i])))
            pivots[b, i] = p + 1
            if p != i:
                a[[i, p]] = a[[p, i]]
            if a[i, i] == 0:
                info[b] = info[b] or i + 1
                continue
            a[i + 1 :, i] /= a[i, i]
            a[i + 1 :, i + 1 :] -= np.outer(a[i + 1 :, i], a[i, i + 1 :])
    return flat.reshape(LU.shape), pivots.reshape(*batch, k), info.reshape(batch)


def permutation_of(pivots: np.ndarray, m: int) -> np.ndarray:
    """Row order of P with A = P L U, from LAPACK's row exchanges."""
    flat = pivots.reshape(int(np.prod(pivots.shape[:-1])), pivots.shape[-1])
    order = np.tile(np.arange(m), (flat.shape[0], 1))
    for b, exchanges in enumerate(flat):
        for i, p in enumerate(exchanges):
            order[b, [i, p - 1]] = order[b, [p - 1, i]]
    return order.reshape(*pivots.shape[:-1], m)


def permutation_matrix(pivots: np.ndarray, m: int, dtype: Any) -> np.ndarray:
    """P with A = P L U."""
    order = permutation_of(pivots, m)
    return np.swapaxes(np.eye(m, dtype=dtype)[order], -1, -2)


@primitive("lu_factor", outputs=3, grad_name="LinalgLuFactorExBackward0")
def _lu_factor(A: Any) -> Any:
    return lu_arrays(A)


@_lu_factor.vjp
def _lu_factor_vjp(grad: Any, out: Any, shapes: Any) -> Any:
    LU, pivots, _ = out
    m, n = shapes[0][-2:]
    k = min(m, n)
    kind = LU._array.dtype
    P = computed(lambda order: permutation_matrix(order, m, kind), pivots)
    L = add(tril(columns(LU, 0, k), -1), constant(np.eye(m, k, dtype=LU._array.dtype)))
    U = triu(rows(LU, 0, k))
    gL, gU = tril(columns(grad[0], 0, k), -1), triu(rows(grad[0], 0, k))
    return (lu_gradient(gL, gU, P, L, U, m, n),)


def lu_gradient(gL: Tensor, gU: Tensor, P: Tensor, L: Tensor, U: Tensor, m: int, n: int) -> Tensor:
    """Gradient of A = P L U from those of L and U; the part outside the leading square block is a triangular solve."""
    k = min(m, n)
    L1, U1 = rows(L, 0, k), columns(U, 0, k)
    phiL, phiU = mm(mH(L1), rows(gL, 0, k)), mm(columns(gU, 0, k), mH(U1))
    if n > k:
        phiL = sub(phiL, mm(columns(gU, k, n), mH(columns(U, k, n))))
    if m > k:
        phiU = sub(phiU, mm(mH(rows(L, k, m)), rows(gL, k, m)))
    inner = add(tril(phiL, -1), triu(phiU))
    left = triangular(mH(L1), inner, upper=True, unit=True)
    block = mH(triangular(U1, mH(left), upper=True, unit=False))
    if n > k:
        block = cat([block, triangular(mH(L1), columns(gU, k, n), upper=True, unit=True)], -1)
    if m > k:
        below = mH(triangular(U1, mH(rows(gL, k, m)), upper=True, unit=False))
        block = cat([block, below], -2)
    return mm(P, block)


def lu_factor_ex(A: Tensor, *, pivot: bool = True, check_errors: bool = False) -> Any:
    """(LU packed, pivots from 1, info)."""
    check_matrix("lu_factor", A)
    LU, pivots, info = _lu_factor(A)
    if check_errors and info.any():
        raise LinAlgError(
            f"linalg.lu_factor_ex: U[{info._array.max()},{info._array.max()}] is zero and using it on lu_solve would "
            "result in a division by zero."
        )
    return return_types.TYPES["linalg_lu_factor_ex"](LU, pivots, info)


def lu_factor(A: Tensor, *, pivot: bool = True) -> Any:
    """(LU packed, pivots from 1)."""
    LU, pivots, _ = lu_factor_ex(A, pivot=pivot)
    return return_types.TYPES["linalg_lu_factor"](LU, pivots)


def old_lu(A: Tensor, pivot: bool = True, get_infos: bool = False) -> Any:
    """The older form of `lu_factor`."""
    LU, pivots, info = lu_factor_ex(A, pivot=pivot)
    return return_types.TYPES["linalg_lu_factor_ex"](LU, pivots, info) if get_infos else (LU, pivots)


def lu_unpack(LU_data: Tensor, LU_pivots: Tensor, unpack_data: bool = True, unpack_pivots: bool = True) -> Any:
    """(P, L, U) from the packed form."""
    if LU_pivots._array.dtype != np.int32:
        raise RuntimeError(
            "torch.lu_unpack: LU_pivots is expected to be a contiguous tensor of torch.int32 dtype.Note: this "
            "function is intended to be used with the output produced by torch.linalg.lu_factor"
        )
    m, n = LU_data._array.shape[-2:]
    k = min(m, n)
    empty = constant(np.zeros(0, LU_data._array.dtype))
    P = L = U = empty
    if unpack_pivots:
        kind = LU_data._array.dtype
        P = computed(lambda order: permutation_matrix(order, m, kind), LU_pivots)
    if unpack_data:
        L = add(tril(columns(LU_data, 0, k), -1), constant(np.eye(m, k, dtype=LU_data._array.dtype)))
        U = triu(rows(LU_data, 0, k))
    return return_types.TYPES["lu_unpack"](P, L, U)


def lu(A: Tensor, *, pivot: bool = True) -> Any:
    """(P, L, U) with A = P L U."""
    check_matrix("lu", A)
    LU, pivots = lu_factor(A)
    return return_types.TYPES["linalg_lu"](*lu_unpack(LU, pivots))
