"""jacobian, hessian, vjp, jvp, hvp, vhp of `autograd.functional`."""

import pytest

import flambeau as torch
from flambeau.autograd import functional as AF

X = torch.tensor([1.0, 2.0, 3.0])


def cubes(x):
    return (x**3).sum()


def test_jacobian():
    assert AF.jacobian(lambda x: x**2, X).tolist() == [[2.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 6.0]]
    a, b = AF.jacobian(lambda x, y: x * y, (X, 2 * X))
    assert a.diagonal().tolist() == [2.0, 4.0, 6.0] and b.diagonal().tolist() == [1.0, 2.0, 3.0]
    assert AF.jacobian(lambda x: torch.outer(x, x), X).shape == (3, 3, 3)


def test_jacobian_of_several_outputs():
    first, second = AF.jacobian(lambda x: (x * 2, x.sum()), X)
    assert first.shape == (3, 3) and second.tolist() == [1.0, 1.0, 1.0]


def test_jacobian_with_graph():
    x = X.clone().requires_grad_()
    AF.jacobian(lambda x: x**2, x, create_graph=True).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0, 2.0]


def test_hessian():
    assert AF.hessian(cubes, X).tolist() == [[6.0, 0.0, 0.0], [0.0, 12.0, 0.0], [0.0, 0.0, 18.0]]
    blocks = AF.hessian(lambda x, y: (x * x * y).sum(), (X, X))
    assert blocks[0][1].diagonal().tolist() == [2.0, 4.0, 6.0] and blocks[1][1].abs().sum().item() == 0.0


def test_vjp_and_jvp():
    v = torch.tensor([1.0, 0.5, 2.0])
    out, g = AF.vjp(lambda x: x**2, X, v)
    assert out.tolist() == [1.0, 4.0, 9.0] and g.tolist() == [2.0, 2.0, 12.0]
    out, d = AF.jvp(lambda x: x**2, X, v)
    assert out.tolist() == [1.0, 4.0, 9.0] and d.tolist() == [2.0, 2.0, 12.0]


def test_hvp_and_vhp():
    v = torch.tensor([1.0, 0.5, 2.0])
    for product in (AF.hvp, AF.vhp):
        out, found = product(cubes, X, v)
        assert out.item() == 36.0 and found.tolist() == [6.0, 6.0, 36.0]


@pytest.mark.parametrize("run", [
    lambda f: AF.jacobian(f, X, strict=True), lambda f: AF.vjp(f, X, torch.ones(2), strict=True),
    lambda f: AF.jvp(f, X, torch.ones(3), strict=True), lambda f: AF.hessian(lambda x: f(x).sum(), X, strict=True),
    lambda f: AF.vhp(lambda x: f(x).sum(), X, X, strict=True),
])  # fmt: skip
def test_strict_mode_wants_dependence(run):
    with pytest.raises(RuntimeError, match="does not require gradients"):
        run(lambda x: torch.ones(2))
    other = torch.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="independent of"):
        run(lambda x: other * 2)


def test_without_strict_mode_constants_have_zero_derivatives():
    assert AF.jacobian(lambda x: torch.ones(2), X).tolist() == [[0.0] * 3] * 2
    assert AF.vjp(lambda x: torch.ones(2), X, torch.ones(2))[1].tolist() == [0.0] * 3
    assert AF.jvp(lambda x: torch.ones(2), X, torch.ones(3))[1].tolist() == [0.0] * 2
    assert AF.hessian(lambda x: x.sum(), X).tolist() == [[0.0] * 3] * 3
