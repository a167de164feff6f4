"""When oneDNN is used at all, and how many threads there are."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from flambeau.backends import onednn, threads
from flambeau.backends.onednn.primitive import Cache


def run(code: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    found = subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment}, text=True,
                           capture_output=True, timeout=60, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


def test_nothing_is_loaded_at_import():
    code = ("import flambeau.backends.onednn, sys; from flambeau.backends.onednn import library; "
            "print(library._state, 'libdnnl' in open('/proc/self/maps').read() if sys.platform == 'linux' else False)")
    assert run(code) == "{} False"


def test_the_environment_switches_it_off():
    code = ("import numpy as np; from flambeau.backends import onednn; from flambeau.backends.onednn import library; "
            "print(onednn.available(), onednn.usable(np.ones(3, np.float32)), library.reason())")
    assert run(code, FLAMBEAU_ONEDNN="0") == "False False switched off by FLAMBEAU_ONEDNN=0"


def test_usable_refuses_what_is_not_float32_or_empty(needs_onednn):
    good = np.ones((2, 3), np.float32)
    assert onednn.usable(good, None, good)
    assert not onednn.usable(good, good.astype(np.float64))
    assert not onednn.usable(np.ones((0, 3), np.float32))
    assert not onednn.usable([1.0])


def test_the_cache_is_bounded_and_builds_once():
    made = []
    cache = Cache(lambda key: made.append(key) or key, capacity=2)
    assert [cache(1), cache(1), cache(2), cache(3), cache(2), cache(1)] == [1, 1, 2, 3, 2, 1]
    assert made == [1, 2, 3, 1]
    assert len(cache.entries) == 2


def test_set_num_threads():
    before = threads.get_num_threads()
    try:
        threads.set_num_threads(1)
        assert threads.get_num_threads() == 1
        with pytest.raises(RuntimeError, match="positive"):
            threads.set_num_threads(0)
        with pytest.raises(TypeError, match="str"):
            threads.set_num_threads("2")
    finally:
        threads.set_num_threads(before)


def test_parallel_tasks_run_on_threads_of_their_own_and_nest():
    before = threads.get_num_threads()
    try:
        threads.set_num_threads(2)
        names = threads.parallel([lambda: threading.current_thread().name] * 2)
        assert all(name.startswith("flambeau") for name in names)
        assert threads.parallel([lambda: threading.current_thread() is threading.main_thread()]) == [True]
        assert threads.parallel([lambda: threads.parallel([lambda: 7, lambda: 8])] * 2) == [[7, 8], [7, 8]]
        with pytest.raises(ZeroDivisionError):
            threads.parallel([lambda: 1 / 0, lambda: 1])
    finally:
        threads.set_num_threads(before)


def test_threads_follow_the_environment():
    code = "from flambeau.backends import threads; print(threads.get_num_threads())"
    assert run(code, OMP_NUM_THREADS="3") == "3"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_computes_on_one_thread(needs_onednn):
    code = """
import os, warnings
import numpy as np
from flambeau.backends import onednn, threads
warnings.simplefilter("ignore")
x, w = np.ones((4, 8, 32, 32), np.float32), np.ones((8, 8, 3, 3), np.float32)
arguments = (None, (1, 1), (1, 1), (1, 1), 1)
total = onednn.conv_forward(x, w, *arguments).sum()
child = os.fork()
if child == 0:
    same = onednn.conv_forward(x, w, *arguments).sum() == total
    os._exit(0 if same and threads.get_num_threads() == 1 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run(code) == "0"


def test_memory_settings_respect_the_users():
    code = "from flambeau.backends.allocation import keep_freed_memory; print(keep_freed_memory())"
    assert run(code, FLAMBEAU_KEEP_MEMORY="0") == "False"
    assert run(code, MALLOC_ARENA_MAX="4") == "False"


@pytest.mark.skipif(sys.platform != "linux", reason="only the malloc of Linux's glibc is adjusted")
def test_freed_arrays_are_reused_without_page_faults():
    code = """
import ctypes, resource, sys
import numpy as np
from flambeau.backends.allocation import keep_freed_memory
if not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
    print("reused"); sys.exit()
assert keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(24 << 18, np.float32)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
first = faults()
print("reused" if faults() <= 2 else f"{first} faults, then {faults()}")
"""
    assert run(code) == "reused"
