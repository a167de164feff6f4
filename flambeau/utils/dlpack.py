"""DLPack under the old names; `torch.from_dlpack` and the protocol methods of tensors are the newer spelling."""

from __future__ import annotations

from typing import Any

from flambeau.core.tensor import Tensor
from flambeau.ops.creation import from_dlpack

__all__ = ["from_dlpack", "to_dlpack"]


class _Capsule:
    """What `to_dlpack` gives: not yet consumed memory that any `from_dlpack` accepts."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor

    def __dlpack__(self, **options: Any) -> Any:
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.tensor.__dlpack_device__()


def to_dlpack(tensor: Tensor) -> Any:
    """The tensor's memory for another library's `from_dlpack`."""
    return _Capsule(tensor)
