"""RAdam: Adam that waits until its second moment can be trusted."""

from __future__ import annotations

from typing import Any

from flambeau.core.tensor import Tensor
from flambeau.ops.creation import zeros_like
from flambeau.optim.optimizer import (
    Algorithm,
    ParamsT,
    advance,
    check_betas,
    check_lr,
    check_not_negative,
    counter,
    number,
    sqrt_plus,
)

__all__ = ["RAdam"]


class RAdam(Algorithm):
    """Adam with a rectified variance: plain momentum in the first steps, then Adam scaled by r(t) < 1.

        rho_inf = 2 / (1 - beta2) - 1
        rho(t) = rho_inf - 2 t beta2^t / (1 - beta2^t)
        r(t) = sqrt((rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho))        where rho(t) > 5

    Raises: ValueError for options out of range.
    Source: Liu et al. 2020, "On the variance of the adaptive learning rate and beyond", algorithm 2.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
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
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "decoupled_weight_decay": decoupled_weight_decay,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def initial_state(self, param: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        return {"step": counter(0), "exp_avg": zeros_like(param), "exp_avg_sq": zeros_like(param)}

    def update(self, group: dict[str, Any]) -> None:
        lr, eps = number(group["lr"]), group["eps"]
        weight_decay, decoupled = group["weight_decay"], group["decoupled_weight_decay"]
        beta1, beta2 = group["betas"]
        for param, grad, state in self.slots(group):
            t = advance(state["step"])
            m, v = state["exp_avg"], state["exp_avg_sq"]
            if weight_decay != 0:
                if decoupled:
                    param.mul_(1 - lr * weight_decay)
                else:
                    grad = grad.add(param, alpha=weight_decay)
            m.lerp_(grad, 1 - beta1)
            v.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
            step_size = lr / (1 - beta1**t)
            rectification = _rectification(t, beta2)
            if rectification is None:
                param.add_(m, alpha=-step_size)
            else:
                scale = rectification * (1 - beta2**t) ** 0.5
                param.addcdiv_(m, sqrt_plus(v, eps), value=-step_size * scale)


def _rectification(t: float, beta2: float) -> float | None:
    """r(t), or None while the variance of the second moment is not yet tractable."""
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
    if rho <= 5:
        return None
    return ((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)) ** 0.5
