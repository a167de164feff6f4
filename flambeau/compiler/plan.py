"""The memory plan: where each value lies while a program runs.

Values from outside and results have memory of their own, given at each call. Everything between lies in one arena, in
places that are used again as soon as their value is dead. A pointwise kernel may write over an operand that nobody
reads later: in the arena, and in outside memory that must hold the result (a parameter and its update).
"""

from __future__ import annotations

import bisect
from collections.abc import Collection
from dataclasses import dataclass, field

from flambeau.compiler.graph import Graph, Ref, Value
from flambeau.compiler.kernel import Gather, Instruction, Kernel, Load, Store
from flambeau.compiler.lower.canonical import canonical
from flambeau.compiler.lower.moves import copy_step
from flambeau.compiler.steps import HostStep, KernelStep, Step

ALIGNMENT = 64


@dataclass(eq=False, repr=False)
class Plan:
    """Steps in order; `same` maps a value to the one whose memory it shares, `offsets` are places in the arena."""

    steps: list[Step]
    same: dict[Value, Value] = field(default_factory=dict)
    offsets: dict[Value, int] = field(default_factory=dict)
    size: int = 0

    def home(self, value: Value) -> Value:
        """The value whose memory this one uses."""
        while value in self.same:
            value = self.same[value]
        return value


def reads_of(step: Step) -> list[Value]:
    """Values a step reads."""
    if isinstance(step, KernelStep):
        return list(step.reads)
    if isinstance(step, HostStep):
        return [x.value for x in step.inputs if isinstance(x, Ref)]
    return [ref.value for ref in step.operands[: len(step.operands) - step.outputs]]


def writes_of(step: Step) -> list[Value]:
    """Values a step writes, its own scratch memory included."""
    if isinstance(step, KernelStep):
        return list(step.writes)
    if isinstance(step, HostStep):
        return [v for v in step.outputs if v is not None]
    return [ref.value for ref in step.operands[len(step.operands) - step.outputs :]]


def plan(graph: Graph, steps: list[Step], kept: Collection[Value] = ()) -> Plan:
    """Places for all values of a lowered graph; `kept` ones have memory of their own, which outlives the call."""
    made = Plan(list(steps))
    last, makers = _last_reads(steps), _makers(steps)
    for target, ref in graph.writes.items():  # results for outside memory that cannot be made there are copied
        if not _write_in_place(graph, made, target, ref, last, makers):
            made.steps.append(copy_step(ref, target, 0, target.strides))
    _reuse_operands(graph, made, kept)
    _pack(graph, made, kept)
    return made


def _last_reads(steps: list[Step]) -> dict[Value, int]:
    return {value: number for number, step in enumerate(steps) for value in reads_of(step)}


def _makers(steps: list[Step]) -> dict[Value, list[int]]:
    """The steps that write each value."""
    found: dict[Value, list[int]] = {}
    for number, step in enumerate(steps):
        for value in writes_of(step):
            found.setdefault(value, []).append(number)
    return found


def _write_in_place(
    graph: Graph, made: Plan, target: Value, ref: Ref, reads: dict[Value, int], makers: dict[Value, list[int]]
) -> bool:
    """Let the step that makes a result write it straight into outside memory."""
    value = ref.value
    if not ref.is_whole() or value.source is not None or value in graph.constants or value in made.same:
        return False
    if value.strides != target.strides or value.dtype != target.dtype or value.shape != target.shape:
        return False
    if any(out.value is value for out in graph.outputs):
        return False
    if len(makers.get(value, ())) != 1:
        return False
    (number,) = makers[value]
    last = reads.get(target, -1)
    step = made.steps[number]
    if last > number or (last == number and not _may_overwrite(step, target, value)):
        return False
    # Nobody may see the new value before the call is over but those who read `value`: outside memory has one name.
    made.same[value] = target
    return True


def _may_overwrite(step: Step, old: Value, new: Value) -> bool:
    """Whether a step may write `new` over the memory of `old`, which it reads."""
    if not isinstance(step, KernelStep) or step.kernel.inner:
        return False
    slot, out = step.buffers.index(old), step.buffers.index(new)
    stores = [i for i in step.kernel.body if isinstance(i, Store) and i.slot == out]
    loads = [i for i in step.kernel.body if isinstance(i, (Load, Gather)) and i.slot == slot]
    return len(stores) == 1 and all(
        isinstance(i, Load) and i.strides == stores[0].strides and i.offset == stores[0].offset for i in loads
    )


def _reuse_operands(graph: Graph, made: Plan, kept: Collection[Value]) -> None:
    """Let pointwise kernels write over operands that die with them."""
    last, makers = _last_reads(made.steps), _makers(made.steps)
    sharing: dict[Value, list[Value]] = {}
    for value in made.same:
        sharing.setdefault(made.home(value), []).append(value)
    fixed = set(graph.inputs) | set(graph.constants) | {ref.value for ref in graph.outputs} | set(made.same) | set(kept)
    for number, step in enumerate(made.steps):
        if not isinstance(step, KernelStep) or step.kernel.inner:
            continue
        taken: set[Value] = set()
        for new in step.writes:
            if new in fixed or makers[new] != [number]:
                continue
            for old in step.reads:
                home = made.home(old)
                if (
                    old not in fixed
                    and home not in fixed
                    and home not in taken
                    and old not in taken
                    and last[old] == number
                    and last.get(home, -1) <= number
                    and old.nbytes == new.nbytes
                    and old.dtype == new.dtype
                    and _may_overwrite(step, old, new)
                    and not any(last.get(v, -1) > number for v in sharing.get(home, ()))
                ):
                    made.same[new] = old
                    sharing.setdefault(home, []).append(new)
                    taken.update((old, home))
                    break


def _pack(graph: Graph, made: Plan, kept: Collection[Value]) -> None:
    """Give the rest places in the arena: a place is free again after the last step that uses its value."""
    outside = set(graph.inputs) | set(graph.constants) | {ref.value for ref in graph.outputs}
    begin: dict[Value, int] = {}
    end: dict[Value, int] = {}
    for number, step in enumerate(made.steps):
        for value in (*reads_of(step), *writes_of(step)):
            home = made.home(value)
            if home not in outside:
                begin.setdefault(home, -1 if home in kept else number)
                end[home] = len(made.steps) if home in kept else number
    ending: dict[int, list[Value]] = {}
    starting: dict[int, list[Value]] = {}
    for value, number in begin.items():
        starting.setdefault(number, []).append(value)
        ending.setdefault(end[value], []).append(value)
    arena = Arena()
    for number in range(-1, len(made.steps)):
        for value in sorted(starting.get(number, ()), key=lambda v: -v.nbytes):
            made.offsets[value] = arena.take(value.nbytes)
        for value in ending.get(number, ()):
            arena.give(made.offsets[value], value.nbytes)
    made.size = arena.size


class Arena:
    """Free stretches of one growing block: the smallest that fits is taken."""

    def __init__(self) -> None:
        self.size = 0
        self.free: list[tuple[int, int]] = []  # (offset, size), by offset

    def take(self, nbytes: int) -> int:
        need = -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT
        fitting = [(size, offset) for offset, size in self.free if size >= need]
        if fitting:
            size, offset = min(fitting)
            self.free.remove((offset, size))
            if size > need:
                bisect.insort(self.free, (offset + need, size - need))
            return offset
        if self.free and sum(self.free[-1]) == self.size:  # grow the last free stretch
            offset, size = self.free.pop()
        else:
            offset = self.size
        self.size = offset + need
        return offset

    def give(self, offset: int, nbytes: int) -> None:
        size = -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT
        at = bisect.bisect(self.free, (offset, 0))
        if at < len(self.free) and self.free[at][0] == offset + size:
            size += self.free.pop(at)[1]
        if at and sum(self.free[at - 1]) == offset:
            before = self.free.pop(at - 1)
            offset, size = before[0], before[1] + size
        bisect.insort(self.free, (offset, size))


def merged(step: KernelStep, made: Plan) -> tuple[Kernel, list[tuple[Value, int]]]:
    """The kernel, in canonical form, with one slot for each memory, and where its slots begin: (home, bytes).

    Values that share memory are one buffer. Slots begin at the first element that a kernel names, so that those for
    the parts of a batch are equal: one code instead of 12 for the chunks of a convolution.
    """
    homes: list[Value] = []
    number: dict[int, int] = {}
    for slot, value in enumerate(step.buffers):
        home = made.home(value)
        if home not in homes:
            homes.append(home)
        number[slot] = homes.index(home)
    accesses = [i for i in step.kernel.body if isinstance(i, (Load, Gather, Store))]
    starts, sizes = [0] * len(homes), [1] * len(homes)
    for slot in range(len(homes)):
        mine = [i for i in accesses if number[i.slot] == slot]
        if len({i.dtype for i in mine}) == 1:
            starts[slot], sizes[slot] = min(i.offset for i in mine), mine[0].dtype.itemsize
    body: list[Instruction] = []
    for i in step.kernel.body:
        if isinstance(i, (Load, Gather, Store)):
            slot = number[i.slot]
            i = i.but(slot=slot, offset=i.offset - starts[slot]) if starts[slot] or slot != i.slot else i
        body.append(i)
    kernel, order = canonical(Kernel(step.kernel.shape, step.kernel.inner, tuple(body), len(homes)))
    return kernel, [(homes[slot], starts[slot] * sizes[slot]) for slot in order]
