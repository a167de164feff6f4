"""Checkpointed networks give the same values, gradients and random numbers."""

import pytest

import flambeau as torch
from flambeau.utils.checkpoint import checkpoint, checkpoint_sequential


def network():
    torch.manual_seed(0)
    nn = torch.nn
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))


def results(run):
    model = network()
    x = torch.randn(3, 4, requires_grad=True)
    out = run(model, x)
    (out**2).sum().backward()
    return [out, x.grad, *(p.grad for p in model.parameters()), torch.rand(2)]


@pytest.mark.parametrize("run", [
    lambda model, x: checkpoint(model, x, use_reentrant=True),
    lambda model, x: checkpoint(model, x, use_reentrant=False),
    lambda model, x: checkpoint_sequential(model, 3, x, use_reentrant=False),
    lambda model, x: checkpoint_sequential(list(model), 2, x, use_reentrant=True),
])  # fmt: skip
def test_equal_to_the_plain_network(run):
    for expected, found in zip(results(lambda model, x: model(x)), results(run), strict=True):
        assert torch.equal(expected, found)


def test_the_function_runs_twice():
    calls = []

    def double(x):
        calls.append(torch.is_grad_enabled())
        return x * 2

    checkpoint(double, torch.ones(2, requires_grad=True), use_reentrant=False).sum().backward()
    assert calls == [False, True]


def test_tensors_that_the_function_closes_over_get_gradients():
    weight = torch.ones(3, requires_grad=True)
    checkpoint(lambda x: (x * weight).sum(), torch.full((3,), 2.0), use_reentrant=False).backward()
    assert weight.grad.tolist() == [2, 2, 2]


def test_several_inputs_and_outputs():
    a, b = torch.ones(2, requires_grad=True), torch.full((2,), 3.0, requires_grad=True)
    product, total = checkpoint(lambda a, b, n: (a * b, n * (a + b)), a, b, 5, use_reentrant=True)
    (product + total).sum().backward()
    assert a.grad.tolist() == [8, 8] and b.grad.tolist() == [6, 6]


def test_without_history_it_is_a_call():
    with torch.no_grad():
        assert not checkpoint(lambda x: x * 2, torch.ones(1, requires_grad=True), use_reentrant=False).requires_grad


def test_the_choice_must_be_made():
    with pytest.warns(UserWarning, match="use_reentrant"):
        checkpoint(lambda x: x, torch.ones(1, requires_grad=True))
    with pytest.raises(ValueError, match="keyword"):
        checkpoint(lambda x, y: x, torch.ones(1, requires_grad=True), use_reentrant=True, y=1)
