"""Joining, splitting, repeating and turning: NumPy as oracle."""

import numpy as np
import pytest

import flambeau as torch
from flambeau.autograd import gradcheck, gradgradcheck

A = np.arange(12.0).reshape(3, 4)
B = -np.arange(12.0).reshape(3, 4) - 1


def tensors(requires_grad=False):
    return torch.tensor(A, requires_grad=requires_grad), torch.tensor(B, requires_grad=requires_grad)


def same(found, expected):
    assert found.shape == expected.shape
    assert found.tolist() == expected.tolist()


def test_cat_and_stack():
    a, b = tensors()
    for dim in (0, 1, -1):
        same(torch.cat([a, b], dim), np.concatenate([A, B], dim))
    for dim in (0, 1, 2, -2):
        same(torch.stack((a, b), dim), np.stack([A, B], dim))
    same(torch.concat((a, b)), np.concatenate([A, B]))
    same(torch.concatenate((a, b), dim=1), np.concatenate([A, B], 1))
    same(torch.cat(tuple(a)), A.reshape(-1))


def test_cat_promotes_and_skips_empty_vectors():
    made = torch.cat([torch.tensor([]), torch.ones(2, 3), torch.ones(1, 3)])
    assert made.shape == (3, 3)
    assert torch.cat([torch.tensor([1]), torch.tensor([1.5])]).dtype is torch.float32
    assert torch.stack([torch.tensor(1), torch.tensor(True)]).dtype is torch.int64
    empty = torch.empty(0, requires_grad=True)
    torch.cat([empty, torch.ones(2, 2)], 1).sum().backward()
    assert empty.grad.shape == (0,)
    assert torch.cat([torch.empty(0), torch.empty(0)]).shape == (0,)


@pytest.mark.parametrize("call, error, message", [
    (lambda: torch.cat([]), ValueError, "non-empty list"),
    (lambda: torch.cat([torch.ones(2, 3), torch.ones(2, 4)]), RuntimeError,
     r"must match except in dimension 0. Expected size 3 but got size 4 for tensor number 1"),
    (lambda: torch.cat([torch.ones(2), torch.ones(2, 2)]), RuntimeError, "got 1 and 2"),
    (lambda: torch.cat([torch.tensor(1.0)]), RuntimeError, "zero-dimensional tensor"),
    (lambda: torch.cat(torch.ones(2)), TypeError, "tuple of Tensors"),
    (lambda: torch.cat([torch.ones(2), 3]), TypeError, "element 1"),
    (lambda: torch.stack([]), RuntimeError, "non-empty"),
    (lambda: torch.stack([torch.ones(3), torch.ones(4)]), RuntimeError, r"\[3\] at entry 0 and \[4\] at entry 1"),
    (lambda: torch.meshgrid(torch.ones(2), torch.ones(2), indexing="no"), RuntimeError, "indexing must be one of"),
    (lambda: torch.block_diag(torch.ones(1, 1, 1)), RuntimeError, "2 or fewer dimensions"),
    (lambda: torch.ones(5).chunk(0), RuntimeError, "greater than 0, got: 0"),
    (lambda: torch.hsplit(torch.ones(5), 2), RuntimeError, "dimension 5 is not divisible by the split_size 2"),
    (lambda: torch.ones(5).tensor_split(0), RuntimeError, "larger than 0, got 0"),
    (lambda: torch.ones(2, 3).repeat(2), RuntimeError, "can not be smaller"),
    (lambda: torch.ones(2).repeat(-1), RuntimeError, "negative dimension"),
    (lambda: torch.ones(2).repeat_interleave(-1), RuntimeError, "non-negative"),
    (lambda: torch.ones(2).repeat_interleave(torch.tensor([1, 2, 3]), 0), RuntimeError, "same size as input along dim"),
    (lambda: torch.ones(2).flip(0, 0), RuntimeError, "multiple times"),
    (lambda: torch.roll(torch.ones(2), (1, 2), 0), RuntimeError, "must align"),
    (lambda: torch.ones(2).tril(), RuntimeError, "at least 2 dimensions"),
    (lambda: torch.diag(torch.ones(1, 1, 1)), RuntimeError, "1D or 2D"),
    (lambda: torch.ones(2, 3).unflatten(1, (2, 2)), RuntimeError, r"\[2, 2\] don't multiply up to the size of dim 1 "
                                                                  r"\(3\)"),
    (lambda: torch.ones(2, 3).flatten(1, 0), RuntimeError, "start_dim cannot come after end_dim"),
    (lambda: torch.ones(2).mT, RuntimeError, "Got 1-D tensor"),
    (lambda: torch.ones(1, 1, 1).t(), RuntimeError, "3D"),
    (lambda: torch.broadcast_tensors(torch.ones(2), torch.ones(3)), RuntimeError, r"tensor a \(2\) must match .* "
                                                                                  r"tensor b \(3\)"),
    (lambda: torch.broadcast_shapes((2,), (3,)), RuntimeError, "cannot be broadcast"),
    (lambda: torch.select_scatter(torch.ones(2, 3), torch.ones(2), 0, 0), RuntimeError, r"src size = \[2\], slice size "
                                                                                        r"= \[3\]"),
])
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_stacks_by_dimension():
    a, b = tensors()
    v, w = a[0], b[0]
    for name in ("hstack", "vstack", "dstack", "column_stack"):
        same(getattr(torch, name)((a, b)), getattr(np, name)((A, B)))
        same(getattr(torch, name)((v, w)), getattr(np, name)((A[0], B[0])))
    same(torch.hstack((torch.tensor(1.0), torch.tensor(2.0))), np.array([1.0, 2.0]))
    assert torch.atleast_3d(torch.ones(4)).shape == (1, 4, 1)
    assert [t.shape for t in torch.atleast_2d(torch.tensor(1.0), torch.ones(3))] == [(1, 1), (1, 3)]


def test_pieces_are_views():
    a = torch.arange(10.0)
    assert [p.tolist() for p in a.chunk(3)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [p.numel() for p in torch.empty(0).chunk(3)] == [0, 0, 0]
    assert [p.tolist() for p in a.tensor_split(3)] == [p.tolist() for p in np.array_split(np.arange(10.0), 3)]
    assert [p.tolist() for p in a.tensor_split((2, -3, 20))] == [[0, 1], [2, 3, 4, 5, 6], [7, 8, 9], []]
    assert [p.tolist() for p in a.tensor_split(torch.tensor([4]))] == [[0, 1, 2, 3], [4, 5, 6, 7, 8, 9]]
    for pieces in (a.chunk(2), a.split(5), a.tensor_split(2), a.hsplit(2)):
        pieces[0].add_(100)
    assert a[0].item() == 400
    assert [p.shape for p in torch.ones(2, 4, 6).dsplit([1, 2])] == [(2, 4, 1), (2, 4, 1), (2, 4, 4)]
    assert [p.shape for p in torch.ones(2, 4).vsplit(2)] == [(1, 4), (1, 4)]


def test_meshgrid_products_and_combinations():
    x, y = torch.arange(3), torch.arange(2)
    for indexing in ("ij", "xy"):
        expected = np.meshgrid([0, 1, 2], [0, 1], indexing=indexing)
        for made, grid in zip(torch.meshgrid(x, y, indexing=indexing), expected):
            same(made, grid)
    with pytest.warns(UserWarning, match="indexing"):
        assert torch.meshgrid([x, y])[0].shape == (3, 2)
    assert torch.cartesian_prod(y, y).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert torch.combinations(x).tolist() == [[0, 1], [0, 2], [1, 2]]
    assert torch.combinations(y, 2, with_replacement=True).tolist() == [[0, 0], [0, 1], [1, 1]]
    assert torch.block_diag(torch.ones(1, 2), torch.tensor(3.0)).tolist() == [[1, 1, 0], [0, 0, 3]]


def test_repetition():
    a, _ = tensors()
    same(a.repeat(2, 1, 3), np.tile(A, (2, 1, 3)))
    same(a.tile(2), np.tile(A, 2))
    assert a.repeat(0, 1).shape == (0, 4)
    same(a.repeat_interleave(2, 1), np.repeat(A, 2, 1))
    same(a.repeat_interleave(3), np.repeat(A, 3))
    same(a.repeat_interleave(torch.tensor([0, 2, 1]), 0), np.repeat(A, [0, 2, 1], 0))
    assert torch.repeat_interleave(torch.tensor([1, 0, 2])).tolist() == [0, 2, 2]


def test_turning():
    a, _ = tensors()
    same(a.flip(0, 1), np.flip(A))
    same(torch.flip(a, dims=(1,)), np.flip(A, 1))
    same(a.fliplr(), np.fliplr(A))
    same(a.flipud(), np.flipud(A))
    same(a.roll(2), np.roll(A, 2))
    same(torch.roll(a, shifts=(1, -1), dims=(0, 1)), np.roll(A, (1, -1), (0, 1)))
    for k in range(-1, 5):
        same(a.rot90(k), np.rot90(A, k))
    flipped = a.flip(0)
    flipped.zero_()
    same(a, A)


def test_triangles_and_diagonals():
    a, _ = tensors()
    for k in (-2, 0, 1, 9):
        same(a.tril(k), np.tril(A, k))
        same(a.triu(k), np.triu(A, k))
        same(torch.tril_indices(3, 4, k), np.array(np.tril_indices(3, k, 4)))
        same(torch.triu_indices(3, 4, k), np.array(np.triu_indices(3, k, 4)))
    same(torch.diag(a, 1), np.diag(A, 1))
    same(torch.diag(a[0], -1), np.diag(A[0], -1))
    same(torch.diagflat(a), np.diagflat(A))
    assert torch.diag_embed(a).shape == (3, 4, 4)
    same(torch.diag_embed(a, dim1=0, dim2=2)[:, 1], np.diag(A[1]))
    lower = torch.ones(3, 3)
    assert lower.tril_() is lower and lower.sum().item() == 6
    same(torch.vander(torch.tensor([1, 2, 3])), np.vander([1, 2, 3]))
    assert [i.tolist() for i in torch.unravel_index(torch.tensor([7, 0]), (3, 4))] == [[1, 0], [3, 0]]


def test_replaced_regions():
    a, _ = tensors()
    expected = A.copy()
    expected[1] = 0
    same(torch.select_scatter(a, torch.zeros(4, dtype=torch.float64), 0, 1), expected)
    expected = A.copy()
    expected[:, ::2] = 5
    same(torch.slice_scatter(a, torch.full((3, 2), 5.0, dtype=torch.float64), 1, 0, 4, 2), expected)
    expected = A.copy()
    np.fill_diagonal(expected, 7)
    same(torch.diagonal_scatter(a, torch.full((3,), 7.0, dtype=torch.float64)), expected)


@pytest.mark.parametrize("function", [
    lambda a, b: torch.cat([a, b, a], 1),
    lambda a, b: torch.stack([a, b], 1),
    lambda a, b: torch.hstack((a, b)) * torch.block_diag(a, b)[:3, :].sum(),
    lambda a, b: a.repeat(2, 2) * b.tile(2, 2),
    lambda a, b: a.repeat_interleave(2, 0) * b.repeat_interleave(torch.tensor([1, 2, 3]), 0),
    lambda a, b: a.roll(3) * b.roll((1, 2), (0, 1)) + a.flip(1),
    lambda a, b: a.tril() @ b.triu(1).T,
    lambda a, b: a.rot90() * b.rot90(-1),
    lambda a, b: torch.diag_embed(a) * torch.diag(b).sum(),
    lambda a, b: torch.select_scatter(a, b[0], 0, 2) * torch.slice_scatter(a, b[:, :2], 1, 0, 2),
    lambda a, b: torch.diagonal_scatter(a, b[:, 0]),
    lambda a, b: sum(x * y for x, y in zip(a.chunk(2, 1), b.tensor_split(2, 1))),
    lambda a, b: torch.cartesian_prod(a[0], b[0]),
    lambda a, b: a.as_strided((3, 3), (1, 2)) * b.as_strided((3, 3), (2, 1), 1),
    lambda a, b: a.expand(2, 3, 4).as_strided((2, 2), (0, 1)) * b.t().as_strided((2, 2), (1, 1)),
])
def test_gradients(function):
    assert gradcheck(function, tensors(requires_grad=True))
    assert gradgradcheck(function, tensors(requires_grad=True))


def test_fill_diagonal_and_python_protocols():
    x = torch.zeros(5, 3)
    assert x.fill_diagonal_(1, wrap=True) is x and x.nonzero().tolist() == [[0, 0], [1, 1], [2, 2], [4, 0]]
    assert torch.zeros(2, 2, 2).fill_diagonal_(3).reshape(-1).tolist() == [3, 0, 0, 0, 0, 0, 0, 3]
    with pytest.raises(RuntimeError, match="equal length"):
        torch.zeros(2, 3, 2).fill_diagonal_(1)
    assert 2 in torch.tensor([1, 2]) and torch.tensor(5) not in torch.tensor([1, 2])
    assert [int(v) for v in reversed(torch.tensor([1, 2, 3]))] == [3, 2, 1]
    y = torch.ones(3, 3, requires_grad=True)
    (y * 2).fill_diagonal_(0).sum().backward()
    assert y.grad.diagonal().sum().item() == 0 and y.grad.sum().item() == 12


def test_meta_tensors_have_only_shapes():
    x, index = torch.zeros(4, 6, device="meta"), torch.tensor([0, 1])
    made = {
        (8, 6): torch.cat([x, x]), (2, 4, 6): torch.stack([x, x]), (24,): x.flatten(), (2, 6): x[index], (6,): x[0],
        (4, 2): x[:, 1:3], (4, 3, 2): x.unfold(1, 2, 2), (8, 12): x.repeat(2, 2),
        (4, 6): x.flip(0).masked_fill(x > 0, 1),
    }
    for shape, tensor in made.items():
        assert tensor.shape == shape and tensor.is_meta
    assert x.index_fill_(0, index, 1) is x
