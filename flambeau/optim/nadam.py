"""NAdam: Adam with Nesterov momentum."""

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
    value_of,
)

__all__ = ["NAdam"]


class NAdam(Algorithm):
    """Adam that looks ahead: the coming step's momentum is applied already now.

        mu(t) = beta1 * (1 - 0.96^(t * momentum_decay) / 2)
        m, v as in Adam
        m^ = mu(t+1) * m / (1 - prod mu(1..t+1)) + (1 - mu(t)) * g / (1 - prod mu(1..t))
        p = p - lr * m^ / (sqrt(v / (1 - beta2^t)) + eps)

    Raises: ValueError for options out of range.
    Source: Dozat 2016, "Incorporating Nesterov momentum into Adam", algorithm 2.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
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
        check_not_negative("momentum_decay", momentum_decay)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def initial_state(self, param: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        return {
            "step": counter(0),
            "mu_product": counter(1),
            "exp_avg": zeros_like(param),
            "exp_avg_sq": zeros_like(param),
        }

    def update(self, group: dict[str, Any]) -> None:
        lr, eps, momentum_decay = number(group["lr"]), group["eps"], group["momentum_decay"]
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
            mu = beta1 * (1.0 - 0.5 * 0.96 ** (t * momentum_decay))
            mu_next = beta1 * (1.0 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))
            mu_product = value_of(state["mu_product"].mul_(mu))
            m.lerp_(grad, 1 - beta1)
            v.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
            denominator = sqrt_plus(v / (1 - beta2**t), eps)
            param.addcdiv_(grad, denominator, value=-lr * (1 - mu) / (1 - mu_product))
            param.addcdiv_(m, denominator, value=-lr * mu_next / (1 - mu_product * mu_next))
