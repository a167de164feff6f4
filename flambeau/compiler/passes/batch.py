"""Horizontal fusion: updates of outside memory that nobody reads soon are put next to each other.

An optimizer goes from parameter to parameter, and computes numbers (Adam's corrections) between two updates. Put off
until somebody needs what they write, the updates stand in a row; the program runs equal ones as one parallel loop.
"""

from __future__ import annotations

from typing import Any

from flambeau.compiler.graph import Graph, Value
from flambeau.compiler.kernel import Apply
from flambeau.compiler.plan import reads_of, writes_of
from flambeau.compiler.steps import KernelStep, Step


def gather_updates(graph: Graph, steps: list[Step]) -> list[Step]:
    """The steps in an order that means the same, with updates as late as they may be, similar kernels together.

    What is written in several steps (a copy, then a window or a sum into it) is written in their order. Whether an
    update may be made in the parameter's own memory is the plan's business, which comes after.
    """
    targets = {ref.value for ref in graph.writes.values()}
    waiting: list[KernelStep] = []
    written: set[Value] = set()
    ordered: list[Step] = []

    def flush() -> None:
        place: dict[Any, int] = {}
        for step in waiting:
            place.setdefault(likeness(step), len(place))
        ordered.extend(sorted(waiting, key=lambda step: place[likeness(step)]))
        waiting.clear()
        written.clear()

    for step in steps:
        writes = writes_of(step)
        if not written.isdisjoint(reads_of(step)) or not written.isdisjoint(writes):
            flush()
        if isinstance(step, KernelStep) and not step.kernel.inner and writes and targets.issuperset(writes):
            waiting.append(step)
            written.update(writes)
        else:
            ordered.append(step)
    flush()
    return ordered


def likeness(step: KernelStep) -> Any:
    """Equal for kernels that do the same to arrays of any shape."""
    return tuple((type(i).__name__, i.op if isinstance(i, Apply) else None) for i in step.kernel.body)
