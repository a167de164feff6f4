"""What all schedulers share: the first rate, the step, the order of steps, checkpoints."""

from __future__ import annotations

import functools
import types
import warnings
import weakref
from collections.abc import Callable
from typing import Any

from flambeau.core.tensor import Tensor
from flambeau.optim.optimizer import Optimizer

EPOCH_DEPRECATION_WARNING = (
    "`scheduler.step(epoch)` is deprecated: call `scheduler.step()`. With an epoch the closed form of the schedule is "
    "used where there is one."
)


class LRScheduler:
    """Base class of schedules: adjusts the learning rate of every parameter group once per `step()`.

    Subclasses define `get_lr`, the rates of the groups at `self.last_epoch`, usually from the present ones, so that
    several schedulers can work on one optimizer. The constructor sets the rate of the first epoch.

    `last_epoch` is -1 for a fresh start; otherwise the groups must have "initial_lr" (KeyError).
    """

    _get_lr_called_within_step = False
    _is_initial = False

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = check_optimizer(optimizer)
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", copied(group["lr"]))
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{i}] when resuming scheduler with "
                    f"last_epoch = {last_epoch}: load the optimizer's state first, or start with last_epoch = -1"
                )
        self.base_lrs = group_values(optimizer, "initial_lr")
        self.last_epoch = last_epoch
        _note_steps_of(optimizer)
        self._initial_step()

    def _initial_step(self) -> None:
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    def get_last_lr(self) -> list[Any]:
        """The learning rates that the last step set, one per group."""
        return self._last_lr

    def get_lr(self) -> list[Any]:
        """The learning rates for `self.last_epoch`; to be called by `step` only."""
        raise NotImplementedError

    def step(self, epoch: int | None = None) -> None:
        """Go on to the next epoch (or, deprecated, to the given one) and set its learning rates."""
        if self._step_count == 1:
            self._warn_if_optimizer_is_behind()
        self._step_count += 1
        if epoch is not None:
            warnings.warn(EPOCH_DEPRECATION_WARNING, UserWarning, stacklevel=2)
        self._update_lr(epoch)

    def _update_lr(self, epoch: int | None = None) -> None:
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        closed_form = None if epoch is None else getattr(self, "_get_closed_form_lr", None)
        self._get_lr_called_within_step = True
        try:
            rates = self.get_lr() if closed_form is None else closed_form()
        finally:
            self._get_lr_called_within_step = False
        self._set_rates(rates)

    def _set_rates(self, rates: list[Any]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates):
            set_group_value(group, "lr", rate)
        self._last_lr = group_values(self.optimizer, "lr")

    def _warn_if_optimizer_is_behind(self) -> None:
        if not hasattr(self.optimizer.step, "_wrapped_by_lr_sched"):
            warnings.warn(
                "Seems like `optimizer.step()` has been overridden after learning rate scheduler initialization. "
                "Please, make sure to call `optimizer.step()` before `lr_scheduler.step()`.",
                UserWarning,
                stacklevel=3,
            )
        elif not getattr(self.optimizer, "_opt_called", False):
            warnings.warn(
                "Detected call of `lr_scheduler.step()` before `optimizer.step()`: call them in the opposite order. "
                "Otherwise the first value of the learning rate schedule is skipped.",
                UserWarning,
                stacklevel=3,
            )

    def _warn_outside_of_step(self) -> None:
        if not self._get_lr_called_within_step:
            warnings.warn(
                "To get the last learning rate computed by the scheduler, please use `get_last_lr()`.",
                UserWarning,
                stacklevel=3,
            )

    def _scaled(self, factor: float) -> list[Any]:
        """The present learning rates times a factor."""
        return [group["lr"] * factor for group in self.optimizer.param_groups]

    def _unchanged(self) -> list[Any]:
        """The present learning rates."""
        return group_values(self.optimizer, "lr")

    def state_dict(self) -> dict[str, Any]:
        """All attributes but the optimizer."""
        return {name: value for name, value in self.__dict__.items() if name != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a dict made by `state_dict`."""
        self.__dict__.update(state_dict)


class _LRScheduler(LRScheduler):
    """The name of the base class in older programs."""


def check_optimizer(optimizer: Any) -> Optimizer:
    """TypeError unless this is an optimizer."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
    return optimizer


def copied(value: Any) -> Any:
    """A value that the owner may write to without changing ours."""
    return value.clone() if isinstance(value, Tensor) else value


def group_values(optimizer: Optimizer, option: str) -> list[Any]:
    """An option of every parameter group; tensors are copied."""
    return [copied(group[option]) for group in optimizer.param_groups]


def set_group_value(group: dict[str, Any], option: str, value: Any) -> None:
    """Set an option; one that is a tensor is written to, so that those who hold it see the change."""
    if isinstance(group[option], Tensor):
        group[option].fill_(value)
    else:
        group[option] = value


def per_group(name: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """One value for each group from a number or a list. ValueError if the list has another length."""
    count = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [copied(value) for _ in range(count)]
    if len(value) != count:
        raise ValueError(
            f"{name} must have the same length as optimizer.param_groups. "
            f"{name} has {len(value)} values, param_groups has {count}."
        )
    return [copied(item) for item in value]


def state_of_callable(function: Any) -> dict[str, Any] | None:
    """What a checkpoint keeps of a user's function: the attributes of a callable object, nothing of a function."""
    return None if isinstance(function, types.FunctionType) else function.__dict__.copy()


def _note_steps_of(optimizer: Optimizer) -> None:
    """Let the optimizer's `step` leave a mark, so that a scheduler notices when it is stepped first."""
    step = optimizer.step
    if hasattr(step, "_wrapped_by_lr_sched"):
        return
    function: Callable = step.__func__  # type: ignore[attr-defined]
    reference = weakref.ref(optimizer)  # the mark must not keep the optimizer alive

    @functools.wraps(function)
    def marked_step(*args: Any, **kwargs: Any) -> Any:
        optimizer = reference()
        optimizer._opt_called = True  # type: ignore[union-attr]
        return function(optimizer, *args, **kwargs)

    marked_step._wrapped_by_lr_sched = True  # type: ignore[attr-defined]
    optimizer.step = marked_step  # type: ignore[method-assign]
