"""Activations of arrays large enough for oneDNN or the arithmetic on bits: as small ones, at nan and infinities too."""

import numpy as np
import pytest

import flambeau as torch
import flambeau.nn.functional as F
from flambeau.core.dispatch import REGISTRY

N = 3 * 4096
CORNERS = [np.nan, np.inf, -np.inf, 0.0, -0.0, 100.0, -100.0, 20.5, -20.5]
FUNCTIONS = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "elu": F.elu,
    "elu_steep": lambda x: F.elu(x, alpha=1.7),
    "selu": F.selu,
    "celu": lambda x: F.celu(x, alpha=0.6),
    "softplus": F.softplus,
    "softplus_low": lambda x: F.softplus(x, beta=2.0, threshold=1.0),
    "logsigmoid": F.logsigmoid,
    "mish": F.mish,
}


def values():
    x = np.random.default_rng(0).normal(0, 3, N).astype(np.float32)
    x[: len(CORNERS)] = CORNERS
    return x


def value_and_gradient(function, x, weights):
    x = torch.from_numpy(x).requires_grad_()
    out = function(x)
    out.backward(torch.from_numpy(weights))
    return out.detach().numpy(), x.grad.numpy()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_large_is_many_small(name):
    function, x = FUNCTIONS[name], values()
    weights = np.random.default_rng(1).normal(0, 1, N).astype(np.float32)
    large = value_and_gradient(function, x, weights)
    small = [value_and_gradient(function, x[i : i + 1024], weights[i : i + 1024]) for i in range(0, N, 1024)]
    for whole, parts in zip(large, zip(*small, strict=True), strict=True):
        np.testing.assert_allclose(whole, np.concatenate(parts), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_strided_gradient(name):
    """A gradient in another memory order than the input, and one of stride 0."""
    function, x = FUNCTIONS[name], values()[len(CORNERS) :][:12000].reshape(100, 120)
    for weights in (np.linspace(-1, 1, 12000, dtype=np.float32).reshape(120, 100).T,
                    np.broadcast_to(np.float32(0.5), (100, 120))):
        given = torch.from_numpy(x).requires_grad_()
        function(given).backward(torch.from_numpy(np.array(weights, order="K")))
        _, expected = value_and_gradient(function, x, np.ascontiguousarray(weights))
        np.testing.assert_allclose(given.grad.numpy(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["softplus", "logsigmoid"])
def test_relative_accuracy_of_small_values(name):
    """log(1 + exp(x)) keeps its digits far below the rounding of 1."""
    x = np.linspace(-60, 15, 5000)
    out = FUNCTIONS[name](torch.from_numpy(x if name == "softplus" else -x).float()).numpy()
    expected = np.log1p(np.exp(np.float64(np.float32(x)))) * (1 if name == "softplus" else -1)
    np.testing.assert_allclose(out, expected, rtol=5e-7)


def test_where_keeps_nan_and_signs():
    """The fast way of where(c, x, 0) stops nan on the other side and hands -0.0 on."""
    x = torch.from_numpy(values())
    for c in (x > 0, x != x, torch.ones(N, dtype=torch.bool)):
        for zero in (torch.tensor(0.0), torch.tensor(-0.0)):
            for out, expected in ((torch.where(c, x, zero), np.where(c.numpy(), x.numpy(), zero.numpy())),
                                  (torch.where(c, zero, x), np.where(c.numpy(), zero.numpy(), x.numpy()))):
                np.testing.assert_array_equal(out.numpy().view(np.int32), expected.view(np.int32))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_softmax(name, dim):
    """Values and gradients of rows with nan and infinities, and beside them, as in float64."""
    function = getattr(torch, name)
    x = np.random.default_rng(2).normal(0, 3, (20, 30, 25)).astype(np.float32)
    weights = torch.from_numpy(np.random.default_rng(3).normal(0, 1, x.shape).astype(np.float32))
    for corners in ([], CORNERS, [-np.inf]):
        x[0, 0, : len(corners)] = corners
        given = [torch.tensor(x, dtype=dtype, requires_grad=True) for dtype in (torch.float32, torch.float64)]
        outs = [function(g, dim) for g in given]
        for out in outs:
            out.backward(weights.to(out.dtype))
        np.testing.assert_allclose(*(out.detach().numpy() for out in outs), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(*(g.grad.numpy() for g in given), rtol=1e-4, atol=3e-6)


def test_log1p():
    x = np.concatenate([np.geomspace(1e-30, 1e30, 5000), -np.geomspace(1e-30, 1, 5000), CORNERS, [-1.0, -2.0]])
    x = x.astype(np.float32)
    with np.errstate(all="ignore"):
        expected = np.log1p(x.astype(np.float64))
    np.testing.assert_allclose(torch.log1p(torch.from_numpy(x)).numpy(), expected, rtol=5e-7)


def test_second_derivative_of_large_arrays():
    x = torch.from_numpy(values()[len(CORNERS) :]).requires_grad_()
    (slope,) = torch.autograd.grad(F.gelu(x).sum(), x, create_graph=True)
    slope.sum().backward()
    plain = torch.from_numpy(values()[len(CORNERS) :]).double().requires_grad_()
    (expected,) = torch.autograd.grad(F.gelu(plain).sum(), plain, create_graph=True)
    expected.sum().backward()
    np.testing.assert_allclose(slope.detach().numpy(), expected.detach().numpy(), atol=3e-6)
    np.testing.assert_allclose(x.grad.numpy(), plain.grad.numpy(), atol=1e-5)


def test_backends_are_registered():
    for name in ("sigmoid", "gelu", "silu", "elu"):
        assert REGISTRY[name].backends and REGISTRY[f"{name}_backward"].backends
