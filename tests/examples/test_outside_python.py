"""The example that leaves Python: the program in C gives the answers of the network."""

import subprocess

import pytest


def test_the_program_in_c_answers_as_the_network_does(run_example, picture):
    pytest.importorskip("llvmlite")
    from flambeau.export.native import c_compiler

    if c_compiler() is None:
        pytest.skip("no C compiler here")
    result = run_example("outside_python/main", "--epochs", 4)
    assert result["losses"][-1] < 0.3 * result["losses"][0]
    assert result["accuracy"] > 0.9
    assert result["difference"] < 1e-4
    picture("answers.png")
    done = subprocess.run([result["program"], "missing.pgm"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "missing.pgm" in done.stderr
