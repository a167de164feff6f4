"""The formats before PyTorch 1.6: a chain of pickles followed by the storages, and before that a tar archive."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import tarfile
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.core.storage import Storage, TypedStorage
from flambeau.serialization.names import StorageType
from flambeau.serialization.pickler import StorageTable, make_pickler
from flambeau.serialization.rebuild import MetaStorage, PendingStorage, rebuild_tensor
from flambeau.serialization.torch_zip import check_place, fill, swap_bytes
from flambeau.serialization.unpickler import WeightsUnpickler

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001


def save(obj: Any, file: Any, pickle_module: Any, protocol: int) -> None:
    """Write the chain of pickles: magic number, protocol, machine, object, keys of storages, storages."""
    table = StorageTable(lambda count, storage: str(storage.data_ptr() or count))
    stream = io.BytesIO()
    machine = {"protocol_version": PROTOCOL, "little_endian": sys.byteorder == "little",
               "type_sizes": {"short": 2, "int": 4, "long": 4}}
    for header in (MAGIC, PROTOCOL, machine):
        stream.write(pickle.dumps(header, protocol))
    make_pickler(pickle_module, stream, protocol, table, legacy=True).dump(obj)
    keys = sorted(table.storages)
    stream.write(pickle.dumps(keys, protocol))
    file.write(stream.getbuffer())
    for key in keys:
        storage, kind = table.storages[key]
        file.write(struct.pack("<q", storage.nbytes() // kind.dtype.itemsize))
        file.write(memoryview(storage.bytes))


def load(file: Any, unpickler: Callable, restore: Callable, options: dict[str, Any]) -> Any:
    """The object in a chain of pickles. UnpicklingError or RuntimeError for something else or a damaged file."""
    magic = WeightsUnpickler(file).load()
    if type(magic) is not int or magic != MAGIC:
        raise pickle.UnpicklingError("Invalid magic number; corrupt file?")
    protocol = WeightsUnpickler(file).load()
    if protocol != PROTOCOL:
        raise RuntimeError(f"Invalid protocol version: {protocol}")
    machine = WeightsUnpickler(file).load()
    little = not isinstance(machine, dict) or machine.get("little_endian", True)
    swapped = little != (sys.byteorder == "little")
    # The object comes before its values: tensors are made over memory that is filled afterwards.
    raw: dict[str, tuple[np.ndarray, StorageType, int]] = {}
    loaded: dict[str, Any] = {}
    size = remaining(file)

    def persistent_load(place: Any) -> Any:
        if isinstance(place, tuple) and place and place[0] == "module":
            return place[1]                     # the class; its source code in the file is of no use
        if isinstance(place, tuple) and len(place) == 5:
            place = (*place, None)
        check_place(place, 6)
        _, kind, key, location, count, view = place
        if key not in loaded:
            nbytes = count * kind.dtype.itemsize
            if nbytes > size:
                raise RuntimeError(f"storage {key} has {nbytes} bytes, more than the file")
            data = np.zeros(nbytes, np.uint8)
            raw[key] = data, kind, count
            loaded[key] = PendingStorage(restore(Storage.from_bytes(data), location), kind.dtype)
        if view is None:
            return loaded[key]
        view_key, offset, view_size = view
        if view_key not in loaded:
            loaded[view_key] = part_of(loaded[key], offset, view_size)
        return loaded[view_key]

    result = unpickler(file, persistent_load=persistent_load, **options).load()
    keys = WeightsUnpickler(file).load()
    if not isinstance(keys, list) or set(keys) != set(raw):
        raise RuntimeError("the storages in the file are not those its tensors need. The file might be corrupted.")
    for key in keys:
        read_values(file, *raw[key], swapped)
        for finish in loaded[key].finish:
            finish()
    return result


def remaining(file: Any) -> int:
    """Bytes from here to the end of the file."""
    here = file.tell()
    end = file.seek(0, io.SEEK_END) or file.tell()
    file.seek(here)
    return end - here


def part_of(storage: TypedStorage, offset: Any, count: Any) -> TypedStorage:
    """Part of a storage as a storage. RuntimeError when it reaches outside."""
    size = storage.dtype.itemsize
    whole = storage.untyped()
    integers = type(offset) is int and type(count) is int
    if not integers or not 0 <= offset * size <= (offset + count) * size <= whole.nbytes():
        raise RuntimeError(f"a view of {count} elements at {offset} reaches outside its storage")
    if isinstance(whole, MetaStorage):
        return TypedStorage(MetaStorage(count * size), storage.dtype)  # type: ignore[arg-type]
    return TypedStorage(Storage.from_bytes(whole.bytes[offset * size:(offset + count) * size]), storage.dtype)


def read_values(file: Any, data: np.ndarray, kind: StorageType, count: int, swapped: bool) -> None:
    """Fill a storage from the file: the number of elements, then the elements."""
    header = np.empty(8, np.uint8)
    fill(file, header, "the size of a storage")
    found = struct.unpack("<q", header.tobytes())[0]
    if found != count:
        raise RuntimeError(f"a storage has {found} elements, expected {count}. The file might be corrupted.")
    fill(file, data, "a storage")
    if swapped:
        data[:] = swap_bytes(data.copy(), kind)


def load_tar(file: Any, unpickler: Callable, restore: Callable, options: dict[str, Any]) -> Any:
    """The object in a tar archive (PyTorch 0.1.1): members `storages`, `tensors` and `pickle`."""
    with tarfile.open(fileobj=file, mode="r:") as archive:
        members = {}
        for name in ("storages", "tensors", "pickle"):
            try:
                member = archive.extractfile(name)
            except KeyError:
                member = None
            if member is None:
                raise RuntimeError(f"the tar archive has no '{name}': it was not written by PyTorch")
            members[name] = io.BytesIO(member.read())
    storages = _tar_storages(members["storages"], restore)
    tensors = _tar_tensors(members["tensors"], storages)

    def persistent_load(place: Any) -> Any:
        if isinstance(place, tuple):
            if place and place[0] == "module":
                return place[1]
            raise pickle.UnpicklingError(f"Unknown reference: {place!r}")
        found = tensors.get(str(place))
        if found is None:
            found = storages.get(str(place))
        if found is None:
            raise pickle.UnpicklingError(f"the archive has no object {place!r}")
        return found

    return unpickler(members["pickle"], persistent_load=persistent_load, **options).load()


def _tar_storages(file: io.BytesIO, restore: Callable) -> dict[str, TypedStorage]:
    storages: dict[str, TypedStorage] = {}
    for _ in range(WeightsUnpickler(file).load()):
        key, location, kind = WeightsUnpickler(file).load()
        if not isinstance(kind, StorageType):
            raise pickle.UnpicklingError(f"Unknown storage type {kind!r}")
        count = struct.unpack("<q", _exactly(file, 8))[0]
        if not 0 <= count * kind.dtype.itemsize <= remaining(file):
            raise RuntimeError("unexpected EOF in a storage. The file might be corrupted.")
        data = np.frombuffer(bytearray(_exactly(file, count * kind.dtype.itemsize)), np.uint8)
        storages[str(key)] = TypedStorage(restore(Storage.from_bytes(data), location), kind.dtype)
    for target, root, offset, count in WeightsUnpickler(file).load():
        storages[str(target)] = part_of(storages[str(root)], offset, count)
    return storages


def _tar_tensors(file: io.BytesIO, storages: dict[str, TypedStorage]) -> dict[str, Any]:
    tensors = {}
    for _ in range(WeightsUnpickler(file).load()):
        key, storage, _kind = WeightsUnpickler(file).load()
        ndim = struct.unpack("<i", _exactly(file, 4))[0]
        _exactly(file, 4)
        if not 0 <= ndim <= 64:
            raise RuntimeError(f"a tensor in the file has {ndim} dimensions. The file might be corrupted.")
        shape = struct.unpack(f"<{ndim}q", _exactly(file, 8 * ndim))
        stride = struct.unpack(f"<{ndim}q", _exactly(file, 8 * ndim))
        offset = struct.unpack("<q", _exactly(file, 8))[0]
        tensors[str(key)] = rebuild_tensor(storages[str(storage)], offset, shape, stride)
    return tensors


def _exactly(file: io.BytesIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise RuntimeError(f"unexpected EOF, expected {count - len(data)} more bytes. The file might be corrupted.")
    return data
