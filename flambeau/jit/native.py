"""Running what `trace` and `script` made as native programs, where no gradients are asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from flambeau.compiler.api import Compiled
from flambeau.compiler.sources import Unrecordable
from flambeau.core import recording
from flambeau.core.modes import modes
from flambeau.core.tensor import Tensor

MOST = 32  # captures of one function; one that is called with ever new arguments is better off without


def _any_wants(tree: Any) -> bool:
    """Whether a tensor in there requires grad."""
    if isinstance(tree, Tensor):
        return tree._requires_grad
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    return isinstance(tree, (tuple, list)) and any(map(_any_wants, tree))


class Quiet(Compiled):
    """A compiled function that stays eager without a word where it cannot be captured."""

    def _stay_eager(self, key: Any, error: Unrecordable) -> None:
        self.eager[key] = error.reason


def available() -> bool:
    """Whether programs can be native here."""
    try:
        return bool(importlib.import_module("flambeau.backends.llvm.builtin").supported())
    except ImportError:
        return False


class Native:
    """`run(*tensors)` as a program for each set of parameters, as long as these are the same objects."""

    def __init__(self) -> None:
        self.compiled: Quiet | None = None
        self.state: Any = None
        self.kept: Sequence[Tensor] = ()

    def call(self, run: Callable[..., Any], args: Sequence[Any], state: Sequence[Tensor], key: tuple = (),
             kwargs: dict[str, Any] | None = None) -> Any:
        """run(*args, **kwargs), natively if nobody wants gradients.

        `state` are the tensors it uses beside its arguments, `key` is what else it depends on.
        """
        kwargs = kwargs or {}
        wants = modes.grad and any(t._requires_grad for t in state)
        if wants or recording.recorder is not None or modes.autocast or not available() or (
                modes.grad and _any_wants((*args, *kwargs.values()))):
            return run(*args, **kwargs)
        ids = (*map(id, state), key)
        if self.compiled is None or self.state != ids:
            self.compiled, self.state, self.kept = Quiet(run), ids, state
        if self.compiled.captures >= MOST:
            return run(*args, **kwargs)
        return self.compiled(*args, **kwargs)

    def __deepcopy__(self, memo: Any) -> Native:
        return Native()

    def __reduce__(self) -> Any:
        return Native, ()
