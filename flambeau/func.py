"""`flambeau.func`: derivatives of functions as functions, `vmap`, and modules called with other parameters."""

from __future__ import annotations

from typing import Any as _Any

from flambeau.autograd.transforms import (
    debug_unwrap,
    functionalize,
    grad,
    grad_and_value,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    linearize,
    vjp,
    vmap,
)  # fmt: skip
from flambeau.nn.utils.stateless import functional_call as _functional_call
from flambeau.nn.utils.stateless import replace_all_batch_norm_modules_, stack_module_state


def functional_call(
    module: _Any, parameter_and_buffer_dicts: _Any, args: _Any = None, kwargs: _Any = None, *, tie_weights: bool = True,
    strict: bool = False,
) -> _Any:
    """Call a module with these parameters and buffers (a dict, or a sequence of dicts) instead of its own."""
    return _functional_call(module, parameter_and_buffer_dicts, args, kwargs, tie_weights=tie_weights, strict=strict)


__all__ = [
    "debug_unwrap", "functional_call", "functionalize", "grad", "grad_and_value", "hessian", "jacfwd", "jacrev", "jvp",
    "linearize", "replace_all_batch_norm_modules_", "stack_module_state", "vjp", "vmap",
]  # fmt: skip
