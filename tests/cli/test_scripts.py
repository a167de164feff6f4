"""Scripts as PyTorch's tutorials write them, run unchanged: what they print agrees with what PyTorch printed.

`scripts/name.txt` is what `scripts/name.py` prints on PyTorch 2.13 (`python -m tests.recorded` writes it).
"""

import pathlib

import pytest

from tests.recorded import check, compare

SCRIPTS = sorted(pathlib.Path(__file__).with_name("scripts").glob("*.py"))


def test_there_are_scripts():
    assert len(SCRIPTS) >= 8


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script_prints_what_it_prints_on_pytorch(script, tmp_path):
    check(script, cwd=tmp_path)


@pytest.mark.parametrize(
    ("found", "message"),
    [("loss 0.51 nan\nend", "line 1"), ("lost 0.5 nan\nend", "line 1"), ("loss 0.5 nan", "1 lines, recorded 2"),
     ("loss 0.5 1.0\nend", "line 1")],
)
def test_the_comparison_sees_differences(found, message):
    with pytest.raises(AssertionError, match=message):
        compare(found, "loss 0.5 nan\nend", 1e-3)


def test_the_comparison_forgives_rounding():
    compare("loss 0.5001  -1e-7 nan", "loss 0.5 3e-6 nan", 1e-3)
