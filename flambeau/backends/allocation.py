"""Large arrays that are freed and made again at every step should not cost page faults each time.

The C library gives large blocks back to the system when they are freed, and takes new, zeroed pages for the next:
measured, 10 to 15 % of a training step of a convolutional network. With higher thresholds it keeps them for reuse; peak
memory stays the same.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import sys

import numpy as np

# Parameters of mallopt, from glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_ARRAYS_KEPT = 256 << 20  # larger ones go straight back to the system
_FREE_KEPT = 512 << 20  # what may lie free at the end of the heap
_HUGE = 4 << 20  # bytes from which huge pages pay


def keep_freed_memory() -> bool:
    """Let glibc's malloc reuse freed memory up to a bound; returns whether it agreed.

    Nothing is changed on other C libraries, with FLAMBEAU_KEEP_MEMORY=0, or when the user has set malloc's variables.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    chosen = "glibc.malloc" in tunables or any(name.startswith("MALLOC_") for name in os.environ)
    if sys.platform != "linux" or chosen or os.environ.get("FLAMBEAU_KEEP_MEMORY") == "0":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    # The smaller one first: glibc before 2.35 takes at most 32 MiB, and keeps that when it refuses more.
    taken = library.mallopt(_MMAP_THRESHOLD, 32 << 20)
    library.mallopt(_MMAP_THRESHOLD, _ARRAYS_KEPT)
    return bool(taken and library.mallopt(_TRIM_THRESHOLD, _FREE_KEPT))


def give_back() -> None:
    """Return freed memory to the system: what an eager step kept for the next one, when there will be none."""
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "malloc_trim"):
            library.malloc_trim(0)


def block(nbytes: int) -> np.ndarray:
    """Memory of its own for a program's values, as bytes: apart from malloc's, on huge pages where the system has
    them."""
    if nbytes < _HUGE or not hasattr(mmap, "MAP_PRIVATE"):
        return np.empty(nbytes, np.uint8)
    # Private: a forked child must not compute in its parent's memory.
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(memory, "madvise") and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel built without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)
