"""MNASNet (Tan et al., 2018), variant B1."""

from __future__ import annotations

from typing import Any

from flambeau import Tensor, nn
from flambeau.vision.models._api import builder, imagenet_weights
from flambeau.vision.models._blocks import make_divisible

__all__ = [
    "MNASNet", "MNASNet0_5_Weights", "MNASNet0_75_Weights", "MNASNet1_0_Weights", "MNASNet1_3_Weights", "mnasnet0_5",
    "mnasnet0_75", "mnasnet1_0", "mnasnet1_3",
]

MOMENTUM = 1 - 0.9997  # TensorFlow's momentum, which the paper gives, in PyTorch's meaning
# Channels, kernel, stride, expansion and blocks of each stage.
STAGES = ((24, 3, 2, 3, 3), (40, 5, 2, 3, 3), (80, 5, 2, 6, 3), (96, 3, 1, 6, 2), (192, 5, 2, 6, 4), (320, 3, 1, 6, 1))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, momentum=MOMENTUM)


class _InvertedResidual(nn.Module):
    def __init__(self, in_ch: int, out_ch: int, kernel_size: int, stride: int, expansion_factor: int) -> None:
        super().__init__()
        wide = in_ch * expansion_factor
        self.apply_residual = in_ch == out_ch and stride == 1
        self.layers = nn.Sequential(
            nn.Conv2d(in_ch, wide, 1, bias=False), _norm(wide), nn.ReLU(inplace=True),
            nn.Conv2d(wide, wide, kernel_size, padding=kernel_size // 2, stride=stride, groups=wide, bias=False),
            _norm(wide), nn.ReLU(inplace=True),
            nn.Conv2d(wide, out_ch, 1, bias=False), _norm(out_ch),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) + x if self.apply_residual else self.layers(x)


class MNASNet(nn.Module):
    """MNASNet with its channels scaled by `alpha`."""

    def __init__(self, alpha: float, num_classes: int = 1000, dropout: float = 0.2) -> None:
        super().__init__()
        if alpha <= 0:
            raise ValueError(f"alpha should be greater than 0.0 instead of {alpha}")
        self.alpha = alpha
        self.num_classes = num_classes
        stem, channels = make_divisible(32 * alpha), make_divisible(16 * alpha)
        layers: list[nn.Module] = [
            nn.Conv2d(3, stem, 3, padding=1, stride=2, bias=False), _norm(stem), nn.ReLU(inplace=True),
            nn.Conv2d(stem, stem, 3, padding=1, groups=stem, bias=False), _norm(stem), nn.ReLU(inplace=True),
            nn.Conv2d(stem, channels, 1, bias=False), _norm(channels),
        ]
        for width, kernel, stride, expansion, blocks in STAGES:
            out = make_divisible(width * alpha)
            stage = [_InvertedResidual(channels, out, kernel, stride, expansion)]
            stage += [_InvertedResidual(out, out, kernel, 1, expansion) for _ in range(1, blocks)]
            layers.append(nn.Sequential(*stage))
            channels = out
        layers += [nn.Conv2d(channels, 1280, 1, bias=False), _norm(1280), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(dropout, inplace=True), nn.Linear(1280, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.kaiming_uniform_(module.weight, mode="fan_out", nonlinearity="sigmoid")
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.layers(x).mean([2, 3]))


MNASNet0_5_Weights = imagenet_weights("MNASNet0_5_Weights")
MNASNet0_75_Weights = imagenet_weights("MNASNet0_75_Weights")
MNASNet1_0_Weights = imagenet_weights("MNASNet1_0_Weights")
MNASNet1_3_Weights = imagenet_weights("MNASNet1_3_Weights")


@builder(MNASNet0_5_Weights)
def mnasnet0_5(**options: Any) -> MNASNet:
    """MNASNet at half the width; options `num_classes`, `dropout`."""
    return MNASNet(0.5, **options)


@builder(MNASNet0_75_Weights)
def mnasnet0_75(**options: Any) -> MNASNet:
    """MNASNet at three quarters of the width."""
    return MNASNet(0.75, **options)


@builder(MNASNet1_0_Weights)
def mnasnet1_0(**options: Any) -> MNASNet:
    """MNASNet at the paper's width."""
    return MNASNet(1.0, **options)


@builder(MNASNet1_3_Weights)
def mnasnet1_3(**options: Any) -> MNASNet:
    """MNASNet at 1.3 times the width."""
    return MNASNet(1.3, **options)
