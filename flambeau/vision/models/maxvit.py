"""MaxViT (Tu et al., "MaxViT: Multi-axis vision transformer", 2022)."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import flambeau as torch
import flambeau.nn.functional as F
from flambeau import Tensor, nn
from flambeau.vision.models._api import builder, imagenet_weights
from flambeau.vision.models._blocks import relative_positions
from flambeau.vision.ops import Conv2dNormActivation, SqueezeExcitation, StochasticDepth

__all__ = ["MaxVit", "MaxVit_T_Weights", "maxvit_t"]

Layer = Callable[..., nn.Module]


def _halved(size: tuple[int, int]) -> tuple[int, int]:
    """The size after a 3×3 convolution of stride 2 and padding 1."""
    return (size[0] - 1) // 2 + 1, (size[1] - 1) // 2 + 1


class MBConv(nn.Module):
    """Normalise, widen, convolve each channel, squeeze and excite, narrow; with a path around, projected if need be."""

    def __init__(
        self, in_channels: int, out_channels: int, expansion_ratio: float, squeeze_ratio: float, stride: int,
        activation_layer: Layer, norm_layer: Layer, p_stochastic_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.proj: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            narrow = nn.Conv2d(in_channels, out_channels, 1, bias=True)
            pool = [nn.AvgPool2d(3, stride=stride, padding=1)] if stride == 2 else []
            self.proj = nn.Sequential(*pool, narrow)
        drops = p_stochastic_dropout
        self.stochastic_depth = StochasticDepth(drops, mode="row") if drops else nn.Identity()
        wide, squeezed = int(out_channels * expansion_ratio), int(out_channels * squeeze_ratio)
        common: dict[str, Any] = {
            "activation_layer": activation_layer, "norm_layer": norm_layer, "inplace": None,
        }
        self.layers = nn.Sequential(OrderedDict(
            pre_norm=norm_layer(in_channels),
            conv_a=Conv2dNormActivation(in_channels, wide, 1, **common),
            conv_b=Conv2dNormActivation(wide, wide, 3, stride, groups=wide, **common),
            squeeze_excitation=SqueezeExcitation(wide, squeezed, activation=nn.SiLU),
            conv_c=nn.Conv2d(wide, out_channels, 1, bias=True),
        ))

    def forward(self, x: Tensor) -> Tensor:
        around = self.proj(x)
        return around + self.stochastic_depth(self.layers(x))


class RelativePositionalMultiHeadAttention(nn.Module):
    """Attention among the P places of each group (B, G, P, D), with one learned bias a relative position."""

    def __init__(self, feat_dim: int, head_dim: int, max_seq_len: int) -> None:
        super().__init__()
        if feat_dim % head_dim:
            raise ValueError(f"feat_dim: {feat_dim} must be divisible by head_dim: {head_dim}")
        self.n_heads = feat_dim // head_dim
        self.head_dim = head_dim
        self.size = int(math.sqrt(max_seq_len))
        self.max_seq_len = max_seq_len
        self.to_qkv = nn.Linear(feat_dim, self.n_heads * self.head_dim * 3)
        self.scale_factor = feat_dim**-0.5
        self.merge = nn.Linear(self.head_dim * self.n_heads, feat_dim)
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * self.size - 1) ** 2, self.n_heads))
        self.register_buffer("relative_position_index", relative_positions(self.size, self.size))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def get_relative_positional_bias(self) -> Tensor:
        """The bias (1, heads, P, P) of the scores."""
        index = self.relative_position_index.view(-1)
        bias = self.relative_position_bias_table[index].view(self.max_seq_len, self.max_seq_len, -1)
        return bias.permute(2, 0, 1).contiguous().unsqueeze(0)

    def forward(self, x: Tensor) -> Tensor:
        B, G, P, D = x.shape
        H, DH = self.n_heads, self.head_dim
        query, key, value = torch.chunk(self.to_qkv(x), 3, dim=-1)
        query = query.reshape(B, G, P, H, DH).permute(0, 1, 3, 2, 4)
        key = key.reshape(B, G, P, H, DH).permute(0, 1, 3, 2, 4)
        value = value.reshape(B, G, P, H, DH).permute(0, 1, 3, 2, 4)
        key = key * self.scale_factor
        scores = torch.einsum("B G H I D, B G H J D -> B G H I J", query, key)
        bias = self.get_relative_positional_bias()
        weights = F.softmax(scores + bias, dim=-1)
        out = torch.einsum("B G H I J, B G H J D -> B G H I D", weights, value)
        return self.merge(out.permute(0, 1, 3, 2, 4).reshape(B, G, P, D))


class SwapAxes(nn.Module):
    """Exchange two dimensions."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.a = a
        self.b = b

    def forward(self, x: Tensor) -> Tensor:
        return torch.swapaxes(x, self.a, self.b)


class WindowPartition(nn.Module):
    """Windows of p×p pixels: (B, C, H, W) -> (B, H/p * W/p, p², C)."""

    def forward(self, x: Tensor, p: int) -> Tensor:
        B, C, H, W = x.shape
        x = x.reshape(B, C, H // p, p, W // p, p).permute(0, 2, 4, 3, 5, 1)
        return x.reshape(B, (H // p) * (W // p), p * p, C)


class WindowDepartition(nn.Module):
    """The image (B, C, H, W) of its windows of p×p pixels, of which there are so many down and across."""

    def forward(self, x: Tensor, p: int, h_partitions: int, w_partitions: int) -> Tensor:
        B, _, _, C = x.shape
        x = x.reshape(B, h_partitions, w_partitions, p, p, C).permute(0, 5, 1, 3, 2, 4)
        return x.reshape(B, C, h_partitions * p, w_partitions * p)


class PartitionAttentionLayer(nn.Module):
    """Attention within windows ("window"), or among pixels at the same place of all windows ("grid"); then an MLP."""

    def __init__(
        self, in_channels: int, head_dim: int, partition_size: int, partition_type: str, grid_size: tuple[int, int],
        mlp_ratio: int, activation_layer: Layer, norm_layer: Layer, attention_dropout: float, mlp_dropout: float,
        p_stochastic_dropout: float,
    ) -> None:
        super().__init__()
        if partition_type not in ("grid", "window"):
            raise ValueError("partition_type must be either 'grid' or 'window'")
        self.n_heads = in_channels // head_dim
        self.head_dim = head_dim
        self.n_partitions = grid_size[0] // partition_size
        self.partition_type = partition_type
        self.grid_size = grid_size
        grid = partition_type == "grid"
        self.p, self.g = (self.n_partitions, partition_size) if grid else (partition_size, self.n_partitions)
        if grid_size[0] % self.p or grid_size[1] % self.p:
            raise ValueError(f"Grid size must be divisible by partition size. Got {grid_size} and {self.p}")
        self.partition_op = WindowPartition()
        self.departition_op = WindowDepartition()
        self.partition_swap = SwapAxes(-2, -3) if grid else nn.Identity()
        self.departition_swap = SwapAxes(-2, -3) if grid else nn.Identity()
        self.attn_layer = nn.Sequential(
            norm_layer(in_channels), RelativePositionalMultiHeadAttention(in_channels, head_dim, partition_size**2),
            nn.Dropout(attention_dropout),
        )
        self.mlp_layer = nn.Sequential(
            nn.LayerNorm(in_channels), nn.Linear(in_channels, in_channels * mlp_ratio), activation_layer(),
            nn.Linear(in_channels * mlp_ratio, in_channels), nn.Dropout(mlp_dropout),
        )
        self.stochastic_dropout = StochasticDepth(p_stochastic_dropout, mode="row")

    def forward(self, x: Tensor) -> Tensor:
        x = self.partition_swap(self.partition_op(x, self.p))
        x = x + self.stochastic_dropout(self.attn_layer(x))
        x = x + self.stochastic_dropout(self.mlp_layer(x))
        down, across = self.grid_size[0] // self.p, self.grid_size[1] // self.p
        return self.departition_op(self.departition_swap(x), self.p, down, across)


class MaxVitLayer(nn.Module):
    """MBConv, attention in windows, attention in the grid."""

    def __init__(
        self, in_channels: int, out_channels: int, squeeze_ratio: float, expansion_ratio: float, stride: int,
        norm_layer: Layer, activation_layer: Layer, head_dim: int, mlp_ratio: int, mlp_dropout: float,
        attention_dropout: float, p_stochastic_dropout: float, partition_size: int, grid_size: tuple[int, int],
    ) -> None:
        super().__init__()

        def attention(kind: str) -> PartitionAttentionLayer:
            return PartitionAttentionLayer(
                out_channels, head_dim, partition_size, kind, grid_size, mlp_ratio, activation_layer, nn.LayerNorm,
                attention_dropout, mlp_dropout, p_stochastic_dropout,
            )

        convolution = MBConv(
            in_channels, out_channels, expansion_ratio, squeeze_ratio, stride, activation_layer, norm_layer,
            p_stochastic_dropout,
        )
        self.layers = nn.Sequential(OrderedDict(
            MBconv=convolution, window_attention=attention("window"), grid_attention=attention("grid")
        ))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class MaxVitBlock(nn.Module):
    """Layers of one resolution, the first of which halves the image; `p_stochastic` has one probability a layer."""

    def __init__(
        self, in_channels: int, out_channels: int, squeeze_ratio: float, expansion_ratio: float, norm_layer: Layer,
        activation_layer: Layer, head_dim: int, mlp_ratio: int, mlp_dropout: float, attention_dropout: float,
        partition_size: int, input_grid_size: tuple[int, int], n_layers: int, p_stochastic: list[float],
    ) -> None:
        super().__init__()
        if len(p_stochastic) != n_layers:
            raise ValueError(f"p_stochastic must have length n_layers={n_layers}, got p_stochastic={p_stochastic}.")
        self.grid_size = _halved(input_grid_size)
        self.layers = nn.ModuleList(
            MaxVitLayer(
                out_channels if i else in_channels, out_channels, squeeze_ratio, expansion_ratio, 1 if i else 2,
                norm_layer, activation_layer, head_dim, mlp_ratio, mlp_dropout, attention_dropout, p, partition_size,
                self.grid_size,
            )
            for i, p in enumerate(p_stochastic)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class MaxVit(nn.Module):
    """Convolutions and attention along two axes, for images of the one size `input_size` (height, width).

    Args:
        stem_channels: width of the stem.
        partition_size: side of the windows and of the grid; must divide each block's resolution, else ValueError.
        block_channels, block_layers: width and layers of each block, which halves the resolution.
        stochastic_depth_prob: of the last layer; the others' grow towards it.
        norm_layer: of the convolutions; default BatchNorm2d with eps 1e-3 and momentum 0.01.
    """

    def __init__(
        self, input_size: tuple[int, int], stem_channels: int, partition_size: int, block_channels: list[int],
        block_layers: list[int], head_dim: int, stochastic_depth_prob: float, norm_layer: Layer | None = None,
        activation_layer: Layer = nn.GELU, squeeze_ratio: float = 0.25, expansion_ratio: float = 4, mlp_ratio: int = 4,
        mlp_dropout: float = 0.0, attention_dropout: float = 0.0, num_classes: int = 1000,
    ) -> None:
        super().__init__()
        norm = norm_layer or partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)
        self.stem = nn.Sequential(
            Conv2dNormActivation(
                3, stem_channels, 3, stride=2, norm_layer=norm, activation_layer=activation_layer, bias=False,
                inplace=None,
            ),
            Conv2dNormActivation(stem_channels, stem_channels, 3, norm_layer=None, activation_layer=None, bias=True),
        )
        self.partition_size = partition_size
        self.blocks = nn.ModuleList()
        drops = np.linspace(0, stochastic_depth_prob, sum(block_layers)).tolist()
        size, channels = _halved(input_size), stem_channels
        for number, (width, depth) in enumerate(zip(block_channels, block_layers, strict=True)):
            here = _halved(size)
            if here[0] % partition_size or here[1] % partition_size:
                raise ValueError(
                    f"Input size {here} of block {number} is not divisible by partition size {partition_size}. "
                    "Consider changing the partition size or the input size."
                )
            self.blocks.append(MaxVitBlock(
                channels, width, squeeze_ratio, expansion_ratio, norm, activation_layer, head_dim, mlp_ratio,
                mlp_dropout, attention_dropout, partition_size, size, depth, drops[:depth],
            ))
            size, channels, drops = here, width, drops[depth:]
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(channels), nn.Linear(channels, channels), nn.Tanh(),
            nn.Linear(channels, num_classes, bias=False),
        )
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.classifier(x)


MaxVit_T_Weights = imagenet_weights("MaxVit_T_Weights")


@builder(MaxVit_T_Weights, sized=lambda min_size: {"input_size": min_size})
def maxvit_t(**options: Any) -> MaxVit:
    """MaxViT Tiny; options `input_size` (224, 224) and the class's from `norm_layer` on."""
    return MaxVit(**{
        "input_size": (224, 224), "stem_channels": 64, "block_channels": [64, 128, 256, 512],
        "block_layers": [2, 2, 5, 2], "head_dim": 32, "stochastic_depth_prob": 0.2, "partition_size": 7, **options,
    })
