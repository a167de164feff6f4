"""`flambeau.compile`: functions and modules as native programs (the compiler itself is in flambeau/compiler)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.nn.module import Module

__all__ = ["OptimizedModule", "compile"]


class OptimizedModule(Module):
    """A module whose calls run as compiled programs. Everything else is the original's, which is `_orig_mod`."""

    def __init__(self, module: Module, compiled: Callable[..., Any]):
        super().__init__()
        self._orig_mod = module
        self.__dict__["_compiled"] = compiled
        self.__dict__["training"] = module.training

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__dict__["_compiled"](*args, **kwargs)

    forward = __call__

    def __getattr__(self, name: str) -> Any:
        if name == "_orig_mod":
            return self._modules["_orig_mod"]
        return getattr(self._modules["_orig_mod"], name)

    def train(self, mode: bool = True) -> OptimizedModule:
        """Sets the mode of the original."""
        self.__dict__["training"] = mode
        self._orig_mod.train(mode)
        return self


def compile(
    model: Any = None,
    *,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    backend: Any = "inductor",
    mode: str | None = None,
    options: Any = None,
    disable: bool = False,
) -> Any:
    """A function or module that runs as native programs: captured at the first call, replayed from then on.

    The function may be anything that computes with tensors, a whole training step included (`zero_grad`, forward,
    `backward`, `optimizer.step()`); learning rates and other options of optimizers stay inputs, so that schedulers
    work. Other shapes, dtypes, modes or Python values are captured anew. What cannot be captured runs eagerly, with one
    warning that names the line; `fullgraph=True` raises RuntimeError instead. Also a decorator, with or without
    options.

    `dynamic`, `backend`, `mode` and `options` are accepted; there is one backend, and every shape gets its own program.
    FLAMBEAU_COMPILE=0 in the environment switches compilation off.

    Raises: TypeError for something that cannot be called.

    >>> step = torch.compile(lambda x, y: torch.tanh(x) + y)
    """
    if model is None:
        return lambda function: compile(function, fullgraph=fullgraph, disable=disable)
    if not callable(model):
        raise TypeError(f"compile() expects a function or a module, but got {type(model).__name__}")
    if disable:
        return model
    from flambeau.compiler.api import Compiled  # only those who compile load the compiler

    compiled = Compiled(model, fullgraph)
    return OptimizedModule(model, compiled) if isinstance(model, Module) else compiled
