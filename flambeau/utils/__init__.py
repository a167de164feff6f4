"""PyTorch's `torch.utils`; its parts are imported when first used."""

from __future__ import annotations

import importlib
from typing import Any

_PARTS = ("checkpoint", "data", "dlpack", "hooks", "model_zoo")


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return importlib.import_module(f"flambeau.utils.{name}")
    if name == "summary":
        return importlib.import_module("flambeau.utils.model_summary").summary
    raise AttributeError(f"module 'flambeau.utils' has no attribute '{name}'")
