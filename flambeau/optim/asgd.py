"""Averaged stochastic gradient descent."""

from __future__ import annotations

from typing import Any

from flambeau.core.tensor import Tensor
from flambeau.ops.creation import zeros_like
from flambeau.optim.optimizer import (
    Algorithm,
    ParamsT,
    advance,
    check_lr,
    check_not_negative,
    counter,
    number,
    value_of,
)

__all__ = ["ASGD"]


class ASGD(Algorithm):
    """Stochastic gradient descent whose iterates are averaged, in state["ax"], from step t0 on.

        p = (1 - lambd * eta) * p - eta * g
        ax = ax + mu * (p - ax)
        eta = lr / (1 + lambd * lr * t)^alpha,   mu = 1 / max(1, t - t0)          for the next step

    Raises: ValueError for a negative learning rate or weight decay.
    Source: Polyak & Juditsky 1992, "Acceleration of stochastic approximation by averaging"; schedule of
    Bottou 2010, "Large-scale machine learning with stochastic gradient descent".
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        check_lr(lr)
        check_not_negative("weight_decay", weight_decay)
        defaults = {
            "lr": lr,
            "lambd": lambd,
            "alpha": alpha,
            "t0": t0,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    def initial_state(self, param: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        return {"step": counter(0), "eta": counter(number(group["lr"])), "mu": counter(1), "ax": zeros_like(param)}

    def update(self, group: dict[str, Any]) -> None:
        lr, lambd, alpha, t0 = number(group["lr"]), group["lambd"], group["alpha"], group["t0"]
        weight_decay = group["weight_decay"]
        for param, grad, state in self.slots(group):
            t = advance(state["step"])
            eta, mu, average = value_of(state["eta"]), value_of(state["mu"]), state["ax"]
            if weight_decay != 0:
                grad = grad.add(param, alpha=weight_decay)
            param.mul_(1 - lambd * eta).add_(grad, alpha=-eta)
            if mu == 1:
                average.copy_(param)
            else:
                average.add_(param - average, alpha=mu)
            state["eta"].fill_(lr / (1 + lambd * lr * t) ** alpha)
            state["mu"].fill_(1 / max(1, t - t0))
