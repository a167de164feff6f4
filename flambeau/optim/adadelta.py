"""Adadelta."""

from __future__ import annotations

from typing import Any

from flambeau.core.tensor import Tensor
from flambeau.ops.creation import zeros_like
from flambeau.optim.optimizer import Algorithm, ParamsT, advance, check_lr, check_not_negative, counter, number

__all__ = ["Adadelta"]


class Adadelta(Algorithm):
    """Adadelta: steps in the units of the parameter, without a learning rate of their own.

        s = rho * s + (1 - rho) * g^2
        d = sqrt(a + eps) / sqrt(s + eps) * g
        a = rho * a + (1 - rho) * d^2
        p = p - lr * d

    Raises: ValueError for negative options, and rho above 1.
    Source: Zeiler 2012, "ADADELTA: an adaptive learning rate method", algorithm 1.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_lr(lr)
        if not 0.0 <= rho <= 1.0:
            raise ValueError(f"Invalid rho value: {rho}")
        check_not_negative("epsilon", eps)
        check_not_negative("weight_decay", weight_decay)
        defaults = {
            "lr": lr,
            "rho": rho,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "capturable": capturable,
            "foreach": foreach,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def initial_state(self, param: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        return {"step": counter(0), "square_avg": zeros_like(param), "acc_delta": zeros_like(param)}

    def update(self, group: dict[str, Any]) -> None:
        lr, rho, eps, weight_decay = number(group["lr"]), group["rho"], group["eps"], group["weight_decay"]
        for param, grad, state in self.slots(group):
            advance(state["step"])
            squares, delta_squares = state["square_avg"], state["acc_delta"]
            if weight_decay != 0:
                grad = grad.add(param, alpha=weight_decay)
            squares.mul_(rho).addcmul_(grad, grad, value=1 - rho)
            delta = (delta_squares + eps).sqrt() / (squares + eps).sqrt() * grad
            delta_squares.mul_(rho).addcmul_(delta, delta, value=1 - rho)
            param.add_(delta, alpha=-lr)
