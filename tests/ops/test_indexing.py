"""Indexing: views, copies, writing through both, gather and scatter, masks; NumPy or plain loops as oracle."""

import itertools
import warnings

import numpy as np
import pytest

import flambeau as torch
from flambeau.autograd import gradcheck, gradgradcheck

GRID = np.arange(60.0).reshape(3, 4, 5)


def grid(requires_grad=False):
    return torch.tensor(GRID, requires_grad=requires_grad)


def randn(*shape):
    return torch.tensor(np.random.default_rng(sum(shape) + 7).normal(size=shape), requires_grad=True)


# ---- x[...] ------------------------------------------------------------------------------------------

BASIC = [
    0, -1, slice(1, None), slice(None), slice(0, 3, 2), slice(5, 9), (0, 1), (slice(None), 2), (..., 0), (0, ...), (),
    ..., None, (None, 0), (slice(None), None, 1), (0, slice(1, 3), slice(None, None, 2)), (1, 2, 3), (slice(2, 1),),
]
ADVANCED = [
    [0, 2], ([0, 2], [1, 3]), ([[0], [1]], [[1, 2]]), (slice(None), [0, 3, 0]), (slice(1, 3), [0, 1], [1, 1]),
    ([0, 1], slice(None), [1, 1]), (..., [0, -1]), (None, [0, 1]), np.array([1, 0]), [],
]


def arrays(index):
    """The same key for NumPy, whose empty lists are not integers."""
    if isinstance(index, tuple):
        return tuple(map(arrays, index))
    return np.array(index, int) if isinstance(index, list) else index


@pytest.mark.parametrize("index", BASIC, ids=str)
def test_basic_indexing_gives_views(index):
    x = grid()
    view = x[index]
    assert view.tolist() == GRID[index].tolist()
    if view.numel():
        view.fill_(-1.0)
        assert (x == -1).sum().item() == view.numel()


@pytest.mark.parametrize("index", ADVANCED, ids=str)
def test_advanced_indexing_copies(index):
    x = grid()
    picked = x[index]
    assert picked.tolist() == GRID[arrays(index)].tolist()
    assert picked.is_contiguous()
    picked.fill_(-1.0)
    assert x.tolist() == GRID.tolist()


def test_integers_are_taken_before_index_lists():
    x = torch.zeros(2, 3, 4, 5)
    assert x[0, :, [1]].shape == (3, 1, 5)                  # NumPy: (1, 3, 5)
    assert x[:, [0], :, [1]].shape == (1, 2, 4)
    assert x[:, [0], 1, [1]].shape == (2, 1)
    assert x[..., 0, [1, 2]].shape == (2, 3, 2)


def test_masks_and_truth_values():
    x = grid()
    assert x[x > 50].tolist() == GRID[GRID > 50].tolist()
    rows = torch.tensor([True, False, True])
    assert x[rows].tolist() == GRID[[0, 2]].tolist()
    assert x[rows, :, 0].tolist() == GRID[[0, 2], :, 0].tolist()
    assert x[:, torch.tensor([True, False, False, True]), [1, 2]].tolist() == GRID[:, [0, 3], [1, 2]].tolist()
    assert x[True].shape == (1, 3, 4, 5) and x[False].shape == (0, 3, 4, 5)
    assert x[[True, False, True]].shape == (2, 4, 5)
    assert torch.tensor(1.0)[torch.tensor(True)].tolist() == [1.0]


def test_zero_dim_tensors_are_numbers():
    x = grid()
    view = x[torch.tensor(1), np.int64(2)]
    view.zero_()
    assert x[1, 2].tolist() == [0.0] * 5
    assert x[torch.tensor(0) : torch.tensor(2)].shape == (2, 4, 5)
    assert ["a", "b"][torch.tensor(1)] == "b" and np.arange(3)[torch.tensor(2)] == 2


def test_new_dimensions_have_pytorchs_strides():
    x = torch.zeros(3, 4)
    assert x[None].stride() == (12, 4, 1)
    assert x[:, None].stride() == (4, 4, 1)
    assert x[..., None].stride() == (4, 1, 1)


def test_names_of_nodes():
    x = grid(requires_grad=True)
    names = {"Select": x[0], "Slice": x[1:], "Unsqueeze": x[None], "Alias": x[...], "Index": x[[0, 1]]}
    for name, made in names.items():
        assert made.grad_fn.name() == name + "Backward0"
    assert x[x > 3].grad_fn.name() == "IndexBackward0"


def test_lists_of_lists_warn_and_count_as_tuples():
    with pytest.warns(UserWarning, match="non-tuple sequence"):
        assert grid()[[[0, 1], [1, 2]]].tolist() == GRID[[0, 1], [1, 2]].tolist()
    with pytest.warns(UserWarning, match="uint8"):
        assert grid()[torch.tensor([1, 0, 1], dtype=torch.uint8)].shape == (2, 4, 5)


@pytest.mark.parametrize("index, error, message", [
    (3, IndexError, "index 3 is out of bounds for dimension 0 with size 3"),
    ((0, -5), IndexError, "index -5 is out of bounds for dimension"),
    ((0, 0, 0, 0), IndexError, "too many indices for tensor of dimension 3"),
    (1.0, IndexError, "got float"),
    (torch.tensor([1.0]), IndexError, "must be long, int, byte or bool"),
    ([0, 7], IndexError, "index 7 is out of bounds for dimension 0 with size 3"),
    (([0, 1], [0, 1, 2]), IndexError, r"could not be broadcast together with shapes \[2\], \[3\]"),
    (torch.tensor([True, False]), IndexError, r"mask \[2\] at index 0 .* tensor \[3, 4, 5\] at index 0"),
    (slice(None, None, -1), ValueError, "step must be greater than zero"),
    (slice(None, None, 0), ValueError, "slice step cannot be zero"),
])
def test_index_errors(index, error, message):
    with pytest.raises(error, match=message):
        grid()[index]


def test_index_errors_of_zero_dim_tensors():
    with pytest.raises(IndexError, match="invalid index of a 0-dim tensor"):
        torch.tensor(1.0)[0]
    with pytest.raises(IndexError, match="0-dim"):
        torch.tensor(1.0)[0:1]


@pytest.mark.parametrize("index", [*BASIC, *ADVANCED[:-1], (..., [1, 1, 1]), GRID > 30], ids=lambda i: str(i)[:9])
def test_gradients_of_indexing(index):
    index = torch.tensor(index) if isinstance(index, np.ndarray) else index
    assert gradcheck(lambda x: x[index], (grid(requires_grad=True),))


def test_gradients_of_indexing_twice():
    assert gradgradcheck(lambda x: x[[0, 0, 2]] * x[1:2], (randn(3, 2),))
    assert gradgradcheck(lambda x: x[x.detach() > 0] ** 2, (randn(3, 2),))


def test_duplicates_add_up_in_half_precision():
    x = torch.zeros(2, 3, dtype=torch.bfloat16, requires_grad=True)
    x[torch.zeros(300, dtype=torch.int64)].sum().backward()
    assert x.grad.tolist() == [[300.0] * 3, [0.0] * 3]


# ---- x[...] = v ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [i for i in [*BASIC, *ADVANCED] if i is not None], ids=str)
@pytest.mark.parametrize("value", ["number", "tensor"])
@pytest.mark.parametrize("recorded", [False, True])
def test_assignment(index, value, recorded):
    expected = GRID.copy()
    key = arrays(index)
    new = -7.0 if value == "number" else np.arange(expected[key].size, dtype=float).reshape(expected[key].shape)
    expected[key] = new
    x = grid(requires_grad=recorded) * 1
    x[index] = new if value == "number" else torch.tensor(new)
    assert x.tolist() == expected.tolist()
    assert x.requires_grad == recorded


def test_assignment_through_views_keeps_history():
    base = randn(3, 4)
    value = randn(4)
    x = base * 2
    x[1] = value
    x[:, 0][x[:, 0] > 100] = 0
    x[[0, 2], [1, 1]] = value[:2]
    x.sum().backward()
    assert base.grad.tolist() == [[2, 0, 2, 2], [0, 0, 0, 0], [2, 0, 2, 2]]
    assert value.grad.tolist() == [2, 2, 1, 1]


def test_assignment_gives_a_plain_tensor_history():
    value = randn(2)
    x = torch.zeros(3, 2, dtype=torch.float64)
    row = x[1]
    row[:] = value
    assert x.requires_grad and x[1].tolist() == value.tolist()
    (x * torch.tensor([[1.0], [5.0], [1.0]])).sum().backward()
    assert value.grad.tolist() == [5, 5]


def test_assigned_values_are_cast_and_broadcast():
    x = torch.zeros(3, 4, dtype=torch.int64)
    x[0] = 2.7
    x[1] = torch.tensor([1.9, 1.1, 0.0, 3.5])
    x[:, 3] = torch.ones(1, 1, 3)
    x[torch.tensor([True, False, False])] = True
    assert x.tolist() == [[1, 1, 1, 1], [1, 1, 0, 1], [0, 0, 0, 1]]


@pytest.mark.parametrize("index, value, error, message", [
    (0, torch.ones(2, 4), RuntimeError, r"sizes provided \(1\)"),
    (0, torch.ones(3), RuntimeError, r"expanded size of the tensor \(4\) must match the existing size \(3\)"),
    ([0, 1], torch.ones(3), RuntimeError, r"value tensor of shape \[3\] cannot be broadcast to indexing result of "
                                          r"shape \[2, 4\]"),
    ([0, 1], torch.ones(2, 4, dtype=torch.float64), RuntimeError, "got Float for the destination and Double for the "
                                                                  "source"),
    (0, [1, 2, 3, 4], TypeError, "can't assign a list to a torch.FloatTensor"),
    (0, np.ones(4), TypeError, "can't assign a numpy.ndarray"),
    (0, 1j, RuntimeError, "cannot be converted"),
    ([0, 9], 1.0, IndexError, "index 9 is out of bounds for dimension 0 with size 3"),
    (slice(None, None, -1), 1.0, ValueError, "step must be greater than zero"),
])
@pytest.mark.parametrize("recorded", [False, True])
def test_assignment_errors(index, value, error, message, recorded):
    x = torch.ones(3, 4, requires_grad=recorded) * 1
    with pytest.raises(error, match=message):
        x[index] = value


def test_assigning_into_expanded_memory_and_leaves_is_refused():
    with pytest.raises(RuntimeError, match="single memory location"):
        torch.zeros(1).expand(3)[:] = 1.0
    with pytest.raises(RuntimeError, match="leaf"):
        torch.zeros(3, requires_grad=True)[0] = 1.0


def test_index_put_accumulates_duplicates():
    x = torch.zeros(3, dtype=torch.float64)
    where = (torch.tensor([0, 2, 0]),)
    assert x.index_put(where, torch.ones(3, dtype=torch.float64), accumulate=True).tolist() == [2, 0, 1]
    assert x.index_put_(where, torch.tensor(1.0, dtype=torch.float64)) is x and x.tolist() == [1, 0, 1]
    assert gradcheck(lambda x, v: x.index_put(where, v, accumulate=True), (randn(3), randn(3)))
    assert gradcheck(lambda x, v: x.index_put((torch.tensor([0, 2]), torch.tensor([1, 1])), v), (randn(3, 2), randn(2)))
    pair = (randn(2, 3), randn(2, 3))
    assert gradcheck(lambda x, v: x.clone().index_put_((None, where[0]), v, accumulate=True), pair)


# ---- along a dimension -----------------------------------------------------------------------------------


def test_index_select_add_copy_fill():
    x, index = grid(), torch.tensor([2, 0, 2])
    assert torch.index_select(x, 0, index).tolist() == GRID[[2, 0, 2]].tolist()
    assert x.index_select(-1, torch.tensor(1)).shape == (3, 4, 1)
    expected = GRID.copy()
    np.add.at(expected, [2, 0, 2], 2 * np.ones((3, 4, 5)))
    assert x.index_add(0, index, torch.ones(3, 4, 5, dtype=torch.float64), alpha=2).tolist() == expected.tolist()
    expected = GRID.copy()
    expected[:, :, [2, 0]] = -1
    assert x.index_fill(2, index[:2], -1).tolist() == expected.tolist()
    assert x.index_copy(2, index[:2], -torch.ones(3, 4, 2, dtype=torch.float64)).tolist() == expected.tolist()
    for change in (x.index_fill_(2, index, 0), x.index_add_(0, index, grid()), x.index_copy_(0, index, grid())):
        assert change is x


@pytest.mark.parametrize("function", [
    lambda x, y: torch.index_select(x, 1, torch.tensor([2, 0, 2])) * y[:, :3],
    lambda x, y: torch.index_add(x, 1, torch.tensor([2, 0, 2, 1]), y, alpha=3),
    lambda x, y: torch.index_copy(x, 1, torch.tensor([2, 0, 3, 1]), y),
    lambda x, y: torch.index_fill(x, 0, torch.tensor([2, 0]), y[0, 0]),
    lambda x, y: torch.gather(x, 1, torch.tensor([[0, 0], [3, 1]])) * y[:2, :2],
    lambda x, y: torch.scatter(x, 1, torch.tensor([[0, 2], [3, 1]]), y),
    lambda x, y: torch.scatter(x, 0, torch.tensor([[0, 2], [2, 1]]), 5.0) * y,
    lambda x, y: torch.scatter_add(x, 0, torch.tensor([[0, 0, 1, 2], [0, 2, 1, 2]]), y),
    lambda x, y: torch.take(x, torch.tensor([[0, 5], [-1, 5]])) * y[:2, :2],
    lambda x, y: torch.put(x, torch.tensor([0, 5, 0]), y.reshape(-1)[:3], accumulate=True),
    lambda x, y: torch.put(x, torch.tensor([0, 5, 7]), y.reshape(-1)[:3]),
    lambda x, y: torch.take_along_dim(x, torch.tensor([[0], [2], [-1]]), 1) * y,
    lambda x, y: x.masked_fill(y.detach() > 0, y[0, 0]),
    lambda x, y: torch.masked_select(x, y[0].detach() > 0),
    lambda x, y: torch.masked_scatter(x, x.detach() > 0, y),
    lambda x, y: torch.where(x.detach() > 0, x, y[:, :1]),
])
def test_gradients(function):
    assert gradcheck(function, (randn(3, 4), randn(3, 4)))
    assert gradgradcheck(function, (randn(3, 4), randn(3, 4)))


def test_gather_and_scatter_against_loops():
    rng = np.random.default_rng(0)
    x, index = rng.normal(size=(3, 4, 5)), rng.integers(0, 4, size=(2, 6, 5))
    picked = np.empty(index.shape)
    added, written = x.copy(), x.copy()
    source = rng.normal(size=(3, 7, 5))
    for i, j, k in np.ndindex(index.shape):
        picked[i, j, k] = x[i, index[i, j, k], k]
        added[i, index[i, j, k], k] += source[i, j, k]
        written[i, index[i, j, k], k] = source[i, j, k]
    tx, ti, ts = torch.tensor(x), torch.tensor(index), torch.tensor(source)
    np.testing.assert_array_equal(tx.gather(1, ti).numpy(), picked)
    np.testing.assert_allclose(tx.scatter_add(1, ti, ts).numpy(), added, rtol=1e-12)
    np.testing.assert_array_equal(tx.scatter(1, ti, ts).numpy(), written)
    np.testing.assert_allclose(tx.scatter(1, ti, ts, reduce="add").numpy(), added, rtol=1e-12)
    assert tx.scatter_add_(1, ti, ts) is tx
    np.testing.assert_allclose(tx.numpy(), added, rtol=1e-12)


REDUCTIONS = {"sum": np.sum, "prod": np.prod, "mean": np.mean, "amax": np.max, "amin": np.min}


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_scatter_reduce(reduce, include_self):
    start, index = np.array([5.0, 1.0, -2.0, 4.0]), np.array([0, 1, 0, 3, 0])
    source = np.array([0.0, 2.0, 3.0, 4.0, -1.0])
    expected = []
    for i in range(4):
        own = start[i : i + 1] if include_self or i not in index else start[:0]
        expected.append(REDUCTIONS[reduce](np.concatenate((own, source[index == i]))))
    x, where, y = torch.tensor(start), torch.tensor(index), torch.tensor(source)
    assert x.scatter_reduce(0, where, y, reduce, include_self=include_self).tolist() == expected
    if reduce != "sum":
        assert x.index_reduce(0, where, y, reduce, include_self=include_self).tolist() == expected
    x.requires_grad_()
    y.requires_grad_()
    assert gradcheck(lambda x, y: torch.scatter_reduce(x * 1.5, 0, where, y, reduce, include_self=include_self), (x, y))


def test_extremes_of_a_scatter_share_the_gradient():
    x = torch.tensor([1.0, 3.0], requires_grad=True)
    y = torch.tensor([3.0, 3.0, 0.0], requires_grad=True)
    torch.scatter_reduce(x, 0, torch.tensor([1, 1, 0]), y, "amax").sum().backward()
    assert x.grad.tolist() == pytest.approx([1, 1 / 3]) and y.grad.tolist() == pytest.approx([1 / 3, 1 / 3, 0])


@pytest.mark.parametrize("call, error, message", [
    (lambda x, i: x.gather(0, i), RuntimeError, "index 9 is out of bounds for dimension 0 with size 3"),
    (lambda x, i: x.gather(0, i.float()), RuntimeError, "Expected dtype int64"),
    (lambda x, i: x.gather(5, i), IndexError, "Dimension out of range"),
    (lambda x, i: x.scatter(0, i, 1.0), RuntimeError, "index 9 is out of bounds"),
    (lambda x, i: x.scatter(0, i, torch.ones(1).double()), RuntimeError, "index 9"),
    (lambda x, i: x.scatter(0, i - 9, torch.ones(1).double()), RuntimeError, "Float and Double"),
    (lambda x, i: x.gather(0, torch.tensor([[0]])), RuntimeError, "same number of dimensions"),
    (lambda x, i: torch.ones(2, 3).gather(1, torch.zeros(3, 1).long()), RuntimeError, r"\[3, 1\] .* larger"),
    (lambda x, i: x.index_select(0, i), IndexError, "index out of range"),
    (lambda x, i: x.index_select(0, torch.tensor([[0]])), IndexError, "supposed to be a vector"),
    (lambda x, i: x.index_add(0, torch.tensor([0, 1]), torch.ones(3)), RuntimeError, r"Number of indices \(2\)"),
    (lambda x, i: x.take(i), IndexError, "out of bounds"),
    (lambda x, i: x.masked_fill(torch.tensor([1, 0, 1]), 0), RuntimeError, "boolean mask"),
    (lambda x, i: x.masked_fill_(torch.ones(2, 3, dtype=torch.bool), 0), RuntimeError, r"output with shape \[3\]"),
    (lambda x, i: x.masked_fill(x > 0, torch.ones(2)), RuntimeError, "0-dimensional value tensor"),
    (lambda x, i: i.masked_fill(i > 0, 1.5), RuntimeError, "cannot be converted"),
    (lambda x, i: x.masked_scatter(x > 0, torch.ones(2)), RuntimeError, "Number of elements of source"),
    (lambda x, i: torch.where(i, x, x), RuntimeError, "boolean tensor"),
    (lambda x, i: x.scatter_reduce(0, torch.tensor([0]), x, "max"), RuntimeError, "reduce argument"),
])
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(torch.ones(3), torch.tensor([9]))


# ---- masks -------------------------------------------------------------------------------------------------


def test_nonzero_where_argwhere():
    x = torch.tensor([[0, 3], [4, 0]])
    assert x.nonzero().tolist() == torch.argwhere(x).tolist() == [[0, 1], [1, 0]]
    assert [i.tolist() for i in torch.where(x > 0)] == [[0, 1], [1, 0]]
    assert [i.tolist() for i in x.nonzero(as_tuple=True)] == [[0, 1], [1, 0]]
    assert torch.tensor(5).nonzero().shape == (1, 0)
    assert [i.tolist() for i in torch.tensor(5).nonzero(as_tuple=True)] == [[0]]
    assert torch.where(x > 0, 1.5, x).dtype is torch.float32
    assert torch.where(x > 0, x, torch.zeros(2, dtype=torch.float64)).dtype is torch.float64
    assert torch.where(torch.tensor(True), 1, 2).item() == 1


def test_masked_forms_broadcast_and_write_in_place():
    x = torch.zeros(2, 3)
    mask = torch.tensor([True, False, True])
    assert x.masked_fill(mask, 5).tolist() == [[5, 0, 5]] * 2
    assert x.masked_fill_(mask, -float("inf")) is x and x[0, 0].item() == -float("inf")
    assert torch.ones(3).masked_fill(torch.tensor([[True], [False]]), 2).tolist() == [[2] * 3, [1] * 3]
    assert x.masked_scatter_(mask, torch.arange(10.0)).tolist() == [[0, 0, 1], [2, 0, 3]]
    assert x.masked_select(mask).tolist() == [0, 1, 2, 3]


def test_a_gradient_path_for_every_in_place_form():
    """x.clone().op_() is differentiated like op()."""
    index = torch.tensor([[1, 0, 1], [0, 0, 1]])
    forms = {
        "masked_fill": (torch.tensor([True, False, True]), 2.0), "index_fill": (1, torch.tensor([0, 2]), 1.0),
        "scatter": (0, index, 3.0), "scatter_add": (0, index, torch.ones(2, 3, dtype=torch.float64)),
        "put": (torch.tensor([1, 5]), torch.ones(2, dtype=torch.float64)),
    }
    for name, args in forms.items():
        x, y = randn(2, 3), randn(2, 3)
        (getattr(x, name)(*args) ** 2).sum().backward()
        changed = y.clone()
        assert getattr(changed, name + "_")(*args) is changed
        (changed**2).sum().backward()
        assert x.grad.tolist() == y.grad.tolist(), name


def test_random_keys_agree_with_numpy():
    rng = np.random.default_rng(3)
    choices = [slice(None), slice(1, None), [0, 1, 1], np.array([[1], [0]]), None]
    for keys in itertools.product(choices, repeat=3):
        if sum(k is not None for k in keys) == 0:
            continue
        array = rng.normal(size=(3, 3, 3))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            made = torch.tensor(array)[keys]
        np.testing.assert_array_equal(made.numpy(), array[keys])
