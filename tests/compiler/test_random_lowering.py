"""Random draws lowered to native routines: eager's numbers, eager's stream."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

import flambeau as torch
import flambeau.compiler.lower.random
from flambeau.compiler.graph import Node
from flambeau.compiler.steps import LOWERINGS, Lowering, RoutineStep
from flambeau.core import random as stream
from flambeau.core import random_distributions as distributions
from flambeau.core.random import Generator
from tests.compiler.library_steps import Program

CASES = {
    "uniform": (np.float32, {"low": -1.0, "high": 2.0}, lambda g, s, d: stream.uniform(g, s, d, -1.0, 2.0)),
    "uniform, double": (np.float64, {"low": 0, "high": 1}, lambda g, s, d: stream.uniform(g, s, d)),
    "normal": (np.float32, {"mean": 1.0, "std": 0.5}, lambda g, s, d: stream.normal(g, s, d, 1.0, 0.5)),
    "bernoulli": (
        np.float32,
        {"p": 0.7, "scale": 1 / 0.7},
        lambda g, s, d: distributions.bernoulli(g, s, 0.7) * np.float32(1 / 0.7),
    ),
    "bernoulli, double": (np.float64, {"p": 0.7, "scale": None}, lambda g, s, d: distributions.bernoulli(g, s, 0.7)),
    "bernoulli, truth": (np.bool_, {"p": 0.2, "scale": None}, lambda g, s, d: distributions.bernoulli(g, s, 0.2)),
    "bernoulli, half": (
        np.float16,
        {"p": 0.2, "scale": 1.25},
        lambda g, s, d: distributions.bernoulli(g, s, 0.2) * d.type(1.25),
    ),
    "randint": (np.int64, {"low": 3, "high": 13}, lambda g, s, d: stream.randint(g, s, 3, 13)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_same_numbers_as_eager(case):
    dtype, parameters, eager = CASES[case]
    dtype, kind = np.dtype(dtype), case.split(",")[0]
    program = Program()
    ours, theirs = Generator().manual_seed(5), Generator().manual_seed(5)
    made = []
    for shape in ((33, 5), (7, 100)):
        value = program.graph.value(shape, (shape[1], 1), dtype)
        attrs = {"run": None, "kind": kind, "parameters": parameters, "generator": ours}
        program.graph.nodes.append(Node("@draw", [], attrs, [value]))
        made.append(value)
    lowering = Lowering(program.graph)
    steps = [step for node in program.graph.nodes for step in LOWERINGS["@draw"](node, lowering)]
    assert all(isinstance(step, RoutineStep) for step in steps)
    assert len(program.graph.constants) == 1
    program.memory.update(program.graph.constants)
    for _ in range(2):
        program.run(steps)
        for value in made:
            expected = np.asarray(eager(theirs, value.shape, dtype), dtype)
            np.testing.assert_array_equal(program.show(value.whole()), expected)
        assert np.array_equal(ours.raw(3), theirs.raw(3))  # eager draws in between


@pytest.mark.parametrize(
    "kind, dtype, strides, parameters",
    [
        ("normal", np.float64, (5, 1), {"mean": 0.0, "std": 1.0}),
        ("normal", np.float32, (1, 4), {"mean": 0.0, "std": 1.0}),
        ("randint", np.int64, (5, 1), {"low": 0, "high": 1 << 30}),
        ("randint", np.int32, (5, 1), {"low": 0, "high": 10}),
        ("uniform", np.float16, (5, 1), {"low": 0, "high": 1}),
        (None, np.float32, (5, 1), None),
    ],
)
def test_what_it_leaves_to_numpy(kind, dtype, strides, parameters):
    program = Program()
    value = program.graph.value((4, 5), strides, np.dtype(dtype))
    node = Node("@draw", [], {"kind": kind, "parameters": parameters, "generator": Generator()}, [value])
    assert LOWERINGS["@draw"](node, Lowering(program.graph)) is None


def test_compiled_and_eager_draws_take_turns_on_one_stream():
    gen = torch.Generator()

    def draw(x):
        return (
            torch.nn.functional.dropout(x, 0.3), torch.randn(20, 20), torch.rand(7, generator=gen),
            torch.randint(0, 9, (5,)), torch.empty(8, 8).normal_(1, 2), torch.empty(5).exponential_(),
        )  # fmt: skip

    def sequence(function):
        torch.manual_seed(1)
        gen.manual_seed(3)
        found = []
        for turn in range(4):
            found += [t.clone() for t in function(torch.ones(50))]
            found.append(torch.rand(3))
            if turn == 2:
                torch.manual_seed(9)
        return found

    compiled = torch.compile(draw)
    expected = sequence(draw)
    for _ in range(2):  # with the capture, and without
        assert all(torch.equal(a, b) for a, b in zip(sequence(compiled), expected, strict=True))
    assert compiled.captures == 1
