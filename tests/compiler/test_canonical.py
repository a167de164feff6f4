"""Kernels that mean the same have one form."""

from __future__ import annotations

from random import Random

import numpy as np

from flambeau.compiler.graph import Graph
from flambeau.compiler.kernel import Apply, Cast, Kernel, Load, Store
from flambeau.compiler.lower.canonical import canonical
from flambeau.compiler.plan import Plan, merged
from flambeau.compiler.steps import KernelStep
from tests.compiler.interpreter import interpret
from tests.compiler.running import Maker
from tests.compiler.test_loops_random import draw_kernel


def momentum(n: int, gradient_first: bool) -> Kernel:
    """p -= rate * (v = 0.9 v + g), with the loads in one order or another, and an instruction nobody needs."""
    m = Maker(n)
    if gradient_first:
        g, v = m.load(), m.load()
    else:
        v, g = m.load(), m.load()
        m.mul(v, v)
    kept = m.add(m.mul(m.number(0.9), v), g)
    if gradient_first:
        m.store(kept, slot=1)
    p, rate = m.load(), m.load(dims=[])
    m.store(m.sub(p, m.mul(rate, kept)), slot=2)
    if not gradient_first:
        m.store(kept, slot=0)
    return m.kernel()


def test_the_order_of_loads_and_stores_does_not_matter() -> None:
    first, slots = canonical(momentum(10, True))
    second, others = canonical(momentum(10, False))
    assert first == second
    assert {slots[k]: others[k] for k in range(4)} == {0: 1, 1: 0, 2: 2, 3: 3}
    assert canonical(first) == (first, (0, 1, 2, 3))


def test_different_computations_stay_different() -> None:
    m = Maker(10)
    x, y = m.load(), m.load()
    m.store(m.sub(x, y))
    m.store(m.mul(x, x))
    n = Maker(10)
    x, y = n.load(), n.load()
    n.store(n.sub(y, x))
    n.store(n.mul(x, x))
    assert canonical(m.kernel())[0] != canonical(n.kernel())[0]


def test_the_canonical_form_computes_the_same() -> None:
    for seed in range(60):
        kernel = draw_kernel(Random(seed)).kernel()
        size = int(np.prod(kernel.shape))
        random = np.random.default_rng(seed)
        buffers = []
        for slot in range(kernel.slots):
            (dtype,) = {i.dtype for i in kernel.body if getattr(i, "slot", None) == slot}
            buffers.append(random.integers(-3, 4, size).astype(dtype))
        form, slots = canonical(kernel)
        reordered = [buffers[slot].copy() for slot in slots]
        interpret(kernel, buffers)
        interpret(form, reordered)
        for slot, got in zip(slots, reordered):
            np.testing.assert_array_equal(got, buffers[slot])


def test_kernels_on_parts_of_a_batch_are_one() -> None:
    graph = Graph()
    floats = np.dtype(np.float32)
    whole, part = graph.value((3, 8), (8, 1), floats), graph.value((8,), (1,), floats)
    steps = []
    for image in range(3):
        at = 8 * image
        body = (Load(0, (1,), at, floats), Load(0, (0,), at + 2, floats), Apply("add", (0, 1), (), floats),
                Store(1, (1,), 0, 2, floats))  # fmt: skip
        steps.append(KernelStep(Kernel((8,), 0, body, 2), (whole, part), (whole,), (part,)))
    found = [merged(step, Plan(steps)) for step in steps]
    assert len({kernel for kernel, _ in found}) == 1
    assert [dict(homes)[whole] for _, homes in found] == [0, 32, 64]
    assert all(dict(homes)[part] == 0 for _, homes in found)


def test_memory_of_two_types_keeps_its_start() -> None:
    graph = Graph()
    floats, ints = np.dtype(np.float32), np.dtype(np.int64)
    value, out = graph.value((16,), (1,), floats), graph.value((4,), (1,), floats)
    body = (Load(0, (1,), 4, floats), Load(0, (1,), 4, ints), Cast(1, floats), Apply("add", (0, 2), (), floats),
            Store(1, (1,), 0, 3, floats))  # fmt: skip
    step = KernelStep(Kernel((4,), 0, body, 2), (value, out), (value,), (out,))
    kernel, homes = merged(step, Plan([step]))
    assert dict(homes)[value] == 0
    assert [i.offset for i in kernel.body if isinstance(i, Load)] == [4, 4]
