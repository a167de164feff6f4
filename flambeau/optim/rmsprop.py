"""RMSprop."""

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
    sqrt_plus,
)

__all__ = ["RMSprop"]


class RMSprop(Algorithm):
    """RMSprop: the gradient over the root of its averaged square.

        s = alpha * s + (1 - alpha) * g^2
        p = p - lr * g / (sqrt(s) + eps)

    `centered` subtracts the square of the averaged gradient from s (an estimate of the variance); `momentum` averages
    the quotient before it is applied.

    Raises: ValueError for negative options.
    Source: Tieleman & Hinton 2012, Coursera lecture 6.5; centered: Graves 2013, "Generating sequences with recurrent
    neural networks", equations 38-45.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_lr(lr)
        check_not_negative("epsilon", eps)
        check_not_negative("momentum", momentum)
        check_not_negative("weight_decay", weight_decay)
        check_not_negative("alpha", alpha)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "capturable": capturable,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def initial_state(self, param: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        state = {"step": counter(0), "square_avg": zeros_like(param)}
        if group["momentum"] > 0:
            state["momentum_buffer"] = zeros_like(param)
        if group["centered"]:
            state["grad_avg"] = zeros_like(param)
        return state

    def update(self, group: dict[str, Any]) -> None:
        lr, alpha, eps = number(group["lr"]), group["alpha"], group["eps"]
        weight_decay, momentum, centered = group["weight_decay"], group["momentum"], group["centered"]
        for param, grad, state in self.slots(group):
            advance(state["step"])
            if weight_decay != 0:
                grad = grad.add(param, alpha=weight_decay)
            variance = state["square_avg"].mul_(alpha).addcmul_(grad, grad, value=1 - alpha)
            if centered:
                mean = state["grad_avg"].lerp_(grad, 1 - alpha)
                variance = variance.addcmul(mean, mean, value=-1)
            deviation = sqrt_plus(variance, eps)
            if momentum > 0:
                velocity = state["momentum_buffer"].mul_(momentum).addcdiv_(grad, deviation)
                param.add_(velocity, alpha=-lr)
            else:
                param.addcdiv_(grad, deviation, value=-lr)
