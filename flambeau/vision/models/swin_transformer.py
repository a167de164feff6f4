"""Swin Transformer (Liu et al., 2021) and its second version (Liu et al., 2022)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import flambeau as torch
import flambeau.nn.functional as F
from flambeau import Tensor, nn
from flambeau.vision.models._api import builder, imagenet_weights
from flambeau.vision.models._blocks import relative_positions
from flambeau.vision.models._tracing import leaf
from flambeau.vision.ops import MLP, Permute, StochasticDepth

__all__ = [
    "SwinTransformer", "Swin_T_Weights", "Swin_S_Weights", "Swin_B_Weights", "Swin_V2_T_Weights",
    "Swin_V2_S_Weights", "Swin_V2_B_Weights", "swin_t", "swin_s", "swin_b", "swin_v2_t", "swin_v2_s", "swin_v2_b",
]

Norm = Callable[..., nn.Module]


@leaf
def _patch_merging_pad(x: Tensor) -> Tensor:
    """Squares of 2×2 pixels laid side by side: (..., H, W, C) -> (..., ⌈H/2⌉, ⌈W/2⌉, 4C)."""
    height, width = x.shape[-3], x.shape[-2]
    x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
    return torch.cat(
        [x[..., 0::2, 0::2, :], x[..., 1::2, 0::2, :], x[..., 0::2, 1::2, :], x[..., 1::2, 1::2, :]], -1
    )


class PatchMerging(nn.Module):
    """Half the resolution, twice the channels: (..., H, W, C) -> (..., ⌈H/2⌉, ⌈W/2⌉, 2C), normalised first."""

    def __init__(self, dim: int, norm_layer: Norm = nn.LayerNorm) -> None:
        super().__init__()
        self.dim = dim
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = norm_layer(4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        x = _patch_merging_pad(x)
        return self.reduction(self.norm(x))


class PatchMergingV2(nn.Module):
    """`PatchMerging` normalised last."""

    def __init__(self, dim: int, norm_layer: Norm = nn.LayerNorm) -> None:
        super().__init__()
        self.dim = dim
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = norm_layer(2 * dim)

    def forward(self, x: Tensor) -> Tensor:
        x = _patch_merging_pad(x)
        return self.norm(self.reduction(x))


@leaf
def _get_relative_position_bias(table: Tensor, index: Tensor, window_size: list[int]) -> Tensor:
    """The bias (1, heads, P, P) of each pair of places in a window of P places, from one row a relative position."""
    places = window_size[0] * window_size[1]
    return table[index].view(places, places, -1).permute(2, 0, 1).contiguous().unsqueeze(0)


def _strangers(rows: int, columns: int, window: list[int], shift: list[int], like: Tensor) -> Tensor:
    """-100 (windows, P, P) between places of a window that only the cyclic shift brought together, else 0."""
    region = like.new_zeros((rows, columns))
    number = 0
    for y in (slice(0, -window[0]), slice(-window[0], -shift[0]), slice(-shift[0], None)):
        for x in (slice(0, -window[1]), slice(-window[1], -shift[1]), slice(-shift[1], None)):
            region[y, x] = number
            number += 1
    region = region.view(rows // window[0], window[0], columns // window[1], window[1])
    region = region.permute(0, 2, 1, 3).reshape(-1, window[0] * window[1])
    apart = region.unsqueeze(1) - region.unsqueeze(2)
    return apart.masked_fill(apart != 0, -100.0)


@leaf
def shifted_window_attention(
    input: Tensor, qkv_weight: Tensor, proj_weight: Tensor, relative_position_bias: Tensor, window_size: list[int],
    num_heads: int, shift_size: list[int], attention_dropout: float = 0.0, dropout: float = 0.0,
    qkv_bias: Tensor | None = None, proj_bias: Tensor | None = None, logit_scale: Tensor | None = None,
    training: bool = True,
) -> Tensor:
    """Attention within windows of an image (N, H, W, C), which is first shifted around by `shift_size`.

    `relative_position_bias` (1, heads, P, P) is added to the scores. With `logit_scale` (heads, 1, 1) the scores are
    cosines times its exponential, as in the second version; the keys then have no bias.
    """
    n, height, width, channels = input.shape
    window_h, window_w = window_size
    x = F.pad(input, (0, 0, 0, -width % window_w, 0, -height % window_h))
    rows, columns = x.shape[1], x.shape[2]
    # An image of one window has nothing to exchange with others.
    shift = [0 if window >= side else step for window, side, step in zip(window_size, (rows, columns), shift_size)]
    if any(shift):
        x = torch.roll(x, shifts=(-shift[0], -shift[1]), dims=(1, 2))
    down, across = rows // window_h, columns // window_w
    x = x.view(n, down, window_h, across, window_w, channels).permute(0, 1, 3, 2, 4, 5)
    x = x.reshape(n * down * across, window_h * window_w, channels)  # (N·windows, P, C)

    if logit_scale is not None and qkv_bias is not None:
        third = qkv_bias.numel() // 3
        qkv_bias = torch.cat([qkv_bias[:third], torch.zeros_like(qkv_bias[:third]), qkv_bias[2 * third :]])
    qkv = F.linear(x, qkv_weight, qkv_bias).reshape(*x.shape[:2], 3, num_heads, channels // num_heads)
    query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (N·windows, heads, P, C/heads) each
    if logit_scale is not None:
        scores = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1)
        scores = scores * torch.clamp(logit_scale, max=math.log(100.0)).exp()
    else:
        scores = (query * (channels // num_heads) ** -0.5) @ key.transpose(-2, -1)
    scores = scores + relative_position_bias
    if any(shift):
        apart = _strangers(rows, columns, window_size, shift, x)
        scores = scores.view(n, down * across, num_heads, x.shape[1], x.shape[1]) + apart[None, :, None]
        scores = scores.view(-1, num_heads, x.shape[1], x.shape[1])
    weights = F.dropout(F.softmax(scores, dim=-1), p=attention_dropout, training=training)
    x = (weights @ value).transpose(1, 2).reshape(x.shape)
    x = F.dropout(F.linear(x, proj_weight, proj_bias), p=dropout, training=training)

    x = x.view(n, down, across, window_h, window_w, channels).permute(0, 1, 3, 2, 4, 5)
    x = x.reshape(n, rows, columns, channels)
    if any(shift):
        x = torch.roll(x, shifts=(shift[0], shift[1]), dims=(1, 2))
    return x[:, :height, :width, :].contiguous()


class ShiftedWindowAttention(nn.Module):
    """`shifted_window_attention` with its weights and one learned bias a relative position."""

    def __init__(
        self, dim: int, window_size: list[int], shift_size: list[int], num_heads: int, qkv_bias: bool = True,
        proj_bias: bool = True, attention_dropout: float = 0.0, dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(window_size) != 2 or len(shift_size) != 2:
            raise ValueError("window_size and shift_size must be of length 2")
        self.window_size = window_size
        self.shift_size = shift_size
        self.num_heads = num_heads
        self.attention_dropout = attention_dropout
        self.dropout = dropout
        self.qkv = nn.Linear(dim, dim * 3, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim, bias=proj_bias)
        self.define_relative_position_bias_table()
        self.register_buffer("relative_position_index", relative_positions(*window_size).flatten())

    def define_relative_position_bias_table(self) -> None:
        """The parameter (relative positions, heads)."""
        positions = (2 * self.window_size[0] - 1) * (2 * self.window_size[1] - 1)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(positions, self.num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def get_relative_position_bias(self) -> Tensor:
        """The bias (1, heads, P, P) of the scores."""
        return _get_relative_position_bias(
            self.relative_position_bias_table, self.relative_position_index, self.window_size
        )

    def forward(self, x: Tensor) -> Tensor:
        bias = self.get_relative_position_bias()
        return shifted_window_attention(
            x, self.qkv.weight, self.proj.weight, bias, self.window_size, self.num_heads, shift_size=self.shift_size,
            attention_dropout=self.attention_dropout, dropout=self.dropout, qkv_bias=self.qkv.bias,
            proj_bias=self.proj.bias, logit_scale=getattr(self, "logit_scale", None), training=self.training,
        )


class ShiftedWindowAttentionV2(ShiftedWindowAttention):
    """Attention by cosines, with the biases made by a small network from logarithms of the relative positions."""

    def __init__(
        self, dim: int, window_size: list[int], shift_size: list[int], num_heads: int, qkv_bias: bool = True,
        proj_bias: bool = True, attention_dropout: float = 0.0, dropout: float = 0.0,
    ) -> None:
        super().__init__(
            dim, window_size, shift_size, num_heads, qkv_bias, proj_bias, attention_dropout, dropout
        )
        self.logit_scale = nn.Parameter(torch.log(10 * torch.ones((num_heads, 1, 1))))
        self.cpb_mlp = nn.Sequential(nn.Linear(2, 512), nn.ReLU(inplace=True), nn.Linear(512, num_heads, bias=False))
        if qkv_bias:
            third = self.qkv.bias.numel() // 3
            self.qkv.bias.data[third : 2 * third].zero_()

    def define_relative_position_bias_table(self) -> None:
        """The buffer (1, 2·rows - 1, 2·columns - 1, 2): sign(d) log2(1 + 8 |d|) / 3 of the distances d in -1…1."""
        distances = [torch.arange(1 - side, side, dtype=torch.float32) / (side - 1) for side in self.window_size]
        table = torch.stack(torch.meshgrid(distances, indexing="ij")).permute(1, 2, 0).contiguous().unsqueeze(0) * 8
        self.register_buffer("relative_coords_table", torch.sign(table) * torch.log2(torch.abs(table) + 1.0) / 3.0)

    def get_relative_position_bias(self) -> Tensor:
        """The bias (1, heads, P, P) of the scores, between 0 and 16."""
        bias = _get_relative_position_bias(
            self.cpb_mlp(self.relative_coords_table).view(-1, self.num_heads), self.relative_position_index,
            self.window_size,
        )
        return 16 * torch.sigmoid(bias)


class SwinTransformerBlock(nn.Module):
    """Attention, then a small network, each normalised before and with a path around."""

    attention: type[ShiftedWindowAttention] = ShiftedWindowAttention

    def __init__(
        self, dim: int, num_heads: int, window_size: list[int], shift_size: list[int], mlp_ratio: float = 4.0,
        dropout: float = 0.0, attention_dropout: float = 0.0, stochastic_depth_prob: float = 0.0,
        norm_layer: Norm = nn.LayerNorm, attn_layer: Callable[..., nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = norm_layer(dim)
        self.attn = (attn_layer or self.attention)(
            dim, window_size, shift_size, num_heads, attention_dropout=attention_dropout, dropout=dropout
        )
        self.stochastic_depth = StochasticDepth(stochastic_depth_prob, "row")
        self.norm2 = norm_layer(dim)
        self.mlp = MLP(dim, [int(dim * mlp_ratio), dim], activation_layer=nn.GELU, inplace=None, dropout=dropout)
        for module in self.mlp.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.normal_(module.bias, std=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.stochastic_depth(self.attn(self.norm1(x)))
        return x + self.stochastic_depth(self.mlp(self.norm2(x)))


class SwinTransformerBlockV2(SwinTransformerBlock):
    """The second version's block: normalised after the attention and after the small network."""

    attention = ShiftedWindowAttentionV2

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.stochastic_depth(self.norm1(self.attn(x)))
        return x + self.stochastic_depth(self.norm2(self.mlp(x)))


class SwinTransformer(nn.Module):
    """Stages of windowed attention over patches, halving the resolution between them.

    Args:
        patch_size, window_size: (height, width).
        depths, num_heads: blocks and heads of each stage.
        norm_layer: default LayerNorm with eps 1e-5.
        block, downsample_layer: `SwinTransformerBlock` and `PatchMerging`, or the second version's.
    """

    def __init__(
        self, patch_size: list[int], embed_dim: int, depths: list[int], num_heads: list[int], window_size: list[int],
        mlp_ratio: float = 4.0, dropout: float = 0.0, attention_dropout: float = 0.0,
        stochastic_depth_prob: float = 0.1, num_classes: int = 1000, norm_layer: Norm | None = None,
        block: Callable[..., nn.Module] | None = None, downsample_layer: Callable[..., nn.Module] = PatchMerging,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        norm, make = norm_layer or partial(nn.LayerNorm, eps=1e-5), block or SwinTransformerBlock
        size = (patch_size[0], patch_size[1])
        layers: list[nn.Module] = [
            nn.Sequential(nn.Conv2d(3, embed_dim, size, stride=size), Permute([0, 2, 3, 1]), norm(embed_dim))
        ]
        total, done, dim = sum(depths), 0, embed_dim
        for stage, depth in enumerate(depths):
            if stage:
                layers.append(downsample_layer(dim, norm))
                dim *= 2
            blocks = []
            for i in range(depth):
                blocks.append(make(
                    dim, num_heads[stage], window_size=window_size,
                    shift_size=[side // 2 if i % 2 else 0 for side in window_size], mlp_ratio=mlp_ratio,
                    dropout=dropout, attention_dropout=attention_dropout,
                    stochastic_depth_prob=stochastic_depth_prob * float(done) / (total - 1), norm_layer=norm,
                ))
                done += 1
            layers.append(nn.Sequential(*blocks))
        self.features = nn.Sequential(*layers)
        self.norm = norm(dim)
        self.permute = Permute([0, 3, 1, 2])
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten(1)
        self.head = nn.Linear(dim, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.permute(self.norm(self.features(x)))
        return self.head(self.flatten(self.avgpool(x)))


def _swin(
    version: int, embed_dim: int, blocks: int, heads: int, stochastic_depth_prob: float, options: dict[str, Any]
) -> SwinTransformer:
    """Four stages of 2, 2, `blocks` and 2 blocks; windows of 7×7 or, in version 2, 8×8."""
    settings: dict[str, Any] = {"stochastic_depth_prob": stochastic_depth_prob, "window_size": [7, 7]}
    if version == 2:
        settings.update(window_size=[8, 8], block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2)
    return SwinTransformer(
        patch_size=[4, 4], embed_dim=embed_dim, depths=[2, 2, blocks, 2],
        num_heads=[heads, 2 * heads, 4 * heads, 8 * heads], **{**settings, **options},
    )


Swin_T_Weights = imagenet_weights("Swin_T_Weights")
Swin_S_Weights = imagenet_weights("Swin_S_Weights")
Swin_B_Weights = imagenet_weights("Swin_B_Weights")
Swin_V2_T_Weights = imagenet_weights("Swin_V2_T_Weights")
Swin_V2_S_Weights = imagenet_weights("Swin_V2_S_Weights")
Swin_V2_B_Weights = imagenet_weights("Swin_V2_B_Weights")


@builder(Swin_T_Weights)
def swin_t(**options: Any) -> SwinTransformer:
    """Swin Tiny; options are SwinTransformer's from `mlp_ratio` on."""
    return _swin(1, 96, 6, 3, 0.2, options)


@builder(Swin_S_Weights)
def swin_s(**options: Any) -> SwinTransformer:
    """Swin Small."""
    return _swin(1, 96, 18, 3, 0.3, options)


@builder(Swin_B_Weights)
def swin_b(**options: Any) -> SwinTransformer:
    """Swin Base."""
    return _swin(1, 128, 18, 4, 0.5, options)


@builder(Swin_V2_T_Weights)
def swin_v2_t(**options: Any) -> SwinTransformer:
    """Swin V2 Tiny."""
    return _swin(2, 96, 6, 3, 0.2, options)


@builder(Swin_V2_S_Weights)
def swin_v2_s(**options: Any) -> SwinTransformer:
    """Swin V2 Small."""
    return _swin(2, 96, 18, 3, 0.3, options)


@builder(Swin_V2_B_Weights)
def swin_v2_b(**options: Any) -> SwinTransformer:
    """Swin V2 Base."""
    return _swin(2, 128, 18, 4, 0.5, options)
