"""Trained weights by address, and entry points of `hubconf.py` files: PyTorch's `torch.hub`.

Downloads land in `get_dir()/checkpoints`, laid out as PyTorch's, so that files fetched by either serve both.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import warnings
import zipfile
from collections.abc import Callable
from types import ModuleType
from typing import Any, BinaryIO
from urllib.parse import urlparse  # noqa: F401  (part of PyTorch's torch.hub, and libraries import it from there)

from flambeau.serialization import load as _load_file

_CHUNK = 1 << 17
HASH_REGEX = re.compile(r"-([a-f0-9]*)\.")  # for libraries that ask for it by PyTorch's name
_HASH_IN_NAME = re.compile(r"-([a-f0-9]{8,})\.")  # resnet18-f37072fd.pth
_REPOSITORIES = "https://github.com/"
_TRUSTED_OWNERS = frozenset(("facebookresearch", "facebookincubator", "pytorch", "fairinternal"))  # PyTorch's list
_UNPACKED_TIMES, _UNPACKED_MORE = 200, 1 << 26  # an archive may unpack to so many times its size and so much more
_chosen: str | None = None


def get_dir() -> str:
    """The hub's folder: what `set_dir` said, else `hub` in $TORCH_HOME, $XDG_CACHE_HOME/torch or ~/.cache/torch."""
    if _chosen is not None:
        return _chosen
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    home = os.environ.get("TORCH_HOME") or os.path.join(cache, "torch")
    return os.path.join(os.path.expanduser(home), "hub")


def set_dir(d: str | os.PathLike[str]) -> None:
    """Use folder `d` for everything downloaded from here on."""
    global _chosen
    _chosen = os.path.expanduser(os.fspath(d))


def download_url_to_file(url: str, dst: str, hash_prefix: str | None = None, progress: bool = True) -> None:
    """Fetch `url` into the file `dst`, which appears only when it is whole.

    Args:
        hash_prefix: what the SHA-256 of the content, in hexadecimal, must begin with.
        progress: show a bar on the terminal.

    Raises:
        RuntimeError: the content's hash is another.
        urllib.error.URLError: there is no answer; the message says where to put the file instead.
    """
    dst = os.path.expanduser(dst)
    folder = os.path.dirname(os.path.abspath(dst))
    os.makedirs(folder, exist_ok=True)
    request = urllib.request.Request(url, headers={"User-Agent": "flambeau"})
    handle, partial = tempfile.mkstemp(dir=folder, prefix=os.path.basename(dst) + ".", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            try:
                with urllib.request.urlopen(request) as answer:
                    total = answer.headers.get("Content-Length")
                    found = _copy(answer, file, int(total) if total else None, os.path.basename(dst), progress)
            except OSError as error:  # URLError, HTTPError and broken connections
                reason = getattr(error, "reason", None) or error
                raise urllib.error.URLError(
                    f"cannot fetch {url} ({reason}); without a network, put that file at {os.path.abspath(dst)}"
                ) from error
        if hash_prefix and not found.startswith(hash_prefix):
            raise RuntimeError(f"invalid hash of {url}: expected {hash_prefix}…, the content has {found}")
        os.chmod(partial, 0o644)  # mkstemp's files are private, those of a cache need not be
        os.replace(partial, dst)
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def load_state_dict_from_url(
    url: str,
    model_dir: str | None = None,
    map_location: Any = None,
    progress: bool = True,
    check_hash: bool = False,
    file_name: str | None = None,
    weights_only: bool = False,
) -> dict[str, Any]:
    """The object in the file at `url`, fetched once and then read from `model_dir`.

    Args:
        model_dir: default `get_dir()/checkpoints`.
        check_hash: when downloading, compare with the hash in the name (`resnet18-f37072fd.pth`). A file that is
            already there is used as it is.
        file_name: name of the file in `model_dir`; default the last part of the address.
        weights_only: passed on to `load`.
    """
    folder = model_dir if model_dir is not None else os.path.join(get_dir(), "checkpoints")
    name = file_name or os.path.basename(urllib.parse.urlparse(url).path)
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        marked = _HASH_IN_NAME.search(os.path.basename(urllib.parse.urlparse(url).path)) if check_hash else None
        download_url_to_file(url, path, marked.group(1) if marked else None, progress)
    return _load_file(path, map_location=map_location, weights_only=weights_only)


def load(
    repo_or_dir: str | os.PathLike[str],
    model: str,
    *args: Any,
    source: str = "github",
    trust_repo: bool | str | None = "check",
    force_reload: bool = False,
    verbose: bool = True,
    skip_validation: bool = False,
    **kwargs: Any,
) -> Any:
    """Call the entry point `model` of a `hubconf.py` with the other arguments and return its answer.

    Args:
        repo_or_dir: with `source="local"` a folder; with `source="github"` `owner/repo[:ref]` (ref: a branch or tag,
            default main, else master), which is fetched once and kept unpacked in the hub's folder, as by PyTorch.
        trust_repo: whether to run the code of a repository that has not been run before. "check" asks on the terminal
            and remembers a yes, True remembers without asking, False asks every time, None only warns.
        force_reload: fetch it again.
        verbose: show a bar while fetching.
        skip_validation: accepted for PyTorch's sake; nothing is asked of GitHub beyond the archive.

    Raises:
        RuntimeError: the repository is not trusted, lacks the entry point, or its archive is not sound.
        urllib.error.URLError: there is no answer; the message says where to put the archive instead.
    """
    module = _hubconf(repo_or_dir, source, force_reload, trust_repo, verbose)
    return _entry_point(module, model)(*args, **kwargs)


def list(
    github: str | os.PathLike[str],
    force_reload: bool = False,
    skip_validation: bool = False,
    trust_repo: bool | str | None = "check",
    verbose: bool = True,
    *,
    source: str = "github",
) -> Any:
    """Names of the entry points of a `hubconf.py`: its callables whose names do not begin with an underscore."""
    found = vars(_hubconf(github, source, force_reload, trust_repo, verbose))
    return [name for name, value in found.items() if callable(value) and not name.startswith("_")]


def help(
    github: str | os.PathLike[str],
    model: str,
    force_reload: bool = False,
    skip_validation: bool = False,
    trust_repo: bool | str | None = "check",
    *,
    source: str = "github",
) -> str | None:
    """The docstring of an entry point."""
    return _entry_point(_hubconf(github, source, force_reload, trust_repo, True), model).__doc__


def _copy(source: Any, file: BinaryIO, total: int | None, name: str, progress: bool) -> str:
    """Copy a stream into `file`; the SHA-256 of what went through, in hexadecimal."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    digest = hashlib.sha256()
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not progress) as bar:
        task = bar.add_task(name, total=total)
        while chunk := source.read(_CHUNK):
            file.write(chunk)
            digest.update(chunk)
            bar.update(task, advance=len(chunk))
        received = file.tell()
    if total is not None and received != total:
        raise OSError(f"the connection ended after {received} of {total} bytes")
    return digest.hexdigest()


def _hubconf(
    place: str | os.PathLike[str], source: str, force_reload: bool, trust_repo: bool | str | None, verbose: bool
) -> ModuleType:
    """The module in `hubconf.py` of a local folder or of a repository."""
    if source not in ("local", "github"):
        raise ValueError(f'unknown source: "{source}"; it is one of "github", "local"')
    if source == "local":
        folder = os.path.expanduser(os.fspath(place))
    else:
        folder = _repository(os.fspath(place), force_reload, trust_repo, verbose)
    path = os.path.join(folder, "hubconf.py")
    if not os.path.exists(path):
        raise FileNotFoundError(f"no hubconf.py in {os.path.abspath(folder)}")
    spec = importlib.util.spec_from_file_location("hubconf", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, folder)  # the repository's own packages
    try:
        sys.modules["hubconf"] = module  # so that its classes can be pickled
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    missing = [name for name in getattr(module, "dependencies", None) or () if not _installed(name)]
    if missing:
        raise RuntimeError(f"{path} needs packages that are not installed: {', '.join(missing)}")
    return module


def _installed(name: str) -> bool:
    # PyTorch's own names count as installed: hubconf files list them, and flambeau stands in for them.
    return name in ("torch", "torchvision") or name in sys.modules or importlib.util.find_spec(name) is not None


def _repository(repository: str, force_reload: bool, trust_repo: bool | str | None, verbose: bool) -> str:
    """The folder in which the hub keeps a GitHub repository, `owner_repo_ref`; fetched if it is not there."""
    match = re.fullmatch(r"([^/:]+)/([^/:]+)(?::(.+))?", repository)
    if match is None:
        raise ValueError(f'a GitHub repository is written "owner/repo" or "owner/repo:ref", not {repository!r}')
    owner, name, ref = match.groups()
    refs = [ref] if ref else ["main", "master"]
    folders = [os.path.join(get_dir(), f"{owner}_{name}_{one.replace('/', '_')}") for one in refs]
    present = next((folder for folder in folders if os.path.isdir(folder)), None)
    _check_trust(owner, name, os.path.basename(present or folders[0]), present is not None, trust_repo)
    if present is not None and not force_reload:
        return present
    for one, folder in zip(refs, folders):
        try:
            _fetch_repository(f"{_REPOSITORIES}{owner}/{name}/zipball/{one}", folder, force_reload, verbose)
        except urllib.error.URLError as error:
            missing = isinstance(error.__cause__, urllib.error.HTTPError) and error.__cause__.code == 404
            if not missing or one == refs[-1]:
                raise
        else:
            return folder
    raise AssertionError("one of the refs was fetched or raised")


def _check_trust(owner: str, name: str, key: str, present: bool, trust_repo: bool | str | None) -> None:
    """Ask or warn before code is run that has not been run before; a yes is written into the hub's `trusted_list`."""
    path = os.path.join(get_dir(), "trusted_list")
    known: set[str] = set()
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            known = {line.strip() for line in file}
    trusted = present or key in known or owner in _TRUSTED_OWNERS
    if trust_repo is None:
        if not trusted:
            warnings.warn(
                f"You are about to download and run code from an untrusted repository, {owner}/{name}. "
                "Pass trust_repo=True to say that you trust it, or 'check' to be asked.", stacklevel=5,
            )
        return
    if trust_repo is False or (trust_repo == "check" and not trusted):
        _ask(owner, name)
    if not trusted:
        os.makedirs(get_dir(), exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{key}\n")


def _ask(owner: str, name: str) -> None:
    question = f"The repository {owner}/{name} is not known to be trusted. Run its code and remember that (y/N)? "
    try:
        answer = input(question).strip().lower()
    except EOFError:
        raise RuntimeError(
            f"Untrusted repository {owner}/{name}, and nobody to ask: pass trust_repo=True to run its code"
        ) from None
    if answer not in ("y", "yes", "n", "no", ""):
        raise ValueError(f"Unrecognized response {answer!r}: y or n expected")
    if answer not in ("y", "yes"):
        raise RuntimeError(f"Untrusted repository {owner}/{name}")


def _fetch_repository(url: str, folder: str, force_reload: bool, verbose: bool) -> None:
    """Fetch a repository's archive (or take the one that was put in its place) and unpack it as `folder`."""
    archive = f"{folder}.zip"
    if force_reload or not os.path.exists(archive):
        download_url_to_file(url, archive, progress=verbose)
    try:
        with tempfile.TemporaryDirectory(dir=get_dir()) as place:
            top = _unzip(archive, place)
            if os.path.isdir(folder):
                shutil.rmtree(folder)
            os.replace(top, folder)
    finally:
        os.remove(archive)


def _unzip(archive: str, place: str) -> str:
    """Unpack an archive that holds one folder; the path of that folder. RuntimeError where it is not sound."""
    limit = _UNPACKED_TIMES * os.path.getsize(archive) + _UNPACKED_MORE
    try:
        with zipfile.ZipFile(archive) as source:
            entries = source.infolist()
            if sum(entry.file_size for entry in entries) > limit:
                raise RuntimeError(f"{archive} unpacks to more than {limit} bytes")
            for entry in entries:
                parts = entry.filename.split("/")
                if entry.filename.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
                    raise RuntimeError(f"{archive} holds a file outside its folder: {entry.filename}")
            source.extractall(place)
    except zipfile.BadZipFile as error:
        raise RuntimeError(f"{archive} is no zip archive: {error}") from error
    tops = os.listdir(place)
    if len(tops) != 1 or not os.path.isdir(os.path.join(place, tops[0])):
        raise RuntimeError(f"{archive} should hold one folder, found {sorted(tops)[:5]}")
    return os.path.join(place, tops[0])


def _entry_point(module: ModuleType, name: str) -> Callable[..., Any]:
    found = getattr(module, name, None)
    if not callable(found):
        raise RuntimeError(f"no entry point {name!r} in {module.__file__}")
    return found
