"""PyTorch's `torch.types`: names for annotations."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import IO, TypeAlias

from flambeau.core.device import device
from flambeau.core.dtype import dtype
from flambeau.core.storage import Storage
from flambeau.core.tensor import Size, Tensor

__all__ = ["Device", "FileLike", "Number", "Storage"]

Number: TypeAlias = int | float | bool
Device: TypeAlias = device | str | int | None
FileLike: TypeAlias = str | os.PathLike | IO[bytes]

_int, _float, _bool, _complex, _dtype, _device = int, float, bool, complex, dtype, device
_size: TypeAlias = Size | list[int] | tuple[int, ...]
_TensorOrTensors: TypeAlias = Tensor | Sequence[Tensor]
