"""Scripts written for PyTorch beside the output PyTorch gave them.

A recorded script `name.py` has its output in `name.txt`. Words must be equal, numbers agree to the tolerance that the
script states in a line `# tolerance: 1e-3` (else to 2e-4 of their size; what matters less than 1e-5 counts as zero).

`python -m tests.recorded SCRIPT…` records anew, with the PyTorch of the Python it runs on.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
NUMBER = re.compile(r"[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:e[-+]?\d+)?|\binf\b|\bnan\b")


def environment() -> dict[str, str]:
    """The environment in which a new process finds flambeau."""
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    # One thread: tests run beside each other, and threads of OpenMP that wait for each other wait long.
    return {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": os.pathsep.join(path)}


def python(*arguments: object, cwd: object = None, timeout: float = 110) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, env=environment(), timeout=timeout,  # type: ignore[call-overload]
    )


def run(*arguments: object, cwd: object = None) -> subprocess.CompletedProcess[str]:
    """`flambeau run` with these arguments."""
    return python("-m", "flambeau", "run", *arguments, cwd=cwd)


def check(script: pathlib.Path, cwd: object = None) -> None:
    """Assert that a recorded script does under `flambeau run` what it did under PyTorch."""
    result = run(script, cwd=cwd)
    assert result.returncode == 0, result.stderr
    compare(result.stdout, script.with_suffix(".txt").read_text(encoding="utf-8"), tolerance_of(script))


def tolerance_of(script: pathlib.Path) -> float:
    """The relative tolerance that a script asks for."""
    stated = re.search(r"^# tolerance: (\S+)$", script.read_text(encoding="utf-8"), re.MULTILINE)
    return float(stated.group(1)) if stated else 2e-4


def compare(found: str, expected: str, tolerance: float) -> None:
    """Assert equal words and close numbers, line by line."""
    lines, wanted = found.splitlines(), expected.splitlines()
    for number, (line, want) in enumerate(zip(lines, wanted), 1):
        where = f"line {number}:\n  {line}\nrecorded:\n  {want}"
        assert NUMBER.sub("#", line).split() == NUMBER.sub("#", want).split(), where
        for a, b in zip(map(float, NUMBER.findall(line)), map(float, NUMBER.findall(want))):
            assert a == b or abs(a - b) <= tolerance * max(abs(a), abs(b)) + 1e-5 or (a != a and b != b), where
    assert len(lines) == len(wanted), f"{len(lines)} lines, recorded {len(wanted)}"


def record(script: pathlib.Path) -> None:
    """Write down what a script prints under the PyTorch of this Python."""
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    script.with_suffix(".txt").write_text(result.stdout, encoding="utf-8")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        record(pathlib.Path(argument))
