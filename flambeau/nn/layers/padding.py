"""Padding as modules: constant, zero, reflection, replication, circular; 1 to 3 dimensions."""

from __future__ import annotations

from typing import Any

from flambeau.core.tensor import Tensor
from flambeau.nn import functional as F
from flambeau.nn.layers._sizes import _ntuple
from flambeau.nn.module import Module

__all__ = ["CircularPad1d", "CircularPad2d", "CircularPad3d", "ConstantPad1d", "ConstantPad2d", "ConstantPad3d",
           "ReflectionPad1d", "ReflectionPad2d", "ReflectionPad3d", "ReplicationPad1d", "ReplicationPad2d",
           "ReplicationPad3d", "ZeroPad1d", "ZeroPad2d", "ZeroPad3d"]


class _Pad(Module):
    """Base. `padding`: one number for every side, or (left, right[, top, bottom[, front, back]])."""

    __constants__ = ["padding"]
    sides = 2
    mode = "constant"

    def __init__(self, padding: Any) -> None:
        super().__init__()
        self.padding = _ntuple(self.sides)(padding)

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ConstantPad1d(_Pad):
    """Pads the last dimension with `value`."""

    __constants__ = ["padding", "value"]

    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad2d(ConstantPad1d):
    """Pads the last two dimensions with `value`."""

    sides = 4


class ConstantPad3d(ConstantPad1d):
    """Pads the last three dimensions with `value`."""

    sides = 6


class ZeroPad1d(ConstantPad1d):
    """Pads the last dimension with zeros."""

    def __init__(self, padding: Any) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ZeroPad2d(ZeroPad1d):
    """Pads the last two dimensions with zeros."""

    sides = 4


class ZeroPad3d(ZeroPad1d):
    """Pads the last three dimensions with zeros."""

    sides = 6


class ReflectionPad1d(_Pad):
    """Pads the last dimension with its mirror image, the edge not repeated."""

    mode = "reflect"


class ReflectionPad2d(ReflectionPad1d):
    """Pads the last two dimensions with their mirror image."""

    sides = 4


class ReflectionPad3d(ReflectionPad1d):
    """Pads the last three dimensions with their mirror image."""

    sides = 6


class ReplicationPad1d(_Pad):
    """Pads the last dimension with its edge."""

    mode = "replicate"


class ReplicationPad2d(ReplicationPad1d):
    """Pads the last two dimensions with their edges."""

    sides = 4


class ReplicationPad3d(ReplicationPad1d):
    """Pads the last three dimensions with their edges."""

    sides = 6


class CircularPad1d(_Pad):
    """Pads the last dimension as if it were periodic."""

    mode = "circular"

    def forward(self, input: Tensor) -> Tensor:
        spatial = self.sides // 2
        if input.dim() not in (spatial + 1, spatial + 2):
            raise ValueError(f"expected {spatial + 1}D or {spatial + 2}D input (got {input.dim()}D input)")
        return super().forward(input)


class CircularPad2d(CircularPad1d):
    """Pads the last two dimensions as if they were periodic."""

    sides = 4


class CircularPad3d(CircularPad1d):
    """Pads the last three dimensions as if they were periodic."""

    sides = 6
