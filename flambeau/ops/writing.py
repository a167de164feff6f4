"""Writing values into existing tensors: `copy_`, `fill_`, `zero_`."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core import dispatch
from flambeau.core.device import MetaArray
from flambeau.core.dispatch import primitive
from flambeau.core.inplace import assign, bump, check_overlap, check_writable
from flambeau.core.modes import modes
from flambeau.core.tensor import Tensor, constant, plain, wrap
from flambeau.ops.pointwise import cast_array
from flambeau.ops.shape import expand


@primitive("copy", grad_name="CopyBackwards")
def _copied(x: Any, source: Any) -> Any:
    """The values of `source` in the shape and type of `x`."""
    out = np.empty_like(x, order="K", subok=False)
    out[...] = cast_array(source, x.dtype)
    return out


_copied.vjp(x=lambda grad: constant(np.zeros(grad._array.shape, grad._array.dtype)), source=lambda grad: grad)
_copied.scalar(lambda m, x, source: m.cast(source, x.dtype))


def copy_(self: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """Write the values of `src` (broadcast, cast) into this tensor; gradients flow to `src`."""
    if not isinstance(src, Tensor):
        raise TypeError(f"copy_(): argument 'other' (position 1) must be Tensor, not {type(src).__name__}")
    array = self._array
    if isinstance(array, MetaArray) or src is self:
        return self
    check_overlap(array)
    if src._array.shape != array.shape:
        src = expand(src, array.shape)
    if modes.grad and (self._requires_grad or src._requires_grad):
        check_writable(self)
        return assign(self, _copied(self.detach(), src) if not self._requires_grad else _copied(_unsaved(self), src))
    if dispatch.interceptor is not None:
        return assign(self, _copied(self, src))
    array[...] = cast_array(src._array, array.dtype) if src._array.dtype != array.dtype else src._array
    bump(self)
    return self


def _unsaved(self: Tensor) -> Tensor:
    """The tensor with its history but as a separate object, for an op that reads only its shape."""
    made = wrap(self._array)
    made._node, made._requires_grad = self._node, self._requires_grad
    return made


def apply_(self: Tensor, callable: Any) -> Tensor:
    """Replace each element by what a Python function makes of it; slow. RuntimeError for tensors with history."""
    if self._requires_grad:
        raise RuntimeError("Can't call apply_() on Variable that requires grad. Use var.detach().apply_() instead.")
    array = plain(self)
    check_overlap(array)
    array[...] = np.array([callable(v) for v in array.ravel().tolist()], array.dtype).reshape(array.shape)
    bump(self)
    return self


def fill_(self: Tensor, value: Any) -> Tensor:
    """Write one value everywhere. RuntimeError for a tensor with more than 0 dimensions."""
    if isinstance(value, Tensor):
        if value._array.ndim:
            raise RuntimeError(
                f"fill_ only supports 0-dimension value tensor but got tensor with {value._array.ndim} dimensions."
            )
        return copy_(self, value)
    array = self._array
    if isinstance(array, MetaArray):
        return self
    if not isinstance(value, (bool, int, float, complex, np.generic)):
        raise TypeError(f"fill_(): argument 'value' must be Number, not {type(value).__name__}")
    if isinstance(value, complex) and array.dtype.kind != "c":
        raise RuntimeError("value cannot be converted to type float without overflow")
    recording = modes.grad and self._requires_grad
    if recording:
        check_writable(self)
    if recording or dispatch.interceptor is not None:
        return copy_(self, constant(np.array(value)))
    array[...] = value if array.dtype.kind != "i" or not isinstance(value, float) else int(value)
    bump(self)
    return self


def zero_(self: Tensor) -> Tensor:
    """Write zeros everywhere."""
    return fill_(self, 0)


def fill(input: Tensor, value: Any) -> Tensor:
    """A copy with one value everywhere; a tensor value gets the summed gradient."""
    if isinstance(value, Tensor):
        if value._array.ndim:
            raise RuntimeError(
                f"fill only supports 0-dimension value tensor but got tensor with {value._array.ndim} dimensions."
            )
        return _copied(input, expand(value, input._array.shape))
    return _copied(input, expand(constant(np.array(value)), input._array.shape))
