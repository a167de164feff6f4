"""Sorting, counting, running sums and differences: NumPy or values recorded from PyTorch as oracle."""

import math

import numpy as np
import pytest

import flambeau as torch
from flambeau.autograd import gradcheck, gradgradcheck

nan, inf = math.nan, math.inf
X = np.random.default_rng(5).normal(size=(4, 6))


def double(requires_grad=False):
    return torch.tensor(X, requires_grad=requires_grad)


def same(found, expected):
    np.testing.assert_array_equal(found.detach().numpy(), np.asarray(expected, found.detach().numpy().dtype))


# ---- order -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_sort(dim):
    values, indices = double().sort(dim)
    same(values, np.sort(X, dim))
    same(indices, np.argsort(X, dim))
    values, indices = torch.sort(double(), dim, descending=True)
    same(values, -np.sort(-X, dim))
    same(double().argsort(dim, descending=True), indices.numpy())
    same(torch.msort(double()), np.sort(X, 0))


def test_nan_is_the_largest_and_equal_values_keep_their_order():
    x = torch.tensor([3, nan, 1, nan, 2])
    same(x.sort().values, [1, 2, 3, nan, nan])
    assert x.sort().indices.tolist() == [2, 4, 0, 1, 3]
    assert x.sort(descending=True).indices.tolist() == [1, 3, 0, 4, 2]
    assert torch.ones(5).sort(descending=True, stable=True).indices.tolist() == [0, 1, 2, 3, 4]
    assert torch.topk(x[:3], 2).indices.tolist() == [1, 0]
    assert x[:3].topk(2, largest=False).values.tolist() == [1, 3]


def test_results_are_named():
    result = torch.sort(torch.tensor([3.0, 1.0]))
    assert repr(result) == "torch.return_types.sort(\nvalues=tensor([1., 3.]),\nindices=tensor([1, 0]))"
    assert isinstance(result, torch.return_types.sort) and isinstance(result, tuple)
    assert torch.tensor([1.0]).kthvalue(1).values.item() == 1


def test_zero_dim_bool_and_narrow_types():
    assert torch.tensor(2.0).sort().indices.item() == 0
    assert torch.tensor([True, False]).sort().values.tolist() == [False, True]
    assert torch.tensor([2.0, nan, 1.0], dtype=torch.bfloat16).sort().indices.tolist() == [2, 0, 1]
    assert torch.empty(0, 3).sort(1).values.shape == (0, 3)


@pytest.mark.parametrize("n, k", [(6, 2), (1000, 5), (1000, 0), (1000, 1000)])
@pytest.mark.parametrize("largest", [True, False])
def test_topk(n, k, largest):
    x = np.random.default_rng(n).permutation(3 * n).reshape(3, n)
    values, indices = torch.tensor(x).topk(k, largest=largest)
    expected = np.sort(x, 1)[:, ::-1][:, :k] if largest else np.sort(x, 1)[:, :k]
    same(values, expected)
    same(indices, np.argsort(-x if largest else x, 1)[:, :k])
    assert torch.tensor(x.T.copy()).topk(k, 0, largest).values.tolist() == expected.T.tolist()


def test_kthvalue():
    for k in (1, 4, 6):
        value, index = double().kthvalue(k)
        same(value, np.sort(X, 1)[:, k - 1])
        same(index, np.argsort(X, 1)[:, k - 1])
    assert double().kthvalue(2, 0, keepdim=True).values.shape == (1, 6)


@pytest.mark.parametrize("function", [
    lambda x: x.sort(0)[0], lambda x: x.sort(1, True)[0], lambda x: x.topk(3)[0], lambda x: x.kthvalue(2, 0)[0],
    lambda x: x.kthvalue(2, 1, True)[0], lambda x: x.sum().sort()[0], lambda x: x.sum().topk(1)[0],
    lambda x: x.cumsum(1), lambda x: x.cumprod(1), lambda x: x.cummax(1)[0], lambda x: x.cummin(0)[0],
    lambda x: x.sum().cumprod(0),
    lambda x: x.logcumsumexp(1), lambda x: x.diff(n=2, dim=1, prepend=x[:, :1]), lambda x: torch.trapezoid(x, x[0]),
    lambda x: torch.cumulative_trapezoid(x, dx=0.5, dim=0), lambda x: torch.gradient(x, edge_order=2)[1],
    lambda x: torch.gradient(x, spacing=[2.0, torch.tensor([0.0, 1, 3, 4, 6, 9], dtype=torch.float64)])[1],
])
def test_gradients(function):
    assert gradcheck(function, (double(requires_grad=True),))
    assert gradgradcheck(function, (double(requires_grad=True),))


@pytest.mark.parametrize("call, error, message", [
    (lambda x: x.topk(9), RuntimeError, "selected index k out of range"),
    (lambda x: x.topk(1, 5), IndexError, "Dimension out of range"),
    (lambda x: x.kthvalue(0), RuntimeError, "selected number k out of range for dimension 1"),
    (lambda x: x.sort(3), IndexError, r"expected to be in range of \[-2, 1\], but got 3"),
    (lambda x: torch.bincount(torch.tensor([-1])), RuntimeError, "non-negative"),
    (lambda x: torch.bincount(x), NotImplementedError, "not implemented for 'Double'"),
    (lambda x: torch.bincount(torch.tensor([1]), minlength=-1), RuntimeError, "minlength"),
    (lambda x: torch.searchsorted(x, x[0]), RuntimeError, r"\[4, 6\] and input value tensor \[6\]"),
    (lambda x: torch.searchsorted(x[0], x, right=True, side="left"), RuntimeError, "opposites"),
    (lambda x: torch.bucketize(x, x), RuntimeError, "1 dimension"),
    (lambda x: torch.histc(x, 0), RuntimeError, "bins must be > 0"),
    (lambda x: torch.histc(x, min=3, max=1), RuntimeError, "max must be larger than min"),
    (lambda x: torch.histogram(x.long(), 3), NotImplementedError, "Long"),
    (lambda x: torch.diff(x, n=-1), RuntimeError, "order must be non-negative"),
    (lambda x: torch.gradient(x, edge_order=3), RuntimeError, "edge_order=1 and edge_order=2"),
    (lambda x: torch.trapezoid(x, x, dx=1), TypeError, "both x and dx"),
    (lambda x: torch.logcumsumexp(x.long(), 0), NotImplementedError, "Long"),
    (lambda x: torch.unique(torch.empty(2, 0), dim=0), RuntimeError, "0 sized dimensions"),
])
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(double())


# ---- distinct values, places ------------------------------------------------------------------------------


def test_unique():
    x = torch.tensor([[3, 1, 3], [2, 1, 3]])
    assert x.unique().tolist() == [1, 2, 3]
    values, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True)
    assert values[inverse].tolist() == x.tolist() and counts.tolist() == [2, 1, 3]
    rows = torch.tensor([[2, 1], [1, 2], [2, 1], [1, 1]])
    values, inverse, counts = rows.unique(dim=0, return_inverse=True, return_counts=True)
    assert (values.tolist(), inverse.tolist(), counts.tolist()) == ([[1, 1], [1, 2], [2, 1]], [2, 1, 2, 0], [1, 1, 2])
    assert torch.unique(torch.tensor([3, nan, nan, 1])).numel() == 4           # nan differs from itself
    assert rows.T.unique(dim=1).tolist() == [[1, 1, 2], [1, 2, 1]]


def test_unique_consecutive():
    x = torch.tensor([1, 1, 2, 2, 1])
    values, inverse, counts = x.unique_consecutive(return_inverse=True, return_counts=True)
    assert (values.tolist(), inverse.tolist(), counts.tolist()) == ([1, 2, 1], [0, 0, 1, 1, 2], [2, 2, 1])
    rows = torch.tensor([[1, 1], [1, 1], [2, 2], [1, 1]])
    assert torch.unique_consecutive(rows, dim=0).tolist() == [[1, 1], [2, 2], [1, 1]]


def test_searchsorted_and_bucketize():
    edges = torch.tensor([1.0, 3.0, 5.0])
    assert torch.bucketize(torch.tensor([[1.0, 2.0], [5.0, 9.0]]), edges).tolist() == [[0, 1], [2, 3]]
    assert torch.bucketize(torch.tensor([1.0, 5.0]), edges, right=True, out_int32=True).dtype is torch.int32
    assert torch.searchsorted(edges, torch.tensor([1.0, 5.0]), side="right").tolist() == [1, 3]
    rows = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert torch.searchsorted(rows, torch.tensor([[1.5], [9.0]])).tolist() == [[1], [2]]
    falling = torch.tensor([3.0, 1.0])
    assert torch.searchsorted(falling, torch.tensor([2.0]), sorter=torch.tensor([1, 0])).tolist() == [1]
    assert torch.searchsorted(edges, 4.0).item() == 2


def test_isin():
    found = torch.isin(torch.tensor([[1, 2], [3, 4]]), torch.tensor([2.0, 3.0]))
    assert found.tolist() == [[False, True], [True, False]]
    assert torch.isin(torch.tensor([1, 2]), 2, invert=True).tolist() == [True, False]


def test_bincount():
    x = torch.tensor([1, 3, 1])
    assert torch.bincount(x).tolist() == [0, 2, 0, 1]
    assert x.bincount(torch.tensor([0.5, 1.0, 2.0]), minlength=5).tolist() == [0, 2.5, 0, 1, 0]
    assert torch.bincount(torch.empty(0, dtype=torch.int64), minlength=2).tolist() == [0, 0]
    assert torch.bincount(x, torch.ones(3)).dtype is torch.float32 and torch.bincount(x, x).dtype is torch.float64


def test_histograms():
    x = torch.tensor([1.0, 2.0, 1.0, 4.0, nan])[:4]
    assert torch.histc(x, 4, 0, 3).tolist() == [0, 2, 1, 0]
    assert torch.histc(torch.ones(3), 2).tolist() == [0, 3]
    hist, edges = torch.histogram(x, 3)
    assert hist.tolist() == [2, 1, 1] and edges.tolist() == [1, 2, 3, 4]
    hist, edges = torch.histogram(x, torch.tensor([0.0, 1.5, 2.0]), weight=torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert hist.tolist() == [4, 2]
    assert torch.histogram(x, 2, range=(0.0, 4.0), density=True).hist.sum().item() == 0.5
    points = torch.tensor([[0.0, 0.0], [1.0, 2.0], [1.0, 1.9]])
    hist, edges = torch.histogramdd(points, [2, 2])
    assert hist.tolist() == [[1, 0], [0, 2]] and len(edges) == 2


# ---- running ----------------------------------------------------------------------------------------------


def test_running_sums_and_products():
    for dim in (0, 1):
        np.testing.assert_allclose(double().cumsum(dim).numpy(), X.cumsum(dim), rtol=1e-15)
        np.testing.assert_allclose(double().cumprod(dim).numpy(), X.cumprod(dim), rtol=1e-15)
        np.testing.assert_allclose(double().logcumsumexp(dim).numpy(), np.log(np.exp(X).cumsum(dim)), rtol=1e-12)
    assert torch.tensor([True, True]).cumsum(0).tolist() == [1, 2]
    assert torch.tensor([1, 2], dtype=torch.int8).cumprod(0).dtype is torch.int64
    assert torch.tensor([1, 2]).cumsum(0, dtype=torch.float64).dtype is torch.float64
    x = torch.ones(3)
    assert x.cumsum_(0) is x and x.tolist() == [1, 2, 3]
    assert torch.full((4000,), 0.1, dtype=torch.bfloat16).cumsum(0)[-1].item() == pytest.approx(400, rel=0.01)
    assert torch.tensor([-inf, 1.0, inf]).logcumsumexp(0).tolist() == [-inf, 1, inf]


@pytest.mark.parametrize("row", [[2, 0, 3, 4], [0, 2, 0, 3], [1, 2, 3, 0], [0, 0, 0, 1]])
def test_cumprod_with_zeros(row):
    x = torch.tensor([row, [1.0, 2.0, 3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: x.cumprod(1), (x,))
    assert gradgradcheck(lambda x: x.cumprod(1), (x,))
    assert gradcheck(lambda x: x.cumprod(0), (x,))


def test_running_extremes_hold_the_last_position():
    values, indices = torch.tensor([1, 2, 2, nan, 3, nan]).cummax(0)
    same(values, [1, 2, 2, nan, nan, nan])
    assert indices.tolist() == [0, 1, 2, 3, 3, 5]
    assert torch.tensor([1, 2, 2, 1]).cummin(0).indices.tolist() == [0, 0, 0, 3]
    x = torch.tensor([[1.0, 5.0, 2.0]], requires_grad=True)
    x.cummax(1).values.sum().backward()
    assert x.grad.tolist() == [[1, 2, 0]]


def test_differences_and_integrals():
    same(double().diff(), np.diff(X))
    row = np.zeros((1, 6))
    same(double().diff(n=2, dim=0, append=torch.tensor(row)), np.diff(X, 2, 0, append=row))
    assert torch.tensor([True, False, False]).diff().tolist() == [True, False]
    assert torch.trapezoid(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 4.0])).item() == 6.5
    assert torch.trapz(torch.tensor([1, 2, 3])).item() == 4
    assert torch.cumulative_trapezoid(torch.tensor([1.0, 2.0, 3.0]), dx=2).tolist() == [3, 8]
    for order in (1, 2):
        slopes = np.gradient(X, 0.5, edge_order=order)
        for found, expected in zip(torch.gradient(double(), spacing=0.5, edge_order=order), slopes):
            np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    points = np.array([0.0, 1, 3, 4, 6, 9])
    found = torch.gradient(double(), spacing=(torch.tensor(points),), dim=1, edge_order=2)[0]
    np.testing.assert_allclose(found.numpy(), np.gradient(X, points, axis=1, edge_order=2), rtol=1e-12)
