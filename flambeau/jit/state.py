"""Whether this thread is tracing or running a script at the moment."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_here = threading.local()


def is_tracing() -> bool:
    """Whether a call is being traced by `trace`."""
    return getattr(_here, "tracing", 0) > 0


def is_scripting() -> bool:
    """Whether the code that asks runs as a script (`torch.jit.script`), not in Python."""
    return getattr(_here, "scripting", 0) > 0


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Say "tracing" or "scripting" within the block."""
    setattr(_here, what, getattr(_here, what, 0) + 1)
    try:
        yield
    finally:
        setattr(_here, what, getattr(_here, what) - 1)
