"""Processes that run LLVM for this one: several compile at once, and LLVM's memory is theirs.

llvmlite has one lock for the whole process, so threads would wait for each other; and LLVM leaves 90 MiB in the process
that it ran in. The processes start when something is to be compiled (measured: 0.1 s, while IR is being written), are
asked through pipes, and leave when nothing has been compiled for `IDLE` seconds, or with this process.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from flambeau.backends.llvm import elf

IDLE = 5.0  # seconds
MOST = 4  # processes
_PROGRAM = Path(__file__).with_name("codegen.py")
_SIGNALS = ("SIGABRT", "SIGSEGV", "SIGILL", "SIGBUS", "SIGFPE")
_CRASHES = {-getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)}

_lock = threading.Lock()
_idle: list[Worker] = []
_used = 0.0  # when a process was used last
_retirement: threading.Timer | None = None
_refused = False  # whether a process could not be started


class Broken(Exception):
    """A process could not be started, or somebody ended it."""


def usable() -> bool:
    """Whether there can be such processes: where the objects run without LLVM, and an interpreter is at hand."""
    name = os.path.basename(sys.executable or "")
    wanted = os.environ.get("FLAMBEAU_COMPILE_PROCESSES") != "0"
    return wanted and not _refused and elf.usable() and name.startswith("python") and not hasattr(sys, "frozen")


class Worker:
    """One process, asked by one thread at a time."""

    def __init__(self) -> None:
        import llvmlite

        folder = str(Path(llvmlite.__file__).resolve().parent.parent)
        command = [sys.executable, "-I", "-S", str(_PROGRAM), folder]
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            raise Broken from error
        self.answered = False

    def compile(self, text: str, level: int) -> bytes:
        """The object file of a module. RuntimeError with LLVM's message if it is malformed, or if LLVM crashed."""
        try:
            pickle.dump((text, level), self.process.stdin)  # type: ignore[arg-type]
            self.process.stdin.flush()  # type: ignore[union-attr]
            made, message = pickle.load(self.process.stdout)  # type: ignore[arg-type]
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            self.close()
            if self.process.returncode in _CRASHES:
                raise RuntimeError(f"LLVM crashed (signal {-self.process.returncode})") from error
            raise Broken from error
        self.answered = True
        if made is None:
            raise RuntimeError(message)
        return bytes(made)

    def close(self) -> None:
        """Let the process end, and wait for that."""
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self.process.wait()


class Batch:
    """Modules that are compiled while more of them are written: `add` any number of times, then `objects`."""

    def __init__(self, level: int, modules: int):
        """`modules`: how many there will be, about."""
        self.level = level
        self.count = 0
        self.closed = False
        self.made: dict[int, bytes | Exception] = {}
        self.waiting: queue.SimpleQueue[tuple[int, str] | None] = queue.SimpleQueue()
        number = min(MOST, modules, _processors())
        self.threads = [threading.Thread(target=self._work, daemon=True) for _ in range(max(1, number))]
        for thread in self.threads:
            thread.start()

    def add(self, text: str) -> None:
        """Compile this one too."""
        self.waiting.put((self.count, text))
        self.count += 1

    def objects(self) -> list[bytes]:
        """The object files in order. Raises what the first that failed raised."""
        self.close()
        for thread in self.threads:
            thread.join()
        found = []
        for number in range(self.count):
            result = self.made[number]
            if isinstance(result, Exception):
                raise result
            found.append(result)
        return found

    def close(self) -> None:
        """No more modules will come: also when writing them failed, or the threads would wait for ever."""
        if not self.closed:
            self.closed = True
            for _ in self.threads:
                self.waiting.put(None)

    def _work(self) -> None:
        worker: Worker | None = None
        with contextlib.suppress(Broken):
            worker = _take()
        while (item := self.waiting.get()) is not None:
            number, text = item
            try:
                worker = worker or _take()
                self.made[number] = worker.compile(text, self.level)
            except Broken:
                _refuse(worker)
                worker = None
                self.made[number] = _here(text, self.level)
            except Exception as error:  # raised where the objects are asked for
                worker = worker if worker is not None and worker.process.returncode is None else None
                self.made[number] = error
        if worker is not None:
            _put_back(worker)


def _here(text: str, level: int) -> bytes | Exception:
    """Compile in this process."""
    from flambeau.backends.llvm import codegen

    try:
        return bytes(codegen.generate(text, level, "emit_object"))
    except RuntimeError as error:
        return error


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _take() -> Worker:
    with _lock:
        while _idle:
            worker = _idle.pop()
            if worker.process.poll() is None:
                return worker
            worker.close()
    try:
        return Worker()
    except Broken:
        _refuse(None)
        raise


def _refuse(worker: Worker | None) -> None:
    """Try no more where processes cannot be started, or end before they have done anything (no llvmlite there)."""
    global _refused
    _refused = _refused or worker is None or not worker.answered


def _put_back(worker: Worker) -> None:
    global _used, _retirement
    with _lock:
        _idle.append(worker)
        _used = time.monotonic()
        if _retirement is None:
            _retirement = _timer(IDLE)


def _timer(seconds: float) -> threading.Timer:
    timer = threading.Timer(seconds, _retire)
    timer.daemon = True
    timer.start()
    return timer


def _retire() -> None:
    """End the processes that have waited for long enough."""
    global _retirement
    with _lock:
        left = _used + IDLE - time.monotonic()
        _retirement = _timer(left) if left > 0 else None
        leaving = [] if left > 0 else _idle[:]
        if leaving:
            _idle.clear()
    for worker in leaving:
        worker.close()


@atexit.register
def _leave() -> None:
    """At the end of this process nobody waits for the others to finish politely."""
    for worker in _idle:
        worker.process.kill()
        worker.close()
    _idle.clear()


def _in_child() -> None:
    """A forked child leaves its parent's processes alone."""
    global _retirement
    for worker in _idle:
        worker.process.returncode = 0  # not a child of this process: nobody to wait for
    _idle.clear()
    _retirement = None
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_in_child)
