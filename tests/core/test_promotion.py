"""Types of results against PyTorch's (tests/golden/promotion.json, made by make_promotion.py beside it)."""

import importlib.util
import json
from pathlib import Path

import pytest

import flambeau as torch

GOLDEN = Path(__file__).parents[1] / "golden"
spec = importlib.util.spec_from_file_location("make_promotion", GOLDEN / "make_promotion.py")
recorded = importlib.util.module_from_spec(spec)
spec.loader.exec_module(recorded)
TABLE = {op: {a: row.split() for a, row in rows.items()} for op, rows in
         json.loads((GOLDEN / "promotion.json").read_text()).items()}  # fmt: skip
OPERANDS, DTYPES, NUMBERS = recorded.OPERANDS, recorded.DTYPES, recorded.NUMBERS


def outcome(call):
    try:
        found = call()
    except RuntimeError as error:
        return type(error).__name__
    return recorded.name_of(found.dtype if isinstance(found, torch.Tensor) else found)


def differences(op, call):
    """What differs from the recording, as readable lines."""
    wrong = []
    half = {"float16", "float16 0-d"}
    for a, row in TABLE[op].items():
        for b, expected in zip(OPERANDS, row, strict=True):
            if expected == "complex32" or (expected.endswith("Error") and half & {a, b}):
                continue  # complex numbers of two halves do not exist here: complex64 takes their place
            if (op, a[:4], b) == ("pow", "bool", "True"):
                continue  # PyTorch copies for the number 1; ours refuses bools altogether
            found = outcome(lambda: call(recorded.operand(torch, a), recorded.operand(torch, b)))  # noqa: B023
            if found != expected:
                wrong.append(f"{op}({a}, {b}): {found}, PyTorch {expected}")
    return wrong


def test_result_type():
    assert not differences("result_type", torch.result_type)


@pytest.mark.parametrize("op", ["add", "div", "eq", "pow"])
def test_binary_ops(op):
    assert not differences(op, getattr(torch, op))


def test_where():
    condition = torch.tensor([True, False])
    assert not differences("where", lambda a, b: torch.where(condition, a, b))


def test_promote_types_and_can_cast():
    for a in DTYPES:
        for b, expected in zip(DTYPES, TABLE["promote_types"][a], strict=True):
            assert recorded.name_of(torch.promote_types(getattr(torch, a), getattr(torch, b))) == expected, (a, b)
        allowed = [b for b in DTYPES if torch.can_cast(getattr(torch, a), getattr(torch, b))]
        assert allowed == TABLE["can_cast"][a], a


@pytest.mark.parametrize("default", ["float64", "float32"])
def test_the_default_dtype_is_what_integers_become(default):
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, default))
    try:
        wanted = getattr(torch, default)
        assert torch.get_default_dtype() is wanted
        assert torch.tensor(1.5).dtype is wanted
        assert torch.ones(2).dtype is wanted
        assert (torch.ones(2, dtype=torch.int64) / 2).dtype is wanted
        assert (torch.ones(2, dtype=torch.int64) * 1.5).dtype is wanted
        assert torch.ones(2, dtype=torch.int64).exp().dtype is wanted
        assert torch.tensor(1j).dtype is (torch.complex128 if default == "float64" else torch.complex64)
    finally:
        torch.set_default_dtype(before)


def test_default_dtype_must_be_floating():
    with pytest.raises(TypeError, match="only floating-point types are supported as the default type"):
        torch.set_default_dtype(torch.int64)


@pytest.mark.parametrize("dtype, start, step, wrapped", [
    ("uint8", 250, 10, 4), ("int8", 120, 10, -126), ("int16", 32760, 10, -32766), ("int32", 2**31 - 1, 1, -(2**31)),
    ("int64", 2**63 - 1, 1, -(2**63)), ("uint8", 3, -5, 254),
])  # fmt: skip
def test_integers_wrap_around(dtype, start, step, wrapped):
    x = torch.tensor([start], dtype=getattr(torch, dtype))
    assert (x + step).item() == wrapped
    assert (x + step).dtype is x.dtype
    x += step
    assert x.item() == wrapped


def test_division():
    a, b = torch.tensor([7, -7]), torch.tensor([2, 2])
    assert (a / b).tolist() == [3.5, -3.5]
    assert (a // b).tolist() == [3, -4] and (a % b).tolist() == [1, 1]
    assert torch.fmod(a, b).tolist() == [1, -1]
    assert torch.div(a, b, rounding_mode="trunc").tolist() == [3, -3]
    assert torch.div(a, b, rounding_mode="floor").tolist() == [3, -4]
    assert (torch.tensor([1.0, -1.0, 0.0]) / 0).tolist()[:2] == [float("inf"), -float("inf")]
    assert torch.isnan(torch.tensor(0.0) / 0)
    assert (torch.tensor([1, -1]) / 0).tolist() == [float("inf"), -float("inf")]


@pytest.mark.parametrize("divide", [
    lambda x: x // 0, lambda x: x % 0, lambda x: torch.div(x, 0, rounding_mode="trunc"), lambda x: torch.fmod(x, 0),
])  # fmt: skip
def test_integer_division_by_zero(divide):
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        divide(torch.tensor([1, 2]))


def test_finfo_and_iinfo():
    f = torch.finfo(torch.float32)
    assert (f.bits, f.eps, f.max, f.min, f.tiny) == (32, 2.0**-23, 3.4028234663852886e38, -3.4028234663852886e38,
                                                     1.1754943508222875e-38)  # fmt: skip
    assert torch.finfo(torch.float16).max == 65504.0 and torch.finfo(torch.bfloat16).eps == 0.0078125
    assert torch.finfo().dtype == "float32" and torch.finfo(torch.float64).resolution == 1e-15
    assert torch.finfo(torch.float32).smallest_normal == torch.finfo(torch.float32).tiny
    i = torch.iinfo(torch.int16)
    assert (i.bits, i.min, i.max, i.dtype) == (16, -32768, 32767, "int16")
    assert torch.iinfo(torch.uint8).max == 255
    with pytest.raises(TypeError):
        torch.finfo(torch.int32)
    with pytest.raises(TypeError):
        torch.iinfo(torch.float32)


def test_properties_of_types():
    assert torch.float32.is_floating_point and torch.bfloat16.is_floating_point and not torch.int8.is_floating_point
    assert torch.complex64.is_complex and not torch.float64.is_complex
    assert torch.int8.is_signed and not torch.uint8.is_signed and not torch.bool.is_signed
    assert (torch.float16.itemsize, torch.complex128.itemsize, torch.bool.itemsize) == (2, 16, 1)
    assert torch.float is torch.float32 and torch.long is torch.int64 and torch.half is torch.float16
    assert repr(torch.float32) == "torch.float32" and str(torch.bool) == "torch.bool"
    assert torch.complex64.to_real() is torch.float32 and torch.float64.to_complex() is torch.complex128
