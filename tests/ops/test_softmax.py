"""Softmax and its relatives: corners, dtypes, the old choice of dim, errors."""

import math

import numpy as np
import pytest

import flambeau as torch
import flambeau.nn.functional as F
from flambeau.autograd import gradcheck, gradgradcheck


@pytest.mark.parametrize("function", [F.softmax, F.log_softmax, F.softmin])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_derivatives(function, dim):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: function(x, dim), (x,))
    assert gradgradcheck(lambda x: function(x, dim), (x,))


def test_large_numbers_do_not_overflow():
    x = torch.tensor([1000.0, 0.0])
    assert F.softmax(x, 0).tolist() == [1.0, 0.0]
    assert F.log_softmax(x, 0).tolist() == [0.0, -1000.0]


def test_a_row_of_minus_infinity_gives_nan():
    x = torch.tensor([[float("-inf"), float("-inf")], [float("-inf"), 1.0]])
    out = F.softmax(x, 1)
    assert all(map(math.isnan, out[0].tolist())) and out[1].tolist() == [0.0, 1.0]


def test_empty_and_0d():
    assert F.softmax(torch.zeros(0, 3), 0).shape == (0, 3)
    assert F.log_softmax(torch.zeros(2, 0), 1).shape == (2, 0)
    assert F.softmax(torch.tensor(5.0), -1).item() == 1.0
    with pytest.raises(IndexError, match="got 1"):
        F.softmax(torch.tensor(5.0), 1)


def test_dtypes():
    x = torch.tensor([1, 2, 3])
    with pytest.raises(NotImplementedError, match="Long"):
        F.softmax(x, 0)
    assert F.softmax(x, 0, dtype=torch.float64).dtype is torch.float64
    assert torch.softmax(x, 0, dtype=torch.float32).sum().item() == pytest.approx(1.0)
    assert x.float().log_softmax(-1, dtype=torch.float64).dtype is torch.float64
    half = torch.tensor([1.0, 2.0], dtype=torch.float16)
    assert F.softmax(half, 0).tolist() == F.softmax(half.float(), 0).half().tolist()


@pytest.mark.parametrize("shape, dim", [((3,), 0), ((2, 3), 1), ((2, 3, 4), 0), ((2, 3, 4, 5), 1)])
def test_without_dim_it_is_chosen_with_a_warning(shape, dim):
    x = torch.arange(float(np.prod(shape))).reshape(shape)
    for function in (F.softmax, F.log_softmax, F.softmin):
        with pytest.warns(UserWarning, match="Implicit dimension choice"):
            assert function(x).tolist() == function(x, dim).tolist()


def test_gumbel_softmax():
    torch.manual_seed(0)
    logits = torch.zeros(2000, 3, requires_grad=True)
    soft = F.gumbel_softmax(logits, tau=0.5)
    np.testing.assert_allclose(soft.sum(1).tolist(), 1.0, rtol=1e-5)
    hard = F.gumbel_softmax(logits + torch.tensor([0.0, math.log(2), 0.0]), hard=True)
    assert set(hard.round().flatten().tolist()) == {0.0, 1.0}
    np.testing.assert_allclose(hard.mean(0).tolist(), [0.25, 0.5, 0.25], atol=0.04)
    hard[:, 0].sum().backward()
    assert logits.grad.abs().sum() > 0


def test_many_rows_are_treated_in_blocks():
    torch.manual_seed(0)
    x = torch.randn(70, 1001, dtype=torch.float64)
    expected = x.exp() / x.exp().sum(1, keepdim=True)
    np.testing.assert_allclose(F.softmax(x, 1).numpy(), expected.numpy(), rtol=1e-12)
    np.testing.assert_allclose(F.log_softmax(x.reshape(7, 10, 1001), -1).exp().sum(-1).numpy(), 1, rtol=1e-12)
