"""How many threads the native libraries use: OpenMP (oneDNN and generated code) and NumPy's OpenBLAS.

`OMP_NUM_THREADS` is respected at start. The count is one for the whole process, as in PyTorch; OpenMP keeps it per
thread, so a thread that arrives later adopts it at its first native call (`stale` and `apply`). A forked child
computes on one thread: libgomp's pool does not survive a fork, and workers share the machine anyway.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_OPENBLAS_SETTERS = ("scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads",
                     "openblas_set_num_threads64_", "openblas_set_num_threads")

_count: int | None = None  # None: nobody has chosen; the libraries' own defaults hold
generation = 0  # how often the count has changed
_local = threading.local()
_libraries: dict[str, Any] = {}


def default_threads() -> int:
    """OMP_NUM_THREADS if it is set to a number, else the processors this process may use."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if first.isdigit() and int(first) > 0:
        return int(first)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def get_num_threads() -> int:
    """Threads used inside one operation."""
    return default_threads() if _count is None else _count


def set_num_threads(count: int) -> None:
    """Use `count` threads inside one operation, in oneDNN, generated code and BLAS.

    Raises: RuntimeError unless `count` is a positive integer.
    """
    global _count, generation
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"set_num_threads expects an int, but got {type(count).__name__}")
    if count < 1:
        raise RuntimeError("set_num_threads expects a positive integer")
    _count = count
    generation += 1
    apply()
    setter = _openblas_setter()
    if setter is not None:
        setter(count)


def parallel(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """Results of the tasks, run side by side, each on a thread where native code does not divide its work further.

    For long tasks in C that release the interpreter's lock: one meeting point at the end, where OpenMP would have one
    per native call. A single task, and tasks of such a task, run in place.
    """
    if len(tasks) == 1 or getattr(_local, "alone", False):
        return [task() for task in tasks]
    return list(_workers().map(lambda task: task(), tasks))


def _workers() -> Any:
    """The pool behind `parallel`, made anew when the count changes."""
    found = _libraries.get("workers")
    if found is None or found[0] != generation:
        from concurrent.futures import ThreadPoolExecutor

        if found is not None:
            found[1].shutdown(wait=False)
        pool = ThreadPoolExecutor(get_num_threads(), thread_name_prefix="flambeau", initializer=_work_alone)
        found = _libraries["workers"] = (generation, pool)
    return found[1]


def _work_alone() -> None:
    _local.alone = True
    openmp = _openmp()
    if openmp is not None:
        openmp.omp_set_num_threads(1)


def stale() -> bool:
    """Whether this thread has yet to be told the number of OpenMP threads."""
    return getattr(_local, "generation", 0) != generation and not getattr(_local, "alone", False)


def apply() -> None:
    """Tell OpenMP, for the calling thread, how many threads to use."""
    _local.generation = generation
    openmp = _openmp()
    if openmp is not None and _count is not None:
        openmp.omp_set_num_threads(_count)


def _openmp() -> Any:
    """The OpenMP runtime oneDNN uses, or None."""
    if "openmp" not in _libraries:
        _libraries["openmp"] = None
        try:
            library = ctypes.CDLL("libgomp.so.1")
        except OSError:  # no OpenMP: nothing here runs in parallel, so there is nothing to govern
            return None
        library.omp_set_num_threads.argtypes, library.omp_set_num_threads.restype = [ctypes.c_int], None
        _libraries["openmp"] = library
    return _libraries["openmp"]


def _openblas_setter() -> Any:
    """The function that sets the threads of the OpenBLAS inside NumPy's wheel, or None (other BLAS, other builds)."""
    if "openblas" not in _libraries:
        _libraries["openblas"] = None
        for path in _numpy_libraries():
            library = ctypes.CDLL(str(path))
            for name in _OPENBLAS_SETTERS:
                if hasattr(library, name):
                    setter = getattr(library, name)
                    setter.argtypes, setter.restype = [ctypes.c_int], None
                    _libraries["openblas"] = setter
                    return setter
    return _libraries["openblas"]


def _numpy_libraries() -> list[Path]:
    import numpy

    package = Path(numpy.__file__).parent
    return [path for folder in (package.parent / "numpy.libs", package / ".libs", package / ".dylibs")
            for path in sorted(folder.glob("*openblas*"))]


def _after_fork() -> None:
    global _count, generation
    _count = 1
    generation += 1
    _libraries.pop("workers", None)  # its threads stayed behind in the parent


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
