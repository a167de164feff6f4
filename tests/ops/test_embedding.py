"""Embeddings, bags, one-hot: what changes gradients only, what changes the table, errors."""

import pytest

import flambeau as torch
import flambeau.nn.functional as F
from flambeau.autograd import gradcheck, gradgradcheck


def table(rows=4, width=2):
    return torch.arange(1.0, rows * width + 1, dtype=torch.float64).reshape(rows, width).requires_grad_()


def test_rows_and_shapes():
    weight = table()
    assert F.embedding(torch.tensor([[3, 0]]), weight).tolist() == [[[7.0, 8.0], [1.0, 2.0]]]
    assert F.embedding(torch.tensor(1), weight).tolist() == [3.0, 4.0]
    assert F.embedding(torch.zeros(0, 3, dtype=torch.int32), weight).shape == (0, 3, 2)


def test_derivatives():
    indices = torch.tensor([[1, 0, 1], [3, 1, 1]])
    assert gradcheck(lambda w: F.embedding(indices, w), (table(),))
    assert gradgradcheck(lambda w: F.embedding(indices, w), (table(),))
    for mode in ("sum", "mean", "max"):
        assert gradcheck(lambda w, mode=mode: F.embedding_bag(indices, w, mode=mode), (table(),))


def test_padding_and_frequency_change_gradients_only():
    weight = table()
    indices = torch.tensor([1, 1, 0, 3])
    out = F.embedding(indices, weight, padding_idx=-1, scale_grad_by_freq=True)
    assert out.tolist() == F.embedding(indices, weight).tolist()
    out.sum().backward()
    assert weight.grad[:, 0].tolist() == [1.0, 1.0, 0.0, 0.0]


def test_max_norm_changes_the_table():
    weight = torch.tensor([[3.0, 4.0], [30.0, 40.0], [0.3, 0.4]])
    out = F.embedding(torch.tensor([0, 2]), weight, max_norm=1.0)
    assert out.flatten().tolist() == pytest.approx([0.6, 0.8, 0.3, 0.4], rel=1e-5)
    assert weight[0].tolist() == pytest.approx([0.6, 0.8], rel=1e-5) and weight[1].tolist() == [30.0, 40.0]
    version = weight._version
    F.embedding(torch.tensor([1]), weight, max_norm=1.0, norm_type=1.0)
    assert weight[1].tolist() == pytest.approx([3 / 7, 4 / 7], rel=1e-5) and weight._version > version


def test_embedding_mistakes():
    weight = table()
    for index in (4, -1):
        with pytest.raises(IndexError, match=f"{index} in a table of 4 rows"):
            F.embedding(torch.tensor([0, index]), weight)
    with pytest.raises(RuntimeError, match="Long, Int; but got Float"):
        F.embedding(torch.tensor([0.0]), weight)
    with pytest.raises(AssertionError, match="Padding_idx"):
        F.embedding(torch.tensor([0]), weight, padding_idx=4)
    with pytest.raises(RuntimeError, match="2-D"):
        F.embedding(torch.tensor([0]), torch.ones(4))


def test_bags():
    weight = table()
    flat, offsets = torch.tensor([0, 1, 3]), torch.tensor([0, 2, 2])
    assert F.embedding_bag(flat, weight, offsets, mode="sum").tolist() == [[4.0, 6.0], [0.0, 0.0], [7.0, 8.0]]
    assert F.embedding_bag(flat, weight, offsets).tolist()[0] == [2.0, 3.0]
    assert F.embedding_bag(flat, weight, offsets, mode="max").tolist()[:2] == [[3.0, 4.0], [0.0, 0.0]]
    closed = F.embedding_bag(flat, weight, torch.tensor([0, 2, 3]), include_last_offset=True, mode="sum")
    assert closed.tolist() == [[4.0, 6.0], [7.0, 8.0]]
    padded = F.embedding_bag(torch.tensor([[0, 1], [1, 1]]), weight, padding_idx=1)
    assert padded.tolist() == [[1.0, 2.0], [0.0, 0.0]]


def test_bag_mistakes():
    weight, rows = table(), torch.tensor([[0, 1]])
    with pytest.raises(ValueError, match="sum, mean or max"):
        F.embedding_bag(rows, weight, mode="median")
    with pytest.raises(ValueError, match="offsets has to be None"):
        F.embedding_bag(rows, weight, torch.tensor([0]))
    with pytest.raises(ValueError, match="1D Tensor but got None"):
        F.embedding_bag(rows[0], weight)
    with pytest.raises(RuntimeError, match=r"offsets\[0\] has to be 0"):
        F.embedding_bag(rows[0], weight, torch.tensor([1]))
    with pytest.raises(RuntimeError, match="input's length"):
        F.embedding_bag(rows[0], weight, torch.tensor([0, 5]))
    with pytest.raises(NotImplementedError, match="mode='mean'"):
        F.embedding_bag(rows, weight, per_sample_weights=torch.ones(1, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match="same shape as the input"):
        F.embedding_bag(rows, weight, mode="sum", per_sample_weights=torch.ones(2, dtype=torch.float64))
    with pytest.raises(ValueError, match="frequency"):
        F.embedding_bag(rows, weight, mode="max", scale_grad_by_freq=True)


def test_one_hot():
    assert F.one_hot(torch.tensor(1), 3).tolist() == [0, 1, 0]
    assert F.one_hot(torch.zeros(0, 2, dtype=torch.int64), 3).shape == (0, 2, 3)
    for numbers, classes, match in (
        (torch.tensor([1.0]), -1, "LongTensor"),
        (torch.tensor([-1]), -1, "non-negative"),
        (torch.tensor([3]), 3, "smaller than num_classes"),
        (torch.tensor([0]), 0, "positive"),
        (torch.zeros(0, dtype=torch.int64), -1, "empty tensor"),
    ):
        with pytest.raises(RuntimeError, match=match):
            F.one_hot(numbers, classes)


def test_embedding_bag_with_the_table_first():
    """Recorded from PyTorch: the result, the bag of each index, the sizes of the bags, the rows of the maxima."""
    table, indices, offsets = torch.arange(6.0).reshape(3, 2), torch.tensor([0, 1, 2]), torch.tensor([0, 2])
    expected = {
        0: ([[2.0, 4.0], [4.0, 5.0]], [], [0, 0], [0, 0]),
        1: ([[1.0, 2.0], [4.0, 5.0]], [0, 0, 1], [2, 1], [2, 1]),
        2: ([[2.0, 3.0], [4.0, 5.0]], [0, 0, 1], [2, 1], [[1, 1], [2, 2]]),
    }
    for mode, values in expected.items():
        got = torch.embedding_bag(table, indices, offsets, mode=mode)
        assert tuple(part.tolist() for part in got) == values
