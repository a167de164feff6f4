"""Fetching data sets: checksums, downloads that resume, archives unpacked without trusting them."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import http.client
import lzma
import os
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

__all__ = [
    "calculate_md5",
    "check_integrity",
    "check_md5",
    "download_and_extract_archive",
    "download_url",
    "extract_archive",
    "list_dir",
    "list_files",
    "verify_str_arg",
]

CHUNK = 1 << 20
# What an archive may unpack to: at least a gigabyte, and from there a hundred times its own size.
ALWAYS_ALLOWED, LARGEST_RATIO = 1 << 30, 100
COMPRESSED = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tbz2", ".tar.xz", ".txz")


def calculate_md5(fpath: str | Path, chunk_size: int = CHUNK) -> str:
    """The MD5 sum of the file, in hexadecimal: a check of transmission, not of trust."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(fpath, "rb") as file:
        while chunk := file.read(chunk_size):
            digest.update(chunk)
    return digest.hexdigest()


def check_md5(fpath: str | Path, md5: str, **kwargs: Any) -> bool:
    """Whether the file has this MD5 sum."""
    return md5 == calculate_md5(fpath, **kwargs)


def check_integrity(fpath: str | Path, md5: str | None = None) -> bool:
    """Whether the file is there and, if a sum is given, has it."""
    return os.path.isfile(fpath) and (md5 is None or check_md5(fpath, md5))


def download_url(url: str, root: str | Path, filename: str | None = None, md5: str | None = None) -> None:
    """Fetch `url` into `root`, unless the file is there already with the right sum.

    What has come so far is kept beside it as `NAME.part`, from which a later call goes on.
    Raises: urllib.error.URLError if it cannot be fetched; RuntimeError if what came has another MD5 sum.
    """
    target = Path(root).expanduser() / (filename or os.path.basename(url))
    if check_integrity(target, md5):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    try:
        _fetch(url, part)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise urllib.error.URLError(
            f"could not download {url} to {target}: {reason}. Without a network, put the file there yourself."
        ) from error
    if md5 is not None and not check_md5(part, md5):
        found = calculate_md5(part)
        part.unlink()
        raise RuntimeError(f"File not found or corrupted: {url} has MD5 {found}, expected {md5}; nothing was kept")
    os.replace(part, target)


def _fetch(url: str, part: Path) -> None:
    """Fetch `url` into `part`, going on from what is there if the server can."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "flambeau"}
    if have and url.startswith(("http://", "https://")):
        headers["Range"] = f"bytes={have}-"
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers))
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        part.unlink()  # longer than the file on the server: from another version
        return _fetch(url, part)
    with response:
        resumed = getattr(response, "status", None) == http.client.PARTIAL_CONTENT
        done = have if resumed else 0
        total = done + int(response.headers.get("Content-Length") or 0)
        with open(part, "ab" if resumed else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                _show_progress(done, total)
    if done < total:
        raise urllib.error.URLError(f"the connection ended after {done} of {total} bytes")


def _show_progress(done: int, total: int) -> None:
    """The share that has come, on one line of a terminal; nothing elsewhere."""
    if sys.stderr.isatty():
        share = f"{done / total:4.0%}" if total else ""
        sys.stderr.write(f"\r{share} {done / 1e6:.1f} MB" + ("\n" if done == total else ""))
        sys.stderr.flush()


def extract_archive(from_path: str | Path, to_path: str | Path | None = None, remove_finished: bool = False) -> str:
    """Unpack a tar, zip or compressed file into `to_path` (its own folder unless given), and return that path.

    Raises: RuntimeError for an unknown suffix, for a member that would leave `to_path`, and for an archive that unpacks
    to far more than its size lets expect.
    """
    source = Path(from_path)
    folder = source.parent if to_path is None else Path(to_path)
    name = source.name.lower()
    budget = [max(ALWAYS_ALLOWED, LARGEST_RATIO * source.stat().st_size)]
    result = folder
    if name.endswith(TARS):
        members = _tar_members(source)
    elif name.endswith(".zip"):
        members = _zip_members(source)
    elif source.suffix.lower() in COMPRESSED:
        # torchvision's contract: a single compressed file unpacks to its name without the suffix.
        result = source.with_suffix("") if to_path is None else folder / source.stem
        members = _single_member(source)
    else:
        known = ", ".join((*TARS, ".zip", *COMPRESSED))
        raise RuntimeError(f"Unknown compression or archive type: {source.name!r}. Known suffixes: {known}")
    folder.mkdir(parents=True, exist_ok=True)
    for member, stream in members:
        target = _inside(folder, member, source)
        if stream is None:
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy(stream, target, budget, source)
    if remove_finished:
        source.unlink()
    return str(result)


def _inside(folder: Path, member: str, source: Path) -> Path:
    """Where the member goes; RuntimeError if that is outside the folder."""
    target = (folder / member).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise RuntimeError(f"{source} is not safe to unpack: its member {member!r} would leave {folder}")
    return target


def _copy(stream: IO[bytes], target: Path, budget: list[int], source: Path) -> None:
    """Write the stream to the target, within what is left of the budget of bytes."""
    with stream, open(target, "wb") as file:
        while chunk := stream.read(CHUNK):
            budget[0] -= len(chunk)
            if budget[0] < 0:
                file.close()
                target.unlink()
                raise RuntimeError(f"{source} is not safe to unpack: it holds over {LARGEST_RATIO} times its own size")
            file.write(chunk)


def _tar_members(source: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Names and streams of a tar file; None for a folder. A link becomes a copy of what it names in the archive."""
    with tarfile.open(source) as archive:
        for member in archive:
            if member.isdir():
                yield member.name, None
                continue
            try:
                stream = archive.extractfile(member)
            except (KeyError, RecursionError):  # a target that is not there, or links in a circle
                stream = None
            if stream is None:
                raise RuntimeError(
                    f"{source} is not safe to unpack: {member.name!r} is a device, or a link to something outside it"
                )
            yield member.name, stream


def _zip_members(source: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    with zipfile.ZipFile(source) as archive:
        for member in archive.infolist():
            yield member.filename, None if member.is_dir() else archive.open(member)


def _single_member(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    yield source.stem, COMPRESSED[source.suffix.lower()](source, "rb")  # type: ignore[operator]


def download_and_extract_archive(
    url: str,
    download_root: str | Path,
    extract_root: str | Path | None = None,
    filename: str | None = None,
    md5: str | None = None,
    remove_finished: bool = False,
) -> None:
    """`download_url`, then `extract_archive` into `extract_root` (the same folder unless given)."""
    folder = Path(download_root).expanduser()
    filename = filename or os.path.basename(url)
    download_url(url, folder, filename, md5)
    extract_archive(folder / filename, folder if extract_root is None else extract_root, remove_finished)


def list_dir(root: str | Path, prefix: bool = False) -> list[str]:
    """Names of the folders in `root`, or their paths with `prefix`."""
    return [os.path.join(root, name) if prefix else name for name in os.listdir(root) if Path(root, name).is_dir()]


def list_files(root: str | Path, suffix: str | tuple[str, ...], prefix: bool = False) -> list[str]:
    """Names of the files in `root` that end with `suffix`, or their paths with `prefix`."""
    names = [name for name in os.listdir(root) if Path(root, name).is_file() and name.endswith(suffix)]
    return [os.path.join(root, name) if prefix else name for name in names]


def verify_str_arg(value: Any, arg: str | None = None, valid_values: Any = None, custom_msg: str | None = None) -> str:
    """The value, if it is a string and one of `valid_values`; ValueError otherwise."""
    if not isinstance(value, str):
        raise ValueError(f"Expected type str{f' for argument {arg}' if arg else ''}, but got type {type(value)}.")
    if valid_values is not None and value not in valid_values:
        known = ", ".join(map(repr, valid_values))
        raise ValueError(custom_msg or f"Unknown value '{value}' for argument {arg}. Valid values are {{{known}}}.")
    return value
