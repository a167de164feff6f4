"""Adagrad."""

from __future__ import annotations

from typing import Any

from flambeau.core.tensor import Tensor
from flambeau.ops.creation import full_like
from flambeau.optim.optimizer import (
    Algorithm,
    ParamsT,
    advance,
    check_fused,
    check_lr,
    check_not_negative,
    counter,
    number,
    sqrt_plus,
)

__all__ = ["Adagrad"]


class Adagrad(Algorithm):
    """Adagrad: the gradient over the root of the sum of all its squares.

        s = s + g^2
        p = p - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps)

    Raises: ValueError for negative options.
    Source: Duchi, Hazan & Singer 2011, "Adaptive subgradient methods for online learning and stochastic
    optimization", the diagonal form.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_lr(lr)
        check_not_negative("lr_decay", lr_decay)
        check_not_negative("weight_decay", weight_decay)
        check_not_negative("initial_accumulator_value", initial_accumulator_value)
        check_not_negative("epsilon", eps)
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)
        check_fused(fused, foreach, differentiable)

    def share_memory(self) -> None:
        """Move the sums to memory that other processes can write to."""
        for group in self.param_groups:
            for param in group["params"]:
                if param in self.state:
                    self.state[param]["sum"].share_memory_()

    def initial_state(self, param: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        start = self.defaults["initial_accumulator_value"]
        return {"step": counter(0), "sum": full_like(param, complex(start, start) if param.is_complex() else start)}

    def update(self, group: dict[str, Any]) -> None:
        lr, lr_decay = number(group["lr"]), group["lr_decay"]
        weight_decay, eps = group["weight_decay"], group["eps"]
        for param, grad, state in self.slots(group):
            t = advance(state["step"])
            if weight_decay != 0:
                grad = grad.add(param, alpha=weight_decay)
            squares = state["sum"].addcmul_(grad, grad)
            param.addcdiv_(grad, sqrt_plus(squares, eps), value=-lr / (1 + (t - 1) * lr_decay))
