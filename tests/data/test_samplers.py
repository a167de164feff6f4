"""Samplers; the orders were recorded with PyTorch 2.13 (seed 7)."""

import pytest

import flambeau as torch
from flambeau.utils.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(7)


def test_random_order_and_what_is_drawn_after_it():
    assert list(RandomSampler(range(10))) == [3, 0, 1, 9, 4, 7, 2, 5, 6, 8]
    assert torch.rand(1).item() == 0.6592116951942444


def test_replacement():
    expected = [3, 5, 7, 1, 0, 2, 3, 6, 1, 1, 6, 6, 0, 6, 0, 7, 4, 8, 6, 8, 0, 2, 4, 9, 6, 0, 4, 4, 1, 2, 7, 8, 8, 8, 1,
                5, 8, 1, 9, 3]
    assert list(RandomSampler(range(10), True, num_samples=40)) == expected


def test_more_samples_than_there_are():
    assert list(RandomSampler(range(5), num_samples=12)) == [3, 4, 0, 1, 2, 0, 3, 2, 1, 4, 1, 4]


def test_own_generator():
    generator = torch.Generator().manual_seed(7)
    assert list(RandomSampler(range(5), num_samples=10, generator=generator)) == [0, 1, 3, 2, 4, 3, 4, 1, 2, 0]
    assert torch.rand(1, generator=generator).item() == 0.28683900833129883


def test_subset_and_weights():
    assert list(SubsetRandomSampler([3, 5, 8, 13])) == [13, 8, 3, 5]
    torch.manual_seed(7)
    assert list(WeightedRandomSampler([0.1, 0.6, 0.3], 12)) == [1, 1, 2, 1, 2, 2, 1, 1, 2, 2, 0, 0]


def test_distributed_shares():
    shares = [list(DistributedSampler(range(7), 2, rank, seed=3)) for rank in (0, 1)]
    assert shares == [[5, 4, 0, 1], [3, 6, 2, 5]]
    plain = DistributedSampler(range(3), 5, 4, shuffle=False)
    assert list(plain) == [1] and len(plain) == 1
    assert list(DistributedSampler(range(7), 2, 1, shuffle=False, drop_last=True)) == [1, 3, 5]
    other = DistributedSampler(range(7), 2, 0, seed=2)
    other.set_epoch(1)
    assert list(other) == shares[0]


@pytest.mark.parametrize("drop_last, expected", [(False, [[0, 1, 2], [3, 4]]), (True, [[0, 1, 2]])])
def test_batches(drop_last, expected):
    batches = BatchSampler(SequentialSampler(range(5)), 3, drop_last)
    assert list(batches) == expected and len(batches) == len(expected)


@pytest.mark.parametrize("make, error", [
    (lambda: RandomSampler([]), ValueError),
    (lambda: RandomSampler([1], num_samples=0), ValueError),
    (lambda: RandomSampler([1], replacement=1), TypeError),
    (lambda: WeightedRandomSampler([1.0], 0), ValueError),
    (lambda: WeightedRandomSampler([1.0], 1, replacement=1), ValueError),
    (lambda: WeightedRandomSampler([[1.0]], 1), ValueError),
    (lambda: BatchSampler([1], 0, False), ValueError),
    (lambda: BatchSampler([1], True, False), ValueError),
    (lambda: BatchSampler([1], 2, 1), ValueError),
    (lambda: DistributedSampler([1]), ValueError),
    (lambda: DistributedSampler([1], 2, 2), ValueError),
    (lambda: iter(Sampler()), NotImplementedError),
])
def test_errors(make, error):
    with pytest.raises(error):
        make()
