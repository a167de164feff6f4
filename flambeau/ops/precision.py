"""What autocast does to single functions: losses are computed in float32."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from flambeau.core.modes import modes
from flambeau.core.tensor import Tensor
from flambeau.ops.casting import to_dtype


def narrow(value: Any) -> bool:
    """Whether this is a tensor of half-width floats (float16, bfloat16)."""
    if not isinstance(value, Tensor):
        return False
    dtype = value._array.dtype
    return dtype.itemsize == 2 and dtype.kind in "fV"


def widened(value: Any) -> Any:
    """A tensor of half-width floats as float32; anything else as it is."""
    return to_dtype(value, np.dtype(np.float32)) if narrow(value) else value


def in_float32(function: Any) -> Any:
    """Decorator: inside of autocast, half-width arguments are cast to float32 first."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if modes.autocast is not None:
            args = tuple(widened(value) for value in args)
            kwargs = {name: widened(value) for name, value in kwargs.items()}
        return function(*args, **kwargs)

    return call
