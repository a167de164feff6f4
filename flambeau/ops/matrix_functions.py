"""Functions of square matrices: powers and the exponential."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core.dispatch import primitive
from flambeau.core.tensor import Tensor, constant
from flambeau.ops.decompositions import check_matrix, columns, rows
from flambeau.ops.joining import cat
from flambeau.ops.linalg import inv
from flambeau.ops.matmul import matrix_product as mm
from flambeau.ops.matmul import mH
from flambeau.ops.pointwise import add, mul


def matrix_power(A: Tensor, n: int) -> Tensor:
    """A multiplied by itself n times; inverted for negative n."""
    if A._array.ndim < 2 or A._array.shape[-1] != A._array.shape[-2]:
        raise RuntimeError(
            "linalg.matrix_power: A must be batches of square matrices, but they are "
            f"{A._array.shape[-2] if A._array.ndim > 1 else 1} by {A._array.shape[-1] if A._array.ndim else 1} matrices"
        )
    if n == 0:
        eye = constant(np.array(np.broadcast_to(np.eye(A._array.shape[-1], dtype=A._array.dtype), A._array.shape)))
        return add(eye, mul(A, 0)) if A._requires_grad else eye
    if n < 0:
        A, n = inv(A), -n
    result = None
    while n:
        if n & 1:
            result = A if result is None else mm(result, A)
        n >>= 1
        if n:
            A = mm(A, A)
    assert result is not None
    return result.clone() if result is A and not result._requires_grad else result


# Coefficients of the diagonal Padé approximant of order 13 and the norm up to which it is accurate:
# N. Higham, "The scaling and squaring method for the matrix exponential revisited" (2005).
_PADE = (
    64764752532480000.0,
    32382376266240000.0,
    7771770303897600.0,
    1187353796428800.0,
    129060195264000.0,
    10559470521600.0,
    670442572800.0,
    33522128640.0,
    1323241920.0,
    40840800.0,
    960960.0,
    16380.0,
    182.0,
    1.0,
)
_THETA = 5.371920351148152


def _exponential(A: np.ndarray) -> np.ndarray:
    wide = A.astype(np.complex128 if A.dtype.kind == "c" else np.float64)
    n = A.shape[-1]
    if n == 0 or A.size == 0:
        return np.zeros_like(A)
    size = np.abs(wide).sum(-2).max()
    halvings = max(0, int(np.ceil(np.log2(size / _THETA)))) if np.isfinite(size) and size > _THETA else 0
    X = wide / 2.0**halvings
    X2 = X @ X
    X4 = X2 @ X2
    X6 = X4 @ X2
    b, eye = _PADE, np.eye(n)
    odd = X @ (X6 @ (b[13] * X6 + b[11] * X4 + b[9] * X2) + b[7] * X6 + b[5] * X4 + b[3] * X2 + b[1] * eye)
    even = X6 @ (b[12] * X6 + b[10] * X4 + b[8] * X2) + b[6] * X6 + b[4] * X4 + b[2] * X2 + b[0] * eye
    result = np.linalg.solve(even - odd, even + odd)
    for _ in range(halvings):
        result = result @ result
    return result.astype(A.dtype)


@primitive("matrix_exp", grad_name="LinalgMatrixExpBackward0")
def _matrix_exp(A: Any) -> Any:
    return _exponential(A)


@_matrix_exp.vjp
def _matrix_exp_vjp(grad: Tensor, A: Tensor) -> Any:
    """The upper right block of exp([[Aᴴ, G], [0, Aᴴ]])."""
    n = A._array.shape[-1]
    Ah = mH(A)
    top = cat([Ah, grad], -1)
    bottom = cat([mul(Ah, 0), Ah], -1)
    return columns(rows(_matrix_exp(cat([top, bottom], -2)), 0, n), n, 2 * n)


def matrix_exp(A: Tensor) -> Tensor:
    """The matrix exponential."""
    check_matrix("matrix_exp", A, square=True)
    return _matrix_exp(A)
