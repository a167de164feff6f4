"""A kernel with large reductions as a sequence of smaller ones: shares, the sum of the shares, and what comes after.

Each pass of the kernel that reduces becomes two kernels: one that leaves partial results in scratch memory, one over
the kept dimensions that adds them up and does all that follows from the sums alone. The last pass, where it reduces
nothing, is a pointwise kernel that reads the sums from scratch memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from flambeau.compiler.kernel import Cast, Gather, Kernel, Load, Reduce, Store
from flambeau.compiler.lower.nest import Nest, operands, result_dtype, with_operands
from flambeau.compiler.lower.partials import Partials, partial_dtype

ALIGNMENT = 64


class Room:
    """Scratch memory, given out piece by piece."""

    def __init__(self) -> None:
        self.nbytes = 0

    def take(self, nbytes: int) -> int:
        """The offset of a new piece."""
        offset = self.nbytes
        self.nbytes += -(-nbytes // ALIGNMENT) * ALIGNMENT
        return offset


class Part:
    """A kernel made of some of the instructions of another one, over some of its dimensions."""

    def __init__(self, nest: Nest, dims: Iterable[int], extra: tuple[int, ...] = ()):
        self.nest = nest
        self.dims = tuple(dims)
        self.extra = extra  # sizes of further dimensions behind them
        self.given: dict[int, Callable[[], int]] = {}  # instructions that are not computed but read from scratch
        self.body: list[Any] = []
        self.renamed: dict[int, int] = {}

    def strides(self, strides: tuple[int, ...]) -> tuple[int, ...]:
        """The strides of an access along the dimensions of this part."""
        return (*(strides[d] for d in self.dims), *(0 for _ in self.extra))

    def add(self, instruction: Any) -> int:
        """A new instruction."""
        self.body.append(instruction)
        return len(self.body) - 1

    def take(self, i: int) -> int:
        """Instruction `i` of the whole kernel with all that it needs."""
        if i not in self.renamed:
            if i in self.given:
                self.renamed[i] = self.given[i]()
            else:
                instruction = self.nest.body[i]
                for j in operands(instruction):
                    self.take(j)
                made = with_operands(instruction, self.renamed)
                if isinstance(made, (Load, Gather, Store)):
                    made = replace(made, strides=self.strides(made.strides))
                self.renamed[i] = self.add(made)
        return self.renamed[i]

    def kernel(self, inner: int) -> Kernel:
        """The kernel; its last slot is the scratch memory."""
        shape = (*(self.nest.shape[d] for d in self.dims), *self.extra)
        return Kernel(shape, inner, tuple(self.body), self.nest.slots + 1)


@dataclass
class Shares:
    """How to cut the reduced points: how many shares of which dimension, and how long one is."""

    count: int
    cut: int
    length: int


class Stages:
    """The kernels that a kernel with large reductions is cut into, in order."""

    def __init__(self, nest: Nest, shares: Shares, axis: int | None, lanes: int):
        self.nest = nest
        self.shares = shares
        self.slot = nest.slots
        self.room = Room()
        self.strides, self.size = self._layout(axis, lanes)
        self.saved: dict[int, int] = {}  # instruction of the kept dimensions -> where its values lie

    def _layout(self, axis: int | None, lanes: int) -> tuple[tuple[int, ...], int]:
        """Strides of a value for every kept point: the axis innermost and padded to whole vectors."""
        strides = dict.fromkeys(self.nest.kept_dims, 0)
        step = 1
        if axis is not None:
            strides[axis] = 1
            step = -(-self.nest.shape[axis] // lanes) * lanes
        for d in reversed(self.nest.kept_dims):
            if d != axis:
                strides[d] = step
                step *= self.nest.shape[d]
        return tuple(strides.values()), step

    def _from_scratch(self, part: Part, i: int) -> Callable[[], int]:
        """How a part reads a value that an earlier one has left."""

        def load() -> int:
            dtype = result_dtype(self.nest.body, i)
            strides = (*self.strides, *(0 for _ in self.nest.inner_dims))
            return part.add(Load(self.slot, part.strides(strides), self.saved[i] // dtype.itemsize, dtype))

        return load

    def _part(self, dims: Iterable[int], extra: tuple[int, ...] = ()) -> Part:
        part = Part(self.nest, dims, extra)
        part.given = {i: self._from_scratch(part, i) for i in self.saved}
        return part

    def partial(self, number: int) -> tuple[Kernel, Partials]:
        """The reductions and stores of a pass, on shares."""
        part = self._part(range(self.nest.rank))
        reduces, stores = self.nest.passes[number]
        for i in [*reduces, *stores]:
            part.take(i)
        nbytes = {i: partial_dtype(self.nest.body[i]).itemsize * self.size * self.shares.count for i in reduces}
        offsets = {part.renamed[i]: self.room.take(nbytes[i]) for i in reduces}
        self.offsets = {i: offsets[part.renamed[i]] for i in reduces}
        shares = self.shares
        partials = Partials(self.slot, offsets, shares.count, shares.cut, shares.length, self.strides, self.size)
        return part.kernel(len(self.nest.inner_dims)), partials

    def combined(self, number: int) -> Kernel:
        """The sum over the shares of a pass, and what follows from the sums alone: stores, values for later passes."""
        part = self._part(self.nest.kept_dims, (self.shares.count,))
        reduces, _ = self.nest.passes[number]
        for i in reduces:
            part.given[i] = self._sum_of_shares(part, i)
        for i in self.wanted_later(number):
            if i not in self.saved:
                dtype = result_dtype(self.nest.body, i)
                value = part.take(i)
                offset = self.room.take(dtype.itemsize * self.size)
                part.add(Store(self.slot, (*self.strides, 0), offset // dtype.itemsize, value, dtype))
                self.saved[i] = offset
        for i in self.nest.row_stores:
            if max(0, self.nest.ready[self.nest.body[i].value] - 1) == number:
                part.take(i)
        return part.kernel(1)

    def _sum_of_shares(self, part: Part, i: int) -> Callable[[], int]:
        def load() -> int:
            made: Reduce = self.nest.body[i]
            dtype = partial_dtype(made)
            load = part.add(Load(self.slot, (*self.strides, self.size), self.offsets[i] // dtype.itemsize, dtype))
            return part.add(Cast(part.add(Reduce(made.kind, load, dtype)), made.dtype))

        return load

    def wanted_later(self, number: int) -> list[int]:
        """Values of the kept dimensions, known after this pass, that later passes read."""
        nest = self.nest
        out = set()
        for j, user in enumerate(nest.body):
            if nest.is_row_level(j) and nest.ready[j] <= number + 1:
                continue
            for i in operands(user):
                made = nest.body[i]
                overwritten = isinstance(made, (Load, Gather)) and made.slot in nest.stored_slots
                if nest.is_row_level(i) and (nest.ready[i] == number + 1 or (overwritten and number == 0)):
                    out.add(i)
        return sorted(out)

    def points(self, number: int) -> Kernel:
        """The last pass, which only stores."""
        part = self._part(range(self.nest.rank))
        for i in self.nest.passes[number][1]:
            part.take(i)
        return part.kernel(0)
