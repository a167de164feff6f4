"""Hooks on tensors and nodes: when they run, what they may change, how they go."""

import pytest

import flambeau as torch


def leaf(*values):
    return torch.tensor(values, requires_grad=True)


def test_a_hook_on_a_leaf_changes_what_arrives():
    x = leaf(1.0, 2.0)
    x.register_hook(lambda grad: grad * 10)
    (x * 3).sum().backward()
    assert x.grad.tolist() == [30.0, 30.0]


def test_a_hook_on_an_intermediate_changes_what_flows_on():
    x = leaf(1.0)
    y = x * 2
    seen = []
    y.register_hook(seen.append)
    y.register_hook(lambda grad: grad + 1)
    (y * 3).backward()
    assert seen[0].item() == 3.0 and x.grad.item() == 8.0


def test_hooks_run_in_order_and_once_per_backward():
    x = leaf(1.0)
    order = []
    x.register_hook(lambda g: order.append("first"))
    x.register_hook(lambda g: order.append("second"))
    (x * 1 + x * 2).backward()
    assert order == ["first", "second"]


def test_removal():
    x = leaf(1.0)
    handle = x.register_hook(lambda grad: grad * 10)
    handle.remove()
    handle.remove()
    (x * 2).backward()
    assert x.grad.item() == 2.0
    with x.register_hook(lambda grad: grad * 10):
        (x * 2).backward()
    (x * 2).backward()
    assert x.grad.item() == 24.0


def test_a_hook_runs_for_autograd_grad_too():
    x = leaf(2.0)
    x.register_hook(lambda grad: grad * 10)
    (found,) = torch.autograd.grad(x * 3, x)
    assert found.item() == 30.0


def test_hooks_need_requires_grad():
    with pytest.raises(RuntimeError, match="doesn't require gradient"):
        torch.ones(1).register_hook(lambda grad: grad)


@pytest.mark.parametrize("intermediate", [False, True])
@pytest.mark.parametrize(
    "hook, error, message",
    [
        (lambda grad: grad[:1], RuntimeError, "hook '<lambda>' has changed the size of value"),
        (lambda grad: grad.double(), RuntimeError, "hook '<lambda>' has changed the type of value"),
        (lambda grad: 3, TypeError, "hook returned 'int'"),
    ],
)
def test_a_hook_must_return_a_gradient_of_the_same_kind(hook, error, message, intermediate):
    x = leaf(1.0, 2.0)
    y = x * 1 if intermediate else x
    y.register_hook(hook)
    with pytest.raises(error, match=message):
        (y * 2).sum().backward()


def test_post_accumulate_grad_hook():
    x = leaf(1.0, 2.0)
    seen = []

    def step(parameter):
        seen.append(parameter.grad.tolist())
        parameter.grad = None

    handle = x.register_post_accumulate_grad_hook(step)
    (x * 2).sum().backward()
    assert seen == [[2.0, 2.0]] and x.grad is None
    handle.remove()
    (x * 2).sum().backward()
    assert len(seen) == 1 and x.grad.tolist() == [2.0, 2.0]
    with pytest.raises(RuntimeError, match="leaf"):
        (x * 2).register_post_accumulate_grad_hook(step)


def test_node_hook_sees_both_sides():
    x = leaf(1.0)
    y = x * 2
    seen = []
    y.grad_fn.register_hook(lambda inputs, outputs: seen.append((inputs[0].item(), outputs[0].item())))
    (y * 3).backward()
    assert seen == [(6.0, 3.0)]


def test_node_prehook_changes_the_gradient():
    x = leaf(1.0)
    y = x * 2
    y.grad_fn.register_prehook(lambda grads: (grads[0] * 100,))
    y.backward()
    assert x.grad.item() == 200.0


def test_retain_grad_sees_what_hooks_made():
    x = leaf(1.0)
    y = x * 2
    y.register_hook(lambda grad: grad * 10)
    y.retain_grad()
    (y * 3).backward()
    assert y.grad.item() == 30.0 and x.grad.item() == 60.0


def test_a_hook_on_a_tensor_changed_in_place_belongs_to_the_value_it_was_set_on():
    x = leaf(1.0)
    y = x * 2
    seen = []
    y.register_hook(lambda grad: seen.append(grad.item()))
    y.mul_(5)
    y.backward()
    assert seen == [5.0] and x.grad.item() == 10.0


def test_hooks_may_be_differentiated_through():
    x = torch.tensor(2.0, requires_grad=True)
    y = x * x
    y.register_hook(lambda grad: grad * x)
    (first,) = torch.autograd.grad(y, x, create_graph=True)  # 2 x · x
    assert first.item() == 8.0
    (second,) = torch.autograd.grad(first, x)
    assert second.item() == 8.0
