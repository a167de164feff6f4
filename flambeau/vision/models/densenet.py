"""DenseNet (Huang et al., 2016): every layer reads all earlier layers of its block."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any

import flambeau as torch
from flambeau import Tensor, nn
from flambeau.vision.models._api import builder, imagenet_weights

__all__ = [
    "DenseNet", "DenseNet121_Weights", "DenseNet161_Weights", "DenseNet169_Weights", "DenseNet201_Weights",
    "densenet121", "densenet161", "densenet169", "densenet201",
]

F = nn.functional


class _DenseLayer(nn.Module):
    def __init__(self, num_input_features: int, growth_rate: int, bn_size: int, drop_rate: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(num_input_features)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(num_input_features, bn_size * growth_rate, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(bn_size * growth_rate)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(bn_size * growth_rate, growth_rate, 3, padding=1, bias=False)
        self.drop_rate = float(drop_rate)

    def forward(self, earlier: Tensor | list[Tensor]) -> Tensor:
        x = earlier if isinstance(earlier, Tensor) else torch.cat(earlier, 1)
        x = self.conv1(self.relu1(self.norm1(x)))
        x = self.conv2(self.relu2(self.norm2(x)))
        return F.dropout(x, self.drop_rate, self.training) if self.drop_rate > 0 else x


class _DenseBlock(nn.ModuleDict):
    def __init__(self, num_layers: int, channels: int, bn_size: int, growth_rate: int, drop_rate: float) -> None:
        super().__init__({
            f"denselayer{i + 1}": _DenseLayer(channels + i * growth_rate, growth_rate, bn_size, drop_rate)
            for i in range(num_layers)
        })

    def forward(self, x: Tensor) -> Tensor:
        found = [x]
        for layer in self.values():
            found.append(layer(found))
        return torch.cat(found, 1)


class _Transition(nn.Sequential):
    """Half as many channels, a quarter of the pixels."""

    def __init__(self, num_input_features: int, num_output_features: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(num_input_features)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(num_input_features, num_output_features, 1, bias=False)
        self.pool = nn.AvgPool2d(2, stride=2)


class DenseNet(nn.Module):
    """Dense blocks of `block_config` layers, each adding `growth_rate` channels, with transitions between them.

    `memory_efficient=True`, recomputing in the backward pass, is not supported: NotImplementedError.
    """

    def __init__(
        self, growth_rate: int = 32, block_config: tuple[int, int, int, int] = (6, 12, 24, 16),
        num_init_features: int = 64, bn_size: int = 4, drop_rate: float = 0, num_classes: int = 1000,
        memory_efficient: bool = False,
    ) -> None:
        super().__init__()
        if memory_efficient:
            raise NotImplementedError("DenseNet: memory_efficient=True is not supported")
        self.features = nn.Sequential(OrderedDict([
            ("conv0", nn.Conv2d(3, num_init_features, 7, stride=2, padding=3, bias=False)),
            ("norm0", nn.BatchNorm2d(num_init_features)),
            ("relu0", nn.ReLU(inplace=True)),
            ("pool0", nn.MaxPool2d(3, stride=2, padding=1)),
        ]))
        channels = num_init_features
        for i, num_layers in enumerate(block_config, 1):
            block = _DenseBlock(num_layers, channels, bn_size, growth_rate, drop_rate)
            self.features.add_module(f"denseblock{i}", block)
            channels += num_layers * growth_rate
            if i < len(block_config):
                self.features.add_module(f"transition{i}", _Transition(channels, channels // 2))
                channels //= 2
        self.features.add_module("norm5", nn.BatchNorm2d(channels))
        self.classifier = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.features(x), inplace=True)
        return self.classifier(F.adaptive_avg_pool2d(x, (1, 1)).flatten(1))


def _today(name: str) -> str:
    """The published files write `norm.1` where the layer is called norm1."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", name)


DenseNet121_Weights = imagenet_weights("DenseNet121_Weights")
DenseNet161_Weights = imagenet_weights("DenseNet161_Weights")
DenseNet169_Weights = imagenet_weights("DenseNet169_Weights")
DenseNet201_Weights = imagenet_weights("DenseNet201_Weights")


@builder(DenseNet121_Weights, renamed=_today)
def densenet121(**options: Any) -> DenseNet:
    """DenseNet with 121 layers; options are DenseNet's."""
    return DenseNet(32, (6, 12, 24, 16), 64, **options)


@builder(DenseNet161_Weights, renamed=_today)
def densenet161(**options: Any) -> DenseNet:
    """DenseNet with 161 layers, wider than the others."""
    return DenseNet(48, (6, 12, 36, 24), 96, **options)


@builder(DenseNet169_Weights, renamed=_today)
def densenet169(**options: Any) -> DenseNet:
    """DenseNet with 169 layers."""
    return DenseNet(32, (6, 12, 32, 32), 64, **options)


@builder(DenseNet201_Weights, renamed=_today)
def densenet201(**options: Any) -> DenseNet:
    """DenseNet with 201 layers."""
    return DenseNet(32, (6, 12, 48, 32), 64, **options)
