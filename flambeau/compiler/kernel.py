"""The language between fusion and code generation: one loop nest, said declaratively.

A `Kernel` is a list of instructions that run at every point of an iteration space `shape`. The last `inner` dimensions
are those that its `Reduce` instructions reduce over; what a reduction yields is the same at all their points, and may
be used by the instructions after it (softmax is: max, subtract, exp, sum, divide). The order of loops, the passes over
a row, vector width and the division among threads are the business of the generator (`lower/loops.py`), not of who
writes the kernel. All strides and offsets count elements; a stride of 0 repeats (broadcast).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

# Instructions name earlier ones by their position in `Kernel.body`.


@dataclass(frozen=True)
class Load:
    """The element of buffer number `slot` at offset + sum(index * stride); one stride per dimension of the space."""

    slot: int
    strides: tuple[int, ...]
    offset: int
    dtype: np.dtype


@dataclass(frozen=True)
class Gather:
    """As `Load`, further moved by `index` (an instruction of integer type) * `scale`. Negative indices are the maker's
    business; the index is trusted."""

    slot: int
    strides: tuple[int, ...]
    offset: int
    dtype: np.dtype
    index: int
    scale: int


@dataclass(frozen=True)
class Number:
    """A constant."""

    value: Any
    dtype: np.dtype


@dataclass(frozen=True)
class Position:
    """The index along one dimension of the space (int64)."""

    dim: int


@dataclass(frozen=True)
class Cast:
    """Conversion to another type, as NumPy's `astype` (to bool: not equal to zero)."""

    value: int
    dtype: np.dtype


@dataclass(frozen=True)
class Apply:
    """The elementwise primitive `op` (its `.scalar` rule) on earlier instructions; `dtype` is that of the result.

    Arguments already have the type the rule computes in (the fusion pass inserts the `Cast`s of type promotion).
    `attrs` are sorted (name, value) pairs.
    """

    op: str
    args: tuple[int, ...]
    attrs: tuple[tuple[str, Any], ...]
    dtype: np.dtype


@dataclass(frozen=True)
class Reduce:
    """The reduction of an instruction over the last `inner` dimensions: "sum", "prod", "max", "min", "any" or "all".

    max and min return nan where there is one, as NumPy's. Sums of float32 may be taken in any order (several
    accumulators), accumulating in float32 over blocks or in float64.
    """

    kind: str
    value: int
    dtype: np.dtype


@dataclass(frozen=True)
class Store:
    """Write an instruction's value into buffer `slot`. With stride 0 along all inner dimensions it is written once."""

    slot: int
    strides: tuple[int, ...]
    offset: int
    value: int
    dtype: np.dtype


Instruction = Load | Gather | Number | Position | Cast | Apply | Reduce | Store


@dataclass(frozen=True)
class Kernel:
    """One loop nest over `shape`; hashable: equal kernels share machine code.

    `slots` is the number of buffers. The same memory under two slots is not allowed; one slot may be both loaded and
    stored if every point loads what only that point stores (update in place).
    """

    shape: tuple[int, ...]
    inner: int
    body: tuple[Instruction, ...]
    slots: int

    def __repr__(self) -> str:
        """All that it says, without the time that NumPy takes to print a dtype: keys of caches are made of this."""
        body = "; ".join(
            f"{type(i).__name__} {[v.str if isinstance(v, np.dtype) else v for v in vars(i).values()]}"
            for i in self.body
        )
        return f"Kernel({self.shape}, {self.inner}, {self.slots}: {body})"
