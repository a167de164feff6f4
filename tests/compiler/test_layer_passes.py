"""Batch-norm folding and post-ops: the graph that is left, and that it computes the same."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import flambeau as torch
from flambeau import nn
from flambeau.backends.onednn import available
from flambeau.compiler.lower.nodes import lower
from flambeau.compiler.passes.batchnorm import fold_batch_norm
from flambeau.compiler.passes.postops import fuse_post_ops, release_bias
from flambeau.compiler.passes.steady import split_steady
from flambeau.compiler.steps import LibraryStep
from tests.compiler.library_steps import Program, captured

pytestmark = pytest.mark.skipif(not available(), reason="oneDNN is not installed")


class Block(nn.Module):
    """Two convolutions with a residual connection, as in ResNet."""

    def __init__(self, bias=False):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(16, 24, 3, padding=1, bias=bias), nn.BatchNorm2d(24)
        self.conv2, self.bn2 = nn.Conv2d(24, 24, 3, padding=1, bias=bias), nn.BatchNorm2d(24)
        self.short, self.bn3 = nn.Conv2d(16, 24, 1, bias=bias), nn.BatchNorm2d(24)
        for norm in (self.bn1, self.bn2, self.bn3):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            with torch.no_grad():
                norm.weight.uniform_(0.5, 2)
                norm.bias.normal_()

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + self.bn3(self.short(x))).relu()


def changed(monkeypatch, function, *tensors, passes=(fold_batch_norm, release_bias, fuse_post_ops)):
    """How often each op occurs after the passes; asserts that the outputs are the interpreter's."""
    graph, arrays, expected = captured(monkeypatch, function, *tensors)
    for run in passes:
        run(graph)
    found, native = Program(graph).execute(arrays)
    for mine, theirs in zip(found, expected):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())
    return Counter(node.op for node in graph.nodes), native


@pytest.mark.parametrize("bias", [False, True])
def test_a_residual_block_in_eval_mode_is_three_primitives(monkeypatch, bias):
    torch.manual_seed(0)
    model = Block(bias).eval()
    with torch.no_grad():
        ops, native = changed(monkeypatch, model, torch.randn(2, 16, 9, 9))
    assert ops["convolution_chain"] == 2 and ops["convolution"] == 1
    assert not {"channel_affine", "relu"} & set(ops)
    assert "convolution_chain" in native


def test_in_train_mode_nothing_is_folded(monkeypatch):
    model = Block()
    ops, _ = changed(monkeypatch, model, torch.randn(2, 16, 9, 9))
    assert ops["native_batch_norm"] == 3 and not ops["convolution_chain"]


def test_weights_that_are_arguments_are_not_folded(monkeypatch):
    norm = nn.BatchNorm2d(4).eval()

    def run(x, w):
        return norm(torch.conv2d(x, w))

    with torch.no_grad():
        ops, _ = changed(monkeypatch, run, torch.randn(2, 3, 5, 5), torch.randn(4, 3, 3, 3))
    assert ops["channel_affine"] == 1


def test_linear_with_batch_norm_and_relu_is_one_product(monkeypatch):
    model = nn.Sequential(
        nn.Linear(40, 30),
        nn.BatchNorm1d(30),
        nn.ReLU(),
        nn.Linear(30, 20, bias=False),
        nn.BatchNorm1d(20),
        nn.LeakyReLU(0.1),
    ).eval()
    model[1].running_mean.normal_()
    with torch.no_grad():
        ops, _ = changed(monkeypatch, model, torch.randn(50, 40))
    assert ops["linear_chain"] == 2 and not ops["channel_affine"]


def test_what_is_read_elsewhere_stays(monkeypatch):
    """The pre-activation is an output; gelu's derivative reads it."""
    conv = nn.Conv2d(8, 8, 3)

    def run(x):
        y = conv(x)
        return y, y.relu()

    with torch.no_grad():
        ops, _ = changed(monkeypatch, run, torch.randn(2, 8, 6, 6))
    assert ops["relu"] == 1 and not ops["convolution_chain"]


def test_relu_is_joined_in_training(monkeypatch):
    """Its derivative reads the result only."""
    conv, line = nn.Conv2d(8, 16, 3), nn.Linear(16, 4)

    def step(x):
        conv.weight.grad = conv.bias.grad = line.weight.grad = line.bias.grad = None
        loss = line(conv(x).relu().mean((2, 3))).relu().sum()
        loss.backward()
        return loss, conv.weight.grad.clone(), line.weight.grad.clone()

    ops, native = changed(monkeypatch, step, torch.randn(2, 8, 6, 6))
    assert ops["convolution_chain"] == ops["linear_chain"] == 1
    assert "weight_gradient" in native


def test_nan_passes_through_a_joined_relu(monkeypatch):
    conv = nn.Conv2d(8, 8, 1)
    x = torch.randn(1, 8, 4, 4)
    x[0, 0, 1, 1] = float("nan")
    with torch.no_grad():
        graph, arrays, _ = captured(monkeypatch, lambda x: conv(x).relu(), x)
    assert fuse_post_ops(graph) == 1
    (found,), _ = Program(graph).execute(arrays)
    assert np.isnan(found[0, :, 1, 1]).all() and np.isnan(found).sum() == 8 and not (found < 0).any()


def test_transposed_convolution_gives_its_bias_away(monkeypatch):
    conv = nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1)
    with torch.no_grad():
        ops, _ = changed(monkeypatch, lambda x: conv(x).relu(), torch.randn(2, 8, 5, 5))
    assert ops["add"] == ops["relu"] == 1


def steps_split(graph):
    fold_batch_norm(graph)
    fuse_post_ops(graph)
    return split_steady(graph, lower(graph, 1)[0])


def test_weights_are_prepared_once_in_eval_mode(monkeypatch):
    """What depends on parameters only comes first; what is left is the three convolutions and the image's reorder."""
    model = Block().eval()
    with torch.no_grad():
        graph, arrays, expected = captured(monkeypatch, model, torch.randn(2, 16, 9, 9))
    split = steps_split(graph)
    names = [step.primitive.name for step in split.rest if isinstance(step, LibraryStep)]
    assert names.count("convolution_forward") == 3 and names.count("reorder") == 1 and len(split.rest) == 4
    assert len(split.state) == 15  # of each normalisation two parameters and two statistics, and three weights
    program = Program(graph)
    program.fill(arrays)
    program.run(split.first)
    for _ in range(2):
        program.run(split.rest)
        np.testing.assert_allclose(program.show(graph.outputs[0]), expected[0], rtol=1e-4, atol=1e-4)


def test_weights_that_the_call_changes_are_not_steady(monkeypatch):
    conv = nn.Conv2d(8, 8, 3)
    optimizer = torch.optim.SGD(conv.parameters(), lr=0.1)

    def step(x):
        optimizer.zero_grad()
        conv(x).square().mean().backward()
        optimizer.step()

    graph, _, _ = captured(monkeypatch, step, torch.randn(2, 8, 6, 6))
    split = steps_split(graph)
    assert not split.state and not any(isinstance(step, LibraryStep) for step in split.first)
