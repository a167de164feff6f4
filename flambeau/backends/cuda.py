"""PyTorch's `torch.backends.cuda`: switches that scripts set. There is no CUDA, so they change nothing."""

from __future__ import annotations

from typing import Any


class _MatmulSwitches:
    """`torch.backends.cuda.matmul`."""

    allow_tf32 = False
    allow_fp16_reduced_precision_reduction = True
    allow_bf16_reduced_precision_reduction = True
    allow_fp16_accumulation = False


matmul = _MatmulSwitches()
_enabled = {"flash": True, "mem_efficient": True, "math": True, "cudnn": True}


def is_built() -> bool:
    """Always False."""
    return False


def preferred_linalg_library(backend: Any = None) -> str:
    """"default": there is no choice of CUDA libraries."""
    return "default"


def flash_sdp_enabled() -> bool:
    """What `enable_flash_sdp` was told."""
    return _enabled["flash"]


def mem_efficient_sdp_enabled() -> bool:
    """What `enable_mem_efficient_sdp` was told."""
    return _enabled["mem_efficient"]


def math_sdp_enabled() -> bool:
    """What `enable_math_sdp` was told."""
    return _enabled["math"]


def cudnn_sdp_enabled() -> bool:
    """What `enable_cudnn_sdp` was told."""
    return _enabled["cudnn"]


def enable_flash_sdp(enabled: bool) -> None:
    """Remember the wish: attention has one way to compute here."""
    _enabled["flash"] = bool(enabled)


def enable_mem_efficient_sdp(enabled: bool) -> None:
    """Remember the wish: attention has one way to compute here."""
    _enabled["mem_efficient"] = bool(enabled)


def enable_math_sdp(enabled: bool) -> None:
    """Remember the wish: attention has one way to compute here."""
    _enabled["math"] = bool(enabled)


def enable_cudnn_sdp(enabled: bool) -> None:
    """Remember the wish: attention has one way to compute here."""
    _enabled["cudnn"] = bool(enabled)
