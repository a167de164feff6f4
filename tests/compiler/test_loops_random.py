"""Fused loops against the interpreter: kernels drawn at random."""

from __future__ import annotations

from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compiler.interpreter import interpret
from tests.compiler.running import Compiled, Maker

SIZES = [1, 1, 2, 3, 4, 7, 8, 9, 16, 17, 33, 40]


def draw_kernel(random: Random) -> Maker:
    """A kernel of up to four dimensions."""
    shape = [random.choice(SIZES) for _ in range(random.randint(0, 4))]
    while np.prod(shape) > 20_000:
        shape.pop(random.randrange(len(shape)))
    inner = random.randint(0, len(shape))
    m = Maker(*shape, inner=inner)
    dims = list(range(len(shape)))
    kept = dims[: len(dims) - inner]
    common = random.sample(dims, len(dims))  # most operands lie in the same order
    full: list[int] = []
    for _ in range(random.randint(1, 3)):
        order = common if random.random() < 0.5 else random.sample(dims, len(dims))
        some = order if random.random() < 0.7 else order[: random.randint(0, len(order))]
        dtype = random.choice(["f4", "f4", "f4", "f8", "i4", "?"])
        value = m.load(dtype, dims=some)
        full.append(value if dtype == "f4" else m.cast(value, "f4"))
    if dims and random.random() < 0.3:
        full.append(m.cast(m.position(random.choice(dims)), "f4"))
    row: list[int] = []
    for _ in range(random.randint(0, 6)):
        kind = random.choice(["add", "mul", "sub", "maximum", "tanh", "number", "where", "reduce", "reduce", "reduce"])
        x, y = random.choice(full), random.choice(full)
        if kind == "reduce" and inner:
            reduced = m.reduce(random.choice(["sum", "sum", "max", "min"]), x)
            scaled = m.mul(reduced, m.number(0.125))
            row.append(scaled)
            full.append(scaled)
        elif kind == "number":
            full.append(m.number(random.choice([0.5, -2.0, 0.0])))
        elif kind == "tanh":
            full.append(m.tanh(x))
        elif kind == "where":
            full.append(m.where(m.gt(x, y, dtype="?"), y, m.mul(x, m.number(0.25))))
        elif kind != "reduce":
            full.append(m.apply(kind, x, y))
    for _ in range(random.randint(1, 2)):
        m.store(random.choice(full[-3:]), dims=common if random.random() < 0.6 else random.sample(dims, len(dims)))
    for value in row[-2:]:
        m.store(value, dims=random.sample(kept, len(kept)))
    return m


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.sampled_from([1, 2]), st.booleans(), st.sampled_from([0, 16, 32, 64]))
def test_random_kernels(seed: int, threads: int, divided: bool, width: int) -> None:
    m = draw_kernel(Random(seed))
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
    Compiled(kernel, threads, width, divided)(*buffers)
    for got, reference in zip(buffers, expected):
        scale = 1 + np.abs(reference).max(initial=0) if reference.dtype.kind == "f" else 1
        np.testing.assert_allclose(got / scale, reference / scale, rtol=0, atol=2e-5)
