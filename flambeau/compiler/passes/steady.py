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


@dataclass(eq=False, repr=False)
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
    moving = set(outside)  # values that some step writes anew in each call
    before = -1
    while len(moving) != before:  # a value of several writers is steady only if all of them are
        before = len(moving)
        for step in steps:
            same = (
                isinstance(step, (KernelStep, LibraryStep))
                and moving.isdisjoint(writes_of(step))
                and all(value not in moving if value in makers else steady(value) for value in reads_of(step))
            )
            if not same:
                moving.update(writes_of(step))
    first = [step for step in steps if moving.isdisjoint(writes_of(step))]
    rest = [step for step in steps if not moving.isdisjoint(writes_of(step))]
    made = {value for step in first for value in writes_of(step)}
    kept = made & {value for step in rest for value in reads_of(step)}
    read = {value for step in first for value in reads_of(step)}
    return Split(first, rest, kept, {value for value in read if value not in makers and value not in graph.constants})
