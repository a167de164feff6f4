"""Switches that change what an operation does: history on or off, inference. One per thread."""

from __future__ import annotations

import threading
from typing import Any


class Modes(threading.local):
    """The switches of the running thread; class attributes are the values a new thread starts with."""

    grad = True
    inference = False
    walking = False  # in the backward walk, where dimension names do not count
    autocast: Any = None  # the dtype products are computed in, inside of autocast; operands may then be of mixed types


modes = Modes()
