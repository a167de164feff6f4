"""Printed tensors against PyTorch's text (tests/golden/printing.json, made by make_printing.py beside it)."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import flambeau as torch
from flambeau.core import dtype as dtypes
from flambeau.core import printing

GOLDEN = Path(__file__).parents[1] / "golden"
spec = importlib.util.spec_from_file_location("make_printing", GOLDEN / "make_printing.py")
make_printing = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_printing)
TEXTS = json.loads((GOLDEN / "printing.json").read_text())


@pytest.fixture(autouse=True)
def default_options():
    printing.set_printoptions(profile="default")
    yield
    printing.set_printoptions(profile="default")


@pytest.mark.parametrize("case, text", list(zip(make_printing.CASES, TEXTS, strict=True)), ids=lambda x: str(x)[:60])
def test_same_text_as_pytorch(case, text):
    options, expression = case
    printing.set_printoptions(**options)
    assert repr(eval(expression, {"T": torch})) == text


def test_options_are_kept_until_changed():
    printing.set_printoptions(precision=2, linewidth=40)
    printing.set_printoptions(edgeitems=5)
    assert printing.get_printoptions() == {"precision": 2, "threshold": 1000, "edgeitems": 5, "linewidth": 40,
                                           "sci_mode": None}


def test_sci_mode_is_forgotten_by_the_next_call():
    printing.set_printoptions(sci_mode=True)
    printing.set_printoptions(precision=3)
    assert printing.options.sci_mode is None


def test_printoptions_restores_also_after_an_error():
    with pytest.raises(KeyError), printing.printoptions(precision=1):
        assert printing.options.precision == 1
        raise KeyError
    assert printing.options.precision == 4


def test_names_and_prefix():
    text = printing.tensor_text(np.zeros((1, 2), np.float32), dtype=dtypes.float32, names=("N", None), prefix="Wave(")
    assert text == "Wave([[0., 0.]], names=('N', None))"


def test_the_default_dtype_is_not_named():
    array = np.array([0.5])
    assert printing.tensor_text(array, dtype=dtypes.float64, default_dtype=dtypes.float64) == "tensor([0.5000])"
    assert printing.tensor_text(array, dtype=dtypes.float64) == "tensor([0.5000], dtype=torch.float64)"


def test_suffixes_move_to_a_new_line_when_the_line_is_full():
    text = printing.tensor_text(np.full(7, 0.5, np.float32), dtype=dtypes.float32, grad_fn_name="AddBackward0")
    assert text.endswith("0.5000],\n       grad_fn=<AddBackward0>)")
