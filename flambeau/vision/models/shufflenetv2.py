"""ShuffleNetV2 (Ma et al., 2018)."""

from __future__ import annotations

from typing import Any

import flambeau as torch
from flambeau import Tensor, nn
from flambeau.vision.models._api import builder, imagenet_weights

__all__ = [
    "ShuffleNetV2", "ShuffleNet_V2_X0_5_Weights", "ShuffleNet_V2_X1_0_Weights", "ShuffleNet_V2_X1_5_Weights",
    "ShuffleNet_V2_X2_0_Weights", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5",
    "shufflenet_v2_x2_0",
]


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Deal the channels of `groups` groups out in turn: (N, groups·k, H, W) -> the same shape."""
    n, channels, height, width = x.size()
    x = x.view(n, groups, channels // groups, height, width)
    return x.transpose(1, 2).contiguous().view(n, channels, height, width)


def _depthwise(channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)


class InvertedResidual(nn.Module):
    """Half of the channels pass (or, with a stride, go through a branch of their own), half are convolved."""

    def __init__(self, inp: int, oup: int, stride: int) -> None:
        super().__init__()
        if not 1 <= stride <= 3:
            raise ValueError(f"illegal stride value {stride}: 1 to 3 expected")
        half = oup // 2
        if stride == 1 and inp != half * 2:
            raise ValueError(f"with stride 1 the channels stay: got {inp} in, {oup} out")
        self.stride = stride
        self.branch1 = nn.Sequential()
        if stride > 1:
            self.branch1 = nn.Sequential(
                _depthwise(inp, stride), nn.BatchNorm2d(inp),
                nn.Conv2d(inp, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU(inplace=True),
            )
        self.branch2 = nn.Sequential(
            nn.Conv2d(inp if stride > 1 else half, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU(inplace=True),
            _depthwise(half, stride), nn.BatchNorm2d(half),
            nn.Conv2d(half, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            passing, worked = x.chunk(2, dim=1)
        else:
            passing, worked = self.branch1(x), x
        return channel_shuffle(torch.cat((passing, self.branch2(worked)), 1), 2)


class ShuffleNetV2(nn.Module):
    """Three stages of `stages_repeats` blocks; `stages_out_channels` counts the stem's, the stages' and the head's."""

    def __init__(
        self, stages_repeats: list[int], stages_out_channels: list[int], num_classes: int = 1000
    ) -> None:
        super().__init__()
        if len(stages_repeats) != 3:
            raise ValueError("expected stages_repeats as list of 3 positive ints")
        if len(stages_out_channels) != 5:
            raise ValueError("expected stages_out_channels as list of 5 positive ints")
        stem, *widths, head = stages_out_channels
        self.conv1 = nn.Sequential(nn.Conv2d(3, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem), nn.ReLU(inplace=True))
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        stages, channels = [], stem
        for repeats, width in zip(stages_repeats, widths):
            blocks = [InvertedResidual(channels, width, 2)]
            blocks += [InvertedResidual(width, width, 1) for _ in range(repeats - 1)]
            stages.append(nn.Sequential(*blocks))
            channels = width
        self.stage2, self.stage3, self.stage4 = stages
        self.conv5 = nn.Sequential(
            nn.Conv2d(channels, head, 1, bias=False), nn.BatchNorm2d(head), nn.ReLU(inplace=True)
        )
        self.fc = nn.Linear(head, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage4(self.stage3(self.stage2(self.maxpool(self.conv1(x)))))
        return self.fc(self.conv5(x).mean([2, 3]))


ShuffleNet_V2_X0_5_Weights = imagenet_weights("ShuffleNet_V2_X0_5_Weights")
ShuffleNet_V2_X1_0_Weights = imagenet_weights("ShuffleNet_V2_X1_0_Weights")
ShuffleNet_V2_X1_5_Weights = imagenet_weights("ShuffleNet_V2_X1_5_Weights")
ShuffleNet_V2_X2_0_Weights = imagenet_weights("ShuffleNet_V2_X2_0_Weights")


@builder(ShuffleNet_V2_X0_5_Weights)
def shufflenet_v2_x0_5(**options: Any) -> ShuffleNetV2:
    """ShuffleNetV2 at half the width; option `num_classes`."""
    return ShuffleNetV2([4, 8, 4], [24, 48, 96, 192, 1024], **options)


@builder(ShuffleNet_V2_X1_0_Weights)
def shufflenet_v2_x1_0(**options: Any) -> ShuffleNetV2:
    """ShuffleNetV2 at the paper's width."""
    return ShuffleNetV2([4, 8, 4], [24, 116, 232, 464, 1024], **options)


@builder(ShuffleNet_V2_X1_5_Weights)
def shufflenet_v2_x1_5(**options: Any) -> ShuffleNetV2:
    """ShuffleNetV2 at 1.5 times the width."""
    return ShuffleNetV2([4, 8, 4], [24, 176, 352, 704, 1024], **options)


@builder(ShuffleNet_V2_X2_0_Weights)
def shufflenet_v2_x2_0(**options: Any) -> ShuffleNetV2:
    """ShuffleNetV2 at twice the width."""
    return ShuffleNetV2([4, 8, 4], [24, 244, 488, 976, 2048], **options)
