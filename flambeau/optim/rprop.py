"""Resilient backpropagation."""

from __future__ import annotations

from typing import Any

from flambeau.core.tensor import Tensor
from flambeau.ops.creation import full_like, zeros_like
from flambeau.optim.optimizer import Algorithm, ParamsT, advance, check_lr, counter, number

__all__ = ["Rprop"]


class Rprop(Algorithm):
    """Rprop: every weight has its own step size and looks only at the sign of its gradient.

    Where the sign stays, the step size grows by etas[1]; where it turns, it shrinks by etas[0] and the weight waits
    one step. Step sizes stay within `step_sizes`. For full-batch training.

    Raises: ValueError for a negative learning rate, or etas that are not 0 < eta- < 1 < eta+.
    Source: Riedmiller & Braun 1993, "A direct adaptive method for faster backpropagation learning", in the
    variant without weight-backtracking (iRprop-).
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_lr(lr)
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise ValueError(f"Invalid eta values: {etas[0]}, {etas[1]}")
        defaults = {
            "lr": lr,
            "etas": etas,
            "step_sizes": step_sizes,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    def initial_state(self, param: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        lr = number(group["lr"])
        step_size = full_like(param, complex(lr, lr) if param.is_complex() else lr)
        return {"step": counter(0), "prev": zeros_like(param), "step_size": step_size}

    def update(self, group: dict[str, Any]) -> None:
        eta_minus, eta_plus = group["etas"]
        smallest, largest = group["step_sizes"]
        for param, grad, state in self.slots(group):
            advance(state["step"])
            agreement = (grad * state["prev"]).sign()
            turned = agreement < 0
            factor = agreement.masked_fill(agreement > 0, eta_plus)
            factor = factor.masked_fill_(turned, eta_minus).masked_fill_(agreement == 0, 1)
            step_size = state["step_size"].mul_(factor).clamp_(smallest, largest)
            grad = grad.masked_fill(turned, 0)
            param.addcmul_(grad.sign(), step_size, value=-1)
            state["prev"].copy_(grad)
