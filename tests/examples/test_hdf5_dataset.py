"""The HDF5 example learns, and tensors go to and from HDF5 files through NumPy."""

import runpy
from pathlib import Path

import numpy as np
import pytest

import flambeau as torch

h5py = pytest.importorskip("h5py", reason="the example needs h5py")
EXAMPLE = Path(__file__).parents[2] / "examples" / "hdf5_dataset.py"


def test_the_example_learns(tmp_path, capsys):
    accuracy = runpy.run_path(str(EXAMPLE))["main"](str(tmp_path / "digits.h5"))
    assert accuracy > 0.9
    assert "epoch 5" in capsys.readouterr().out


def test_a_state_dict_in_hdf5(tmp_path):
    model = torch.nn.Linear(3, 2)
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        for name, tensor in model.state_dict().items():
            file[name] = tensor.numpy()
    with h5py.File(tmp_path / "weights.h5") as file:
        back = {name: torch.from_numpy(np.asarray(file[name])) for name in file}
    assert all(torch.equal(back[name], tensor) for name, tensor in model.state_dict().items())
