"""Inception v3 (Szegedy et al., "Rethinking the Inception architecture", 2015), for images of 299×299."""

from __future__ import annotations

import warnings
from collections import namedtuple
from typing import Any

import flambeau as torch
from flambeau import Tensor, nn
from flambeau.vision.models._api import builder, imagenet_weights
from flambeau.vision.models._blocks import BasicConv2d, initialize_truncated, renormalize

__all__ = ["Inception3", "InceptionOutputs", "Inception_V3_Weights", "inception_v3"]

F = nn.functional
InceptionOutputs = namedtuple("InceptionOutputs", ["logits", "aux_logits"])


def _conv(inp: int, out: int, size: int | tuple[int, int], stride: int = 1, same: bool = False) -> BasicConv2d:
    """A convolution without padding, or with `same` one that keeps the image's size."""
    height, width = size if isinstance(size, tuple) else (size, size)
    padding = (height // 2, width // 2) if same else 0
    return BasicConv2d(inp, out, kernel_size=size, stride=stride, padding=padding)


def _mean3x3(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, kernel_size=3, stride=1, padding=1)


class InceptionA(nn.Module):
    """Branches of 1×1, 5×5, twice 3×3, and a pooled one."""

    def __init__(self, in_channels: int, pool_features: int) -> None:
        super().__init__()
        self.branch1x1 = _conv(in_channels, 64, 1)
        self.branch5x5_1 = _conv(in_channels, 48, 1)
        self.branch5x5_2 = _conv(48, 64, 5, same=True)
        self.branch3x3dbl_1 = _conv(in_channels, 64, 1)
        self.branch3x3dbl_2 = _conv(64, 96, 3, same=True)
        self.branch3x3dbl_3 = _conv(96, 96, 3, same=True)
        self.branch_pool = _conv(in_channels, pool_features, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.branch1x1(x)
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([one, five, double, self.branch_pool(_mean3x3(x))], 1)


class InceptionB(nn.Module):
    """Halves the image: 3×3, twice 3×3, and a maximum."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch3x3 = _conv(in_channels, 384, 3, stride=2)
        self.branch3x3dbl_1 = _conv(in_channels, 64, 1)
        self.branch3x3dbl_2 = _conv(64, 96, 3, same=True)
        self.branch3x3dbl_3 = _conv(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3(x)
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([three, double, F.max_pool2d(x, kernel_size=3, stride=2)], 1)


class InceptionC(nn.Module):
    """7×7 convolutions taken apart into 1×7 and 7×1."""

    def __init__(self, in_channels: int, channels_7x7: int) -> None:
        super().__init__()
        c7 = channels_7x7
        self.branch1x1 = _conv(in_channels, 192, 1)
        self.branch7x7_1 = _conv(in_channels, c7, 1)
        self.branch7x7_2 = _conv(c7, c7, (1, 7), same=True)
        self.branch7x7_3 = _conv(c7, 192, (7, 1), same=True)
        self.branch7x7dbl_1 = _conv(in_channels, c7, 1)
        self.branch7x7dbl_2 = _conv(c7, c7, (7, 1), same=True)
        self.branch7x7dbl_3 = _conv(c7, c7, (1, 7), same=True)
        self.branch7x7dbl_4 = _conv(c7, c7, (7, 1), same=True)
        self.branch7x7dbl_5 = _conv(c7, 192, (1, 7), same=True)
        self.branch_pool = _conv(in_channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.branch1x1(x)
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([one, seven, double, self.branch_pool(_mean3x3(x))], 1)


class InceptionD(nn.Module):
    """Halves the image: 3×3, 7×7 then 3×3, and a maximum."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch3x3_1 = _conv(in_channels, 192, 1)
        self.branch3x3_2 = _conv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = _conv(in_channels, 192, 1)
        self.branch7x7x3_2 = _conv(192, 192, (1, 7), same=True)
        self.branch7x7x3_3 = _conv(192, 192, (7, 1), same=True)
        self.branch7x7x3_4 = _conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([three, seven, F.max_pool2d(x, kernel_size=3, stride=2)], 1)


class InceptionE(nn.Module):
    """3×3 convolutions spread into 1×3 and 3×1 side by side."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch1x1 = _conv(in_channels, 320, 1)
        self.branch3x3_1 = _conv(in_channels, 384, 1)
        self.branch3x3_2a = _conv(384, 384, (1, 3), same=True)
        self.branch3x3_2b = _conv(384, 384, (3, 1), same=True)
        self.branch3x3dbl_1 = _conv(in_channels, 448, 1)
        self.branch3x3dbl_2 = _conv(448, 384, 3, same=True)
        self.branch3x3dbl_3a = _conv(384, 384, (1, 3), same=True)
        self.branch3x3dbl_3b = _conv(384, 384, (3, 1), same=True)
        self.branch_pool = _conv(in_channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.branch1x1(x)
        three = self.branch3x3_1(x)
        three = torch.cat([self.branch3x3_2a(three), self.branch3x3_2b(three)], 1)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        double = torch.cat([self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)], 1)
        return torch.cat([one, three, double, self.branch_pool(_mean3x3(x))], 1)


class InceptionAux(nn.Module):
    """A classifier on an inner layer, for training."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv0 = _conv(in_channels, 128, 1)
        self.conv1 = _conv(128, 768, 5)
        self.fc = nn.Linear(768, num_classes)
        self.fc.stddev = 0.001

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(self.conv0(F.avg_pool2d(x, kernel_size=5, stride=3)))
        return self.fc(F.adaptive_avg_pool2d(x, (1, 1)).flatten(1))


class Inception3(nn.Module):
    """Returns InceptionOutputs in training mode when `aux_logits`, else the logits.

    `transform_input` takes images normalised as torchvision's; the trained weights want another normalisation.
    """

    def __init__(
        self, num_classes: int = 1000, aux_logits: bool = True, transform_input: bool = False,
        init_weights: bool | None = None, dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if init_weights is None:
            warnings.warn(
                "Inception3: init_weights is not given; True (slow) is assumed, as torchvision does until it changes "
                "its default. Pass init_weights=True or False to say which.", FutureWarning,
            )
            init_weights = True
        self.aux_logits = aux_logits
        self.transform_input = transform_input
        self.Conv2d_1a_3x3 = _conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _conv(32, 32, 3)
        self.Conv2d_2b_3x3 = _conv(32, 64, 3, same=True)
        self.maxpool1 = nn.MaxPool2d(3, stride=2)
        self.Conv2d_3b_1x1 = _conv(64, 80, 1)
        self.Conv2d_4a_3x3 = _conv(80, 192, 3)
        self.maxpool2 = nn.MaxPool2d(3, stride=2)
        self.Mixed_5b = InceptionA(192, 32)
        self.Mixed_5c = InceptionA(256, 64)
        self.Mixed_5d = InceptionA(288, 64)
        self.Mixed_6a = InceptionB(288)
        self.Mixed_6b = InceptionC(768, 128)
        self.Mixed_6c = InceptionC(768, 160)
        self.Mixed_6d = InceptionC(768, 160)
        self.Mixed_6e = InceptionC(768, 192)
        self.AuxLogits = InceptionAux(768, num_classes) if aux_logits else None
        self.Mixed_7a = InceptionD(768)
        self.Mixed_7b = InceptionE(1280)
        self.Mixed_7c = InceptionE(2048)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2048, num_classes)
        if init_weights:
            initialize_truncated(self, 0.1)

    def forward(self, x: Tensor) -> Any:
        if self.transform_input:
            x = renormalize(x)
        x = self.maxpool1(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = self.maxpool2(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        aux = self.AuxLogits(x) if self.AuxLogits is not None and self.training else None
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        x = self.fc(self.dropout(self.avgpool(x)).flatten(1))
        return InceptionOutputs(x, aux) if self.training and self.aux_logits else x


def _drop_aux(network: Any, options: dict[str, Any]) -> None:
    """The file has the auxiliary classifier; leave it out where it is not wanted."""
    if not options.get("aux_logits", True):
        network.aux_logits = False
        network.AuxLogits = None


Inception_V3_Weights = imagenet_weights("Inception_V3_Weights")


@builder(
    Inception_V3_Weights, trained={"aux_logits": True, "init_weights": False},
    usual={"transform_input": True}, after=_drop_aux,
)
def inception_v3(**options: Any) -> Inception3:
    """Inception v3; options are the class's."""
    return Inception3(**options)
