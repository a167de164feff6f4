"""PyTorch's `torch.multiprocessing`: Python's `multiprocessing`, and `spawn`.

Tensors travel between processes by value; memory is not shared.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import signal
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import *  # noqa: F403
from typing import Any

__all__ = [
    *multiprocessing.__all__,
    "ProcessContext", "ProcessException", "ProcessExitedException", "ProcessRaisedException", "SpawnContext",
    "get_all_sharing_strategies", "get_sharing_strategy", "set_sharing_strategy", "spawn", "start_processes",
]


class ProcessException(Exception):
    """A process started by `spawn` did not end well."""

    def __init__(self, msg: str, error_index: int, pid: int) -> None:
        super().__init__(msg)
        self.msg = msg
        self.error_index = error_index
        self.pid = pid


class ProcessRaisedException(ProcessException):
    """It raised; the message has its traceback."""


class ProcessExitedException(ProcessException):
    """It left by itself, or a signal ended it."""

    def __init__(self, msg: str, error_index: int, error_pid: int, exit_code: int, signal_name: str | None = None):
        super().__init__(msg, error_index, error_pid)
        self.exit_code = exit_code
        self.signal_name = signal_name


class ProcessContext:
    """Processes started together."""

    def __init__(self, processes: Sequence[Any], receivers: Sequence[Any]) -> None:
        self.processes = list(processes)
        self._receivers = list(receivers)
        self._running = dict(enumerate(self.processes))

    def pids(self) -> list[int]:
        """Their numbers."""
        return [process.pid for process in self.processes]

    def join(self, timeout: float | None = None, grace_period: float | None = None) -> bool:
        """Wait for the next ones to end; True when none is left. The first failure ends the others and raises."""
        ready = multiprocessing.connection.wait([p.sentinel for p in self._running.values()], timeout)
        ended = [index for index, process in self._running.items() if process.sentinel in ready]
        for index in ended:
            process = self._running.pop(index)
            process.join()
            if process.exitcode != 0:
                self._stop(grace_period)
                self._report(index)
        return not self._running

    def _stop(self, grace_period: float | None) -> None:
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            process.join(30 if grace_period is None else grace_period)
            if process.is_alive():
                process.kill()
                process.join()

    def _report(self, index: int) -> None:
        process = self.processes[index]
        try:
            trace = self._receivers[index].recv() if self._receivers[index].poll() else None
        except EOFError:    # it ended before it could say anything
            trace = None
        if trace is not None:
            raise ProcessRaisedException(f"\n\n-- Process {index} terminated with the following error:\n{trace}", index,
                                         process.pid)
        code = process.exitcode
        if code < 0:
            name = signal.Signals(-code).name
            raise ProcessExitedException(f"process {index} terminated with signal {name}", index, process.pid, code,
                                         name)
        raise ProcessExitedException(f"process {index} terminated with exit code {code}", index, process.pid, code)


SpawnContext = ProcessContext


def _work(function: Callable[..., Any], index: int, arguments: tuple[Any, ...], sender: Any) -> None:
    """What a started process does: the user's function, and on an error the traceback to those who wait."""
    try:
        function(index, *arguments)
    except KeyboardInterrupt:
        return      # the one who waits was interrupted as well
    except Exception:
        sender.send(traceback.format_exc())
        raise SystemExit(1) from None


def start_processes(fn: Callable[..., Any], args: tuple[Any, ...] = (), nprocs: int = 1, join: bool = True,
                    daemon: bool = False, start_method: str = "spawn") -> ProcessContext | None:
    """Run `fn(i, *args)` in processes i = 0 … nprocs - 1; with `join` wait for all of them, else return them.

    Raises:
        ProcessRaisedException: one raised; its traceback is in the message. The others have been ended.
        ProcessExitedException: one left with another exit status than 0, or by a signal.
    """
    method = multiprocessing.get_context(start_method)
    processes, receivers = [], []
    for index in range(nprocs):
        receiver, sender = method.Pipe(duplex=False)
        process: Any = method.Process(target=_work, args=(fn, index, args, sender), daemon=daemon)  # type: ignore[attr-defined]
        process.start()
        sender.close()
        processes.append(process)
        receivers.append(receiver)
    context = ProcessContext(processes, receivers)
    if not join:
        return context
    while not context.join():
        continue
    return None


def spawn(fn: Callable[..., Any], args: tuple[Any, ...] = (), nprocs: int = 1, join: bool = True, daemon: bool = False,
          start_method: str = "spawn") -> ProcessContext | None:
    """`start_processes` with fresh processes: `fn` must be importable, `args` picklable."""
    return start_processes(fn, args, nprocs, join, daemon, start_method)


def get_all_sharing_strategies() -> set[str]:
    """The names that `set_sharing_strategy` takes."""
    return {"file_descriptor", "file_system"}


_strategy = "file_descriptor"


def get_sharing_strategy() -> str:
    """What `set_sharing_strategy` was told."""
    return _strategy


def set_sharing_strategy(new_strategy: str) -> None:
    """Remember the wish; tensors travel by value either way."""
    global _strategy
    if new_strategy not in get_all_sharing_strategies():
        raise AssertionError(f"no sharing strategy {new_strategy!r}, only {sorted(get_all_sharing_strategies())}")
    _strategy = new_strategy
