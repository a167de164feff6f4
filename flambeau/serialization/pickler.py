"""Writing objects as PyTorch pickles them: under PyTorch's names, with the memory of tensors kept out of the pickle."""

from __future__ import annotations

import pickle
import types
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from flambeau.core.device import CPU
from flambeau.core.dtype import dtype
from flambeau.core.layout import layout
from flambeau.core.random import Generator
from flambeau.core.storage import Storage, TypedStorage
from flambeau.core.tensor import Tensor, strides_of, wrap
from flambeau.serialization import rebuild
from flambeau.serialization.names import STORAGE_TYPE_OF, UNTYPED, StorageType, written_name


class StorageTable:
    """The storages of one file: each memory once, under a key, with the element type it was first seen with."""

    def __init__(self, key_of: Callable[[int, Storage], str]):
        self.key_of = key_of
        self.storages: dict[str, tuple[Storage, StorageType]] = {}
        self._keys: dict[Any, str] = {}

    def add(self, storage: Storage, kind: StorageType) -> tuple[str, StorageType]:
        """The key of a storage and the element type under which the file knows it."""
        size = storage.nbytes()
        identity: Any = (storage.data_ptr(), size) if size else id(storage)
        key = self._keys.get(identity)
        if key is None:
            key = self._keys[identity] = self.key_of(len(self.storages), storage)
            self.storages[key] = (storage, kind)
        return key, self.storages[key][1]


class _Reference:
    """Where a pickle refers to a storage."""

    def __init__(self, storage: Storage, kind: StorageType):
        self.storage = storage
        self.kind = kind


def make_pickler(module: Any, file: Any, protocol: int, table: StorageTable, legacy: bool) -> Any:
    """A pickler for one file. `module` may be another pickler built on `pickle`, such as dill."""
    base = getattr(module, "_Pickler", None) or module.Pickler

    class TorchPickler(base):  # the Python pickler, since only it lets names be chosen
        dispatch = dict(base.dispatch)

        def persistent_id(self, obj: Any) -> Any:
            if isinstance(obj, _Reference):
                storage, kind = obj.storage, obj.kind
            elif isinstance(obj, Storage):
                storage, kind = obj, UNTYPED
            elif isinstance(obj, TypedStorage):
                storage, kind = obj.untyped(), STORAGE_TYPE_OF.get(obj.dtype, UNTYPED)
            else:
                return None
            key, _ = table.add(storage, kind)
            place = ("storage", kind, key, "cpu", storage.nbytes() // kind.dtype.itemsize)
            return (*place, None) if legacy else place

        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, Tensor):
                return reduce_tensor(obj, table)
            if isinstance(obj, (dtype, StorageType)):
                return obj.name
            if isinstance(obj, layout):
                return rebuild.layout_by_name, (repr(obj),)
            if isinstance(obj, Generator):
                return rebuild.rebuild_generator, (CPU,), (obj.initial_seed(), None, wrap(obj.state_bytes()))
            return NotImplemented

        def save_global(self, obj: Any, name: str | None = None) -> None:
            own = name or getattr(obj, "__qualname__", None) or obj.__name__
            module_name = getattr(obj, "__module__", None) or ""
            written = written_name(obj, module_name, own)
            if written == (module_name, own):
                super().save_global(obj, name)
            else:
                self.write(pickle.GLOBAL + "\n".join(written).encode() + b"\n")
                self.memoize(obj)

        dispatch[types.FunctionType] = save_global

    return TorchPickler(file, protocol=protocol)


def reduce_tensor(t: Tensor, table: StorageTable) -> Any:
    """How a file rebuilds this tensor: function and arguments."""
    cls = type(t)
    if hasattr(cls, "materialize"):
        return NotImplemented                           # a lazy module's parameter knows how to pickle itself
    # nn stands above this package, so a Parameter is known by how it wants to be pickled.
    is_parameter = cls.__name__ == "Parameter" and cls.__module__.startswith("flambeau.")
    if cls.__reduce_ex__ is not Tensor.__reduce_ex__ and not is_parameter:
        return NotImplemented
    # Hooks are functions of the running program; as in PyTorch, files do without.
    hooks = ("_backward_hooks", "_post_accumulate_grad_hooks")
    attributes = {name: value for name, value in t.__dict__.items() if name not in hooks}
    if is_parameter:
        data = (rebuild.rebuild_parameter, (t.data, t._requires_grad, OrderedDict()))
        if attributes:
            return rebuild.rebuild_parameter_with_state, (*data[1], attributes)
        return data
    function, arguments = _reduce_values(t, table)
    if cls is Tensor and not attributes:
        return function, arguments
    return rebuild.rebuild_from_type_v2, (function, cls, arguments, attributes)


def _reduce_values(t: Tensor, table: StorageTable) -> tuple[Callable, tuple]:
    shape = tuple(t._array.shape)
    if t.is_meta:
        return rebuild.rebuild_meta_tensor, (t.dtype, shape, strides_of(t), t._requires_grad)
    storage = t.untyped_storage()
    kind = STORAGE_TYPE_OF.get(t.dtype, UNTYPED)
    _, known_as = table.add(storage, kind)
    place = (t.storage_offset(), shape, strides_of(t), t._requires_grad, OrderedDict())
    if kind is UNTYPED or known_as is not kind:         # no storage class, or the same memory seen as another type
        return rebuild.rebuild_tensor_v3, (_Reference(storage, UNTYPED), *place, t.dtype)
    return rebuild.rebuild_tensor_v2, (_Reference(storage, kind), *place)
