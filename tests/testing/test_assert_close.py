"""assert_close finds differences and says where; make_tensor draws what is asked for."""

import numpy as np
import pytest

import flambeau as torch
from flambeau.testing import assert_allclose, assert_close, make_tensor


def message(*args, **options):
    with pytest.raises(AssertionError) as caught:
        assert_close(*args, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    "dtype, rtol", [("float16", 1e-3), ("bfloat16", 1.6e-2), ("float32", 1.3e-6), ("float64", 1e-7)]
)
def test_the_tolerance_follows_the_dtype(dtype, rtol):
    one = torch.ones(3, dtype=torch.float64) * 1000
    kind = getattr(torch, dtype)
    assert_close((one * (1 + rtol / 4)).to(kind), one.to(kind))
    assert "not close" in message((one * (1 + 4 * rtol)).to(kind), one.to(kind))


def test_the_message_names_the_worst_elements():
    text = message(torch.tensor([[1.0, 2], [3, 4]]), torch.tensor([[1.0, 2.5], [3, 8]]))
    assert "Mismatched elements: 2 / 4 (50.0%)" in text
    assert "Greatest absolute difference: 4.0 at index (1, 1) (up to 1e-05 allowed)" in text
    assert "Greatest relative difference: 0.5 at index (1, 1)" in text


def test_integers_must_be_equal():
    assert "not equal" in message(torch.tensor([1, 2]), torch.tensor([1, 3]))


@pytest.mark.parametrize(
    "actual, expected, word",
    [
        (torch.ones(2), torch.ones(3), "shape"),
        (torch.ones(2), torch.ones(2, dtype=torch.float64), "dtype"),
        (torch.ones(2), torch.ones(2, device="meta"), "device"),
    ],
)
def test_attributes_are_compared(actual, expected, word):
    assert f"'{word}'" in message(actual, expected)


def test_attributes_can_be_left_out():
    assert_close(torch.ones(2), torch.ones(2, dtype=torch.float64), check_dtype=False)
    assert_close(torch.ones(2, 3), torch.ones(3, 2).t())
    assert "stride" in message(torch.ones(2, 3), torch.ones(3, 2).t(), check_stride=True)


def test_containers_name_the_place():
    text = message({"a": [torch.ones(1), torch.zeros(1)]}, {"a": [torch.ones(1), torch.ones(1)]})
    assert text.endswith("The failure occurred for item ['a'][1]")
    assert "Missing keys" in message({"a": 1}, {"b": 1})
    assert "length" in message([1], [1, 2])


def test_nan_is_equal_only_on_request():
    nan = torch.tensor([float("nan"), 1.0])
    assert "50.0%" in message(nan, nan)
    assert_close(nan, nan, equal_nan=True)


def test_infinities():
    inf = torch.tensor([float("inf")])
    assert_close(inf, inf)
    message(inf, torch.ones(1))
    message(torch.ones(1), inf)
    message(inf, -inf)


def test_numbers_and_arrays():
    assert_close(1.0, 1.0 + 1e-9)
    assert "Scalars are not equal" in message(1, 2)
    assert "types" in message(1, 1.0)
    assert_close(np.ones(2), np.ones(2))
    message(True, False)
    assert_close(None, None)


def test_what_cannot_be_compared_is_a_type_error():
    with pytest.raises(TypeError, match="No comparison pair"):
        assert_close("a", "a")
    with pytest.raises(TypeError):
        assert_close(torch.nn.Parameter(torch.ones(1)), torch.ones(1), allow_subclasses=False)


def test_one_tolerance_needs_the_other():
    with pytest.raises(ValueError, match="atol"):
        assert_close(1.0, 1.0, rtol=1e-3)


def test_the_message_can_be_replaced():
    assert message(1, 2, msg="mine") == "mine"
    assert message(1, 2, msg=lambda text: "Y: " + text).startswith("Y: Scalars")


def test_assert_allclose_warns():
    with pytest.warns(FutureWarning):
        assert_allclose(torch.ones(1), [1.0])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64", "uint8", "bool", "complex64"])
def test_make_tensor(dtype):
    kind = getattr(torch, dtype)
    x = make_tensor(3, 5, dtype=kind, device="cpu")
    assert x.dtype is kind and x.shape == (3, 5)
    assert not make_tensor((3, 5), dtype=kind, device="cpu", noncontiguous=True).is_contiguous()


def test_make_tensor_keeps_its_limits():
    x = make_tensor((1000,), dtype=torch.int64, device="cpu", low=-2, high=2, exclude_zero=True)
    assert set(x.tolist()) == {-2, -1, 1}
    with pytest.raises(ValueError):
        make_tensor((1,), dtype=torch.float32, device="cpu", low=2, high=1)
    with pytest.raises(ValueError):
        make_tensor((1,), dtype=torch.int64, device="cpu", requires_grad=True)
