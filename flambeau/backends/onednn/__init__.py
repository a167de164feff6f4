"""oneDNN kernels on NumPy arrays. Knows nothing of Tensor; loads nothing until `available()` is first asked.

Every function takes float32 arrays of PyTorch's logical shapes, (N, C, spatial…), in any strides, and returns new
ones. Memory order: a result is channels-last in memory (an ordinary strided array, see `memory.is_channels_last`)
where that is what the fastest kernel makes; contiguous and channels-last inputs are read in place, others are copied
once. Ask `usable(x, w)` first: it is False for other dtypes, empty arrays and where the library is absent; then
the op's own NumPy body runs. A shape oneDNN has no kernel for raises `Unsupported`.

convolution.py (1 to 3 spatial axes; stride, dilation: tuples with one int per axis; padding: one int or (left, right)
per axis; output_padding: one int per axis)
    conv_forward(x, w, bias, stride, padding, dilation, groups, key=None) -> y
    conv_backward_input(grad, w, x_shape, stride, padding, dilation, groups, key=None) -> grad_x
    conv_backward_weight(grad, x, w_shape, stride, padding, dilation, groups, want_bias) -> (grad_w, grad_b or None)
    conv_transpose_forward(x, w, bias, stride, padding, output_padding, dilation, groups, key=None) -> y
    conv_transpose_backward_input(grad, w, x_shape, stride, padding, dilation, groups, key=None) -> grad_x
    conv_transpose_backward_weight(grad, x, w_shape, stride, padding, dilation, groups, want_bias)
        -> (grad_w, grad_b or None)
pooling.py
    max_pool_forward(x, kernel, stride, padding, dilation, out_shape=None, training=True) -> (y, memory or None)
    max_pool_backward(grad, memory) -> grad_x
    max_pool_indices(memory) -> int64 flat indices per plane, as PyTorch's return_indices
    avg_pool_forward(x, kernel, stride, padding, count_include_pad, out_shape=None) -> y
    avg_pool_backward(grad, x_shape, kernel, stride, padding, count_include_pad) -> grad_x
normalization.py
    batch_norm_train(x, scale, shift, eps, relu=False) -> (y, mean, biased variance, workspace or None)
    batch_norm_eval(x, scale, shift, mean, variance, eps, relu=False) -> y
    batch_norm_backward(grad, x, scale, mean, variance, eps, train=True, workspace=None, shift=True)
        -> (grad_x, grad_scale or None, grad_shift or None)
    layer_norm(x, axes, scale, shift, eps) -> (y, mean, variance)       axes: how many trailing axes are normalised
    layer_norm_backward(grad, x, axes, scale, mean, variance, eps, shift=True) -> (grad_x, grad_scale, grad_shift)
elementwise.py
    eltwise(name, x, alpha=0.0) -> y;  eltwise_backward(name, grad, data, alpha=0.0) -> grad_x
        name: relu tanh sigmoid exp elu gelu gelu_tanh silu mish softplus; `data` is the output for those in
        `FROM_OUTPUT` (relu, tanh, sigmoid, exp) and the input for the others
    binary(name, x, y) -> out          name: add sub mul div maximum minimum; equal shapes and strides
    add_many(arrays) -> out            the sum of several arrays of one layout
    softmax(x, axis, log=False) -> y;  softmax_backward(grad, y, axis, log=False) -> grad_x
matmul.py
    sgemm(x, y, out=None, add=False) -> out    two matrices, transposed views read in place
    matmul(x, y, bias=None) -> out     batched; operands may be transposed views
    linear(x, w, bias=None) -> out     x (…, in), w (out, in)
reorder.py
    channels_last(x) -> array;  contiguous(x) -> array     the same values in the other order, with all threads
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.backends.onednn import library
from flambeau.backends.onednn.convolution import (
    conv_backward_input,
    conv_backward_weight,
    conv_forward,
    conv_transpose_backward_input,
    conv_transpose_backward_weight,
    conv_transpose_forward,
)
from flambeau.backends.onednn.elementwise import (
    FROM_OUTPUT,
    add_many,
    binary,
    eltwise,
    eltwise_backward,
    softmax,
    softmax_backward,
)
from flambeau.backends.onednn.matmul import linear, matmul, sgemm
from flambeau.backends.onednn.normalization import (
    batch_norm_backward,
    batch_norm_eval,
    batch_norm_train,
    layer_norm,
    layer_norm_backward,
)
from flambeau.backends.onednn.pooling import (
    avg_pool_backward,
    avg_pool_forward,
    max_pool_backward,
    max_pool_forward,
    max_pool_indices,
)
from flambeau.backends.onednn.primitive import Unsupported
from flambeau.backends.onednn.reorder import channels_last, contiguous

_float32 = np.dtype(np.float32)


def available() -> bool:
    """Whether oneDNN can be used: the library is installed and FLAMBEAU_ONEDNN is not 0."""
    return library.load() is not None


def usable(*arrays: Any) -> bool:
    """Whether these operands are oneDNN's business: non-empty float32 arrays (None is skipped), library present."""
    for array in arrays:
        if array is not None and not (type(array) is np.ndarray and array.dtype == _float32 and array.size):
            return False
    return library.load() is not None
