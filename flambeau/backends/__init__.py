"""Fast kernels on NumPy arrays, and the threads and memory they use. Knows nothing of Tensor."""

from __future__ import annotations

import importlib
from typing import Any

_SWITCHES = ("cuda", "cudnn", "mkl", "mkldnn", "mps", "openmp")  # PyTorch's `torch.backends.*`, loaded when used


def __getattr__(name: str) -> Any:
    if name in _SWITCHES:
        return importlib.import_module(f"flambeau.backends.{name}")
    raise AttributeError(f"module 'flambeau.backends' has no attribute '{name}'")
