"""Changing element type, device or memory format: `to`, `float`, `contiguous`, `clone`."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core import device as devices
from flambeau.core import dtype as dtypes
from flambeau.core import layout as layouts
from flambeau.core.dispatch import primitive
from flambeau.core.tensor import Tensor, plain, wrap
from flambeau.ops.pointwise import _cast as cast_to


def to_dtype(x: Tensor, numpy_dtype: Any) -> Tensor:
    """A copy of another (NumPy) element type, with history."""
    return cast_to(x, dtype=numpy_dtype)


@primitive("clone")
def _clone(x: Any, *, memory_format: Any) -> Any:
    if type(x) is devices.MetaArray:
        return devices.meta_array(x.shape, x.dtype)
    if memory_format is layouts.preserve_format:
        return layouts.copy_preserving(x)
    return layouts.with_format(np.array(x, order="C"), memory_format)


_clone.vjp(x=lambda grad: grad)
_clone.scalar(lambda m, x, memory_format=None: x)


def clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """A copy with its own memory; gradients flow back to the original."""
    return _clone(input, memory_format=memory_format or layouts.preserve_format)


def contiguous(input: Tensor, memory_format: Any = layouts.contiguous_format) -> Tensor:
    """The tensor itself if its memory already has this order, else a copy that has."""
    if memory_format is layouts.preserve_format:
        raise RuntimeError("preserve memory format is unsupported by the contiguous operator")
    return input if input.is_contiguous(memory_format) else clone(input, memory_format=memory_format)


def to(
    self: Tensor,
    *args: Any,
    dtype: Any = None,
    device: Any = None,
    non_blocking: bool = False,
    copy: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """The tensor with another dtype, device or memory format; itself when nothing changes and `copy` is False.

    Forms: `to(dtype)`, `to(device, dtype)`, `to(other)`.
    """
    rest = list(args)
    if rest and isinstance(rest[0], Tensor):
        other = rest.pop(0)
        dtype, device = other.dtype, other.device
    elif rest and isinstance(rest[0], dtypes.dtype):
        dtype = rest.pop(0)
    elif rest and (rest[0] is None or isinstance(rest[0], (str, int, devices.device))):
        device = rest.pop(0)
        if rest and (rest[0] is None or isinstance(rest[0], dtypes.dtype)):
            dtype = rest.pop(0)
    if rest:
        rest.pop(0)  # non_blocking: there is nothing to wait for
    if rest:
        copy = bool(rest.pop(0))
    if rest or (dtype is not None and not isinstance(dtype, dtypes.dtype)):
        kinds = ", ".join(type(a).__name__ for a in args)
        raise TypeError(f"to() received an invalid combination of arguments - got ({kinds})")
    where = self.device if device is None else devices.check_device(device)
    if where is devices.META or self.is_meta:
        if where is not devices.META:
            raise NotImplementedError("Cannot copy out of meta tensor; no data!")
        if self.is_meta and (dtype is None or dtype is self.dtype) and not copy:
            return self
        made = wrap(devices.meta_array(self._array.shape, (dtype or self.dtype).numpy))
        made._requires_grad = self._requires_grad and self._node is None
        return made
    result = self
    if dtype is not None and self._array.dtype != dtype.numpy:
        result = cast_to(self, dtype=dtype.numpy)
    if memory_format is not None and memory_format is not layouts.preserve_format:
        result = contiguous(result, memory_format)
    if copy and result is self:
        result = clone(self)
    return result


def _caster(name: str, target: dtypes.dtype) -> Any:
    numpy_dtype = target.numpy

    def cast(self: Tensor, memory_format: Any = None) -> Tensor:
        if self._array.dtype == numpy_dtype and memory_format is None:
            return self
        return to(self, target, memory_format=memory_format)

    cast.__name__ = cast.__qualname__ = name
    cast.__doc__ = f"The tensor as {target.name}; itself if it is already."
    return cast


CASTS = {
    name: _caster(name, target)
    for name, target in {
        "float": dtypes.float32,
        "double": dtypes.float64,
        "half": dtypes.float16,
        "bfloat16": dtypes.bfloat16,
        "int": dtypes.int32,
        "long": dtypes.int64,
        "short": dtypes.int16,
        "char": dtypes.int8,
        "byte": dtypes.uint8,
        "bool": dtypes.bool,
        "cfloat": dtypes.complex64,
        "cdouble": dtypes.complex128,
    }.items()
}


def cpu(self: Tensor, memory_format: Any = None) -> Tensor:
    """The tensor itself: values are on the CPU already."""
    return to(self, "cpu")


def cuda(self: Tensor, device: Any = None, non_blocking: bool = False, memory_format: Any = None) -> Tensor:
    """PyTorch's error: this build has no CUDA."""
    return to(self, "cuda" if device is None else device)


def type_(self: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """The legacy type name ("torch.FloatTensor"), or the tensor converted to a dtype or legacy type."""
    if dtype is None:
        return "torch." + LEGACY_NAMES[self.dtype.name]
    if isinstance(dtype, str):
        short = dtype.rpartition(".")[2]
        for name, legacy in LEGACY_NAMES.items():
            if legacy == short:
                return to(self, dtypes.by_name(name))
        raise ValueError(f"invalid type: '{dtype}'")
    return to(self, getattr(dtype, "dtype", dtype))


LEGACY_NAMES = {
    "float32": "FloatTensor",
    "float64": "DoubleTensor",
    "float16": "HalfTensor",
    "bfloat16": "BFloat16Tensor",
    "uint8": "ByteTensor",
    "int8": "CharTensor",
    "int16": "ShortTensor",
    "int32": "IntTensor",
    "int64": "LongTensor",
    "bool": "BoolTensor",
    "complex64": "ComplexFloatTensor",
    "complex128": "ComplexDoubleTensor",
    "uint16": "UInt16Tensor",
    "uint32": "UInt32Tensor",
    "uint64": "UInt64Tensor",
}


def detach(input: Tensor) -> Tensor:
    """The same values and memory without history."""
    made = wrap(plain(input))
    made._storage = input.untyped_storage() if input._storage is None and not input.is_meta else input._storage
    made._names = input._names
    return made
