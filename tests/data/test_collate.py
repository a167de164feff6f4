"""How samples become batches."""

from collections import OrderedDict, UserDict, namedtuple

import numpy as np
import pytest

import flambeau as torch
from flambeau.data.collate import collate, default_collate_fn_map
from flambeau.utils.data import DataLoader, default_collate, default_convert

Point = namedtuple("Point", "x y")


@pytest.mark.parametrize("batch, dtype", [
    ([1, 2], "int64"), ([1.5, 2.0], "float64"), ([True, False], "bool"),
    ([np.float32(1), np.float32(2)], "float32"), ([np.int16(1), np.int16(2)], "int16"), ([np.bool_(1)], "bool"),
    ([torch.tensor(1.0), torch.tensor(2.0)], "float32"), ([np.array(3), np.array(4)], "int64"),
])
def test_numbers_become_a_vector(batch, dtype):
    made = default_collate(batch)
    assert made.shape == (len(batch),) and made.dtype is getattr(torch, dtype)
    assert made.tolist() == [x.item() if hasattr(x, "item") else x for x in batch]


@pytest.mark.parametrize("shape", [(), (3,), (0,), (2, 0, 3), (2, 3)])
def test_tensors_are_stacked(shape):
    batch = [torch.full(shape, float(i)) for i in range(3)]
    made = default_collate(batch)
    assert made.shape == (3, *shape)
    assert made.tolist() == [t.tolist() for t in batch]


def test_containers_keep_their_form():
    sample = {"point": Point(1, 2.0), "pair": (1, "a"), "list": [1, b"b"], "dict": OrderedDict(z=1),
              "own": UserDict(a=1)}
    made = default_collate([sample, sample])
    assert made["point"].x.tolist() == [1, 1] and type(made["point"]) is Point
    assert type(made["pair"]) is list and made["pair"][1] == ("a", "a")
    assert made["list"][0].tolist() == [1, 1] and made["list"][1] == (b"b", b"b")
    assert type(made["dict"]) is OrderedDict and type(made["own"]) is UserDict


def test_gradients_flow_through_a_batch():
    leaves = [torch.ones(2, requires_grad=True) for _ in range(2)]
    made = default_collate(leaves)
    assert made.requires_grad
    (made * 3).sum().backward()
    assert leaves[1].grad.tolist() == [3.0, 3.0]


def test_mixed_dtypes_are_promoted():
    assert default_collate([torch.ones(2), torch.ones(2, dtype=torch.int64)]).dtype is torch.float32


@pytest.mark.parametrize("batch, error, message", [
    ([object(), object()], TypeError, "found <class 'object'>"),
    ([None, None], TypeError, "found <class 'NoneType'>"),
    ([np.array(["a"])], TypeError, "found <U1"),
    ([torch.ones(2), torch.ones(3)], RuntimeError, r"got \[2\] at entry 0 and \[3\] at entry 1"),
    ([[1], [1, 2]], RuntimeError, "equal size, got 1 and 2"),
    ([{"a": 1}, {"b": 1}], KeyError, "a"),
])
def test_errors(batch, error, message):
    with pytest.raises(error, match=message):
        default_collate(batch)


def test_images_ask_for_a_transform():
    image = pytest.importorskip("PIL.Image").new("L", (4, 4))
    loader = DataLoader([(image, 1)] * 3, 2)
    with pytest.raises(TypeError, match=r"ToTensor\(\)"):
        next(iter(loader))


def test_own_table():
    class Word:
        pass

    table = {**default_collate_fn_map, Word: lambda batch, *, collate_fn_map: len(batch)}
    assert collate([(Word(), 1), (Word(), 2)], collate_fn_map=table)[0] == 2


def test_convert():
    made = default_convert({"a": np.ones(2), "t": (np.float32(1), "s"), "n": 3, "p": Point(np.zeros(1), 0)})
    assert made["a"].tolist() == [1.0, 1.0] and type(made["t"]) is list and made["t"][1] == "s" and made["n"] == 3
    assert isinstance(made["p"].x, torch.Tensor)
    text = np.array(["x"])
    assert default_convert(text) is text
