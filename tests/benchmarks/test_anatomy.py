"""What is said of a compiled function's programs."""

from __future__ import annotations

import pytest

import flambeau as torch
from benchmarks import anatomy


def test_a_compiled_module_is_described_by_its_programs():
    compiled = torch.compile(torch.nn.Linear(3, 2))
    assert anatomy.in_words(compiled) == "eager: nothing was captured"
    with torch.no_grad():
        compiled(torch.ones(4, 3))
    counted = anatomy.steps(compiled)
    assert counted["host"] == 0 and sum(counted.values()) > 0
    assert anatomy.in_words(compiled).endswith(", 0 host")


def test_why_a_function_stays_eager():
    compiled = torch.compile(lambda x: x + float(x.sum().numpy()))
    with pytest.warns(UserWarning, match="reads the values"):
        compiled(torch.ones(3))
    assert anatomy.in_words(compiled).startswith("eager: ")
