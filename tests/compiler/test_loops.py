"""Fused loops against NumPy: kernels written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.compiler.interpreter import interpret
from tests.compiler.running import Compiled, Maker

RANDOM = np.random.default_rng(7)
THREADS = pytest.mark.parametrize("threads", [1, 2])


def floats(*shape: int, dtype: str = "f4") -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(dtype)


def agree(maker: Maker, *buffers: np.ndarray, threads: int = 1, tolerance: float = 2e-6) -> list[np.ndarray]:
    """Run the compiled kernel and the interpreter; all buffers must come out alike. Returns the compiled ones."""
    kernel = maker.kernel()
    expected = [b.ravel().copy() for b in buffers]
    interpret(kernel, expected)
    got = [b.ravel().copy() for b in buffers]
    Compiled(kernel, threads)(*got)
    for mine, reference in zip(got, expected):
        np.testing.assert_allclose(mine, reference, rtol=tolerance, atol=tolerance)
    return got


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 31, 32, 33, 100, 1_000_003])
@THREADS
def test_flat_loops_of_any_length(n: int, threads: int) -> None:
    m = Maker(n)
    m.store(m.add(m.load(), m.mul(m.load(), m.number(0.5))))
    x, y = floats(n), floats(n)
    (*_, out) = agree(m, x, y, np.zeros(n, "f4"), threads=threads)
    np.testing.assert_array_equal(out, x + y * np.float32(0.5))


def test_a_single_number_without_dimensions() -> None:
    m = Maker()
    m.store(m.div(m.number(1.0, "f8"), m.sqrt(m.load("f8"), dtype="f8"), dtype="f8"), "f8")
    agree(m, np.array([4.0]), np.zeros(1))


BROADCASTS: list[tuple[tuple[int, ...], list[list[int]]]] = [
    ((5, 37), [[0, 1], [1]]),
    ((5, 37), [[0, 1], [0]]),
    ((5, 37), [[0], [1]]),
    ((4, 3, 50), [[0, 1, 2], [1], [0, 2]]),
    ((2, 3, 5, 9), [[0, 1, 2, 3], [0, 1], [3], [1, 3]]),
    ((40, 3, 2, 9), [[0, 1, 2, 3], [2], [0]]),
    ((6, 1, 5), [[0, 1, 2], [2, 0]]),
    ((3, 20000), [[0, 1], [1], [0]]),
]


@pytest.mark.parametrize("shape, dims", BROADCASTS)
@THREADS
def test_broadcasting(shape: tuple[int, ...], dims: list[list[int]], threads: int) -> None:
    m = Maker(*shape)
    loaded = [m.load(dims=d) for d in dims]
    total = loaded[0]
    for other in loaded[1:]:
        total = m.add(total, other)
    m.store(total)
    agree(m, *(floats(*(shape[d] for d in sorted(one))) for one in dims), floats(*shape), threads=threads)


TRANSPOSES: list[tuple[tuple[int, ...], list[int]]] = [
    ((20, 30), [1, 0]),
    ((64, 64), [1, 0]),
    ((100, 257), [1, 0]),
    ((2, 3, 17, 19), [0, 2, 3, 1]),
    ((2, 16, 17, 19), [0, 2, 3, 1]),
    ((5, 6, 7, 8), [3, 1, 2, 0]),
    ((3, 33, 35), [0, 2, 1]),
]


@pytest.mark.parametrize("shape, order", TRANSPOSES)
@pytest.mark.parametrize("dtype, threads", [("f4", 1), ("f4", 2), ("f8", 1), ("i1", 1), ("?", 2)])
def test_transposing_copies(shape: tuple[int, ...], order: list[int], dtype: str, threads: int) -> None:
    m = Maker(*shape)
    m.store(m.load(dtype, dims=order), dtype)
    source = (
        RANDOM.integers(-99, 99, int(np.prod(shape))) > 0
        if dtype == "?"
        else RANDOM.integers(-99, 99, int(np.prod(shape)))
    ).astype(dtype)
    agree(m, source, np.zeros(shape, dtype), threads=threads)


@pytest.mark.parametrize("shape", [(33, 45), (4, 40, 50)])
def test_transposed_and_plain_operands_together(shape: tuple[int, ...]) -> None:
    m = Maker(*shape)
    order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
    x, y, bias = m.load(dims=order), m.load(), m.load(dims=[len(shape) - 1])
    m.store(m.add(m.mul(x, m.tanh(y)), bias))
    m.store(m.sub(x, y), dims=order)
    agree(m, floats(*shape), floats(*shape), floats(shape[-1]), floats(*shape), floats(*shape))


def test_slices_and_negative_strides() -> None:
    m = Maker(9, 11)
    x = m.load(strides=(40, 2), offset=3)
    flipped = m.load(strides=(-11, -1), offset=98)
    m.store(m.add(x, flipped), strides=(33, 3), offset=1)
    agree(m, floats(400), floats(99), floats(400))


@pytest.mark.parametrize("shape", [(3, 5), (4, 10), (5, 64), (7, 1000), (40, 128), (2, 5000), (1, 70000)])
@THREADS
def test_softmax_and_log_softmax_and_layer_norm(shape: tuple[int, int], threads: int) -> None:
    n = shape[1]
    m = Maker(*shape, inner=1)
    x = m.load()
    shifted = m.sub(x, m.reduce("max", x))
    e = m.exp(shifted)
    total = m.reduce("sum", e)
    m.store(m.div(e, total))
    m.store(m.sub(shifted, m.log(total)))
    agree(m, floats(*shape), floats(*shape), floats(*shape), threads=threads)

    m = Maker(*shape, inner=1)
    x, weight, bias = m.load(), m.load(dims=[1]), m.load(dims=[1])
    mean = m.mul(m.reduce("sum", x), m.number(1 / max(n, 1)))
    centred = m.sub(x, mean)
    variance = m.mul(m.reduce("sum", m.mul(centred, centred)), m.number(1 / max(n, 1)))
    scale = m.rsqrt(m.add(variance, m.number(1e-5)))
    m.store(m.add(m.mul(m.mul(centred, scale), weight), bias))
    m.store(mean, dims=[0])
    m.store(scale, dims=[0])
    agree(
        m,
        floats(*shape),
        floats(n),
        floats(n),
        floats(*shape),
        floats(shape[0]),
        floats(shape[0]),
        threads=threads,
        tolerance=5e-6,
    )


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (4, 16, 9, 9), (8, 64, 4, 4), (2, 70, 40, 40)])
@pytest.mark.parametrize("channels_last", [False, True])
@THREADS
def test_batch_norm(shape: tuple[int, ...], channels_last: bool, threads: int) -> None:
    n, c, h, w = shape
    m = Maker(c, n, h, w, inner=3)
    order = [1, 2, 3, 0] if channels_last else [1, 0, 2, 3]
    count = n * h * w
    x, weight, bias = m.load(dims=order), m.load(dims=[0]), m.load(dims=[0])
    mean = m.mul(m.reduce("sum", x), m.number(1 / count))
    centred = m.sub(x, mean)
    variance = m.mul(m.reduce("sum", m.mul(centred, centred)), m.number(1 / count))
    scale = m.rsqrt(m.add(variance, m.number(1e-5)))
    m.store(m.add(m.mul(m.mul(centred, scale), weight), bias), dims=order)
    running = m.load(dims=[0])
    m.store(m.add(m.mul(running, m.number(0.9)), m.mul(mean, m.number(0.1))), dims=[0], slot=m.slots - 1)
    m.store(scale, dims=[0])
    agree(
        m, floats(*shape), floats(c), floats(c), floats(*shape), floats(c), floats(c), threads=threads, tolerance=1e-5
    )


@pytest.mark.parametrize("rows, columns", [(1, 1), (3, 5), (100, 64), (1000, 33), (4099, 129), (70, 3000), (20000, 10)])
@THREADS
def test_several_sums_over_rows_at_once(rows: int, columns: int, threads: int) -> None:
    m = Maker(columns, rows, inner=1)
    x, grad = m.load(dims=[1, 0]), m.load(dims=[1, 0])
    m.store(m.reduce("sum", grad), dims=[0])
    m.store(m.mul(m.reduce("sum", m.mul(grad, x)), m.number(0.5)), dims=[0])
    m.store(m.reduce("max", x), dims=[0])
    size = rows * columns
    agree(
        m,
        floats(size),
        floats(size),
        floats(columns),
        floats(columns),
        floats(columns),
        threads=threads,
        tolerance=2e-5,
    )


def test_the_sum_of_nothing_is_zero() -> None:
    m = Maker(3, 0, inner=1)
    m.store(m.reduce("sum", m.load()), dims=[0])
    out = np.ones(3, "f4")
    Compiled(m.kernel())(np.zeros(0, "f4"), out)
    assert not out.any()


@pytest.mark.parametrize("n", [1, 7, 8, 9, 4097, 1_000_003])
@THREADS
def test_full_sums(n: int, threads: int) -> None:
    m = Maker(n, inner=1)
    x, y = m.load(), m.load()
    m.store(m.mul(m.reduce("sum", m.mul(x, y)), m.number(1 / max(1, n))), dims=[])
    m.store(m.reduce("sum", x), dims=[])
    agree(m, floats(n), floats(n), floats(1), floats(1), threads=threads, tolerance=1e-5)


def test_long_sums_are_as_exact_as_pairwise_ones() -> None:
    n = 3_000_000
    m = Maker(n, inner=1)
    m.store(m.reduce("sum", m.load()), dims=[])
    x = RANDOM.random(n).astype("f4")
    got = [x, np.zeros(1, "f4")]
    Compiled(m.kernel())(*got)
    exact = x.astype("f8").sum()
    assert abs(got[1][0] - exact) <= 1e-7 * exact
    m = Maker(40, n // 40, inner=1)
    m.store(m.reduce("sum", m.load(dims=[1, 0])), dims=[0])
    got = [x, np.zeros(40, "f4")]
    Compiled(m.kernel())(*got)
    np.testing.assert_allclose(got[1], x.reshape(-1, 40).astype("f8").sum(0), rtol=2e-7)


REDUCTIONS: list[tuple[str, str, Callable[[int], Any]]] = [
    ("max", "f4", floats),
    ("min", "f8", lambda n: floats(n).astype("f8")),
    ("prod", "f8", lambda n: 1 + 0.01 * floats(n).astype("f8")),
    ("sum", "i8", lambda n: RANDOM.integers(-(2**40), 2**40, n)),
    ("max", "i4", lambda n: RANDOM.integers(-(2**30), 2**30, n).astype("i4")),
    ("min", "u1", lambda n: RANDOM.integers(0, 255, n).astype("u1")),
    ("any", "?", lambda n: RANDOM.random(n) < 0.001),
    ("all", "?", lambda n: RANDOM.random(n) < 0.999),
]


@pytest.mark.parametrize("kind, dtype, draw", REDUCTIONS, ids=lambda v: v if isinstance(v, str) else "")
@pytest.mark.parametrize("dims", [[0, 1], [1, 0]])
def test_kinds_of_reductions(kind: str, dtype: str, draw: Callable[[int], Any], dims: list[int]) -> None:
    for shape in ((4, 9), (30, 260)):
        m = Maker(*shape, inner=1)
        m.store(m.reduce(kind, m.load(dtype, dims=dims), dtype), dtype, dims=[0])
        agree(m, draw(shape[0] * shape[1]), np.zeros(shape[0], dtype))
    m = Maker(1000, inner=1)
    m.store(m.reduce(kind, m.load(dtype), dtype), dtype, dims=[])
    agree(m, draw(1000), np.zeros(1, dtype))


@pytest.mark.parametrize("at", [0, 1, 17, 63, 98, 99])
def test_max_finds_nan_wherever_it_is(at: int) -> None:
    x = floats(100)
    x[at] = np.nan
    for kind in ("max", "min"):
        m = Maker(100, inner=1)
        m.store(m.reduce(kind, m.load()), dims=[])
        got = [x, np.zeros(1, "f4")]
        Compiled(m.kernel())(*got)
        assert np.isnan(got[1][0])


def test_counting_with_bools_and_casts() -> None:
    m = Maker(50, 70, inner=1)
    x = m.load()
    positive = m.gt(x, m.number(0.0), dtype="?")
    m.store(m.reduce("sum", m.cast(positive, "i8"), "i8"), "i8", dims=[0])
    m.store(positive, "?")
    m.store(m.cast(x, "f8"), "f8")
    agree(m, floats(50, 70), np.zeros(50, "i8"), np.zeros(3500, "?"), np.zeros(3500))


def test_positions_and_gathers() -> None:
    m = Maker(6, 21)
    label = m.load("i8", dims=[0])
    one_hot = m.eq(m.position(1), label, dtype="?")
    m.store(m.cast(one_hot, "f4"))
    agree(m, RANDOM.integers(0, 21, 6), floats(6, 21))

    m = Maker(30, 17)  # an embedding
    m.store(m.gather(m.load("i8", dims=[0]), 17, strides=(0, 1)))
    agree(m, RANDOM.integers(0, 9, 30), floats(9, 17), floats(30, 17))

    m = Maker(30, 17)  # take_along_dim
    m.store(m.gather(m.load("i8"), 1, strides=(17, 0)))
    agree(m, RANDOM.integers(0, 17, (30, 17)), floats(30, 17), floats(30, 17))

    m = Maker(30, 10, inner=1)  # the loss of log-probabilities at a label
    picked = m.gather(m.load("i8", dims=[0]), 1, strides=(10, 0))
    m.store(
        m.reduce("sum", m.where(m.eq(m.position(1), m.number(0, "i8"), dtype="?"), picked, m.number(0.0))), dims=[0]
    )
    agree(m, RANDOM.integers(0, 10, 30), floats(30, 10), floats(30))


def test_in_place_rows_are_read_before_they_are_written() -> None:
    m = Maker(9, 100, inner=1)
    x = m.load()
    m.store(m.sub(x, m.reduce("sum", x)), slot=0)
    m.store(m.mul(x, m.number(2.0)))
    agree(m, floats(9, 100), floats(9, 100))


def test_mixed_types_and_double() -> None:
    m = Maker(1003)
    x, y, k = m.load(), m.load("f8"), m.load("i4")
    total = m.add(m.mul(m.cast(x, "f8"), y, dtype="f8"), m.cast(k, "f8"), dtype="f8")
    m.store(total, "f8")
    m.store(m.cast(total, "f4"))
    agree(
        m,
        floats(1003),
        floats(1003, dtype="f8"),
        RANDOM.integers(-9, 9, 1003).astype("i4"),
        np.zeros(1003),
        floats(1003),
    )
