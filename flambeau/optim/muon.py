"""Muon: momentum, orthogonalised."""

from __future__ import annotations

from typing import Any

from flambeau.core.dtype import bfloat16
from flambeau.core.tensor import Tensor
from flambeau.ops.creation import zeros_like
from flambeau.ops.matmul import addmm
from flambeau.optim.optimizer import Algorithm, ParamsT, check_lr, number

__all__ = ["Muon"]


class Muon(Algorithm):
    """Momentum whose update is replaced by the nearest orthogonal matrix. For hidden weight matrices only.

        b = mu * b + (1 - mu) * g
        u = orthogonal((1 - mu) * g + mu * b)          (without nesterov: of b)
        p = (1 - lr * weight_decay) * p - lr' * u

    `adjust_lr_fn` says how lr' follows the shape (A, B) of the matrix: "original" (the default) multiplies by
    sqrt(max(1, A / B)), "match_rms_adamw" by 0.2 * sqrt(max(A, B)).

    Raises: ValueError for parameters that are no matrices and options out of range; RuntimeError for complex ones.
    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; the second adjustment:
    Liu et al. 2025, "Muon is scalable for LLM training".
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        check_lr(lr, "Learning rate should be >= 0 but is: {}")
        if not 0.0 <= momentum:
            raise ValueError(f"momentum should be >= 0 but is: {momentum}")
        if not 0.0 <= weight_decay:
            raise ValueError(f"weight decay should be >= 0 but is: {weight_decay}")
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ValueError(f"Adjust learning rate function {adjust_lr_fn} is not supported")
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }
        super().__init__(params, defaults)
        for group in self.param_groups:
            for param in group["params"]:
                if param.dim() != 2:
                    raise ValueError(f"Muon only supports 2D parameters, got one of size {tuple(param.shape)}")

    def initial_state(self, param: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        if param.is_complex():
            raise RuntimeError("Muon does not support complex parameters")
        return {"momentum_buffer": zeros_like(param)}

    def update(self, group: dict[str, Any]) -> None:
        lr, momentum, nesterov = group["lr"], group["momentum"], group["nesterov"]
        for param, grad, state in self.slots(group):
            velocity = state["momentum_buffer"].lerp_(grad, 1 - momentum)
            direction = grad.lerp(velocity, momentum) if nesterov else velocity
            direction = orthogonal(direction, group["ns_coefficients"], group["ns_steps"], group["eps"])
            param.mul_(1 - lr * group["weight_decay"])
            param.add_(
                direction.to(param.dtype), alpha=-number(lr * _shape_factor(group["adjust_lr_fn"], *param.shape))
            )


def orthogonal(matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """An almost orthogonal bfloat16 matrix with the singular vectors of `matrix`.

    Newton-Schulz iteration X = a X + (b (X X^T) + c (X X^T)^2) X, whose coefficients are chosen for the steepest slope
    at zero; the singular values end between 0.5 and 1.5.
    """
    if steps >= 100:
        raise ValueError(f"Number of steps must be less than 100 for computational efficiency, got {steps}")
    if len(coefficients) != 3:
        raise ValueError(f"Coefficients must be a tuple of exactly 3 values, got {len(coefficients)}")
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.to(bfloat16)
    x = x.T if tall else x
    x = x / x.norm().clamp(min=eps)  # the largest singular value is at most 1 now
    for _ in range(steps):
        gram = x @ x.T
        x = addmm(x, addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


def _shape_factor(adjust_lr_fn: str | None, rows: int, columns: int) -> float:
    if adjust_lr_fn == "match_rms_adamw":
        return 0.2 * max(rows, columns) ** 0.5
    return max(1.0, rows / columns) ** 0.5
