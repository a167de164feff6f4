"""Pooling, normalisation, elementwise functions, softmax, matrix products and reorders through oneDNN."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flambeau.backends import onednn
from tests.backends.reference import close, count_of, noise, pad, windows

pytestmark = pytest.mark.usefixtures("needs_onednn")

POOLS = [(2, 2, 0, 1), (3, 2, 1, 1), (2, 1, 0, 2), (3, 3, 0, 1)]  # kernel, stride, padding, dilation


# ---- pooling -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("pool", POOLS)
def test_max_pool(rng, rank, channels_last, pool):
    kernel, stride, padding, dilation = ((value,) * rank for value in pool)
    x = noise(rng, 2, 8, *(9, 8, 7)[:rank], channels_last=channels_last)
    borders = [(p, p) for p in padding]
    count = count_of(x.shape, kernel, stride, borders, dilation)
    positions = pad(np.arange(float(math.prod(x.shape[2:]))).reshape(1, 1, *x.shape[2:]), borders)
    seen = list(windows(x, kernel, stride, borders, dilation, count))
    values = np.stack([pad(x, borders, -np.inf)[view] for _, view in seen])
    best = values.argmax(0)

    y, memory = onednn.max_pool_forward(x, kernel, stride, padding, dilation)
    np.testing.assert_array_equal(y, values.max(0))
    where = np.stack([np.broadcast_to(positions[view], y.shape) for _, view in seen])
    indices = np.take_along_axis(where, best[None], 0)[0].astype(np.int64)
    np.testing.assert_array_equal(onednn.max_pool_indices(memory), indices)

    grad = noise(rng, *y.shape)
    expected = np.zeros((2 * 8, math.prod(x.shape[2:])))
    np.add.at(expected, (np.repeat(np.arange(16), indices[0, 0].size), indices.reshape(-1)), grad.reshape(-1))
    close(onednn.max_pool_backward(grad, memory), expected.reshape(x.shape))


def test_max_pool_with_ceil_mode_and_without_memory(rng):
    x = noise(rng, 1, 8, 5, 5)
    y, memory = onednn.max_pool_forward(x, (2, 2), (2, 2), (0, 0), (1, 1), out_shape=(3, 3), training=False)
    wide = pad(x, [(0, 1), (0, 1)], -np.inf).reshape(1, 8, 3, 2, 3, 2)
    np.testing.assert_array_equal(y, wide.max((3, 5)))
    assert memory is None


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_max_pool_leaves_nan_and_infinity_to_the_caller(rng, value):
    x = noise(rng, 1, 8, 4, 4)
    x[0, 3, 1, 1] = value
    with pytest.raises(onednn.Unsupported, match="nan"):
        onednn.max_pool_forward(x, (2, 2), (2, 2), (0, 0), (1, 1))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("count_include_pad", [False, True])
@pytest.mark.parametrize("pool", [(2, 2, 0), (3, 2, 1)])
def test_avg_pool(rng, rank, count_include_pad, pool):
    kernel, stride, padding = ((value,) * rank for value in pool)
    x, borders, ones = noise(rng, 2, 8, *(9, 8, 7)[:rank]), [(pool[2],) * 2] * rank, (1,) * rank
    count = count_of(x.shape, kernel, stride, borders, ones)
    seen = [view for _, view in windows(x, kernel, stride, borders, ones, count)]
    inside = pad(np.ones_like(x), borders, float(count_include_pad))
    divisor = sum(inside[view] for view in seen)
    y = onednn.avg_pool_forward(x, kernel, stride, padding, count_include_pad)
    close(y, sum(pad(x, borders)[view] for view in seen) / divisor)

    grad = noise(rng, *y.shape)
    expected = pad(np.zeros_like(x), borders)
    for view in seen:
        expected[view] += grad / divisor
    inner = (..., *(slice(p, p + n) for p, n in zip(padding, x.shape[2:])))
    close(onednn.avg_pool_backward(grad, x.shape, kernel, stride, padding, count_include_pad), expected[inner])


# ---- normalisation -----------------------------------------------------------------------------


def normalise(x, axes, scale, shift, eps):
    x = x.astype(np.float64)
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * scale + shift, mean, variance


def normalise_gradients(grad, x, axes, scale, eps):
    """(of x, of the scale before summing); the gradient through mean and variance written out."""
    unit, _, variance = normalise(x, axes, 1, 0, eps)
    g = grad * scale
    to_x = (g - g.mean(axes, keepdims=True) - unit * (g * unit).mean(axes, keepdims=True)) / np.sqrt(variance + eps)
    return to_x, grad * unit


@pytest.mark.parametrize("shape", [(4, 16, 5, 7), (3, 6, 4), (2, 8, 3, 4, 5), (6, 7)])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_batch_norm(rng, shape, channels_last, affine):
    x, grad = noise(rng, *shape, channels_last=channels_last), noise(rng, *shape)
    c, axes = shape[1], (0, *range(2, len(shape)))
    scale, shift = (noise(rng, c), noise(rng, c)) if affine else (None, None)
    lie = (1, c, *(1,) * (len(shape) - 2))
    wide = (scale.reshape(lie), shift.reshape(lie)) if affine else (1.0, 0.0)
    expected, mean, variance = normalise(x, axes, *wide, 1e-3)
    y, m, v, workspace = onednn.batch_norm_train(x, scale, shift, 1e-3)
    close(y, expected)
    close(m, mean.reshape(c))
    close(v, variance.reshape(c))
    assert workspace is None
    assert y.strides == x.strides
    close(onednn.batch_norm_eval(x, scale, shift, m, v, 1e-3), expected)
    np.testing.assert_array_equal(onednn.batch_norm_eval(x, scale, shift, m, v, 1e-3, relu=True),
                                  np.maximum(onednn.batch_norm_eval(x, scale, shift, m, v, 1e-3), 0))

    to_x, to_scale = normalise_gradients(grad, x, axes, wide[0], 1e-3)
    dx, dscale, dshift = onednn.batch_norm_backward(grad, x, scale, m, v, 1e-3, shift=affine)
    close(dx, to_x, 1e-4)
    if affine:
        close(dscale, to_scale.sum(axes), 1e-4)
        close(dshift, grad.sum(axes), 1e-4)
    else:
        assert dscale is None
        assert dshift is None
    fixed, _, _ = onednn.batch_norm_backward(grad, x, scale, m, v, 1e-3, train=False, shift=affine)
    close(fixed, grad * wide[0] / np.sqrt(variance + 1e-3), 1e-4)


def test_batch_norm_with_relu(rng):
    x, grad = noise(rng, 4, 8, 5, 5), noise(rng, 4, 8, 5, 5)
    scale, shift = noise(rng, 8), noise(rng, 8)
    plain, m, v, _ = onednn.batch_norm_train(x, scale, shift, 1e-5)
    y, _, _, workspace = onednn.batch_norm_train(x, scale, shift, 1e-5, relu=True)
    np.testing.assert_array_equal(y, np.maximum(plain, 0))
    expected = onednn.batch_norm_backward(grad * (plain > 0), x, scale, m, v, 1e-5)
    for actual, wanted in zip(onednn.batch_norm_backward(grad, x, scale, m, v, 1e-5, workspace=workspace), expected):
        close(actual, wanted)


@pytest.mark.parametrize("shape, axes", [((4, 6, 5), 1), ((4, 6, 5), 2), ((7, 33), 1)])
@pytest.mark.parametrize("affine", [False, True])
def test_layer_norm(rng, shape, axes, affine):
    x, grad, inner = noise(rng, *shape), noise(rng, *shape), shape[len(shape) - axes:]
    scale, shift = (noise(rng, *inner), noise(rng, *inner)) if affine else (None, None)
    over, lead = tuple(range(len(shape) - axes, len(shape))), tuple(range(len(shape) - axes))
    wide = (scale, shift) if affine else (1.0, 0.0)
    expected, mean, variance = normalise(x, over, *wide, 1e-5)
    y, m, v = onednn.layer_norm(x, axes, scale, shift, 1e-5)
    close(y, expected)
    close(m, mean.reshape(m.shape))
    close(v, variance.reshape(v.shape))
    to_x, to_scale = normalise_gradients(grad, x, over, wide[0], 1e-5)
    dx, dscale, dshift = onednn.layer_norm_backward(grad, x, axes, scale, m, v, 1e-5, shift=affine)
    close(dx, to_x, 1e-4)
    if affine:
        close(dscale, to_scale.sum(lead), 1e-4)
        close(dshift, grad.sum(lead), 1e-4)


# ---- elementwise -------------------------------------------------------------------------------

erf = np.vectorize(math.erf)
FUNCTIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "exp": np.exp,
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "gelu": lambda x: x * (1 + erf(x / np.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "softplus": lambda x: np.log1p(np.exp(x)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_eltwise(rng, name):
    function, alpha = FUNCTIONS[name], 1.0 if name == "elu" else 0.0
    x, grad = 2 * noise(rng, 3, 4, 5, 6, channels_last=True), noise(rng, 3, 4, 5, 6)
    y = onednn.eltwise(name, x, alpha)
    close(y, function(x.astype(np.float64)))
    assert y.strides == x.strides
    step = 1e-6
    slope = (function(x + np.float64(step)) - function(x - np.float64(step))) / (2 * step)
    close(onednn.eltwise_backward(name, grad, y if name in onednn.FROM_OUTPUT else x, alpha), grad * slope, 1e-4)


@pytest.mark.parametrize("name, function", [
    ("add", np.add), ("sub", np.subtract), ("mul", np.multiply), ("div", np.divide), ("maximum", np.maximum),
    ("minimum", np.minimum)])
def test_binary(rng, name, function):
    x, y = noise(rng, 3, 4, 5), noise(rng, 3, 4, 5, channels_last=True)
    close(onednn.binary(name, x, y), function(x, y))
    close(onednn.binary(name, x[:, ::2], y[:, ::2]), function(x[:, ::2], y[:, ::2]))


def test_add_many(rng):
    arrays = [noise(rng, 3, 4, 5, channels_last=i % 2 == 1) for i in range(4)]
    close(onednn.add_many(arrays), sum(arrays))


@pytest.mark.parametrize("shape, axis", [((4, 10), 1), ((4, 10), 0), ((3, 5, 7), 1), ((3, 5, 7), -1), ((6,), 0)])
@pytest.mark.parametrize("log", [False, True])
def test_softmax(rng, shape, axis, log):
    x, grad = 5 * noise(rng, *shape), noise(rng, *shape)
    e = np.exp(x.astype(np.float64) - x.max(axis, keepdims=True))
    p = e / e.sum(axis, keepdims=True)
    y = onednn.softmax(x, axis, log)
    close(y, np.log(p) if log else p)
    expected = grad - p * grad.sum(axis, keepdims=True) if log else p * (grad - (p * grad).sum(axis, keepdims=True))
    close(onednn.softmax_backward(grad, y, axis, log), expected)


# ---- matrices and orders -----------------------------------------------------------------------


def turned(array):
    """The same values with the last two axes exchanged in memory."""
    return np.ascontiguousarray(array.swapaxes(-1, -2)).swapaxes(-1, -2)


@pytest.mark.parametrize("left, right", [
    ((3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (6, 4, 5)), ((2, 3, 4), (4, 5)), ((1, 1), (1, 1)),
    ((1, 7), (7, 1))])
def test_matmul(rng, left, right):
    x, y, bias = noise(rng, *left), noise(rng, *right), noise(rng, right[-1])
    for a, b in ((x, y), (turned(x), y), (x, turned(y)), (turned(x), turned(y))):
        close(onednn.matmul(a, b), x @ y)
        close(onednn.matmul(a, b, bias), x @ y + bias)
        if a.ndim == b.ndim == 2:
            close(onednn.sgemm(a, b), x @ y)
    out = np.ones((3, 5), np.float32)
    close(onednn.sgemm(noise(rng, 3, 4) * 0, noise(rng, 4, 5), out, add=True), np.ones((3, 5)))


def test_matmul_refuses_shapes_that_do_not_fit(rng):
    for product in (onednn.sgemm, onednn.matmul):
        with pytest.raises(ValueError, match="4 columns, 5 rows"):
            product(noise(rng, 3, 4), noise(rng, 5, 6))
    with pytest.raises(ValueError, match="broadcast"):
        onednn.matmul(noise(rng, 2, 3, 4), noise(rng, 3, 4, 5))


def test_linear(rng):
    x, w, bias = noise(rng, 2, 3, 4), noise(rng, 5, 4), noise(rng, 5)
    close(onednn.linear(x, w), x @ w.T)
    close(onednn.linear(x, w, bias), x @ w.T + bias)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 1, 4, 5), (2, 3, 1, 1), (2, 16, 8), (2, 4, 3, 3, 3)])
def test_reorders(rng, shape):
    x = noise(rng, *shape)
    last = onednn.channels_last(x)
    np.testing.assert_array_equal(last, x)
    assert np.moveaxis(last, 1, -1).flags.c_contiguous
    assert onednn.channels_last(last) is last
    back = onednn.contiguous(last)
    np.testing.assert_array_equal(back, x)
    assert back.flags.c_contiguous
    assert onednn.contiguous(x) is x
