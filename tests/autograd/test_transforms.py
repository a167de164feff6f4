"""`flambeau.func`: derivatives as functions, nested, and vmap."""

import pytest

import flambeau as torch
from flambeau import nn
from flambeau.func import (
    functional_call,
    grad,
    grad_and_value,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    linearize,
    stack_module_state,
    vjp,
    vmap,
)


def cube(x):
    return (x**3).sum()


def test_grad_of_grad():
    x = torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert grad(cube)(x).tolist() == [3.0, 12.0]
    second = grad(lambda y: grad(cube)(y).sum())(x)
    assert second.tolist() == [6.0, 12.0]
    assert not second.requires_grad


def test_grad_stays_connected_to_ordinary_autograd():
    w = torch.tensor(2.0, requires_grad=True)
    slope = grad(lambda x: (w * x**2).sum())(torch.tensor(3.0))
    slope.backward()
    assert w.grad.item() == 6.0


def test_grad_and_value_with_aux_and_argnums():
    def loss(a, b):
        return (a * b).sum(), {"kept": a + b}

    a, b = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    grads, (value, aux) = grad_and_value(loss, argnums=(0, 1), has_aux=True)(a, b)
    assert [g.tolist() for g in grads] == [[3.0, 4.0], [1.0, 2.0]]
    assert value.item() == 11.0 and aux["kept"].tolist() == [4.0, 6.0]


def test_grad_of_nested_structures():
    params = {"w": torch.tensor([2.0]), "b": [torch.tensor([1.0])]}
    found = grad(lambda p: (p["w"] ** 2 * 3 + p["b"][0]).sum())(params)
    assert found["w"].tolist() == [12.0] and found["b"][0].tolist() == [1.0]


def test_vjp_and_jvp_agree_with_the_jacobian():
    x = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)

    def f(v):
        return torch.stack([v.sin().sum(), v[0] * v[2]])

    J = jacrev(f)(x)
    assert torch.allclose(J, jacfwd(f)(x))
    output, pull_back = vjp(f, x)
    seed = torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert torch.allclose(pull_back(seed)[0], seed @ J)
    direction = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)
    value, pushed = jvp(f, (x,), (direction,))
    assert torch.allclose(value, f(x)) and torch.allclose(pushed, J @ direction)
    assert torch.allclose(linearize(f, x)[1](direction), J @ direction)
    assert torch.allclose(output, f(x))


def test_hessian():
    x = torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert hessian(lambda v: v[0] ** 2 * v[1])(x).tolist() == [[4.0, 2.0], [2.0, 0.0]]


def test_vmap_maps_and_stacks():
    a, b = torch.arange(6.0).reshape(3, 2), torch.arange(3.0)
    assert torch.equal(vmap(torch.dot)(a, a), (a * a).sum(1))
    assert torch.equal(vmap(lambda v, s: v * s, in_dims=(1, None), out_dims=1)(a, b), a * b[:, None])
    with pytest.raises(ValueError, match="same size"):
        vmap(torch.add)(torch.ones(2), torch.ones(3))


def test_per_sample_gradients():
    torch.manual_seed(0)
    model, x, y = nn.Linear(3, 1), torch.randn(4, 3), torch.randn(4, 1)
    params = {name: p.detach() for name, p in model.named_parameters()}

    def loss(p, xi, yi):
        return nn.functional.mse_loss(functional_call(model, p, (xi,)), yi)

    each = vmap(grad(loss), in_dims=(None, 0, 0))(params, x, y)
    for i in range(4):
        model.zero_grad()
        nn.functional.mse_loss(model(x[i]), y[i]).backward()
        assert torch.allclose(each["weight"][i], model.weight.grad)


def test_ensembles_by_stacked_state():
    models = [nn.Linear(2, 2) for _ in range(3)]
    params, buffers = stack_module_state(models)
    x = torch.ones(2)
    out = vmap(lambda p, b: functional_call(models[0], (p, b), (x,)))(params, buffers)
    assert torch.allclose(out, torch.stack([m(x) for m in models]))
