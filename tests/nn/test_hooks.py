"""Hooks of modules: before, after, backward, global, registration."""

from __future__ import annotations

import pytest

import flambeau as torch
from flambeau import nn
from flambeau.nn.modules import module as module_file


class Double(nn.Module):
    def forward(self, x, factor=2):
        return x * factor


def test_forward_hooks_replace_arguments_and_output():
    module = Double()
    handle = module.register_forward_pre_hook(lambda module, args: args[0] + 1)
    assert module(torch.ones(1)).item() == 4
    handle.remove()
    handle.remove()
    module.register_forward_pre_hook(lambda module, args, kwargs: (args, {"factor": 5}), with_kwargs=True)
    assert module(torch.ones(1)).item() == 5
    module.register_forward_hook(lambda module, args, output: output + 1)
    module.register_forward_hook(lambda module, args, kwargs, output: output * kwargs["factor"], with_kwargs=True)
    assert module(torch.ones(1)).item() == 30
    module.register_forward_hook(lambda module, args, output: output * 0, prepend=True)
    assert module(torch.ones(1)).item() == 5


def test_a_pre_hook_with_kwargs_must_return_both():
    module = Double()
    module.register_forward_pre_hook(lambda module, args, kwargs: 3, with_kwargs=True)
    with pytest.raises(RuntimeError, match="tuple of \\(new_args, new_kwargs\\)"):
        module(torch.ones(1))


def test_always_call_runs_after_an_error():
    seen = []

    class Fails(nn.Module):
        def forward(self, x):
            raise ValueError("no")

    module = Fails()
    module.register_forward_hook(lambda *args: seen.append("always"), always_call=True)
    module.register_forward_hook(lambda *args: seen.append("never"))
    with pytest.raises(ValueError, match="no"):
        module(1)
    assert seen == ["always"]


def test_a_handle_is_a_context_manager():
    module = Double()
    with module.register_forward_hook(lambda module, args, output: output + 100):
        assert module(torch.ones(1)).item() == 102
    assert module(torch.ones(1)).item() == 2


def test_global_forward_hooks():
    seen = []
    handles = [module_file.register_module_forward_pre_hook(lambda module, args: seen.append("before")),
               module_file.register_module_forward_hook(lambda module, args, output: seen.append("after"))]
    Double()(torch.ones(1))
    for handle in handles:
        handle.remove()
    Double()(torch.ones(1))
    assert seen == ["before", "after"]


def test_full_backward_hook_sees_and_replaces_gradients():
    seen = {}

    def hook(module, grad_input, grad_output):
        seen["input"], seen["output"] = grad_input, grad_output
        return (grad_input[0] * 10,)

    module = Double()
    module.register_full_backward_hook(hook)
    x = torch.ones(2, requires_grad=True)
    module(x).sum().backward()
    assert seen["output"][0].tolist() == [1.0, 1.0]
    assert seen["input"][0].tolist() == [2.0, 2.0]
    assert x.grad.tolist() == [20.0, 20.0]


def test_full_backward_pre_hook_replaces_grad_output():
    module = Double()
    module.register_full_backward_pre_hook(lambda module, grad_output: (grad_output[0] * 3,))
    x = torch.ones(2, requires_grad=True)
    module(x).sum().backward()
    assert x.grad.tolist() == [6.0, 6.0]


def test_backward_hook_without_differentiable_input():
    seen = []
    layer = nn.Linear(2, 1)
    layer.register_full_backward_hook(lambda module, grad_input, grad_output: seen.append((grad_input, grad_output)))
    layer(torch.ones(3, 2)).sum().backward()
    (grad_input, grad_output), = seen
    assert grad_input == (None,) and grad_output[0].shape == (3, 1)
    assert layer.weight.grad.tolist() == [[3.0, 3.0]]


def test_old_and_full_backward_hooks_do_not_mix():
    module = Double()
    module.register_backward_hook(lambda *args: None)
    with pytest.raises(RuntimeError, match="Cannot use both"):
        module.register_full_backward_hook(lambda *args: None)


def test_registration_hooks():
    seen = []
    handles = [
        module_file.register_module_parameter_registration_hook(lambda module, name, value: seen.append(name)),
        module_file.register_module_buffer_registration_hook(lambda module, name, value: seen.append(name)),
        module_file.register_module_module_registration_hook(lambda module, name, value: seen.append(name))]
    try:
        nn.Sequential(nn.BatchNorm1d(1, affine=False))
        nn.Linear(1, 1)
    finally:
        for handle in handles:
            handle.remove()
    assert seen == ["running_mean", "running_var", "num_batches_tracked", "0", "weight", "bias"]


def test_backward_hooks_see_every_place_of_arguments_and_outputs():
    """Recorded from PyTorch: None for what is no tensor or got no gradient, zeros for inputs without one."""
    seen = []

    class Two(nn.Module):
        def forward(self, a, b, c=1):
            return a * b, a + b, c

    module = Two()
    module.register_full_backward_hook(lambda module, grad_input, grad_output: seen.append(
        [[None if grad is None else grad.tolist() for grad in grads] for grads in (grad_input, grad_output)]))
    a, b = torch.ones(2, requires_grad=True), torch.ones(2) * 3
    first, second, third = module(a, b, 3)
    assert third == 3
    (first.sum() + 2 * second.sum()).backward()
    assert seen.pop() == [[[5.0, 5.0], [0.0, 0.0], None], [[1.0, 1.0], [2.0, 2.0], None]]
    module(a, b)[0].sum().backward()
    assert seen.pop() == [[[3.0, 3.0], [0.0, 0.0]], [[1.0, 1.0], None, None]]


def test_backward_hooks_stay_silent_in_second_derivatives():
    seen = []
    layer = nn.Tanh()
    layer.register_full_backward_hook(lambda module, grad_input, grad_output: seen.append(grad_output))
    x = torch.ones(2, requires_grad=True)
    grad, = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
    grad.sum().backward()
    assert len(seen) == 1 and x.grad[0].item() == pytest.approx(-0.6397, rel=1e-3)
