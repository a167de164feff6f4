"""How a batch travels from a worker to the main process.

A message is pickled with its tensors and arrays set aside as buffers. Short messages go through the pipe. Long ones go
through memory without a name (Linux: a memfd whose descriptor is passed over), which the kernel frees when nobody holds
it: nothing can leak, however a process ends. Elsewhere a file in the loader's own folder takes its place. Because
only short messages use the pipe, a worker never waits for the main process to read, so the two cannot block each
other.
"""

from __future__ import annotations

import ctypes
import io
import mmap
import os
import pickle
import socket
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core.tensor import Tensor, alias_as, plain

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

ALIGNMENT = 64
INLINE, DESCRIPTOR, FILE = range(3)
HAS_DESCRIPTORS = hasattr(os, "memfd_create") and hasattr(socket, "send_fds")


def rebuild_tensor(cls: type, data: Any, dtype: str, shape: tuple[int, ...], requires_grad: bool) -> Tensor:
    """A tensor over the received bytes."""
    array = np.frombuffer(data, np.uint8).view(dtypes.by_name(dtype).numpy).reshape(shape)
    made = alias_as(cls, array)
    made._requires_grad = requires_grad
    return made


class _Packer(pickle.Pickler):
    """Pickles a batch; tensors leave their values (not their whole storage) in buffers."""

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, Tensor) or obj.is_meta or obj.__dict__ or (obj._requires_grad and obj._node is not None):
            return NotImplemented
        values = np.ascontiguousarray(plain(obj)).reshape(-1).view(np.uint8)
        place = (type(obj), pickle.PickleBuffer(values), obj.dtype.name, tuple(obj.shape), obj._requires_grad)
        return rebuild_tensor, place


def pack(message: Any) -> list[Any]:
    """The pickle of a message, followed by its buffers."""
    stream, buffers = io.BytesIO(), []
    _Packer(stream, protocol=5, buffer_callback=buffers.append).dump(message)
    return [stream.getbuffer(), *(buffer.raw() for buffer in buffers)]


def unpack(parts: Sequence[Any]) -> Any:
    """Undo `pack`; tensors keep the memory of their part."""
    return pickle.loads(parts[0], buffers=parts[1:])


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _write(descriptor: int, parts: Sequence[Any]) -> None:
    """All parts, each at a multiple of ALIGNMENT."""
    position = 0
    for part in parts:
        view = memoryview(part).cast("B")
        done = 0
        while done < len(view):
            done += os.pwrite(descriptor, view[done:], position + done)
        position += _aligned(len(view))
    os.ftruncate(descriptor, max(position, 1))


def send(connection: Connection, parts: list[Any], inline: int, folder: str | None) -> None:
    """Send what `pack` made; up to `inline` bytes through the pipe."""
    sizes = [len(part) for part in parts]
    if sum(sizes) <= inline:
        connection.send_bytes(pickle.dumps((INLINE, [bytes(part) for part in parts])))
    elif HAS_DESCRIPTORS:
        descriptor = os.memfd_create("flambeau-batch")
        try:
            _write(descriptor, parts)
            connection.send_bytes(pickle.dumps((DESCRIPTOR, sizes)))
            with socket.socket(fileno=os.dup(connection.fileno())) as channel:
                socket.send_fds(channel, [b"m"], [descriptor])
        finally:
            os.close(descriptor)
    else:
        descriptor, path = tempfile.mkstemp(dir=folder)
        try:
            _write(descriptor, parts)
        finally:
            os.close(descriptor)
        connection.send_bytes(pickle.dumps((FILE, (path, sizes))))


def receive(connection: Connection) -> list[Any]:
    """The parts of one message. EOFError or OSError when the other side is gone."""
    kind, content = pickle.loads(connection.recv_bytes())
    if kind == INLINE:
        return [content[0], *map(bytearray, content[1:])]  # writable, as the values of a tensor must be
    if kind == DESCRIPTOR:
        with socket.socket(fileno=os.dup(connection.fileno())) as channel:
            _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
        if not descriptors:
            raise EOFError("the worker ended while it sent a batch")
        try:
            return _slices(map_descriptor(descriptors[0], _total(content)), content)
        finally:
            os.close(descriptors[0])
    path, sizes = content
    try:
        with open(path, "r+b") as file:
            memory: Any = np.fromfile(file, np.uint8) if os.name == "nt" else mmap.mmap(file.fileno(), _total(sizes))
    finally:
        os.unlink(path)
    return _slices(np.frombuffer(memory, np.uint8), sizes)


def _total(sizes: Sequence[int]) -> int:
    return max(sum(map(_aligned, sizes)), 1)


def _slices(memory: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    parts, position = [], 0
    for size in sizes:
        parts.append(memory[position:position + size])
        position += _aligned(size)
    return parts


class _Mapping:
    """Mapped memory that needs no open descriptor (Python's mmap keeps one per mapping, and 1,024 is a usual limit)."""

    def __init__(self, address: int, size: int, unmap: Any):
        self.address, self.size, self.unmap = address, size, unmap
        self.__array_interface__ = {"data": (address, False), "shape": (size,), "typestr": "|u1", "version": 3}

    def __del__(self) -> None:
        self.unmap(self.address, self.size)


_MAP_POPULATE = 0x8000  # Linux: read all pages in now instead of one page fault each
_libc: Any = None


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
    memory: Any = _Mapping(address, size, _libc.munmap)
    return np.asarray(memory)
