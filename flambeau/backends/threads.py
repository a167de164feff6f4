"""How many threads the native libraries use: OpenMP (oneDNN and generated code) and NumPy's OpenBLAS.

`OMP_NUM_THREADS` is respected at start. The count is one for the whole process, as in PyTorch; OpenMP keeps it per
thread, so a thread that arrives later adopts it at its first native call (`stale` and `apply`). A forked child
computes on one thread: libgomp's pool does not survive a fork, and workers share the machine anyway.
"""

from __future__ import annotations

import ctypes
import os
import threading
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


def stale() -> bool:
    """Whether this thread has yet to be told the number of OpenMP threads."""
    return getattr(_local, "generation", 0) != generation


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


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
