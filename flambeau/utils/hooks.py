"""PyTorch's `torch.utils.hooks`: the handle that removes a hook of a module."""

from __future__ import annotations

from flambeau.nn.hooks import RemovableHandle

__all__ = ["RemovableHandle"]
