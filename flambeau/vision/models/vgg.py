"""VGG (Simonyan and Zisserman, 2014), with and without batch normalisation."""

from __future__ import annotations

from typing import Any

from flambeau import Tensor, nn
from flambeau.vision.models._api import builder, imagenet_weights

__all__ = ["VGG"] + [
    name for depth in (11, 13, 16, 19) for bn in ("", "_bn")
    for name in (f"vgg{depth}{bn}", f"VGG{depth}{bn.upper()}_Weights")
]

# Convolutions of each of the five stages; a pooling follows every stage.
STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """Stages of 3×3 convolutions (`features`), pooling to 7×7, and three linear layers."""

    def __init__(
        self, features: nn.Module, num_classes: int = 1000, init_weights: bool = True, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096), nn.ReLU(True), nn.Dropout(dropout),
            nn.Linear(4096, 4096), nn.ReLU(True), nn.Dropout(dropout),
            nn.Linear(4096, num_classes),
        )
        if init_weights:
            self._initialize()

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def _vgg(depth: int, batch_norm: bool, **options: Any) -> VGG:
    layers: list[nn.Module] = []
    channels = 3
    for count, width in zip(STAGES[depth], WIDTHS):
        for _ in range(count):
            layers.append(nn.Conv2d(channels, width, 3, padding=1))
            if batch_norm:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.ReLU(inplace=True))
            channels = width
        layers.append(nn.MaxPool2d(2, 2))
    return VGG(nn.Sequential(*layers), **options)


VGG11_Weights = imagenet_weights("VGG11_Weights")
VGG11_BN_Weights = imagenet_weights("VGG11_BN_Weights")
VGG13_Weights = imagenet_weights("VGG13_Weights")
VGG13_BN_Weights = imagenet_weights("VGG13_BN_Weights")
VGG16_Weights = imagenet_weights("VGG16_Weights")
VGG16_BN_Weights = imagenet_weights("VGG16_BN_Weights")
VGG19_Weights = imagenet_weights("VGG19_Weights")
VGG19_BN_Weights = imagenet_weights("VGG19_BN_Weights")


@builder(VGG11_Weights, trained={"init_weights": False})
def vgg11(**options: Any) -> VGG:
    """VGG with 11 layers; options `num_classes`, `init_weights`, `dropout`."""
    return _vgg(11, False, **options)


@builder(VGG11_BN_Weights, trained={"init_weights": False})
def vgg11_bn(**options: Any) -> VGG:
    """VGG with 11 layers and batch normalisation."""
    return _vgg(11, True, **options)


@builder(VGG13_Weights, trained={"init_weights": False})
def vgg13(**options: Any) -> VGG:
    """VGG with 13 layers."""
    return _vgg(13, False, **options)


@builder(VGG13_BN_Weights, trained={"init_weights": False})
def vgg13_bn(**options: Any) -> VGG:
    """VGG with 13 layers and batch normalisation."""
    return _vgg(13, True, **options)


@builder(VGG16_Weights, trained={"init_weights": False})
def vgg16(**options: Any) -> VGG:
    """VGG with 16 layers."""
    return _vgg(16, False, **options)


@builder(VGG16_BN_Weights, trained={"init_weights": False})
def vgg16_bn(**options: Any) -> VGG:
    """VGG with 16 layers and batch normalisation."""
    return _vgg(16, True, **options)


@builder(VGG19_Weights, trained={"init_weights": False})
def vgg19(**options: Any) -> VGG:
    """VGG with 19 layers."""
    return _vgg(19, False, **options)


@builder(VGG19_BN_Weights, trained={"init_weights": False})
def vgg19_bn(**options: Any) -> VGG:
    """VGG with 19 layers and batch normalisation."""
    return _vgg(19, True, **options)
