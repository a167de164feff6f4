"""Exceptions inside a model name the module they come from."""

from __future__ import annotations

import pytest

import flambeau as torch
from flambeau import nn


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.Linear(5, 2)))


def test_the_path_of_the_failing_layer_comes_first():
    with pytest.raises(RuntimeError, match=r"^1\.1 \(Linear\): ") as caught:
        net()(torch.ones(2, 3))
    assert "2" in str(caught.value) and type(caught.value) is RuntimeError


def test_the_traceback_still_ends_where_the_error_is():
    with pytest.raises(RuntimeError) as caught:
        net()(torch.ones(2, 3))
    assert any("ops" in str(entry.path) for entry in caught.traceback)


def test_a_layer_alone_keeps_its_message():
    with pytest.raises(RuntimeError) as caught:
        nn.Linear(3, 4)(torch.ones(2, 2))
    assert "(Linear):" not in str(caught.value)


class Wrapper(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, x):
        return self.encoder(x)


class Raises(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x):
        raise self.error


def test_user_exceptions_keep_type_and_arguments():
    class Special(RuntimeError):
        pass

    for error in (Special("x"), KeyError("x"), OSError(2, "x"), RuntimeError("a", "b")):
        with pytest.raises(type(error)) as caught:
            nn.Sequential(Raises(error))(1)
        assert caught.value is error
        assert not str(error.args[0]).startswith("0 (")


def test_a_user_modules_own_error_is_named():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Raises(ValueError("bad input"))

        def forward(self, x):
            return self.inner(x)

    with pytest.raises(ValueError, match=r"^encoder\.inner \(Raises\): bad input$"):
        Wrapper(Block())(1)
