"""One form for kernels that mean the same, so that they share code: the updates of sixty parameters, say.

Graphs list the same computation in different orders, because values were made or found in memory in different orders.
Here the order follows from what is computed alone.
"""

from __future__ import annotations

import functools
from typing import Any

from flambeau.compiler.kernel import Apply, Gather, Kernel, Load, Number, Position, Reduce, Store
from flambeau.compiler.lower.nest import operands, with_operands
from flambeau.core.digest import blake2b


@functools.lru_cache(256)  # many a graph has the same update for parameters of one shape
def canonical(kernel: Kernel) -> tuple[Kernel, tuple[int, ...]]:
    """The kernel with instructions and slots in an order of their own and nothing unused.

    Returns: the kernel, and for each of its slots the number of the slot it was.
    """
    likeness = _likenesses(kernel)
    stores = [i for i, made in enumerate(kernel.body) if isinstance(made, Store)]
    body: list[Any] = []
    renamed: dict[int, int] = {}
    slots: dict[int, int] = {}

    def take(i: int) -> None:
        if i in renamed:
            return
        for j in operands(kernel.body[i]):
            take(j)
        made: Any = with_operands(kernel.body[i], renamed)
        if isinstance(made, (Load, Gather, Store)):
            slot = slots.setdefault(made.slot, len(slots))
            made = made if slot == made.slot else made.but(slot=slot)
        renamed[i] = len(body)
        body.append(made)

    for i in sorted(stores, key=lambda i: likeness[i]):
        for j in operands(kernel.body[i]):
            take(j)
    for i in sorted(stores, key=lambda i: likeness[i]):
        take(i)
    return Kernel(kernel.shape, kernel.inner, tuple(body), len(slots)), tuple(slots)


def _likenesses(kernel: Kernel) -> list[bytes]:
    """A digest of each instruction with all it needs; sizes and places in memory are left out."""
    out: list[bytes] = []
    for i in kernel.body:
        own: Any = ""
        if isinstance(i, Apply):
            own = (i.op, i.attrs)
        elif isinstance(i, (Load, Gather)):
            own = any(i.strides)
        elif isinstance(i, Number):
            own = repr(i.value)
        elif isinstance(i, Reduce):
            own = i.kind
        dtype = "" if isinstance(i, Position) else i.dtype.str
        facts = f"{type(i).__name__} {dtype} {own} ".encode() + b"".join([out[j] for j in operands(i)])
        out.append(blake2b(facts, digest_size=12).digest())
    return out
