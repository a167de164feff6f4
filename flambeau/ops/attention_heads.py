"""Multi-head attention with its projections: the function behind `nn.MultiheadAttention`."""

from __future__ import annotations

import math
import warnings
from typing import Any

from flambeau.core import dtype as dtypes
from flambeau.core.tensor import Tensor
from flambeau.ops.attention import scaled_dot_product_attention
from flambeau.ops.creation import zeros, zeros_like
from flambeau.ops.dropout import dropout
from flambeau.ops.joining import cat
from flambeau.ops.matmul import baddbmm, bmm, linear
from flambeau.ops.padding import pad
from flambeau.ops.softmax import softmax

__all__ = ["multi_head_attention_forward"]


def multi_head_attention_forward(
        query: Tensor, key: Tensor, value: Tensor, embed_dim_to_check: int, num_heads: int,
        in_proj_weight: Tensor | None, in_proj_bias: Tensor | None, bias_k: Tensor | None, bias_v: Tensor | None,
        add_zero_attn: bool, dropout_p: float, out_proj_weight: Tensor, out_proj_bias: Tensor | None,
        training: bool = True, key_padding_mask: Tensor | None = None, need_weights: bool = True,
        attn_mask: Tensor | None = None, use_separate_proj_weight: bool = False, q_proj_weight: Tensor | None = None,
        k_proj_weight: Tensor | None = None, v_proj_weight: Tensor | None = None, static_k: Tensor | None = None,
        static_v: Tensor | None = None, average_attn_weights: bool = True,
        is_causal: bool = False) -> tuple[Tensor, Tensor | None]:
    """Projects query (L, N, E), key and value (S, N, ·), attends in num_heads subspaces, projects back.

    Masks: bool (True is not attended) or added floats; attn_mask (L, S) or (N·num_heads, L, S), key_padding_mask
    (N, S). Returns the output (L, N, E) and the weights (N, L, S), per head unless averaged, or None. Unbatched
    inputs lack N. Raises AssertionError or RuntimeError for shapes that do not fit.
    """
    batched = _check_shapes(query, key, value, key_padding_mask, attn_mask, num_heads)
    if is_causal and attn_mask is None:
        raise RuntimeError("Need attn_mask if specifying the is_causal hint. You may use the Transformer module method "
                           "`generate_square_subsequent_mask` to create this mask.")
    if not batched:
        same = key is value
        query, key = query.unsqueeze(1), key.unsqueeze(1)
        value = key if same else value.unsqueeze(1)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    length, batch, embed_dim = query.shape
    if embed_dim != embed_dim_to_check:
        raise AssertionError(f"was expecting embedding dimension of {embed_dim_to_check}, but got {embed_dim}")
    head_dim = embed_dim // num_heads
    if head_dim * num_heads != embed_dim:
        raise AssertionError(f"embed_dim {embed_dim} not divisible by num_heads {num_heads}")

    key_padding_mask = _additive(key_padding_mask, "key_padding_mask", query.dtype, attn_mask)
    use_causal = is_causal and key_padding_mask is None and not need_weights
    attn_mask = None if use_causal else _additive(attn_mask, "attn_mask", query.dtype)
    if attn_mask is not None:
        attn_mask = _three_dimensional(attn_mask, length, key.shape[0], batch * num_heads)

    if use_separate_proj_weight:
        if key.shape[:2] != value.shape[:2]:
            raise AssertionError(f"key's sequence and batch dims {key.shape[:2]} do not match value's "
                                 f"{value.shape[:2]}")
        biases = (None, None, None) if in_proj_bias is None else in_proj_bias.chunk(3)
        weights = (q_proj_weight, k_proj_weight, v_proj_weight)
        q, k, v = (linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases))
    else:
        if key.shape != value.shape:
            raise AssertionError(f"key shape {key.shape} does not match value shape {value.shape}")
        q, k, v = _project(query, key, value, in_proj_weight, in_proj_bias)

    if bias_k is not None and bias_v is not None:
        if static_k is not None or static_v is not None:
            raise AssertionError("bias cannot be added to static key or value.")
        k = cat([k, bias_k.repeat(1, batch, 1)])
        v = cat([v, bias_v.repeat(1, batch, 1)])
        attn_mask, key_padding_mask = _one_more(attn_mask), _one_more(key_padding_mask)
    elif bias_k is not None or bias_v is not None:
        raise AssertionError("bias_k and bias_v must both be given, or neither")

    heads = batch * num_heads
    q = q.reshape(length, heads, head_dim).transpose(0, 1)                      # (N·heads, L, head_dim)
    k = _static(static_k, "static_k", heads, head_dim, k)                       # (N·heads, S, head_dim)
    v = _static(static_v, "static_v", heads, head_dim, v)
    if add_zero_attn:
        nothing = zeros(heads, 1, head_dim, dtype=k.dtype, device=k.device)
        k, v = cat([k, nothing], dim=1), cat([v, nothing], dim=1)
        attn_mask, key_padding_mask = _one_more(attn_mask), _one_more(key_padding_mask)
    source = k.size(1)
    if key_padding_mask is not None:
        if tuple(key_padding_mask.shape) != (batch, source):
            raise AssertionError(f"Expected key_padded_mask.shape of {(batch, source)}, but got "
                                 f"{tuple(key_padding_mask.shape)}")
        padding = key_padding_mask.reshape(batch, 1, 1, source).expand(-1, num_heads, -1, -1)
        padding = padding.reshape(heads, 1, source)
        attn_mask = padding if attn_mask is None else attn_mask + padding
    probability = dropout_p if training else 0.0

    if not need_weights:
        if attn_mask is not None:
            attn_mask = (attn_mask.unsqueeze(0) if attn_mask.size(0) == 1
                         else attn_mask.reshape(batch, num_heads, -1, source))
        q, k, v = (x.reshape(batch, num_heads, -1, head_dim) for x in (q, k, v))
        output = scaled_dot_product_attention(q, k, v, attn_mask, probability, use_causal)
        output = output.permute(2, 0, 1, 3).reshape(length * batch, embed_dim)
        output = linear(output, out_proj_weight, out_proj_bias).reshape(length, batch, -1)
        return (output if batched else output.squeeze(1)), None

    scaled = q * math.sqrt(1.0 / head_dim)
    scores = bmm(scaled, k.transpose(-2, -1)) if attn_mask is None else baddbmm(attn_mask, scaled, k.transpose(-2, -1))
    weights = softmax(scores, dim=-1)                                           # (N·heads, L, S)
    if probability > 0.0:
        weights = dropout(weights, p=probability)
    output = bmm(weights, v).transpose(0, 1).reshape(length * batch, embed_dim)
    output = linear(output, out_proj_weight, out_proj_bias).reshape(length, batch, -1)
    weights = weights.reshape(batch, num_heads, length, source)
    if average_attn_weights:
        weights = weights.mean(dim=1)
    return (output, weights) if batched else (output.squeeze(1), weights.squeeze(0))


def _check_shapes(query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None, mask: Tensor | None,
                  num_heads: int) -> bool:
    """Whether the inputs are batched. Raises AssertionError for numbers of dimensions that do not fit together."""
    dims = query.dim()
    if dims not in (2, 3):
        raise AssertionError(f"query should be unbatched 2D or batched 3D tensor but received {dims}-D query tensor")
    kind = "batched (3-D)" if dims == 3 else "unbatched (2-D)"
    if key.dim() != dims or value.dim() != dims:
        raise AssertionError(f"For {kind} `query`, expected `key` and `value` to be {dims}-D but found {key.dim()}-D "
                             f"and {value.dim()}-D tensors respectively")
    if padding is not None and padding.dim() != dims - 1:
        raise AssertionError(f"For {kind} `query`, expected `key_padding_mask` to be `None` or {dims - 1}-D but found "
                             f"{padding.dim()}-D tensor instead")
    if mask is not None:
        if mask.dim() not in (2, 3):
            raise AssertionError(f"For {kind} `query`, expected `attn_mask` to be `None`, 2-D or 3-D but found "
                                 f"{mask.dim()}-D tensor instead")
        expected = (num_heads, query.shape[0], key.shape[0])
        if dims == 2 and mask.dim() == 3 and tuple(mask.shape) != expected:
            raise AssertionError(f"Expected `attn_mask` shape to be {expected} but got {tuple(mask.shape)}")
    return dims == 3


def _additive(mask: Tensor | None, name: str, dtype: Any, other: Tensor | None = None) -> Tensor | None:
    """A bool mask as floats to be added: -inf where True. Raises AssertionError for integer masks."""
    if mask is None:
        return None
    if mask.dtype is not dtypes.bool and not mask.is_floating_point():
        raise AssertionError(f"only bool and floating types of {name} are supported")
    if other is not None and other.dtype is not mask.dtype:
        warnings.warn(f"Support for mismatched {name} and attn_mask is deprecated. Use same type for both instead.",
                      stacklevel=3)
    if mask.dtype is not dtypes.bool:
        return mask
    return zeros_like(mask, dtype=dtype).masked_fill(mask, float("-inf"))


def _three_dimensional(mask: Tensor, length: int, source: int, heads: int) -> Tensor:
    expected = (length, source) if mask.dim() == 2 else (heads, length, source)
    if tuple(mask.shape) != expected:
        raise RuntimeError(f"The shape of the {mask.dim()}D attn_mask is {tuple(mask.shape)}, but should be "
                           f"{expected}.")
    return mask.unsqueeze(0) if mask.dim() == 2 else mask


def _project(query: Tensor, key: Tensor, value: Tensor, weight: Tensor, bias: Tensor | None) -> tuple:
    """Query, key and value through the three parts of one weight; in one product where they are one tensor."""
    size = query.size(-1)
    if key is value and query is key:
        # (L, N, 3E) -> three contiguous (L, N, E): one transposition is cheaper than three strided operands.
        together = linear(query, weight, bias)
        together = together.unflatten(-1, (3, size)).unsqueeze(0).transpose(0, -2).squeeze(-2).contiguous()
        return together[0], together[1], together[2]
    w = weight.chunk(3)
    b = (None, None, None) if bias is None else bias.chunk(3)
    return linear(query, w[0], b[0]), linear(key, w[1], b[1]), linear(value, w[2], b[2])


def _one_more(mask: Tensor | None) -> Tensor | None:
    """The mask with a column of zeros for the key that is appended."""
    return None if mask is None else pad(mask, (0, 1))


def _static(static: Tensor | None, name: str, heads: int, head_dim: int, projected: Tensor) -> Tensor:
    """The given key or value per head, or the projected one (S, N, E) as (N·heads, S, head_dim)."""
    if static is None:
        return projected.reshape(projected.shape[0], heads, head_dim).transpose(0, 1)
    if static.size(0) != heads:
        raise AssertionError(f"expecting {name}.size(0) of {heads}, but got {static.size(0)}")
    if static.size(2) != head_dim:
        raise AssertionError(f"expecting {name}.size(2) of {head_dim}, but got {static.size(2)}")
    return static
