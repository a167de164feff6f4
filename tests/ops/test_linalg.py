"""Linear algebra: factors multiply back, values agree with SciPy, derivatives with finite differences."""

import numpy as np
import pytest
from scipy import linalg as reference

import flambeau as torch
from flambeau import linalg
from flambeau.autograd import gradcheck, gradgradcheck

STREAM = np.random.default_rng(0)


def matrix(*shape):
    return torch.from_numpy(STREAM.normal(size=shape)).requires_grad_()


def well(*shape):
    """Far from singular."""
    return (matrix(*shape).detach() + 3 * torch.eye(shape[-1], dtype=torch.float64)).requires_grad_()


def positive(x):
    return x @ x.mT + torch.eye(x.shape[-1], dtype=x.dtype)


def symmetric(x):
    return x + x.mT


def close(a, b):
    np.testing.assert_allclose(a.detach().numpy() if isinstance(a, torch.Tensor) else a, b, atol=1e-9)


def test_factors_multiply_back():
    A = matrix(2, 4, 3)
    Q, R = linalg.qr(A)
    close(Q @ R, A.detach().numpy())
    U, S, Vh = linalg.svd(A, full_matrices=False)
    close(U * S.unsqueeze(-2) @ Vh, A.detach().numpy())
    P, L, U = linalg.lu(A)
    close(P @ L @ U, A.detach().numpy())
    spd = positive(matrix(2, 3, 3))
    L = linalg.cholesky(spd)
    close(L @ L.mT, spd.detach().numpy())
    values, vectors = linalg.eigh(spd)
    close(vectors * values.unsqueeze(-2) @ vectors.mT, spd.detach().numpy())
    A = matrix(3, 3)
    values, vectors = linalg.eig(A)
    close(A.to(torch.complex128) @ vectors, (vectors * values).detach().numpy())
    a, tau = torch.geqrf(A)
    close(linalg.householder_product(a, tau) @ a.triu(), A.detach().numpy())
    close(torch.ormqr(a, tau, a.triu().detach()), A.detach().numpy())


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda A: linalg.det(A), reference.det),
        (lambda A: linalg.inv(A), reference.inv),
        (lambda A: linalg.pinv(A), reference.pinv),
        (lambda A: linalg.matrix_exp(A), reference.expm),
        (lambda A: linalg.svdvals(A), reference.svdvals),
        (lambda A: linalg.eigvalsh(symmetric(A)), lambda A: reference.eigvalsh(A + A.T)),
        (lambda A: linalg.matrix_power(A, -3), lambda A: np.linalg.matrix_power(A, -3)),
        (lambda A: linalg.matrix_norm(A, "nuc"), lambda A: np.linalg.norm(A, "nuc")),
        (lambda A: linalg.norm(A, -1), lambda A: np.linalg.norm(A, -1)),
        (lambda A: linalg.cond(A), np.linalg.cond),
        (lambda A: linalg.slogdet(A)[1], lambda A: np.linalg.slogdet(A)[1]),
        (lambda A: linalg.multi_dot([A, A[:, :1], A[:1]]), lambda A: A @ A[:, :1] @ A[:1]),
        (lambda A: linalg.cross(A, A.mT), lambda A: np.cross(A, A.T)),
        (lambda A: linalg.vander(A[0], 4), lambda A: np.vander(A[0], 4, increasing=True)),
    ],
)
def test_value_and_gradient(ours, theirs):
    A = well(3, 3)
    close(ours(A), theirs(A.detach().numpy()))
    assert gradcheck(ours, (A,), atol=1e-4)


@pytest.mark.parametrize(
    "function",
    [
        lambda A, B: linalg.solve(A, B),
        lambda A, B: linalg.solve(A, B.mT, left=False),
        lambda A, B: linalg.solve_triangular(A, B, upper=True),
        lambda A, B: linalg.solve_triangular(A, B, upper=False, unitriangular=True),
        lambda A, B: torch.cholesky_solve(B, linalg.cholesky(positive(A))),
        lambda A, B: torch.cholesky_inverse(linalg.cholesky(positive(A))) @ B,
        lambda A, B: linalg.lu_solve(*linalg.lu_factor(A), B),
        lambda A, B: linalg.lu_solve(*linalg.lu_factor(A), B, adjoint=True),
        lambda A, B: linalg.lstsq(A @ A[:, :2], B).solution,
    ],
)
def test_solving(function):
    A, B = well(3, 3), matrix(3, 2)
    assert gradcheck(function, (A, B), atol=1e-4)


@pytest.mark.parametrize(
    "function",
    [
        lambda A: linalg.cholesky(positive(A)),
        lambda A: linalg.cholesky(positive(A), upper=True),
        lambda A: linalg.eigh(symmetric(A))[0],
        lambda A: linalg.eigh(symmetric(A))[1].abs(),
        lambda A: linalg.eig(A)[0].abs(),
        lambda A: linalg.eig(A)[1].abs(),
        lambda A: linalg.svd(A)[0].abs(),
        lambda A: linalg.svd(A[:2], full_matrices=False)[2].abs(),
        lambda A: linalg.svd(A[:, :2], full_matrices=False)[0].abs(),
        lambda A: linalg.qr(A)[0],
        lambda A: linalg.qr(A[:, :2])[1],
        lambda A: linalg.qr(A[:2])[1],
        lambda A: linalg.lu(A)[1],
        lambda A: linalg.lu(A[:2])[2],
        lambda A: linalg.lu(A[:, :2])[1],
    ],
)
def test_factors_are_differentiable(function):
    assert gradcheck(function, (well(3, 3),), atol=1e-4)


@pytest.mark.parametrize("function", [linalg.inv, linalg.det, lambda A: linalg.svdvals(A), linalg.matrix_exp,
                                      lambda A: linalg.cholesky(positive(A)), lambda A: linalg.solve(A, A.mT)])
def test_second_derivatives(function):
    assert gradgradcheck(function, (well(2, 2),), atol=1e-3)


def test_gradient_of_a_singular_determinant():
    A = torch.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=torch.float64, requires_grad=True)
    linalg.det(A).backward()
    close(A.grad, [[4.0, -2.0], [-2.0, 1.0]])


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_derivatives_of_a_singular_determinant(rank, dtype):
    torch.manual_seed(rank)
    factors = torch.randn(2, 4, rank, dtype=dtype), torch.randn(2, rank, 4, dtype=dtype)
    A = (factors[0] @ factors[1]).requires_grad_()
    assert gradcheck(linalg.det, (A,))
    assert gradgradcheck(linalg.det, (A,), atol=1e-4)


def test_empty_and_batched():
    assert linalg.det(torch.ones(0, 3, 3)).shape == (0,)
    assert linalg.inv(torch.ones(2, 0, 0)).shape == (2, 0, 0)
    batch = well(4, 3, 3)
    close(linalg.inv(batch), np.linalg.inv(batch.detach().numpy()))
    assert linalg.matrix_rank(torch.ones(3, 3)).item() == 1
    assert linalg.tensorinv(well(6, 6).reshape(6, 2, 3).detach(), ind=1).shape == (2, 3, 6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: linalg.inv(torch.ones(2, 2)), linalg.LinAlgError, "singular"),
        (lambda: linalg.solve(torch.ones(2, 2), torch.ones(2)), linalg.LinAlgError, "singular"),
        (lambda: linalg.cholesky(-torch.eye(2)), linalg.LinAlgError, "not positive-definite"),
        (lambda: linalg.det(torch.ones(2, 3)), RuntimeError, "2 by 3 matrices"),
        (lambda: linalg.det(torch.ones(2)), RuntimeError, "at least 2 dimensions"),
        (lambda: linalg.solve(torch.eye(3), torch.ones(2, 1)), RuntimeError, "Incompatible shapes"),
        (lambda: linalg.qr(torch.eye(2), "some"), RuntimeError, "unrecognized mode"),
        (lambda: linalg.multi_dot([torch.eye(2)]), RuntimeError, "at least 2 tensors"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_tensordot_writes_into_out():
    A, B, out = torch.randn(2, 3), torch.randn(3, 4), torch.empty(2, 4)
    assert torch.tensordot(A, B, dims=1, out=out) is out
    assert torch.allclose(out, A @ B)
