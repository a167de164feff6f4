"""Long float32 sums against float64: reductions, statistics and gradients of normalisation."""

import numpy as np
import pytest

import flambeau as torch
import flambeau.nn.functional as F
from flambeau.backends.onednn import available as onednn_available
from flambeau.ops import standardization


def apart(found, expected):
    """The largest difference, as a part of the largest number."""
    found = np.asarray(found.detach().numpy(), np.float64)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def image(rng, shape, last, offset=0.0):
    x = (rng.standard_normal(shape) + offset).astype(np.float32)
    t = torch.from_numpy(x)
    return x.astype(np.float64), t.to(memory_format=torch.channels_last) if last else t


@pytest.fixture(params=["generated", "oneDNN", "NumPy"])
def route(request, monkeypatch):
    """Whose loops run: those of generated code, of oneDNN and NumPy, or the bodies of the ops."""
    monkeypatch.setattr(standardization, "_patience", 0)
    if request.param == "generated":
        pytest.importorskip("llvmlite")
    else:
        monkeypatch.setattr(standardization, "generated", lambda x: None)
    if request.param == "NumPy":
        for kind in ("batch", "instance", "group"):
            for name in (f"native_{kind}_norm", f"native_{kind}_norm_backward"):
                monkeypatch.setattr(getattr(standardization, name).op, "backends", [])
    # Without oneDNN the bodies run whatever is asked for.
    return request.param if onednn_available() else "NumPy"


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
    loose = 5 if route == "NumPy" else 1  # blocks are added up in float32 too
    assert apart(running[0], mean) < 5e-7 * loose
    assert apart(running[1], var * n / (n - 1)) < 1e-6
    assert apart(out, unit * w + b) < 5e-7 * loose
    assert apart(t.grad, dx) < 1e-6 * loose
    assert apart(weight.grad, dw) < 1e-5 * loose
    assert apart(bias.grad, db) < 1.5e-6
    assert out.shape == shape and out.is_contiguous(memory_format=torch.channels_last) >= last


@pytest.mark.parametrize("groups", [16, 4])
def test_gradients_of_instance_and_group_norm_are_accurate(groups, route):
    """Also far from zero, where sums of grad * x and mean * grad would cancel."""
    rng = np.random.default_rng(0)
    x, t = image(rng, (6, 16, 56, 57), False, 10.0)
    g, grad = image(rng, (6, 16, 56, 57), False, 0.1)
    weight, bias = torch.ones(16, requires_grad=True), torch.zeros(16, requires_grad=True)
    norm = F.instance_norm(t, None, None, weight, bias) if groups == 16 else F.group_norm(t, groups, weight, bias)
    norm.backward(grad)
    parts = x.reshape(6, groups, -1)
    unit = (parts - parts.mean(2, keepdims=True)) / np.sqrt(parts.var(2, keepdims=True) + 1e-5)
    assert apart(weight.grad, (g * unit.reshape(x.shape)).sum((0, 2, 3))) < 1e-5
    assert apart(bias.grad, g.sum((0, 2, 3))) < 1e-6


def test_batch_norm_of_numbers_far_from_zero_or_not_finite(route):
    x = np.random.default_rng(0).standard_normal((8, 6, 32, 32)).astype(np.float32)
    x[0, 0, 0, 0], x[3, 1, 5, 5] = np.inf, np.nan
    x[:, 2] = 7
    x[:, 3] += 1000
    x[:, 4] *= 1e15
    running = torch.zeros(6), torch.ones(6)
    out = F.batch_norm(torch.from_numpy(x), *running, training=True, momentum=1.0).numpy()
    mean, var = (r.numpy() for r in running)
    assert mean[0] == np.inf and np.isnan([mean[1], *var[:2]]).all() and np.isnan(out[:, :2]).all()
    assert mean[2] == 7 and var[2] == 0 and np.abs(out[:, 2]).max() < 1e-4
    exact = x[:, 3:].astype(np.float64)
    np.testing.assert_allclose(var[3:], exact.var((0, 2, 3), ddof=1), rtol=2e-6)
    unit = exact - exact.mean((0, 2, 3), keepdims=True)
    unit /= np.sqrt(exact.var((0, 2, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(out[:, 3:], unit, atol=1e-4 if route == "NumPy" else 4e-5)


# A million numbers of [0, 1): arrays in several orders of memory, and the dimensions to sum over.
def rows(rng):
    return rng.random((16384, 64), np.float32)


ARRAYS = {
    "rows": (rows, (0,)),
    "narrow rows": (lambda rng: rng.random((300000, 3), np.float32), (0,)),
    "transposed rows": (lambda rng: rows(rng).T, (1,)),
    "part of each row": (lambda rng: rows(rng)[:, :24], (0,)),
    "all of a part": (lambda rng: rows(rng)[:, :24], (0, 1)),
    "rows of two dimensions": (lambda rng: rows(rng).reshape(64, 256, 64), (1, 0)),
    "channels-last, by channel": (lambda rng: rng.random((8, 40, 40, 64), np.float32).transpose(0, 3, 1, 2), (0, 2, 3)),
    "channels-last, by plane": (lambda rng: rng.random((8, 40, 40, 64), np.float32).transpose(0, 3, 1, 2), (3, 2)),
    "between": (lambda rng: rng.random((3, 5000, 7, 9), np.float32), (1, 3)),
    "repeated": (lambda rng: np.broadcast_to(rng.random(5, np.float32), (70001, 5)), (0,)),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_long_sums_are_accurate(name):
    make, dims = ARRAYS[name]
    x = make(np.random.default_rng(0))
    exact, t = x.astype(np.float64), torch.from_numpy(x.copy(order="K"))
    if name in ("part of each row", "all of a part"):
        t = torch.from_numpy(rows(np.random.default_rng(0)))[:, :24]
    if name == "repeated":
        t = torch.from_numpy(x[0].copy()).expand(x.shape)
    assert apart(t.sum(dims), exact.sum(dims)) < 1e-6
    assert apart(t.mean(dims, keepdim=True), exact.mean(dims, keepdims=True)) < 1e-6
    if name != "repeated":
        assert apart(t.var(dims), exact.var(dims, ddof=1)) < 1e-6


def test_sums_in_blocks_are_those_of_numpy():
    """Exact in integers, whatever the sizes: blocks, what is left of them, and the order of the result."""
    rng = np.random.default_rng(0)
    for shape in [(257, 3), (1000, 1, 2), (3, 300, 5), (2, 511, 2, 259), (70000,), (513, 2, 3, 2)]:
        x = rng.integers(0, 1000, shape)
        for order in (range(x.ndim), reversed(range(x.ndim))):
            view = x.transpose(*order)
            for dims in {(0,), (view.ndim - 1,), (0, view.ndim - 1), tuple(range(view.ndim))}:
                if len(set(dims)) < len(dims):
                    continue
                for keepdim in (False, True):
                    found = torch.from_numpy(view).sum(dims, keepdim)
                    np.testing.assert_array_equal(found.numpy(), view.sum(dims, keepdims=keepdim))


def test_gradients_that_are_long_sums_are_accurate():
    rng = np.random.default_rng(0)
    g = rng.random((65536, 32), np.float32)
    x, weight = torch.ones(65536, 4), torch.ones(32, 4)
    bias, shift = torch.zeros(32, requires_grad=True), torch.zeros(32, requires_grad=True)
    (F.linear(x, weight, bias) + shift).backward(torch.from_numpy(g))
    for t in (bias, shift):
        assert apart(t.grad, g.astype(np.float64).sum(0)) < 1e-6


def test_running_sums_and_logarithms_of_sums_are_accurate():
    x = np.random.default_rng(0).random((100000, 8), np.float32)
    exact, t = x.astype(np.float64), torch.from_numpy(x)
    assert apart(t.cumsum(0), exact.cumsum(0)) < 1e-7
    assert apart((1 + t[:20000] * 1e-4).cumprod(0), (1 + t[:20000] * 1e-4).double().cumprod(0).numpy()) < 1e-7
    np.testing.assert_allclose(t.logsumexp(0).numpy(), np.log(np.exp(exact).sum(0)), rtol=2e-7)
