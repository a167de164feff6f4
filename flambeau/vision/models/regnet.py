"""RegNet (Radosavovic et al., "Designing network design spaces", 2020), with and without squeeze-and-excitation."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from flambeau import Tensor, nn
from flambeau.vision.models._api import builder, imagenet_weights
from flambeau.vision.models._blocks import make_divisible
from flambeau.vision.ops import Conv2dNormActivation, SqueezeExcitation

SIZES = {"y": ("400MF", "800MF", "1_6GF", "3_2GF", "8GF", "16GF", "32GF", "128GF"),
         "x": ("400MF", "800MF", "1_6GF", "3_2GF", "8GF", "16GF", "32GF")}
__all__ = ["RegNet"] + [
    name for kind, sizes in SIZES.items() for size in sizes
    for name in (f"regnet_{kind}_{size.lower()}", f"RegNet_{kind.upper()}_{size}_Weights")
]

Layer = Callable[..., nn.Module]


class Stage(NamedTuple):
    """Blocks of one width."""

    depth: int
    width: int
    group_width: int


def stages(depth: int, w_0: int, w_a: float, w_m: float, group_width: int) -> list[Stage]:
    """The stages of a RegNet: widths that grow linearly, w_0 + w_a * j, put on a grid of powers of w_m (section 3.3).

    Raises: ValueError for a slope below 0, a step of at most 1 or a first width that is no multiple of 8.
    """
    if w_a < 0 or w_0 <= 0 or w_m <= 1 or w_0 % 8:
        raise ValueError(f"Invalid RegNet settings: w_0 {w_0}, w_a {w_a}, w_m {w_m}")
    linear = (np.arange(depth) * w_a + w_0).astype(np.float32)
    powers = np.round(np.log(linear / w_0) / math.log(w_m))
    widths = (np.round(w_0 * np.power(w_m, powers) / 8) * 8).astype(int).tolist()
    found = []
    for width, members in groupby(widths):
        group = min(group_width, width)
        found.append(Stage(len(list(members)), make_divisible(width, group), group))
    return found


class BottleneckTransform(nn.Sequential):
    """1×1, 3×3 in groups, squeeze and excite where `se_ratio` is given, 1×1."""

    def __init__(
        self, width_in: int, width_out: int, stride: int, norm_layer: Layer, activation_layer: Layer,
        group_width: int, se_ratio: float | None,
    ) -> None:
        common: dict[str, Any] = {"norm_layer": norm_layer, "activation_layer": activation_layer}
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["a"] = Conv2dNormActivation(width_in, width_out, 1, **common)
        layers["b"] = Conv2dNormActivation(width_out, width_out, 3, stride, groups=width_out // group_width, **common)
        if se_ratio:
            layers["se"] = SqueezeExcitation(width_out, round(se_ratio * width_in), activation=activation_layer)
        layers["c"] = Conv2dNormActivation(width_out, width_out, 1, norm_layer=norm_layer, activation_layer=None)
        super().__init__(layers)


class ResBottleneckBlock(nn.Module):
    """`BottleneckTransform` with a path around it."""

    def __init__(
        self, width_in: int, width_out: int, stride: int, norm_layer: Layer, activation_layer: Layer,
        group_width: int = 1, se_ratio: float | None = None,
    ) -> None:
        super().__init__()
        self.proj = None
        if width_in != width_out or stride != 1:
            self.proj = Conv2dNormActivation(
                width_in, width_out, 1, stride, norm_layer=norm_layer, activation_layer=None
            )
        self.f = BottleneckTransform(width_in, width_out, stride, norm_layer, activation_layer, group_width, se_ratio)
        self.activation = activation_layer(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        around = x if self.proj is None else self.proj(x)
        return self.activation(around + self.f(x))


class RegNet(nn.Module):
    """A stem, the blocks of each stage (the first halves the image), and a linear classifier.

    Args:
        plan: the stages, from `stages(...)`.
        se_ratio: width of the squeeze over a block's input; None for RegNetX.
        norm_layer, activation: makers of the normalisation (BatchNorm2d) and activation (ReLU).
    """

    def __init__(
        self, plan: list[Stage], se_ratio: float | None = None, num_classes: int = 1000, stem_width: int = 32,
        norm_layer: Layer | None = None, activation: Layer | None = None,
    ) -> None:
        super().__init__()
        norm, active = norm_layer or nn.BatchNorm2d, activation or nn.ReLU
        self.stem = Conv2dNormActivation(3, stem_width, 3, 2, norm_layer=norm, activation_layer=active)
        width = stem_width
        trunk: OrderedDict[str, nn.Module] = OrderedDict()
        for i, stage in enumerate(plan, 1):
            blocks: OrderedDict[str, nn.Module] = OrderedDict()
            for j in range(stage.depth):
                blocks[f"block{i}-{j}"] = ResBottleneckBlock(
                    width, stage.width, 1 if j else 2, norm, active, stage.group_width, se_ratio
                )
                width = stage.width
            trunk[f"block{i}"] = nn.Sequential(blocks)
        self.trunk_output = nn.Sequential(trunk)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                nn.init.normal_(module.weight, mean=0.0, std=math.sqrt(2.0 / fan_out))
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, mean=0.0, std=0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.trunk_output(self.stem(x))
        return self.fc(self.avgpool(x).flatten(start_dim=1))


def _y(depth: int, w_0: int, w_a: float, w_m: float, group_width: int, options: dict[str, Any]) -> RegNet:
    return RegNet(stages(depth, w_0, w_a, w_m, group_width), se_ratio=0.25, **options)


def _x(depth: int, w_0: int, w_a: float, w_m: float, group_width: int, options: dict[str, Any]) -> RegNet:
    return RegNet(stages(depth, w_0, w_a, w_m, group_width), **options)


RegNet_Y_400MF_Weights = imagenet_weights("RegNet_Y_400MF_Weights")
RegNet_Y_800MF_Weights = imagenet_weights("RegNet_Y_800MF_Weights")
RegNet_Y_1_6GF_Weights = imagenet_weights("RegNet_Y_1_6GF_Weights")
RegNet_Y_3_2GF_Weights = imagenet_weights("RegNet_Y_3_2GF_Weights")
RegNet_Y_8GF_Weights = imagenet_weights("RegNet_Y_8GF_Weights")
RegNet_Y_16GF_Weights = imagenet_weights("RegNet_Y_16GF_Weights")
RegNet_Y_32GF_Weights = imagenet_weights("RegNet_Y_32GF_Weights")
RegNet_Y_128GF_Weights = imagenet_weights("RegNet_Y_128GF_Weights")
RegNet_X_400MF_Weights = imagenet_weights("RegNet_X_400MF_Weights")
RegNet_X_800MF_Weights = imagenet_weights("RegNet_X_800MF_Weights")
RegNet_X_1_6GF_Weights = imagenet_weights("RegNet_X_1_6GF_Weights")
RegNet_X_3_2GF_Weights = imagenet_weights("RegNet_X_3_2GF_Weights")
RegNet_X_8GF_Weights = imagenet_weights("RegNet_X_8GF_Weights")
RegNet_X_16GF_Weights = imagenet_weights("RegNet_X_16GF_Weights")
RegNet_X_32GF_Weights = imagenet_weights("RegNet_X_32GF_Weights")


@builder(RegNet_Y_400MF_Weights)
def regnet_y_400mf(**options: Any) -> RegNet:
    """RegNetY of 400 million multiply-adds an image; options are the class's from `num_classes` on."""
    return _y(16, 48, 27.89, 2.09, 8, options)


@builder(RegNet_Y_800MF_Weights)
def regnet_y_800mf(**options: Any) -> RegNet:
    """RegNetY of 800 million multiply-adds an image."""
    return _y(14, 56, 38.84, 2.4, 16, options)


@builder(RegNet_Y_1_6GF_Weights)
def regnet_y_1_6gf(**options: Any) -> RegNet:
    """RegNetY of 1.6 billion multiply-adds an image."""
    return _y(27, 48, 20.71, 2.65, 24, options)


@builder(RegNet_Y_3_2GF_Weights)
def regnet_y_3_2gf(**options: Any) -> RegNet:
    """RegNetY of 3.2 billion multiply-adds an image."""
    return _y(21, 80, 42.63, 2.66, 24, options)


@builder(RegNet_Y_8GF_Weights)
def regnet_y_8gf(**options: Any) -> RegNet:
    """RegNetY of 8 billion multiply-adds an image."""
    return _y(17, 192, 76.82, 2.19, 56, options)


@builder(RegNet_Y_16GF_Weights)
def regnet_y_16gf(**options: Any) -> RegNet:
    """RegNetY of 16 billion multiply-adds an image."""
    return _y(18, 200, 106.23, 2.48, 112, options)


@builder(RegNet_Y_32GF_Weights)
def regnet_y_32gf(**options: Any) -> RegNet:
    """RegNetY of 32 billion multiply-adds an image."""
    return _y(20, 232, 115.89, 2.53, 232, options)


@builder(RegNet_Y_128GF_Weights)
def regnet_y_128gf(**options: Any) -> RegNet:
    """RegNetY of 128 billion multiply-adds an image."""
    return _y(27, 456, 160.83, 2.52, 264, options)


@builder(RegNet_X_400MF_Weights)
def regnet_x_400mf(**options: Any) -> RegNet:
    """RegNetX of 400 million multiply-adds an image."""
    return _x(22, 24, 24.48, 2.54, 16, options)


@builder(RegNet_X_800MF_Weights)
def regnet_x_800mf(**options: Any) -> RegNet:
    """RegNetX of 800 million multiply-adds an image."""
    return _x(16, 56, 35.73, 2.28, 16, options)


@builder(RegNet_X_1_6GF_Weights)
def regnet_x_1_6gf(**options: Any) -> RegNet:
    """RegNetX of 1.6 billion multiply-adds an image."""
    return _x(18, 80, 34.01, 2.25, 24, options)


@builder(RegNet_X_3_2GF_Weights)
def regnet_x_3_2gf(**options: Any) -> RegNet:
    """RegNetX of 3.2 billion multiply-adds an image."""
    return _x(25, 88, 26.31, 2.25, 48, options)


@builder(RegNet_X_8GF_Weights)
def regnet_x_8gf(**options: Any) -> RegNet:
    """RegNetX of 8 billion multiply-adds an image."""
    return _x(23, 80, 49.56, 2.88, 120, options)


@builder(RegNet_X_16GF_Weights)
def regnet_x_16gf(**options: Any) -> RegNet:
    """RegNetX of 16 billion multiply-adds an image."""
    return _x(22, 216, 55.59, 2.1, 128, options)


@builder(RegNet_X_32GF_Weights)
def regnet_x_32gf(**options: Any) -> RegNet:
    """RegNetX of 32 billion multiply-adds an image."""
    return _x(23, 320, 69.86, 2.0, 168, options)
