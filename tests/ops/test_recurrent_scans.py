"""Layers whose scans run in generated code: outputs and gradients are those of NumPy's kernels."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

import flambeau as torch
from flambeau import nn
from flambeau.ops import recurrent


def run(net, text, lengths, native, monkeypatch):
    used = []
    scans = recurrent._compiled_scans()

    def chosen(sizes, *arrays):
        fits = native and scans.fits(*arrays)
        used.append(fits)
        return scans if fits else None

    monkeypatch.setattr(recurrent, "_scans", chosen)
    net.zero_grad()
    x = text.clone().requires_grad_()
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths) if lengths is not None else x
    out, last = net(packed)
    rows = out.data if lengths is not None else out
    ends = torch.cat([end.reshape(-1) for end in (last if isinstance(last, tuple) else (last,))])
    (rows.cos().sum() + (ends * ends).sum()).backward()
    assert any(used) == native
    return [rows.detach(), ends.detach(), x.grad, *(p.grad for p in net.parameters())]


@pytest.mark.parametrize("lengths", [None, [6, 5, 5, 2, 1]])
@pytest.mark.parametrize(
    "kind, options",
    [
        (nn.LSTM, {"num_layers": 2, "bidirectional": True}),
        (nn.LSTM, {"bias": False}),
        (nn.LSTM, {"proj_size": 8, "num_layers": 2}),
        (nn.GRU, {"num_layers": 2, "bidirectional": True}),
        (nn.GRU, {"bias": False}),
        (nn.RNN, {"bidirectional": True}),
        (nn.RNN, {"nonlinearity": "relu"}),
    ],
)
def test_layers(kind, options, lengths, monkeypatch):
    torch.manual_seed(0)
    net, text = kind(5, 16, **options), torch.randn(6, 5, 5)
    found = run(net, text, lengths, "proj_size" not in options, monkeypatch)
    expected = run(net, text, lengths, False, monkeypatch)
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5)


def test_second_derivatives_stay_formulas(monkeypatch):
    torch.manual_seed(0)
    scans = recurrent._compiled_scans()
    monkeypatch.setattr(recurrent, "_scans", lambda sizes, *arrays: scans if scans.fits(*arrays) else None)
    net, x = nn.LSTM(3, 16), torch.randn(4, 2, 3, requires_grad=True)
    (g,) = torch.autograd.grad(net(x)[0].sum(), x, create_graph=True)
    g.square().sum().backward()
    assert x.grad.abs().sum() > 0
