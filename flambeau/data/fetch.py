"""Fetching one batch from a dataset; the same code runs in the main process and in workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from flambeau.core.tensor import Tensor
from flambeau.data import collate as collating
from flambeau.data.dataset import Subset, TensorDataset, fetch_samples


class MapFetcher:
    """Batches of a dataset with `__getitem__`."""

    def __init__(self, dataset: Any, auto_collation: bool, collate_fn: Callable, drop_last: bool):
        self.dataset = dataset
        self.auto_collation = auto_collation
        self.collate_fn = collate_fn
        # Rows of tensors need not be taken apart and put together again.
        self.in_one_step = (
            auto_collation and collate_fn is collating.default_collate and isinstance(dataset, (TensorDataset, Subset))
            and collating.default_collate_fn_map[Tensor] is collating.collate_tensors
        )

    def fetch(self, keys: Any) -> Any:
        """The batch of these keys (of this key, without automatic batching)."""
        if not self.auto_collation:
            return self.collate_fn(self.dataset[keys])
        if self.in_one_step:
            batch = self.dataset.collated(keys)
            if batch is not None:
                return batch
        return self.collate_fn(fetch_samples(self.dataset, keys))


class IterableFetcher:
    """Batches of a stream; the keys only say how many samples are wanted. StopIteration at the end."""

    def __init__(self, dataset: Any, auto_collation: bool, collate_fn: Callable, drop_last: bool):
        self.stream: Iterator = iter(dataset)
        self.auto_collation = auto_collation
        self.collate_fn = collate_fn
        self.drop_last = drop_last
        self.ended = False

    def fetch(self, keys: Any) -> Any:
        if self.ended:
            raise StopIteration
        if not self.auto_collation:
            return self.collate_fn(next(self.stream))
        samples: list = []
        for _ in keys:
            try:
                samples.append(next(self.stream))
            except StopIteration:
                self.ended = True
                break
        if not samples or (self.drop_last and len(samples) < len(keys)):
            raise StopIteration
        return self.collate_fn(samples)
