"""Winograd convolutions of compiled inference: as exact as the direct way, at every edge, and only there."""

from __future__ import annotations

import numpy as np
import pytest

import flambeau as torch
from flambeau import nn
from flambeau.backends.onednn import available
from flambeau.compiler.lower import winograd

pytestmark = pytest.mark.skipif(not available(), reason="the products are oneDNN's")


class Block(nn.Module):
    def __init__(self, channels, outputs, padding):
        super().__init__()
        self.conv = nn.Conv2d(channels, outputs, 3, padding=padding)
        self.norm = nn.BatchNorm2d(outputs)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x, residual):
        return torch.relu(self.norm(self.conv(x)) + residual)


def results(channels, outputs, size, padding, images=3, calls=2):
    torch.manual_seed(0)
    block = Block(channels, outputs, padding).eval()
    compiled = torch.compile(block)
    x = torch.randn(images, channels, *size)
    residual = torch.randn(block.conv(x).shape)
    with torch.no_grad():
        for _ in range(1 + calls):
            found = compiled(x, residual)
        direct = block(x, residual)
        exact = block.double()(x.double(), residual.double())
    return found.numpy(), direct.numpy(), exact.numpy()


@pytest.fixture
def used(monkeypatch):
    """How often the way was taken; small shapes take it too."""
    monkeypatch.setattr(winograd, "LEAST", 0)
    monkeypatch.setattr(winograd, "FEW_TILES", 1)
    calls = []
    steps = winograd.convolution
    monkeypatch.setattr(winograd, "convolution", lambda *a: (calls.append(1), steps(*a)))
    return calls


@pytest.mark.parametrize(
    ("size", "padding"),
    [(size, padding) for size in [(8, 8), (9, 12), (7, 7), (3, 5)] for padding in (0, 1, 2)] + [((4, 1), 1)],
)
def test_every_edge(used, size, padding):
    found, direct, exact = results(16, 24, size, padding)
    assert used
    error, usual = np.abs(found - exact).max(), np.abs(direct - exact).max()
    assert error <= 4 * usual + 1e-6


def test_several_images_at_a_time(used, monkeypatch):
    monkeypatch.setattr(winograd, "CHUNK", 64 * 5 * 6 * 48 * 2)  # two images
    found, direct, _ = results(24, 24, (10, 11), 1, images=5)
    assert used
    np.testing.assert_allclose(found, direct, atol=2e-5)


def test_changed_weights_are_transformed_again(used):
    torch.manual_seed(1)
    conv = nn.Conv2d(16, 16, 3, padding=1)
    compiled, x = torch.compile(conv), torch.randn(2, 16, 12, 12)
    with torch.no_grad():
        for factor in (1.0, 2.0, 0.5):
            conv.weight.mul_(factor)
            for _ in range(2):
                np.testing.assert_allclose(compiled(x).numpy(), conv(x).numpy(), atol=1e-5)
    assert used


def test_training_takes_the_direct_way(used):
    torch.manual_seed(2)
    conv = nn.Conv2d(16, 16, 3, padding=1)
    optimizer = torch.optim.SGD(conv.parameters(), lr=0.1)

    @torch.compile
    def step(x):
        optimizer.zero_grad()
        loss = conv(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(3):
        step(torch.randn(2, 16, 12, 12))
    assert not used


def test_it_can_be_switched_off(used, monkeypatch):
    monkeypatch.setenv("FLAMBEAU_WINOGRAD", "0")
    found, direct, _ = results(16, 16, (8, 8), 1)
    assert not used
    np.testing.assert_allclose(found, direct, atol=1e-5)
