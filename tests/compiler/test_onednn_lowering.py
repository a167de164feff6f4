"""Every lowering to oneDNN against the primitive's own kernel."""

from __future__ import annotations

import numpy as np
import pytest

from flambeau.backends.onednn import available
from flambeau.compiler.steps import LibraryStep
from flambeau.core.dispatch import REGISTRY
from tests.compiler.library_steps import check, lowered

pytestmark = pytest.mark.skipif(not available(), reason="oneDNN is not installed")


def numbers(*shape: int, last: bool = False, seed: int = 0) -> np.ndarray:
    """Random float32; with `last` the memory runs (N, spatial…, C)."""
    made = np.random.default_rng(seed + len(shape)).standard_normal(shape, dtype=np.float32)
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(made, 1, -1)), -1, 1) if last else made


def attrs(rank, stride=1, padding=0, dilation=1, groups=1):
    def each(v):
        return v if isinstance(v, tuple) else (v,) * rank

    return {
        "stride": each(stride),
        "dilation": each(dilation),
        "groups": groups,
        "padding": tuple(p if isinstance(p, tuple) else (p, p) for p in each(padding)),
    }


CASES = [  # image, weight, attributes
    ((2, 16, 9, 11), (24, 16, 3, 3), attrs(2, padding=1)),
    ((2, 3, 17, 13), (16, 3, 7, 7), attrs(2, stride=2, padding=3)),
    ((1, 1, 28, 28), (8, 1, 4, 4), attrs(2, stride=2, padding=1)),
    ((3, 5, 7, 7), (7, 5, 3, 2), attrs(2, stride=(2, 1), padding=(1, 0))),
    ((2, 8, 10, 10), (16, 8, 3, 3), attrs(2, dilation=2, padding=2)),
    ((2, 16, 8, 8), (32, 4, 3, 3), attrs(2, groups=4, padding=1)),
    ((2, 16, 8, 8), (16, 1, 3, 3), attrs(2, groups=16, padding=1)),
    ((2, 16, 8, 8), (32, 16, 1, 1), attrs(2)),
    ((2, 16, 8, 9), (32, 16, 1, 1), attrs(2, stride=2)),
    ((2, 8, 8, 8), (16, 8, 4, 4), attrs(2, padding=((1, 2), (2, 1)))),
    ((2, 8, 30), (16, 8, 5), attrs(1, padding=2, stride=2)),
    ((2, 4, 6, 7, 8), (8, 4, 3, 3, 3), attrs(3, padding=1)),
]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("x_shape, w_shape, how", CASES)
def test_convolution(x_shape, w_shape, how, last):
    x, w, bias = numbers(*x_shape, last=last), numbers(*w_shape), numbers(w_shape[0])
    check("convolution", x, w, bias, **how)
    steps = check("convolution", x, w, None, **how)
    assert all(isinstance(step, LibraryStep) for step in steps)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("x_shape, w_shape, how", CASES)
def test_gradients_of_convolution(x_shape, w_shape, how, last):
    x, w = numbers(*x_shape, last=last), numbers(*w_shape)
    y = REGISTRY["convolution"].kernel(x, w, None, **how)
    grad = numbers(*y.shape, last=last)
    size, kernel = x_shape[2:], w_shape[2:]
    check("transposed_convolution", grad, w, None, size=size, **how)
    check("transposed_convolution", grad, w, numbers(w_shape[1] * how["groups"]), size=size, **how)
    check("weight_gradient", x, grad, kernel=kernel, want_bias=True, **how)
    check("weight_gradient", x, grad, kernel=kernel, want_bias=False, **how)


def test_convolution_of_windows():
    """A slice of a larger block, a transposed weight, an expanded gradient, a bias with gaps."""
    how = attrs(2, padding=1)
    x, w = numbers(4, 24, 9, 9)[1:3, 4:20], numbers(16, 24, 3, 3).transpose(1, 0, 2, 3)
    check("convolution", x, w, numbers(48)[::2], **how)
    check("convolution", x.transpose(0, 1, 3, 2), w, None, **how)
    grad = np.broadcast_to(numbers(2, 24, 1, 1), (2, 24, 9, 9))
    check("transposed_convolution", grad, w, None, size=(9, 9), **how)
    check("weight_gradient", x, grad, kernel=(3, 3), want_bias=True, **how)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    "shape, how",
    [
        ((1, 28, 28), attrs(2, padding=1, stride=2)),
        ((3, 15, 16), attrs(2, padding=((1, 0), (0, 2)), stride=2)),
        ((2, 20, 21), attrs(2, stride=(3, 5))),
        ((4, 20), attrs(1, stride=2, dilation=3, padding=2)),
    ],
)
def test_transposed_convolution_to_few_channels(shape, how, last):
    channels, *size = shape
    w = numbers(16, channels, *(4,) * len(size))
    y = REGISTRY["convolution"].kernel(numbers(3, *shape), w, None, **how)
    steps = check("transposed_convolution", numbers(*y.shape, last=last), w, None, size=tuple(size), **how)
    assert sum(isinstance(step, LibraryStep) for step in steps) == 1


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("how", [attrs(2, padding=1), attrs(2, padding=(0, 2), stride=(1, 2), dilation=(1, 2))])
def test_weight_gradient_as_one_product(how, last, monkeypatch):
    """The way for shapes that oneDNN has no kernel for."""
    from flambeau.compiler.lower import convolution

    monkeypatch.setattr(convolution, "quality", lambda primitive: 1)
    x = numbers(3, 40, 4, 5, last=last)
    y = REGISTRY["convolution"].kernel(x, numbers(48, 40, 3, 3), None, **how)
    steps = check("weight_gradient", x, numbers(*y.shape, last=last), kernel=(3, 3), want_bias=True, **how)
    assert sum(isinstance(step, LibraryStep) for step in steps) == 2
    check("weight_gradient", x, numbers(*y.shape), kernel=(3, 3), want_bias=False, **how)


def test_empty_batches_and_other_types_are_declined():
    how = attrs(2)
    x, w = numbers(0, 4, 5, 5), numbers(8, 4, 3, 3)
    y = np.empty((0, 8, 3, 3), np.float32)
    assert lowered("convolution", [x, w, None], how, [y]) is None
    x, w, y = (np.ones(s) for s in ((1, 4, 5, 5), (8, 4, 3, 3), (1, 8, 3, 3)))
    assert lowered("convolution", [x, w, None], how, [y]) is None


MATRICES = [
    (numbers(64, 200), numbers(200, 10)),
    (numbers(64, 10).T, numbers(64, 200)),
    (numbers(33, 47), numbers(65, 47).T),
    (numbers(3, 4, 16, 24), numbers(3, 4, 24, 17)),
    (numbers(3, 16, 4, 24).transpose(0, 2, 1, 3), numbers(3, 17, 4, 24).transpose(0, 2, 3, 1)),
    (numbers(5, 40, 32), numbers(32, 48)),
    (numbers(1, 40, 32), numbers(6, 32, 24)),
    (np.broadcast_to(numbers(40, 32), (6, 40, 32)), numbers(6, 32, 24)),
    (numbers(2, 1, 20, 30), numbers(3, 30, 20)),
    (np.broadcast_to(numbers(9, 17), (4, 9, 17)), np.broadcast_to(numbers(17, 16), (4, 17, 16))),
    (numbers(80, 60)[::2, ::2], numbers(60, 90)[::2]),
    (numbers(1, 512), numbers(512, 300)),
    (numbers(300, 512), numbers(512, 1)),
    (numbers(70, 1), numbers(1, 90)),
    (numbers(9, 1), numbers(1, 8)),
    (numbers(64, 256), numbers(1, 256).T),
    (numbers(600, 1024).T, numbers(600, 70)),  # rows that collide in the cache
    (numbers(70, 600), numbers(600, 1024)),
    (numbers(600, 512), numbers(40, 512).T),
]


@pytest.mark.parametrize("x, y", MATRICES)
def test_matmul(x, y):
    check("matmul", x, y)


@pytest.mark.parametrize("shape", [(64, 30), (4, 16, 30), (30,), (1, 30)])
def test_linear(shape):
    x, w, bias = numbers(*shape), numbers(50, 30), numbers(50)
    check("linear", x, w, bias)
    check("linear", x, w, None)
    check("linear", x, numbers(30, 50).T, numbers(100)[::2])


def test_linear_of_windows():
    """Rows that cannot be joined are copied first; a column of a larger matrix is read in place."""
    w, bias = numbers(50, 32), numbers(50)
    check("linear", numbers(8, 6, 32).transpose(1, 0, 2), w, bias)
    check("linear", numbers(40, 64)[:, 16:48], w, bias)
    square = numbers(6, 6)
    check("matmul", square, square.T)


def test_products_of_other_types_are_declined():
    x, y = np.ones((4, 5)), np.ones((5, 6))
    assert lowered("matmul", [x, y], {}, [x @ y]) is None
    x, y = numbers(0, 5), numbers(5, 6)
    assert lowered("matmul", [x, y], {}, [x @ y]) is None


POOLS = [  # image, kernel, stride, padding, windows per axis
    ((2, 16, 8, 8), (2, 2), (2, 2), (0, 0), (4, 4)),
    ((2, 5, 9, 7), (3, 3), (2, 2), (1, 1), (5, 4)),
    ((2, 5, 9, 7), (3, 2), (1, 2), (1, 0), (9, 3)),
    ((1, 3, 10), (4,), (3,), (2,), (4,)),
    ((1, 3, 6, 6, 6), (2, 2, 2), (2, 2, 2), (0, 0, 0), (3, 3, 3)),
    ((2, 8, 8, 8), (3, 3), (2, 2), (0, 0), (4, 4)),
]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("include_pad", [False, True])
@pytest.mark.parametrize("shape, kernel, stride, padding, count", POOLS)
def test_avg_pool(shape, kernel, stride, padding, count, include_pad, last):
    how = {
        "kernel": kernel,
        "stride": stride,
        "padding": padding,
        "count": count,
        "include_pad": include_pad,
        "divisor": None,
    }
    if include_pad and shape == (2, 8, 8, 8):  # windows beyond the padding
        x = numbers(*shape, last=last)
        assert lowered("avg_pool", [x], how, [np.empty((2, 8, 4, 4), np.float32)]) is None
        return
    check("avg_pool", numbers(*shape, last=last), **how)
    check("avg_pool_backward", numbers(*shape[:2], *count, last=last), size=shape[2:], **how)
    expanded = np.broadcast_to(numbers(*shape[:2], *(1,) * len(count)), (*shape[:2], *count))
    check("avg_pool_backward", expanded, size=shape[2:], **how)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("shape, kernel, stride, padding, count", POOLS)
def test_max_pool(shape, kernel, stride, padding, count, dilation, last):
    """With nan and infinities, ties, and windows that overlap or leave places out."""
    count = (
        tuple((n + 2 * p - dilation * (k - 1) - 1) // s + 1 for n, p, k, s in zip(shape[2:], padding, kernel, stride))
        if dilation > 1
        else count
    )
    x = numbers(*shape, last=last).round(1)
    x[0, 0] = -np.inf
    x[0, 1].flat[5], x[0, 2].flat[2] = np.nan, np.inf
    how = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": (dilation,) * len(kernel)}
    check("max_pool", x, count=count, track=False, **how)
    steps = check("max_pool", x, count=count, track=True, **how)
    assert len(steps) <= 3 ** len(kernel)
    place = REGISTRY["max_pool"].run(x, count=count, track=True, **how)[1]
    check("max_pool_backward", numbers(*shape[:2], *count, last=last), place, size=shape[2:], **how)


def test_gaps_between_pools_get_zero_gradients():
    how = {"kernel": (2, 2), "stride": (3, 4), "padding": (0, 0), "dilation": (1, 1)}
    x = numbers(2, 4, 12, 11)
    _, place = REGISTRY["max_pool"].run(x, count=(4, 3), track=True, **how)
    check("max_pool_backward", numbers(2, 4, 4, 3), place, size=(12, 11), **how)
