"""Steps that compute the same in every call until somebody changes the state: folded weights, weights in blocked order.

A program can run them when the state they read has changed and keep what they made. This module says which they are;
how a change is noticed is the program's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flambeau.compiler.graph import Graph, Value
from flambeau.compiler.passes.readers import Steady
from flambeau.compiler.plan import reads_of, writes_of
from flambeau.compiler.steps import KernelStep, LibraryStep, Step


@dataclass(frozen=True)
class Split:
    """`first`: steps on state alone; `rest`: the others; both in order. `first` may run before all of `rest`.

    `kept` are the values that `first` makes and `rest` reads: their memory is not used for anything else. `state` are
    the inputs that `first` reads.
    """

    first: list[Step]
    rest: list[Step]
    kept: set[Value]
    state: set[Value]


def split_steady(graph: Graph, steps: Sequence[Step]) -> Split:
    """Divide the steps of a graph. Routines and calls of Python (random draws) are never steady."""
    steady = Steady(graph)
    outside = {ref.value for ref in (*graph.outputs, *graph.writes.values())}
    makers = {value for step in steps for value in writes_of(step)}
    known: dict[Value, bool] = {}
    first: list[Step] = []
    rest: list[Step] = []
    for step in steps:
        same = isinstance(step, (KernelStep, LibraryStep)) and not outside.intersection(writes_of(step)) and all(
            known.get(value, False) if value in makers else steady(value) for value in reads_of(step))
        for value in writes_of(step):
            known[value] = same and known.get(value, True)
        (first if same else rest).append(step)
    made = {value for step in first for value in writes_of(step)}
    if any(value in made for step in rest for value in writes_of(step)):  # written again in each call: not worth it
        return Split([], list(steps), set(), set())
    kept = made & {value for step in rest for value in reads_of(step)}
    read = {value for step in first for value in reads_of(step)}
    return Split(first, rest, kept, {value for value in read if value not in makers and value not in graph.constants})
