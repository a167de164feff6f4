"""Checkpointing: forget what a part of the network computed, and compute it again in the backward pass."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

import flambeau as fl
from flambeau.autograd.function import Function
from flambeau.core.tensor import Tensor

__all__ = ["checkpoint", "checkpoint_sequential"]


class _Surroundings:
    """What the first run depended on besides its arguments: the random stream and autocast."""

    def __init__(self, preserve_rng_state: bool, context_fn: Any):
        from flambeau.amp.autocast_mode import get_autocast_dtype, is_autocast_cache_enabled, is_autocast_enabled

        self.rng = fl.get_rng_state() if preserve_rng_state else None
        self.context = context_fn()[1] if context_fn is not None else contextlib.nullcontext()
        self.autocast = {"enabled": is_autocast_enabled("cpu"), "dtype": get_autocast_dtype("cpu"),
                         "cache_enabled": is_autocast_cache_enabled()}

    @contextlib.contextmanager
    def again(self) -> Any:
        """As it was in the first run; the random stream goes on undisturbed afterwards."""
        with contextlib.ExitStack() as stack:
            if self.rng is not None:
                stack.enter_context(fl.random.fork_rng())
                fl.set_rng_state(self.rng)
            stack.enter_context(fl.amp.autocast("cpu", **self.autocast))
            stack.enter_context(self.context)
            yield


class _Recomputed(Function):
    """The function of the tensors it is given; `backward` runs it again with history."""

    @staticmethod
    def forward(ctx: Any, run: Any, surroundings: Any, *tensors: Tensor) -> Any:
        ctx.run, ctx.surroundings = run, surroundings
        ctx.save_for_backward(*tensors)
        with fl.no_grad():
            return run(tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        fresh = [t.detach().requires_grad_(t.requires_grad) if t.is_floating_point() or t.is_complex() else t
                 for t in ctx.saved_tensors]
        with fl.enable_grad(), ctx.surroundings.again():
            outputs = ctx.run(fresh)
        outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
        pairs = [(out, grad) for out, grad in zip(outputs, grads)
                 if isinstance(out, Tensor) and out.requires_grad and grad is not None]
        if not pairs:
            raise RuntimeError("none of output has requires_grad=True, this checkpoint() is not necessary")
        fl.autograd.backward([out for out, _ in pairs], [grad for _, grad in pairs])
        return (None, None, *(t.grad if isinstance(t, Tensor) else None for t in fresh))


def checkpoint(function: Any, *args: Any, use_reentrant: bool | None = None, context_fn: Any = None,
               determinism_check: str = "default", debug: bool = False, early_stop: bool = True,
               **kwargs: Any) -> Any:
    """`function(*args)` without keeping what it computes on the way: backward runs it again.

    With `preserve_rng_state=True` (default) the second run draws the same random numbers. Gradients reach the tensors
    among the arguments, and parameters that the function uses. Both values of `use_reentrant` give the same gradients
    here; with True, as in PyTorch, keyword arguments are refused (ValueError).
    """
    preserve = kwargs.pop("preserve_rng_state", True)
    if use_reentrant is None:
        warnings.warn("torch.utils.checkpoint: the use_reentrant parameter should be passed explicitly; "
                      "use_reentrant=False is recommended.", stacklevel=2)
        use_reentrant = True
    if use_reentrant and kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    if use_reentrant and (context_fn is not None or debug):
        raise ValueError("Passing `context_fn` or `debug` is only supported when use_reentrant=False.")
    if not fl.is_grad_enabled():
        return function(*args, **kwargs)
    return _run(function, args, kwargs, _Surroundings(preserve, context_fn), context_fn, use_reentrant)


def _run(function: Any, args: Any, kwargs: Any, surroundings: _Surroundings, context_fn: Any, reentrant: bool) -> Any:
    places = [i for i, value in enumerate(args) if isinstance(value, Tensor)]
    if reentrant and not any(args[i].requires_grad for i in places):
        warnings.warn("None of the inputs have requires_grad=True. Gradients will be None", stacklevel=3)

    def filled_in(tensors: Any) -> Any:
        filled = list(args)
        for place, tensor in zip(places, tensors):
            filled[place] = tensor
        return function(*filled, **kwargs)

    tensors = [args[i] for i in places]
    if not reentrant:
        # Something that requires grad always goes in, so that parameters of the function get theirs.
        anchor = fl.zeros((), requires_grad=True)
        return _Recomputed.apply(lambda given: filled_in(given[1:]), surroundings, anchor, *tensors)
    return _Recomputed.apply(filled_in, surroundings, *tensors)


def checkpoint_sequential(functions: Any, segments: int, input: Any, use_reentrant: bool | None = None,
                          **kwargs: Any) -> Any:
    """A Sequential, or a list of modules, run in `segments` pieces of which all but the last are checkpointed."""
    preserve = kwargs.pop("preserve_rng_state", True)
    if use_reentrant is None:
        warnings.warn("torch.utils.checkpoint.checkpoint_sequential: the use_reentrant parameter should be passed "
                      "explicitly; use_reentrant=False is recommended.", stacklevel=2)
        use_reentrant = True
    if kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    functions = list(functions.children()) if isinstance(functions, fl.nn.Sequential) else list(functions)

    def piece(start: int, end: int) -> Any:
        def forward(x: Any) -> Any:
            for function in functions[start:end]:
                x = function(x)
            return x

        return forward

    size, end = len(functions) // segments, 0
    for start in range(0, size * (segments - 1), size):
        end = start + size
        input = checkpoint(piece(start, end), input, use_reentrant=use_reentrant, preserve_rng_state=preserve)
    return piece(end, len(functions))(input)
