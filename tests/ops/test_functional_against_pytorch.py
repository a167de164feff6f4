"""Activations, softmax, losses and embeddings against PyTorch (tests/golden/functional.json, by make_functional.py)."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import flambeau as torch

GOLDEN = Path(__file__).parents[1] / "golden"
spec = importlib.util.spec_from_file_location("make_functional", GOLDEN / "make_functional.py")
make_functional = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_functional)
RECORDED = json.loads((GOLDEN / "functional.json").read_text())


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@pytest.mark.parametrize("case", make_functional.CASES)
def test_value_and_gradients(case):
    found, expected = make_functional.evaluate(torch, case), RECORDED[case]
    assert [values is None for values in found] == [values is None for values in expected]
    for ours, theirs in zip(found, expected):
        if theirs is not None:
            np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-12)
