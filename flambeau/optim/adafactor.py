"""Adafactor: a second moment in two vectors instead of a matrix."""

from __future__ import annotations

from typing import Any

from flambeau.core.dtype import finfo
from flambeau.core.tensor import Tensor
from flambeau.ops.creation import zeros_like
from flambeau.ops.pointwise import where
from flambeau.optim.optimizer import Algorithm, ParamsT, advance, check_lr, counter, number

__all__ = ["Adafactor"]


class Adafactor(Algorithm):
    """Adafactor: for matrices, the averaged squares of the gradient are kept as row and column means.

    `lr` is the largest relative step size rho(t); `eps` holds the paper's eps1 (None: the dtype's epsilon) and eps2;
    `d` is the threshold at which the update is clipped.

    Raises: ValueError for options out of range; RuntimeError for complex parameters.
    Source: Shazeer & Stern 2018, "Adafactor: adaptive learning rates with sublinear memory cost", algorithms 4 and 5.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        check_lr(lr, "Learning rate should be >= 0 but is: {}")
        if not 0.0 >= beta2_decay:
            raise ValueError(f"beta2_decay should be <= 0 but is: {beta2_decay}")
        if eps[0] is not None and not 0.0 <= eps[0]:
            raise ValueError(f"epsilon1 should be >= 0 but is: {eps[0]}")
        if not 0.0 <= eps[1]:
            raise ValueError(f"epsilon2 should be >= 0 but is: {eps[1]}")
        if not 1.0 <= d:
            raise ValueError(f"Clipping threshold d should be >= 1 but is: {d}")
        if not 0.0 <= weight_decay:
            raise ValueError(f"weight_decay should be >= 0 but is: {weight_decay}")
        defaults = {
            "lr": lr,
            "beta2_decay": beta2_decay,
            "eps": eps,
            "d": d,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def initial_state(self, param: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        if param.is_complex():
            raise RuntimeError("Adafactor does not support complex parameters")
        if param.dim() < 2:
            return {"step": counter(0), "variance": zeros_like(param)}
        *batch, rows, columns = param.shape
        return {
            "step": counter(0),
            "row_var": param.new_zeros((*batch, rows, 1)),
            "col_var": param.new_zeros((*batch, 1, columns)),
        }

    def update(self, group: dict[str, Any]) -> None:
        lr, d, weight_decay = number(group["lr"]), group["d"], group["weight_decay"]
        eps1, eps2 = group["eps"]
        for param, grad, state in self.slots(group):
            t = advance(state["step"])
            smallest = finfo(param.dtype).eps if eps1 is None else eps1
            alpha = _at_least(eps2, _rms(param)) * min(lr, 1 / t**0.5)
            if weight_decay != 0:
                param.mul_(1 - lr * weight_decay)
            variance = _second_moment(grad, state, t ** group["beta2_decay"], smallest)
            update = grad * variance.clamp(min=smallest * smallest).rsqrt()
            param.sub_(update * (alpha / _at_least(1.0, _rms(update) / d)))


def _second_moment(grad: Tensor, state: dict[str, Tensor], weight: float, smallest: float) -> Tensor:
    """Average the squares of `grad` into the state with the given weight (1 - beta2); the estimate V^ of them."""
    if "variance" in state:
        return state["variance"].lerp_(grad * grad, weight)
    rows, columns = state["row_var"], state["col_var"]
    squares = grad * grad
    rows.lerp_(squares.mean(-1, keepdim=True), weight)  # (..., rows, 1)
    columns.lerp_(squares.mean(-2, keepdim=True), weight)  # (..., 1, columns)
    return rows @ columns / rows.mean(-2, keepdim=True).clamp(min=smallest)


def _rms(x: Tensor) -> Tensor:
    """The root mean square of all elements, as a 0-d float64 tensor: where a step is recorded, nobody reads it."""
    return x.norm(2).double() / x.numel() ** 0.5


def _at_least(low: float, x: Tensor) -> Tensor:
    """max(low, x), which is `low` where x is nan."""
    return where(x > low, x, low)
