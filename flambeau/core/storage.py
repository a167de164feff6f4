"""The memory behind tensors: what views share, and the version counter that autograd checks."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core import recording
from flambeau.core.device import CPU


class _Memory:
    """A stretch of memory as NumPy's array interface wants it; keeps the owner alive."""

    __slots__ = ("__array_interface__", "owner")

    def __init__(self, address: int, nbytes: int, owner: Any, readonly: bool):
        self.owner = owner
        self.__array_interface__ = {"data": (address, readonly), "shape": (nbytes,), "typestr": "|u1", "version": 3}


EXPOSED = 1  # somebody can write to the memory without `version` telling: a NumPy view, `.data`
WATCHED = 2  # a compiled program keeps something computed from the memory (compiler/program.py)


class Storage:
    """Untyped memory shared by a tensor and its views; public as `UntypedStorage`.

    Making one is cheap: the byte view is built when somebody asks for it.
    """

    __slots__ = ("owner", "_bytes", "version", "views", "flags", "__weakref__")

    def __init__(self, owner: np.ndarray):
        self.owner = owner
        self._bytes: np.ndarray | None = None
        self.version = 0
        self.flags = 0  # EXPOSED, WATCHED
        self.views: list[weakref.ref] | None = None  # live differentiable views, see core/history.py

    @classmethod
    def from_bytes(cls, data: np.ndarray) -> Storage:
        """A storage over a 1-D uint8 array, which it keeps alive and shares."""
        made = cls(data)
        made._bytes = data
        return made

    @classmethod
    def from_file(cls, filename: Any, shared: bool = False, nbytes: int = 0) -> Storage:
        """The first `nbytes` bytes of a file, read when they are looked at. With `shared`, writing changes the file."""
        if not nbytes:
            return cls.from_bytes(np.empty(0, np.uint8))
        return cls.from_bytes(np.memmap(filename, np.uint8, "r+" if shared else "c", shape=(nbytes,)))

    @property
    def bytes(self) -> np.ndarray:
        """The whole memory as a 1-D uint8 array."""
        if self._bytes is None:
            owner = self.owner
            if owner.size == 0:
                self._bytes = np.empty(0, np.uint8)
            else:
                low, high = np.lib.array_utils.byte_bounds(owner)
                memory: Any = _Memory(low, high - low, owner, not owner.flags.writeable)
                self._bytes = np.asarray(memory)
        return self._bytes

    def expose(self) -> None:
        """Say that from now on writes may go unnoticed."""
        if self.flags != EXPOSED:
            if self.flags & WATCHED:
                recording.changed(self)
            self.flags = EXPOSED

    def repoint(self, owner: np.ndarray) -> None:
        """Let the storage stand for other memory (a layout conversion, `set_data`)."""
        self.owner = owner
        self._bytes = None

    def __sizeof__(self) -> int:
        """With the elements, as PyTorch counts."""
        return object.__sizeof__(self) + self.nbytes()

    def nbytes(self) -> int:
        """Size in bytes."""
        return self.bytes.size

    size = __len__ = nbytes

    def data_ptr(self) -> int:
        """Address of the first byte."""
        return int(self.bytes.__array_interface__["data"][0]) if self.bytes.size else 0

    def tolist(self) -> list[int]:
        return [int(value) for value in self.bytes]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Storage.from_bytes(self.bytes[index])
        return int(self.bytes[index])

    def __setitem__(self, index: Any, value: Any) -> None:
        self.bytes[index] = value
        self.version += 1

    def clone(self) -> Storage:
        return Storage.from_bytes(self.bytes.copy())

    def copy_(self, source: Storage, non_blocking: bool = False) -> Storage:
        self.bytes[:] = source.bytes
        self.version += 1
        return self

    def fill_(self, value: int) -> Storage:
        self.bytes[:] = value
        self.version += 1
        return self

    def untyped(self) -> Storage:
        return self

    def cpu(self) -> Storage:
        return self

    def share_memory_(self) -> Storage:
        return self

    def is_shared(self) -> bool:
        return False

    def resize_(self, nbytes: int) -> Storage:
        """Change the size; the first bytes keep their values. Existing views keep the old memory."""
        grown = np.zeros(nbytes, np.uint8)
        keep = min(nbytes, self.bytes.size)
        grown[:keep] = self.bytes[:keep]
        self.owner = self._bytes = grown
        return self

    @property
    def device(self) -> Any:
        return CPU

    @property
    def is_cuda(self) -> bool:
        return False

    def element_size(self) -> int:
        return 1

    def __repr__(self) -> str:
        lines = "".join(f" {value}\n" for value in self.tolist()) if self.nbytes() <= 1000 else " ...\n"
        return f"{lines}[torch.storage.UntypedStorage(device=cpu) of size {self.nbytes()}]"

    def note_view(self, view: Any) -> None:
        """Remember a differentiable view, so that an in-place write can refresh its history."""
        views = self.views
        if views is None:
            self.views = [weakref.ref(view)]
            return
        views.append(weakref.ref(view))
        if len(views) & 63 == 0:  # forget the dead now and then
            self.views = [ref for ref in views if ref() is not None]

    def live_views(self) -> list[Any]:
        """The views that still exist."""
        return [view for ref in self.views or () if (view := ref()) is not None]


class TypedStorage:
    """A storage seen as elements of one dtype (`tensor.storage()`); the deprecated companion of UntypedStorage."""

    def __init__(self, untyped: Storage, dtype: dtypes.dtype):
        self._untyped = untyped
        self.dtype = dtype

    def untyped(self) -> Storage:
        return self._untyped

    _untyped_storage = property(untyped)

    def _elements(self) -> np.ndarray:
        return self._untyped.bytes.view(self.dtype.numpy)

    def __len__(self) -> int:
        return self._untyped.nbytes() // self.dtype.itemsize

    size = __len__

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + self.nbytes()

    def nbytes(self) -> int:
        return self._untyped.nbytes()

    def data_ptr(self) -> int:
        return self._untyped.data_ptr()

    def element_size(self) -> int:
        return self.dtype.itemsize

    def __getitem__(self, index: Any) -> Any:
        found = self._elements()[index]
        return found.tolist()

    def __setitem__(self, index: Any, value: Any) -> None:
        self._elements()[index] = value
        self._untyped.version += 1

    def tolist(self) -> list[Any]:
        return self._elements().tolist()

    def __iter__(self) -> Any:
        return iter(self.tolist())

    def fill_(self, value: Any) -> TypedStorage:
        self[:] = value
        return self

    @property
    def device(self) -> Any:
        return self._untyped.device

    def __repr__(self) -> str:
        lines = "".join(f" {value}\n" for value in self.tolist())
        return f"{lines}[torch.storage.TypedStorage(dtype={self.dtype}, device=cpu) of size {len(self)}]"


def as_strided_array(storage: Storage, dtype: dtypes.dtype, shape: Any, strides: Any, offset: int = 0) -> np.ndarray:
    """An array over a storage, strides and offset counted in elements. RuntimeError if it reaches outside."""
    shape, strides = tuple(shape), tuple(strides)
    size = dtype.itemsize
    if any(n < 0 for n in shape):
        raise RuntimeError(f"as_strided: negative sizes are not possible, got {list(shape)}")
    if any(n < 0 for n in strides):
        raise RuntimeError(
            f"as_strided: Negative strides are not supported at the moment, got strides: {list(strides)}"
        )
    if len(shape) != len(strides):
        raise RuntimeError(f"mismatch in length of strides and shape: {len(strides)} strides, {len(shape)} sizes")
    if offset < 0:
        raise RuntimeError(f"Tensor: invalid storage offset {offset}")
    reach = 0 if 0 in shape else offset + 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if reach * size > storage.nbytes():
        raise RuntimeError(
            f"setStorage: sizes {list(shape)}, strides {list(strides)}, storage offset {offset}, and itemsize {size} "
            f"requiring a storage size of {reach * size} are out of bounds for storage of size {storage.nbytes()}"
        )
    byte_strides = tuple(s * size for s in strides)
    if 0 in shape:
        return np.lib.stride_tricks.as_strided(np.empty(1, dtype.numpy), shape, byte_strides)
    return np.ndarray(shape, dtype.numpy, buffer=storage.bytes, offset=offset * size, strides=byte_strides)
