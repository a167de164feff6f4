"""Arithmetic of Scalars against NumPy's, for every dtype, alone and in vectors."""

import ml_dtypes
import numpy as np
import pytest

from flambeau.backends.llvm.scalars import Scalar
from tests.backends.llvm.native import loop_of, ulps

INTEGERS = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]
FLOATS = ["f2", "f4", "f8"]
BINARY = {
    "+": lambda m, x, y: x + y, "-": lambda m, x, y: x - y, "*": lambda m, x, y: x * y, "//": lambda m, x, y: x // y,
    "%": lambda m, x, y: x % y, "<": lambda m, x, y: x < y, "<=": lambda m, x, y: x <= y, ">": lambda m, x, y: x > y,
    ">=": lambda m, x, y: x >= y, "==": lambda m, x, y: x == y, "!=": lambda m, x, y: x != y,
    "maximum": lambda m, x, y: m.maximum(x, y), "minimum": lambda m, x, y: m.minimum(x, y),
    "fmax": lambda m, x, y: m.fmax(x, y), "fmin": lambda m, x, y: m.fmin(x, y), "fmod": lambda m, x, y: m.fmod(x, y),
}  # fmt: skip
UNARY = {
    "neg": lambda m, x: -x, "abs": lambda m, x: abs(x), "floor": lambda m, x: m.floor(x),
    "ceil": lambda m, x: m.ceil(x),
    "trunc": lambda m, x: m.trunc(x), "rint": lambda m, x: m.rint(x), "isnan": lambda m, x: m.isnan(x),
    "isinf": lambda m, x: m.isinf(x), "isfinite": lambda m, x: m.isfinite(x), "times 3": lambda m, x: x * 3,
    "7 minus": lambda m, x: 7 - x, "relu": lambda m, x: m.maximum(x, 0),
    "clip": lambda m, x: m.minimum(m.maximum(1, x), 5),
}  # fmt: skip
BITS = {
    "&": lambda m, x, y: x & y, "|": lambda m, x, y: x | y, "^": lambda m, x, y: x ^ y, "~": lambda m, x, y: ~x,
    "<<": lambda m, x, y: x << y, ">>": lambda m, x, y: x >> y, "cube": lambda m, x, y: x**3,
}  # fmt: skip


class NumPy:
    """The functions of Maths, by NumPy."""

    def __getattr__(self, name):
        return getattr(np, name)


def operands(dtype):
    rng = np.random.default_rng(0)
    x, y = (rng.normal(0, 20, 64).astype(dtype) for _ in range(2))
    if np.dtype(dtype).kind == "f":
        x[:4] = [0, -0.0, np.nan, np.inf]
        y[2:9] = [0, 1, -0.0, np.inf, -np.inf, np.nan, 3]
    else:
        x[0], y[0] = np.iinfo(dtype).min, -1 if np.dtype(dtype).kind == "i" else 1
        y[1] = 0
        y[2] = 100
    return x, y


def compare(rules, *arrays):
    """Each rule in one loop of scalars and one of vectors, against NumPy."""
    with np.errstate(all="ignore"):
        expected = [rule(NumPy(), *arrays) for rule in rules]
    for lanes in (1, 8):
        run = loop_of(
            lambda m, *xs: tuple(rule(m, *xs) for rule in rules), [a.dtype for a in arrays], lanes, len(rules)
        )
        for number, (found, wanted) in enumerate(zip(run(*arrays), expected)):
            assert found.dtype == wanted.dtype
            np.testing.assert_array_equal(found, wanted, err_msg=f"rule {number}, {lanes} lanes")


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
def test_binary(dtype):
    compare(list(BINARY.values()), *operands(dtype))


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
def test_unary(dtype):
    rules = dict(UNARY)
    if dtype in INTEGERS:
        del rules["rint"]  # NumPy's makes floats
    compare(list(rules.values()), operands(dtype)[0])


@pytest.mark.parametrize("dtype", INTEGERS)
def test_bits(dtype):
    compare(list(BITS.values()), *operands(dtype))


@pytest.mark.parametrize("dtype", ["i1", "i4", "u2", "i8"])
def test_powers(dtype):
    x, y = operands(dtype)
    compare([lambda m, a, b: a**b], x, np.abs(np.where(y == y.min(), 3, y)).astype(dtype))


@pytest.mark.parametrize("source", [*FLOATS, *INTEGERS, "?"])
def test_casts(source):
    x = np.random.default_rng(0).normal(0, 30, 64).astype(source)
    x[:4] = 0, 1, 2, 100
    targets = [*FLOATS, *INTEGERS, "?"]
    run = loop_of(lambda m, a: tuple(m.cast(a, t) for t in targets), [source], 8, len(targets))
    positive = run(np.abs(x)) if source[0] in "fi" else run(x)
    for found, target in zip(positive, targets):
        np.testing.assert_array_equal(found, (np.abs(x) if source[0] in "fi" else x).astype(target))
    if source[0] in "fi":
        for found, target in zip(run(x), targets):
            if target[0] != "u":  # what becomes of negative numbers is the processor's choice, in NumPy too
                np.testing.assert_array_equal(found, x.astype(target))


def test_float64_to_float16_rounds_once():
    ulp = 2.0**-11
    x = np.array([1 + ulp, 1 + ulp + 1e-12, 1 + ulp - 1e-12, 1 + 3 * ulp, 65519.999, 65520, 1e-30, np.inf])
    found = loop_of(lambda m, a: m.cast(a, "f2"), ["f8"], 8)(x)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(found, x.astype(np.float16))


def test_bfloat16():
    x = np.concatenate([np.random.default_rng(0).normal(0, 20, 60), [np.nan, np.inf, -0.0, 3.4e38]]).astype(np.float32)
    narrow = loop_of(lambda m, a: m.cast(a, ml_dtypes.bfloat16), ["f4"], 8)(x)
    np.testing.assert_array_equal(narrow.astype(np.float32), x.astype(ml_dtypes.bfloat16).astype(np.float32))
    total = loop_of(lambda m, a, b: a + b * 2, [narrow.dtype] * 2, 8)(narrow, narrow[::-1])
    expected = narrow + narrow[::-1] * ml_dtypes.bfloat16(2)
    np.testing.assert_array_equal(total.astype(np.float32), expected.astype(np.float32))


def test_bools():
    x, y = np.array([0, 0, 1, 1] * 4, bool), np.array([0, 1, 0, 1] * 4, bool)
    names = ["+", "*", "<", "==", "maximum", "minimum"]
    compare([*(BINARY[name] for name in names), *(BITS[name] for name in "&|^~")], x, y)
    scaled = loop_of(lambda m, a, b: m.cast(a, "f4") * 2.5 * b, ["?", "?"], 8)(x, y)
    np.testing.assert_array_equal(scaled, (x & y) * np.float32(2.5))


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 4, 0.5, -0.5, -1, -2, 2.5])
def test_constant_powers(exponent):
    x = np.abs(operands("f4")[0])
    with np.errstate(all="ignore"):
        expected = x.astype(np.float64) ** exponent
        found = loop_of(lambda m, a: a**exponent, ["f4"], 8)(x)
    assert ulps(found, expected).max() < 1.6


def test_where_and_lanes():
    x = np.arange(-8, 8, dtype=np.float32)
    run = loop_of(lambda m, a: m.where(a > 0, a, m.constant(2, "f4")) + m.constant(0.5, "f4"), ["f4"], 8)
    np.testing.assert_array_equal(run(x), np.where(x > 0, x, 2) + np.float32(0.5))


def test_constants_are_known():
    seen = []

    def rule(m, x):
        seen.extend([m.known(m.number(2.5, x)), m.known(m.constant(-3, "i4", 8)), m.known(m.constant(True, bool)),
                     m.known(m.broadcast(m.constant(2, "f4"), 8)), m.known(x)])  # fmt: skip
        return x

    loop_of(rule, ["f4"], 8)
    assert seen == [2.5, -3, 1, 2.0, None]


@pytest.mark.parametrize("rule, dtype, message", [
    (lambda m, x: x if x > 0 else -x, "f4", "no truth value"),
    (lambda m, x: x + 2.5, "i4", "no number of type int32"),
    (lambda m, x: x / 2, "i4", "no such operation on int32"),
    (lambda m, x: m.exp(x), "i4", "cast it to a floating dtype"),
    (lambda m, x: x + m.cast(x, "f8"), "f4", "float32, float64"),
    (lambda m, x: -x, "?", "use ~"),
    (lambda m, x: m.where(x > 0, 1.0, 0.0), "f4", "no Scalar among"),
])  # fmt: skip
def test_mistakes_are_named(rule, dtype, message):
    with pytest.raises(TypeError, match=message):
        loop_of(rule, [dtype], 8)


def test_a_scalar_says_what_it_is():
    shown = []

    def rule(m, x):
        shown.append(repr(x))
        assert isinstance(x, Scalar)
        return x

    loop_of(rule, ["f4"], 8)
    assert shown == ["Scalar(float32, lanes=8)"]
