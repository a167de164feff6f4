"""Activations: second derivatives, in-place forms, nan, dtypes, errors. Values: test_functional_against_pytorch."""

import math

import numpy as np
import pytest

import flambeau as torch
import flambeau.nn.functional as F
from flambeau.autograd import gradcheck, gradgradcheck
from flambeau.ops.pointwise import masked

SMOOTH = ["elu", "selu", "celu", "gelu", "silu", "mish", "softplus", "softsign", "logsigmoid", "tanhshrink", "glu"]
PIECEWISE = ["relu", "relu6", "leaky_relu", "hardswish", "hardsigmoid", "hardtanh", "softshrink", "hardshrink"]
INPLACE = ["relu", "relu6", "leaky_relu", "elu", "selu", "celu", "silu", "mish", "hardswish", "hardsigmoid", "hardtanh"]


def numbers(*shape):
    torch.manual_seed(0)
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("name", SMOOTH + PIECEWISE)
def test_first_and_second_derivatives(name):
    function = getattr(F, name)
    assert gradcheck(function, (numbers(3, 4),))
    assert gradgradcheck(function, (numbers(3, 4),))


def test_derivatives_of_functions_with_two_inputs():
    torch.manual_seed(1)
    weight = torch.rand(4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(F.prelu, (numbers(3, 4), weight))
    assert gradgradcheck(F.prelu, (numbers(3, 4), weight))
    assert gradgradcheck(lambda x: F.gelu(x, approximate="tanh"), (numbers(5),))
    assert gradgradcheck(lambda x: F.threshold(x, 0.1, 3.0), (numbers(5),))


@pytest.mark.parametrize("name", INPLACE)
def test_in_place(name):
    function = getattr(F, name)
    x = numbers(2, 3)
    expected = function(x)
    y = x.clone()
    assert function(y, inplace=True) is y
    assert y.tolist() == expected.tolist()
    (grad,) = torch.autograd.grad(y.sum(), x)
    (wanted,) = torch.autograd.grad(expected.sum(), x)
    assert grad.tolist() == wanted.tolist()


@pytest.mark.parametrize("name", ["relu", "elu", "selu", "celu", "leaky_relu", "hardtanh", "rrelu"])
def test_in_place_by_name(name):
    x = torch.tensor([-1.5, 2.0])
    expected = getattr(F, name)(x)
    assert getattr(F, name + "_")(x) is x and x.tolist() == expected.tolist()
    y = torch.tensor([-1.0, 2.0])
    assert F.threshold_(y, 0.0, 9.0) is y and y.tolist() == [9.0, 2.0]
    assert y.relu_() is y


@pytest.mark.parametrize("name", SMOOTH[:-1] + PIECEWISE)
def test_nan_stays_nan_and_shapes_are_kept(name):
    function = getattr(F, name)
    assert math.isnan(function(torch.tensor(float("nan"))).item())
    assert function(torch.zeros(0, 2)).shape == (0, 2)
    assert function(torch.ones(3, 2).T).shape == (2, 3)


def test_half_precision_rounds_once():
    x = torch.linspace(-3, 3, 50)
    for name in ("gelu", "silu", "softplus", "elu", "logsigmoid"):
        half = getattr(F, name)(x.half())
        assert half.dtype is torch.float16
        assert half.tolist() == getattr(F, name)(x.half().float()).half().tolist()


def test_integers_are_kept_by_the_piecewise_ones_and_refused_by_the_others():
    x = torch.tensor([-3, 2, 9])
    assert F.relu(x).tolist() == [0, 2, 9] and F.relu(x).dtype is torch.int64
    assert F.relu6(x).tolist() == [0, 2, 6]
    assert F.threshold(x, 2, 5).tolist() == [5, 5, 9]
    for name in ("gelu", "silu", "elu", "softplus", "leaky_relu", "hardswish", "hardshrink", "mish", "glu"):
        with pytest.raises(NotImplementedError, match="not implemented for 'Long'"):
            getattr(F, name)(x)
    with pytest.raises(RuntimeError, match="Boolean"):
        F.relu(torch.tensor([True]))


def test_errors():
    with pytest.raises(RuntimeError, match="dimension 1 is size 3"):
        F.glu(torch.ones(2, 3))
    with pytest.raises(RuntimeError, match="0-dimensional"):
        F.glu(torch.tensor(1.0))
    with pytest.raises(IndexError, match="out of range"):
        F.glu(torch.ones(2, 4), 2)
    with pytest.raises(RuntimeError, match="none or tanh"):
        F.gelu(torch.ones(2), approximate="sigmoid")
    with pytest.raises(RuntimeError, match="lambda"):
        F.softshrink(torch.ones(2), -1)
    with pytest.raises(RuntimeError, match="alpha cannot be 0"):
        F.celu(torch.ones(2), 0.0)
    with pytest.raises(ValueError, match="min_val"):
        F.hardtanh(torch.ones(2), 1.0, 0.0)
    with pytest.raises(RuntimeError, match="parameter numbers = 2 and channel size = 3"):
        F.prelu(torch.ones(2, 3), torch.ones(2))
    with pytest.raises(RuntimeError, match="ndim = 2"):
        F.prelu(torch.ones(2, 3), torch.ones(3, 1))
    with pytest.raises(RuntimeError, match="upper bound"):
        F.rrelu(torch.ones(2), 0.5, 0.1, training=True)
    with pytest.raises(TypeError, match="must be Tensor, not list"):
        F.gelu([1.0])


def test_rrelu_draws_slopes_for_negative_elements_only():
    x = torch.tensor([1.0, -1.0, 0.5, -2.0, -4.0], requires_grad=True)
    torch.manual_seed(3)
    y = F.rrelu(x, 0.1, 0.3, training=True)
    slopes = (y / x).tolist()
    assert slopes[0] == slopes[2] == 1.0 and all(0.1 <= slopes[i] < 0.3 for i in (1, 3, 4))
    y.sum().backward()
    np.testing.assert_allclose(x.grad.tolist(), slopes, rtol=1e-6)
    assert F.rrelu(x, 0.1, 0.3).tolist() == F.leaky_relu(x, 0.2).tolist()


@pytest.mark.parametrize("size", [10, 10_000])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "complex64"])
def test_masked_stops_nan(size, dtype):
    values = np.full(size, np.nan, dtype)
    values[::2] = 3
    keep = np.arange(size) % 2 == 0
    found = masked(values, keep)
    assert found.dtype == dtype and (found == np.where(keep, 3, 0)).all()


@pytest.mark.parametrize("size", [100, 10_000])
def test_relu_in_place_without_history(size):
    values = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    values[:4] = np.nan, np.inf, -np.inf, 0
    expected = np.where(values <= 0, 0, values)
    np.testing.assert_array_equal(torch.relu(torch.tensor(values)).numpy(), expected)
    x = torch.tensor(values)
    view, version = x[::2], x._version
    assert F.relu(view, inplace=True) is view and x._version == version + 1
    np.testing.assert_array_equal(x.numpy()[::2], expected[::2])
    np.testing.assert_array_equal(x.numpy()[1::2], values[1::2])
    with pytest.raises(RuntimeError, match="single memory location"):
        torch.relu_(torch.zeros(1).expand(size))
