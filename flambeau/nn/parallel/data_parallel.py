"""`DataParallel`: on one device it calls its module; scripts written for several GPUs run unchanged."""

from __future__ import annotations

from typing import Any

from flambeau.nn.module import Module

__all__ = ["DataParallel"]


class DataParallel(Module):
    """Wraps a module under the name `module`; without CUDA devices it passes the arguments on."""

    def __init__(self, module: Module, device_ids: Any = None, output_device: Any = None, dim: int = 0) -> None:
        super().__init__()
        self.dim = dim
        self.module = module
        self.device_ids: list[int] = []
        self.output_device = output_device

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self.device_ids = []  # those of the machine that saved it mean nothing here

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        return self.module(*inputs, **kwargs)
