"""PyTorch's `torch.backends.cudnn`: switches that scripts set. There is no cuDNN, so they change nothing."""

from __future__ import annotations

enabled = True
benchmark = False
deterministic = False
allow_tf32 = True


def is_available() -> bool:
    """Always False."""
    return False


def version() -> None:
    """None: there is no cuDNN."""
    return None
