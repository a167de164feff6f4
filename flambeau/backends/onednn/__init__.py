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
    conv_transpose_backward_weight(grad, x, w_shape, stride, padding, dilation, groups, want_bias) -> (grad_w, grad_b or None)
pooling.py
    max_pool_forward(x, kernel, stride, padding, dilation, out_shape=None) -> (y, workspace)
    max_pool_backward(grad, workspace, x_shape) -> grad_x
    max_pool_indices(workspace, x_shape) -> int64 flat indices per plane, as PyTorch's return_indices
    avg_pool_forward(x, kernel, stride, padding, count_include_pad, out_shape=None) -> y
    avg_pool_backward(grad, x_shape, kernel, stride, padding, count_include_pad) -> grad_x
normalization.py
    batch_norm_train(x, scale, shift, eps, relu=False) -> (y, mean, biased variance, workspace or None)
    batch_norm_eval(x, scale, shift, mean, variance, eps, relu=False) -> y
    batch_norm_backward(grad, x, scale, mean, variance, eps, train=True, workspace=None) -> (grad_x, grad_scale, grad_shift)
    layer_norm(x, axes, scale, shift, eps) -> (y, mean, variance)       axes: how many trailing axes are normalised
    layer_norm_backward(grad, x, axes, scale, mean, variance, eps) -> (grad_x, grad_scale, grad_shift)
elementwise.py
    eltwise(name, x, alpha=0.0) -> y;  eltwise_backward(name, grad, data, alpha=0.0) -> grad_x
        name: relu tanh sigmoid exp elu gelu gelu_tanh silu mish softplus hardswish; `data` is the output for those in
        `FROM_OUTPUT` (relu, tanh, sigmoid) and the input for the others
    binary(name, x, y) -> out          name: add sub mul div maximum minimum; equal shapes and strides
    add_many(arrays) -> out            the sum of several arrays of one layout
    softmax(x, axis, log=False) -> y;  softmax_backward(grad, y, axis, log=False) -> grad_x
matmul.py
    matmul(x, y, bias=None) -> out     batched; operands may be transposed views
    linear(x, w, bias=None) -> out     x (…, in), w (out, in)
reorder.py
    channels_last(x) -> array;  contiguous(x) -> array     the same values in the other order, with all threads
"""
