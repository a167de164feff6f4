"""Optimizers and schedules against what PyTorch does (tests/golden/optim.json, made by make_optim.py beside it)."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import flambeau as torch

GOLDEN = Path(__file__).parents[1] / "golden"
spec = importlib.util.spec_from_file_location("make_optim", GOLDEN / "make_optim.py")
make_optim = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_optim)
RECORDED = json.loads((GOLDEN / "optim.json").read_text())


@pytest.mark.parametrize("call", make_optim.OPTIMIZERS)
def test_optimizer(call):
    loose = "Muon" in call or "LBFGS" in call  # Muon multiplies in bfloat16; a line search amplifies rounding
    for found, expected in zip(make_optim.train(torch, call), RECORDED["optimizers"][call]):
        np.testing.assert_allclose(found, expected, rtol=1e-3 if loose else 1e-6)


@pytest.mark.parametrize("call", make_optim.SCHEDULES)
def test_schedule(call):
    np.testing.assert_allclose(make_optim.schedule(torch, call), RECORDED["schedules"][call], rtol=1e-12, atol=1e-18)


def test_every_algorithm_and_schedule_is_recorded():
    recorded = {call.split("(")[0] for call in (*make_optim.OPTIMIZERS, *make_optim.SCHEDULES)}
    named = {*torch.optim.__all__, *torch.optim.lr_scheduler.__all__}
    others = {"Optimizer", "SparseAdam", "lr_scheduler", "swa_utils", "LRScheduler", "_LRScheduler"}
    assert {name for name in named - others if name[0].isupper()} <= recorded
