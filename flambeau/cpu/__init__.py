"""PyTorch's `torch.cpu`: the questions that it shares with `torch.cuda`."""

from __future__ import annotations

from typing import Any

from flambeau.cpu import amp

__all__ = ["amp", "current_device", "device_count", "is_available", "synchronize"]


def is_available() -> bool:
    """Always True."""
    return True


def device_count() -> int:
    """Always 1."""
    return 1


def current_device() -> str:
    """"cpu"."""
    return "cpu"


def synchronize(device: Any = None) -> None:
    """Nothing to wait for: operations on the CPU are finished when they return."""
