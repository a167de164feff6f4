"""Fused loops against the interpreter: kernels drawn at random."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compiler.interpreter import interpret
from tests.compiler.running import Compiled, Maker

SIZES = st.sampled_from([1, 1, 2, 3, 4, 7, 8, 9, 16, 17, 33, 40])


@st.composite
def kernels(draw: Any) -> tuple[Maker, int]:
    """A kernel of up to four dimensions, and how many of its buffers hold something before."""
    shape = draw(st.lists(SIZES, min_size=0, max_size=4))
    while np.prod(shape) > 20_000:
        shape.pop(draw(st.integers(0, len(shape) - 1)))
    inner = draw(st.integers(0, len(shape)))
    m = Maker(*shape, inner=inner)
    dims = list(range(len(shape)))
    kept = dims[: len(dims) - inner]
    full: list[int] = []
    for _ in range(draw(st.integers(1, 3))):
        order = draw(st.permutations(dims))
        some = order[: draw(st.integers(0, len(order)))] if draw(st.booleans()) else order
        dtype = draw(st.sampled_from(["f4", "f4", "f4", "f8", "i4", "?"]))
        value = m.load(dtype, dims=some)
        full.append(value if dtype == "f4" else m.cast(value, "f4"))
    loads = m.slots
    if dims and draw(st.booleans()):
        full.append(m.cast(m.position(draw(st.sampled_from(dims))), "f4"))
    row: list[int] = []
    for _ in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from(["add", "mul", "sub", "maximum", "tanh", "number", "where", "reduce", "reduce"]))
        pick = st.sampled_from(full)
        if kind == "reduce" and inner:
            reduced = m.reduce(draw(st.sampled_from(["sum", "max", "min"])), draw(pick))
            scaled = m.mul(reduced, m.number(0.125))
            row.append(scaled)
            full.append(scaled)
        elif kind == "number":
            full.append(m.number(draw(st.sampled_from([0.5, -2.0, 0.0]))))
        elif kind == "tanh":
            full.append(m.tanh(draw(pick)))
        elif kind == "where":
            x, y = draw(pick), draw(pick)
            full.append(m.where(m.gt(x, y, dtype="?"), y, m.mul(x, m.number(0.25))))
        elif kind != "reduce":
            full.append(m.apply(kind, draw(pick), draw(pick)))
    for value in draw(st.lists(st.sampled_from(full[-3:]), min_size=1, max_size=2)):
        m.store(value, dims=draw(st.permutations(dims)))
    for value in row[-2:]:
        m.store(value, dims=draw(st.permutations(kept)))
    return m, loads


@settings(max_examples=120, deadline=None, derandomize=True)
@given(kernels(), st.sampled_from([1, 2]), st.sampled_from([False, True]))
def test_random_kernels(made: tuple[Maker, int], threads: int, divided: bool) -> None:
    m, _ = made
    kernel = m.kernel()
    random = np.random.default_rng(len(m.body))
    size = int(np.prod(m.shape))
    buffers = []
    for slot in range(kernel.slots):
        (dtype,) = {i.dtype for i in kernel.body if getattr(i, "slot", None) == slot}
        values = random.standard_normal(size) if dtype.kind == "f" else random.integers(-3, 4, size)
        buffers.append(values.astype(dtype))
    expected = [b.copy() for b in buffers]
    interpret(kernel, expected)
    Compiled(kernel, threads, divided=divided)(*buffers)
    for got, reference in zip(buffers, expected):
        scale = 1 + np.abs(reference).max(initial=0) if reference.dtype.kind == "f" else 1
        np.testing.assert_allclose(got / scale, reference / scale, rtol=0, atol=2e-5)
