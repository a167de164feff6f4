"""Functions kept in modules (`self.activation = F.gelu`) are pickled with them, as checkpoints of whole models need."""

import pickle

import pytest

import flambeau as torch
from flambeau.nn import functional as F


@pytest.mark.parametrize("function", [torch.tanh, torch.sigmoid, torch.relu, torch.sum, torch.cat, torch.add, F.gelu,
                                      F.relu, F.silu, F.tanh, F.softplus, F.cross_entropy, torch.Tensor.sum],
                         ids=lambda function: f"{function.__module__}.{function.__qualname__}")
def test_functions_come_back_as_themselves(function):
    assert pickle.loads(pickle.dumps(function)) is function


def test_a_whole_transformer_layer_comes_back(tmp_path):
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, activation="gelu").eval()
    torch.save(layer, tmp_path / "layer.pt")
    x = torch.randn(3, 1, 8)
    assert torch.load(tmp_path / "layer.pt", weights_only=False)(x).equal(layer(x))
