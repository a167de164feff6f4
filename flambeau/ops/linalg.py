"""Linear algebra on top of the factorisations: solving, inverting, determinants, powers, least squares."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core import recording, return_types
from flambeau.core.dispatch import primitive
from flambeau.core.modes import modes
from flambeau.core.tensor import Tensor, computed, constant, wrap, wrap_dim
from flambeau.ops.cofactors import cofactors
from flambeau.ops.decompositions import (
    LinAlgError,
    check_matrix,
    lu_arrays,
    lu_unpack,
    solve_square,
    svdvals,
    triangular,
)
from flambeau.ops.joining import stack
from flambeau.ops.matmul import matrix_product as mm
from flambeau.ops.matmul import mH, mT
from flambeau.ops.norms import matrix_norm
from flambeau.ops.pointwise import add, conj, div, log, mul, neg, real, sub, where
from flambeau.ops.rearranging import triu
from flambeau.ops.reductions import sum as sum_
from flambeau.ops.shape import _slice, _squeeze, _unsqueeze, diagonal, reshape

SINGULAR = "The solver failed because the input matrix is singular."


def _same_type(name: str, A: Tensor, B: Tensor) -> None:
    if A._array.dtype != B._array.dtype:
        raise RuntimeError(
            f"linalg.{name}: Expected A and B to have the same dtype, but found A of type {A.dtype} and B of type "
            f"{B.dtype} instead"
        )


def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """X with A X = B (or X A = B with left=False); B may be a (batch of) vectors. LinAlgError for a singular A."""
    check_matrix("solve", A, square=True)
    _same_type("solve", A, B)
    a, b = A._array.shape, B._array.shape
    vector = len(b) == 1 or (len(a) - 1 == len(b) and b == a[:-1])
    if vector:
        if b[-1] != a[-1]:
            raise RuntimeError(
                f"linalg.solve: Incompatible shapes of A and B for the equation AX = B ({a[-2]}x{a[-1]} and {b[-1]}x1)"
            )
        if not left:
            raise RuntimeError(
                "linalg.solve: Vector broadcasting of the left hand side is not supported for left=False."
            )
        X = _solved(A, _unsqueeze(B, dim=len(b)))
        return _squeeze(X, dims=(X._array.ndim - 1,))
    if (b[-2] if left else b[-1]) != a[-1]:
        raise RuntimeError(
            f"linalg.solve: Incompatible shapes of A and B for the equation {'AX = B' if left else 'XA = B'} "
            f"({a[-2]}x{a[-1]} and {b[-2]}x{b[-1]})"
        )
    return _solved(A, B) if left else mT(_solved(mT(A), mT(B)))


def _solved(A: Tensor, B: Tensor) -> Tensor:
    try:
        return solve_square(A, B)
    except np.linalg.LinAlgError:
        raise LinAlgError(f"torch.linalg.solve: {SINGULAR}") from None


def solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False) -> Any:
    """(X, info): info is not 0 where A is singular."""
    recording.read(A)
    info = wrap(lu_arrays(A._array)[2])
    if check_errors or not info._array.any():
        return return_types.TYPES["linalg_solve_ex"](solve(A, B, left=left), info)
    return return_types.TYPES["linalg_solve_ex"](constant(np.full(B._array.shape, np.nan, B._array.dtype)), info)


def solve_triangular(A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Tensor:
    """X with A X = B (or X A = B) for a triangular A; the other triangle is not read."""
    check_matrix("solve_triangular", A, square=True)
    if left:
        return triangular(A, B, upper=upper, unit=unitriangular)
    return mT(triangular(mT(A), mT(B), upper=not upper, unit=unitriangular))


def triangular_solve(
    b: Tensor, A: Tensor, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> Any:
    """The older form of `solve_triangular`: (solution, copy of A)."""
    matrix, up = (mT(A), not upper) if transpose else (A, upper)
    X = triangular(matrix, b, upper=up, unit=unitriangular)
    return return_types.TYPES["triangular_solve"](X, A.clone())


# ---- inverses -------------------------------------------------------------------------------------------------


@primitive("inverse", grad_name="LinalgInvExBackward0")
def _inverse(A: Any) -> Any:
    return np.linalg.inv(A)


_inverse.vjp(A=lambda grad, out: neg(mm(mm(mH(out), grad), mH(out))))


def inv(A: Tensor) -> Tensor:
    """The inverse. LinAlgError for a singular matrix."""
    check_matrix("inv", A, square=True)
    try:
        return _inverse(A)
    except np.linalg.LinAlgError:
        raise LinAlgError(
            "linalg.inv: The diagonal element 1 is zero, the inversion could not be completed because the input matrix "
            "is singular."
        ) from None


def inv_ex(A: Tensor, *, check_errors: bool = False) -> Any:
    """(inverse, info): info is not 0 for a singular matrix."""
    check_matrix("inv", A, square=True)
    recording.read(A)
    info = wrap(lu_arrays(A._array)[2])
    if check_errors or not info._array.any():
        return return_types.TYPES["linalg_inv_ex"](inv(A), info)
    return return_types.TYPES["linalg_inv_ex"](constant(np.full(A._array.shape, np.inf, A._array.dtype)), info)


@primitive("pinv", grad_name="LinalgPinvBackward0")
def _pinv(A: Any, rcond: Any, atol: Any, *, hermitian: bool) -> Any:
    if 0 in A.shape:
        return np.zeros((*A.shape[:-2], A.shape[-1], A.shape[-2]), A.dtype)
    if hermitian:
        values, V = np.linalg.eigh(A)
        size = np.abs(values)
        keep = size > np.maximum(rcond * size.max(-1, keepdims=True), atol)
        inverse = np.where(keep, 1 / np.where(keep, values, 1), 0)
        return np.matmul(V * inverse[..., None, :], np.conj(np.swapaxes(V, -1, -2))).astype(A.dtype)
    U, S, Vh = np.linalg.svd(A, full_matrices=False)
    keep = S > np.maximum(rcond * S[..., :1], atol)
    inverse = np.where(keep, 1 / np.where(keep, S, 1), 0)
    left = np.conj(np.swapaxes(Vh, -1, -2)) * inverse[..., None, :]
    return np.matmul(left, np.conj(np.swapaxes(U, -1, -2))).astype(A.dtype)


@_pinv.vjp
def _pinv_vjp(grad: Tensor, A: Tensor, out: Tensor) -> Any:
    """Golub & Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems" (1973)."""
    P, Ph, g = out, mH(out), mH(grad)
    m, n = A._array.shape[-2:]
    if m <= n:
        K = mm(g, P)
        KP = mm(K, Ph)
        result = add(sub(sub(KP, mH(mm(P, K))), mm(mm(A, P), KP)), mm(mm(Ph, P), sub(g, mm(K, A))))
    else:
        K = mm(P, g)
        PK = mm(Ph, K)
        result = add(add(neg(mH(mm(K, P))), mm(mm(sub(g, mm(A, K)), P), Ph)), sub(PK, mm(mm(PK, P), A)))
    return result, None, None


def pinv(A: Tensor, rcond: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None) -> Tensor:
    """Moore-Penrose inverse; singular values below max(atol, rtol · largest) count as zero."""
    check_matrix("pinv", A, square=hermitian)
    relative, absolute = _tolerances(A, atol, rcond if rcond is not None else rtol)
    return _pinv(A, constant(relative), constant(absolute), hermitian=hermitian)


def _tolerances(A: Tensor, atol: Any, rtol: Any) -> tuple[np.ndarray, np.ndarray]:
    """Relative and absolute threshold as arrays that broadcast against (..., k)."""
    real_type = A._array.real.dtype
    absolute = np.zeros((), real_type) if atol is None else _threshold(atol, real_type)
    if rtol is None:
        default = np.finfo(real_type).eps * max(A._array.shape[-2:])
        relative = (
            np.where(absolute > 0, 0.0, default).astype(real_type) if atol is not None else np.array(default, real_type)
        )
    else:
        relative = _threshold(rtol, real_type)
    return relative, absolute


def _threshold(value: Any, dtype: Any) -> np.ndarray:
    if isinstance(value, Tensor):
        recording.read(value)
    array = value._array if isinstance(value, Tensor) else np.asarray(value)
    return np.asarray(array, dtype)[..., None] if array.ndim else np.asarray(array, dtype)


# ---- determinants ---------------------------------------------------------------------------------------------


@primitive("det", grad_name="LinalgDetBackward0")
def _det(A: Any) -> Any:
    return np.linalg.det(A)


@_det.vjp
def _det_vjp(grad: Tensor, A: Tensor, out: Tensor) -> Any:
    scale = reshape(grad, (*out._array.shape, 1, 1))
    if modes.grad and recording.recorder is None and _is_regular(A._array, out._array):
        return mul(mul(scale, reshape(conj(out), scale._array.shape)), mH(_inverse(A)))
    return mul(scale, conj(cofactors(A)))


def _is_regular(A: Any, size: Any) -> bool:
    """Whether all determinants are large enough beside Hadamard's bound for derivatives of any order by the inverse."""
    bound = np.prod(np.linalg.norm(A, axis=-1), -1)
    return bool((np.abs(size) > np.finfo(A.dtype).eps ** 0.5 * bound).all())


def det(A: Tensor) -> Tensor:
    """The determinant."""
    check_matrix("det", A, square=True)
    return _det(A)


@primitive("slogdet", outputs=2, grad_name="LinalgSlogdetBackward0")
def _slogdet(A: Any) -> Any:
    sign, value = np.linalg.slogdet(A)
    return np.asarray(sign, A.dtype), np.asarray(value, A.real.dtype)


@_slogdet.vjp
def _slogdet_vjp(grad: Any, A: Tensor, out0: Tensor) -> Any:
    g_sign, g_value = grad
    batch = (*out0._array.shape, 1, 1)
    scale = reshape(g_value.to(A.dtype) if A.is_complex() else g_value, batch)
    if A.is_complex():
        turned = mul(conj(out0), g_sign)
        scale = add(scale, reshape(mul(turned.imag.to(A.dtype), -1j), batch))
    return (mul(scale, mH(_inverse(A))),)


def slogdet(A: Tensor) -> Any:
    """(sign, log|det|)."""
    check_matrix("slogdet", A, square=True)
    return return_types.TYPES["linalg_slogdet"](*_slogdet(A))


def logdet(input: Tensor) -> Tensor:
    """log of the determinant: nan where it is negative, -inf where it is 0."""
    check_matrix("slogdet", input, square=True)
    sign, value = _slogdet(input)
    if input.is_complex():
        return add(value, log(sign))
    return where(sign == -1.0, constant(np.array(np.nan, value._array.dtype)), value)


# ---- least squares, rank, condition ---------------------------------------------------------------------------


def lstsq(A: Tensor, B: Tensor, rcond: float | None = None, *, driver: str | None = None) -> Any:
    """(solution, residuals, rank, singular values) of min ‖A X - B‖."""
    check_matrix("lstsq", A)
    _same_type("lstsq", A, B)
    m, n = A._array.shape[-2:]
    vector = B._array.ndim == A._array.ndim - 1 and B._array.ndim >= 1 and B._array.shape == A._array.shape[:-1]
    right = _unsqueeze(B, dim=B._array.ndim) if vector else B
    if right._array.shape[-2] != m:
        raise RuntimeError(f"torch.linalg.lstsq: input.size(-2) should match other.size(-{1 if vector else 2})")
    X = mm(pinv(A, rtol=rcond), right)
    flat = reshape(real(A) if A.is_complex() else A, (-1,))
    empty = _slice(flat, dim=0, start=0, stop=0, step=1)  # residuals that were not asked for still belong to the graph
    residuals = empty
    if m > n and driver not in (None, "gelsy"):
        gap = sub(mm(A, X), right)
        recording.read(A)
        full = np.linalg.matrix_rank(A._array) == n
        if np.all(full):
            residuals = sum_(real(mul(gap, conj(gap))) if gap.is_complex() else mul(gap, gap), -2)
    rank = constant(np.zeros(0, np.int64))
    values = constant(np.zeros(0, flat._array.dtype))
    if driver != "gels":
        rank = computed(lambda A: np.asarray(np.linalg.matrix_rank(A), np.int64), A)
    if driver in ("gelsd", "gelss"):
        values = svdvals(A.detach())
    if vector:
        X = _squeeze(X, dims=(X._array.ndim - 1,))
    return return_types.TYPES["linalg_lstsq"](X, residuals, rank, values)


def matrix_rank(A: Tensor, tol: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None) -> Tensor:
    """How many singular values exceed max(atol, rtol · largest)."""
    check_matrix("matrix_rank", A, square=hermitian)
    relative, absolute = _tolerances(A, tol if tol is not None else atol, 0.0 if tol is not None else rtol)
    if 0 in A._array.shape[-2:]:
        return constant(np.zeros(A._array.shape[:-2], np.int64))

    def count(A: Any) -> Any:
        S = np.abs(np.linalg.eigvalsh(A)) if hermitian else np.linalg.svd(A, compute_uv=False)
        limit = np.maximum(relative * S.max(-1, keepdims=True), absolute)
        return np.asarray((limit < S).sum(-1), np.int64)

    return computed(count, A)


def cond(A: Tensor, p: Any = None) -> Tensor:
    """Condition number in a norm: the ratio of extreme singular values by default."""
    check_matrix("cond", A)
    if p is None or p in (2, -2):
        S = svdvals(A)
        k = S._array.shape[-1]
        if k == 0:
            return constant(np.zeros(A._array.shape[:-2], S._array.dtype))
        first, last = S.select(-1, 0), S.select(-1, k - 1)
        return div(last, first) if p == -2 else div(first, last)
    check_matrix("cond", A, square=True)
    try:
        inverse = _inverse(A)
    except np.linalg.LinAlgError:
        return constant(np.full(A._array.shape[:-2], np.inf, A._array.real.dtype))
    return mul(matrix_norm(A, p), matrix_norm(inverse, p))


# ---- products ------------------------------------------------------------------------------------------------


def multi_dot(tensors: Any) -> Tensor:
    """Product of several matrices in the cheapest order; the first and last may be vectors."""
    if len(tensors) < 2:
        raise RuntimeError(f"multi_dot(): expected at least 2 tensors but got {len(tensors)}")
    parts = list(tensors)
    first, last = parts[0]._array.ndim == 1, parts[-1]._array.ndim == 1
    if first:
        parts[0] = _unsqueeze(parts[0], dim=0)
    if last:
        parts[-1] = _unsqueeze(parts[-1], dim=1)
    for i, p in enumerate(parts):
        if p._array.ndim != 2:
            raise RuntimeError(f"multi_dot(): tensor {i} must be 2D but got {p._array.ndim}D")
        if p._array.dtype != parts[0]._array.dtype:
            raise RuntimeError(
                f"multi_dot(): all tensors must have be the same dtype but tensor 0 is {parts[0].dtype} and tensor {i} "
                f"{p.dtype}"
            )
        if i and parts[i - 1]._array.shape[1] != p._array.shape[0]:
            raise RuntimeError(
                f"multi_dot(): tensors {i - 1} and {i} with shapes {list(parts[i - 1]._array.shape)} and "
                f"{list(p._array.shape)} cannot be multiplied"
            )
    sizes = [p._array.shape[0] for p in parts] + [parts[-1]._array.shape[1]]
    n = len(parts)
    cost = [[0] * n for _ in range(n)]
    cut = [[0] * n for _ in range(n)]
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            options = [(cost[i][k] + cost[k + 1][j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k) for k in range(i, j)]
            cost[i][j], cut[i][j] = min(options)

    def product(i: int, j: int) -> Tensor:
        return parts[i] if i == j else mm(product(i, cut[i][j]), product(cut[i][j] + 1, j))

    out = product(0, n - 1)
    if first:
        out = _squeeze(out, dims=(0,))
    return _squeeze(out, dims=(out._array.ndim - 1,)) if last else out


def cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """Cross product of vectors of three along `dim`."""
    if input._array.ndim != other._array.ndim:
        raise RuntimeError("linalg.cross: inputs must have the same number of dimensions.")
    d = wrap_dim(dim, input._array.ndim)
    if input._array.shape[d] != 3 or other._array.shape[d] != 3:
        raise RuntimeError(
            f"linalg.cross: inputs dimension {dim} must have length 3. Got {input._array.shape[d]} and "
            f"{other._array.shape[d]}"
        )
    a, b = ([x.select(d, i) for i in range(3)] for x in (input, other))
    parts = [sub(mul(a[i], b[j]), mul(a[j], b[i])) for i, j in ((1, 2), (2, 0), (0, 1))]
    out_ndim = parts[0]._array.ndim
    return stack(parts, d if d <= out_ndim else out_ndim)


def old_cross(input: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """`linalg.cross` along the first dimension of size 3 unless `dim` is given."""
    if dim is None:
        shape = input._array.shape
        if 3 not in shape:
            raise RuntimeError("no dimension of size 3 in input")
        dim = shape.index(3)
    return cross(input, other, dim=dim)


def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """Sum of conj(x) · y along `dim`."""
    if x._array.dtype.kind not in "fcV":
        return sum_(mul(x, y), dim)
    return sum_(mul(conj(x), y), dim)


def vander(x: Tensor, N: int | None = None) -> Tensor:
    """Rows 1, x, x², …, x^(N-1)."""
    if N is not None and N <= 1:
        raise RuntimeError(f"N must be greater than 1, got {N}.")
    x = reshape(x, (1,)) if x._array.ndim == 0 else x
    n = N if N is not None else x._array.shape[-1]
    x = x.to(dtypes.int64) if x._array.dtype.kind in "b" else x
    if x._array.dtype.kind in "iu":
        return wrap(np.asarray(x._array.astype(np.int64)[..., None] ** np.arange(n), np.int64))
    powers = [constant(np.ones(x._array.shape, x._array.dtype))]
    for _ in range(n - 1):
        powers.append(mul(powers[-1], x))
    return stack(powers[:n], -1)


# ---- with factors at hand ---------------------------------------------------------------------------------------


def _cholesky_solved(L: Any, B: Any, upper: bool) -> Any:
    lower = np.conj(np.swapaxes(L, -1, -2)) if upper else L
    Y = triangular.op.kernel(lower, B, upper=False, unit=False)
    return triangular.op.kernel(np.conj(np.swapaxes(lower, -1, -2)), Y, upper=True, unit=False)


@primitive("cholesky_solve")
def _cholesky_solve(L: Any, B: Any, *, upper: bool) -> Any:
    return _cholesky_solved(L, B, upper)


@_cholesky_solve.vjp
def _cholesky_solve_vjp(grad: Tensor, L: Tensor, out: Tensor, upper: bool, needs: Any) -> Any:
    to_B = _cholesky_solve(L, grad, upper=upper)
    to_L = None
    if needs[0]:
        half = mm(to_B, mH(out))
        both = add(half, mH(half))
        to_L = neg(mm(L, both) if upper else mm(both, L))
    return to_L, to_B


def cholesky_solve(B: Tensor, L: Tensor, upper: bool = False) -> Tensor:
    """X with A X = B, given the Cholesky factor of A."""
    return _cholesky_solve(L, B, upper=upper)


@primitive("cholesky_inverse")
def _cholesky_inverse(L: Any, *, upper: bool) -> Any:
    eye = np.broadcast_to(np.eye(L.shape[-1], dtype=L.dtype), L.shape)
    return _cholesky_solved(L, eye, upper)


@_cholesky_inverse.vjp
def _cholesky_inverse_vjp(grad: Tensor, L: Tensor, out: Tensor, upper: bool) -> Any:
    both = mm(mm(out, add(grad, mH(grad))), out)
    return neg(mm(L, both) if upper else mm(both, L))


def cholesky_inverse(L: Tensor, upper: bool = False) -> Tensor:
    """The inverse of A, given its Cholesky factor."""
    if L._array.ndim < 2 or L._array.shape[-1] != L._array.shape[-2]:
        raise RuntimeError("cholesky_inverse: A must be batches of square matrices")
    return _cholesky_inverse(L, upper=upper)


def lu_solve(LU: Tensor, pivots: Tensor, B: Tensor, *, left: bool = True, adjoint: bool = False) -> Tensor:
    """X with A X = B (X A = B, Aᴴ X = B), given `lu_factor` of A."""
    if not left:
        return mH(lu_solve(LU, pivots, mH(B), left=True, adjoint=not adjoint))
    P, _, _ = lu_unpack(LU, pivots, unpack_data=False)
    if adjoint:
        Y = triangular(mH(triu(LU)), B, upper=False, unit=False)
        return mm(P, triangular(mH(LU), Y, upper=True, unit=True))
    Y = triangular(LU, mm(mT(P), B), upper=False, unit=True)
    return triangular(LU, Y, upper=True, unit=False)


def old_lu_solve(b: Tensor, LU_data: Tensor, LU_pivots: Tensor) -> Tensor:
    """The older order of arguments of `linalg.lu_solve`."""
    return lu_solve(LU_data, LU_pivots, b)


# ---- tensors as matrices ----------------------------------------------------------------------------------------


def tensorinv(A: Tensor, ind: int = 2) -> Tensor:
    """Inverse of a tensor seen as a matrix from its last to its first `ind` dimensions."""
    if ind <= 0:
        raise RuntimeError("Expected a strictly positive integer for 'ind'")
    shape = A._array.shape
    head, tail = shape[:ind], shape[ind:]
    n = int(np.prod(head))
    if n != int(np.prod(tail)):
        raise RuntimeError(
            f"Expected self to satisfy the requirement prod(self.shape[ind:]) == prod(self.shape[:ind]), but got "
            f"{int(np.prod(tail))} "
            f"!= {n}"
        )
    return reshape(inv(reshape(A, (n, n))), (*tail, *head))


def tensorsolve(A: Tensor, B: Tensor, dims: Any = None) -> Tensor:
    """X with tensordot(A, X, dims=X.ndim) = B."""
    if dims is not None:
        order = [d for d in range(A._array.ndim) if d not in [wrap_dim(x, A._array.ndim) for x in dims]]
        A = A.permute(*order, *[wrap_dim(x, A._array.ndim) for x in dims])
    shape = A._array.shape[B._array.ndim :]
    n = int(np.prod(shape))
    if n != B._array.size:
        raise RuntimeError(
            f"Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == "
            f"prod(self.shape[:other.ndim]), but got {n} != "
            f"{B._array.size}"
        )
    return reshape(solve(reshape(A, (B._array.size, n)), reshape(B, (-1,))), shape)


def linalg_diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """A view of the diagonals of matrices."""
    return diagonal(A, offset, dim1, dim2)
