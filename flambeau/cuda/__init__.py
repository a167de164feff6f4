"""PyTorch's `torch.cuda` as a build without CUDA has it: the questions have answers, the devices do not exist."""

from __future__ import annotations

import importlib
from typing import Any

_ABSENT = "Torch not compiled with CUDA enabled (flambeau computes on the CPU)"


def is_available() -> bool:
    """Always False."""
    return False


def is_initialized() -> bool:
    """Always False."""
    return False


def is_bf16_supported() -> bool:
    """Always False."""
    return False


def device_count() -> int:
    """Always 0."""
    return 0


def manual_seed(seed: int) -> None:
    """Nothing: there is no generator of a CUDA device to seed."""


def manual_seed_all(seed: int) -> None:
    """Nothing: there is no generator of a CUDA device to seed."""


def empty_cache() -> None:
    """Nothing: there is no device memory."""


def memory_allocated(device: Any = None) -> int:
    """Always 0 bytes."""
    return 0


def max_memory_allocated(device: Any = None) -> int:
    """Always 0 bytes."""
    return 0


def _absent(*args: Any, **kwargs: Any) -> Any:
    """Raise AssertionError, as PyTorch does where it was built without CUDA."""
    raise AssertionError(_ABSENT)


init = synchronize = current_device = set_device = _absent
get_device_name = get_device_properties = get_device_capability = _absent


def __getattr__(name: str) -> Any:
    if name == "amp":
        return importlib.import_module("flambeau.cuda.amp")
    raise AttributeError(f"module 'flambeau.cuda' has no attribute '{name}'")
