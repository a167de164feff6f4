"""What a workload is made of, and the loop of the tutorials: zero_grad, forward, loss, backward, step."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Function = Callable[..., Any]


@dataclass
class Work:
    """One unit of work: `step(*batch)` returns a tensor that depends on all of it (the loss, or the output).

    `owners` are the modules and optimizers whose state the work changes: what `check` compares.
    """

    step: Function
    batches: Sequence[tuple[Any, ...]]
    owners: Sequence[Any]

    def state(self) -> dict[str, Any]:
        """Every tensor of the owners' `state_dict`s under a dotted name."""
        return {
            name: value
            for number, owner in enumerate(self.owners)
            for name, value in _tensors(owner.state_dict() if hasattr(owner, "state_dict") else owner, str(number))
        }

    def feed(self, step: Function) -> Callable[[], Any]:
        """`step` without arguments: the batches in turn, for ever."""
        batches = itertools.cycle(self.batches)
        return lambda: step(*next(batches))


def _tensors(tree: Any, name: str) -> Iterable[tuple[str, Any]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _tensors(value, f"{name}.{key}")
    elif isinstance(tree, (list, tuple)):
        for key, value in enumerate(tree):
            yield from _tensors(value, f"{name}.{key}")
    elif hasattr(tree, "detach"):
        yield name, tree


def compiled(
    torch: Any, build: Function, kind: str, compile: Function | None, pieces: bool
) -> tuple[Function, Function]:
    """The work of `build` as a function of no arguments, and the step in it: eager, compiled whole, or in `pieces`."""
    in_pieces = pieces and kind == "train"
    work = build(torch, compile if in_pieces else None)
    step = compile(work.step) if compile and not in_pieces else work.step
    return work.feed(without_gradient(torch, step) if kind == "infer" else step), step


def without_gradient(torch: Any, forward: Function) -> Function:
    """`forward` under no_grad, which stands outside of what is compiled, as users write it."""

    def step(batch: Any) -> Any:
        with torch.no_grad():
            return forward(batch)

    return step


def training_step(loss_of: Function, optimizer: Any, part: Function | None = None) -> Function:
    """The tutorials' step on one batch. `part` compiles forward with loss, and apart the update."""
    update = optimizer.step
    if part:
        loss_of, update = part(loss_of), part(lambda: optimizer.step())

    def step(*batch: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_of(*batch)
        loss.backward()
        update()
        return loss

    return step
