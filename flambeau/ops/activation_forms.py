"""What activation functions have in common: checks, widths, in-place forms, samples."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.core.inplace import inplace_of, scalar_name
from flambeau.core.tensor import Tensor


def in_float32(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel that computes half-width floats in float32 and rounds once, as PyTorch does."""

    @functools.wraps(kernel)
    def run(x: Any, **attrs: Any) -> Any:
        if x.dtype.itemsize == 2 and x.dtype.kind in "fV":
            return kernel(x.astype(np.float32), **attrs).astype(x.dtype)
        return kernel(x, **attrs)

    return run


def need_float(name: str, input: Any) -> None:
    """NotImplementedError for tensors of integers, bools (and complex numbers), TypeError for anything else."""
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    if input._array.dtype.kind in "biuc":
        raise NotImplementedError(f"\"{name}\" not implemented for '{scalar_name(input._array.dtype)}'")


def assign(input: Tensor, function: Any, *args: Any, **attrs: Any) -> Tensor:
    return inplace_of(function)(input, *args, **attrs)


def finish(op: Any, input: Tensor, inplace: bool, **attrs: Any) -> Tensor:
    return assign(input, op, **attrs) if inplace else op(input, **attrs)


def inplace_form(function: Any) -> Any:
    """`function_`: the same with inplace=True, for users who spell it that way."""

    @functools.wraps(function)
    def run(input: Tensor, *args: Any, **options: Any) -> Tensor:
        return function(input, *args, **options, inplace=True)

    run.__name__ = run.__qualname__ = function.__name__ + "_"
    run.__doc__ = f"In-place form of `{function.__name__}`: writes the result over the tensor and returns it."
    return run


def shapes(make: Any, **attrs: Any) -> list[Any]:
    return [((make(3, 4),), attrs), ((make(0, 2),), attrs), ((make(4, 3).T,), attrs), ((make(),), attrs)]
