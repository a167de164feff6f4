"""How a batch travels from a worker to the main process.

A message is pickled with its tensors and arrays set aside as buffers. Short messages go through the pipe. Long ones go
through memory without a name (Linux: a memfd whose descriptor is passed over once, see `blocks`), which the kernel
frees when nobody holds it: nothing can leak, however a process ends. Elsewhere a file in the loader's own folder takes
its place. Because only short messages use the pipe, a worker never waits for the main process to read, so the two
cannot block each other.

A batch made of samples that lie each in its own memory (`Stacked`) is put together where it travels: one copy.
"""

from __future__ import annotations

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
from flambeau.data.blocks import HEADER, Blocks, leased, map_descriptor
from flambeau.data.collate import Stacked

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

ALIGNMENT = 64
INLINE, BLOCK, FILE = range(3)
HAS_DESCRIPTORS = hasattr(os, "memfd_create") and hasattr(socket, "send_fds")


def rebuild_tensor(cls: type, data: Any, dtype: str, shape: tuple[int, ...], requires_grad: bool) -> Tensor:
    """A tensor over the received bytes."""
    array = np.frombuffer(data, np.uint8).view(dtypes.by_name(dtype).numpy).reshape(shape)
    made = alias_as(cls, array)
    made._requires_grad = requires_grad
    return made


class _Packer(pickle.Pickler):
    """Pickles a batch; tensors leave their values (not their whole storage) in buffers."""

    def __init__(self, stream: Any, parts: list[list[Any]]):
        waiting: dict[int, list[Any]] = {}  # pieces of a `Stacked`, by the identity of what stands for them

        # No method: the pickler would hold itself, and the samples would wait for the garbage collector.
        def set_aside(buffer: Any) -> None:
            parts.append(waiting.pop(id(buffer), []) or [buffer.raw()])

        super().__init__(stream, protocol=5, buffer_callback=set_aside)
        self.waiting = waiting

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is Stacked:
            first = obj.arrays[0]
            stand_in = pickle.PickleBuffer(bytearray())
            self.waiting[id(stand_in)] = [array.reshape(-1).view(np.uint8) for array in obj.arrays]
            shape = (len(obj.arrays), *first.shape)
            return rebuild_tensor, (Tensor, stand_in, dtypes.from_numpy(first.dtype).name, shape, False)
        if not isinstance(obj, Tensor) or obj.is_meta or obj.__dict__ or (obj._requires_grad and obj._node is not None):
            return NotImplemented
        values = np.ascontiguousarray(plain(obj)).reshape(-1).view(np.uint8)
        place = (type(obj), pickle.PickleBuffer(values), obj.dtype.name, tuple(obj.shape), obj._requires_grad)
        return rebuild_tensor, place


def pack(message: Any) -> list[list[Any]]:
    """The pickle of a message, followed by its buffers, each in one or more pieces."""
    stream = io.BytesIO()
    parts: list[list[Any]] = []
    _Packer(stream, parts).dump(message)
    return [[stream.getbuffer()], *parts]


def unpack(parts: Sequence[Any]) -> Any:
    """Undo `pack`, from what `Receiver.receive` returns; tensors keep the memory of their part."""
    return pickle.loads(parts[0], buffers=parts[1:])


def size_of(part: list[Any]) -> int:
    """Bytes of a part."""
    return sum(len(piece) for piece in part)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _total(sizes: Sequence[int]) -> int:
    return max(sum(map(_aligned, sizes)), 1)


def _fill(memory: np.ndarray, parts: Sequence[list[Any]]) -> None:
    """All parts, each at a multiple of ALIGNMENT."""
    position = 0
    for part in parts:
        place = position
        for piece in part:
            memory[place:place + len(piece)] = np.frombuffer(piece, np.uint8) if len(piece) else 0
            place += len(piece)
        position += _aligned(place - position)


def _slices(memory: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    parts, position = [], 0
    for size in sizes:
        parts.append(memory[position:position + size])
        position += _aligned(size)
    return parts


class Sender:
    """A worker's end: up to `inline` bytes go through the pipe, more through one of at most `blocks` kept blocks."""

    def __init__(self, connection: Connection, inline: int, folder: str | None, blocks: int = 0):
        self.connection, self.inline, self.folder = connection, inline, folder
        self.blocks = Blocks(blocks)

    def send(self, parts: list[list[Any]]) -> None:
        """Send what `pack` made. OSError when there is no memory, or the other side is gone."""
        sizes = [size_of(part) for part in parts]
        if sum(sizes) <= self.inline:
            self._say(INLINE, [b"".join(map(bytes, part)) for part in parts])
        elif HAS_DESCRIPTORS:
            number, block, descriptor = self.blocks.take(_total(sizes))
            try:
                _fill(block[HEADER:], parts)
                self._say(BLOCK, (number, None if descriptor is None else block.size, sizes))
                if descriptor is not None:
                    with socket.socket(fileno=os.dup(self.connection.fileno())) as channel:
                        socket.send_fds(channel, [b"m"], [descriptor])
            finally:
                if descriptor is not None:
                    os.close(descriptor)
        else:
            descriptor, path = tempfile.mkstemp(dir=self.folder)
            with os.fdopen(descriptor, "wb") as file:
                for part, size in zip(parts, sizes):
                    file.writelines(part)
                    file.write(bytes(_aligned(size) - size))
            self._say(FILE, (path, sizes))

    def _say(self, kind: int, content: Any) -> None:
        self.connection.send_bytes(pickle.dumps((kind, content)))


class Receiver:
    """The main process's end of one worker's pipe, with the worker's blocks as they are known here."""

    def __init__(self, connection: Connection):
        self.connection = connection
        self.blocks: dict[int, np.ndarray] = {}

    def receive(self) -> list[Any]:
        """The parts of one message. EOFError or OSError when the other side is gone."""
        kind, content = pickle.loads(self.connection.recv_bytes())
        if kind == INLINE:
            return [content[0], *map(bytearray, content[1:])]  # writable, as the values of a tensor must be
        if kind == BLOCK:
            number, fresh, sizes = content
            if fresh is None:
                return _slices(leased(self.blocks[number]), sizes)
            block = self._new_block(fresh)
            if number is not None:
                self.blocks[number] = block
            return _slices(leased(block), sizes)
        path, sizes = content
        try:
            with open(path, "r+b") as file:
                memory: Any = np.fromfile(file, np.uint8) if os.name == "nt" else mmap.mmap(file.fileno(), 0)
        finally:
            os.unlink(path)
        return _slices(np.frombuffer(memory, np.uint8), sizes)

    def _new_block(self, size: int) -> np.ndarray:
        with socket.socket(fileno=os.dup(self.connection.fileno())) as channel:
            _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
        if not descriptors:
            raise EOFError("the worker ended while it sent a batch")
        try:
            return map_descriptor(descriptors[0], size)
        finally:
            os.close(descriptors[0])
