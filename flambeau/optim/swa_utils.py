"""Averages of a model's weights along the training, and the schedule that goes with them."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

from flambeau.autograd.modes import no_grad
from flambeau.core.dtype import int64
from flambeau.core.tensor import Tensor
from flambeau.nn.layers.batchnorm import _BatchNorm
from flambeau.nn.module import Module
from flambeau.ops.creation import tensor
from flambeau.optim.lr_scheduler.base import LRScheduler, per_group
from flambeau.optim.optimizer import Optimizer

__all__ = [
    "SWALR",
    "AveragedModel",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
    "update_bn",
]

AverageFn = Callable[[Tensor, Tensor, Any], Tensor]  # (average, new value, how many are averaged) -> average
MultiAverageFn = Callable[[list[Tensor], list[Tensor], Any], None]  # the same for lists, in place


def get_ema_avg_fn(decay: float = 0.999) -> AverageFn:
    """Exponential moving average: decay * average + (1 - decay) * value. ValueError unless 0 <= decay <= 1."""
    _check_decay(decay)

    @no_grad()
    def ema_update(average: Tensor, value: Tensor, num_averaged: Any) -> Tensor:
        return decay * average + (1 - decay) * value

    return ema_update


def get_ema_multi_avg_fn(decay: float = 0.999) -> MultiAverageFn:
    """The exponential moving average for lists of tensors, in place. ValueError unless 0 <= decay <= 1."""
    _check_decay(decay)

    @no_grad()
    def ema_update(averages: list[Tensor], values: list[Tensor], num_averaged: Any) -> None:
        for average, value in zip(averages, values):
            _move_average(average, value, 1 - decay)

    return ema_update


def get_swa_avg_fn() -> AverageFn:
    """Equal weight for everything averaged: average + (value - average) / (num_averaged + 1)."""

    @no_grad()
    def swa_update(average: Tensor, value: Tensor, num_averaged: Any) -> Tensor:
        return average + (value - average) / (num_averaged + 1)

    return swa_update


def get_swa_multi_avg_fn() -> MultiAverageFn:
    """The equally weighted average for lists of tensors, in place."""

    @no_grad()
    def swa_update(averages: list[Tensor], values: list[Tensor], num_averaged: Any) -> None:
        for average, value in zip(averages, values):
            _move_average(average, value, 1 / (float(num_averaged) + 1))

    return swa_update


def _check_decay(decay: float) -> None:
    if not 0.0 <= decay <= 1.0:
        raise ValueError(f"Invalid decay value {decay} provided. Please provide a value in [0,1] range.")


def _move_average(average: Tensor, value: Tensor, weight: float) -> None:
    if average.is_floating_point() or average.is_complex():
        average.lerp_(value, weight)
    else:  # a counter, say: the average is rounded towards zero
        average.copy_(average * (1 - weight) + value * weight)


class AveragedModel(Module):
    """A copy of a model, in `module`, whose parameters are averages: call `update_parameters` when the model moved.

    The default weighs all updates equally (SWA); `avg_fn` or `multi_avg_fn` say otherwise. With `use_buffers` the
    buffers are averaged as well, otherwise they follow the model: see `update_bn`. `n_averaged` counts updates.

    Raises: AssertionError if both functions are given.
    Source: Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization".
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: AverageFn | None = None,
        multi_avg_fn: MultiAverageFn | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", tensor(0, dtype=int64, device=device))
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The averaged model's forward."""
        return self.module(*args, **kwargs)

    @no_grad()
    def update_parameters(self, model: Module) -> None:
        """Include the present weights of `model`; the first time they are copied."""
        averages, values = self._averaged_tensors(self.module), self._averaged_tensors(model)
        count = int(self.n_averaged)
        if count == 0:
            for average, value in zip(averages, values):
                average.copy_(value)
        elif self.avg_fn is not None:
            for average, value in zip(averages, values):
                average.copy_(self.avg_fn(average, value, self.n_averaged))
        else:
            update = self.multi_avg_fn or get_swa_multi_avg_fn()
            for same_type in _by_dtype(averages, values):
                update(*same_type, self.n_averaged)
        if not self.use_buffers:
            for average, value in zip(self.module.buffers(), model.buffers()):
                average.copy_(value)
        self.n_averaged.add_(1)

    def _averaged_tensors(self, model: Module) -> list[Tensor]:
        tensors = itertools.chain(model.parameters(), model.buffers()) if self.use_buffers else model.parameters()
        return [tensor.detach() for tensor in tensors]


def _by_dtype(averages: list[Tensor], values: list[Tensor]) -> Iterable[tuple[list[Tensor], list[Tensor]]]:
    groups: dict[Any, tuple[list[Tensor], list[Tensor]]] = {}
    for average, value in zip(averages, values):
        group = groups.setdefault(average.dtype, ([], []))
        group[0].append(average)
        group[1].append(value)
    return groups.values()


@no_grad()
def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Compute the running statistics of all batch-norm layers anew, as cumulative averages over `loader`.

    A batch is a tensor, or a list or tuple whose first item is the model's input.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
    was_training = model.training
    model.train()
    for batch in loader:
        input = batch[0] if isinstance(batch, (list, tuple)) else batch
        model(input if device is None else input.to(device))
    for layer, momentum in zip(layers, momenta):
        layer.momentum = momentum
    model.train(was_training)


class SWALR(LRScheduler):
    """Anneals the rate of each group to `swa_lr` within `anneal_epochs`, along a half cosine or a line; then keeps it.

    Raises: ValueError for an unknown strategy, or anneal_epochs that is no integer >= 0.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        for group, rate in zip(optimizer.param_groups, per_group("swa_lr", optimizer, swa_lr)):
            group["swa_lr"] = rate
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
        self._anneal_strategy = anneal_strategy
        self.anneal_epochs = anneal_epochs
        super().__init__(optimizer, last_epoch)

    def anneal_func(self, done: float) -> float:
        """How far towards `swa_lr`, from 0 to 1, at a fraction of the way."""
        return (1 - math.cos(math.pi * done)) / 2 if self._anneal_strategy == "cos" else done

    def get_lr(self) -> list[Any]:
        self._warn_outside_of_step()
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        before, now = self._annealed(step - 1), self._annealed(step)
        return [
            group["swa_lr"] * now + _undo_anneal(group["lr"], group["swa_lr"], before) * (1 - now)
            for group in self.optimizer.param_groups
        ]

    def _annealed(self, step: int) -> float:
        return self.anneal_func(max(0, min(1, step / max(1, self.anneal_epochs))))


def _undo_anneal(lr: Any, swa_lr: float, alpha: float) -> Any:
    """The rate that the annealing started from."""
    return swa_lr if alpha == 1 else (lr - alpha * swa_lr) / (1 - alpha)
