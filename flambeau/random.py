"""The default random stream: seeding it, saving it, leaving it undisturbed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from flambeau.core.random import Generator, default_generator, initial_seed, manual_seed, seed
from flambeau.core.tensor import Tensor
from flambeau.ops.random import get_state, set_state

__all__ = ["set_rng_state", "get_rng_state", "manual_seed", "seed", "initial_seed", "fork_rng",
           "thread_safe_generator", "Generator", "default_generator"]


def get_rng_state() -> Tensor:
    """The state of the default generator, a uint8 tensor of 5056 bytes in PyTorch's layout."""
    return get_state(default_generator)


def set_rng_state(new_state: Tensor) -> None:
    """Make the default generator continue from a state that `get_rng_state` gave."""
    set_state(default_generator, new_state)


@contextlib.contextmanager
def fork_rng(devices: Iterable[Any] | None = None, enabled: bool = True, _caller: str = "fork_rng",
             _devices_kw: str = "devices", device_type: str | None = None) -> Iterator[None]:
    """Draws inside the `with` block leave no trace in the default stream. `devices` is accepted; there is the CPU."""
    if not enabled or device_type == "meta":
        yield
        return
    state = get_rng_state()
    try:
        yield
    finally:
        set_rng_state(state)


def thread_safe_generator() -> None:
    """None: workers are processes, each with a default generator of its own."""
    return None
