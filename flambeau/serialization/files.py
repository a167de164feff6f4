"""`save` and `load`: which format, which file, and nothing half written."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flambeau.serialization import legacy, torch_zip
from flambeau.serialization.locations import restorer
from flambeau.serialization.unpickler import WeightsUnpickler, full_unpickler

__all__ = ["load", "save"]


def save(obj: Any, f: Any, pickle_module: Any = pickle, pickle_protocol: int = 2,
         _use_new_zipfile_serialization: bool = True, _disable_byteorder_record: bool = False) -> None:
    """Write an object with tensors to a path or an open binary file, in PyTorch's format.

    A file given by path is replaced in one step when everything is written, so an interruption leaves the old one.
    RuntimeError when the folder does not exist, TypeError or PicklingError for what cannot be pickled.
    """
    with written(f) as (file, folder):
        if _use_new_zipfile_serialization:
            torch_zip.save(obj, file, folder, pickle_module, pickle_protocol, not _disable_byteorder_record)
        else:
            legacy.save(obj, file, pickle_module, pickle_protocol)


@contextlib.contextmanager
def written(f: Any) -> Iterator[tuple[Any, str]]:
    """The file to write to, and the name of the folder inside an archive."""
    if not isinstance(f, (str, os.PathLike)):
        if not hasattr(f, "write"):
            raise AttributeError("expected 'f' to be string, path, or a file-like object with a 'write' attribute, "
                                 f"got {type(f)}")
        yield f, "archive"
        return
    path = Path(os.path.realpath(f))
    folder = Path(f).stem or "archive"
    if not path.parent.is_dir():
        raise RuntimeError(f"Parent directory {path.parent} does not exist.")
    exists = path.exists()
    # A device or a pipe cannot be replaced, nor can a file in a folder that we may not write to.
    if exists and not (path.is_file() and os.access(path.parent, os.W_OK)):
        with open(path, "wb") as file:
            yield file, folder
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file, folder
        if exists:
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load(f: Any, map_location: Any = None, pickle_module: Any = None, *, weights_only: bool | None = None,
         mmap: bool | None = None, **pickle_load_args: Any) -> Any:
    """Read what `save` of flambeau or PyTorch has written, from a path or an open binary file that can seek.

    weights_only: True (default) reads only tensors, numbers, text and containers of them; False runs whatever the file
    says, so only for files you trust. map_location: a device, a dict from the file's places to ours, or
    `function(storage, place) -> storage or None`. mmap: leave values on disk until they are used.
    UnpicklingError for a file that `weights_only` refuses, RuntimeError or EOFError for a damaged one.
    """
    if weights_only is None:
        trusting = os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD") in ("1", "y", "yes", "true")
        weights_only = pickle_module is None and not trusting
    if weights_only and pickle_module is not None:
        raise RuntimeError("Can not safely load weights when explicit picklers are used (pickle_module is given)")
    unpickler = WeightsUnpickler if weights_only else full_unpickler(pickle_module or pickle)
    pickle_load_args.setdefault("encoding", "utf-8")
    restore = restorer(map_location)
    if isinstance(f, (str, os.PathLike)):
        with open(f, "rb") as file:
            return _load(file, unpickler, restore, pickle_load_args, bool(mmap))
    if mmap:
        raise ValueError("f must be a file path in order to use the mmap argument")
    for method in ("read", "seek", "tell"):
        if not hasattr(f, method):
            raise AttributeError(f"'{type(f).__name__}' object has no attribute '{method}'. You can only load from a "
                                 "file that is seekable; read the data into an io.BytesIO and load from that.")
    return _load(f, unpickler, restore, pickle_load_args, False)


def _load(file: Any, unpickler: Any, restore: Any, options: dict[str, Any], mapped: bool) -> Any:
    start = file.tell()
    head = file.read(4)
    file.seek(start)
    if not head:
        raise EOFError("Ran out of input: the file is empty")
    if head == b"PK\x03\x04":
        reader = torch_zip.ZipReader(file)
        if reader.has("constants.pkl"):
            raise RuntimeError("the file is a TorchScript archive; flambeau reads what torch.save writes")
        if mapped:
            reader.map_file()
        return torch_zip.load(reader, unpickler, restore, options)
    if mapped:
        raise RuntimeError("mmap can only be used with files saved with `_use_new_zipfile_serialization=True`, "
                           "please save your file in this form to use mmap")
    if _is_tar(file, start):
        return legacy.load_tar(file, unpickler, restore, options)
    return legacy.load(file, unpickler, restore, options)


def _is_tar(file: Any, start: int) -> bool:
    """A tar archive says so at byte 257."""
    file.seek(start)
    head = file.read(tarfile.BLOCKSIZE)
    file.seek(start)
    return len(head) == tarfile.BLOCKSIZE and head[257:262] == b"ustar"

