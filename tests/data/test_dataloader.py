"""DataLoader in one process: options, order, lengths."""

import warnings

import pytest

import flambeau as torch
from flambeau.utils.data import DataLoader, IterableDataset, SequentialSampler, TensorDataset

FIVE = list(range(5))


class Stream(IterableDataset):
    def __init__(self, n, claimed=None):
        self.n, self.claimed = n, claimed

    def __iter__(self):
        return iter(range(self.n))

    def __len__(self):
        if self.claimed is None:
            raise TypeError("no length")
        return self.claimed


@pytest.mark.parametrize("options, message", [
    ({"batch_size": 0}, "batch_size=0"), ({"num_workers": -1}, "non-negative"), ({"timeout": -1}, "timeout"),
    ({"prefetch_factor": 2}, "prefetch_factor"), ({"prefetch_factor": -1, "num_workers": 1}, "prefetch_factor"),
    ({"persistent_workers": True}, "persistent_workers"), ({"drop_last": 3}, "drop_last"),
    ({"sampler": [1], "shuffle": True}, "sampler option is mutually exclusive with shuffle"),
    ({"batch_sampler": [[1]], "batch_size": 2}, "batch_sampler"),
    ({"batch_sampler": [[1]], "shuffle": True}, "batch_sampler"),
    ({"batch_sampler": [[1]], "drop_last": True}, "batch_sampler"),
    ({"batch_size": None, "drop_last": True}, "batch_size=None"),
    ({"multiprocessing_context": "fork"}, "num_workers > 0"),
    ({"multiprocessing_context": "walk", "num_workers": 1}, "valid start method"),
])
def test_contradictions(options, message):
    with pytest.raises(ValueError, match=message):
        DataLoader(FIVE, **options)


@pytest.mark.parametrize("options", [{"shuffle": True}, {"sampler": [1]}, {"batch_sampler": [[1]]}])
def test_streams_have_no_order(options):
    with pytest.raises(ValueError, match=f"unspecified {next(iter(options))} option"):
        DataLoader(Stream(3), **options)


def test_wrong_context_type():
    with pytest.raises(TypeError, match="multiprocessing_context"):
        DataLoader(FIVE, num_workers=1, multiprocessing_context=3)


def test_fixed_attributes():
    loader = DataLoader(FIVE)
    with pytest.raises(ValueError, match="batch_size attribute should not be set"):
        loader.batch_size = 2
    loader.num_workers = 0


def test_order_and_draws_are_pytorchs():
    torch.manual_seed(7)
    loader = DataLoader(TensorDataset(torch.arange(8)), 3, shuffle=True)
    passes = [[batch[0].tolist() for batch in loader] for _ in range(2)]
    assert passes == [[[7, 0, 3], [1, 6, 2], [5, 4]], [[1, 0, 7], [3, 4, 6], [5, 2]]]
    assert torch.rand(1).item() == 0.36531615257263184


@pytest.mark.parametrize("batch_size, drop_last, expected", [
    (2, False, [[0, 1], [2, 3], [4]]), (2, True, [[0, 1], [2, 3]]), (5, True, [[0, 1, 2, 3, 4]]),
    (None, False, [0, 1, 2, 3, 4]),
])
@pytest.mark.parametrize("data", [FIVE, Stream(5, 5)], ids=["map", "stream"])
def test_batches_and_length(data, batch_size, drop_last, expected):
    loader = DataLoader(data, batch_size, drop_last=drop_last)
    found = [batch.tolist() if batch_size else batch for batch in loader]
    assert found == expected and len(loader) == len(expected)


def test_samplers_are_used():
    assert [b.tolist() for b in DataLoader(FIVE, 2, sampler=[4, 0, 2])] == [[4, 0], [2]]
    assert [b.tolist() for b in DataLoader(FIVE, batch_sampler=[[4], [0, 2]])] == [[4], [0, 2]]
    assert isinstance(DataLoader(FIVE).sampler, SequentialSampler)


def test_collate_fn():
    assert list(DataLoader(FIVE, 2, collate_fn=sum)) == [1, 5, 4]
    assert list(DataLoader(FIVE, None, collate_fn=lambda x: -x)) == [0, -1, -2, -3, -4]


def test_stream_longer_than_it_said():
    loader = DataLoader(Stream(3, 2))
    assert len(loader) == 2
    with pytest.warns(UserWarning, match="reported to be 2.*3 samples"):
        list(loader)


def test_nothing_is_said_when_nobody_asked_for_the_length():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sum(1 for _ in DataLoader(Stream(3, 2))) == 3     # list() would ask


def test_stream_without_length():
    with pytest.raises(TypeError):
        len(DataLoader(Stream(3)))


def test_pin_memory_says_that_it_does_nothing():
    with pytest.warns(UserWarning, match="no accelerator"):
        list(DataLoader(FIVE, pin_memory=True))


def test_empty():
    assert list(DataLoader([])) == []
    with pytest.raises(ValueError, match="num_samples=0"):
        DataLoader([], shuffle=True)


def test_row_out_of_range():
    with pytest.raises(IndexError):
        list(DataLoader(TensorDataset(torch.ones(2)), batch_sampler=[[5]]))


def test_an_iterator_has_a_length_and_ends():
    it = iter(DataLoader(FIVE, 2))
    assert len(it) == 3 and len(list(it)) == 3
    with pytest.raises(StopIteration):
        next(it)
