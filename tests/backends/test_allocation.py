"""Memory of programs: its own, writable, and private to the process."""

from __future__ import annotations

import os

import pytest

from flambeau.backends.allocation import block


@pytest.mark.parametrize("nbytes", [64, 8 << 20])
def test_blocks_are_writable(nbytes):
    memory = block(nbytes)
    memory[:] = 7
    assert memory.nbytes == nbytes and (memory == 7).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_has_its_own():
    memory = block(8 << 20)
    memory[:] = 1
    child = os.fork()
    if child == 0:
        memory[:] = 2
        os._exit(0)
    os.waitpid(child, 0)
    assert memory[0] == 1 and memory[-1] == 1
