"""Every layer against recorded PyTorch values: what it prints, draws, computes and differentiates."""

from __future__ import annotations

import importlib.util
import json
import pathlib

import numpy as np
import pytest

import flambeau as torch
from flambeau import nn

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
spec = importlib.util.spec_from_file_location("make_modules", GOLDEN / "make_modules.py")
maker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(maker)
EXPECTED = json.loads((GOLDEN / "modules.json").read_text())


def assert_same(got, wanted, where=""):
    if isinstance(wanted, dict):
        assert list(got) == list(wanted), where
        for key in wanted:
            assert_same(got[key], wanted[key], f"{where}.{key}")
    elif isinstance(wanted, list) and wanted and isinstance(wanted[0], list):
        assert len(got) == len(wanted), where
        for i, (g, w) in enumerate(zip(got, wanted)):
            assert_same(g, w, f"{where}[{i}]")
    elif isinstance(wanted, list):
        np.testing.assert_allclose(np.array(got, float), np.array(wanted, float), rtol=2e-4, atol=2e-5, err_msg=where)
    else:
        assert got == wanted, where


@pytest.mark.parametrize("constructor", list(maker.LAYERS))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_layer_is_pytorchs(constructor):
    assert_same(maker.record(torch, constructor, maker.LAYERS[constructor]), EXPECTED[constructor])


def test_every_public_layer_exists():
    assert {"Linear", "Conv2d", "LSTM", "Transformer", "CTCLoss", "LazyLinear", "SyncBatchNorm"} <= set(nn.__all__)
    for name in nn.__all__:
        assert hasattr(nn, name), name


def test_device_and_dtype_arguments():
    for layer in (nn.Linear(2, 3, dtype=torch.float64), nn.Conv2d(1, 2, 3, dtype=torch.float64),
                  nn.BatchNorm2d(2, dtype=torch.float64), nn.LSTM(2, 3, dtype=torch.float64),
                  nn.Embedding(3, 2, dtype=torch.float64), nn.MultiheadAttention(4, 2, dtype=torch.float64),
                  nn.LayerNorm(3, dtype=torch.float64), nn.PReLU(dtype=torch.float64)):
        assert all(parameter.dtype == torch.float64 for parameter in layer.parameters()), layer
    assert nn.Conv2d(1, 2, 3, device="meta").weight.is_meta


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "in_channels must be divisible by groups"),
    (lambda: nn.Conv2d(4, 3, 3, groups=2), ValueError, "out_channels must be divisible by groups"),
    (lambda: nn.Conv2d(1, 1, 3, padding="full"), ValueError, "Invalid padding string 'full'"),
    (lambda: nn.Conv2d(1, 1, 3, stride=2, padding="same"), ValueError, "not supported for strided"),
    (lambda: nn.Conv2d(1, 1, 3, padding_mode="none"), ValueError, "padding_mode must be one of"),
    (lambda: nn.ConvTranspose2d(1, 1, 3, padding_mode="reflect"), ValueError, 'Only "zeros" padding mode'),
    (lambda: nn.Dropout(1.5), ValueError, "between 0 and 1, but got 1.5"),
    (lambda: nn.MultiheadAttention(5, 2), AssertionError, "divisible by num_heads"),
    (lambda: nn.MultiheadAttention(0, 2), ValueError, "must be greater than 0"),
    (lambda: nn.GroupNorm(3, 4), ValueError, "divisible by num_groups"),
    (lambda: nn.GRU(3, 4, proj_size=2), ValueError, "only supported for LSTM"),
    (lambda: nn.LSTM(3, 4, proj_size=4), ValueError, "has to be smaller than hidden_size"),
    (lambda: nn.LSTM(3.0, 4), TypeError, "input_size should be of type int, got: float"),
    (lambda: nn.RNN(3, 4, nonlinearity="gelu"), ValueError, "Unknown nonlinearity 'gelu'"),
    (lambda: nn.Embedding(3, 4, padding_idx=3), AssertionError, "padding_idx must be within num_embeddings"),
    (lambda: nn.TransformerEncoderLayer(4, 2, activation="tanh"), RuntimeError, "should be relu/gelu, not tanh"),
    (lambda: nn.FractionalMaxPool2d(2), ValueError, "either an output size, or a pooling ratio"),
    (lambda: nn.MultiMarginLoss(p=3), ValueError, "only p == 1 and p == 2 supported"),
    (lambda: nn.AdaptiveLogSoftmaxWithLoss(4, 6, [4, 2]), ValueError, "cutoffs should be a sequence of unique"),
    (lambda: nn.Unflatten(1, 3), TypeError, "must be a tuple of ints, but found type int"),
    (lambda: nn.Hardtanh(1.0, -1.0), AssertionError, "max_val must be larger"),
])
def test_constructors_refuse(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(("layer", "shape", "message"), [
    (nn.BatchNorm2d(3), (2, 3), r"expected 4D input \(got 2D input\)"),
    (nn.BatchNorm1d(3), (2, 3, 4, 5), r"expected 2D or 3D input \(got 4D input\)"),
    (nn.InstanceNorm2d(3), (2, 3), r"expected 3D or 4D input \(got 2D input\)"),
    (nn.InstanceNorm1d(3, affine=True), (2, 4, 5), r"match num_features \(3\), but got: 4"),
    (nn.Softmax2d(), (2, 3), "expected input to be 3D or 4D, got 2D instead"),
    (nn.LSTM(3, 4), (3,), "LSTM: Expected input to be 2D or 3D, got 1D instead"),
    (nn.CircularPad1d(1), (3,), "expected 2D or 3D input"),
])
def test_forward_refuses(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer(torch.ones(*shape))


def test_conv_transpose_output_size():
    layer = nn.ConvTranspose2d(1, 1, 3, stride=2)
    x = torch.ones(1, 1, 4, 4)
    assert layer(x, output_size=(10, 9)).shape == (1, 1, 10, 9)
    assert layer(x, output_size=torch.Size([1, 1, 10, 10])).shape == (1, 1, 10, 10)
    with pytest.raises(ValueError, match=r"requested an output size of \[12, 9\], but valid sizes range from"):
        layer(x, output_size=(12, 9))


def test_max_unpool_inverts_max_pool():
    pool, unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    values, indices = pool(x)
    assert indices.tolist() == [[[[5, 7], [13, 15]]]]
    assert unpool(values, indices).tolist() == [[[[0, 0, 0, 0], [0, 5, 0, 7], [0, 0, 0, 0], [0, 13, 0, 15]]]]


def test_embedding_from_pretrained_and_padding():
    table = torch.arange(6.0).reshape(3, 2)
    layer = nn.Embedding.from_pretrained(table)
    assert not layer.weight.requires_grad
    assert layer(torch.tensor([2, 0])).tolist() == [[4.0, 5.0], [0.0, 1.0]]
    layer = nn.Embedding(3, 2, padding_idx=-1)
    assert layer.padding_idx == 2 and layer.weight[2].tolist() == [0.0, 0.0]
    layer(torch.tensor([2, 1])).sum().backward()
    assert layer.weight.grad.tolist() == [[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]


def test_cross_map_lrn_divides_by_its_size():
    layer = nn.CrossMapLRN2d(3, alpha=3.0, beta=1.0, k=1.0)
    out = layer(torch.ones(1, 3, 1, 1))
    np.testing.assert_allclose(out.reshape(-1).tolist(), [1 / 3, 1 / 4, 1 / 3], rtol=1e-6)


def test_adaptive_softmax_probabilities_sum_to_one():
    torch.manual_seed(0)
    layer = nn.AdaptiveLogSoftmaxWithLoss(4, 8, [2, 5], div_value=2.0)
    x, target = torch.randn(5, 4), torch.tensor([0, 7, 3, 1, 5])
    log_probs = layer.log_prob(x)
    np.testing.assert_allclose(log_probs.exp().sum(1).tolist(), [1.0] * 5, rtol=1e-5)
    output, loss = layer(x, target)
    np.testing.assert_allclose(output.tolist(), log_probs[torch.arange(5), target].tolist(), rtol=1e-5)
    assert loss.item() == pytest.approx(-output.mean().item())
    assert layer.predict(x).tolist() == log_probs.argmax(1).tolist()
    with pytest.raises(RuntimeError, match=r"values in range \[0, 9\]"):
        layer(x, torch.tensor([0, 9, 3, 1, 5]))


def test_sync_batch_norm_converts():
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    net[1].running_mean.fill_(3.0)
    weight = net[1].weight
    net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    assert type(net[1]) is nn.SyncBatchNorm and net[1].weight is weight
    assert net[1].running_mean.tolist() == [3.0, 3.0]


def test_legacy_reduction_flags():
    with pytest.warns(UserWarning, match="please use reduction='sum' instead"):
        assert nn.MSELoss(size_average=False).reduction == "sum"
    with pytest.warns(UserWarning, match="please use reduction='none' instead"):
        assert nn.L1Loss(reduce=False).reduction == "none"
