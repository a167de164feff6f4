"""The stub that editors read says what the method tables bind."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_stub_is_current():
    script = runpy.run_path(str(ROOT / "tools" / "make_stubs.py"))
    assert script["make"]() == script["TARGET"].read_text(), "run: python tools/make_stubs.py"
