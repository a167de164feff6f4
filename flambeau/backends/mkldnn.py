"""PyTorch's `torch.backends.mkldnn`: oneDNN under its old name."""

from __future__ import annotations

from flambeau.backends import onednn

enabled = True
deterministic = False
allow_tf32 = False


def is_available() -> bool:
    """Whether oneDNN's library was found and is not switched off."""
    return onednn.available()
