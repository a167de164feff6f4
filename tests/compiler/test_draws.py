"""Draws by generated code: the numbers and the final state that NumPy's path gives."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

import flambeau as torch
from flambeau.compiler import draws
from flambeau.core import random as stream
from flambeau.core import random_distributions as distributions

float32, float64 = np.dtype(np.float32), np.dtype(np.float64)
SIZES = (1, 7, 16, 31, 623, 624, 625, 4096, 4111, 20003)


@pytest.fixture(autouse=True)
def numpy_only(monkeypatch):
    """`stream`'s functions stay with NumPy, whatever this process has compiled."""
    monkeypatch.setattr(stream, "compiled", lambda n: None)


CASES = {
    "uniform": (lambda g, n: draws.uniform(g, np.empty(n, float32), 0, 1), lambda g, n: stream.uniform(g, n)),
    "uniform between": (
        lambda g, n: draws.uniform(g, np.empty(n, float32), -0.3, 0.7),
        lambda g, n: stream.uniform(g, n, float32, -0.3, 0.7),
    ),
    "uniform up to": (
        lambda g, n: draws.uniform(g, np.empty(n, float32), 0, 1e-3),
        lambda g, n: stream.uniform(g, n, float32, 0, 1e-3),
    ),
    "uniform, double": (
        lambda g, n: draws.uniform(g, np.empty(n, float64), 0, 1),
        lambda g, n: stream.uniform(g, n, float64),
    ),
    "uniform between, double": (
        lambda g, n: draws.uniform(g, np.empty(n, float64), -2.5, 0.7),
        lambda g, n: stream.uniform(g, n, float64, -2.5, 0.7),
    ),
    "bernoulli": (
        lambda g, n: draws.bernoulli(g, np.empty(n, bool), 0.9),
        lambda g, n: distributions.bernoulli(g, (n,), 0.9),
    ),
    "bernoulli, sure": (
        lambda g, n: draws.bernoulli(g, np.empty(n, bool), 1.0),
        lambda g, n: distributions.bernoulli(g, (n,), 1.0),
    ),
    "permutation": (
        lambda g, n: draws.randperm(g, np.empty(n, np.int64)),
        lambda g, n: distributions.randperm(g, n),
    ),
    "normal": (
        lambda g, n: draws.normal(g, np.empty(max(n, 16), float32), 0.25, 2.0),
        lambda g, n: stream.normal(g, max(n, 16), float32, 0.25, 2.0),
    ),
}
for span in (1, 2, 3, 10, 64, 1000003, (1 << 28) - 1):
    CASES[f"integers, {span}"] = (
        lambda g, n, span=span: draws.randint(g, np.empty(n, np.int64), -5, span),
        lambda g, n, span=span: stream.randint(g, n, -5, span - 5),
    )


@pytest.mark.parametrize("case", CASES)
def test_same_numbers_and_state_as_numpy(case):
    native, plain = CASES[case]
    ours, theirs = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    for n in SIZES:  # one after the other: blocks of words begin and end anywhere
        np.testing.assert_array_equal(native(ours, n), plain(theirs, n))
        assert np.array_equal(ours.state_bytes(), theirs.state_bytes())


def test_state_set_from_outside_counts():
    gen = torch.Generator().manual_seed(11)
    memory = gen.memory()
    first = draws.uniform(gen, np.empty(1000, float32), 0, 1)
    kept = gen.state_bytes()
    second = draws.uniform(gen, np.empty(1000, float32), 0, 1)
    gen.load_bytes(kept)
    np.testing.assert_array_equal(draws.uniform(gen, np.empty(1000, float32), 0, 1), second)
    gen.manual_seed(11)
    np.testing.assert_array_equal(draws.uniform(gen, np.empty(1000, float32), 0, 1), first)
    assert gen.memory() is memory


def test_memory_outlives_its_generator():
    memory = torch.Generator().manual_seed(5).memory()
    assert memory[624] == 624 and memory[0] == 5


def test_large_draws_go_native_when_they_are_worth_it(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(stream, "_native", None)
    torch.manual_seed(1)
    expected = [
        torch.rand(70000),
        torch.randn(70000),
        torch.nn.functional.dropout(torch.ones(70000), 0.3),
        torch.randint(0, 9, (70000,)),
        torch.rand(70000, dtype=torch.float64),
        torch.randperm(70000),
    ]
    called = []
    monkeypatch.setattr(draws, "_run", lambda name, *rest, run=draws._run: called.append(name) or run(name, *rest))
    monkeypatch.setattr(stream, "PATIENCE", 0)
    torch.manual_seed(1)
    found = [
        torch.rand(70000),
        torch.randn(70000),
        torch.nn.functional.dropout(torch.ones(70000), 0.3),
        torch.randint(0, 9, (70000,)),
        torch.rand(70000, dtype=torch.float64),
        torch.randperm(70000),
    ]
    assert called == ["uniform32", "normal", "bernoulli", "randint", "uniform64", "randperm"]
    for a, b in zip(found, expected):
        assert torch.equal(a, b)
    torch.rand(1000)
    assert len(called) == 6
