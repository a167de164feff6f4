"""Tensors that belong to a module: `Parameter`, `Buffer`, and their uninitialised forms."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from flambeau.core.tensor import Tensor
from flambeau.ops.creation import empty

__all__ = ["Buffer", "Parameter", "UninitializedBuffer", "UninitializedParameter", "UninitializedTensorMixin",
           "is_lazy"]


# Where tensors keep their hooks; as in PyTorch, files do without.
_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")


def as_class(data: Tensor, cls: type, requires_grad: bool) -> Any:
    """A detached alias of `data` (same storage) whose class is `cls`."""
    alias = data.detach()
    alias.__class__ = cls
    alias.requires_grad_(requires_grad)
    return alias


class Parameter(Tensor):
    """A tensor that a module counts among its parameters when it is assigned to an attribute.

    Shapes and dtypes: those of `data`, whose storage is shared. Raises RuntimeError for an integer tensor unless
    `requires_grad=False`.
    """

    __slots__ = ()

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Any:
        if data is None:
            data = empty(0)
        if not isinstance(data, Tensor):
            raise TypeError(f"Parameter: expected a Tensor, got {type(data).__name__}")
        return as_class(data, cls, requires_grad)

    def __init__(self, data: Tensor | None = None, requires_grad: bool = True) -> None:
        """Everything is done by `__new__`; Tensor's own constructor must not run again."""

    def __deepcopy__(self, memo: dict) -> Parameter:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.data.clone(), self.requires_grad)
        return memo[id(self)]

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()

    def __reduce_ex__(self, protocol: int) -> tuple:
        attributes = {name: value for name, value in self.__dict__.items() if name not in _HOOKS}
        if not attributes:
            return _rebuild_parameter, (self.data, self.requires_grad, OrderedDict())
        return _rebuild_parameter_with_state, (self.data, self.requires_grad, OrderedDict(), attributes)


def _rebuild_parameter(data: Tensor, requires_grad: bool, backward_hooks: Any) -> Parameter:
    """Unpickles a parameter (the name is part of PyTorch's file format)."""
    return Parameter(data, requires_grad)


def _rebuild_parameter_with_state(data: Tensor, requires_grad: bool, backward_hooks: Any, state: Any) -> Parameter:
    """Unpickles a parameter that carries attributes of its own."""
    parameter = Parameter(data, requires_grad)
    parameter.__dict__.update(state)
    return parameter


class _BufferMeta(type):
    """`isinstance(t, Buffer)` asks for the mark, because a buffer is an ordinary Tensor."""

    def __instancecheck__(cls, instance: Any) -> bool:
        if type.__instancecheck__(cls, instance):
            return True
        return cls is Buffer and isinstance(instance, Tensor) and getattr(instance, "_is_buffer", False)


class Buffer(metaclass=_BufferMeta):
    """A tensor that a module registers as a buffer when it is assigned to an attribute.

    `persistent=False` keeps it out of the state_dict. The result is a Tensor sharing the storage of `data`.
    """

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Any:
        if data is None:
            data = empty(0)
        buffer = data.detach().requires_grad_(data.requires_grad)
        buffer.persistent = persistent
        buffer._is_buffer = True
        return buffer


class UninitializedTensorMixin:
    """What parameters and buffers of lazy modules share until their shape is known."""

    __slots__ = ()
    cls_to_become: type = Tensor
    _allowed = frozenset({
        "cls_to_become", "materialize", "device", "dtype", "requires_grad", "requires_grad_", "grad_fn",
        "is_floating_point", "is_complex", "grad", "to", "detach", "data", "half", "float", "double", "char", "short",
        "int", "long", "cuda", "cpu", "type", "bfloat16", "is_leaf", "persistent", "share_memory_", "is_meta",
        "is_cuda",
    })

    def materialize(self, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Becomes, in place, a tensor of this shape with undefined values."""
        requires_grad = self.requires_grad
        dtype = self.dtype if dtype is None else dtype
        device = self.device if device is None else device
        # The class goes first: the data setter of an ordinary tensor is not allowed on an uninitialised one.
        self.__class__ = self.cls_to_become
        self.requires_grad_(False)
        self.data = empty(shape, dtype=dtype, device=device)
        self.requires_grad_(requires_grad)

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") or name in UninitializedTensorMixin._allowed:
            return super().__getattribute__(name)
        if name == "shape":
            raise RuntimeError("Can't access the shape of an uninitialized parameter or buffer. "
                               "This error usually happens in `load_state_dict` when trying to load an uninitialized "
                               "parameter into an initialized one. Call `forward` to initialize the parameters before "
                               "accessing their attributes.")
        raise ValueError(f"Attempted to use an uninitialized parameter in {name}. This error happens when you are "
                         "using a `LazyModule` or explicitly manipulating uninitialized parameters. Call `forward` "
                         "with a dummy batch to initialize the parameters before calling torch functions.")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def is_lazy(parameter: Any) -> bool:
    """Has this parameter or buffer no shape yet?"""
    return isinstance(parameter, UninitializedTensorMixin)


class UninitializedParameter(UninitializedTensorMixin, Parameter):
    """A parameter whose shape the first forward pass decides."""

    __slots__ = ()
    cls_to_become = Parameter

    def __new__(cls, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> Any:
        return as_class(empty(0, device=device, dtype=dtype), cls, requires_grad)

    def __init__(self, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> None:
        """Everything is done by `__new__`."""

    def __deepcopy__(self, memo: dict) -> Any:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.requires_grad, self.device, self.dtype)
        return memo[id(self)]

    def __reduce_ex__(self, protocol: int) -> tuple:
        return type(self), (self.requires_grad, str(self.device), self.dtype)


class UninitializedBuffer(UninitializedTensorMixin, Tensor):
    """A buffer whose shape the first forward pass decides."""

    __slots__ = ()
    cls_to_become = Tensor

    def __new__(cls, requires_grad: bool = False, device: Any = None, dtype: Any = None,
                persistent: bool = True) -> Any:
        buffer = as_class(empty(0, device=device, dtype=dtype), cls, requires_grad)
        buffer.persistent = persistent
        buffer._is_buffer = True
        return buffer

    def __init__(self, requires_grad: bool = False, device: Any = None, dtype: Any = None,
                 persistent: bool = True) -> None:
        """Everything is done by `__new__`."""

    def __deepcopy__(self, memo: dict) -> Any:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.requires_grad, self.device, self.dtype, self.persistent)
        return memo[id(self)]

    def __reduce_ex__(self, protocol: int) -> tuple:
        return type(self), (self.requires_grad, str(self.device), self.dtype, self.persistent)
