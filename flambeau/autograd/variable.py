"""`Variable`: the wrapper of PyTorch before 0.4; every tensor is one."""

from __future__ import annotations

from typing import Any

from flambeau.core.tensor import Tensor


class _VariableMeta(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor)


class Variable(metaclass=_VariableMeta):
    """`Variable(t)` returns a tensor over the same memory; `isinstance(t, Variable)` is true for every tensor."""

    def __new__(cls, data: Any = None, requires_grad: bool = False, volatile: Any = None) -> Any:
        if data is None:
            data = Tensor()
        made = data.detach() if not data._requires_grad else data
        return made.requires_grad_() if requires_grad else made
