"""Attention and distances: masks, corner cases, errors. Values are in test_recorded.py."""

import math

import numpy as np
import pytest

import flambeau as torch
import flambeau.nn.functional as F
from flambeau.autograd import gradcheck, gradgradcheck


def heads(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def test_a_row_that_may_look_nowhere_gives_zeros():
    q, k, v = heads(2, 3, 4), heads(2, 5, 4), heads(2, 5, 2)
    mask = torch.tensor([[True] * 5, [False] * 5, [True, False, True, False, False]])
    out = F.scaled_dot_product_attention(q, k, v, mask)
    assert out[:, 1].tolist() == [[0, 0], [0, 0]]
    added = torch.where(mask, 0.0, -math.inf).double()
    assert torch.allclose(out, F.scaled_dot_product_attention(q, k, v, added))
    out.sum().backward()
    assert all(t.grad.isfinite().all().item() for t in (q, k, v))
    assert gradcheck(lambda *t: F.scaled_dot_product_attention(*t, mask), (q, k, v))


def test_causal_rows_see_what_came_before():
    q, k, v = heads(1, 4, 3), heads(1, 4, 3), heads(1, 4, 2)
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert torch.allclose(out[0, 0], v[0, 0])
    whole = F.scaled_dot_product_attention(q, k, v)
    assert torch.allclose(out[0, 3], whole[0, 3])


def test_grouped_queries_share_keys():
    q, k, v = heads(2, 6, 3, 4), heads(2, 2, 5, 4), heads(2, 2, 5, 4)
    out = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    one_by_one = torch.stack([F.scaled_dot_product_attention(q[:, h], k[:, h // 3], v[:, h // 3]) for h in range(6)], 1)
    assert torch.allclose(out, one_by_one)
    assert gradcheck(lambda *t: F.scaled_dot_product_attention(*t, enable_gqa=True), (q, k, v))


def test_dropout_drops_weights():
    torch.manual_seed(0)
    q, k, v = torch.zeros(1, 50, 2), torch.zeros(1, 40, 2), torch.ones(1, 40, 1)
    out = F.scaled_dot_product_attention(q, k, v, dropout_p=0.5)
    assert out.mean().item() == pytest.approx(1, abs=0.1) and out.std().item() > 0.05


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("rows", [4, 30])  # 30 rows take the matrix product for p = 2
def test_cdist(p, rows):
    draw = np.random.default_rng(0)
    x, y = draw.standard_normal((2, rows, 3)), draw.standard_normal((1, 5, 3))
    a, b = torch.tensor(x, requires_grad=True), torch.tensor(y, requires_grad=True)
    expected = np.linalg.norm(x[:, :, None] - y[:, None], ord=p, axis=-1)
    np.testing.assert_allclose(torch.cdist(a, b, p).detach().numpy(), expected, rtol=1e-10)
    small = a[:, :3].detach().requires_grad_()
    assert gradcheck(lambda s, t: torch.cdist(s, t, p), (small, b))
    if p in (1.0, 2.0, 3.0):
        assert gradgradcheck(lambda s, t: torch.cdist(s, t, p), (small, b))


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("mode", ["use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist"])
def test_cdist_gradient_is_zero_at_equal_points(p, mode):
    x = torch.ones(3, 2, requires_grad=True)
    torch.cdist(x, torch.ones(4, 2), p, compute_mode=mode).sum().backward()
    assert x.grad.tolist() == [[0, 0]] * 3


def test_empty_sets_of_points():
    assert torch.cdist(torch.ones(2, 0, 3), torch.ones(2, 4, 3)).shape == (2, 0, 4)
    assert torch.cdist(torch.ones(2, 0), torch.ones(3, 0)).tolist() == [[0] * 3] * 2
    assert F.pdist(torch.ones(1, 3)).shape == (0,)


def test_pdist_is_the_upper_triangle():
    x = torch.randn(5, 3)
    rows, columns = np.triu_indices(5, 1)
    np.testing.assert_allclose(F.pdist(x).numpy(), torch.cdist(x, x).numpy()[rows, columns], rtol=1e-5)


def test_zero_vectors_have_no_direction():
    zero = torch.zeros(1, 3, requires_grad=True)
    out = F.cosine_similarity(zero, torch.ones(1, 3))
    out.sum().backward()
    assert out.item() == 0 and zero.grad.isfinite().all().item()
    assert F.normalize(torch.zeros(2, 3)).tolist() == [[0] * 3] * 2
    with pytest.raises(RuntimeError, match="floating point"):
        F.cosine_similarity(torch.ones(1, 3, dtype=torch.int64), torch.ones(1, 3, dtype=torch.int64))


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: F.scaled_dot_product_attention(torch.ones(1, 4, 8), torch.ones(1, 4, 6), torch.ones(1, 4, 6)),
            r"expected key of 8 features, got 6 \(query 1×4×8, key 1×4×6, value 1×4×6\)",
        ),
        (
            lambda: F.scaled_dot_product_attention(torch.ones(4, 8), torch.ones(4, 8), torch.ones(3, 8)),
            "as many values as keys",
        ),
        (
            lambda: F.scaled_dot_product_attention(*[torch.ones(2, 2)] * 3, torch.ones(2, 2), is_causal=True),
            "is_causal",
        ),
        (
            lambda: F.scaled_dot_product_attention(torch.ones(3, 2, 2), *[torch.ones(2, 2, 2)] * 2, enable_gqa=True),
            "heads",
        ),
        (lambda: F.scaled_dot_product_attention(torch.ones(2, 2).double(), *[torch.ones(2, 2)] * 2), "same dtype"),
        (lambda: torch.cdist(torch.ones(2, 3), torch.ones(2, 4)), "got 2×3 and 2×4"),
        (lambda: torch.cdist(torch.ones(2, 3), torch.ones(2, 3), -1.0), "non-negative p"),
        (lambda: F.pdist(torch.ones(2, 3, 4)), "only supports 2D"),
    ],
)
def test_errors(call, message):
    with pytest.raises(RuntimeError, match=message):
        call()
