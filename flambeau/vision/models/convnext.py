"""ConvNeXt (Liu et al., "A ConvNet for the 2020s", 2022)."""

from __future__ import annotations

from functools import partial
from typing import Any

import flambeau as torch
from flambeau import Tensor, nn
from flambeau.vision.models._api import builder, imagenet_weights
from flambeau.vision.ops import Conv2dNormActivation, Permute, StochasticDepth

__all__ = [
    "ConvNeXt", "ConvNeXt_Tiny_Weights", "ConvNeXt_Small_Weights", "ConvNeXt_Base_Weights", "ConvNeXt_Large_Weights",
    "convnext_tiny", "convnext_small", "convnext_base", "convnext_large",
]


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


_norm = partial(LayerNorm2d, eps=1e-6)


class CNBlock(nn.Module):
    """A 7×7 convolution of each channel, a two-layer network at each pixel, a scale, and a path around."""

    def __init__(self, dim: int, layer_scale: float, stochastic_depth_prob: float) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(dim, dim, 7, padding=3, groups=dim), Permute([0, 2, 3, 1]), nn.LayerNorm(dim, eps=1e-6),
            nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim), Permute([0, 3, 1, 2]),
        )
        self.layer_scale = nn.Parameter(torch.ones(dim, 1, 1) * layer_scale)
        self.stochastic_depth = StochasticDepth(stochastic_depth_prob, "row")

    def forward(self, x: Tensor) -> Tensor:
        return self.stochastic_depth(self.layer_scale * self.block(x)) + x


class ConvNeXt(nn.Module):
    """Stages of `depths` blocks with `widths` channels, halving the image between them."""

    def __init__(
        self, depths: tuple[int, ...], widths: tuple[int, ...], stochastic_depth_prob: float = 0.0,
        layer_scale: float = 1e-6, num_classes: int = 1000,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            Conv2dNormActivation(
                3, widths[0], 4, stride=4, padding=0, norm_layer=_norm, activation_layer=None, bias=True
            )
        ]
        total, done = sum(depths), 0
        for i, (depth, width) in enumerate(zip(depths, widths)):
            if i:
                layers.append(nn.Sequential(_norm(widths[i - 1]), nn.Conv2d(widths[i - 1], width, 2, stride=2)))
            drops = [stochastic_depth_prob * (done + j) / (total - 1.0) for j in range(depth)]
            layers.append(nn.Sequential(*[CNBlock(width, layer_scale, drop) for drop in drops]))
            done += depth
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(_norm(widths[-1]), nn.Flatten(1), nn.Linear(widths[-1], num_classes))
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)))


ConvNeXt_Tiny_Weights = imagenet_weights("ConvNeXt_Tiny_Weights")
ConvNeXt_Small_Weights = imagenet_weights("ConvNeXt_Small_Weights")
ConvNeXt_Base_Weights = imagenet_weights("ConvNeXt_Base_Weights")
ConvNeXt_Large_Weights = imagenet_weights("ConvNeXt_Large_Weights")


def _convnext(blocks: int, width: int, drop: float, options: dict[str, Any]) -> ConvNeXt:
    widths = (width, 2 * width, 4 * width, 8 * width)
    return ConvNeXt((3, 3, blocks, 3), widths, **{"stochastic_depth_prob": drop, **options})


@builder(ConvNeXt_Tiny_Weights)
def convnext_tiny(**options: Any) -> ConvNeXt:
    """ConvNeXt Tiny; options `num_classes`, `stochastic_depth_prob`, `layer_scale`."""
    return _convnext(9, 96, 0.1, options)


@builder(ConvNeXt_Small_Weights)
def convnext_small(**options: Any) -> ConvNeXt:
    """ConvNeXt Small."""
    return _convnext(27, 96, 0.4, options)


@builder(ConvNeXt_Base_Weights)
def convnext_base(**options: Any) -> ConvNeXt:
    """ConvNeXt Base."""
    return _convnext(27, 128, 0.5, options)


@builder(ConvNeXt_Large_Weights)
def convnext_large(**options: Any) -> ConvNeXt:
    """ConvNeXt Large."""
    return _convnext(27, 192, 0.5, options)
