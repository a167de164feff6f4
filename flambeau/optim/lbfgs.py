"""L-BFGS with an optional strong Wolfe line search."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flambeau.autograd.modes import enable_grad, no_grad
from flambeau.core.tensor import Tensor
from flambeau.ops.complex import view_as_real
from flambeau.ops.joining import cat
from flambeau.optim.optimizer import Optimizer, ParamsT, check_lr
from flambeau.optim.wolfe import strong_wolfe

__all__ = ["LBFGS"]

# What a step leaves for the next one, under the names of the checkpoint.
_MEMORY = ("d", "t", "old_dirs", "old_stps", "ro", "H_diag", "prev_flat_grad", "prev_loss")


class LBFGS(Optimizer):
    """Quasi-Newton steps from the last `history_size` changes of parameters and gradients.

    All parameters form one vector x, in one group. `step` needs a closure that clears the gradients, computes the
    loss, calls `backward` and returns the loss; it is evaluated up to `max_eval` times (default: max_iter * 5 // 4).
    `line_search_fn` is None (a fixed step of length lr) or "strong_wolfe".

    Raises: ValueError for a negative learning rate or several groups; RuntimeError for another line search.
    Source: Nocedal & Wright 2006, "Numerical optimization", algorithms 7.4 (two-loop recursion) and 7.5.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        check_lr(lr)
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "line_search_fn": line_search_fn,
        }
        super().__init__(params, defaults)
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")

    @no_grad()
    def step(self, closure: Callable[[], Any]) -> Any:
        """Up to `max_iter` quasi-Newton iterations; returns the loss that `closure` computed first."""
        group = self.param_groups[0]
        closure = enable_grad()(closure)
        state = self.state[self._params[0]]  # global, kept with the first parameter so that loading casts it
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)

        first_loss = closure()
        loss = float(first_loss)
        state["func_evals"] += 1
        evaluations = 1
        grad = self._flat_grad()
        if grad.abs().max() <= group["tolerance_grad"]:
            return first_loss

        memory = {name: state.get(name) for name in _MEMORY}
        for iteration in range(1, group["max_iter"] + 1):
            state["n_iter"] += 1
            direction = self._direction(state, memory, grad, group["history_size"])
            memory["d"], memory["prev_flat_grad"], memory["prev_loss"] = direction, grad.clone(), loss
            lr = group["lr"]
            t = memory["t"] = min(1.0, 1.0 / grad.abs().sum()) * lr if state["n_iter"] == 1 else lr
            slope = grad.dot(direction)
            if slope > -group["tolerance_change"]:
                break
            evaluations_before = evaluations
            if group["line_search_fn"] is not None:
                if group["line_search_fn"] != "strong_wolfe":
                    raise RuntimeError(f"only 'strong_wolfe' is supported, got {group['line_search_fn']!r}")
                start = [param.clone() for param in self._params]
                evaluate = functools.partial(self._evaluate, closure, start, direction)
                left = group["max_eval"] - evaluations
                loss, grad, t, searched = strong_wolfe(evaluate, t, direction, loss, grad, slope, max_evaluations=left)
                memory["t"] = t
                self._move(t, direction)
                evaluations += searched
            else:
                self._move(t, direction)
                if iteration != group["max_iter"]:  # the last value would help nobody: the next step evaluates anew
                    loss = float(closure())
                    grad = self._flat_grad()
                    evaluations += 1
            state["func_evals"] += evaluations - evaluations_before
            if (
                iteration == group["max_iter"]
                or evaluations >= group["max_eval"]
                or grad.abs().max() <= group["tolerance_grad"]
                or (direction * t).abs().max() <= group["tolerance_change"]
                or abs(loss - memory["prev_loss"]) < group["tolerance_change"]
            ):
                break
        state.update(memory)
        return first_loss

    @staticmethod
    def _direction(state: dict[str, Any], memory: dict[str, Any], grad: Tensor, history_size: int) -> Tensor:
        """The approximate inverse Hessian times the negative gradient, by the two-loop recursion."""
        if state["n_iter"] == 1:
            memory.update(old_dirs=[], old_stps=[], ro=[], H_diag=1)
            return -grad
        ys, ss, rhos = memory["old_dirs"], memory["old_stps"], memory["ro"]
        y = grad - memory["prev_flat_grad"]
        s = memory["d"] * memory["t"]
        curvature = y.dot(s)
        if curvature > 1e-10:
            if len(ys) == history_size:
                for column in (ys, ss, rhos):
                    column.pop(0)
            ys.append(y)
            ss.append(s)
            rhos.append(1.0 / curvature)
            memory["H_diag"] = curvature / y.dot(y)
        alphas = state.setdefault("al", [None] * history_size)
        q = -grad
        for i in reversed(range(len(ys))):
            alphas[i] = ss[i].dot(q) * rhos[i]
            q.add_(ys[i], alpha=-alphas[i])
        r = q * memory["H_diag"]
        for i in range(len(ys)):
            beta = ys[i].dot(r) * rhos[i]
            r.add_(ss[i], alpha=alphas[i] - beta)
        return r

    @property
    def _params(self) -> list[Tensor]:
        return self.param_groups[0]["params"]

    def _flat_grad(self) -> Tensor:
        """The gradients of all parameters as one new vector, zeros where there is none, complex ones as pairs."""
        grads = [param.new_zeros(param.shape) if param.grad is None else param.grad for param in self._params]
        return cat([_flat_real(grad) for grad in grads])

    def _move(self, t: Any, direction: Tensor) -> None:
        """x = x + t * direction"""
        offset = 0
        for param in self._params:
            param = view_as_real(param) if param.is_complex() else param
            param.add_(direction[offset : offset + param.numel()].view_as(param), alpha=t)
            offset += param.numel()

    def _evaluate(self, closure: Callable[[], Any], start: list[Tensor], direction: Tensor, t: Any) -> tuple:
        """Loss and gradient at start + t * direction; the parameters are at `start` before and after."""
        self._move(t, direction)
        loss = float(closure())
        grad = self._flat_grad()
        for param, value in zip(self._params, start):
            param.copy_(value)
        return loss, grad


def _flat_real(x: Tensor) -> Tensor:
    return (view_as_real(x) if x.is_complex() else x).reshape(-1)
