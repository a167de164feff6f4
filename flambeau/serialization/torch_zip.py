"""PyTorch's zip format: a pickle, one aligned uncompressed record per storage, small records about the file itself."""

from __future__ import annotations

import io
import mmap
import pickle
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.core.storage import Storage, TypedStorage
from flambeau.serialization import options
from flambeau.serialization.names import UNTYPED, StorageType
from flambeau.serialization.pickler import StorageTable, make_pickler
from flambeau.serialization.rebuild import MetaStorage

ALIGNMENT = 64
_LOCAL, _CENTRAL = b"PK\x03\x04", b"PK\x01\x02"
_WIDE = 0xFFFFFFFF          # sizes and offsets from here on stand in a zip64 field
_PADDING_FIELD = b"FB"      # the header of the extra field that PyTorch pads with
_FLAGS = 0x0800             # names are UTF-8


class ZipWriter:
    """Writes an uncompressed zip archive front to back; the content of every record starts at a multiple of 64."""

    def __init__(self, file: Any, folder: str):
        self.file = file
        self.folder = folder
        self.position = 0
        self.records: list[tuple[bytes, int, int, int]] = []    # name, checksum, size, offset

    def _put(self, data: Any) -> None:
        self.file.write(data)
        self.position += len(data)

    def write(self, name: str, data: Any) -> None:
        """Add a record; `data` is bytes or a contiguous byte array."""
        content = memoryview(data)
        full_name = f"{self.folder}/{name}".encode()
        size, offset = len(content), self.position
        checksum = zlib.crc32(content) if options.get_crc32_options() else 0
        wide = struct.pack("<HHQQ", 1, 16, size, size) if size >= _WIDE else b""
        start = offset + 30 + len(full_name) + len(wide) + 4
        padding = -start % ALIGNMENT
        extra = wide + _PADDING_FIELD + struct.pack("<H", padding) + b"Z" * padding
        shown = min(size, _WIDE)
        self._put(struct.pack("<4sHHHHHIIIHH", _LOCAL, 45 if wide else 20, _FLAGS, 0, 0, 0x21, checksum, shown, shown,
                              len(full_name), len(extra)) + full_name + extra)
        self._put(content)
        self.records.append((full_name, checksum, size, offset))

    def finish(self) -> None:
        """Write the table of contents."""
        start = self.position
        for name, checksum, size, offset in self.records:
            wide = struct.pack("<QQ", size, size) if size >= _WIDE else b""
            wide += struct.pack("<Q", offset) if offset >= _WIDE else b""
            extra = struct.pack("<HH", 1, len(wide)) + wide if wide else b""
            version = 45 if wide else 20
            self._put(struct.pack("<4sHHHHHHIIIHHHHHII", _CENTRAL, version, version, _FLAGS, 0, 0, 0x21, checksum,
                                  min(size, _WIDE), min(size, _WIDE), len(name), len(extra), 0, 0, 0, 0,
                                  min(offset, _WIDE)) + name + extra)
        size, count = self.position - start, len(self.records)
        if start >= _WIDE or size >= _WIDE or count >= 0xFFFF:
            end = self.position
            self._put(struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, start))
            self._put(struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1))
        self._put(struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, min(count, 0xFFFF), min(count, 0xFFFF),
                              min(size, _WIDE), min(start, _WIDE), 0))


def save(obj: Any, file: Any, folder: str, pickle_module: Any, protocol: int, byteorder: bool = True) -> None:
    """Write `obj` to an open file. The pickle is made first, so nothing is written for an object that cannot be."""
    table = StorageTable(lambda count, storage: str(count))
    stream = io.BytesIO()
    make_pickler(pickle_module, stream, protocol, table, legacy=False).dump(obj)
    archive = ZipWriter(file, folder)
    archive.write("data.pkl", stream.getbuffer())
    archive.write(".format_version", b"1")
    archive.write(".storage_alignment", str(ALIGNMENT).encode())
    if byteorder:
        archive.write("byteorder", sys.byteorder.encode())
    for key, (storage, _) in table.storages.items():
        archive.write(f"data/{key}", storage.bytes)
    archive.write("version", b"3\n")
    names, checksums = zlib.crc32(b"".join(record[0] for record in archive.records)), 0
    for record in archive.records:
        checksums = zlib.crc32(struct.pack("<I", record[1]), checksums)
    archive.write(".data/serialization_id", f"{names:020d}{checksums:020d}".encode())
    archive.finish()


class ZipReader:
    """Reads records of an archive. RuntimeError for one that is damaged or incomplete."""

    def __init__(self, file: Any):
        self.file = file
        self.memory: np.ndarray | None = None
        try:
            self.archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, struct.error) as error:
            raise RuntimeError("PytorchStreamReader failed reading zip archive: failed finding central directory "
                               f"({error})") from error
        names = self.archive.namelist()
        if not names:
            raise RuntimeError("PytorchStreamReader failed reading zip archive: it is empty")
        self.folder = names[0].partition("/")[0]

    def map_file(self) -> None:
        """Serve records from mapped memory (private: writes do not reach the file)."""
        mapped = mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_COPY)
        self.memory = np.frombuffer(mapped, np.uint8)

    def has(self, name: str) -> bool:
        return f"{self.folder}/{name}" in self.archive.NameToInfo

    def _info(self, name: str) -> zipfile.ZipInfo:
        try:
            return self.archive.getinfo(f"{self.folder}/{name}")
        except KeyError:
            raise RuntimeError(f"PytorchStreamReader failed locating file {name}: file not found") from None

    def read(self, name: str) -> bytes:
        """A small record."""
        return self.record(name).tobytes()

    def record(self, name: str) -> np.ndarray:
        """The content of a record as bytes that may be written to."""
        info = self._info(name)
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            try:
                return np.frombuffer(bytearray(self.archive.read(info)), np.uint8)
            except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError) as error:
                raise RuntimeError(f"PytorchStreamReader failed reading file {name}: {error}") from error
        start, size = self._start(info, name), info.file_size
        if self.memory is not None:
            data = self.memory[start:start + size]
            if len(data) != size:
                raise RuntimeError(f"PytorchStreamReader failed reading file {name}: the file is cut short")
            return data if start % 16 == 0 else data.copy()
        self.file.seek(0, io.SEEK_END)
        if start + size > self.file.tell():     # before memory is asked for
            raise RuntimeError(f"PytorchStreamReader failed reading file {name}: the file is cut short")
        data = np.empty(size, np.uint8)
        self.file.seek(start)
        fill(self.file, data, name)
        # PyTorch writes 0 when checksums are switched off.
        if options.get_crc32_options() and info.CRC and zlib.crc32(data) != info.CRC:
            raise RuntimeError(f"PytorchStreamReader failed reading file {name}: the checksum does not fit the content")
        return data

    def _start(self, info: zipfile.ZipInfo, name: str) -> int:
        """Where the content begins: behind the local header."""
        if info.header_offset < 0:
            raise RuntimeError(f"PytorchStreamReader failed reading file {name}: it starts before the file")
        self.file.seek(info.header_offset)
        header = self.file.read(30)
        if len(header) != 30 or header[:4] != _LOCAL:
            raise RuntimeError(f"PytorchStreamReader failed reading file {name}: no header where one must be")
        name_length, extra_length = struct.unpack("<HH", header[26:30])
        return info.header_offset + 30 + name_length + extra_length


def fill(file: Any, target: np.ndarray, name: str) -> None:
    """Read exactly as many bytes as the array has. RuntimeError when there are fewer."""
    view, done = memoryview(target), 0
    read_into = getattr(file, "readinto", None)
    while done < len(view):
        if read_into is not None:
            count = read_into(view[done:])
        else:
            part = file.read(len(view) - done)
            count = len(part)
            view[done:done + count] = part
        if not count:
            raise RuntimeError(f"unexpected EOF in {name}, expected {len(view) - done} more bytes. "
                               "The file might be corrupted.")
        done += count


def check_place(place: Any, length: int) -> None:
    """A reference to a storage must have this form. UnpicklingError otherwise."""
    kinds = (str, StorageType, str, str, int)
    fits = isinstance(place, tuple) and len(place) == length and all(map(isinstance, place, kinds))
    if not fits or place[0] != "storage" or place[4] < 0:
        raise pickle.UnpicklingError(f"Unknown reference to a storage: {place!r}")


def swap_bytes(data: np.ndarray, kind: StorageType) -> np.ndarray:
    """Values written on a machine of the other byte order."""
    if kind is UNTYPED:
        raise RuntimeError("an untyped storage was written in the other byte order and cannot be converted")
    size = kind.dtype.itemsize // (2 if kind.dtype.is_complex else 1)
    return data if size == 1 else data.view(f"u{size}").byteswap().view(np.uint8)


def load(reader: ZipReader, unpickler: Callable, restore: Callable, arguments: dict[str, Any]) -> Any:
    """The object in an archive. `restore(storage, location)` puts storages where they belong."""
    named = reader.read("byteorder").decode("ascii", "replace") if reader.has("byteorder") else None
    swapped = options.is_swapped(named)
    loaded: dict[str, tuple[TypedStorage, int]] = {}

    def persistent_load(place: Any) -> TypedStorage:
        check_place(place, 5)
        _, kind, key, location, count = place
        nbytes = count * kind.dtype.itemsize
        if key not in loaded:
            data = reader.record(f"data/{key}")
            if data.size < nbytes:
                raise RuntimeError(f"storage {key} has {data.size} bytes, but the file speaks of {nbytes}")
            data = data[:nbytes]
            moved = restore(Storage.from_bytes(swap_bytes(data, kind) if swapped else data), location)
            loaded[key] = (TypedStorage(moved, kind.dtype), nbytes)
        return loaded[key][0]

    stream = io.BytesIO(reader.read("data.pkl"))
    return unpickler(stream, persistent_load=persistent_load, **arguments).load()


__all__ = ["MetaStorage", "ZipReader", "ZipWriter", "load", "save"]
