"""The worker process of a DataLoader."""

from __future__ import annotations

import os
import pickle
import random
import signal
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from flambeau.backends.allocation import keep_freed_memory
from flambeau.backends.threads import get_num_threads, set_num_threads
from flambeau.core.random import manual_seed
from flambeau.data import transport
from flambeau.data.collate import in_worker
from flambeau.data.fetch import IterableFetcher, MapFetcher

__all__ = ["WorkerFailure", "WorkerInfo", "get_worker_info"]

# The main process's ends of all pipes to workers: a forked worker closes its copies, or pipes would never seem closed.
main_ends: weakref.WeakSet = weakref.WeakSet()

STOP, FETCH, RESUME = range(3)          # what the main process asks for
BATCH, FAILED, EXHAUSTED = range(3)     # what a worker answers


class WorkerInfo:
    """Who am I, in a worker: `id`, `num_workers`, `seed`, `dataset` (this worker's copy). Cannot be changed."""

    def __init__(self, id: int, num_workers: int, seed: int, dataset: Any):
        vars(self).update(id=id, num_workers=num_workers, seed=seed, dataset=dataset)

    def __setattr__(self, name: str, value: Any) -> None:
        raise RuntimeError(f"Cannot assign attributes to {type(self).__name__} objects")

    def __repr__(self) -> str:
        return f"WorkerInfo({', '.join(f'{name}={value}' for name, value in vars(self).items())})"


_info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """Facts about this worker process; None in the main process."""
    return _info


@dataclass
class Task:
    """What every worker of one loader needs to know."""

    dataset: Any
    iterable: bool
    auto_collation: bool
    collate_fn: Callable
    drop_last: bool
    base_seed: int
    num_workers: int
    worker_init_fn: Callable | None
    inline: int
    folder: str | None
    blocks: int

    def fetcher(self) -> Any:
        """A fresh fetcher (streams start over)."""
        kind = IterableFetcher if self.iterable else MapFetcher
        return kind(self.dataset, self.auto_collation, in_worker(self.collate_fn), self.drop_last)


class WorkerFailure:
    """An exception on its way to the main process."""

    def __init__(self, error: BaseException, where: str):
        self.text = f"Caught {type(error).__name__} {where}.\nOriginal {''.join(traceback.format_exception(error))}"
        self.kind: Any = type(error)
        try:
            pickle.dumps(self.kind)
        except Exception:  # a class made inside a function exists only in the worker
            self.kind = RuntimeError

    def reraise(self) -> None:
        """Raise the original type with the worker's traceback as message; RuntimeError where that cannot be made."""
        message: Any = _Lines(self.text) if issubclass(self.kind, KeyError) else self.text
        try:
            error = self.kind(message)
        except Exception:  # its constructor wants something else than a message
            error = RuntimeError(self.text)
        raise error


class _Lines(str):
    """A KeyError shows the repr of its message; this one keeps its line breaks."""

    def __repr__(self) -> str:
        return str(self)


def seed_everything(base_seed: int, worker_id: int) -> int:
    """Seed flambeau, `random` and NumPy for one worker as PyTorch does; return the seed."""
    seed = base_seed + worker_id
    random.seed(seed)
    manual_seed(seed)
    words = [worker_id, base_seed & 0xFFFFFFFF, base_seed >> 32, 0]
    np.random.seed(np.random.SeedSequence(words).generate_state(4))
    return seed


def run(connection: Any, task: Task, worker_id: int) -> None:
    """Answer requests until the main process says stop or is gone."""
    global _info
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's affair; it closes the pipe
    for end in list(main_ends):
        end.close()
    if get_num_threads() != 1:
        set_num_threads(1)
    keep_freed_memory()  # samples are freed and made again with every batch
    seed = seed_everything(task.base_seed, worker_id)
    _info = WorkerInfo(worker_id, task.num_workers, seed, task.dataset)
    where = f"in DataLoader worker process {worker_id}"
    try:
        _serve(connection, task, where, worker_id)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the main process is gone or no longer interested


def _serve(connection: Any, task: Task, where: str, worker_id: int) -> None:
    fetcher, failure = None, None
    try:
        if task.worker_init_fn is not None:
            task.worker_init_fn(worker_id)
        fetcher = task.fetcher()
    except Exception as error:
        failure = WorkerFailure(error, where)
    epoch, parent = 0, os.getppid()
    sender = transport.Sender(connection, task.inline, task.folder, task.blocks)
    while True:
        while not connection.poll(5):
            if os.getppid() != parent:
                return
        request, *details = connection.recv()
        if request == STOP:
            return
        if request == RESUME:
            epoch = details[0]
            if task.iterable and failure is None:
                try:
                    fetcher = task.fetcher()
                except Exception as error:
                    failure = WorkerFailure(error, where)
            continue
        number, keys = details
        kind, content = (FAILED, failure) if failure is not None else _attempt(fetcher, keys, where)
        try:
            parts = transport.pack((epoch, number, kind, content))
        except Exception as error:
            parts = transport.pack((epoch, number, FAILED, WorkerFailure(error, where)))
        del content
        sender.send(parts)
        del parts


def _attempt(fetcher: Any, keys: Any, where: str) -> tuple[int, Any]:
    try:
        return BATCH, fetcher.fetch(keys)
    except StopIteration as error:
        if isinstance(fetcher, IterableFetcher):
            return EXHAUSTED, None
        return FAILED, WorkerFailure(error, where)
    except Exception as error:
        return FAILED, WorkerFailure(error, where)
