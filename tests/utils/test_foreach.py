"""torch._foreach_*: one operation over lists of tensors."""

import pytest

import flambeau as torch


def lists():
    return [torch.ones(2) * 2, torch.ones(3) * 5], [torch.ones(2), torch.ones(3) * 4]


def values(tensors):
    return [t.tolist() if t.ndim == 0 else t[0].item() for t in tensors]


@pytest.mark.parametrize(
    ("name", "arguments", "keywords", "expected"),
    [
        ("add", (1,), {}, [3, 6]),
        ("add", ([1, 2],), {"alpha": 1}, [3, 7]),
        ("sub", ("b",), {"alpha": 2}, [0, -3]),
        ("mul", (), {"scalar": 3}, [6, 15]),
        ("div", ("b",), {}, [2, 1.25]),
        ("pow", (2,), {}, [4, 25]),
        ("maximum", (3,), {}, [3, 5]),
        ("minimum", ("b",), {}, [1, 4]),
        ("clamp_min", ([1.0, 9.0],), {}, [2, 9]),
        ("lerp", ("b",), {"weight": 0.5}, [1.5, 4.5]),
        ("addcmul", ("b", "b"), {"value": 2}, [4, 37]),
        ("addcdiv", ("b", "b", [2.0, 3.0]), {}, [4, 8]),
        ("reciprocal", (), {}, [0.5, 0.2]),
    ],
)
def test_values_in_place_and_not(name, arguments, keywords, expected):
    a, b = lists()
    arguments = [b if argument == "b" else argument for argument in arguments]
    assert values(getattr(torch, f"_foreach_{name}")(a, *arguments, **keywords)) == pytest.approx(expected)
    assert values(a) == [2, 5]
    assert getattr(torch, f"_foreach_{name}_")(a, *arguments, **keywords) is a
    assert values(a) == pytest.approx(expected)


def test_the_others():
    a, b = lists()
    assert values(torch._foreach_norm(a)) == pytest.approx([8**0.5, 75**0.5])
    assert values(torch._foreach_norm(a, 1)) == [4, 15] and values(torch._foreach_max(a)) == [2, 5]
    assert values(torch._foreach_pow(2.0, b)) == [2, 16]
    torch._foreach_copy_(a, b)
    assert values(a) == [1, 4]
    torch._foreach_zero_(a)
    assert values(a) == [0, 0]


def test_errors():
    a, b = lists()
    with pytest.raises(RuntimeError, match="same number of tensors, got 2 and 1"):
        torch._foreach_add(a, b[:1])
    with pytest.raises(RuntimeError, match="at least one"):
        torch._foreach_add([], 1)
    with pytest.raises(AttributeError, match="_foreach_fly"):
        getattr(torch, "_foreach_fly")  # noqa: B009
