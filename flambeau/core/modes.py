"""Switches that change what an operation does: history on or off, inference. One per thread.

Asking a thread-local object costs as much as wrapping a result. So every thread that switches history off is listed
in `silent`; while nobody is listed, history is on for everyone and needs no asking: `not silent or modes.grad`. The
list is only a hint (a thread may end while listed, and another get its number); the thread's own value is the truth.
"""

from __future__ import annotations

import threading
from threading import get_ident
from typing import Any

silent: set[int] = set()


class Modes(threading.local):
    """The switches of the running thread; class attributes are the values a new thread starts with."""

    _grad = True
    inference = False
    walking = False  # in the backward walk, where dimension names do not count
    transforming = 0  # calls of functions that `grad` and its relatives differentiate
    autocast: Any = None  # the dtype products are computed in, inside of autocast; operands may then be of mixed types

    @property
    def grad(self) -> bool:
        """Whether operations are recorded."""
        return not silent or self._grad

    @grad.setter
    def grad(self, value: bool) -> None:
        self._grad = value
        if value:
            silent.discard(get_ident())
        else:
            silent.add(get_ident())


modes = Modes()
