"""Vision Transformer (Dosovitskiy et al., "An image is worth 16×16 words", 2020)."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import flambeau as torch
from flambeau import Tensor, nn
from flambeau.vision.models._api import builder, imagenet_weights
from flambeau.vision.models._tracing import require
from flambeau.vision.ops import MLP

__all__ = [
    "VisionTransformer", "ViT_B_16_Weights", "ViT_B_32_Weights", "ViT_L_16_Weights", "ViT_L_32_Weights",
    "ViT_H_14_Weights",
    "vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32", "vit_h_14",
]

Norm = Callable[..., nn.Module]


class MLPBlock(MLP):
    """The two linear layers of an encoder block."""

    def __init__(self, in_dim: int, mlp_dim: int, dropout: float) -> None:
        super().__init__(in_dim, [mlp_dim, in_dim], activation_layer=nn.GELU, inplace=None, dropout=dropout)
        for layer in (self[0], self[3]):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.normal_(layer.bias, std=1e-6)


class EncoderBlock(nn.Module):
    """Attention, then a small network, each normalised before and with a path around."""

    def __init__(
        self, num_heads: int, hidden_dim: int, mlp_dim: int, dropout: float, attention_dropout: float,
        norm_layer: Norm,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.ln_1 = norm_layer(hidden_dim)
        self.self_attention = nn.MultiheadAttention(hidden_dim, num_heads, dropout=attention_dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.ln_2 = norm_layer(hidden_dim)
        self.mlp = MLPBlock(hidden_dim, mlp_dim, dropout)

    def forward(self, x: Tensor) -> Tensor:
        require(x.dim() == 3, f"Expected (batch_size, seq_length, hidden_dim) got {x.shape}")
        seen = self.ln_1(x)
        attended, _ = self.self_attention(seen, seen, seen, need_weights=False)
        x = self.dropout(attended) + x
        return x + self.mlp(self.ln_2(x))


class Encoder(nn.Module):
    """Positions and encoder blocks, for tokens (N, seq_length, hidden_dim)."""

    def __init__(
        self, seq_length: int, num_layers: int, num_heads: int, hidden_dim: int, mlp_dim: int, dropout: float,
        attention_dropout: float, norm_layer: Norm,
    ) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.empty(1, seq_length, hidden_dim).normal_(std=0.02))
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential(OrderedDict(
            (f"encoder_layer_{i}",
             EncoderBlock(num_heads, hidden_dim, mlp_dim, dropout, attention_dropout, norm_layer))
            for i in range(num_layers)
        ))
        self.ln = norm_layer(hidden_dim)

    def forward(self, x: Tensor) -> Tensor:
        require(x.dim() == 3, f"Expected (batch_size, seq_length, hidden_dim) got {x.shape}")
        return self.ln(self.layers(self.dropout(x + self.pos_embedding)))


class VisionTransformer(nn.Module):
    """Patches of an image as tokens, with a class token in front whose last state is classified."""

    def __init__(
        self, image_size: int, patch_size: int, num_layers: int, num_heads: int, hidden_dim: int, mlp_dim: int,
        dropout: float = 0.0, attention_dropout: float = 0.0, num_classes: int = 1000,
        representation_size: int | None = None, norm_layer: Norm = partial(nn.LayerNorm, eps=1e-6),
    ) -> None:
        super().__init__()
        if image_size % patch_size:
            raise ValueError(f"the image's side {image_size} is not a multiple of the patch's, {patch_size}")
        self.image_size = image_size
        self.patch_size = patch_size
        self.hidden_dim = hidden_dim
        self.conv_proj = nn.Conv2d(3, hidden_dim, patch_size, stride=patch_size)
        self.seq_length = (image_size // patch_size) ** 2 + 1
        self.class_token = nn.Parameter(torch.zeros(1, 1, hidden_dim))
        self.encoder = Encoder(
            self.seq_length, num_layers, num_heads, hidden_dim, mlp_dim, dropout, attention_dropout, norm_layer
        )
        heads: OrderedDict[str, nn.Module] = OrderedDict()
        if representation_size is not None:
            heads["pre_logits"] = nn.Linear(hidden_dim, representation_size)
            heads["act"] = nn.Tanh()
        head = heads["head"] = nn.Linear(representation_size or hidden_dim, num_classes)
        self.heads = nn.Sequential(heads)
        nn.init.trunc_normal_(self.conv_proj.weight, std=math.sqrt(1 / (3 * patch_size**2)))
        nn.init.zeros_(self.conv_proj.bias)  # type: ignore[arg-type]
        if representation_size is not None:
            nn.init.trunc_normal_(heads["pre_logits"].weight, std=math.sqrt(1 / hidden_dim))
            nn.init.zeros_(heads["pre_logits"].bias)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)

    def forward(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        side, patch = self.image_size, self.patch_size
        require(height == side, f"wrong image height: expected {side}, got {height}")
        require(width == side, f"wrong image width: expected {side}, got {width}")
        down, across = height // patch, width // patch
        tokens = self.conv_proj(x).reshape(n, self.hidden_dim, down * across).permute(0, 2, 1)
        n = tokens.shape[0]
        tokens = torch.cat([self.class_token.expand(n, -1, -1), tokens], 1)
        return self.heads(self.encoder(tokens)[:, 0])


ViT_B_16_Weights = imagenet_weights("ViT_B_16_Weights")
ViT_B_32_Weights = imagenet_weights("ViT_B_32_Weights")
ViT_L_16_Weights = imagenet_weights("ViT_L_16_Weights")
ViT_L_32_Weights = imagenet_weights("ViT_L_32_Weights")
ViT_H_14_Weights = imagenet_weights("ViT_H_14_Weights")


def _image_size(min_size: tuple[int, int]) -> dict[str, Any]:
    return {"image_size": min_size[0]}


def _vit(patch_size: int, layers: int, heads: int, hidden: int, options: dict[str, Any]) -> VisionTransformer:
    return VisionTransformer(
        patch_size=patch_size, num_layers=layers, num_heads=heads, hidden_dim=hidden, mlp_dim=4 * hidden,
        **{"image_size": 224, **options},
    )


@builder(ViT_B_16_Weights, sized=_image_size)
def vit_b_16(**options: Any) -> VisionTransformer:
    """ViT Base with patches of 16×16; options `image_size` and the class's from `dropout` on."""
    return _vit(16, 12, 12, 768, options)


@builder(ViT_B_32_Weights, sized=_image_size)
def vit_b_32(**options: Any) -> VisionTransformer:
    """ViT Base with patches of 32×32."""
    return _vit(32, 12, 12, 768, options)


@builder(ViT_L_16_Weights, sized=_image_size)
def vit_l_16(**options: Any) -> VisionTransformer:
    """ViT Large with patches of 16×16."""
    return _vit(16, 24, 16, 1024, options)


@builder(ViT_L_32_Weights, sized=_image_size)
def vit_l_32(**options: Any) -> VisionTransformer:
    """ViT Large with patches of 32×32."""
    return _vit(32, 24, 16, 1024, options)


@builder(ViT_H_14_Weights, sized=_image_size)
def vit_h_14(**options: Any) -> VisionTransformer:
    """ViT Huge with patches of 14×14."""
    return _vit(14, 32, 16, 1280, options)
