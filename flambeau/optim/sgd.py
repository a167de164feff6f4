"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any

from flambeau.core import recording
from flambeau.core.tensor import Tensor
from flambeau.optim.optimizer import Algorithm, ParamsT, check_fused, check_lr, check_not_negative

__all__ = ["SGD"]


class SGD(Algorithm):
    """Stochastic gradient descent, optionally with (Nesterov) momentum.

    With momentum mu, dampening tau and weight decay lambda:

        g = grad + lambda * p
        b = mu * b + (1 - tau) * g          (the first b is g)
        p = p - lr * b                      (Nesterov: p - lr * (g + mu * b))

    Raises: ValueError for negative options, and for nesterov without momentum or with dampening.
    Source: Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning", with the
    learning rate outside of the velocity.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float | Tensor = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_lr(lr)
        check_not_negative("momentum", momentum)
        check_not_negative("weight_decay", weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)
        check_fused(fused, foreach, differentiable)

    def update(self, group: dict[str, Any]) -> None:
        lr, weight_decay = group["lr"], group["weight_decay"]
        momentum, dampening, nesterov = group["momentum"], group["dampening"], group["nesterov"]
        for param, grad in self.gradients(group):
            if weight_decay != 0:
                if isinstance(weight_decay, Tensor):
                    grad = grad + weight_decay * param
                else:
                    grad = grad.add(param, alpha=weight_decay)
            if momentum != 0:
                velocity = self._velocity(param, grad, momentum, dampening)
                grad = grad.add(velocity, alpha=momentum) if nesterov else velocity
            if isinstance(lr, Tensor):
                param.sub_(grad * lr)
            else:
                param.add_(grad, alpha=-lr)

    def _velocity(self, param: Tensor, grad: Tensor, momentum: float, dampening: float) -> Tensor:
        state = self.state[param]
        velocity = state.get("momentum_buffer")
        if velocity is None:
            velocity = state["momentum_buffer"] = grad.detach().clone()
            recording.state_made()
            return velocity
        return velocity.mul_(momentum).add_(grad, alpha=1 - dampening)
