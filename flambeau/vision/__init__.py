"""Images: data sets, transforms and networks, under torchvision's names; each part is imported when first used."""

from __future__ import annotations

import importlib
from typing import Any

from flambeau.version import __version__

_PARTS = ("datasets", "io", "models", "ops", "transforms", "utils")


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        try:
            return importlib.import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
