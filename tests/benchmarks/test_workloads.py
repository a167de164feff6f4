"""The workloads do in flambeau what they say, from the same seed the same, and their counts match their models."""

import math

import numpy as np
import pytest

import flambeau as torch
from benchmarks import check, floors
from benchmarks.workloads import EAGER, QUICK, TABLE, WORKLOADS

# Losses of the first steps in PyTorch 2.13, seed 0.
RECORDED = {
    "linreg": [80.36434, 71.94661, 64.37085],
    "tanhnet": [225.35834, 222.77773, 220.23415],
    "mlp": [2.30433, 2.29573, 2.2998],
    "cgan": [2.06105, 2.05211, 2.03419],
}


def test_tables_name_workloads():
    assert set(TABLE) | set(QUICK) | set(EAGER) <= set(WORKLOADS)
    assert set(floors.counts()) == set(TABLE)


@pytest.mark.parametrize("name", RECORDED)
def test_first_losses_are_pytorch_s(name):
    trace = check.run(torch, name, 3)
    np.testing.assert_allclose([float(value) for value in trace.values], RECORDED[name], rtol=1e-5)


@pytest.mark.parametrize("name", ["linreg", "tanhnet", "mlp", "cgan"])
def test_two_runs_are_equal(name):
    values, state, worst = check.compare(check.run(torch, name, 2), check.run(torch, name, 2))
    assert values == 0 and state == 0, worst


def test_the_state_holds_models_and_optimizers():
    trace = check.run(torch, "mlp", 1)
    assert {name for name in trace.state if name.startswith("0.")} == {
        f"0.fc{number}.{kind}" for number in (1, 2, 3) for kind in ("weight", "bias")
    }


@pytest.mark.parametrize("name", ["mlp", "dogcnn64"])
def test_the_counts_know_every_parameter(name):
    work = WORKLOADS[name].build(torch, None)
    convolutions = [m for m in work.owners[0].modules() if isinstance(m, torch.nn.Conv2d)]
    norms = [m for m in work.owners[0].modules() if isinstance(m, torch.nn.BatchNorm2d)]
    parameters = sum(p.numel() for p in work.owners[0].parameters())
    # Norms and the biases of convolutions ride along.
    left_out = sum(m.bias.numel() for m in convolutions) + sum(2 * m.num_features for m in norms)
    assert floors.counts()[name].parameters == parameters - left_out


def test_distance_is_strict():
    assert check.distance(np.zeros(3), np.zeros(3)) == 0
    assert check.distance(np.ones(3), np.zeros(3)) == math.inf
    assert check.distance(np.array([math.nan]), np.ones(1)) == math.inf
    assert check.distance(np.full(4, 1.001), np.ones(4)) == pytest.approx(1e-3)


def test_check_catches_a_compiler_that_is_wrong():
    def wrong(step):
        return lambda *batch: step(*batch) * 1.001

    values, _, _ = check.compare(check.run(torch, "linreg", 2, wrong), check.run(torch, "linreg", 2))
    assert values > check.TOLERANCE


@pytest.mark.parametrize("name", ["tanhnet", "mlp"])
def test_lockstep_holds_every_step_to_the_tolerance(name):
    values, state, worst = check.compare(*reversed(check.in_lockstep(torch, name, 3)))
    assert values <= check.TOLERANCE and state <= check.TOLERANCE, worst


def test_lockstep_sees_a_difference(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda step: lambda *batch: step(*batch) * 1.001)
    eager, other = check.in_lockstep(torch, "mlp", 2)
    assert check.compare(other, eager)[0] == pytest.approx(1e-3, rel=0.01)
