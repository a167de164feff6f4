"""SparseAdam: refused, because it needs sparse gradients."""

from __future__ import annotations

from typing import Any

from flambeau.core.tensor import Tensor
from flambeau.optim.optimizer import Algorithm, ParamsT, check_betas, check_lr

__all__ = ["SparseAdam"]


class SparseAdam(Algorithm):
    """Adam for sparse gradients. Gradients are always dense here, so that every step is refused, as in PyTorch.

    Raises: ValueError for options out of range and complex parameters; RuntimeError at a step with gradients.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
    ) -> None:
        check_lr(lr)
        if not 0.0 < lr:
            raise ValueError(f"Invalid learning rate: {lr}")
        if not 0.0 < eps:
            raise ValueError(f"Invalid epsilon value: {eps}")
        check_betas(betas)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "maximize": maximize})
        for i, group in enumerate(self.param_groups):
            for j, param in enumerate(group["params"]):
                if param.is_complex():
                    raise ValueError(f"SparseAdam does not support complex parameters (group {i}, parameter {j})")

    def update(self, group: dict[str, Any]) -> None:
        for _ in self.gradients(group):
            raise RuntimeError("SparseAdam does not support dense gradients, please consider Adam instead")
