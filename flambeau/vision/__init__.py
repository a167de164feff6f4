"""Images: data sets, transforms and networks, under torchvision's names; each part is imported when first used."""

from __future__ import annotations

import importlib
from typing import Any

from flambeau.version import __version__

_PARTS = ("datasets", "io", "models", "ops", "transforms", "utils")


def get_image_backend() -> str:
    """The package that reads image files: "PIL"."""
    return "PIL"


def set_image_backend(backend: str) -> None:
    """Accepts "PIL", the only one there is; ValueError for another."""
    if backend != "PIL":
        raise ValueError(f"Invalid backend '{backend}'. Options are 'PIL'")


def disable_beta_transforms_warning() -> None:
    """Does nothing: `transforms.v2` gives no such warning. Scripts from torchvision 0.15's time call it."""


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        try:
            return importlib.import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
