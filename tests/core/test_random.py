"""The random stream against what PyTorch drew (tests/golden/random.json, made by make_random.py beside it)."""

import copy
import importlib.util
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

import flambeau as torch
from flambeau.core import random as stream
from flambeau.core import random_distributions as distributions

GOLDEN = Path(__file__).parents[1] / "golden"
spec = importlib.util.spec_from_file_location("make_random", GOLDEN / "make_random.py")
make_random = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_random)
RECORDED = json.loads((GOLDEN / "random.json").read_text())

# Logarithms, sines and cosines may differ in the last bit between machines; nothing else may.
ROUNDED = ("randn", "normal", "exponential", "cauchy", "alpha")


def test_every_case_is_recorded():
    assert list(RECORDED) == make_random.CASES


@pytest.mark.parametrize("expression", make_random.CASES)
def test_same_numbers_as_pytorch(expression):
    values, state = make_random.draw(torch, expression)
    expected = RECORDED[expression]
    assert list(values.shape) == expected["shape"]
    wanted = [float.fromhex(v) for v in expected["values"]]
    if any(word in expression for word in ROUNDED):
        tolerance = 2e-2 if "bfloat16" in expression else 2e-3 if "float16" in expression else 1e-6
        np.testing.assert_allclose(make_random.numbers(values), wanted, rtol=tolerance, atol=tolerance)
    else:
        assert make_random.numbers(values) == wanted
    if "randn" not in expression and "normal" not in expression:     # a kept second normal number is in the state
        assert state == expected["state"]


# ---- the engine ----


def test_the_engine_is_the_mersenne_twister_seeded_with_32_bits():
    words = torch.Generator().manual_seed(5489).raw(10000)
    assert int(words[-1]) == 4123659995                 # the value the C++ standard gives for mt19937
    assert np.array_equal(torch.Generator().manual_seed(2**32 + 7).raw(5), torch.Generator().manual_seed(7).raw(5))


def test_seeds_wrap_and_are_checked():
    g = torch.Generator()
    assert g.initial_seed() == 67280421310721
    assert g.manual_seed(-1).initial_seed() == 2**64 - 1
    with pytest.raises(ValueError, match="Overflow"):
        g.manual_seed(2**64)
    with pytest.raises(RuntimeError, match="expected a long, but got str"):
        g.manual_seed("a")
    assert g.seed() == g.initial_seed()
    assert torch.manual_seed(9) is torch.default_generator
    assert torch.initial_seed() == 9


def test_state_has_pytorchs_layout():
    g = torch.Generator().manual_seed(42)
    fresh = g.state_bytes().view(stream.STATE)[0]
    assert (fresh["seed"], fresh["left"], fresh["seeded"], fresh["next"]) == (42, 1, 1, 0)
    assert fresh["words"][0] == 42
    stream.normal(g, (3,))
    used = g.state_bytes().view(stream.STATE)[0]
    assert used.nbytes == 5056
    assert (used["left"], used["next"]) == (617, 8)     # two pairs of 53-bit uniforms
    assert used["normal_is_valid"] == 1
    assert used["normal_y"] == g.next_normal


@pytest.mark.parametrize("drawn", [0, 1, 623, 624, 625, 5000])
def test_state_restores_the_stream(drawn):
    g = torch.Generator().manual_seed(3)
    if drawn:
        g.raw(drawn)
    stream.normal(g, (1,))
    other = torch.Generator()
    other.set_state(g.get_state())
    assert other.initial_seed() == 3
    assert g.state_bytes().tobytes() == other.state_bytes().tobytes()
    assert stream.normal(g, (5,)).tobytes() == stream.normal(other, (5,)).tobytes()


@pytest.mark.parametrize("copied", [lambda g: g.clone_state(), copy.deepcopy, lambda g: pickle.loads(pickle.dumps(g))])
def test_copies_continue_alike_and_apart(copied):
    g = torch.Generator().manual_seed(3)
    g.raw(10)
    other = copied(g)
    first = torch.rand(4, generator=g)
    assert torch.rand(4, generator=other).tolist() == first.tolist()
    assert torch.rand(4, generator=g).tolist() != first.tolist()


def test_bad_states_are_refused():
    g = torch.Generator()
    with pytest.raises(RuntimeError, match="5056"):
        g.set_state(torch.zeros(3, dtype=torch.uint8))
    with pytest.raises(RuntimeError, match="mt19937"):
        g.set_state(torch.zeros(5056, dtype=torch.uint8))
    with pytest.raises(TypeError, match="ByteTensor"):
        g.set_state(torch.zeros(5056))


def test_fork_rng_leaves_the_stream_undisturbed():
    torch.manual_seed(0)
    with torch.random.fork_rng():
        inside = torch.rand(3)
    assert torch.rand(3).tolist() == inside.tolist()


# ---- arithmetic ----


def test_large_draws_equal_small_ones():
    """Chunks are an implementation's business."""
    a, b = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    n = stream.CHUNK + 1000
    large = stream.uniform(a, (n,))
    parts = np.concatenate([stream.uniform(b, (n // 2,)), stream.uniform(b, (n - n // 2,))])
    assert np.array_equal(large, parts)
    a.manual_seed(1), b.manual_seed(1)
    large = stream.normal(a, (n - n % 16,))
    parts = np.concatenate([stream.normal(b, (1600,)), stream.normal(b, (n - n % 16 - 1600,))])
    assert np.array_equal(large, parts)


def test_fused_multiply_add_rounds_once():
    """(1 + e)(1 - e) - 1 is -e² exactly, and 0 with two roundings."""
    e = 2.0**-30
    assert stream.fma_float64(np.array([1 + e]), 1 - e, -1.0)[0] == -(e * e)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normal_numbers_have_the_moments(dtype):
    x = stream.normal(torch.Generator().manual_seed(0), (200_000,), np.dtype(dtype), 3.0, 0.5).astype(np.float64)
    assert abs(x.mean() - 3) < 0.01 and abs(x.std() - 0.5) < 0.01
    assert abs(((x - 3) ** 4).mean() / 0.5**4 - 3) < 0.1


def test_bernoulli_extremes():
    g = torch.Generator()
    assert not distributions.bernoulli(g, (1000,), 0.0).any()
    assert distributions.bernoulli(g, (1000,), 1.0).all()


@pytest.mark.parametrize("n", [1, 2, 7, 200, 1500])
def test_both_ways_to_swap_agree(n):
    behind = np.arange(n) + stream.randint(torch.Generator().manual_seed(n), (n,), 0, 1 << 20) % (n - np.arange(n))
    crowded = np.maximum(np.arange(n), behind // 3 * 3)              # many steps with one place
    for places in (behind, crowded, np.arange(n)):
        in_turn = distributions._swapped_in_turn(places)
        assert np.array_equal(distributions._swapped_at_once(places), in_turn)
        assert sorted(in_turn) == list(range(n))


def test_gamma_dirichlet_and_binomial_moments():
    g = torch.Generator().manual_seed(0)
    gamma = distributions.standard_gamma(g, np.full(4000, 2.5))
    assert abs(gamma.mean() - 2.5) < 0.1 and abs(gamma.var() - 2.5) < 0.3
    points = distributions.dirichlet(g, np.tile([1.0, 2.0, 5.0], (1000, 1)))
    np.testing.assert_allclose(points.sum(-1), 1)
    np.testing.assert_allclose(points.mean(0), [0.125, 0.25, 0.625], atol=0.03)
    counts = distributions.binomial(g, np.full(3000, 40.0), np.full(3000, 0.7))
    assert abs(counts.mean() - 28) < 0.3 and counts.max() <= 40
