"""Convolution and its gradients through oneDNN, against sums written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from flambeau.backends import onednn
from flambeau.backends.onednn import weight_gradient
from flambeau.backends.onednn.weights import _copies
from tests.backends.reference import close, convolution, convolution_gradients, noise

pytestmark = pytest.mark.usefixtures("needs_onednn")

GEOMETRIES = [  # channels, outputs, groups, kernel, stride, padding, dilation
    (3, 8, 1, 3, 1, (1, 1), 1),
    (8, 16, 1, 3, 2, (1, 1), 1),
    (16, 8, 1, 1, 1, (0, 0), 1),
    (6, 4, 2, 2, 2, (0, 1), 1),
    (16, 16, 16, 3, 1, (1, 1), 1),
    (1, 1, 1, 3, 1, (2, 1), 2),
    (7, 5, 1, 5, 3, (2, 2), 1),
    (32, 64, 1, 3, 1, (1, 1), 1),
]


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_convolution_and_gradients(rng, rank, channels_last, geometry):
    c, o, groups, kernel, stride, padding, dilation = geometry
    x = noise(rng, 2, c, *(9, 8, 7)[:rank], channels_last=channels_last)
    w, bias = noise(rng, o, c // groups, *(kernel,) * rank), noise(rng, o)
    arguments = ((stride,) * rank, (padding,) * rank, (dilation,) * rank, groups)
    expected = convolution(x, w, bias, *arguments)
    y = onednn.conv_forward(x, w, bias, *arguments)
    close(y, expected)
    close(onednn.conv_forward(x, w, None, *arguments), convolution(x, w, None, *arguments))

    grad = noise(rng, *y.shape, channels_last=not channels_last)
    to_x, to_w, to_bias = convolution_gradients(grad, x, w, *arguments)
    close(onednn.conv_backward_input(grad, w, x.shape, *arguments), to_x)
    dw, db = onednn.conv_backward_weight(grad, x, w.shape, *arguments, True)
    close(dw, to_w)
    close(db, to_bias)
    assert onednn.conv_backward_weight(grad, x, w.shape, *arguments, False)[1] is None


def test_result_is_channels_last_and_inputs_are_unchanged(rng):
    x, w = noise(rng, 2, 8, 6, 6), noise(rng, 8, 8, 3, 3)
    before = x.copy(), w.copy()
    y = onednn.conv_forward(x, w, None, (1, 1), (1, 1), (1, 1), 1)
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(w, before[1])


def test_strided_and_broadcast_operands(rng):
    big, w = noise(rng, 4, 8, 12, 12), noise(rng, 3, 3, 8, 8).transpose(2, 3, 0, 1)
    x = big[::2, :, ::2, 1:7]
    arguments = ((1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    close(onednn.conv_forward(x, w, None, *arguments), convolution(x, w, None, *arguments))
    grad = np.broadcast_to(np.float32(0.5), (2, 8, 6, 6))
    to_x, to_w, _ = convolution_gradients(grad, x, w, *arguments)
    close(onednn.conv_backward_input(grad, w, x.shape, *arguments), to_x)
    close(onednn.conv_backward_weight(grad, x, w.shape, *arguments, False)[0], to_w)


def test_unaligned_memory(rng):
    store = np.empty(2 * 8 * 6 * 6 + 1, np.float32)
    x = store[1:].reshape(2, 8, 6, 6)
    x[...] = noise(rng, *x.shape)
    w = noise(rng, 8, 8, 3, 3)
    arguments = ((1, 1), ((0, 0), (0, 0)), (1, 1), 1)
    close(onednn.conv_forward(x, w, None, *arguments), convolution(x, w, None, *arguments))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("groups, output_padding", [(1, 0), (2, 1)])
def test_transposed_convolution(rng, rank, groups, output_padding):
    c, o, size, kernel = 4, 6, (5, 4, 3)[:rank], (3,) * rank
    x, w, bias = noise(rng, 2, c, *size), noise(rng, c, o // groups, *kernel), noise(rng, o)
    arguments = ((2,) * rank, ((1, 1),) * rank, (1,) * rank)
    y = onednn.conv_transpose_forward(x, w, bias, *arguments[:2], (output_padding,) * rank, arguments[2], groups)
    image = np.zeros((2, o, *((n - 1) * 2 - 2 + 2 + output_padding + 1 for n in size)))
    expected, _, _ = convolution_gradients(x, image, w, *arguments, groups)
    close(y, expected + bias.reshape(-1, *(1,) * rank))

    grad = noise(rng, *y.shape)
    close(onednn.conv_transpose_backward_input(grad, w, x.shape, *arguments, groups),
          convolution(grad, w, None, *arguments, groups))
    dw, db = onednn.conv_transpose_backward_weight(grad, x, w.shape, *arguments, groups, True)
    close(dw, convolution_gradients(x, grad, w, *arguments, groups)[1])
    close(db, grad.sum((0, *range(2, rank + 2))))


def test_a_reordered_weight_is_kept_per_version(rng):
    class Owner:
        pass

    owner, arguments = Owner(), ((1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    x, w = noise(rng, 1, 16, 8, 8), noise(rng, 16, 16, 3, 3)
    first, again = (onednn.conv_forward(x, w, None, *arguments, key=(owner, 0)) for _ in range(2))
    np.testing.assert_array_equal(again, first)
    w *= 2  # what nobody is told of is not seen: the second use has kept a copy
    np.testing.assert_array_equal(onednn.conv_forward(x, w, None, *arguments, key=(owner, 0)), first)
    close(onednn.conv_forward(x, w, None, *arguments, key=(owner, 1)), 2 * first)
    assert all(copy.buffer is None for copy in _copies[owner].values())  # a version seen once is not kept
    for scale in (2, 3):  # the same memory as another array
        close(onednn.conv_forward(x, w * (scale / 2), None, *arguments, key=(owner, 1)), scale * first)
    kept = len(_copies)
    del owner
    assert len(_copies) == kept - 1


def test_many_threads_share_primitives(rng):
    from concurrent.futures import ThreadPoolExecutor

    w, arguments = noise(rng, 8, 8, 3, 3), ((1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    images = [noise(rng, 1, 8, 6, 6) for _ in range(24)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda x: onednn.conv_forward(x, w, None, *arguments), images))
    for x, y in zip(images, results):
        close(y, convolution(x, w, None, *arguments))


@pytest.mark.parametrize("size, kernel, padding, dilation", [
    ((20, 9), (3, 3), ((1, 1), (1, 1)), (1, 1)),       # one image at a time
    ((6, 5), (3, 2), ((2, 0), (0, 3)), (1, 1)),        # several
    ((12, 14), (2, 3), ((0, 1), (4, 4)), (3, 2)),
    ((5, 4), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    ((3, 2), (1, 3), ((0, 0), (4, 4)), (1, 1)),        # columns that lie in the padding altogether
])
@pytest.mark.parametrize("channels_last", [False, True])
def test_weight_gradient_by_products(rng, monkeypatch, size, kernel, padding, dilation, channels_last):
    monkeypatch.setattr(weight_gradient, "_COLUMN_BYTES", 3 << 14)     # so that an image falls into several blocks
    x, w = noise(rng, 7, 40, *size, channels_last=channels_last), noise(rng, 33, 40, *kernel)
    arguments = ((1, 1), padding, dilation, 1)
    grad = noise(rng, *convolution(x, w, None, *arguments).shape, channels_last=not channels_last)
    _, to_w, to_bias = convolution_gradients(grad, x, w, *arguments)
    dw, db = weight_gradient.weight_gradient(grad, x, w.shape, padding, dilation)
    close(dw, to_w)
    close(db, to_bias)
