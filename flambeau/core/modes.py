"""Switches that change what an operation does: history on or off, inference. One per thread.

Asking a thread-local object costs as much as wrapping a result. So every thread that switches history off is listed
in `silent`; while nobody is listed, history is on for everyone and needs no asking: `not silent or modes.grad`. The
list is only a hint (a thread may end while listed, and another get its number); the thread's own value is the truth.
"""

from __future__ import annotations

import threading
from threading import get_ident
from typing import Any


class _Own(threading.local):
    """The values of the running thread; class attributes are those a new thread starts with."""

    grad = True
    inference = False
    walking = False
    autocast: Any = None


_own = _Own()
silent: set[int] = set()


def _switch(name: str) -> Any:
    def read(self: Modes) -> Any:
        return getattr(_own, name)

    def write(self: Modes, value: Any) -> None:
        setattr(_own, name, value)

    return property(read, write)


class Modes:
    """The switches of the running thread, as attributes to read and to set."""

    __slots__ = ()
    inference = _switch("inference")
    walking = _switch("walking")  # in the backward walk, where dimension names do not count
    # The dtype products are computed in, inside of autocast; operands may then be of mixed types.
    autocast = _switch("autocast")

    @property
    def grad(self) -> bool:
        """Whether operations are recorded."""
        return not silent or _own.grad

    @grad.setter
    def grad(self, value: bool) -> None:
        _own.grad = value
        if value:
            silent.discard(get_ident())
        else:
            silent.add(get_ident())


modes = Modes()
