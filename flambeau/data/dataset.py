"""Datasets: anything with `__getitem__` and `__len__`, or with `__iter__`; and the ways to combine them."""

from __future__ import annotations

import abc
import bisect
import itertools
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from flambeau.core.random import Generator
from flambeau.core.tensor import Tensor, plain, wrap
from flambeau.ops.random import randperm

__all__ = [
    "ChainDataset", "ConcatDataset", "Dataset", "IterableDataset", "StackDataset", "Subset", "TensorDataset",
    "random_split",
]

T_co = TypeVar("T_co", covariant=True)


class Dataset(Generic[T_co]):
    """Maps keys (usually 0, 1, …, len - 1) to samples. Subclasses write `__getitem__`, and `__len__` where they can.

    A subclass may also write `__getitems__(list of keys) -> list of samples` to fetch a batch in one go.
    """

    def __getitem__(self, index: Any) -> T_co:
        raise NotImplementedError("Subclasses of Dataset should implement __getitem__.")

    def __add__(self, other: Dataset) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co], metaclass=abc.ABCMeta):
    """A stream of samples: subclasses write `__iter__`."""

    @abc.abstractmethod
    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError("Subclasses of IterableDataset should implement __iter__.")

    def __add__(self, other: Dataset) -> Any:
        return ChainDataset([self, other])


def take_rows(tensors: Sequence[Tensor], keys: Sequence[int]) -> list[Tensor] | None:
    """Row `keys` of every tensor: what collating the single rows would give. None where only the long way is right."""
    index = np.asarray(keys)
    if index.ndim != 1 or index.size == 0 or index.dtype.kind not in "iu":
        return None
    if any(type(t) is not Tensor or t._requires_grad or t._names or t.is_meta for t in tensors):
        return None
    try:
        return [wrap(plain(t).take(index, axis=0)) for t in tensors]
    except IndexError:
        return None                     # the long way says which row is missing


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Sample `i` is row `i` of every tensor. AssertionError unless all have the same size in dimension 0."""

    def __init__(self, *tensors: Tensor):
        if any(tensor.ndim == 0 for tensor in tensors):
            raise IndexError("Dimension specified as 0 but tensor has no dimensions")
        sizes = [tensor.size(0) for tensor in tensors]
        if len(set(sizes)) > 1:
            raise AssertionError(f"Size mismatch between tensors: dimension 0 has sizes {sizes}")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __len__(self) -> int:
        return self.tensors[0].size(0)

    def collated(self, keys: Sequence[int]) -> list[Tensor] | None:
        """The batch that `default_collate` makes of these samples, in one step; None where that is not possible."""
        if type(self).__getitem__ is not TensorDataset.__getitem__:
            return None
        return take_rows(self.tensors, keys)


class StackDataset(Dataset):
    """Datasets side by side: sample `i` is a tuple (or dict, when given by name) of their samples `i`.

    ValueError when their lengths differ or nothing is given.
    """

    def __init__(self, *args: Dataset, **kwargs: Dataset):
        if args and kwargs:
            raise ValueError("datasets are given by position (samples are tuples) or by name (samples are dicts), "
                             "but both were used")
        if not args and not kwargs:
            raise ValueError("At least one dataset should be passed")
        self.datasets: Any = args or kwargs
        lengths = [len(dataset) for dataset in self._all()]  # type: ignore[arg-type]
        if len(set(lengths)) > 1:
            raise ValueError(f"Size mismatch between datasets: lengths {lengths}")
        self._length = lengths[0]

    def _all(self) -> Iterable[Dataset]:
        return self.datasets.values() if isinstance(self.datasets, dict) else self.datasets

    def __getitem__(self, index: Any) -> Any:
        if isinstance(self.datasets, dict):
            return {name: dataset[index] for name, dataset in self.datasets.items()}
        return tuple(dataset[index] for dataset in self.datasets)

    def __getitems__(self, indices: list) -> list:
        columns = []
        for dataset in self._all():
            samples = fetch_samples(dataset, indices)
            if len(samples) != len(indices):
                raise ValueError(f"Nested dataset's output size mismatch. Expected {len(indices)}, got {len(samples)}")
            columns.append(samples)
        rows = zip(*columns, strict=True)
        if isinstance(self.datasets, dict):
            return [dict(zip(self.datasets, row, strict=True)) for row in rows]
        return list(rows)

    def __len__(self) -> int:
        return self._length


class ConcatDataset(Dataset[T_co]):
    """Datasets one after another. AssertionError for none, or for an IterableDataset among them."""

    def __init__(self, datasets: Iterable[Dataset]):
        super().__init__()
        self.datasets = list(datasets)
        if not self.datasets:
            raise AssertionError("datasets should not be an empty iterable")
        if any(isinstance(dataset, IterableDataset) for dataset in self.datasets):
            raise AssertionError("ConcatDataset does not support IterableDataset")
        self.cumulative_sizes = self.cumsum(self.datasets)

    @staticmethod
    def cumsum(sequence: Sequence) -> list[int]:
        """Position behind the last sample of each dataset."""
        return list(itertools.accumulate(len(dataset) for dataset in sequence))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> T_co:
        if index < 0:
            if -index > len(self):
                raise ValueError("absolute value of index should not exceed dataset length")
            index += len(self)
        which = bisect.bisect_right(self.cumulative_sizes, index)
        before = self.cumulative_sizes[which - 1] if which else 0
        return self.datasets[which][index - before]

    @property
    def cummulative_sizes(self) -> list[int]:
        """PyTorch's old spelling of `cumulative_sizes`."""
        warnings.warn("cummulative_sizes attribute is renamed to cumulative_sizes", DeprecationWarning, stacklevel=2)
        return self.cumulative_sizes


class ChainDataset(IterableDataset):
    """Streams one after another."""

    def __init__(self, datasets: Iterable[Dataset]):
        super().__init__()
        self.datasets = datasets

    def __iter__(self) -> Iterator:
        for dataset in self.datasets:
            if not isinstance(dataset, IterableDataset):
                raise AssertionError("ChainDataset only supports IterableDataset")
            yield from dataset

    def __len__(self) -> int:
        total = 0
        for dataset in self.datasets:
            if not isinstance(dataset, IterableDataset):
                raise AssertionError("ChainDataset only supports IterableDataset")
            total += len(dataset)  # type: ignore[arg-type]
        return total


class Subset(Dataset[T_co]):
    """The samples of a dataset at these indices."""

    def __init__(self, dataset: Dataset[T_co], indices: Sequence[int]):
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: list) -> list:
        return fetch_samples(self.dataset, [self.indices[i] for i in indices])

    def __len__(self) -> int:
        return len(self.indices)

    def collated(self, keys: Sequence[int]) -> list[Tensor] | None:
        """See `TensorDataset.collated`."""
        cls = type(self)
        if cls.__getitem__ is not Subset.__getitem__ or cls.__getitems__ is not Subset.__getitems__:
            return None
        inner = getattr(self.dataset, "collated", None)
        if inner is None or not isinstance(self.dataset, (TensorDataset, Subset)):
            return None
        return inner([self.indices[i] for i in keys])


def fetch_samples(dataset: Any, indices: list) -> list:
    """The samples at these indices, by `__getitems__` where the dataset has it."""
    together = getattr(dataset, "__getitems__", None)
    return together(indices) if together else [dataset[i] for i in indices]


def random_split(dataset: Dataset, lengths: Sequence[int | float], generator: Generator | None = None) -> list[Subset]:
    """Disjoint random parts of a dataset, of these lengths or (when they sum to 1) these fractions.

    What fractions leave over by rounding goes to the first parts, one sample each. ValueError when lengths do not add
    up to the length of the dataset.
    """
    size = len(dataset)  # type: ignore[arg-type]
    total = sum(lengths)
    if math.isclose(total, 1) and total <= 1:
        lengths = _from_fractions(size, lengths)
    if sum(lengths) != size:
        raise ValueError(f"Sum of input lengths does not equal the length of the input dataset! {list(lengths)} sum to "
                         f"{sum(lengths)}, the dataset has {size} samples")
    order = randperm(size, generator=generator).tolist()
    ends = list(itertools.accumulate(int(n) for n in lengths))
    return [Subset(dataset, order[end - int(n):end]) for end, n in zip(ends, lengths, strict=True)]


def _from_fractions(size: int, fractions: Sequence[float]) -> list[int]:
    for position, fraction in enumerate(fractions):
        if not 0 <= fraction <= 1:
            raise ValueError(f"Fraction at index {position} is not between 0 and 1")
    lengths = [math.floor(size * fraction) for fraction in fractions]
    for position in range(size - sum(lengths)):
        lengths[position % len(lengths)] += 1
    for position, length in enumerate(lengths):
        if length == 0:
            warnings.warn(f"Length of split at index {position} is 0. This might result in an empty dataset.",
                          stacklevel=3)
    return lengths
