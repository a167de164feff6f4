"""Scaled dot-product attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flambeau.core import recording
from flambeau.core.modes import modes
from flambeau.core.tensor import Tensor, constant, wrap
from flambeau.ops.comparison import eq, logical_not
from flambeau.ops.dropout import dropout
from flambeau.ops.sliding import shape_text

__all__ = ["scaled_dot_product_attention"]


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
                                 dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
                                 enable_gqa: bool = False) -> Tensor:
    """softmax(query @ key.T * scale + mask) @ value (Vaswani et al. 2017).

    Shapes: query (..., L, E), key (..., S, E), value (..., S, V) -> (..., L, V); mask (..., L, S), bool (True: may
    look) or added to the scores. `scale` defaults to 1/sqrt(E). A row that may look nowhere gives zeros. With
    `enable_gqa` the heads of key and value (dimension -3) are repeated to the number of the query's.
    Raises: RuntimeError for shapes or dtypes that do not fit, or a mask together with `is_causal`.
    """
    check_operands(query, key, value, attn_mask, is_causal)
    if enable_gqa:
        key, value = repeated_heads(query, key), repeated_heads(query, value)
    if scale is None:
        scale = 1 / math.sqrt(query.shape[-1]) if query.shape[-1] else 1.0
    scores = (query * scale).matmul(key.transpose(-2, -1))              # (..., L, S)
    if is_causal:
        attn_mask = causal(*scores.shape[-2:])
    if attn_mask is not None:
        scores = masked(scores, attn_mask)
    weights = safe_softmax(scores, masked=attn_mask is not None)
    if dropout_p > 0:
        weights = dropout(weights, dropout_p, training=True)
    return weights.matmul(value)


def check_operands(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool) -> None:
    q, k, v = query._array, key._array, value._array
    shapes = f"(query {shape_text(q)}, key {shape_text(k)}, value {shape_text(v)})"
    if not q.dtype == k.dtype == v.dtype and modes.autocast is None:
        raise RuntimeError(
            f"Expected query, key, and value to have the same dtype, but got query.dtype: {query.dtype} key.dtype: "
            f"{key.dtype} and "
            f"value.dtype: {value.dtype} instead."
        )
    if min(q.ndim, k.ndim, v.ndim) < 2:
        raise RuntimeError(f"Expected query, key, and value to all be at least 2 dimensional {shapes}")
    if q.shape[-1] != k.shape[-1]:
        raise RuntimeError(
            f"scaled_dot_product_attention: expected key of {q.shape[-1]} features, got {k.shape[-1]} {shapes}"
        )
    if k.shape[-2] != v.shape[-2]:
        raise RuntimeError(f"scaled_dot_product_attention: expected as many values as keys {shapes}")
    if mask is not None:
        if is_causal:
            raise RuntimeError("scaled_dot_product_attention: explicit attn_mask should not be set when is_causal=True")
        if mask._array.dtype.kind != "b" and mask._array.dtype != q.dtype and mask._array.dtype.kind in "iu":
            raise RuntimeError(
                f"Expected attn_mask dtype to be bool or float or to match query dtype, but got attn_mask.dtype: "
                f"{mask.dtype} and "
                f"query.dtype: {query.dtype} instead."
            )


def repeated_heads(query: Tensor, other: Tensor) -> Tensor:
    """Each head of `other` as often as the query has heads for it."""
    if query.ndim < 3 or other.ndim < 3:
        raise RuntimeError("scaled_dot_product_attention: enable_gqa needs at least three dimensions")
    wanted, given = query.shape[-3], other.shape[-3]
    if given == wanted:
        return other
    if given == 0 or wanted % given:
        raise RuntimeError(
            f"scaled_dot_product_attention: number of heads of key and value must divide the number of the query's, "
            f"got {given} and {wanted}"
        )
    return other.repeat_interleave(wanted // given, -3)


def causal(rows: int, columns: int) -> Tensor:
    """True where a position may look: at itself and before."""
    return constant(np.tri(rows, columns, dtype=bool))


def masked(scores: Tensor, mask: Tensor) -> Tensor:
    """Scores with -inf where a bool mask is False, or with a number mask added."""
    if mask._array.dtype.kind == "b":
        return scores.masked_fill(logical_not(mask), -math.inf)
    return scores + (mask if mask._array.dtype == scores._array.dtype else mask.to(scores.dtype))


def safe_softmax(scores: Tensor, masked: bool) -> Tensor:
    """softmax over the last dimension, with zeros in rows that are -inf throughout."""
    if not masked:
        return scores.softmax(-1)
    if recording.recorder is not None:  # other calls may have such rows
        shut = eq(scores, -math.inf).all(-1, keepdim=True)
    else:
        dead: Any = np.isneginf(scores._array.astype(np.float32, copy=False)).all(-1, keepdims=True)
        if not dead.any():
            return scores.softmax(-1)
        shut = wrap(np.broadcast_to(dead, scores._array.shape))
    return scores.masked_fill(shut, 0).softmax(-1).masked_fill(shut, 0)
