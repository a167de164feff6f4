"""One form for kernels that mean the same, so that they share code: the updates of sixty parameters, say.

Graphs list the same computation in different orders, because values were made or found in memory in different orders.
Here the order follows from what is computed alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from flambeau.compiler.kernel import Gather, Kernel, Load, Store
from flambeau.compiler.lower.nest import operands, with_operands


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
            made = replace(made, slot=slots.setdefault(made.slot, len(slots)))
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
        facts: list[Any] = [type(i).__name__, *(out[j] for j in operands(i))]
        facts += [getattr(i, name) for name in ("op", "attrs", "kind", "value") if _is_fact(i, name)]
        if not hasattr(i, "dim"):
            facts.append(i.dtype.str)
        if isinstance(i, (Load, Gather)):
            facts.append(any(i.strides))
        out.append(hashlib.blake2b(repr(facts).encode(), digest_size=12).digest())
    return out


def _is_fact(instruction: Any, name: str) -> bool:
    """Whether a field says what is computed (`value` of most instructions is the number of another one)."""
    return hasattr(instruction, name) and (name != "value" or not operands(instruction))
