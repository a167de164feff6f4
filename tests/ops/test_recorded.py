"""Convolution, pooling, normalisation, resampling, attention: values and gradients recorded from PyTorch."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import flambeau as torch
import flambeau.nn.functional as F
from flambeau.autograd import gradcheck

FOLDER = Path(__file__).parents[1] / "golden"
_spec = importlib.util.spec_from_file_location("function_cases", FOLDER / "function_cases.py")
cases = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cases)

EXPECTED = json.loads((FOLDER / "functions.json").read_text())
every_case = pytest.mark.parametrize("index", range(len(cases.CASES)), ids=cases.label)


def call(index, dtype):
    """The function of a case, and its tensors."""
    name, shapes, options = cases.CASES[index]
    constant = cases.CONSTANT.get(name, ())
    tensors = [
        torch.tensor(a, dtype=dtype).requires_grad_(i not in constant) for i, a in enumerate(cases.arrays(shapes))
    ]
    return lambda *t: getattr(F, name)(*t, **options), tensors


def assert_recorded(found, values, dtype):
    tolerance = 2e-6 if dtype is torch.float64 else 2e-4
    np.testing.assert_allclose(found.detach().double().numpy().reshape(-1), values, rtol=tolerance, atol=tolerance)


def test_every_case_is_recorded():
    assert len(EXPECTED) == len(cases.CASES)


@every_case
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_values_and_gradients(index, dtype, engine):
    function, tensors = call(index, dtype)
    out = function(*tensors)
    expected = EXPECTED[index]
    assert list(out.shape) == expected["shape"]
    assert out.is_contiguous() and out.dtype is dtype
    assert_recorded(out, expected["values"], dtype)
    out.backward(torch.tensor(cases.seed(tuple(out.shape)), dtype=dtype))
    for t, recorded in zip(tensors, expected["grads"]):
        assert (t.grad is None) == (recorded is None)
        if recorded is not None:
            assert t.grad.shape == t.shape
            assert_recorded(t.grad, recorded, dtype)


@every_case
def test_non_contiguous_inputs(index, engine):
    function, tensors = call(index, torch.float32)
    spread = [torch.stack([t.detach(), t.detach()], -1).select(-1, 0) for t in tensors]
    before = [t.clone() for t in spread]
    out = function(*spread)
    assert_recorded(out, EXPECTED[index]["values"], torch.float32)
    if cases.CASES[index][0] != "batch_norm":  # which moves its running statistics
        assert all((a == b).all().item() for a, b in zip(spread, before))


SMALL = [
    i
    for i, (_, shapes, options) in enumerate(cases.CASES)
    if sum(int(np.prod(s)) for s in shapes) < 70 and "padding_mode" not in options and options.get("mode") != "bicubic"
]


@pytest.mark.parametrize("index", SMALL, ids=cases.label)
def test_second_derivatives(index):
    function, tensors = call(index, torch.float64)
    inputs = [t for t in tensors if t.requires_grad]

    def first(*given):
        given = iter(given)
        out = function(*(next(given) if t.requires_grad else t.clone() for t in tensors))
        seed = torch.tensor(cases.seed(tuple(out.shape)))
        return torch.autograd.grad(out, inputs, seed, create_graph=True)

    assert gradcheck(first, inputs, atol=1e-4)
