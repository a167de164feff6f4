"""Memory shared by a worker and the main process, used again when its batch is gone.

New pages of shared memory cost the kernel several times what copying a batch costs, so a worker keeps a few blocks.
The first byte of a block says whether it is free. The worker takes free blocks; the main process frees a block when
the last array over it dies. A process that the main one forks sees the same memory, so what it could look at is never
used again.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from typing import Any

import numpy as np

HEADER = 64  # bytes before the contents: the mark below, and room that keeps the contents aligned
FREE, TAKEN, LOST = range(3)
_SLACK = 4  # a block this many times too large for a batch is given up

_MAP_POPULATE = 0x8000  # Linux: provide all pages now instead of at one page fault each
_libc: Any = None


class Mapping:
    """Mapped memory that needs no open descriptor (Python's mmap keeps one per mapping, and 1,024 is a usual limit)."""

    def __init__(self, address: int, size: int, unmap: Any):
        self.address, self.size, self.unmap = address, size, unmap
        self.__array_interface__ = {"data": (address, False), "shape": (size,), "typestr": "|u1", "version": 3}

    def __del__(self) -> None:
        self.unmap(self.address, self.size)


def map_descriptor(descriptor: int, size: int) -> np.ndarray:
    """Shared memory as a writable byte array. OSError when there is no room."""
    global _libc
    if _libc is None:
        _libc = ctypes.CDLL(None, use_errno=True)
        _libc.mmap.restype = ctypes.c_void_p
        _libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        _libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    flags = mmap.MAP_SHARED | _MAP_POPULATE
    address = _libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, descriptor, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), f"cannot map a batch of {size} bytes")
    memory: Any = Mapping(address, size, _libc.munmap)
    return np.asarray(memory)


class Blocks:
    """A worker's blocks, at most `most` of them."""

    def __init__(self, most: int):
        self.most = most
        self.blocks: list[np.ndarray] = []

    def take(self, size: int) -> tuple[int | None, np.ndarray, int | None]:
        """A block with `size` bytes after its header, marked as taken: (number, block, descriptor).

        The descriptor, which the caller closes, is None for a block that was used before; the number is None for one
        that will not be used again. OSError when there is no memory.
        """
        size += HEADER
        place = None
        for number, block in enumerate(self.blocks):
            if block[0] == FREE and size <= block.size <= _SLACK * size:
                block[0] = TAKEN
                return number, block, None
            if block[0] != TAKEN:
                place = number
        descriptor = os.memfd_create("flambeau-batch")
        try:
            os.posix_fallocate(descriptor, 0, size)
            made = map_descriptor(descriptor, size)
        except BaseException:
            os.close(descriptor)
            raise
        made[0] = TAKEN
        if place is not None:
            self.blocks[place] = made
        elif len(self.blocks) < self.most:
            place = len(self.blocks)
            self.blocks.append(made)
        return place, made, descriptor


class Lease:
    """The right to look at a block: the base of all arrays over it, which frees it when the last one is gone."""

    def __init__(self, block: np.ndarray):
        self.block = block
        self.kept = False
        address = block.__array_interface__["data"][0]
        self.__array_interface__ = {"data": (address, False), "shape": block.shape, "typestr": "|u1", "version": 3}
        _leases.add(self)

    def keep(self) -> None:
        """Never free the block: another process may be looking."""
        self.kept = True
        self.block[0] = LOST

    def __del__(self) -> None:
        if not self.kept:
            self.block[0] = FREE


_leases: weakref.WeakSet[Lease] = weakref.WeakSet()


def _before_fork() -> None:
    for lease in list(_leases):
        lease.keep()


def leased(block: np.ndarray) -> np.ndarray:
    """The bytes after a block's header, which is freed when nobody holds them or a view of them."""
    lease: Any = Lease(block)
    return np.asarray(lease)[HEADER:]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork)
