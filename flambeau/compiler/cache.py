"""Compiled objects on disk, so that a new process need not make them again.

They lie in `$FLAMBEAU_CACHE`, or `~/.cache/flambeau/objects`; FLAMBEAU_CACHE=0 switches the cache off. Machine code is
run without a question, so nothing is read that another user could have put there: folder and file must belong to this
user and be writable by nobody else, and links are not followed. Entries carry a checksum; what is damaged is dropped
and made anew. Writing is atomic, so that processes may share the folder; when it grows over its limit, the entries not
used for longest leave.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from flambeau.backends.llvm import builtin, jit, symbols
from flambeau.backends.onednn import library
from flambeau.core.digest import blake2b
from flambeau.version import __version__

LIMIT = 256 << 20  # bytes
_MAGIC = b"flambeau object 2\n"
_DIGEST = 32
_ABANDONED = 3600  # seconds after which a temporary file has no writer any more
_PACKAGE = Path(__file__).resolve().parent.parent
_SOURCES = ("compiler", "backends", "core", "ops")

# On systems without these notions the user's own folder has to be trusted.
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_HAS_OWNERS = hasattr(os, "geteuid")


class ObjectCache:
    """A folder of objects by key, none older than its use, no more than `limit` bytes."""

    def __init__(self, folder: Path, limit: int = LIMIT):
        self.folder = folder
        self.limit = limit

    def fetch(self, key: str) -> bytes | None:
        """The object of this key; None if there is none, or none that can be trusted. Counts as a use."""
        with self._opened() as folder:
            if folder is None:
                return None
            content = _read(key, folder)
            if content is None:
                return None
            payload = _payload(content)
            if payload is None:
                with contextlib.suppress(OSError):
                    os.unlink(key, dir_fd=folder)
                return None
            with contextlib.suppress(OSError):
                os.utime(key, dir_fd=folder)
            return payload

    def store(self, key: str, payload: bytes) -> bool:
        """Keep an object; False if the folder cannot be used. An entry of the same key is replaced."""
        with self._opened() as folder:
            if folder is None:
                return False
            temporary = f".{key}.{os.getpid()}.{os.urandom(4).hex()}"
            try:
                file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, 0o600, dir_fd=folder)
                with os.fdopen(file, "wb") as out:
                    out.write(_MAGIC + blake2b(payload, digest_size=_DIGEST).digest() + payload)
                os.replace(temporary, key, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:  # the disk is full, or not for us: compiling goes on without
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                return False
            self._evict(folder)
            return True

    def clear(self) -> None:
        """Remove every entry."""
        with self._opened() as folder:
            for _, _, name in [] if folder is None else _entries(folder):
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=folder)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int | None]:
        """A descriptor of the folder, made if need be; None if it is not ours alone."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _NO_FOLLOW)
        except OSError:
            yield None
            return
        try:
            yield descriptor if _is_ours(os.fstat(descriptor), stat.S_ISDIR) else None
        finally:
            os.close(descriptor)

    def _evict(self, folder: int) -> None:
        """Remove what was not used for longest until a tenth of the limit is free, and what dead processes left."""
        found = sorted(_entries(folder))
        total = sum(size for _, size, _ in found)
        too_much = total > self.limit
        for used, size, name in found:
            abandoned = name.startswith(".") and used < time.time() - _ABANDONED
            if abandoned or (too_much and total > self.limit * 9 // 10):
                with contextlib.suppress(OSError):  # another process was faster
                    os.unlink(name, dir_fd=folder)
                total -= size


def _is_ours(status: os.stat_result, kind: Callable[[int], bool]) -> bool:
    """Whether a file or folder is of this kind, belongs to this user, and nobody else may write it."""
    if not kind(status.st_mode):
        return False
    return not _HAS_OWNERS or (status.st_uid == os.geteuid() and not status.st_mode & 0o022)


def _read(name: str, folder: int) -> bytes | None:
    try:
        file = os.open(name, os.O_RDONLY | _NO_FOLLOW, dir_fd=folder)
    except OSError:
        return None
    with os.fdopen(file, "rb") as opened:
        return opened.read() if _is_ours(os.fstat(file), stat.S_ISREG) else None


def _payload(content: bytes) -> bytes | None:
    start = len(_MAGIC) + _DIGEST
    digest, payload = content[len(_MAGIC) : start], content[start:]
    whole = content.startswith(_MAGIC) and blake2b(payload, digest_size=_DIGEST).digest() == digest
    return payload if whole else None


def _entries(folder: int) -> Iterator[tuple[float, int, str]]:
    """(last use, size, name) of every file."""
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            yield status.st_mtime, status.st_size, name


# ---- this process's cache --------------------------------------------------------------------------


@functools.cache
def default() -> ObjectCache | None:
    """The cache this process uses; None if it is switched off or there is no place for it."""
    chosen = os.environ.get("FLAMBEAU_CACHE", "")
    if chosen == "0" or os.open not in os.supports_dir_fd:
        return None
    if chosen:
        return ObjectCache(Path(chosen))
    try:
        return ObjectCache(Path.home() / ".cache" / "flambeau" / "objects")
    except RuntimeError:  # no home
        return None


def key_of(*parts: str) -> str:
    """The key of what these parts (IR, or a description of it) are compiled to, here and with these versions."""
    digest = blake2b(digest_size=_DIGEST)
    for part in (identity(), *parts):
        text = part.encode()
        digest.update(len(text).to_bytes(8, "little") + text)
    return digest.hexdigest()


def cached(key: str, make: Callable[[], bytes]) -> bytes:
    """The object of this key, made and kept if it is not there."""
    cache = default()
    found = cache.fetch(key) if cache is not None else None
    if found is None:
        found = make()
        if cache is not None:
            cache.store(key, found)
    return found


@functools.cache
def identity() -> str:
    """Everything compiled objects depend on beside what is compiled."""
    return "\n".join([
        f"flambeau {__version__} {_sources()}",
        jit.host().identity,
        f"python {platform.python_implementation()} {sys.version_info[:3]} header {builtin.HEADER}",
        f"numpy {np.__version__}",
        f"oneDNN {_onednn_version()}",
        f"openmp {symbols.has_openmp()}",
    ])  # fmt: skip


def _sources() -> str:
    """Tells states of our own code apart between releases: names, sizes and times of the files that make code."""
    digest = blake2b(digest_size=_DIGEST)
    for part in _SOURCES:
        for line in sorted(_modules(os.path.join(_PACKAGE, part))):
            digest.update(line.encode())
    return digest.hexdigest()


def _modules(folder: str) -> Iterator[str]:
    """Name, size and time of the modules in a folder and those below; pathlib takes four times as long."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _modules(entry.path)
            elif entry.name.endswith(".py"):
                status = entry.stat()
                yield f"{entry.path.removeprefix(str(_PACKAGE))} {status.st_size} {status.st_mtime_ns}\n"


def _onednn_version() -> str:
    loaded = library.load()
    if loaded is None:
        return "none"
    loaded.dll.dnnl_version.restype = ctypes.POINTER(ctypes.c_int)
    return ".".join(map(str, loaded.dll.dnnl_version()[:3]))
