"""Models outside of Python: `flambeau.export.native` writes object files and libraries with a C header."""

import importlib
from typing import Any

__all__ = ["native"]


def __getattr__(name: str) -> Any:
    if name == "native":
        return importlib.import_module("flambeau.export.native")
    raise AttributeError(f"module 'flambeau.export' has no attribute '{name}'")
