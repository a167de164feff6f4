"""Running what `trace` and `script` made as native programs, where no gradients are asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from flambeau.compiler.api import Compiled
from flambeau.compiler.capture import Unrecordable
from flambeau.core import recording
from flambeau.core.modes import modes
from flambeau.core.tensor import Tensor


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
        self.state: tuple[int, ...] = ()
        self.kept: Sequence[Tensor] = ()

    def call(self, run: Callable[..., Any], tensors: Sequence[Tensor], state: Sequence[Tensor]) -> Any:
        """run(*tensors), natively if nobody wants gradients; `state` are the tensors it uses beside its arguments."""
        wants = modes.grad and any(t._requires_grad for t in (*tensors, *state))
        if wants or recording.recorder is not None or modes.autocast or not available():
            return run(*tensors)
        ids = tuple(map(id, state))
        if self.compiled is None or self.state != ids:
            self.compiled, self.state, self.kept = Quiet(run), ids, state
        return self.compiled(*tensors)

    def __deepcopy__(self, memo: Any) -> Native:
        return Native()

    def __reduce__(self) -> Any:
        return Native, ()
