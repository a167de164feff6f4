"""MobileNetV3 (Howard et al., 2019)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from flambeau import Tensor, nn
from flambeau.vision.models._api import builder, imagenet_weights
from flambeau.vision.models._blocks import initialize_mobile, make_divisible
from flambeau.vision.ops import Conv2dNormActivation, SqueezeExcitation

__all__ = [
    "MobileNetV3", "MobileNet_V3_Large_Weights", "MobileNet_V3_Small_Weights", "mobilenet_v3_large",
    "mobilenet_v3_small",
]


@dataclass
class Block:
    """One row of the paper's tables 1 and 2; the input's channels are the row before's output."""

    kernel: int
    expanded_channels: int
    out_channels: int
    use_se: bool
    use_hs: bool
    stride: int
    dilation: int = 1


class InvertedResidual(nn.Module):
    """Widen, convolve each channel, squeeze and excite, narrow; with a path around where the shape stays."""

    def __init__(self, inp: int, row: Block, norm_layer: Callable[..., nn.Module]) -> None:
        super().__init__()
        if row.stride not in (1, 2):
            raise ValueError(f"illegal stride value {row.stride}: 1 or 2 expected")
        self.use_res_connect = row.stride == 1 and inp == row.out_channels
        wide = row.expanded_channels
        common: dict[str, Any] = {
            "norm_layer": norm_layer, "activation_layer": nn.Hardswish if row.use_hs else nn.ReLU,
        }
        layers: list[nn.Module] = []
        if wide != inp:
            layers.append(Conv2dNormActivation(inp, wide, 1, **common))
        stride = 1 if row.dilation > 1 else row.stride
        layers.append(
            Conv2dNormActivation(wide, wide, row.kernel, stride, groups=wide, dilation=row.dilation, **common)
        )
        if row.use_se:
            layers.append(SqueezeExcitation(wide, make_divisible(wide // 4), scale_activation=nn.Hardsigmoid))
        layers.append(
            Conv2dNormActivation(wide, row.out_channels, 1, norm_layer=norm_layer, activation_layer=None)
        )
        self.block = nn.Sequential(*layers)
        self.out_channels = row.out_channels

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) + x if self.use_res_connect else self.block(x)


class MobileNetV3(nn.Module):
    """The blocks of `rows` after `stem` channels, and a head of `last_channel` numbers."""

    def __init__(
        self, rows: list[Block], stem: int, last_channel: int, num_classes: int = 1000,
        norm_layer: Callable[..., nn.Module] | None = None, dropout: float = 0.2,
    ) -> None:
        super().__init__()
        norm = norm_layer or partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)
        common: dict[str, Any] = {"norm_layer": norm, "activation_layer": nn.Hardswish}
        layers: list[nn.Module] = [Conv2dNormActivation(3, stem, stride=2, **common)]
        channels = stem
        for row in rows:
            layers.append(InvertedResidual(channels, row, norm))
            channels = row.out_channels
        layers.append(Conv2dNormActivation(channels, 6 * channels, 1, **common))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(6 * channels, last_channel), nn.Hardswish(inplace=True), nn.Dropout(dropout, inplace=True),
            nn.Linear(last_channel, num_classes),
        )
        initialize_mobile(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def _mobilenet(
    table: tuple[tuple[Any, ...], ...], head: int, last_stage: int, width_mult: float = 1.0,
    reduced_tail: bool = False, dilated: bool = False, **options: Any,
) -> MobileNetV3:
    """Rows (kernel, expanded, out, squeeze-excitation, hard swish, stride); `last_stage` is the last stage's first row.

    `reduced_tail` halves the last stage and the head, `dilated` dilates the last stage instead of striding.
    """
    tail = 2 if reduced_tail else 1
    rows: list[Block] = []
    for i, (kernel, expanded, out, use_se, use_hs, stride) in enumerate(table):
        if i >= last_stage:
            out //= tail
        if i > last_stage:
            expanded //= tail
        dilation = 2 if dilated and i >= last_stage else 1
        wide, narrow = make_divisible(expanded * width_mult), make_divisible(out * width_mult)
        rows.append(Block(kernel, wide, narrow, use_se, use_hs, stride, dilation))
    stem, last_channel = make_divisible(16 * width_mult), make_divisible(head // tail * width_mult)
    return MobileNetV3(rows, stem, last_channel, **options)


LARGE = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2), (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2), (5, 120, 40, True, False, 1), (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2), (3, 200, 80, False, True, 1), (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1), (3, 480, 112, True, True, 1), (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2), (5, 960, 160, True, True, 1), (5, 960, 160, True, True, 1),
)
SMALL = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2), (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2), (5, 240, 40, True, True, 1), (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1), (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2), (5, 576, 96, True, True, 1), (5, 576, 96, True, True, 1),
)

MobileNet_V3_Large_Weights = imagenet_weights("MobileNet_V3_Large_Weights")
MobileNet_V3_Small_Weights = imagenet_weights("MobileNet_V3_Small_Weights")


@builder(MobileNet_V3_Large_Weights)
def mobilenet_v3_large(**options: Any) -> MobileNetV3:
    """MobileNetV3 Large; options `num_classes`, `dropout`, `width_mult`, `reduced_tail`, `dilated`, `norm_layer`."""
    return _mobilenet(LARGE, 1280, 12, **options)


@builder(MobileNet_V3_Small_Weights)
def mobilenet_v3_small(**options: Any) -> MobileNetV3:
    """MobileNetV3 Small; options as for Large."""
    return _mobilenet(SMALL, 1024, 8, **options)
