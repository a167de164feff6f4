"""EfficientNet (Tan and Le, 2019) and EfficientNetV2 (2021)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from flambeau import Tensor, nn
from flambeau.vision.models._api import builder, imagenet_weights
from flambeau.vision.models._blocks import make_divisible
from flambeau.vision.ops import Conv2dNormActivation, SqueezeExcitation, StochasticDepth

__all__ = ["EfficientNet"] + [
    name for kind in ("b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7", "v2_s", "v2_m", "v2_l")
    for name in (f"efficientnet_{kind}", f"EfficientNet_{kind.upper()}_Weights")
]


@dataclass
class Stage:
    """Blocks of one shape: only the first has the stride."""

    fused: bool
    expand_ratio: float
    kernel: int
    stride: int
    input_channels: int
    out_channels: int
    num_layers: int


class MBConv(nn.Module):
    """Widen, convolve each channel, squeeze and excite, narrow; `fused` widens and convolves in one step instead."""

    def __init__(
        self, stage: Stage, inp: int, stride: int, stochastic_depth_prob: float, norm_layer: Callable[..., nn.Module]
    ) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"illegal stride value {stride}: 1 or 2 expected")
        out, kernel = stage.out_channels, stage.kernel
        self.use_res_connect = stride == 1 and inp == out
        wide = make_divisible(inp * stage.expand_ratio)
        active: dict[str, Any] = {"norm_layer": norm_layer, "activation_layer": nn.SiLU}
        layers: list[nn.Module]
        if stage.fused:
            layers = [Conv2dNormActivation(inp, wide if wide != inp else out, kernel, stride, **active)]
        else:
            layers = [Conv2dNormActivation(inp, wide, 1, **active)] if wide != inp else []
            layers += [
                Conv2dNormActivation(wide, wide, kernel, stride, groups=wide, **active),
                SqueezeExcitation(wide, max(1, inp // 4), activation=partial(nn.SiLU, inplace=True)),
            ]
        if not stage.fused or wide != inp:
            layers.append(Conv2dNormActivation(wide, out, 1, norm_layer=norm_layer, activation_layer=None))
        self.block = nn.Sequential(*layers)
        self.stochastic_depth = StochasticDepth(stochastic_depth_prob, "row")
        self.out_channels = out

    def forward(self, x: Tensor) -> Tensor:
        result = self.block(x)
        return self.stochastic_depth(result) + x if self.use_res_connect else result


class EfficientNet(nn.Module):
    """The blocks of `stages`, with `last_channel` channels before the head (default four times the last stage's)."""

    def __init__(
        self, stages: list[Stage], dropout: float, stochastic_depth_prob: float = 0.2, num_classes: int = 1000,
        norm_layer: Callable[..., nn.Module] | None = None, last_channel: int | None = None,
    ) -> None:
        super().__init__()
        norm = norm_layer or nn.BatchNorm2d
        active: dict[str, Any] = {"norm_layer": norm, "activation_layer": nn.SiLU}
        layers: list[nn.Module] = [Conv2dNormActivation(3, stages[0].input_channels, stride=2, **active)]
        total = sum(stage.num_layers for stage in stages)
        done = 0
        for stage in stages:
            blocks = []
            for i in range(stage.num_layers):
                inp, stride = (stage.out_channels, 1) if i else (stage.input_channels, stage.stride)
                blocks.append(MBConv(stage, inp, stride, stochastic_depth_prob * done / total, norm))
                done += 1
            layers.append(nn.Sequential(*blocks))
        channels = stages[-1].out_channels
        last = last_channel if last_channel is not None else 4 * channels
        layers.append(Conv2dNormActivation(channels, last, 1, **active))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(dropout, inplace=True), nn.Linear(last, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                bound = 1.0 / math.sqrt(module.out_features)
                nn.init.uniform_(module.weight, -bound, bound)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


# Expansion, kernel, stride, channels in, channels out, blocks: table 1 of the first paper.
B0 = (
    (1, 3, 1, 32, 16, 1), (6, 3, 2, 16, 24, 2), (6, 5, 2, 24, 40, 2), (6, 3, 2, 40, 80, 3), (6, 5, 1, 80, 112, 3),
    (6, 5, 2, 112, 192, 4), (6, 3, 1, 192, 320, 1),
)
# Table 4 of the second; the first three stages of each are fused.
V2_S = (
    (1, 3, 1, 24, 24, 2), (4, 3, 2, 24, 48, 4), (4, 3, 2, 48, 64, 4),
    (4, 3, 2, 64, 128, 6), (6, 3, 1, 128, 160, 9), (6, 3, 2, 160, 256, 15),
)
V2_M = (
    (1, 3, 1, 24, 24, 3), (4, 3, 2, 24, 48, 5), (4, 3, 2, 48, 80, 5),
    (4, 3, 2, 80, 160, 7), (6, 3, 1, 160, 176, 14), (6, 3, 2, 176, 304, 18), (6, 3, 1, 304, 512, 5),
)
V2_L = (
    (1, 3, 1, 32, 32, 4), (4, 3, 2, 32, 64, 7), (4, 3, 2, 64, 96, 7),
    (4, 3, 2, 96, 192, 10), (6, 3, 1, 192, 224, 19), (6, 3, 2, 224, 384, 25), (6, 3, 1, 384, 640, 7),
)
_norm_tensorflow = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)
_norm_v2 = partial(nn.BatchNorm2d, eps=1e-3)


def _b(width: float, depth: float, dropout: float, options: dict[str, Any]) -> EfficientNet:
    """B0 scaled in width and depth."""
    stages = [
        Stage(False, expand, kernel, stride, make_divisible(inp * width), make_divisible(out * width),
              math.ceil(layers * depth))
        for expand, kernel, stride, inp, out, layers in B0
    ]
    return EfficientNet(stages, **{"dropout": dropout, **options})


def _v2(table: tuple[tuple[int, ...], ...], dropout: float, options: dict[str, Any]) -> EfficientNet:
    stages = [Stage(i < 3, *row) for i, row in enumerate(table)]
    return EfficientNet(stages, last_channel=1280, **{"dropout": dropout, "norm_layer": _norm_v2, **options})


EfficientNet_B0_Weights = imagenet_weights("EfficientNet_B0_Weights")
EfficientNet_B1_Weights = imagenet_weights("EfficientNet_B1_Weights")
EfficientNet_B2_Weights = imagenet_weights("EfficientNet_B2_Weights")
EfficientNet_B3_Weights = imagenet_weights("EfficientNet_B3_Weights")
EfficientNet_B4_Weights = imagenet_weights("EfficientNet_B4_Weights")
EfficientNet_B5_Weights = imagenet_weights("EfficientNet_B5_Weights")
EfficientNet_B6_Weights = imagenet_weights("EfficientNet_B6_Weights")
EfficientNet_B7_Weights = imagenet_weights("EfficientNet_B7_Weights")
EfficientNet_V2_S_Weights = imagenet_weights("EfficientNet_V2_S_Weights")
EfficientNet_V2_M_Weights = imagenet_weights("EfficientNet_V2_M_Weights")
EfficientNet_V2_L_Weights = imagenet_weights("EfficientNet_V2_L_Weights")


@builder(EfficientNet_B0_Weights)
def efficientnet_b0(**options: Any) -> EfficientNet:
    """EfficientNet B0; options `num_classes`, `dropout`, `stochastic_depth_prob`, `norm_layer`."""
    return _b(1.0, 1.0, 0.2, options)


@builder(EfficientNet_B1_Weights)
def efficientnet_b1(**options: Any) -> EfficientNet:
    """EfficientNet B1."""
    return _b(1.0, 1.1, 0.2, options)


@builder(EfficientNet_B2_Weights)
def efficientnet_b2(**options: Any) -> EfficientNet:
    """EfficientNet B2."""
    return _b(1.1, 1.2, 0.3, options)


@builder(EfficientNet_B3_Weights)
def efficientnet_b3(**options: Any) -> EfficientNet:
    """EfficientNet B3."""
    return _b(1.2, 1.4, 0.3, options)


@builder(EfficientNet_B4_Weights)
def efficientnet_b4(**options: Any) -> EfficientNet:
    """EfficientNet B4."""
    return _b(1.4, 1.8, 0.4, options)


@builder(EfficientNet_B5_Weights)
def efficientnet_b5(**options: Any) -> EfficientNet:
    """EfficientNet B5."""
    return _b(1.6, 2.2, 0.4, {"norm_layer": _norm_tensorflow, **options})


@builder(EfficientNet_B6_Weights)
def efficientnet_b6(**options: Any) -> EfficientNet:
    """EfficientNet B6."""
    return _b(1.8, 2.6, 0.5, {"norm_layer": _norm_tensorflow, **options})


@builder(EfficientNet_B7_Weights)
def efficientnet_b7(**options: Any) -> EfficientNet:
    """EfficientNet B7."""
    return _b(2.0, 3.1, 0.5, {"norm_layer": _norm_tensorflow, **options})


@builder(EfficientNet_V2_S_Weights)
def efficientnet_v2_s(**options: Any) -> EfficientNet:
    """EfficientNetV2 Small."""
    return _v2(V2_S, 0.2, options)


@builder(EfficientNet_V2_M_Weights)
def efficientnet_v2_m(**options: Any) -> EfficientNet:
    """EfficientNetV2 Medium."""
    return _v2(V2_M, 0.3, options)


@builder(EfficientNet_V2_L_Weights)
def efficientnet_v2_l(**options: Any) -> EfficientNet:
    """EfficientNetV2 Large."""
    return _v2(V2_L, 0.4, options)
