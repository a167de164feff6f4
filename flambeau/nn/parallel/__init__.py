"""Modules over several devices."""

from __future__ import annotations

from flambeau.absent import missing_class
from flambeau.nn.parallel.data_parallel import DataParallel

__all__ = ["DataParallel", "DistributedDataParallel"]

DistributedDataParallel = missing_class("torch.nn.parallel.DistributedDataParallel")  # programs ask isinstance
