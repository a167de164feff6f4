"""The safetensors format: a JSON table of names, types, shapes and places, then the values.

https://huggingface.co/docs/safetensors: 8 bytes with the length of the table (little-endian), the table, the data. No
code can hide in such a file. Reading checks everything: places must lie inside the data, fit shape and type, and cover
it without gaps.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core.device import check_device
from flambeau.core.storage import Storage
from flambeau.core.tensor import Tensor, plain, wrap, wrap_storage
from flambeau.serialization.files import written
from flambeau.serialization.rebuild import rebuild_meta_tensor

__all__ = ["load", "load_file", "load_metadata", "save", "save_file"]

_MAX_TABLE = 100_000_000
_TYPES = {
    "BOOL": dtypes.bool, "U8": dtypes.uint8, "I8": dtypes.int8, "U16": dtypes.uint16, "I16": dtypes.int16,
    "U32": dtypes.uint32, "I32": dtypes.int32, "U64": dtypes.uint64, "I64": dtypes.int64, "F16": dtypes.float16,
    "BF16": dtypes.bfloat16, "F32": dtypes.float32, "F64": dtypes.float64, "F8_E4M3": dtypes.float8_e4m3fn,
    "F8_E5M2": dtypes.float8_e5m2, "C64": dtypes.complex64,
}
_NAMES = {d: name for name, d in _TYPES.items()}


def save(tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """Tensors by name as the bytes of a safetensors file; see `save_file`."""
    return b"".join(bytes(part) for part in _parts(tensors, metadata))


def save_file(tensors: dict[str, Tensor], filename: str | os.PathLike, metadata: dict[str, str] | None = None) -> None:
    """Write tensors by name, and texts about them, to a safetensors file, in one step.

    ValueError for tensors that are not contiguous, RuntimeError for ones that share memory (the format would store it
    twice), TypeError for other values and for dtypes the format does not have.
    """
    parts = _parts(tensors, metadata)
    with written(filename) as (file, _):
        for part in parts:
            file.write(part)


def _parts(tensors: dict[str, Tensor], metadata: dict[str, str] | None) -> list[Any]:
    if sys.byteorder != "little":
        raise RuntimeError("safetensors files hold little-endian values; this machine has the other byte order")
    _check(tensors)
    table: dict[str, Any] = {}
    if metadata is not None:
        if not all(isinstance(text, str) for pair in metadata.items() for text in pair):
            raise TypeError("metadata of a safetensors file must map text to text")
        table["__metadata__"] = dict(metadata)
    # Wide types first, so that every tensor starts at a multiple of its element size.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    position = 0
    for name in order:
        t = tensors[name]
        end = position + t.nbytes
        table[name] = {"dtype": _NAMES[t.dtype], "shape": list(t.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    values = [memoryview(plain(tensors[name]).reshape(-1).view(np.uint8)) for name in order]
    return [struct.pack("<Q", len(text)), text, *values]


def _check(tensors: dict[str, Tensor]) -> None:
    owners: dict[int, str] = {}
    for name, t in tensors.items():
        if not isinstance(t, Tensor):
            raise TypeError(f"Key `{name}` is invalid, expected a Tensor but received {type(t).__name__}")
        if t.dtype not in _NAMES:
            raise TypeError(f"safetensors has no type for {t.dtype} of `{name}`")
        if not t.is_contiguous():
            raise ValueError(f"You are trying to save a non contiguous tensor: `{name}` which is not allowed. Call "
                             "`.contiguous()` on it first.")
        storage = t.untyped_storage()
        if storage.nbytes():
            other = owners.setdefault(storage.data_ptr(), name)
            if other != name:
                raise RuntimeError(f"Some tensors share memory: `{other}` and `{name}`. The file would hold it twice; "
                                   "`.clone()` one of them or leave it out.")


def load(data: bytes) -> dict[str, Tensor]:
    """The tensors in the bytes of a safetensors file."""
    memory = np.frombuffer(bytearray(data), np.uint8)
    return _tensors(memory, *_table(memory), meta=False)


def load_file(filename: str | os.PathLike, device: Any = "cpu") -> dict[str, Tensor]:
    """Tensors by name from a safetensors file. RuntimeError for one that is damaged."""
    meta = check_device(device).type == "meta"
    memory = np.fromfile(filename, np.uint8)
    return _tensors(memory, *_table(memory), meta=meta)


def load_metadata(filename: str | os.PathLike) -> dict[str, str]:
    """The texts that were stored with the tensors."""
    return _table(np.fromfile(filename, np.uint8))[0].get("__metadata__", {})


def _table(memory: np.ndarray) -> tuple[dict[str, Any], int]:
    """The table and where the data begin."""
    if memory.size < 8:
        raise RuntimeError("Error while deserializing: the file has no header (header too small)")
    length = struct.unpack("<Q", memory[:8].tobytes())[0]
    if length > _MAX_TABLE or 8 + length > memory.size:
        raise RuntimeError(f"Error while deserializing: a header of {length} bytes in a file of {memory.size}")
    try:
        table = json.loads(memory[8:8 + length].tobytes().decode())
    except ValueError as error:
        raise RuntimeError(f"Error while deserializing: the header is not valid JSON ({error})") from error
    if not isinstance(table, dict):
        raise RuntimeError("Error while deserializing: the header is not a JSON object")
    return table, 8 + length


def _tensors(memory: np.ndarray, table: dict[str, Any], start: int, meta: bool) -> dict[str, Tensor]:
    found, places = {}, []
    for name, entry in table.items():
        if name == "__metadata__":
            continue
        dtype, shape, begin, end = _entry(name, entry, memory.size - start)
        places.append((begin, end))
        if meta:
            found[name] = rebuild_meta_tensor(dtype, shape, None, False)
            continue
        values = memory[start + begin:start + end]
        if (start + begin) % dtype.itemsize:
            values = values.copy()
        if values.size:
            found[name] = wrap(values.view(dtype.numpy).reshape(shape))
        else:
            strides = tuple(int(np.prod(shape[i + 1:])) for i in range(len(shape)))
            found[name] = wrap_storage(Storage.from_bytes(np.empty(0, np.uint8)), dtype, shape, strides)
    position = 0
    for begin, end in sorted(places):
        if begin != position:
            raise RuntimeError(f"Error while deserializing: tensors overlap or leave a gap at byte {position}")
        position = end
    if position != memory.size - start:
        raise RuntimeError(f"Error while deserializing: {memory.size - start} bytes of data, but the header accounts "
                           f"for {position}")
    return found


def _entry(name: str, entry: Any, size: int) -> tuple[dtypes.dtype, tuple[int, ...], int, int]:
    """Type, shape and place of one tensor, checked."""
    try:
        dtype, shape, (begin, end) = _TYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
        numbers = [*shape, begin, end]
    except (KeyError, TypeError, ValueError) as error:
        raise RuntimeError(f"Error while deserializing: the entry of `{name}` is not valid: {entry!r}") from error
    if not all(type(n) is int and n >= 0 for n in numbers) or not begin <= end <= size:
        raise RuntimeError(f"Error while deserializing: the place of `{name}` is not inside the data: {entry!r}")
    count = dtype.itemsize
    for n in shape:
        count *= n
    if count != end - begin:
        raise RuntimeError(f"Error while deserializing: `{name}` of shape {shape} takes {count} bytes, "
                           f"but the header gives it {end - begin}")
    return dtype, tuple(shape), begin, end
