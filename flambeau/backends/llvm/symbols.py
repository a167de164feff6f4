"""What generated code may call by name: the C library, OpenMP, and what others add (oneDNN's functions)."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Iterable
from typing import Any

_LIBC = ("memcpy", "memmove", "memset", "memcmp")
_LIBM = ("exp", "exp2", "expm1", "log", "log2", "log1p", "log10", "sin", "cos", "tan", "tanh", "sinh", "cosh", "asin",
         "acos", "atan", "atan2", "asinh", "acosh", "atanh", "erf", "erfc", "pow", "hypot", "fmod", "lgamma", "tgamma",
         "floor", "ceil", "trunc", "rint", "nearbyint", "fma", "sqrt", "nextafter", "ldexp", "cbrt")  # fmt: skip
_OPENMP = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads", "omp_get_max_threads")

THREAD_LIMIT = "flambeau_thread_limit"

_addresses: dict[str, int] = {}
_limit = ctypes.c_int32(1 << 30)


def _after_fork() -> None:
    _limit.value = 1  # see runtime.py


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def add_symbol(name: str, address: int) -> None:
    """Let generated code call the function at an address by a name it declares."""
    _addresses[name] = address


def add_library(library: Any, names: Iterable[str]) -> None:
    """Let generated code call functions of a library opened with ctypes; names it does not have are left out."""
    for name in names:
        function = getattr(library, name, None)
        if function is not None:
            _addresses[name] = ctypes.cast(function, ctypes.c_void_p).value or 0


def addresses() -> dict[str, int]:
    """Every name known by now, with its address."""
    has_openmp()
    _add_c_library()
    return _addresses


@functools.cache
def has_openmp() -> bool:
    """Whether there is a libgomp; then its functions are known."""
    add_symbol(THREAD_LIMIT, ctypes.addressof(_limit))
    try:
        library = ctypes.CDLL("libgomp.so.1")
    except OSError:
        return False
    add_library(library, _OPENMP)
    return True


@functools.cache
def _add_c_library() -> None:
    names = {"win32": ["ucrtbase"], "darwin": ["libSystem.dylib"]}.get(sys.platform, ["libm.so.6", "libc.so.6"])
    for name in names:
        try:
            library = ctypes.CDLL(name)
        except OSError:  # another C library: what the process itself exports has to do
            library = ctypes.CDLL(None)
        add_library(library, [*_LIBC, *_LIBM, *(name + "f" for name in _LIBM)])
