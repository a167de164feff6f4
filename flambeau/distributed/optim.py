"""PyTorch's `torch.distributed.optim`: the type that libraries ask `isinstance` about."""

from __future__ import annotations

from flambeau.absent import missing_class

__all__ = ["ZeroRedundancyOptimizer"]

ZeroRedundancyOptimizer = missing_class("torch.distributed.optim.ZeroRedundancyOptimizer")
