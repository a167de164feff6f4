"""Deformable convolution (Dai et al., 2017; with masks Zhu et al., 2018)."""

from __future__ import annotations

import math
from typing import Any

import flambeau as torch
from flambeau import Tensor, nn


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def deform_conv2d(
    input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = (1, 1),
    padding: Any = (0, 0), dilation: Any = (1, 1), mask: Tensor | None = None,
) -> Tensor:
    """A convolution whose kernel reads the image at places of its own, between pixels by bilinear interpolation.

    Shapes: input (N, C, H, W), weight (O, C/groups, kh, kw), offset (N, 2 * G * kh * kw, H', W') with each place's
    shift down and right in turn, mask (N, G * kh * kw, H', W') or None, gives (N, O, H', W'); G parts of the channels
    have offsets of their own. Places outside the image read 0. Differentiable in all tensors.
    Raises: RuntimeError for an offset or mask that does not fit.
    """
    n, channels, height, width = input.shape
    out_channels, group_channels, kh, kw = weight.shape
    (sh, sw), (ph, pw), (dh, dw) = _pair(stride), _pair(padding), _pair(dilation)
    rows, columns = (height + 2 * ph - dh * (kh - 1) - 1) // sh + 1, (width + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    taps = kh * kw
    parts = offset.shape[1] // (2 * taps)
    if parts == 0 or tuple(offset.shape) != (n, 2 * parts * taps, rows, columns) or channels % parts:
        raise RuntimeError(
            f"the shape of the offset tensor is not valid: expected ({n}, a multiple of {2 * taps}, "
            f"{rows}, {columns}), got {tuple(offset.shape)}"
        )
    if mask is not None and tuple(mask.shape) != (n, parts * taps, rows, columns):
        raise RuntimeError(
            f"the shape of the mask tensor is not valid: expected {(n, parts * taps, rows, columns)}, "
            f"got {tuple(mask.shape)}"
        )
    shifts = offset.reshape(n, parts, taps, 2, rows, columns)
    across = torch.arange(columns, dtype=input.dtype) * sw - pw
    down = torch.arange(rows, dtype=input.dtype) * sh - ph
    tap_down = (torch.arange(taps) // kw * dh).to(input.dtype)
    tap_across = (torch.arange(taps) % kw * dw).to(input.dtype)
    y = shifts[:, :, :, 0] + down[:, None] + tap_down[:, None, None]  # (N, G, taps, rows, columns)
    x = shifts[:, :, :, 1] + across + tap_across[:, None, None]
    values = _bilinear(input.reshape(n, parts, channels // parts, height * width), y, x, height, width)
    if mask is not None:
        values = values * mask.reshape(n, parts, 1, taps, rows, columns)
    groups = channels // group_channels
    # (N, groups, channels of a group * taps, rows * columns), the order of the flattened weight
    values = values.reshape(n, groups, group_channels * taps, rows * columns)
    kernel = weight.reshape(groups, out_channels // groups, group_channels * taps)
    out = (kernel @ values).reshape(n, out_channels, rows, columns)
    return out if bias is None else out + bias.reshape(1, -1, 1, 1)


def _bilinear(pixels: Tensor, y: Tensor, x: Tensor, height: int, width: int) -> Tensor:
    """Values (N, G, C, …) of pixels (N, G, C, H * W) at places (N, G, …); neighbours outside the image count 0."""
    n, parts, channels, _ = pixels.shape
    top, left = torch.floor(y), torch.floor(x)
    total: Any = 0
    for i in (0, 1):
        for j in (0, 1):
            row, column = top.detach() + i, left.detach() + j
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            share = (1 - (y - row).abs()) * (1 - (x - column).abs()) * inside.to(y.dtype)
            place = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            place = place.to(torch.int64).reshape(n, parts, 1, -1).expand(n, parts, channels, -1)
            total = total + pixels.gather(3, place).reshape(n, parts, channels, *y.shape[2:]) * share[:, :, None]
    return total


class DeformConv2d(nn.Module):
    """`deform_conv2d` with a weight and a bias of its own; `forward(input, offset, mask=None)`."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
        dilation: Any = 1, groups: int = 1, bias: bool = True,
    ) -> None:
        super().__init__()
        if in_channels % groups:
            raise ValueError(f"in_channels must be divisible by groups, got {in_channels} and {groups}")
        if out_channels % groups:
            raise ValueError(f"out_channels must be divisible by groups, got {out_channels} and {groups}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _pair(kernel_size)
        self.stride = _pair(stride)
        self.padding = _pair(padding)
        self.dilation = _pair(dilation)
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, *self.kernel_size))
        if bias:
            self.bias: nn.Parameter | None = nn.Parameter(torch.empty(out_channels))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fresh random values, as for an ordinary convolution."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight[0].numel())
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        return deform_conv2d(
            input, offset, self.weight, self.bias, self.stride, self.padding, self.dilation, mask
        )

    def extra_repr(self) -> str:
        """The settings that are not at their defaults."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        for name, usual in (("padding", (0, 0)), ("dilation", (1, 1)), ("groups", 1)):
            if getattr(self, name) != usual:
                text += f", {name}={getattr(self, name)}"
        return text if self.bias is not None else f"{text}, bias=False"
