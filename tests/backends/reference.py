"""Slow and obvious NumPy versions of what the backends compute, sharing no code with them."""

from __future__ import annotations

import itertools

import numpy as np


def noise(rng, *shape, channels_last=False):
    """Normal float32 numbers, in plain or channels-last memory."""
    array = rng.standard_normal(shape).astype(np.float32)
    if not channels_last or array.ndim < 3:
        return array
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)


def close(actual, expected, tolerance=2e-5):
    """Assert equality up to rounding that grows with the size of the values."""
    assert actual.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(actual, expected, rtol=tolerance * 10, atol=tolerance * scale)


def pad(x, padding, value=0.0):
    return np.pad(x, ((0, 0), (0, 0), *padding), constant_values=value)


def windows(x, kernel, stride, padding, dilation, count):
    """Yield (place in the kernel, slices of the padded image that the windows see there)."""
    for place in itertools.product(*map(range, kernel)):
        yield place, (slice(None), slice(None), *(
            slice(k * d, k * d + (n - 1) * s + 1, s) for k, n, s, d in zip(place, count, stride, dilation)))


def count_of(shape, kernel, stride, padding, dilation):
    return tuple((n + sum(p) - d * (k - 1) - 1) // s + 1
                 for n, k, s, p, d in zip(shape[2:], kernel, stride, padding, dilation))


def convolution(x, w, bias, stride, padding, dilation, groups):
    """Place by place: an einsum over channels."""
    x = pad(x.astype(np.float64), padding)
    none = [(0, 0)] * len(stride)
    count = count_of(x.shape, w.shape[2:], stride, none, dilation)
    n, c = x.shape[:2]
    weight = w.astype(np.float64).reshape(groups, w.shape[0] // groups, c // groups, *w.shape[2:])
    out = np.zeros((n, groups, w.shape[0] // groups, *count))
    for place, seen in windows(x, w.shape[2:], stride, none, dilation, count):
        values = x[seen].reshape(n, groups, c // groups, *count)
        out += np.einsum("ngc...,goc->ngo...", values, weight[(..., *place)])
    out = out.reshape(n, w.shape[0], *count)
    return out if bias is None else out + bias.reshape(-1, *(1,) * len(count))


def convolution_gradients(grad, x, w, stride, padding, dilation, groups):
    """(of the image, of the weight, of the bias), place by place."""
    wide = pad(x.astype(np.float64), padding)
    count, (n, c) = grad.shape[2:], x.shape[:2]
    weight = w.astype(np.float64).reshape(groups, w.shape[0] // groups, c // groups, *w.shape[2:])
    g = grad.astype(np.float64).reshape(n, groups, w.shape[0] // groups, *count)
    to_x, to_w = np.zeros_like(wide), np.zeros_like(weight)
    for place, seen in windows(wide, w.shape[2:], stride, padding, dilation, count):
        values = wide[seen].reshape(n, groups, c // groups, *count)
        to_x[seen] += np.einsum("ngo...,goc->ngc...", g, weight[(..., *place)]).reshape(n, c, *count)
        rows, columns = (a.reshape(*a.shape[:3], -1) for a in (g, values))
        to_w[(..., *place)] = np.einsum("ngok,ngck->goc", rows, columns)
    inside = (..., *(slice(b, b + size) for (b, _), size in zip(padding, x.shape[2:])))
    return to_x[inside], to_w.reshape(w.shape), grad.astype(np.float64).sum((0, *range(2, grad.ndim)))
