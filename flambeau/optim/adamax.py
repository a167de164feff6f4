"""Adamax: Adam with the infinity norm."""

from __future__ import annotations

from typing import Any

from flambeau.core.tensor import Tensor
from flambeau.ops.creation import zeros_like
from flambeau.ops.pointwise import maximum
from flambeau.optim.optimizer import (
    Algorithm,
    ParamsT,
    advance,
    check_betas,
    check_lr,
    check_not_negative,
    counter,
    number,
)

__all__ = ["Adamax"]


class Adamax(Algorithm):
    """Adam whose second moment is the largest gradient seen, slowly forgotten.

        m = beta1 * m + (1 - beta1) * g
        u = max(beta2 * u, |g| + eps)
        p = p - lr / (1 - beta1^t) * m / u

    Raises: ValueError for options out of range.
    Source: Kingma & Ba 2015, "Adam: a method for stochastic optimization", algorithm 2.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        check_lr(lr)
        check_not_negative("epsilon", eps)
        check_betas(betas)
        check_not_negative("weight_decay", weight_decay)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    def initial_state(self, param: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        return {"step": counter(0), "exp_avg": zeros_like(param), "exp_inf": zeros_like(param)}

    def update(self, group: dict[str, Any]) -> None:
        lr, eps, weight_decay = number(group["lr"]), group["eps"], group["weight_decay"]
        beta1, beta2 = group["betas"]
        for param, grad, state in self.slots(group):
            t = advance(state["step"])
            m, u = state["exp_avg"], state["exp_inf"]
            if weight_decay != 0:
                grad = grad.add(param, alpha=weight_decay)
            m.lerp_(grad, 1 - beta1)
            u.copy_(maximum(u * beta2, grad.abs() + eps))
            param.addcdiv_(m, u, value=-lr / (1 - beta1**t))
