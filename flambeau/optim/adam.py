"""Adam."""

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
    check_fused,
    check_lr,
    check_not_negative,
    counter,
    number,
    sqrt_plus,
)

__all__ = ["Adam"]


class Adam(Algorithm):
    """Adam: each element of the gradient, averaged, over the root of its averaged square.

        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g^2
        p = p - lr * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)

    `weight_decay` adds a multiple of the parameter to its gradient, or, with `decoupled_weight_decay`, shrinks the
    parameter directly (AdamW). `amsgrad` divides by the largest v so far.

    Raises: ValueError for options out of range; RuntimeError for `fused` together with `foreach` or `differentiable`.
    Source: Kingma & Ba 2015, "Adam: a method for stochastic optimization", algorithm 1 in the order of section 2;
    amsgrad: Reddi et al. 2018, "On the convergence of Adam and beyond".
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        check_lr(lr)
        self._check_tensor_options(lr, betas, foreach=foreach, capturable=capturable)
        if not 0.0 <= eps:
            raise ValueError(f"Invalid epsilon value: {eps}")
        check_betas(betas)
        check_not_negative("weight_decay", weight_decay)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)
        check_fused(fused, foreach, differentiable)

    @staticmethod
    def _check_tensor_options(lr: Any, betas: Any, *, foreach: bool | None, capturable: bool) -> None:
        if isinstance(betas[0], Tensor) != isinstance(betas[1], Tensor):
            raise ValueError("betas must be either both floats or both Tensors")
        for name, option in (("lr", lr), ("betas[0]", betas[0]), ("betas[1]", betas[1])):
            if isinstance(option, Tensor):
                if foreach and not capturable:
                    raise ValueError(f"{name} as a Tensor is not supported for capturable=False and foreach=True")
                if option.numel() != 1:
                    raise ValueError(f"Tensor {name} must be 1-element, got shape {tuple(option.shape)}")

    def initial_state(self, param: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        state = {"step": counter(0), "exp_avg": zeros_like(param), "exp_avg_sq": zeros_like(param)}
        if group["amsgrad"]:
            state["max_exp_avg_sq"] = zeros_like(param)
        return state

    def update(self, group: dict[str, Any]) -> None:
        lr = group["lr"] if group["differentiable"] else number(group["lr"])
        beta1, beta2 = map(number, group["betas"])
        eps, amsgrad = group["eps"], group["amsgrad"]
        weight_decay, decoupled = group["weight_decay"], group["decoupled_weight_decay"]
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
            if amsgrad:
                v = state["max_exp_avg_sq"].copy_(maximum(state["max_exp_avg_sq"], v))
            # The corrections are numbers: m and v stay as they are, and eps takes v's correction instead.
            v_correction = (1 - beta2**t) ** 0.5
            step_size = lr * v_correction / (1 - beta1**t)
            denominator = sqrt_plus(v, eps * v_correction)
            if isinstance(step_size, Tensor):
                param.sub_(step_size * (m / denominator))
            else:
                param.addcdiv_(m, denominator, value=-step_size)
