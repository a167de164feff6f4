"""Modules over several devices."""

from __future__ import annotations

from flambeau.nn.parallel.data_parallel import DataParallel

__all__ = ["DataParallel"]
