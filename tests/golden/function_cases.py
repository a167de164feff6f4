"""Calls of `nn.functional` whose values and gradients are recorded from PyTorch, and the inputs they get."""

from __future__ import annotations

from typing import Any

import numpy as np

# (function, shapes of its tensor arguments, other arguments)
CASES: list[tuple[str, list[tuple[int, ...]], dict[str, Any]]] = [
    ("conv1d", [(2, 4, 7), (6, 2, 3), (6,)], {"stride": 2, "padding": 1, "groups": 2}),
    ("conv1d", [(2, 5), (3, 2, 4)], {"padding": "same"}),
    ("conv2d", [(2, 3, 5, 6), (4, 3, 3, 2), (4,)], {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}),
    ("conv2d", [(1, 4, 5, 5), (8, 1, 3, 3)], {"groups": 4, "padding": "valid"}),
    ("conv3d", [(1, 2, 4, 4, 3), (2, 2, 2, 3, 2), (2,)], {"padding": 1, "stride": 2}),
    ("conv_transpose1d", [(2, 4, 3), (4, 2, 3), (4,)], {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}),
    ("conv_transpose2d", [(2, 3, 3, 2), (3, 2, 2, 3), (2,)], {"stride": (2, 3), "dilation": (2, 1)}),
    ("conv_transpose2d", [(3, 2, 3), (3, 2, 3, 3)], {"padding": 1, "dilation": 2, "output_padding": 1}),
    ("conv_transpose3d", [(1, 2, 2, 2, 2), (2, 2, 2, 2, 2)], {"stride": 2, "padding": 1}),
    ("max_pool1d", [(2, 3, 9)], {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("max_pool2d", [(2, 2, 7, 6)], {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    ("max_pool2d", [(2, 7, 6)], {"kernel_size": 2, "dilation": 2, "stride": 1}),
    ("max_pool3d", [(1, 2, 4, 5, 4)], {"kernel_size": 2}),
    ("avg_pool1d", [(2, 3, 8)], {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    ("avg_pool2d", [(1, 2, 7, 6)], {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False}),
    ("avg_pool2d", [(2, 7, 6)], {"kernel_size": (2, 3), "divisor_override": 4, "ceil_mode": True}),
    ("avg_pool3d", [(1, 2, 4, 5, 4)], {"kernel_size": 2, "padding": 1}),
    ("lp_pool1d", [(2, 8)], {"norm_type": 2, "kernel_size": 3}),
    ("lp_pool2d", [(1, 2, 6, 6)], {"norm_type": 2, "kernel_size": 3, "stride": 2}),
    ("adaptive_avg_pool1d", [(2, 3, 7)], {"output_size": 3}),
    ("adaptive_avg_pool2d", [(1, 2, 7, 6)], {"output_size": [3, None]}),
    ("adaptive_avg_pool3d", [(2, 5, 4, 6)], {"output_size": [2, 4, 3]}),
    ("adaptive_max_pool2d", [(1, 2, 7, 6)], {"output_size": [3, 4]}),
    ("batch_norm", [(4, 3, 2, 3), (3,), (3,), (3,), (3,)], {"training": True}),
    ("batch_norm", [(4, 3, 5), (3,), (3,), (3,), (3,)], {"training": False, "eps": 0.1}),
    ("instance_norm", [(2, 3, 4, 2)], {"eps": 0.01}),
    ("layer_norm", [(2, 3, 4)], {"normalized_shape": [3, 4]}),
    ("group_norm", [(2, 6, 5)], {"num_groups": 3}),
    ("rms_norm", [(2, 3, 4)], {"normalized_shape": [4]}),
    ("local_response_norm", [(2, 5, 4)], {"size": 3, "alpha": 0.5}),
    ("local_response_norm", [(2, 5, 3, 2)], {"size": 2, "k": 2.0}),
    ("pad", [(2, 3, 4)], {"pad": [1, 2, -1, 3], "value": 1.5}),
    ("pad", [(2, 3, 4, 5)], {"pad": [2, 1, 3, 0], "mode": "reflect"}),
    ("pad", [(2, 3, 4)], {"pad": [-1, 3], "mode": "replicate"}),
    ("pad", [(1, 2, 3, 4, 4)], {"pad": [1, 2, -1, 2, 1, 1], "mode": "circular"}),
    ("interpolate", [(1, 2, 5)], {"size": 8, "mode": "linear"}),
    ("interpolate", [(1, 2, 5, 4)], {"scale_factor": 1.7, "mode": "bilinear"}),
    ("interpolate", [(1, 2, 5, 4)], {"size": [3, 9], "mode": "bilinear", "align_corners": True}),
    ("interpolate", [(1, 2, 7, 8)], {"size": [3, 5], "mode": "bilinear", "antialias": True}),
    ("interpolate", [(1, 2, 5, 4)], {"size": [7, 3], "mode": "bicubic"}),
    ("interpolate", [(1, 2, 9, 8)], {"size": [4, 3], "mode": "bicubic", "antialias": True, "align_corners": True}),
    ("interpolate", [(1, 1, 3, 4, 2)], {"size": [5, 3, 4], "mode": "trilinear"}),
    ("interpolate", [(1, 2, 5, 4)], {"scale_factor": 2.3, "mode": "nearest"}),
    ("interpolate", [(1, 2, 5, 4)], {"size": [3, 7], "mode": "nearest-exact"}),
    ("interpolate", [(1, 2, 7, 6)], {"scale_factor": 0.6, "mode": "area"}),
    ("interpolate", [(1, 2, 5, 4)], {"scale_factor": 0.7, "mode": "bilinear", "recompute_scale_factor": True}),
    ("unfold", [(1, 2, 5, 4)], {"kernel_size": [2, 3], "dilation": 2, "padding": 1}),
    ("fold", [(1, 8, 6)], {"output_size": [4, 3], "kernel_size": 2}),
    ("pixel_shuffle", [(1, 8, 2, 3)], {"upscale_factor": 2}),
    ("pixel_unshuffle", [(2, 4, 6)], {"downscale_factor": 2}),
    ("channel_shuffle", [(1, 6, 2, 2)], {"groups": 3}),
    ("grid_sample", [(1, 2, 4, 5), (1, 3, 4, 2)], {"align_corners": False}),
    ("grid_sample", [(1, 2, 4, 5), (1, 3, 4, 2)], {"padding_mode": "reflection", "align_corners": False}),
    ("grid_sample", [(1, 2, 4, 5), (1, 3, 4, 2)], {"mode": "bicubic", "padding_mode": "border", "align_corners": True}),
    (
        "grid_sample",
        [(1, 2, 4, 5), (1, 3, 4, 2)],
        {"mode": "nearest", "padding_mode": "reflection", "align_corners": True},
    ),
    ("grid_sample", [(1, 2, 3, 4, 5), (1, 2, 2, 2, 3)], {"align_corners": True}),
    ("affine_grid", [(2, 2, 3)], {"size": [2, 1, 3, 4], "align_corners": False}),
    ("affine_grid", [(1, 3, 4)], {"size": [1, 1, 2, 3, 2], "align_corners": True}),
    ("scaled_dot_product_attention", [(2, 3, 4), (2, 5, 4), (2, 5, 3)], {}),
    ("scaled_dot_product_attention", [(2, 3, 4), (2, 5, 4), (2, 5, 3), (3, 5)], {"scale": 0.7}),
    (
        "scaled_dot_product_attention",
        [(1, 4, 3, 2), (1, 2, 3, 2), (1, 2, 3, 2)],
        {"enable_gqa": True, "is_causal": True},
    ),
    ("cosine_similarity", [(3, 4), (3, 4)], {"dim": 1}),
    ("pairwise_distance", [(3, 4), (3, 4)], {"p": 3.0, "keepdim": True}),
    ("pdist", [(5, 3)], {"p": 1.5}),
    ("normalize", [(3, 4)], {"p": 3.0, "dim": 0}),
]
# Arguments that get no gradient: running statistics.
CONSTANT = {"batch_norm": (1, 2)}


def label(index: int) -> str:
    """A name for one case."""
    name, shapes, options = CASES[index]
    return f"{index}-{name}-{','.join('x'.join(map(str, s)) for s in shapes)}-{options}"


def arrays(shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """Inputs without ties, in float64; the second is positive where a variance stands."""
    made = []
    for number, shape in enumerate(shapes):
        count = int(np.prod(shape))
        values = np.sin(np.arange(count) * (1.37 + 0.11 * number) + 0.7 * number) * 1.3
        made.append((np.abs(values) + 0.5 if number == 2 and len(shape) == 1 else values).reshape(shape))
    return made


def seed(shape: tuple[int, ...]) -> np.ndarray:
    """The gradient that flows into an output of this shape."""
    return np.cos(np.arange(int(np.prod(shape))) * 0.9).reshape(shape)
