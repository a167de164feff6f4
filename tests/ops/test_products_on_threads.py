"""Products of large matrices, which one thread computes in another library than several."""

import numpy as np
import pytest

import flambeau as torch


@pytest.fixture(params=[1, 2])
def count(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_linear_and_its_gradients(count):
    stream = np.random.default_rng(0)
    x, w = stream.standard_normal((300, 70)), stream.standard_normal((90, 70))
    results = []
    for kind in (torch.float32, torch.float64):
        tensors = [torch.tensor(a, dtype=kind, requires_grad=True) for a in (x, w)]
        out = torch.nn.functional.linear(*tensors)
        out.square().sum().backward()
        results.append([out.detach().numpy(), *(t.grad.numpy() for t in tensors)])
    for single, double in zip(*results, strict=True):
        np.testing.assert_allclose(single, double, rtol=1e-4, atol=2e-2)


def test_nan_fills_its_row(count):
    x = torch.ones(512, 64)
    x[3, 5] = float("nan")
    out = x @ torch.ones(64, 512)
    assert out[3].isnan().all() and (out[:3] == 64).all() and (out[4:] == 64).all()
