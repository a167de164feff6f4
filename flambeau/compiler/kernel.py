"""The language between fusion and code generation: one loop nest, said declaratively.

A `Kernel` is a list of instructions that run at every point of an iteration space `shape`. The last `inner` dimensions
are those that its `Reduce` instructions reduce over; what a reduction yields is the same at all their points, and may
be used by the instructions after it (softmax is: max, subtract, exp, sum, divide). The order of loops, the passes over
a row, vector width and the division among threads are the business of the generator (`lower/loops.py`), not of who
writes the kernel. All strides and offsets count elements; a stride of 0 repeats (broadcast).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


class Fields:
    """Equal to what is of the same kind with equal fields.

    A dataclass that gets these methods from here takes a fifth of the time to define, of which importing the compiler
    would consist by half. Frozen by agreement: nobody sets a field of what may be a key.
    """

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def but(self, **changes: Any) -> Any:
        """The same with other values in some fields."""
        made = object.__new__(type(self))
        vars(made).update(vars(self), **changes)
        return made

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


# Instructions name earlier ones by their position in `Kernel.body`.


@dataclass(eq=False, repr=False)
class Load(Fields):
    """The element of buffer number `slot` at offset + sum(index * stride); one stride per dimension of the space."""

    slot: int
    strides: tuple[int, ...]
    offset: int
    dtype: np.dtype


@dataclass(eq=False, repr=False)
class Gather(Fields):
    """As `Load`, further moved by `index` (an instruction of integer type) * `scale`. Negative indices are the maker's
    business; the index is trusted."""

    slot: int
    strides: tuple[int, ...]
    offset: int
    dtype: np.dtype
    index: int
    scale: int


@dataclass(eq=False, repr=False)
class Number(Fields):
    """A constant. Zeros of different signs are different, numbers that are none are equal."""

    value: Any
    dtype: np.dtype

    def __eq__(self, other: object) -> bool:
        return type(other) is Number and repr(other.value) == repr(self.value) and other.dtype == self.dtype

    def __hash__(self) -> int:
        return hash((Number, repr(self.value), self.dtype))


@dataclass(eq=False, repr=False)
class Position(Fields):
    """The index along one dimension of the space (int64)."""

    dim: int


@dataclass(eq=False, repr=False)
class Cast(Fields):
    """Conversion to another type, as NumPy's `astype` (to bool: not equal to zero)."""

    value: int
    dtype: np.dtype


@dataclass(eq=False, repr=False)
class Apply(Fields):
    """The elementwise primitive `op` (its `.scalar` rule) on earlier instructions; `dtype` is that of the result.

    Arguments already have the type the rule computes in (the fusion pass inserts the `Cast`s of type promotion).
    `attrs` are sorted (name, value) pairs.
    """

    op: str
    args: tuple[int, ...]
    attrs: tuple[tuple[str, Any], ...]
    dtype: np.dtype


@dataclass(eq=False, repr=False)
class Reduce(Fields):
    """The reduction of an instruction over the last `inner` dimensions: "sum", "prod", "max", "min", "any" or "all".

    max and min return nan where there is one, as NumPy's. Sums of float32 may be taken in any order (several
    accumulators), accumulating in float32 over blocks or in float64.
    """

    kind: str
    value: int
    dtype: np.dtype


@dataclass(eq=False, repr=False)
class Store(Fields):
    """Write an instruction's value into buffer `slot`. With stride 0 along all inner dimensions it is written once."""

    slot: int
    strides: tuple[int, ...]
    offset: int
    value: int
    dtype: np.dtype


Instruction = Load | Gather | Number | Position | Cast | Apply | Reduce | Store


@dataclass(eq=False, repr=False)
class Kernel(Fields):
    """One loop nest over `shape`; hashable: equal kernels share machine code.

    `slots` is the number of buffers. The same memory under two slots is not allowed; one slot may be both loaded and
    stored if every point loads what only that point stores (update in place).
    """

    shape: tuple[int, ...]
    inner: int
    body: tuple[Instruction, ...]
    slots: int
    _hash: int | None = field(default=None, init=False)

    def __eq__(self, other: object) -> bool:
        return (
            type(other) is Kernel
            and hash(other) == hash(self)
            and (other.shape, other.inner, other.slots, other.body) == (self.shape, self.inner, self.slots, self.body)
        )

    def __hash__(self) -> int:
        if self._hash is None:  # long, and asked for several times
            self._hash = hash((self.shape, self.inner, self.slots, self.body))
        return self._hash

    def __repr__(self) -> str:
        """All that it says, without the time that NumPy takes to print a dtype: keys of caches are made of this."""
        body = "; ".join(
            f"{type(i).__name__} {[v.str if isinstance(v, np.dtype) else v for v in vars(i).values()]}"
            for i in self.body
        )
        return f"Kernel({self.shape}, {self.inner}, {self.slots}: {body})"
