"""The main process's side of worker processes: hand out keys, collect batches, keep their order, clean up."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
import warnings
import weakref
from collections import deque
from multiprocessing import connection as connections
from typing import Any

from flambeau.data import transport, worker
from flambeau.data.dataloader import DataLoader, LoaderIterator

PATIENCE = 5.0  # seconds a worker has to end by itself
HELD = 2        # batches of one worker that the loop's body is likely to hold: memory for them is used again
_PIPE = 65536   # bytes that surely fit into a pipe
_MOST = 64      # requests on their way to one worker: so few that neither side ever waits for room in the pipe


class MultiProcessIterator(LoaderIterator):
    """Batches made by `num_workers` processes; request `k` goes to the next worker in turn that still has samples."""

    _more = ("For multiprocessing data-loading, this could be caused by not properly configuring the IterableDataset "
             "replica at each worker. Please see https://pytorch.org/docs/stable/data.html#torch.utils.data."
             "IterableDataset for examples.")

    def __init__(self, loader: DataLoader):
        super().__init__(loader)
        self.context = loader.multiprocessing_context or multiprocessing.get_context()
        self.ahead = min(loader.prefetch_factor or 1, _MOST)
        self.processes: list[Any] = []
        self.ends: list[Any] = []
        self.receivers: list[transport.Receiver] = []
        self.epoch = 0
        self.usable = True
        folder = None if transport.HAS_DESCRIPTORS else tempfile.TemporaryDirectory(prefix="flambeau-")
        self.folder = folder
        task = worker.Task(
            loader.dataset, loader._iterable, loader._auto_collation, loader.collate_fn, loader.drop_last,
            self.base_seed, loader.num_workers, loader.worker_init_fn, min(16384, _PIPE // (4 * self.ahead)),
            folder.name if folder else None, self.ahead + HELD,
        )
        self._finalizer = weakref.finalize(self, shut_down, self.processes, self.ends, os.getpid())
        for number in range(loader.num_workers):
            here, there = self.context.Pipe(duplex=True)
            worker.main_ends.add(here)
            process = self.context.Process(target=worker.run, args=(there, task, number), daemon=True)
            with warnings.catch_warnings():
                # Python 3.12 warns of threads at a fork: BLAS and OpenMP have some, and backends/threads.py minds them.
                warnings.filterwarnings("ignore", ".*multi-threaded.*", DeprecationWarning)
                process.start()
            there.close()
            self.processes.append(process)
            self.ends.append(here)
            self.receivers.append(transport.Receiver(here))
        self._begin()

    def restart(self) -> None:
        """A new pass with the same processes; answers still on their way belong to the old epoch and are dropped."""
        self.keys = iter(self.loader._index_sampler)
        self.yielded = 0
        self.epoch += 1
        for end in self.ends:
            end.send((worker.RESUME, self.epoch))
        self._begin()

    def _begin(self) -> None:
        self.asked = 0                      # number of the next request
        self.wanted = 0                     # number of the next batch to give out
        self.doing: dict[int, int] = {}     # request -> worker, while no answer has come
        self.ready: dict[int, Any] = {}     # request -> (kind, content)
        self.active = [True] * len(self.ends)
        self.load = [0] * len(self.ends)
        self.turn = 0
        for _ in range(self.ahead * len(self.ends)):
            self._ask()

    def _ask(self) -> None:
        """Send the next keys to the worker whose turn it is."""
        number = self._next_worker()
        if number is None:
            return
        try:
            keys = next(self.keys)
        except StopIteration:
            return
        try:
            self.ends[number].send((worker.FETCH, self.asked, keys))
        except (BrokenPipeError, ConnectionResetError):
            self._report_dead([number])
        self.doing[self.asked] = number
        self.load[number] += 1
        self.asked += 1

    def _next_worker(self) -> int | None:
        count = len(self.ends)
        for _ in range(count):
            number = self.turn
            self.turn = (number + 1) % count
            if self.active[number] and (self.loader.in_order or self.load[number] < self.ahead):
                return number
        return None

    def next_batch(self) -> Any:
        try:
            answer = self._take()
            if answer is not None:
                self._ask()
        except BaseException:       # Ctrl-C, a timeout, a dead worker
            self.close()
            raise
        if answer is None:
            if not self.loader.persistent_workers:
                self.close()
            raise StopIteration
        kind, content = answer
        if kind == worker.FAILED:   # the dataset's own error; the next batch may be asked for all the same
            content.reraise()
        return content

    def _take(self) -> Any:
        """The next answer in the order wanted; None when there is nothing more to come."""
        deadline = time.monotonic() + self.loader.timeout if self.loader.timeout > 0 else None
        while True:
            if self.loader.in_order:
                while self.wanted < self.asked and self.wanted not in self.doing and self.wanted not in self.ready:
                    self.wanted += 1        # its worker had run out of samples
                if self.wanted == self.asked:
                    return None
                answer = self.ready.pop(self.wanted, None)
                if answer is not None:
                    self.wanted += 1
                    return answer
            elif self.ready:
                return self.ready.pop(next(iter(self.ready)))
            elif not self.doing:
                return None
            self._receive(deadline)

    def _receive(self, deadline: float | None) -> None:
        """Wait for answers and file them."""
        if not self.usable:
            raise RuntimeError("the workers of this DataLoader iterator have been shut down")
        timeout = None if deadline is None else max(deadline - time.monotonic(), 0)
        readable: Any = deque(connections.wait(self.ends, timeout))
        if not readable:
            raise RuntimeError(f"DataLoader timed out after {self.loader.timeout} seconds")
        for end in readable:
            number = self.ends.index(end)
            try:
                epoch, request, kind, content = transport.unpack(self.receivers[number].receive())
            except (EOFError, ConnectionResetError):
                self._report_dead([number])
            if epoch != self.epoch:
                continue
            self.doing.pop(request, None)
            self.load[number] -= 1
            if kind == worker.EXHAUSTED:
                self._exhausted(number)
            else:
                self.ready[request] = (kind, content)

    def _exhausted(self, number: int) -> None:
        """A stream has ended: forget what its worker was still asked for, and let others have the turn."""
        if not self.active[number]:
            return
        self.active[number] = False
        for request in [request for request, who in self.doing.items() if who == number]:
            del self.doing[request]
        self._ask()

    def _report_dead(self, numbers: list[int]) -> None:
        dead = [self.processes[number] for number in numbers]
        for process in dead:
            process.join(timeout=1)
        pids = ", ".join(str(process.pid) for process in dead)
        codes = ", ".join(_ending(process.exitcode) for process in dead)
        self.close()
        raise RuntimeError(f"DataLoader worker (pid(s) {pids}) exited unexpectedly ({codes})") from None

    def close(self) -> None:
        """End the workers; safe to call again."""
        self.usable = False
        self._finalizer()
        for receiver in self.receivers:
            receiver.blocks.clear()  # batches that are still held keep theirs
        if self.folder is not None:
            self.folder.cleanup()


def _ending(code: int | None) -> str:
    if code is None:
        return "still running"
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def shut_down(processes: list[Any], ends: list[Any], owner: int) -> None:
    """Ask the workers to stop, wait, and terminate those that do not listen. For the process that started them."""
    if os.getpid() != owner:    # a fork of the main process has inherited the iterator
        return
    for end in ends:
        try:
            end.send((worker.STOP,))
        except OSError:
            continue  # that worker is gone already
        finally:
            end.close()
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        process.join(timeout=max(deadline - time.monotonic(), 0))
    for process in processes:
        if process.is_alive():
            process.terminate()
            process.join(timeout=1)
            if process.is_alive():
                process.kill()
                process.join()
