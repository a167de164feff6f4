"""`DataLoader`: batches of a dataset, fetched here or by worker processes."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from flambeau.core.random import Generator
from flambeau.data.collate import default_collate, default_convert
from flambeau.data.dataset import Dataset, IterableDataset
from flambeau.data.fetch import IterableFetcher, MapFetcher
from flambeau.data.sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler, draw_seed

__all__ = ["DataLoader"]

T_co = TypeVar("T_co", covariant=True)
_FIXED = ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers")


class _Endless(Sampler):
    """The sampler of a stream: None for ever."""

    def __iter__(self) -> Iterator[None]:
        return itertools.repeat(None)


class DataLoader(Generic[T_co]):
    """Batches of a dataset, one pass per `for` loop.

    dataset: with `__getitem__` and `__len__`, or an IterableDataset.
    batch_size: samples per batch; None for single samples. shuffle: a new random order every pass.
    sampler, batch_sampler: own orders, of keys or of lists of keys. drop_last: leave out a last batch that is not full.
    num_workers: processes that fetch; 0 fetches here. Each prepares `prefetch_factor` (2) batches ahead.
    collate_fn: makes a batch from a list of samples. worker_init_fn: called with the worker's number at its start.
    timeout: seconds to wait for a batch. persistent_workers: keep the processes between passes.
    generator: source of the order and of the workers' seeds. in_order: False yields batches as they come.
    multiprocessing_context: "fork", "spawn", "forkserver" or a context. pin_memory has no effect on the CPU.
    Raises ValueError for options that contradict each other.
    """

    _started = False

    def __init__(
        self, dataset: Dataset[T_co], batch_size: int | None = 1, shuffle: bool | None = None,
        sampler: Sampler | Iterable | None = None, batch_sampler: Sampler[list] | Iterable[list] | None = None,
        num_workers: int = 0, collate_fn: Callable[[list], Any] | None = None, pin_memory: bool = False,
        drop_last: bool = False, timeout: float = 0, worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None, generator: Generator | None = None, *, prefetch_factor: int | None = None,
        persistent_workers: bool = False, pin_memory_device: str = "", in_order: bool = True,
    ):
        _check_workers(num_workers, timeout, prefetch_factor, persistent_workers)
        self.dataset = dataset
        self.num_workers = num_workers
        self.prefetch_factor = 2 if num_workers > 0 and prefetch_factor is None else prefetch_factor
        self.pin_memory = pin_memory
        self.pin_memory_device = pin_memory_device
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.in_order = in_order

        self._iterable = isinstance(dataset, IterableDataset)
        if self._iterable:
            _check_stream(shuffle, sampler, batch_sampler)
        shuffle = bool(shuffle)
        if sampler is not None and shuffle:
            raise ValueError("sampler option is mutually exclusive with shuffle")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError("batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and "
                                 "drop_last")
            batch_size = None
        elif batch_size is None and drop_last:
            raise ValueError("batch_size=None option disables auto-batching and is mutually exclusive with drop_last")

        if sampler is None:
            if self._iterable:
                sampler = _Endless()
            elif shuffle:
                sampler = RandomSampler(dataset, generator=generator)  # type: ignore[arg-type]
            else:
                sampler = SequentialSampler(dataset)  # type: ignore[arg-type]
        if batch_size is not None and batch_sampler is None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)

        self.batch_size = batch_size
        self.drop_last = drop_last
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.generator = generator
        self.collate_fn = collate_fn or (default_collate if batch_sampler is not None else default_convert)
        self.persistent_workers = persistent_workers
        self._started = True
        self._stream_length: int | None = None
        self._kept: Any = None
        self.check_worker_number_rationality()

    @property
    def multiprocessing_context(self) -> Any:
        """The way processes are started; None for Python's default."""
        return self._context

    @multiprocessing_context.setter
    def multiprocessing_context(self, context: Any) -> None:
        if context is not None:
            import multiprocessing

            if self.num_workers <= 0:
                raise ValueError("multiprocessing_context can only be used with multi-process loading "
                                 f"(num_workers > 0), but got num_workers={self.num_workers}")
            if isinstance(context, str):
                known = multiprocessing.get_all_start_methods()
                if context not in known:
                    raise ValueError("multiprocessing_context option should specify a valid start method in "
                                     f"{known!r}, but got multiprocessing_context={context!r}")
                context = multiprocessing.get_context(context)
            elif not isinstance(context, multiprocessing.context.BaseContext):
                raise TypeError("multiprocessing_context option should be a valid context object or a string "
                                f"specifying the start method, but got multiprocessing_context={context}")
        self._context = context

    def __setattr__(self, name: str, value: Any) -> None:
        if self._started and name in _FIXED:
            raise ValueError(f"{name} attribute should not be set after {type(self).__name__} is initialized")
        super().__setattr__(name, value)

    def __iter__(self) -> Any:
        if self.pin_memory:
            warnings.warn("'pin_memory' argument is set as true but no accelerator is found, then device pinned memory "
                          "won't be used.", stacklevel=2)
        if self.num_workers == 0:
            return SingleProcessIterator(self)
        from flambeau.data.workers import MultiProcessIterator  # multiprocessing loads when it is wanted

        if not self.persistent_workers:
            return MultiProcessIterator(self)
        if self._kept is None or not self._kept.usable:
            self._kept = MultiProcessIterator(self)
        else:
            self._kept.restart()
        return self._kept

    @property
    def _auto_collation(self) -> bool:
        return self.batch_sampler is not None

    @property
    def _index_sampler(self) -> Any:
        return self.batch_sampler if self.batch_sampler is not None else self.sampler

    def __len__(self) -> int:
        """Number of batches. TypeError when dataset or sampler has no length; a stream's claim may be wrong."""
        if not self._iterable:
            return len(self._index_sampler)
        length = self._stream_length = len(self.dataset)  # type: ignore[arg-type]
        if self.batch_size is None:
            return length
        full, rest = divmod(length, self.batch_size)
        return full if self.drop_last or not rest else full + 1

    def check_worker_number_rationality(self) -> None:
        """Warn about more workers than processors."""
        if not self.num_workers:
            return
        most = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        if most is not None and self.num_workers > most:
            warnings.warn(
                f"This DataLoader will create {self.num_workers} worker processes in total. Our suggested max number "
                f"of worker in current system is {most}: more of them may run slower or even freeze.", stacklevel=3)


def _check_workers(num_workers: int, timeout: float, prefetch_factor: int | None, persistent_workers: bool) -> None:
    if num_workers < 0:
        raise ValueError("num_workers option should be non-negative; use num_workers=0 to disable multiprocessing.")
    if timeout < 0:
        raise ValueError("timeout option should be non-negative")
    if num_workers == 0 and prefetch_factor is not None:
        raise ValueError("prefetch_factor option could only be specified in multiprocessing."
                         "let num_workers > 0 to enable multiprocessing, otherwise set prefetch_factor to None.")
    if prefetch_factor is not None and prefetch_factor < 0:
        raise ValueError("prefetch_factor option should be non-negative")
    if persistent_workers and num_workers == 0:
        raise ValueError("persistent_workers option needs num_workers > 0")


def _check_stream(shuffle: Any, sampler: Any, batch_sampler: Any) -> None:
    if shuffle not in (False, None):
        _refuse("shuffle", shuffle)
    for name, value in (("sampler", sampler), ("batch_sampler", batch_sampler)):
        if value is not None:
            _refuse(name, value)


def _refuse(name: str, value: Any) -> None:
    raise ValueError(f"DataLoader with IterableDataset: expected unspecified {name} option, but got {name}={value}")


class LoaderIterator:
    """What both iterators share: keys in order, counting, and the warning about a stream longer than it said."""

    _more = ""

    def __init__(self, loader: DataLoader):
        self.loader = loader
        self.keys: Iterator = iter(loader._index_sampler)
        # Drawn even when no worker will use it: it decides what is drawn next.
        self.base_seed = draw_seed(loader.generator)
        self.yielded = 0

    def __iter__(self) -> Any:
        return self

    def __len__(self) -> int:
        return len(self.loader._index_sampler)

    def __next__(self) -> Any:
        batch = self.next_batch()
        self.yielded += 1
        claimed = self.loader._stream_length
        if self.loader._iterable and claimed is not None and self.yielded > claimed:
            warnings.warn(
                f"Length of IterableDataset {self.loader.dataset} was reported to be {claimed}(when accessing "
                f"len(dataloader)), but {self.yielded} samples have been fetched. {self._more}", stacklevel=2)
        return batch

    def next_batch(self) -> Any:
        raise NotImplementedError


class SingleProcessIterator(LoaderIterator):
    """Fetches in this process."""

    def __init__(self, loader: DataLoader):
        super().__init__(loader)
        kind = IterableFetcher if loader._iterable else MapFetcher
        self.fetcher = kind(loader.dataset, loader._auto_collation, loader.collate_fn, loader.drop_last)

    def next_batch(self) -> Any:
        return self.fetcher.fetch(next(self.keys))
