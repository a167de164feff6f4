"""What the tests of the examples share: running a script's `main`, and looking at the picture it leaves."""

import runpy
from pathlib import Path

import numpy as np
import pytest

import flambeau as torch

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def one_thread():
    """The examples' tensors are small: a second thread costs more than it gives where other programs run as well."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def run_example(tmp_path, monkeypatch):
    """`run_example("vae", "--epochs", 3)` calls the script's `main` with `--out tmp_path` and returns its results."""
    pytest.importorskip("matplotlib", reason="the examples draw with matplotlib")

    monkeypatch.syspath_prepend(EXAMPLES)  # some import shapes.py, which lies beside them

    def run(name, *arguments, out=tmp_path):
        main = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]
        return main([*map(str, arguments), "--out", str(out)])

    return run


@pytest.fixture
def picture(tmp_path):
    """`picture("fit.png")` is that file of `tmp_path` as an array, and fails for one that is empty or of one colour."""
    image = pytest.importorskip("PIL.Image", reason="the pictures are read with Pillow")

    def read(name):
        pixels = np.asarray(image.open(tmp_path / name).convert("RGB"))
        assert min(pixels.shape[:2]) >= 50, f"{name} is only {pixels.shape[1]}×{pixels.shape[0]} pixels"
        assert pixels.std() > 5, f"{name} is blank"
        return pixels

    return read
