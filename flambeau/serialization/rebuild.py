"""The functions that files call to make tensors. Every size, stride and offset is checked against the storage."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.core import device as devices
from flambeau.core import dtype as dtypes
from flambeau.core.layout import layout, strided
from flambeau.core.random import Generator
from flambeau.core.storage import TypedStorage
from flambeau.core.tensor import Tensor, wrap, wrap_storage
from flambeau.ops.creation import tensor


class MetaStorage:
    """Stands for a storage when a file is loaded onto the meta device: a size and no memory."""

    def __init__(self, nbytes: int):
        self._nbytes = nbytes

    def nbytes(self) -> int:
        return self._nbytes


class PendingStorage(TypedStorage):
    """A storage whose values come later in the file; `finish` holds what is to be done with them then."""

    def __init__(self, untyped: Any, dtype: dtypes.dtype):
        super().__init__(untyped, dtype)
        self.finish: list[Callable[[], None]] = []


def rebuild_tensor(storage: Any, offset: int, size: Any, stride: Any) -> Tensor:
    """A tensor over part of a storage. RuntimeError when it would reach outside."""
    if not isinstance(storage, TypedStorage):
        raise RuntimeError(f"a tensor in the file has no storage but {type(storage).__name__}")
    return _over(storage.untyped(), storage.dtype, offset, size, stride)


def _over(storage: Any, dtype: dtypes.dtype, offset: int, size: Any, stride: Any) -> Tensor:
    size, stride = tuple(size), tuple(stride)
    if not all(type(n) is int for n in (offset, *size, *stride)):
        raise RuntimeError(f"a tensor in the file has sizes {size}, strides {stride}, offset {offset}: not integers")
    if isinstance(storage, MetaStorage):
        if min((offset, *size, *stride)) < 0 or len(size) != len(stride):
            raise RuntimeError(f"a tensor in the file has sizes {size}, strides {stride}, offset {offset}")
        reach = 0 if 0 in size else offset + 1 + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
        if reach * dtype.itemsize > storage.nbytes():
            raise RuntimeError(f"a tensor in the file of sizes {size} and strides {stride} reaches outside its storage")
        return wrap(devices.meta_array(size, dtype.numpy))
    return wrap_storage(storage, dtype, size, stride, offset)


def rebuild_tensor_v2(storage: Any, offset: int, size: Any, stride: Any, requires_grad: bool, hooks: Any,
                      metadata: Any = None) -> Tensor:
    """`rebuild_tensor` that also restores `requires_grad`, and marks of PyTorch's tensors (`metadata`)."""
    made = rebuild_tensor(storage, offset, size, stride)
    made._requires_grad = bool(requires_grad)
    if metadata:
        apply_marks(made, storage, metadata)
    return made


def apply_marks(t: Tensor, storage: Any, marks: Any) -> None:
    """Give a tensor the values it has in PyTorch, where conj() and a negation may be mere marks on the stored ones."""
    if not isinstance(marks, dict) or not set(marks) <= {"conj", "neg"}:
        raise RuntimeError(f"a tensor in the file has marks that flambeau does not know: {marks!r}")

    def apply() -> None:
        if t.is_meta:
            return
        if marks.get("conj"):
            t._array, t._storage = np.conjugate(t._array), None
        if marks.get("neg"):
            t._array, t._storage = np.negative(t._array), None

    if isinstance(storage, PendingStorage):
        storage.finish.append(apply)
    else:
        apply()


def rebuild_tensor_v3(storage: Any, offset: int, size: Any, stride: Any, requires_grad: bool, hooks: Any,
                      dtype: dtypes.dtype, metadata: Any = None) -> Tensor:
    """For element types that have no storage class of their own."""
    made = _over(storage.untyped(), dtype, offset, size, stride)
    made._requires_grad = bool(requires_grad)
    if metadata:
        apply_marks(made, storage, metadata)
    return made


def rebuild_meta_tensor(dtype: dtypes.dtype, size: Any, stride: Any, requires_grad: bool) -> Tensor:
    """A tensor of the meta device."""
    made = wrap(devices.meta_array(tuple(size), dtype.numpy))
    made._requires_grad = bool(requires_grad)
    return made


def rebuild_from_numpy(data: Any, dtype: dtypes.dtype, device: Any, requires_grad: bool) -> Tensor:
    """A tensor of another device, stored as an array."""
    made = tensor(data, dtype=dtype)
    made._requires_grad = bool(requires_grad)
    return made


def rebuild_parameter(data: Tensor, requires_grad: bool, hooks: Any) -> Any:
    """A Parameter over the memory of `data`."""
    return importlib.import_module("flambeau.nn").Parameter(data, requires_grad)  # nn stands above this package


def rebuild_parameter_with_state(data: Tensor, requires_grad: bool, hooks: Any, state: Any) -> Any:
    """A Parameter with attributes of its own."""
    return set_state(rebuild_parameter(data, requires_grad, hooks), state)


def rebuild_from_type_v2(function: Callable, kind: type, arguments: tuple, state: Any) -> Any:
    """A tensor with attributes, or of a subclass."""
    made = function(*arguments)
    if type(made) is not kind:
        made.__class__ = kind
    return set_state(made, state)


def layout_by_name(name: str) -> layout:
    """The layout called "torch.strided"; RuntimeError for one that flambeau does not have."""
    if name != "torch.strided":
        raise RuntimeError(f"the file needs the layout {name}, which flambeau does not have")
    return strided


class _ArrivingGenerator(Generator):
    """A generator between its making and the arrival of its state."""

    __slots__ = ()

    def __setstate__(self, state: tuple) -> None:
        self.__class__ = Generator  # type: ignore[assignment]
        self.load_bytes(state[2].numpy())


def rebuild_generator(where: Any) -> Generator:
    """A generator whose state (seed, offset, bytes) follows in the file."""
    return _ArrivingGenerator(where)


def set_state(made: Any, state: Any) -> Any:
    """Give a tensor its attributes back: a dict, or a pair of a dict and a dict of slots (which ours do not have)."""
    attributes = state[0] if isinstance(state, tuple) else state
    if attributes:
        made.__dict__.update(attributes)
    return made

