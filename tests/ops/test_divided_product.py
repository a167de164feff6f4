"""Products of matrices that are divided among threads."""

import numpy as np
import pytest

import flambeau as torch
from flambeau.backends import blas


@pytest.fixture(params=[1, 2, 3])
def count(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("rows, columns", [(257, 130), (100, 333), (1, 400), (400, 1)])
def test_products_of_transposed_matrices_are_those_of_numpy(rows, columns, count, monkeypatch):
    monkeypatch.setattr(blas, "WORTH_DIVIDING", 1 << 18)
    depth = 2000
    stream = np.random.default_rng(0)
    grad = stream.standard_normal((depth, rows), np.float32)
    x = stream.standard_normal((depth, columns), np.float32)
    out = (torch.from_numpy(grad).T @ torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(out, grad.T @ x, rtol=1e-4, atol=1e-3)


def test_nan_and_refusals(count):
    x = np.ones((512, 512), np.float32)
    x[3, 500] = np.nan
    out = blas.divided(x.T, np.ones((512, 512), np.float32))
    if out is not None:
        assert np.isnan(out[500]).all() and (out[:500] == 512).all()
    assert blas.divided(np.ascontiguousarray(x.T), x) is None      # oneDNN is as fast
    assert blas.divided(x[:4].T, x[:4]) is None                    # too small
