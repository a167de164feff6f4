"""Views: the same memory, PyTorch's strides, gradients, and their in-place forms."""

import numpy as np
import pytest

import flambeau as torch
from flambeau.autograd import gradcheck, gradgradcheck

VIEWS = {
    "view": lambda x: x.view(4, -1), "view_as": lambda x: x.view_as(torch.ones(4, 6)),
    "reshape": lambda x: x.reshape(-1),
    "transpose": lambda x: x.transpose(0, -1), "t": lambda x: x[0].t(), "T": lambda x: x[0].T, "mT": lambda x: x.mT,
    "H": lambda x: x[1].H, "adjoint": lambda x: x.adjoint(), "permute": lambda x: x.permute(2, 0, 1),
    "movedim": lambda x: x.movedim(0, 2), "swapaxes": lambda x: x.swapaxes(0, 1),
    "squeeze": lambda x: x[:, :1].squeeze(),
    "unsqueeze": lambda x: x.unsqueeze(-1), "select": lambda x: x.select(1, 2), "narrow": lambda x: x.narrow(2, 1, 2),
    "unbind": lambda x: x.unbind(1)[2], "split": lambda x: x.split([1, 2], 1)[1], "chunk": lambda x: x.chunk(2, 2)[1],
    "diagonal": lambda x: x.diagonal(0, 1, 2), "unfold": lambda x: x.unfold(2, 2, 2), "flatten": lambda x: x.flatten(1),
    "unflatten": lambda x: x.unflatten(2, (2, -1)), "ravel": lambda x: x.ravel(),
    "as_strided": lambda x: x.as_strided((3, 2), (2, 1), 3),
    "reshape_as": lambda x: x.reshape_as(torch.ones(24)), "tensor_split": lambda x: x.tensor_split(3, 2)[0],
}


def numbers(requires_grad=False):
    return torch.arange(24, dtype=torch.float64).reshape(2, 3, 4).requires_grad_(requires_grad)


@pytest.mark.parametrize("name", VIEWS)
def test_writing_through_a_view_reaches_the_base(name):
    x = numbers()
    view = VIEWS[name](x)
    elements = sorted(view.reshape(-1).tolist())
    view.fill_(-1.0)
    assert [i for i, v in enumerate(x.reshape(-1).tolist()) if v == -1] == [int(e) for e in elements]


@pytest.mark.parametrize("name", VIEWS)
def test_gradients_of_views(name):
    assert gradcheck(VIEWS[name], (numbers(requires_grad=True),))
    assert gradgradcheck(lambda x: VIEWS[name](x) ** 2, (numbers(requires_grad=True),))


@pytest.mark.parametrize("name", [n for n in VIEWS if n not in ("unbind", "split", "chunk", "tensor_split")])
def test_writing_through_a_view_keeps_gradients(name):
    x = numbers(requires_grad=True)
    y = x * 1
    region = VIEWS[name](y)
    inside = VIEWS[name](numbers()).reshape(-1).long()
    region.mul_(5)
    y.sum().backward()
    expected = torch.ones(24, dtype=torch.float64)
    expected[inside] = 5
    assert x.grad.reshape(-1).tolist() == expected.tolist()


def test_strides():
    x = torch.zeros(2, 3, 4)
    assert x.transpose(0, 2).stride() == (1, 4, 12)
    assert x.expand(5, 2, 3, 4).stride() == (0, 12, 4, 1)
    assert x.unsqueeze(1).stride() == (12, 12, 4, 1)
    assert x.unfold(2, 2, 1).shape == (2, 3, 3, 2) and x.unfold(2, 2, 1).stride() == (12, 4, 1, 1)
    assert x.mT.contiguous().stride() == (12, 3, 1)


def test_copies_when_strides_demand_it():
    x = torch.arange(6.0).reshape(2, 3)
    x.t().reshape(6).zero_()
    assert x.sum().item() == 15
    with pytest.raises(RuntimeError, match="not compatible"):
        x.t().view(6)
    assert x.flatten(1) is x and x.contiguous() is x


def test_transposed_properties():
    with pytest.warns(UserWarning, match="deprecated"):
        assert torch.zeros(2, 3, 4).T.shape == (4, 3, 2)
    assert torch.tensor(1.0).T.shape == () and torch.ones(3).t().shape == (3,)
    with pytest.raises(RuntimeError, match="mH"):
        _ = torch.ones(1, 2, 3).H


def test_in_place_views():
    x = torch.arange(6.0).reshape(2, 3)
    storage = x.data_ptr()
    assert x.unsqueeze_(0) is x and x.shape == (1, 2, 3)
    assert x.squeeze_(0).transpose_(0, 1).shape == (3, 2) and x.stride() == (1, 3)
    assert x.t_().tolist() == [[0, 1, 2], [3, 4, 5]] and x.data_ptr() == storage
    assert x.swapaxes_(0, 1).shape == (3, 2) and x.as_strided_((2,), (3,)).tolist() == [0, 3]


def test_in_place_views_keep_gradients():
    a = torch.arange(6.0, requires_grad=True)
    y = a * 2
    y.unsqueeze_(0)
    assert y.shape == (1, 6) and y.grad_fn.name().startswith("Unsqueeze")
    y[0, :2].mul_(3)
    y.sum().backward()
    assert a.grad.tolist() == [6, 6, 2, 2, 2, 2]
    with pytest.raises(RuntimeError, match="leaf Variable"):
        a.unsqueeze_(0)


def test_resize_and_set():
    x = torch.arange(4.0)
    assert x.resize_(2, 3) is x and x.reshape(-1)[:4].tolist() == [0, 1, 2, 3]
    assert x.resize_(2).tolist() == [0, 1] and x.resize_as_(torch.zeros(2, 2)).tolist() == [[0, 1], [2, 3]]
    y = torch.zeros(1).set_(x)
    y[0, 0] = 9
    assert x[0, 0].item() == 9
    assert torch.zeros(1).set_(x.untyped_storage(), 1, (2,), (2,)).tolist() == [1, 3]
    with pytest.raises(RuntimeError, match="cannot resize variables that require grad"):
        torch.zeros(2, requires_grad=True).resize_(3)


def test_broadcasting_helpers():
    a, b = torch.ones(3, 1), torch.ones(4)
    assert [t.shape for t in torch.broadcast_tensors(a, b)] == [(3, 4), (3, 4)]
    assert torch.broadcast_shapes((2, 1), 3, (1, 1, 1)) == (1, 2, 3)
    assert torch.broadcast_to(b, (2, 4)).stride() == (0, 1)
    assert a.expand_as(torch.ones(2, 3, 4)).shape == (2, 3, 4)
    assert torch.ones(2, 3, 4).sum_to_size(3, 1).tolist() == [[8], [8], [8]]
    assert a.type_as(torch.tensor(1)).dtype is torch.int64


def test_iterating_gives_views_that_carry_gradients():
    x = torch.zeros(2, 3)
    for row, value in zip(x, (1.0, 2.0)):
        row.add_(value).mul_(2)
    assert x.tolist() == [[2] * 3, [4] * 3]
    w, b = torch.tensor([2.0, 3.0], requires_grad=True)
    assert (w * b).requires_grad


@pytest.mark.parametrize("call, error, message", [
    (lambda x: x.view(5, 5), RuntimeError, r"shape '\[5, 5\]' is invalid for input of size 24"),
    (lambda x: x.view(-1, -1), RuntimeError, "only one dimension can be inferred"),
    (lambda x: x.permute(0, 0, 1), RuntimeError, "duplicate dims"),
    (lambda x: x.expand(5, 3, 4), RuntimeError, r"size of the tensor \(5\) must match the existing size \(2\)"),
    (lambda x: x.narrow(0, 1, 5), RuntimeError, r"start \(1\) \+ length \(5\) exceeds dimension size \(2\)"),
    (lambda x: x.select(0, 2), IndexError, r"index 2 out of range for tensor of size \[2, 3, 4\] at dimension 0"),
    (lambda x: x.split([1, 1], 1), RuntimeError, "sum exactly to 3"),
    (lambda x: x.transpose(0, 3), IndexError, "Dimension out of range"),
    (lambda x: x.diagonal(0, 1, 1), RuntimeError, "cannot be identical"),
    (lambda x: x.unfold(2, 5, 1), RuntimeError, "maximum size for tensor at dimension 2 is 4 but size is 5"),
    (lambda x: x.as_strided((9, 9), (9, 9)), RuntimeError, "out of bounds for storage"),
    (lambda x: list(torch.tensor(1.0)), TypeError, "iteration over a 0-d tensor"),
])
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(numbers())


def test_restrided_memory_matches_numpy():
    x = torch.arange(10.0)
    expected = np.lib.stride_tricks.sliding_window_view(np.arange(10.0), 4)[::2]
    assert x.as_strided((4, 4), (2, 1)).tolist() == expected.tolist() == x.unfold(0, 4, 2).tolist()


def test_as_strided_of_bfloat16_follows_writes():
    x = torch.ones(6, dtype=torch.bfloat16, requires_grad=True)
    y = x * 1
    y.as_strided((2,), (3,), 1).mul_(5)
    y.sum().backward()
    assert x.grad.tolist() == [1, 5, 1, 1, 5, 1]
    assert torch.zeros(4, dtype=torch.bfloat16).as_strided((2, 2), (1, 1)).shape == (2, 2)
