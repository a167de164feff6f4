"""Datasets and their combinations. Orders were recorded with PyTorch 2.13 (seed 7)."""

import numpy as np
import pytest

import flambeau as torch
from flambeau.utils.data import (
    ChainDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)


class Stream(IterableDataset):
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return iter(range(self.n))


def test_tensor_dataset_gives_rows():
    data = TensorDataset(torch.arange(3), torch.arange(6.0).reshape(3, 2))
    assert len(data) == 3
    number, row = data[1]
    assert number.item() == 1 and row.tolist() == [2.0, 3.0]


def test_tensor_dataset_refuses_different_lengths():
    with pytest.raises(AssertionError, match=r"Size mismatch.*\[2, 3\]"):
        TensorDataset(torch.ones(2), torch.ones(3))


@pytest.mark.parametrize("wrap", [
    lambda d: d, lambda d: Subset(d, [4, 2, 0, 1]), lambda d: Subset(Subset(d, [5, 4, 3]), [2, 0]),
], ids=["dataset", "subset", "subset of a subset"])
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "bfloat16"])
def test_batches_in_one_step_equal_batches_the_long_way(wrap, dtype):
    data = wrap(TensorDataset(torch.arange(12).reshape(6, 2).to(getattr(torch, dtype)), torch.arange(6)))
    quick = list(DataLoader(data, 2))
    slow = list(DataLoader(data, 2, collate_fn=lambda samples: torch.utils.data.default_collate(samples)))
    assert len(quick) == len(slow)
    for a, b in zip(quick, slow):
        assert type(a) is type(b) is list
        for x, y in zip(a, b):
            assert x.dtype is y.dtype and x.tolist() == y.tolist() and x.is_contiguous()


def test_a_batch_does_not_share_memory_with_the_dataset():
    values = torch.zeros(4)
    batch, = next(iter(DataLoader(TensorDataset(values), 4)))
    batch.fill_(1)
    assert values.sum().item() == 0


def test_own_getitem_of_a_subclass_is_used():
    class Negated(TensorDataset):
        def __getitem__(self, index):
            return tuple(-t for t in super().__getitem__(index))

    batch, = next(iter(DataLoader(Subset(Negated(torch.arange(4)), [3, 1]), 2)))
    assert batch.tolist() == [-3, -1]


def test_getitems_fetches_a_batch_at_once():
    asked = []

    class Together(Dataset):
        def __len__(self):
            return 4

        def __getitems__(self, indices):
            asked.append(indices)
            return [torch.tensor(i) for i in indices]

    assert [b.tolist() for b in DataLoader(Subset(Together(), [3, 2, 1, 0]), 3)] == [[3, 2, 1], [0]]
    assert asked == [[3, 2, 1], [0]]


def test_concat():
    data = ConcatDataset([[1, 2], [3], range(4, 6)])
    assert len(data) == 5 and [data[i] for i in range(5)] == [1, 2, 3, 4, 5] and data[-1] == 5
    with pytest.raises(ValueError, match="should not exceed"):
        data[-6]
    with pytest.raises(AssertionError):
        ConcatDataset([])
    with pytest.raises(AssertionError, match="IterableDataset"):
        ConcatDataset([Stream(2)])


def test_adding_datasets():
    assert list(Stream(2) + Stream(3)) == [0, 1, 0, 1, 2]
    both = TensorDataset(torch.arange(2)) + TensorDataset(torch.arange(3))
    assert isinstance(both, ConcatDataset) and len(both) == 5


def test_chain_takes_only_streams():
    with pytest.raises(AssertionError, match="only supports IterableDataset"):
        list(ChainDataset([[1, 2]]))


def test_stack():
    assert StackDataset([1, 2], "ab")[1] == (2, "b")
    named = StackDataset(x=[1, 2], y="ab")
    assert named[0] == {"x": 1, "y": "a"}
    assert named.__getitems__([1, 0]) == [{"x": 2, "y": "b"}, {"x": 1, "y": "a"}]
    with pytest.raises(ValueError, match="Size mismatch"):
        StackDataset([1], [1, 2])
    with pytest.raises(ValueError, match="At least one"):
        StackDataset()
    with pytest.raises(ValueError, match="both"):
        StackDataset([1], x=[1])


def test_subset_past_the_end():
    with pytest.raises(IndexError):
        Subset([1, 2], [5])[0]


def test_random_split_draws_as_pytorch():
    torch.manual_seed(7)
    parts = random_split(range(10), [0.5, 0.3, 0.2])
    assert [list(p.indices) for p in parts] == [[5, 0, 3, 4, 1], [7, 9, 6], [8, 2]]


def test_random_split_gives_leftovers_to_the_first_parts():
    assert [len(p) for p in random_split(range(11), [0.5, 0.25, 0.25])] == [6, 3, 2]


@pytest.mark.parametrize("lengths, message", [([3, 3], "Sum of input lengths"), ([-0.5, 1.5], "not between 0 and 1")])
def test_random_split_errors(lengths, message):
    with pytest.raises(ValueError, match=message):
        random_split(range(10), lengths)


def test_random_split_warns_of_an_empty_part():
    with pytest.warns(UserWarning, match="Length of split at index 1 is 0"):
        random_split(range(1), [0.5, 0.5])


def test_abstract_datasets():
    with pytest.raises(NotImplementedError):
        Dataset()[0]
    with pytest.raises(TypeError, match="__iter__"):
        IterableDataset()


def test_rows_from_numpy_memory():
    values = np.arange(6.0).reshape(3, 2)
    data = TensorDataset(torch.from_numpy(values))
    values[0, 0] = 9
    assert next(iter(DataLoader(data, 3)))[0][0, 0].item() == 9
