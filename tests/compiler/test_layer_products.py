"""Convolutions as products of pixels with weights: sizes of tiles, what follows, weights in place and in panels."""

from __future__ import annotations

import numpy as np
import pytest

import flambeau as torch
from benchmarks.anatomy import programs
from flambeau import nn
from flambeau.compiler.lower import layer_products

pytest.importorskip("llvmlite")
pytestmark = pytest.mark.skipif(not layer_products.possible(), reason="the library has something better here")


FOLLOWS = {"": lambda y: y, "relu": torch.relu, "leaky": lambda y: nn.functional.leaky_relu(y, 0.1)}


class Layer(nn.Module):
    """A convolution, batch norm with the statistics it has, and what usually follows."""

    def __init__(self, channels, outputs, kernel=1, stride=1, padding=0, bias=False, follows="", added=False):
        super().__init__()
        self.conv = nn.Conv2d(channels, outputs, kernel, stride, padding, bias=bias)
        self.norm = nn.BatchNorm2d(outputs)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)
        nn.init.normal_(self.norm.weight)
        self.follows = FOLLOWS[follows]
        self.added = added

    def forward(self, x, residual):
        y = self.norm(self.conv(x))
        return self.follows(y + residual if self.added else y)


@pytest.fixture(params=["in place", "panels"])
def way(request, monkeypatch):
    """Small layers go the same ways as large ones, and threads divide them; the ways that were taken are noted."""
    in_place = request.param == "in place"
    monkeypatch.setattr(layer_products, "LARGE", 0 if in_place else 1 << 60)
    monkeypatch.setattr(layer_products, "VERY_LARGE", 0 if in_place else 1 << 60)
    monkeypatch.setattr(layer_products, "PARALLEL", 0)
    monkeypatch.setattr(layer_products, "NEAR", 2000)
    monkeypatch.setattr(layer_products, "BLOCK", 3000)
    taken = []
    product = layer_products.product
    monkeypatch.setattr(
        layer_products,
        "product",
        lambda plan, p, q, *rest: (
            taken.append("in place" if isinstance(q, layer_products.Weight) else "panels"),
            product(plan, p, q, *rest),
        ),
    )
    yield taken
    assert taken[-1] == request.param  # earlier ones were tried with the factor in the weight


def compare(layer, shape, calls=2):
    """Compiled calls against eager ones, again after the weight has changed; the compiled layer."""
    layer.eval()
    x = torch.randn(*shape).to(memory_format=torch.channels_last)
    compiled = torch.compile(layer)
    with torch.no_grad():
        residual = torch.randn(layer.conv(x).shape).to(memory_format=torch.channels_last)
        for scale in (1.0, -2.0):
            layer.conv.weight.mul_(scale)
            wanted = layer(x, residual).numpy()
            for _ in range(calls):
                found = compiled(x, residual).numpy()
                np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
    return compiled


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("follows, added", [("", False), ("relu", False), ("relu", True), ("leaky", True), ("", True)])
@pytest.mark.parametrize("bias", [False, True])
def test_what_follows(way, threads, follows, added, bias):
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        compare(Layer(40, 48, bias=bias, follows=follows, added=added), (2, 40, 7, 9))
    finally:
        torch.set_num_threads(before)
    assert way


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 3), (7, 7), (5, 5), (14, 14), (11, 13)])
@pytest.mark.parametrize("channels, outputs", [(1, 16), (33, 16), (64, 160)])
def test_sizes(way, size, channels, outputs):
    torch.manual_seed(1)
    compare(Layer(channels, outputs, follows="relu", added=True), (1, channels, *size))
    assert way


@pytest.mark.parametrize("size", [(7, 7), (8, 5)])
def test_stride(way, size):
    torch.manual_seed(2)
    compare(Layer(32, 32, stride=2), (3, 32, *size))
    assert way


@pytest.mark.parametrize("kernel, stride, padding", [(3, 2, 1), (3, 2, 0), (2, 2, 0), ((3, 1), 2, (1, 0)), (5, 3, 4)])
@pytest.mark.parametrize("way", ["in place"], indirect=True)
def test_several_taps(way, kernel, stride, padding):
    torch.manual_seed(3)
    compare(Layer(20, 32, kernel, stride, padding, follows="relu"), (1, 20, 9, 11))
    assert way


def test_nan_and_infinity_stay(way):
    torch.manual_seed(4)
    layer = Layer(16, 16, follows="relu").eval()
    x = torch.randn(1, 16, 4, 4).to(memory_format=torch.channels_last)
    x[0, 3, 1, 1], x[0, 5, 2, 2] = float("nan"), float("inf")
    compiled = torch.compile(layer)
    with torch.no_grad():
        for _ in range(2):
            np.testing.assert_array_equal(np.isnan(compiled(x, x).numpy()), np.isnan(layer(x, x).numpy()))
            np.testing.assert_array_equal(np.isinf(compiled(x, x).numpy()), np.isinf(layer(x, x).numpy()))
    assert way


@pytest.mark.parametrize("way", ["panels"], indirect=True)
def test_a_weight_in_another_order_is_not_read_in_place(way, monkeypatch):
    monkeypatch.setattr(layer_products, "LARGE", 0)
    torch.manual_seed(5)
    layer = Layer(24, 32)
    layer.conv.weight.data = torch.randn(24, 32, 1, 1).transpose(0, 1)
    assert not layer.conv.weight.is_contiguous()
    compare(layer, (1, 24, 5, 5))
    assert way


def test_large_weights_lie_once():
    """A program that reads its weights in place needs no memory for them: not for panels, not for their factor."""
    torch.manual_seed(6)
    layer = Layer(512, 1024, follows="relu")
    compiled = compare(layer, (1, 512, 7, 7))
    (program,) = programs(compiled)
    assert program.plan.size < layer.conv.weight.nbytes // 2
    assert not any("[1024, 512, 1, 1]" in name for name in program.names)


def test_operations_of_weights_in_place_are_counted():
    torch.manual_seed(7)
    layer = Layer(512, 1024).eval()
    x = torch.randn(1, 512, 7, 7).to(memory_format=torch.channels_last)
    with torch.no_grad():
        text = str(torch.compiler.explain(layer)(x, x))
    assert "@scaled_convolution" in text
    assert "51.4 M" in text.split("@scaled_convolution", 1)[1]
