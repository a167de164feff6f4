"""Borrowing an optimizer's rule for other parameters and another state."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from flambeau.core.tensor import Tensor
from flambeau.optim.optimizer import Optimizer

__all__ = ["swap_in_optimizer_params_and_state"]


@contextlib.contextmanager
def swap_in_optimizer_params_and_state(
    optimizer: Optimizer, swapin_parameters: dict[str, Tensor], swapin_optim_state: dict[str, Any]
) -> Iterator[None]:
    """Within the context the optimizer works on these parameters, with this state and these options.

    `swapin_parameters` come in the order of the optimizer's own; `swapin_optim_state` has the form of `state_dict()`.
    In-place changes reach both; everything else is undone at the end.

    Raises: RuntimeError if the optimizer has no state yet, or if groups, options or numbers of parameters differ.
    """
    groups = _checked_groups(optimizer, swapin_optim_state)
    parameters = iter(swapin_parameters.values())
    swapped_groups: list[dict[str, Any]] = []
    state: defaultdict[Any, Any] = defaultdict(dict)
    for group in groups:
        try:
            params = [next(parameters) for _ in group["params"]]
        except StopIteration:
            raise RuntimeError(
                f"the optimizer has more parameters than the {len(swapin_parameters)} to be swapped in"
            ) from None
        swapped_groups.append({**group, "params": params})
        for param, number in zip(params, group["params"]):
            state[param] = dict(swapin_optim_state["state"].get(number, {}))

    own_state, own_groups = optimizer.state, [dict(group) for group in optimizer.param_groups]
    try:
        for group, swapped in zip(optimizer.param_groups, swapped_groups):
            group.update(swapped)
        optimizer.state = state
        yield
    finally:
        for group, own in zip(optimizer.param_groups, own_groups):
            group.clear()
            group.update(own)
        optimizer.state = own_state


def _checked_groups(optimizer: Optimizer, saved: Any) -> list[dict[str, Any]]:
    """The groups of a state dict that fits the optimizer."""
    if not optimizer.state:
        raise RuntimeError("the optimizer has no state yet: take a step, or load a state_dict, first")
    groups = saved.get("param_groups") if isinstance(saved, dict) else None
    if not isinstance(groups, list) or not isinstance(saved.get("state"), dict):
        raise RuntimeError("the state to be swapped in must be a dict as `state_dict()` makes it")
    if len(groups) != len(optimizer.param_groups):
        raise RuntimeError(
            f"{len(groups)} parameter groups to be swapped in, the optimizer has {len(optimizer.param_groups)}"
        )
    for i, (own, group) in enumerate(zip(optimizer.param_groups, groups)):
        if not isinstance(group, dict) or set(group) != set(own):
            raise RuntimeError(f"group {i} to be swapped in has other options than the optimizer's: {sorted(own)}")
        if len(group["params"]) != len(own["params"]):
            raise RuntimeError(
                f"group {i} to be swapped in has {len(group['params'])} parameters, "
                f"the optimizer's {len(own['params'])}"
            )
    unknown = set(saved["state"]) - {number for group in groups for number in group["params"]}
    if unknown:
        raise RuntimeError(f"the state to be swapped in belongs to no parameter: {sorted(unknown, key=str)}")
    return groups
