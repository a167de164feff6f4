"""PyTorch's `torch.distributed` as a build without it has it: the questions have answers, the rest does not exist."""

from __future__ import annotations

from typing import Any

from flambeau.absent import explain

__all__ = ["is_available", "is_initialized"]


def is_available() -> bool:
    """Always False: programs then run as one process."""
    return False


def is_initialized() -> bool:
    """Always False."""
    return False


def is_torchelastic_launched() -> bool:
    """Always False."""
    return False


is_mpi_available = is_nccl_available = is_gloo_available = is_ucc_available = is_available


def __getattr__(name: str) -> Any:
    raise AttributeError(explain(f"torch.distributed.{name}"))
