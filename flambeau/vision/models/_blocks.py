"""Blocks and initialisations that several families share."""

from __future__ import annotations

from typing import Any

from flambeau import Tensor, nn


def make_divisible(value: float, divisor: int = 8, min_value: int | None = None) -> int:
    """The multiple of `divisor` nearest to `value`, but not more than a tenth below it."""
    rounded = max(min_value or divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def initialize_mobile(network: nn.Module) -> None:
    """The start of the mobile networks: He's normal numbers for convolutions, deviation 0.01 for linear layers."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            nn.init.zeros_(module.bias)


def initialize_truncated(network: nn.Module, stddev: float) -> None:
    """The start of the Inception networks: normal numbers cut at ±2, with a layer's own `stddev` where it has one."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.trunc_normal_(module.weight, mean=0.0, std=float(getattr(module, "stddev", stddev)), a=-2, b=2)


def renormalize(x: Tensor) -> Tensor:
    """From torchvision's mean and deviation per colour to -1…1, which Inception's files were trained with."""
    from flambeau import stack

    statistics = ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))
    return stack([x[:, i] * (std / 0.5) + (mean - 0.5) / 0.5 for i, (mean, std) in enumerate(statistics)], 1)


class BasicConv2d(nn.Module):
    """Convolution without bias, batch normalisation (eps 1e-3) and ReLU, of the Inception networks."""

    def __init__(self, in_channels: int, out_channels: int, **options: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, bias=False, **options)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.bn(self.conv(x)), inplace=True)


def relative_positions(height: int, width: int) -> Tensor:
    """The number (P, P), int64, of the relative position of each pair of the P = height * width places of a window."""
    from flambeau import arange

    rows, columns = arange(height).repeat_interleave(width), arange(width).repeat(height)
    down = rows[:, None] - rows[None, :] + height - 1
    return down * (2 * width - 1) + columns[:, None] - columns[None, :] + width - 1
