"""The functions behind the layers, under PyTorch's names; they are written in `flambeau.ops`, one file per family.

A family is imported when one of its functions is first used.
"""

from __future__ import annotations

import importlib
from typing import Any

from flambeau.core.inplace import with_out

_FAMILIES = {
    "activation": "celu celu_ elu elu_ gelu glu logsigmoid mish selu selu_ silu softplus softsign tanhshrink",
    "activation_piecewise": """
        hardshrink hardsigmoid hardswish hardtanh hardtanh_ leaky_relu leaky_relu_ prelu relu relu6 relu_ rrelu rrelu_
        softshrink threshold threshold_""",
    "attention": "scaled_dot_product_attention",
    "attention_heads": "multi_head_attention_forward",
    "classification": """
        binary_cross_entropy binary_cross_entropy_with_logits cross_entropy linear_cross_entropy multi_margin_loss
        multilabel_margin_loss multilabel_soft_margin_loss nll_loss""",
    "convolution": "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d",
    "ctc": "ctc_loss",
    "distance": "cosine_similarity normalize pairwise_distance pdist",
    "dropout": "alpha_dropout dropout dropout1d dropout2d dropout3d feature_alpha_dropout",
    "embedding": "embedding embedding_bag one_hot",
    "folding": "channel_shuffle fold native_channel_shuffle pixel_shuffle pixel_unshuffle unfold",
    "grid_sample": "affine_grid grid_sample",
    "interpolate": "interpolate upsample upsample_bilinear upsample_nearest",
    "loss": """
        cosine_embedding_loss gaussian_nll_loss hinge_embedding_loss huber_loss kl_div l1_loss margin_ranking_loss
        mse_loss poisson_nll_loss smooth_l1_loss soft_margin_loss triplet_margin_loss
        triplet_margin_with_distance_loss""",
    "contraction": "bilinear",
    "matmul": "linear",
    "normalization": "batch_norm group_norm instance_norm layer_norm local_response_norm rms_norm",
    "padding": "pad",
    "pointwise": "sigmoid tanh",
    "pooling": """
        adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d avg_pool1d avg_pool2d avg_pool3d lp_pool1d lp_pool2d
        lp_pool3d""",
    "pooling_max": """
        adaptive_max_pool1d adaptive_max_pool1d_with_indices adaptive_max_pool2d adaptive_max_pool2d_with_indices
        adaptive_max_pool3d adaptive_max_pool3d_with_indices fractional_max_pool2d fractional_max_pool2d_with_indices
        fractional_max_pool3d fractional_max_pool3d_with_indices max_pool1d max_pool1d_with_indices max_pool2d
        max_pool2d_with_indices max_pool3d max_pool3d_with_indices max_unpool1d max_unpool2d max_unpool3d""",
    "softmax": "gumbel_softmax log_softmax softmax softmin",
}
# Those that PyTorch takes straight from its operators accept `out=`.
_WITH_OUT = frozenset("avg_pool2d avg_pool3d gelu hardshrink logsigmoid softplus softshrink".split())
_FAMILY_OF = {name: family for family, names in _FAMILIES.items() for name in names.split()}

__all__ = sorted(_FAMILY_OF)


def __getattr__(name: str) -> Any:
    if name not in _FAMILY_OF:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"flambeau.ops.{_FAMILY_OF[name]}"), name)
    if name in _WITH_OUT:
        value = with_out(value)
        value.__module__ = __name__     # where pickle finds this very function again
    elif not value.__module__.startswith("flambeau"):   # an op whose kernel is NumPy's
        value.__module__ = f"flambeau.ops.{_FAMILY_OF[name]}"
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
