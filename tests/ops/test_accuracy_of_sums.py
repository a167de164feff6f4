"""Long float32 sums: statistics and gradients of batch normalisation against float64."""

import numpy as np
import pytest

import flambeau as torch
import flambeau.nn.functional as F
from flambeau.ops import normalization


def apart(found, expected):
    """The largest difference, as a part of the largest number."""
    found = np.asarray(found.detach().numpy(), np.float64)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def image(rng, shape, last, offset=0.0):
    x = (rng.standard_normal(shape) + offset).astype(np.float32)
    t = torch.from_numpy(x)
    return x.astype(np.float64), t.to(memory_format=torch.channels_last) if last else t


@pytest.fixture(params=["generated", "oneDNN"])
def route(request, monkeypatch):
    """Whose loops run: those of generated code, or of oneDNN and NumPy."""
    monkeypatch.setattr(normalization, "_patience", 0)
    if request.param == "generated":
        pytest.importorskip("llvmlite")
    else:
        monkeypatch.setattr(normalization, "generated", lambda x: None)
    return request.param


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("shape", [(16, 16, 64, 64), (9, 37, 15, 23), (40000, 3, 1, 1)])
def test_batch_norm_is_accurate(shape, last, route):
    rng = np.random.default_rng(0)
    x, t = image(rng, shape, last, 3.0)
    g, grad = image(rng, shape, last, 0.1)
    channels = shape[1]
    weight, bias = (torch.from_numpy((rng.random(channels) + 0.5).astype(np.float32)) for _ in range(2))
    t, weight, bias = (v.detach().requires_grad_(True) for v in (t, weight, bias))
    running = torch.zeros(channels), torch.ones(channels)
    out = F.batch_norm(t, *running, weight, bias, True, 1.0)
    out.backward(grad)

    axes, along, n = (0, 2, 3), (1, -1, 1, 1), x.size // channels
    w, b = (v.detach().numpy().astype(np.float64).reshape(along) for v in (weight, bias))
    mean, var = x.mean(axes), x.var(axes)
    scale = 1 / np.sqrt(var + 1e-5).reshape(along)
    unit = (x - mean.reshape(along)) * scale
    db, dw = g.sum(axes), (g * unit).sum(axes)
    dx = w * scale * (g - db.reshape(along) / n - unit * dw.reshape(along) / n)
    assert apart(running[0], mean) < 5e-7
    assert apart(running[1], var * n / (n - 1)) < 1e-6
    assert apart(out, unit * w + b) < 5e-7
    assert apart(t.grad, dx) < 1e-6
    assert apart(weight.grad, dw) < 1e-5
    assert apart(bias.grad, db) < 1.5e-6
    assert out.shape == shape and out.is_contiguous(memory_format=torch.channels_last) >= last
