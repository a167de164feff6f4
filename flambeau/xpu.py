"""PyTorch's `torch.xpu` as a build without it has it: the questions have answers, the devices do not exist."""

from __future__ import annotations


def is_available() -> bool:
    """Always False."""
    return False


def is_initialized() -> bool:
    """Always False."""
    return False


def device_count() -> int:
    """Always 0."""
    return 0


def manual_seed(seed: int) -> None:
    """Nothing: there is no generator of an XPU device to seed."""


def manual_seed_all(seed: int) -> None:
    """Nothing: there is no generator of an XPU device to seed."""


def empty_cache() -> None:
    """Nothing: there is no device memory."""
