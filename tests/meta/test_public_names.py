"""What a module lists in `__all__` exists, once, and the façades show PyTorch's public paths."""

import importlib

import pytest

MODULES = [
    "flambeau", "flambeau.autograd", "flambeau.nn", "flambeau.nn.functional", "flambeau.nn.init", "flambeau.nn.utils",
    "flambeau.optim", "flambeau.optim.lr_scheduler", "flambeau.utils.data", "flambeau.vision.datasets",
]  # fmt: skip


@pytest.mark.parametrize("path", MODULES)
def test_listed_names_exist(path):
    module = importlib.import_module(path)
    names = list(getattr(module, "__all__", ()))
    assert len(names) == len(set(names)), "a name is listed twice"
    assert not [name for name in names if not hasattr(module, name)]
