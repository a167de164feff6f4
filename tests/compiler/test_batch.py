"""Equal updates of many parameters run as one parallel loop."""

from __future__ import annotations

import numpy as np
import pytest

import flambeau as torch
from flambeau.backends.llvm import runner
from flambeau.compiler import program

SIZES = [(3,), (64,), (65, 3), (200, 31), (1,), (7, 5, 3)]


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def run(compiled: bool, optimizer_class, steps: int = 5, **options):
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(size)) for size in SIZES]
    optimizer = optimizer_class(params, **options)

    def step(scale):
        optimizer.zero_grad()
        loss = sum((p * p * scale).sum() for p in params)
        loss.backward()
        optimizer.step()
        return loss

    called = torch.compile(step) if compiled else step
    losses = [called(torch.tensor(1.0 + k)).item() for k in range(steps)]
    entries = [e for es in called.entries.values() for e in es] if compiled else []
    return losses, [p.detach().numpy() for p in params], entries


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (torch.optim.SGD, {"lr": 0.01, "momentum": 0.9}),
        (torch.optim.Adam, {"lr": 0.1}),
        (torch.optim.RMSprop, {"lr": 0.01}),
    ],
    ids=["sgd", "adam", "rmsprop"],
)
def test_one_region_updates_all_parameters(two_threads, monkeypatch, optimizer, options):
    monkeypatch.setattr(program, "BATCH", 1)
    losses, params, _ = run(False, optimizer, **options)
    found, updated, entries = run(True, optimizer, **options)
    records = entries[0].execute.records
    batches = records[records[:, 0] == runner.BATCH]
    assert len(batches) and batches[:, 5].max() >= 3  # some are fused with what makes their gradient
    np.testing.assert_allclose(found, losses, rtol=1e-5)
    for mine, theirs in zip(updated, params):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_updates_wait_only_until_somebody_reads_them():
    torch.manual_seed(1)
    a, b = (torch.nn.Parameter(torch.randn(300)) for _ in range(2))

    def step(x):
        with torch.no_grad():
            a.add_(x)
            total = (a * 2).sum()
            b.add_(x)
            a.mul_(0.5)
        return total

    compiled = torch.compile(step)
    for k in range(4):
        x = torch.full((300,), float(k))
        kept_a, kept_b = a.detach().clone(), b.detach().clone()
        total = compiled(x)
        np.testing.assert_allclose(total.item(), ((kept_a + x) * 2).sum().item(), rtol=1e-5)
        np.testing.assert_allclose(a.detach().numpy(), ((kept_a + x) * 0.5).numpy(), rtol=1e-6)
        np.testing.assert_allclose(b.detach().numpy(), (kept_b + x).numpy(), rtol=1e-6)
