"""The iteration space of a kernel made as simple as it can be, and what each instruction depends on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from flambeau.compiler.kernel import (
    Apply,
    Cast,
    Fields,
    Gather,
    Instruction,
    Kernel,
    Load,
    Number,
    Position,
    Reduce,
    Store,
)

INT64 = np.dtype(np.int64)


class Unsupported(Exception):
    """The generator has no code for this kernel; it says why. Split it or run its ops one by one."""


@dataclass(eq=False, repr=False)
class Fold(Fields):
    """Internal: the reduction `kind` of several instructions (partial results of one `Reduce`)."""

    kind: str
    values: tuple[int, ...]
    dtype: np.dtype


def operands(instruction: Any) -> tuple[int, ...]:
    """The instructions that this one reads."""
    kind = type(instruction)
    if kind is Load or kind is Number:
        return ()
    if kind is Apply:
        return instruction.args
    if kind is Cast or kind is Reduce or kind is Store:
        return (instruction.value,)
    if kind is Gather:
        return (instruction.index,)
    return instruction.values if kind is Fold else ()


def with_operands(instruction: Any, renamed: dict[int, int]) -> Any:
    """The same instruction reading `renamed[i]` where it read `i`."""
    read = operands(instruction)
    now = tuple([renamed[i] for i in read])
    if now == read:
        return instruction
    if isinstance(instruction, Apply):
        return Apply(instruction.op, now, instruction.attrs, instruction.dtype)
    if isinstance(instruction, (Cast, Reduce, Store)):
        return instruction.but(value=now[0])
    if isinstance(instruction, Gather):
        return instruction.but(index=now[0])
    return instruction.but(values=now)


def result_dtype(body: Sequence[Any], i: int) -> np.dtype:
    """The dtype of what instruction `i` yields."""
    return INT64 if isinstance(body[i], Position) else np.dtype(body[i].dtype)


def simplify(kernel: Kernel) -> Kernel:
    """The same kernel with fewer dimensions, in the order in which the memory lies; equal instructions merged.

    Dimensions of size 1 go, kept ones and reduced ones are each sorted by stride (largest first), and neighbours that
    every access walks as one become one.
    """
    if isinstance(kernel.inner, int) and not 0 <= kernel.inner <= len(kernel.shape):
        raise Unsupported(f"{kernel.inner} inner dimensions of {len(kernel.shape)}")
    kept = len(kernel.shape) - kernel.inner
    groups = [
        [d for d in range(kept) if kernel.shape[d] != 1],
        [d for d in range(kept, len(kernel.shape)) if kernel.shape[d] != 1],
    ]
    accesses = [i for i in kernel.body if isinstance(i, (Load, Gather, Store))]
    positions = {i.dim for i in kernel.body if isinstance(i, Position)}
    merged: list[list[int]] = []  # each new dimension: the old ones it stands for, outermost first
    inner = 0
    for number, group in enumerate(groups):
        runs: list[list[int]] = []
        for d in _sorted(group, accesses):
            if runs and _walked_as_one(runs[-1][-1], d, kernel.shape, accesses, positions):
                runs[-1].append(d)
            else:
                runs.append([d])
        merged += runs
        inner = len(runs) if number else 0
    place = {run[-1]: new for new, run in enumerate(merged)}
    shape = tuple(prod(kernel.shape[d] for d in run) for run in merged)
    body: list[Any] = []
    known: dict[Any, int] = {}
    renamed: dict[int, int] = {}
    for old, instruction in enumerate(kernel.body):
        new: Any = with_operands(instruction, renamed)
        if isinstance(new, (Load, Gather, Store)):
            new = replace(new, strides=tuple(new.strides[run[-1]] for run in merged))
        elif isinstance(new, Position):
            new = Position(place[new.dim]) if new.dim in place else Number(0, INT64)
        elif isinstance(new, Reduce) and not groups[1]:
            new = Cast(new.value, new.dtype)  # of a single element
        key = repr(new) if isinstance(new, Number) else new  # 0.0 == -0.0 == False
        if key not in known or isinstance(new, Store):
            known[key] = len(body)
            body.append(new)
        renamed[old] = known[key]
    return Kernel(shape, inner, tuple(body), kernel.slots)


def _sorted(dims: list[int], accesses: list[Any]) -> list[int]:
    """The dimensions, those with larger strides first; stores count more than loads, ties keep their order."""
    order: list[int] = []
    for d in dims:  # insertion: comparisons need not be transitive
        at = len(order)
        while at and _outranks(d, order[at - 1], accesses):
            at -= 1
        order.insert(at, d)
    return order


def _outranks(d: int, e: int, accesses: list[Any]) -> bool:
    """Whether dimension d should be outside of e, which is outside of d now."""
    votes = 0
    for access in accesses:
        a, b = abs(access.strides[d]), abs(access.strides[e])
        if a and b and a != b:
            votes += (3 if isinstance(access, Store) else 2) * (1 if a > b else -1)
    return votes > 0


def _walked_as_one(d: int, e: int, shape: tuple[int, ...], accesses: list[Any], positions: set[int]) -> bool:
    if d in positions or e in positions:
        return False
    return all(access.strides[d] == access.strides[e] * shape[e] for access in accesses)


class Nest:
    """A simplified kernel with the facts that the emitters ask for."""

    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        self.shape = kernel.shape
        self.body: tuple[Any, ...] = kernel.body
        self.slots = kernel.slots
        self.rank = len(kernel.shape)
        self.kept = self.rank - kernel.inner
        self.kept_dims = tuple(range(self.kept))
        self.inner_dims = tuple(range(self.kept, self.rank))
        self.stored_slots = {i.slot for i in self.body if isinstance(i, Store)}

    def size(self, dims: Sequence[int]) -> int:
        return prod(self.shape[d] for d in dims)

    @cached_property
    def varies(self) -> list[frozenset[int]]:
        """For each instruction the dimensions that its result depends on."""
        out: list[frozenset[int]] = []
        for i in self.body:
            dims = {d for j in operands(i) for d in out[j]}
            if isinstance(i, (Load, Gather, Store)):
                dims |= {d for d, stride in enumerate(i.strides) if stride}
            elif isinstance(i, Position):
                dims.add(i.dim)
            elif isinstance(i, Reduce):
                dims -= set(self.inner_dims)
            out.append(frozenset(dims))
        return out

    @cached_property
    def ready(self) -> list[int]:
        """For each instruction how many passes over the inner dimensions must have ended before it is known."""
        out: list[int] = []
        for i in self.body:
            out.append(max((out[j] for j in operands(i)), default=0) + isinstance(i, Reduce))
        return out

    def is_row_level(self, i: int) -> bool:
        """Whether the instruction is the same at all points of the inner dimensions."""
        return not self.varies[i] & set(self.inner_dims)

    @cached_property
    def reduces(self) -> list[int]:
        return [i for i, made in enumerate(self.body) if isinstance(made, Reduce)]

    @cached_property
    def stores(self) -> list[int]:
        return [i for i, made in enumerate(self.body) if isinstance(made, Store)]

    @cached_property
    def row_stores(self) -> list[int]:
        """Stores that are done once per kept point."""
        out = [i for i in self.stores if self.inner_dims and not any(self.body[i].strides[self.kept :])]
        for i in out:
            if not self.is_row_level(self.body[i].value):
                raise Unsupported("a store without inner strides of a value that varies along the inner dimensions")
        return out

    @cached_property
    def passes(self) -> list[tuple[list[int], list[int]]]:
        """What each pass over the inner dimensions does: its reductions and its stores.

        A store in place waits for the last pass, so that no pass reads what an earlier one has written.
        """
        row_stores = set(self.row_stores)
        full = [i for i in self.stores if i not in row_stores]
        when = {i: self.ready[self.body[i].value] for i in [*full, *self.reduces]}
        last = max(when.values(), default=0)
        loaded = {i.slot for i in self.body if isinstance(i, (Load, Gather))}
        for i in full:
            if self.body[i].slot in loaded:
                when[i] = last
        return [([i for i in self.reduces if when[i] == p], [i for i in full if when[i] == p]) for p in range(last + 1)]

    def demand(self, roots: Sequence[int], stop: Iterable[int] = ()) -> set[int]:
        """What must be computed at every point for the roots, themselves left out; not beyond those in `stop`."""
        stop = set(stop)
        seen: set[int] = set()
        todo = [j for root in roots for j in operands(self.body[root])]
        while todo:
            i = todo.pop()
            if i in seen or (self.inner_dims and self.is_row_level(i)):
                continue
            seen.add(i)
            if i not in stop:
                todo += operands(self.body[i])
        return seen

    @cached_property
    def width_dtype(self) -> np.dtype:
        """The dtype that sets the vector width: the widest that floats here, else the widest in memory."""
        used = [np.dtype(i.dtype) for i in self.body if isinstance(i, (Load, Gather, Store, Apply, Reduce))]
        floats = [d for d in used if d.kind not in "iub"]
        return max(floats or used or [INT64], key=lambda d: d.itemsize)

    def best_axis(self, dims: Sequence[int]) -> int:
        """The dimension along which most bytes lie side by side."""
        score = dict.fromkeys(dims, 0.0)
        for n, i in enumerate(self.body):
            if isinstance(i, (Load, Gather, Store)):
                points = self.size(sorted(self.varies[n]))
                for d in dims:
                    if abs(i.strides[d]) == 1:
                        score[d] += points * i.dtype.itemsize * (1.25 if isinstance(i, Store) else 1)
                    elif i.strides[d]:
                        score[d] -= 0.5 * points * i.dtype.itemsize
        # A dimension shorter than a vector leaves lanes empty.
        return max(reversed(dims), key=lambda d: score[d] * min(1.0, self.shape[d] / 8) if score[d] > 0 else score[d])


HEAVY = {
    "div": 4,
    "true_divide": 4,
    "sqrt": 4,
    "rsqrt": 8,
    "reciprocal": 4,
    "remainder": 8,
    "floor_divide": 8,
    "fmod": 8,
    "exp": 12,
    "exp2": 12,
    "expm1": 16,
    "log": 14,
    "log2": 14,
    "log10": 14,
    "log1p": 16,
    "sigmoid": 16,
    "silu": 18,
    "tanh": 18,
    "erf": 20,
    "erfc": 24,
    "gelu": 24,
    "mish": 36,
    "softplus": 26,
    "sin": 20,
    "cos": 20,
    "tan": 30,
    "pow": 40,
    "elu": 16,
    "celu": 16,
    "selu": 16,
    "logit": 20,
    "hypot": 8,
}  # instructions, roughly; whatever is not here counts 2


def cost(instruction: Any) -> int:
    """About how many machine instructions it takes for a vector."""
    if isinstance(instruction, (Number, Position)):
        return 0
    if isinstance(instruction, Gather):
        return 16
    if isinstance(instruction, Apply):
        name = instruction.op.removesuffix("_backward")
        return HEAVY.get(name, 2)
    return 1


__all__ = [
    "HEAVY",
    "Fold",
    "Instruction",
    "Nest",
    "Unsupported",
    "cost",
    "operands",
    "result_dtype",
    "simplify",
    "with_operands",
]
