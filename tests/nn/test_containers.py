"""Sequential, ModuleList, ModuleDict, ParameterList, ParameterDict."""

from __future__ import annotations

from collections import OrderedDict

import pytest

import flambeau as torch
from flambeau import nn


def names(module):
    return [(name, type(child).__name__) for name, child in module.named_children()]


def test_sequential_from_ordered_dict_last_name_wins():
    net = nn.Sequential(OrderedDict([("a", nn.ReLU()), ("b", nn.Tanh())]))
    assert names(net) == [("a", "ReLU"), ("b", "Tanh")]
    assert net.a(torch.tensor([-1.0])).item() == 0
    repeated = OrderedDict([("a", nn.ReLU()), ("a", nn.Tanh())])
    assert names(nn.Sequential(repeated)) == [("a", "Tanh")]


def test_sequential_slices_keep_names_and_modules():
    net = nn.Sequential(nn.ReLU(), nn.Tanh(), nn.Sigmoid())
    part = net[1:]
    assert type(part) is nn.Sequential and names(part) == [("1", "Tanh"), ("2", "Sigmoid")]
    assert net[-1] is part[1] and len(net) == 3
    with pytest.raises(IndexError, match="index 3 is out of range"):
        net[3]


def test_sequential_changes():
    net = nn.Sequential(nn.ReLU())
    assert net.append(nn.Tanh()) is net
    net.insert(1, nn.Sigmoid())
    net.extend([nn.ELU()])
    assert [name for _, name in names(net)] == ["ReLU", "Sigmoid", "Tanh", "ELU"]
    net[0] = nn.GELU()
    del net[1]
    assert names(net) == [("0", "GELU"), ("1", "Tanh"), ("2", "ELU")]
    assert type(net.pop(1)) is nn.Tanh
    assert names(net) == [("0", "GELU"), ("1", "ELU")]
    with pytest.raises(AssertionError, match="module should be of type"):
        net.insert(0, 3)


def test_sequential_arithmetic():
    net = nn.Sequential(nn.ReLU()) + nn.Sequential(nn.Tanh())
    assert names(net) == [("0", "ReLU"), ("1", "Tanh")]
    assert len(net * 2) == 4 and (2 * net)[2] is net[0]
    net *= 2
    net += nn.Sequential(nn.ELU())
    assert len(net) == 5
    with pytest.raises(ValueError, match="Non-positive multiplication factor"):
        net * 0
    with pytest.raises(ValueError, match="supports only objects of Sequential"):
        net + [1]


def test_module_list():
    layers = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])
    layers.append(nn.ReLU())
    layers += [nn.ReLU()]
    layers.insert(0, nn.Tanh())
    assert len(layers) == 5 and type(layers[-1]) is nn.ReLU
    assert type(layers[1:3]) is nn.ModuleList and layers[1:3][0] is layers[1]
    del layers[0]
    assert [name for name, _ in layers.named_children()] == ["0", "1", "2", "3"]
    assert len(layers + [nn.Tanh()]) == 5
    assert type(layers.pop(-1)) is nn.ReLU
    with pytest.raises(IndexError):
        layers[7]
    with pytest.raises(TypeError, match="should be called with an iterable"):
        layers.extend(3)
    with pytest.raises(NotImplementedError):
        layers(1)


def test_module_list_prints_runs_once():
    assert repr(nn.ModuleList([nn.Tanh(), nn.ReLU(), nn.ReLU()])) == (
        "ModuleList(\n  (0): Tanh()\n  (1-2): 2 x ReLU()\n)")
    assert repr(nn.ModuleList()) == "ModuleList()"


def test_module_dict():
    layers = nn.ModuleDict({"a": nn.ReLU()})
    layers["b"] = nn.Tanh()
    layers.update([("c", nn.ELU()), ("a", nn.GELU())])
    assert list(layers) == ["a", "b", "c"] == list(layers.keys()) and "b" in layers and len(layers) == 3
    assert type(layers["a"]) is nn.GELU
    assert type(layers.pop("b")) is nn.Tanh
    assert [type(module).__name__ for module in layers.values()] == ["GELU", "ELU"]
    layers.clear()
    assert len(layers) == 0
    with pytest.raises(ValueError, match="has length 1; 2 is required"):
        layers.update([["x"]])
    with pytest.raises(KeyError):
        layers["x"]


def test_parameter_list():
    values = nn.ParameterList([torch.ones(2, 3), nn.Parameter(torch.zeros(1))])
    values.append("text")
    values += [torch.ones(1)]
    assert len(values) == 4 and isinstance(values[0], nn.Parameter) and values[2] == "text"
    assert [name for name, _ in values.named_parameters()] == ["0", "1", "3"]
    assert len(values[:2]) == 2 and values[-1].tolist() == [1.0]
    values[1] = torch.ones(5)
    assert values[1].shape == (5,)
    assert "(0): Parameter containing: [" in repr(values) and "of size 2x3]" in repr(values)
    assert "(2): Object of type: str" in repr(values)
    with pytest.raises(RuntimeError, match="ParameterList should not be called"):
        values(1)


def test_parameter_dict():
    values = nn.ParameterDict({"b": torch.ones(1), "a": torch.zeros(2)})
    assert list(values) == ["a", "b"]                                   # plain dictionaries are sorted, as in PyTorch
    values["c"] = torch.ones(3)
    assert [name for name, _ in values.named_parameters()] == ["a", "b", "c"]
    assert values.get("x", 5) == 5 and values.setdefault("d", torch.ones(1)) is values["d"]
    assert values.popitem()[0] == "d" and values.pop("c").shape == (3,)
    assert list(values | nn.ParameterDict({"z": torch.ones(1)})) == ["a", "b", "z"]
    assert list(reversed(values)) == ["b", "a"] and list(values.copy()) == ["a", "b"]
    with pytest.raises(TypeError, match="not a string"):
        values[3] = torch.ones(1)
    with pytest.raises(KeyError):
        values["nothing"]
