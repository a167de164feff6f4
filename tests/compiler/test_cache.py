"""The cache of compiled objects: what it keeps, what it refuses, and that processes may share it."""

import ctypes
import os
import subprocess
import sys
import time

import pytest

from flambeau.backends.llvm import jit
from flambeau.compiler import cache as caching
from flambeau.compiler.cache import ObjectCache

KEY = "0" * 64
SQUARE = "define i64 @square(i64 %x) {\n  %y = mul i64 %x, %x\n  ret i64 %y\n}"


@pytest.fixture
def cache(tmp_path):
    return ObjectCache(tmp_path / "some" / "objects")


def test_what_is_stored_is_fetched(cache):
    assert cache.fetch(KEY) is None
    assert cache.store(KEY, b"machine code")
    assert cache.fetch(KEY) == b"machine code"
    assert cache.store(KEY, b"other code")
    assert cache.fetch(KEY) == b"other code"
    assert os.listdir(cache.folder) == [KEY]
    cache.clear()
    assert cache.fetch(KEY) is None


def test_only_the_owner_can_look_in(cache):
    cache.store(KEY, b"machine code")
    assert cache.folder.stat().st_mode & 0o777 == 0o700
    assert (cache.folder / KEY).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_folder_that_others_can_write_is_not_used(cache, mode):
    cache.store(KEY, b"machine code")
    cache.folder.chmod(mode)
    assert cache.fetch(KEY) is None
    assert not cache.store(KEY, b"machine code")
    cache.folder.chmod(0o755)  # others may read
    assert cache.fetch(KEY) == b"machine code"


def test_a_file_that_others_can_write_is_not_read(cache):
    cache.store(KEY, b"machine code")
    (cache.folder / KEY).chmod(0o620)
    assert cache.fetch(KEY) is None


def test_what_belongs_to_another_user_is_not_read(cache, monkeypatch):
    cache.store(KEY, b"machine code")
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert cache.fetch(KEY) is None
    assert not cache.store(KEY, b"machine code")


def test_links_are_not_followed(cache, tmp_path):
    cache.store(KEY, b"machine code")
    elsewhere = ObjectCache(tmp_path / "elsewhere")
    elsewhere.folder.mkdir(mode=0o700)
    (elsewhere.folder / KEY).symlink_to(cache.folder / KEY)
    assert elsewhere.fetch(KEY) is None
    linked = ObjectCache(tmp_path / "linked")
    linked.folder.symlink_to(cache.folder)
    assert linked.fetch(KEY) is None


@pytest.mark.parametrize("damage", [
    lambda content: b"", lambda content: content[:20], lambda content: content[:-1], lambda content: content + b"x",
    lambda content: content[:-1] + bytes([content[-1] ^ 1]), lambda content: b"F" + content[1:],
])  # fmt: skip
def test_damaged_entries_are_dropped_and_made_again(cache, damage, monkeypatch):
    cache.store(KEY, b"machine code")
    file = cache.folder / KEY
    file.write_bytes(damage(file.read_bytes()))
    assert cache.fetch(KEY) is None
    assert not file.exists()
    monkeypatch.setattr(caching, "default", lambda: cache)
    assert caching.cached(KEY, lambda: b"made again") == b"made again"
    assert caching.cached(KEY, lambda: pytest.fail("made a third time")) == b"made again"


def test_the_least_recently_used_leave(tmp_path):
    cache = ObjectCache(tmp_path, limit=10_000)
    keys = [f"{n:064d}" for n in range(11)]
    for age, key in zip(range(11, 0, -1), keys):
        cache.store(key, bytes(800))
        os.utime(tmp_path / key, (time.time() - 100 * age,) * 2)
    cache.fetch(keys[0])  # used just now
    cache.store(KEY[:-2] + "99", bytes(800))
    left = set(os.listdir(tmp_path))
    assert sum((tmp_path / name).stat().st_size for name in left) <= 10_000
    assert keys[0] in left and keys[10] in left and KEY[:-2] + "99" in left
    assert keys[1] not in left


def test_what_dead_processes_left_is_removed(cache):
    cache.store(KEY, b"machine code")
    old, new = cache.folder / f".{KEY}.1.old", cache.folder / f".{KEY}.2.new"
    for file in (old, new):
        file.write_bytes(b"half an entry")
    os.utime(old, (time.time() - 7200,) * 2)
    cache.store(KEY, b"machine code")
    assert not old.exists() and new.exists()


def test_no_place_is_no_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    cache = ObjectCache(tmp_path / "file" / "objects")
    assert cache.fetch(KEY) is None
    assert not cache.store(KEY, b"machine code")


WORKER = """
import sys
from pathlib import Path
from flambeau.compiler.cache import ObjectCache
cache = ObjectCache(Path(sys.argv[1]), limit=40_000)
for n in range(60):
    key = f"{n % 9:064d}"
    cache.store(key, key.encode() * 100)
    found = cache.fetch(key)
    assert found is None or found == key.encode() * 100
"""


def test_processes_share_a_folder(tmp_path):
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path)], stderr=subprocess.PIPE) for _ in range(3)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=60)
        assert worker.returncode == 0, errors.decode()
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_keys_depend_on_every_part():
    assert caching.key_of("a", "b") == caching.key_of("a", "b")
    assert len({caching.key_of("a", "b"), caching.key_of("ab"), caching.key_of("b", "a"), caching.key_of("a")}) == 4
    for version in ("flambeau", "llvmlite", "numpy", "oneDNN", "python", jit.host().identity):
        assert version in caching.identity()


def test_machine_code_runs_from_the_cache(cache, monkeypatch):
    monkeypatch.setattr(caching, "default", lambda: cache)
    made = caching.cached(caching.key_of(SQUARE), lambda: jit.compile_module(SQUARE))
    again = caching.cached(caching.key_of(SQUARE), lambda: pytest.fail("compiled again"))
    assert made == again
    code = jit.load_object(again, ["square"])
    assert ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(code.address("square"))(12) == 144


def test_the_environment_chooses_the_folder(tmp_path, monkeypatch):
    caching.default.cache_clear()
    try:
        monkeypatch.setenv("FLAMBEAU_CACHE", str(tmp_path / "mine"))
        assert caching.default().folder == tmp_path / "mine"
        caching.default.cache_clear()
        monkeypatch.setenv("FLAMBEAU_CACHE", "0")
        assert caching.default() is None
        assert caching.cached(KEY, lambda: b"made") == b"made"
    finally:
        caching.default.cache_clear()
