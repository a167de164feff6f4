"""Products of Householder reflections: the implicit Q of a QR factorisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core import return_types
from flambeau.core.dispatch import primitive
from flambeau.core.tensor import Tensor, constant
from flambeau.ops.decompositions import columns
from flambeau.ops.matmul import matrix_product as mm
from flambeau.ops.matmul import mH
from flambeau.ops.pointwise import add, conj, mul, sub
from flambeau.ops.rearranging import tril
from flambeau.ops.shape import reshape


def householder_product(input: Tensor, tau: Tensor) -> Tensor:
    """The first columns of the product of reflections I - tau_i v_i v_iᴴ; v_i stand below the diagonal of `input`."""
    m, n = input._array.shape[-2:]
    k = tau._array.shape[-1]
    if m < n:
        raise RuntimeError(
            "torch.linalg.householder_product: input.shape[-2] must be greater than or equal to input.shape[-1]"
        )
    if k > n:
        raise RuntimeError(
            "torch.linalg.householder_product: input.shape[-1] must be greater than or equal to tau.shape[-1]"
        )
    Q = constant(np.array(np.broadcast_to(np.eye(m, n, dtype=input._array.dtype), input._array.shape)))
    if not k and input._requires_grad:  # no reflection, but still an input of the graph
        Q = add(Q, mul(input, 0))
    return _reflect(input, tau, Q, range(k - 1, -1, -1), False)


def _reflect(input: Tensor, tau: Tensor, X: Tensor, order: Any, adjoint: bool) -> Tensor:
    """Reflections applied to X from the left, in this order."""
    unit = add(tril(input, -1), constant(np.eye(*input._array.shape[-2:], dtype=input._array.dtype)))
    for i in order:
        v = columns(unit, i, i + 1)
        t = tau.select(-1, i)
        scale = reshape(conj(t) if adjoint else t, (*t._array.shape, 1, 1))
        X = sub(X, mul(scale, mm(v, mm(mH(v), X))))
    return X


def ormqr(input: Tensor, tau: Tensor, other: Tensor, left: bool = True, transpose: bool = False) -> Tensor:
    """Q · other (or other · Q), with the full Q of `geqrf`, transposed if asked."""
    a, x = input._array, other._array
    if a.ndim < 2 or x.ndim < 2:
        raise RuntimeError(f"torch.ormqr: {'input' if a.ndim < 2 else 'other'} must have at least 2 dimensions.")
    k, m = tau._array.shape[-1], x.shape[-2 if left else -1]
    if k != min(m, a.shape[-1]):
        raise RuntimeError(
            f"torch.ormqr: tau.shape[-1] must be equal to min(other.shape[{-2 if left else -1}], input.shape[-1]), got "
            f"{k} for {m} and {a.shape[-1]}"
        )
    if m != a.shape[-2]:
        raise RuntimeError(
            f"torch.ormqr: other.shape[{-2 if left else -1}] must be equal to input.shape[-2], got {m} and "
            f"{a.shape[-2]}"
        )
    forward, backward = range(k), range(k - 1, -1, -1)
    if left:
        return _reflect(input, tau, other, forward if transpose else backward, transpose)
    # X Q = (Qᴴ Xᴴ)ᴴ
    return mH(_reflect(input, tau, mH(other), backward if transpose else forward, not transpose))


@primitive("geqrf", outputs=2, no_gradient="not differentiable in PyTorch")
def _geqrf(A: Any) -> Any:
    h, tau = np.linalg.qr(A, "raw")
    return np.ascontiguousarray(np.swapaxes(h, -1, -2)), tau


def geqrf(input: Tensor) -> Any:
    """(a, tau): R above the diagonal and the reflections below it."""
    return return_types.TYPES["geqrf"](*_geqrf(input))
