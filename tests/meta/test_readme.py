"""The README keeps its word: its Python runs, its links lead somewhere, its commands are targets of the Makefile."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.S | re.M)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs(code, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    shown = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    promised = re.findall(r"about ([-\d. ]+)$", code, re.M)
    for line, expected in zip(shown.stdout.splitlines(), promised, strict=True):
        assert [float(word) for word in line.split()] == pytest.approx([float(w) for w in expected.split()], abs=0.02)


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#]+)\)", README))
def test_links_lead_to_files(target):
    assert target.startswith("https://") or (ROOT / target).exists()


def test_commands_are_make_targets():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = re.findall(r"^make (\w+)", README, re.M)
    assert commands[:2] == ["demo", "test"]
    assert all(re.search(rf"^{command}:", makefile, re.M) for command in commands)
