"""The backward walk: what arrives in `.grad`, what `grad` returns, what is refused, and very long graphs."""

import gc
import threading

import pytest

import flambeau as torch


def leaf(*values):
    return torch.tensor(values, requires_grad=True)


def test_backward_fills_grad_of_leaves():
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (x * y + x).sum().backward()
    assert x.grad.tolist() == [4.0, 5.0]
    assert y.grad.tolist() == [1.0, 2.0]


def test_gradients_accumulate():
    x = leaf(1.0, 2.0)
    (x * 2).sum().backward()
    first = x.grad
    (x * 3).sum().backward()
    assert x.grad.tolist() == [5.0, 5.0]
    assert x.grad is first, "accumulated in place, so that references to .grad stay valid"


def test_backward_with_a_given_gradient():
    x = leaf(1.0, 2.0)
    (x * 3).backward(torch.tensor([1.0, 10.0]))
    assert x.grad.tolist() == [3.0, 30.0]


def test_grads_of_two_leaves_are_not_one_tensor():
    x, y = leaf(1.0), leaf(2.0)
    (x + y).backward(torch.ones(1))
    x.grad.add_(5)
    assert y.grad.tolist() == [1.0]


def test_the_given_gradient_is_not_shared_with_grad():
    x, g = leaf(1.0, 2.0), torch.ones(2)
    x.backward(g)
    x.grad.mul_(7)
    assert g.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x: (x * 2).backward(), "grad can be implicitly created only for scalar outputs"),
        (lambda x: torch.ones(1).backward(), "does not require grad and does not have a grad_fn"),
        (lambda x: (x * 2).backward(torch.ones(3)), "Mismatch in shape"),
        (lambda x: (x * 2).sum().backward(inputs=[]), "cannot be empty"),
        (lambda x: torch.autograd.grad(x.sum(), torch.ones(2)), "does not require grad"),
        (lambda x: torch.autograd.grad(x.sum(), leaf(1.0)), "not have been used in the graph"),
    ],
)
def test_refused(call, message):
    with pytest.raises(RuntimeError, match=message):
        call(leaf(1.0, 2.0))


def test_second_backward_needs_retain_graph():
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [4.0, 8.0]
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.backward()


def test_a_graph_without_saved_values_can_be_walked_again():
    x = leaf(1.0)
    y = x + 1
    y.backward()
    y.backward()
    assert x.grad.tolist() == [2.0]


def test_grad_leaves_dot_grad_alone():
    x, y = leaf(2.0), leaf(3.0)
    gx, gy = torch.autograd.grad(x * x * y, (x, y))
    assert (gx.item(), gy.item()) == (12.0, 4.0)
    assert x.grad is None and y.grad is None


def test_grad_of_an_intermediate():
    x = leaf(2.0)
    middle = x * 3
    (found,) = torch.autograd.grad((middle**2).sum(), middle)
    assert found.item() == 12.0


def test_unused_inputs():
    x, unused = leaf(2.0), leaf(1.0, 1.0)
    gx, gu = torch.autograd.grad(x * 2, (x, unused), allow_unused=True)
    assert gx.item() == 2.0 and gu is None
    _, gu = torch.autograd.grad(x * 2, (x, unused), materialize_grads=True)
    assert gu.tolist() == [0.0, 0.0]


def test_backward_into_some_inputs_only():
    x, y = leaf(2.0), leaf(3.0)
    (x * y).backward(inputs=[x])
    assert x.grad.item() == 3.0 and y.grad is None


def test_several_roots():
    x = leaf(1.0, 2.0)
    torch.autograd.backward([x.sum(), (x * 2)], [None, torch.tensor([1.0, 0.0])])
    assert x.grad.tolist() == [3.0, 1.0]


def test_create_graph_gives_second_and_third_derivatives():
    x = torch.tensor(2.0, requires_grad=True)
    (first,) = torch.autograd.grad(x**4, x, create_graph=True)
    (second,) = torch.autograd.grad(first, x, create_graph=True)
    (third,) = torch.autograd.grad(second, x)
    assert (first.item(), second.item(), third.item()) == (32.0, 48.0, 48.0)
    assert first.requires_grad and not third.requires_grad


def test_backward_through_a_gradient():
    """A gradient penalty: the gradient is part of the loss."""
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (g,) = torch.autograd.grad((w * x * x).sum(), x, create_graph=True)  # 2 w x
    (g**2).sum().backward()
    assert w.grad.tolist() == [24.0, 128.0]  # 8 w x²


def test_create_graph_warns_in_backward():
    x = leaf(2.0)
    with pytest.warns(UserWarning, match="create_graph=True"):
        (x * x).backward(create_graph=True)
    assert x.grad.requires_grad
    x.grad = None


def test_is_grads_batched_walks_once_per_row():
    x = leaf(1.0, 2.0)
    (rows,) = torch.autograd.grad(x * x, x, torch.eye(2), is_grads_batched=True)
    assert rows.tolist() == [[2.0, 0.0], [0.0, 4.0]]


def test_a_leaf_used_many_times():
    x = leaf(2.0)
    y = x
    for _ in range(3):
        y = y * x
    y.backward()
    assert x.grad.item() == 32.0


def test_broadcast_gradients_are_summed_to_the_input():
    x, y = torch.ones(3, 1, requires_grad=True), torch.ones(4, requires_grad=True)
    (x * y).sum().backward()
    assert x.grad.tolist() == [[4.0]] * 3 and y.grad.tolist() == [3.0] * 4


def test_gradients_have_the_type_of_the_leaf():
    x = torch.ones(2, dtype=torch.float32, requires_grad=True)
    (x * torch.ones(2, dtype=torch.float64)).sum().backward()
    assert x.grad.dtype is torch.float32


def test_retain_grad_of_an_intermediate():
    x = leaf(2.0)
    y = x * 3
    assert not y.retains_grad
    y.retain_grad()
    (y * y).backward()
    assert y.retains_grad and y.grad.item() == 12.0 and x.grad.item() == 36.0


def test_grad_of_an_intermediate_warns():
    y = leaf(2.0) * 3
    with pytest.warns(UserWarning, match="not a leaf Tensor"):
        assert y.grad is None


def test_integers_cannot_require_grad():
    with pytest.raises(RuntimeError, match="nly Tensors of floating point and complex dtype"):
        torch.tensor([1, 2], requires_grad=True)
    with pytest.raises(RuntimeError, match="only Tensors of floating point"):
        torch.tensor([1, 2]).requires_grad_()


def test_requires_grad_of_a_non_leaf_cannot_be_switched_off():
    y = leaf(2.0) * 2
    with pytest.raises(RuntimeError, match="you can only change requires_grad flags of leaf variables"):
        y.requires_grad = False


def test_detach_shares_memory_and_cuts_history():
    x = leaf(1.0, 2.0)
    y = (x * 2).detach()
    assert not y.requires_grad and y.grad_fn is None and y.is_leaf
    z = x.detach()
    z[0] = 9.0
    assert x.tolist() == [9.0, 2.0]


def test_detach_in_place():
    y = leaf(1.0) * 2
    y.detach_()
    assert y.is_leaf and not y.requires_grad


def test_grad_can_be_assigned_and_deleted():
    x = leaf(1.0, 2.0)
    x.grad = torch.tensor([3.0, 4.0])
    assert x.grad.tolist() == [3.0, 4.0]
    with pytest.raises(RuntimeError, match="gradient of size"):
        x.grad = torch.ones(3)
    x.grad = None
    assert x.grad is None


def test_next_functions_lead_to_the_leaf():
    x = leaf(1.0)
    y = (x * 2).sum()
    assert y.grad_fn.name() == "SumBackward0"
    (mul, place) = y.grad_fn.next_functions[0]
    assert mul.name() == "MulBackward0" and place == 0
    (accumulate, _) = mul.next_functions[0]
    assert accumulate.variable is x
    assert mul.next_functions[1][0] is None


def test_saved_tensors_of_freed_graphs_give_their_memory_back():
    x = leaf(*[1.0] * 8)
    y = (x.exp() * x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(y, x)


# ---- long and wide graphs ----------------------------------------------------------------------------------


def chain(x, length):
    for _ in range(length):
        x = x + 1
    return x


def test_a_chain_of_100_000_ops_backward():
    x = torch.zeros(1, requires_grad=True)
    chain(x, 100_000).backward()
    assert x.grad.item() == 1.0


def test_a_chain_of_100_000_ops_is_deleted_without_recursion():
    y = chain(torch.zeros(1, requires_grad=True), 100_000)
    del y
    gc.collect()
    z = torch.zeros(1, requires_grad=True)
    for _ in range(100_000):
        z = z.view(1).mul(z.detach())  # views and saved values
    del z
    gc.collect()


def test_a_chain_in_place():
    x = torch.zeros(3, requires_grad=True)
    y = x * 1
    for _ in range(20_000):
        y.add_(1)
    y.sum().backward()
    assert x.grad.tolist() == [1.0] * 3


def test_shared_subexpressions_are_walked_once():
    """Doubling 60 times: 2**60 paths, 60 nodes."""
    x = torch.ones(1, dtype=torch.float64, requires_grad=True)
    y = x
    for _ in range(60):
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0**60


# ---- saved values and their versions ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x, y: y.add_(1),
        lambda x, y: y.zero_(),
        lambda x, y: y.__setitem__(0, 5.0),
        lambda x, y: y.view(-1)[:1].mul_(2),
        lambda x, y: y.detach().add_(1),
        lambda x, y: torch.add(x, 1, out=y.detach()),
    ],
)
def test_a_saved_value_that_was_overwritten_is_an_error(spoil):
    x = leaf(1.0, 2.0)
    y = x.detach() * 2
    z = (y * x).sum()
    with torch.no_grad():
        spoil(x, y)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.backward()


def test_the_error_names_shape_and_versions():
    x = leaf(1.0, 2.0)
    y = x.exp()
    z = y.sum() * 1
    y.add_(1)
    expected = r"\[torch.FloatTensor \[2\]\], which is output 0 of \w+, is at version 1; expected version 0"
    with pytest.raises(RuntimeError, match=expected):
        (z + y.sum()).backward()


def test_data_is_not_watched():
    """`.data` writes behind autograd's back, as optimizers of old did."""
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    x.data.mul_(3)
    y.backward()
    assert x.grad.tolist() == [6.0, 12.0]


def test_version_counts_writes():
    x = torch.zeros(3)
    assert x._version == 0
    x.add_(1)
    x[0] = 2
    assert x._version == 2 and x.view(3)._version == 2
    x[:2].mul_(2)
    assert x._version == 3


# ---- threads ------------------------------------------------------------------------------------------------


def in_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_grad_mode_belongs_to_the_thread():
    with torch.no_grad():
        assert not torch.is_grad_enabled()
        assert in_thread(torch.is_grad_enabled)
        assert in_thread(lambda: (leaf(1.0) * 2).requires_grad)
    assert not in_thread(lambda: [torch.set_grad_enabled(False), torch.is_grad_enabled()][1])
    assert torch.is_grad_enabled()


def test_backward_in_two_threads_adds_up():
    x = torch.zeros(4, requires_grad=True)
    threads = [threading.Thread(target=lambda: (x * 2).sum().backward()) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert x.grad.tolist() == [8.0] * 4
