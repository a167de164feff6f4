"""Settings that PyTorch has and programs make; each says what it changes here."""

from __future__ import annotations

import warnings
from typing import Any

from flambeau.core import device as devices

_chosen = {"deterministic": False, "warn_only": False, "precision": "highest"}


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Remember the wish. Nothing else changes: every operation here gives the same bits each time."""
    _chosen["deterministic"], _chosen["warn_only"] = bool(mode), bool(warn_only)


def are_deterministic_algorithms_enabled() -> bool:
    """What `use_deterministic_algorithms` was told."""
    return bool(_chosen["deterministic"])


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """Whether `warn_only` was asked for."""
    return bool(_chosen["warn_only"])


def set_deterministic_debug_mode(debug_mode: int | str) -> None:
    """0 or "default", 1 or "warn", 2 or "error"."""
    names = ("default", "warn", "error")
    if isinstance(debug_mode, str):
        if debug_mode not in names:
            raise RuntimeError(f"invalid value of debug_mode, expected one of `default`, `warn`, `error`, but got "
                               f"{debug_mode}")
        debug_mode = names.index(debug_mode)
    if debug_mode not in (0, 1, 2):
        raise RuntimeError(f"invalid value of debug_mode, expected 0, 1, or 2, but got {debug_mode}")
    use_deterministic_algorithms(debug_mode > 0, warn_only=debug_mode == 1)


def get_deterministic_debug_mode() -> int:
    """0, 1 or 2."""
    return (1 if _chosen["warn_only"] else 2) if _chosen["deterministic"] else 0


def set_float32_matmul_precision(precision: str) -> None:
    """"highest", "high" or "medium": a permission to round more, of which no use is made here."""
    if precision not in ("highest", "high", "medium"):
        warnings.warn(f"{precision} is not one of 'highest', 'high', or 'medium'; the current setting will be used.",
                      stacklevel=2)
        return
    _chosen["precision"] = precision


def get_float32_matmul_precision() -> str:
    """What `set_float32_matmul_precision` was told; at first "highest"."""
    return str(_chosen["precision"])


def set_default_device(device: Any) -> None:
    """Where tensors are made when no device is given; None: the CPU."""
    devices.set_default(device)


def get_default_device() -> devices.device:
    """Where tensors are made when no device is given."""
    return devices.check_device(None)


def set_flush_denormal(mode: bool) -> bool:
    """False: Python cannot change the processor's handling of denormal numbers, nothing was changed."""
    return False
