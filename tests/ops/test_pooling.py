"""Pooling against plain loops; ceil_mode, nan, indices, unpooling, errors."""

import itertools
import math

import numpy as np
import pytest

import flambeau as torch
import flambeau.nn.functional as F
from flambeau.autograd import gradgradcheck

nan, inf = math.nan, math.inf


def window_starts(size, kernel, stride, padding, dilation, ceil_mode):
    """Where windows start along one dimension, by PyTorch's documentation."""
    room = (size + 2 * padding - dilation * (kernel - 1) - 1) / stride
    count = (math.ceil(room) if ceil_mode else math.floor(room)) + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1
    return [i * stride - padding for i in range(count)]


def loops(x, kernel, stride, padding, dilation, ceil_mode, function):
    """`function` of the elements (positions, values) of each window of a plane that lie inside it."""
    starts = [window_starts(n, kernel, stride, padding, dilation, ceil_mode) for n in x.shape]
    out = np.empty([len(s) for s in starts], object)
    for place in np.ndindex(out.shape):
        corner = [s[i] for s, i in zip(starts, place)]
        inside = [
            at
            for at in itertools.product(*(range(c, c + kernel * dilation, dilation) for c in corner))
            if all(0 <= p < n for p, n in zip(at, x.shape))
        ]
        out[place] = function(corner, inside, [x[at] for at in inside])
    return out


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    "kernel, stride, padding, dilation, ceil_mode",
    [
        (2, 2, 0, 1, False),
        (3, 2, 1, 1, True),
        (2, 3, 1, 1, True),
        (2, 1, 1, 2, False),
        (3, 3, 0, 1, True),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_max_pool(rank, kernel, stride, padding, dilation, ceil_mode, dtype, engine):
    size = (7, 8, 6)[:rank]
    x = np.random.default_rng(0).integers(-4, 5, (2, 2, *size)).astype(dtype)  # ties
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
    values, indices = pool(torch.tensor(x), kernel, stride, padding, dilation, ceil_mode, return_indices=True)
    assert indices.dtype is torch.int64 and values.numpy().dtype == dtype
    for n, c in np.ndindex(2, 2):
        best = loops(x[n, c], kernel, stride, padding, dilation, ceil_mode, lambda corner, inside, seen: max(seen))
        first = loops(
            x[n, c],
            kernel,
            stride,
            padding,
            dilation,
            ceil_mode,
            lambda corner, inside, seen: np.ravel_multi_index(inside[seen.index(max(seen))], size),
        )
        np.testing.assert_array_equal(values.numpy()[n, c], best.astype(dtype))
        np.testing.assert_array_equal(indices.numpy()[n, c], first.astype(np.int64))
    alone = pool(torch.tensor(x), kernel, stride, padding, dilation, ceil_mode)
    np.testing.assert_array_equal(alone.numpy(), values.numpy())


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kernel, stride, padding, ceil_mode", [(2, 2, 0, False), (3, 2, 1, True), (2, 3, 1, True)])
@pytest.mark.parametrize("count_include_pad", [True, False])
def test_avg_pool(rank, kernel, stride, padding, ceil_mode, count_include_pad, engine):
    x = np.random.default_rng(0).standard_normal((2, 3, *(7, 8, 6)[:rank])).astype(np.float32)
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[rank - 1]
    t = torch.tensor(x, requires_grad=True)
    out = pool(t, kernel, stride, padding, ceil_mode, count_include_pad)

    def mean(corner, inside, seen):
        clipped = math.prod(min(c + kernel, n + padding) - c for c, n in zip(corner, x.shape[2:]))
        return sum(seen) / (clipped if count_include_pad else len(seen))

    for n, c in np.ndindex(2, 3):
        expected = loops(x[n, c], kernel, stride, padding, 1, ceil_mode, mean).astype(np.float32)
        np.testing.assert_allclose(out.detach().numpy()[n, c], expected, rtol=1e-5, atol=1e-6)
    out.backward(out.detach())  # <pool(x), pool(x)> = <x, adjoint of pool(x)>
    assert (t.detach() * t.grad).sum().item() == pytest.approx((out * out).sum().item(), rel=1e-4)


def test_max_pool_gradient_goes_to_the_first_maximum(engine):
    x = torch.tensor([[[[1.0, 3.0, 3.0, 0.0], [3.0, 2.0, 1.0, 0.0]]]], requires_grad=True)
    F.max_pool2d(x, 2, stride=(2, 1)).sum().backward()
    assert x.grad.tolist() == [[[[0, 2, 1, 0], [0, 0, 0, 0]]]]


def test_nan_counts_as_largest_and_minus_infinity_survives(engine):
    x = torch.tensor([[[[1.0, nan, 3.0, 4.0], [5.0, 6.0, -inf, 2.0], [-inf, -inf, 0.0, nan], [-inf, -inf, nan, 1.0]]]])
    values, indices = F.max_pool2d(x, 2, return_indices=True)
    assert str(values.tolist()) == str([[[[nan, 4.0], [-inf, nan]]]])
    assert indices.tolist() == [[[[1, 3], [8, 14]]]]
    padded = F.max_pool2d(torch.full((1, 1, 2, 2), -inf), 2, padding=1, return_indices=True)[1]
    assert padded.tolist() == [[[[0, 1], [2, 3]]]]


def test_integers_are_averaged_towards_zero():
    x = torch.tensor([[[[-7, -8], [1, -1]]]])
    assert F.avg_pool2d(x, 2).item() == -3
    assert F.avg_pool2d(x, 2, divisor_override=-2).item() == 7


def test_adaptive_pools_have_overlapping_bins(engine):
    x = torch.arange(7.0).reshape(1, 1, 7)
    assert F.adaptive_avg_pool1d(x, 3).tolist() == [[[1.0, 3.0, 5.0]]]
    assert F.adaptive_max_pool1d(x, 3, return_indices=True)[1].tolist() == [[[2, 4, 6]]]
    assert F.adaptive_avg_pool1d(x, 1).tolist() == [[[3.0]]]
    image = torch.randn(2, 3, 4, 6)
    assert F.adaptive_avg_pool2d(image, (None, 3)).shape == (2, 3, 4, 3)
    assert torch.allclose(F.adaptive_avg_pool2d(image, (2, 3)), F.avg_pool2d(image, 2), atol=1e-6)
    assert F.adaptive_avg_pool2d(image, 0).shape == (2, 3, 0, 0)


def test_unpooling_puts_maxima_back(engine):
    x = torch.arange(16.0).reshape(1, 1, 4, 4).requires_grad_()
    values, indices = F.max_pool2d(x, 2, return_indices=True)
    back = F.max_unpool2d(values, indices, 2)
    assert back.tolist() == [[[[0, 0, 0, 0], [0, 5, 0, 7], [0, 0, 0, 0], [0, 13, 0, 15]]]]
    back.sum().backward()
    assert x.grad.tolist() == (back != 0).float().tolist()
    assert F.max_unpool2d(values.detach(), indices, 2, output_size=(5, 5)).shape == (1, 1, 5, 5)
    with pytest.raises(ValueError, match="within a stride"):
        F.max_unpool2d(values.detach(), indices, 2, output_size=(7, 7))
    with pytest.raises(RuntimeError, match="invalid max index"):
        F.max_unpool2d(values.detach(), indices + 5, 2)


def test_fractional_pool_takes_every_window_from_its_samples():
    x = torch.arange(30.0).reshape(1, 1, 5, 6).double().requires_grad_()
    samples = torch.tensor([[[0.3, 0.6]]], dtype=torch.float64)
    values, indices = F.fractional_max_pool2d(x, 2, output_size=(3, 3), return_indices=True, _random_samples=samples)
    assert indices.tolist() == [[[[7, 9, 11], [19, 21, 23], [25, 27, 29]]]]  # recorded from PyTorch
    values.sum().backward()
    assert x.grad.sum().item() == 9
    torch.manual_seed(0)
    assert F.fractional_max_pool3d(torch.randn(2, 3, 6, 6, 6), 2, output_ratio=0.5).shape == (2, 3, 3, 3, 3)


def test_second_derivatives(engine):
    x = torch.randn(1, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    assert gradgradcheck(lambda t: F.max_pool2d(t, 3, 2, 1) ** 2, [x])
    assert gradgradcheck(lambda t: F.avg_pool2d(t, 2, 1) ** 2, [x])
    assert gradgradcheck(lambda t: F.adaptive_avg_pool2d(t, 3) ** 2, [x])
    assert gradgradcheck(lambda t: F.adaptive_max_pool2d(t, 3) ** 2, [x])


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (lambda: F.max_pool2d(torch.ones(1, 1, 2, 2), 3), RuntimeError, r"larger than the input \(1×1×2×2\)"),
        (
            lambda: F.max_pool2d(torch.ones(1, 1, 8, 8), 2, padding=2),
            RuntimeError,
            "half of the kernel size, got padding",
        ),
        (lambda: F.max_pool2d(torch.ones(8, 8), 2), RuntimeError, "expected 3D or 4D input, got input 8×8"),
        (lambda: F.avg_pool2d(torch.ones(1, 1, 8, 8), 2, divisor_override=0), RuntimeError, "divisor must be not zero"),
        (lambda: F.avg_pool1d(torch.ones(1, 1, 8), 2, stride=0), RuntimeError, "greater than zero"),
        (
            lambda: F.adaptive_avg_pool2d(torch.ones(1, 1, 8, 8), (1, 2, 3)),
            RuntimeError,
            "output_size must be one number or 2",
        ),
        (lambda: F.fractional_max_pool2d(torch.ones(1, 1, 8, 8), 2), ValueError, "output_size or an output_ratio"),
        (lambda: F.max_pool2d([1.0], 2), TypeError, "must be Tensor, not list"),
        (lambda: F.max_pool2d(torch.ones(1, 1, 8, 8), 2.5), TypeError, "'kernel_size' must be int"),
    ],
)
def test_errors(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
