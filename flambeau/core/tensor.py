"""`Tensor`: values in a NumPy array view, a storage shared with its views, and its place in the graph.

This module knows no operators: `ops/methods.py` and `autograd/methods.py` bind them.
"""

from __future__ import annotations

import builtins
import copy
from typing import Any

import numpy as np

from flambeau.core import device as devices
from flambeau.core import dtype as dtypes
from flambeau.core import layout as layouts
from flambeau.core import printing, recording
from flambeau.core.modes import modes
from flambeau.core.storage import EXPOSED, Storage, TypedStorage, as_strided_array

_new = object.__new__
ndarray = np.ndarray


class Size(tuple):
    """The shape of a tensor: a tuple with `numel()`."""

    __slots__ = ()

    def numel(self) -> int:
        """Number of elements of a tensor of this shape."""
        count = 1
        for n in self:
            count *= n
        return count

    def __getitem__(self, index: Any) -> Any:
        found = tuple.__getitem__(self, index)
        return Size(found) if isinstance(index, slice) else found

    def __add__(self, other: Any) -> Size:
        return Size(tuple.__add__(self, tuple(other)))

    def __radd__(self, other: Any) -> Size:
        return Size(tuple(other) + tuple(self))

    def __mul__(self, times: Any) -> Size:
        return Size(tuple.__mul__(self, times))

    __rmul__ = __mul__

    def __repr__(self) -> str:
        return f"torch.Size([{', '.join(map(str, self))}])"

    def __reduce__(self) -> Any:
        return Size, (tuple(self),)


class Tensor:
    """A multi-dimensional array that remembers how it was computed.

    `Tensor(2, 3)` is uninitialised memory of that size, `Tensor([1, 2])` holds values, both of the default dtype;
    `flambeau.tensor` is the modern way to make one.
    """

    __slots__ = (
        "_array",
        "_storage",
        "_requires_grad",
        "_node",
        "_grad",
        "_base",
        "_hidden",
        "_names",
        "__dict__",
        "__weakref__",
    )
    _array: np.ndarray
    _storage: Storage | None
    _requires_grad: builtins.bool
    _node: Any
    _grad: Tensor | None
    _base: Any
    _hidden: builtins.bool
    _names: tuple[str | None, ...] | None

    __array_priority__ = 1000  # NumPy leaves `ndarray + tensor` to us
    __hash__ = object.__hash__

    def __new__(cls, *data: Any, device: Any = None, **unused: Any) -> Any:
        return legacy_new(cls, data, dtypes.default_dtype(), device)

    def __init__(self, *data: Any, **options: Any) -> None:
        pass

    # ---- shape and memory ------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        """The sizes of all dimensions."""
        return Size(self._array.shape)

    def size(self, dim: Any = None) -> Any:
        """The shape, or the size of one dimension (IndexError out of range)."""
        if dim is None:
            return Size(self._array.shape)
        if isinstance(dim, str):
            dim = dim_of_name(self, dim)
        return self._array.shape[wrap_dim(dim, self._array.ndim)]

    @property
    def ndim(self) -> int:
        return self._array.ndim

    def dim(self) -> int:
        """Number of dimensions."""
        return self._array.ndim

    ndimension = dim

    def numel(self) -> int:
        """Number of elements."""
        return self._array.size

    nelement = numel

    def stride(self, dim: int | None = None) -> Any:
        """Steps in elements from one entry to the next along each dimension, or along one."""
        strides = strides_of(self)
        return strides if dim is None else strides[wrap_dim(dim, len(strides))]

    def storage_offset(self) -> int:
        """Position of the first element in the storage, in elements."""
        array = plain(self)
        if self._storage is None or array.size == 0:
            return 0
        return (array.__array_interface__["data"][0] - self._storage.data_ptr()) // array.itemsize

    def data_ptr(self) -> int:
        """Address of the first element."""
        array = plain(self)
        return int(array.__array_interface__["data"][0]) if array.size else 0

    def is_contiguous(self, memory_format: Any = layouts.contiguous_format) -> builtins.bool:
        """Whether elements lie in memory in this order without gaps."""
        if memory_format is layouts.contiguous_format:
            return self._hidden or bool(self._array.flags.c_contiguous)
        if self._hidden:
            return False
        return layouts.is_channels_last(self._array, 4 if memory_format is layouts.channels_last else 5)

    def untyped_storage(self) -> Storage:
        """The memory shared with views, as bytes."""
        plain(self)
        return storage_of(self)

    def storage(self) -> TypedStorage:
        """The memory shared with views, as elements of this dtype."""
        return TypedStorage(self.untyped_storage(), self.dtype)

    _typed_storage = storage

    def element_size(self) -> int:
        """Bytes per element."""
        return self._array.itemsize

    @property
    def itemsize(self) -> int:
        return self._array.itemsize

    @property
    def nbytes(self) -> int:
        return self._array.nbytes

    @property
    def dtype(self) -> dtypes.dtype:
        """The element type."""
        return dtypes.from_numpy(self._array.dtype)

    @property
    def device(self) -> devices.device:
        """Where the values live."""
        return devices.META if type(self._array) is devices.MetaArray else devices.CPU

    @property
    def layout(self) -> layouts.layout:
        return layouts.strided

    is_cuda = is_sparse = is_quantized = is_mkldnn = is_nested = is_mps = is_xpu = is_sparse_csr = property(
        lambda self: False
    )
    is_ipu = is_maia = is_mtia = is_vulkan = is_xla = property(lambda self: False)

    @property
    def name(self) -> None:
        """PyTorch's name of a variable, which nothing sets any more."""
        return None

    @property
    def grad_dtype(self) -> dtypes.dtype:
        """The element type of `grad`: that of the tensor."""
        return self.dtype

    @property
    def is_meta(self) -> builtins.bool:
        return type(self._array) is devices.MetaArray

    @property
    def is_cpu(self) -> builtins.bool:
        return type(self._array) is not devices.MetaArray

    def is_floating_point(self) -> builtins.bool:
        return self.dtype.is_floating_point

    def is_complex(self) -> builtins.bool:
        return self._array.dtype.kind == "c"

    def is_signed(self) -> builtins.bool:
        return self.dtype.is_signed

    def is_inference(self) -> builtins.bool:
        return False

    def get_device(self) -> int:
        """-1: values are on the CPU."""
        return -1

    def is_conj(self) -> builtins.bool:
        return False

    def is_neg(self) -> builtins.bool:
        return False

    def is_pinned(self) -> builtins.bool:
        return False

    def pin_memory(self) -> Tensor:
        return self

    def is_shared(self) -> builtins.bool:
        return False

    def share_memory_(self) -> Tensor:
        """Accepted; worker processes copy through shared memory by themselves."""
        return self

    def is_set_to(self, tensor: Tensor) -> builtins.bool:
        """Whether both show the same memory in the same way."""
        return self.data_ptr() == tensor.data_ptr() and self.shape == tensor.shape and self.stride() == tensor.stride()

    # ---- history ---------------------------------------------------------------------------

    @property
    def requires_grad(self) -> builtins.bool:
        """Whether operations on this tensor are recorded for differentiation."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: Any) -> None:
        set_requires_grad(self, value)

    def requires_grad_(self, requires_grad: builtins.bool = True) -> Tensor:
        """Set `requires_grad` in place and return the tensor."""
        set_requires_grad(self, requires_grad)
        return self

    @property
    def is_leaf(self) -> builtins.bool:
        """True for tensors that no recorded operation made."""
        return self._node is None

    @property
    def grad_fn(self) -> Any:
        """The node that made this tensor; None for a leaf."""
        node = self._node
        return None if node is None else node.owner

    @property
    def output_nr(self) -> int:
        return 0 if self._node is None else self._node.index

    @property
    def _version(self) -> int:
        return 0 if self._storage is None else self._storage.version

    def _is_view(self) -> builtins.bool:
        return self._base is not None

    @property
    def data(self) -> Tensor:
        """The same values without history; writing to them is not seen by autograd's version check."""
        made = wrap(plain(self))
        storage = storage_of(self)
        storage.expose()
        made._storage = Storage(storage.owner)
        made._storage.flags = EXPOSED
        return made

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(value).__name__}")
        self._array = plain(value)
        self._storage = storage_of(value)
        self._hidden = False
        recording.changed(self)

    # ---- values ----------------------------------------------------------------------------

    def item(self) -> Any:
        """The value of a one-element tensor as a Python number."""
        array = self._array
        if recording.recorder is not None:
            recording.recorder.read(self)
        if array.size != 1:
            raise RuntimeError(f"a Tensor with {array.size} elements cannot be converted to Scalar")
        if type(array) is devices.MetaArray:
            raise RuntimeError("Tensor.item() cannot be called on meta tensors")
        return float(array.reshape(())) if array.dtype in dtypes.NARROW_FLOATS else array.item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        array = self._array
        recording.read(self)
        if self.is_meta:
            raise NotImplementedError("Cannot copy out of meta tensor; no data!")
        return (array.astype(np.float32) if array.dtype in dtypes.NARROW_FLOATS else array).tolist()

    def numpy(self, *, force: builtins.bool = False) -> np.ndarray:
        """The values as a NumPy array that shares memory. RuntimeError for a tensor that requires grad.

        Where no history is recorded (`no_grad`, the forward of a custom function) there is nothing to lose.
        """
        if self._requires_grad and not force and modes.grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        if self.is_meta:
            raise TypeError(
                "can't convert meta device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory "
                "first."
            )
        if self._array.dtype in dtypes.NARROW_FLOATS:
            raise TypeError(f"Got unsupported ScalarType {_scalar_type_name(self.dtype)}")
        storage_of(self).expose()
        recording.read(self)
        return plain(self)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        array = self.numpy()
        if dtype is not None and dtype != array.dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: Any = False) -> Tensor:
        """What NumPy's functions make of a tensor: a tensor; truth values as uint8, as in PyTorch."""
        return wrap(np.asarray(array).astype(np.uint8) if array.dtype.kind == "b" else np.asarray(array))

    def __dlpack__(self, *, stream: Any = None, **options: Any) -> Any:
        if self._requires_grad:
            raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
        recording.read(self)
        return plain(self).__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return plain(self).__dlpack_device__()

    def __len__(self) -> int:
        if self._array.ndim == 0:
            raise TypeError("len() of a 0-d tensor")
        return self._array.shape[0]

    def __bool__(self) -> builtins.bool:
        array = self._array
        if array.size != 1:
            if array.size == 0:
                raise RuntimeError("Boolean value of Tensor with no values is ambiguous")
            raise RuntimeError("Boolean value of Tensor with more than one value is ambiguous")
        recording.read(self)
        return bool(array.reshape(()))

    def __float__(self) -> float:
        return float(self._only())

    def __round__(self, digits: int | None = None) -> Any:
        """The single element, rounded as Python rounds numbers."""
        return round(self._only(), digits)

    def __int__(self) -> int:
        return int(self._only())

    def _only(self) -> Any:
        if self._array.size != 1:
            raise ValueError("only one element tensors can be converted to Python scalars")
        return self.item()

    def __complex__(self) -> complex:
        return complex(self.item())

    def __index__(self) -> int:
        if self._array.size != 1 or self._array.dtype.kind not in "iub":
            raise TypeError("only integer tensors of a single element can be converted to an index")
        recording.read(self)
        return int(self._array.reshape(()))

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return tensor_text(self, tensor_contents)

    def __format__(self, spec: str) -> str:
        if self._array.ndim == 0 and not self.is_meta:
            return format(self.item(), spec)
        return object.__format__(self, spec)

    def __dir__(self) -> Any:
        return sorted(set(object.__dir__(self)) - {"__dict__"})

    # ---- copying and pickling --------------------------------------------------------------

    def __deepcopy__(self, memo: Any) -> Any:
        if id(self) in memo:
            return memo[id(self)]
        if self._node is not None:
            raise RuntimeError(
                "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the "
                "moment.  "
                "If you were attempting to deepcopy a module, this may be because of a torch.nn.utils.weight_norm usage"
            )
        if self.is_meta:
            made = alias_as(type(self), self._array)
        else:
            old = self.untyped_storage()
            storage = memo.get(id(old))
            if storage is None:
                storage = memo[id(old)] = old.clone()
                memo.setdefault(id(memo), []).append(old)
            array = as_strided_array(storage, self.dtype, self._array.shape, strides_of(self), self.storage_offset())
            made = alias_as(type(self), array)
            made._storage = storage
        made._requires_grad = self._requires_grad
        made._names = self._names
        memo[id(self)] = made
        if self._grad is not None:
            made._grad = copy.deepcopy(self._grad, memo)
        if self.__dict__:
            made.__dict__.update(copy.deepcopy(self._user_attributes(), memo))
        return made

    def _user_attributes(self) -> dict[str, Any]:
        """The attributes that users set; hooks belong to this very tensor and are not copied."""
        return {name: value for name, value in self.__dict__.items() if name not in OWN_ATTRIBUTES}

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self._node is not None and self._requires_grad:
            raise RuntimeError(
                "Cowardly refusing to serialize non-leaf tensor which requires_grad, since autograd does not support "
                "crossing process boundaries.  If you just want to transfer the data, call detach() on the tensor "
                "before serializing (e.g., putting it on the queue)."
            )
        state = self._user_attributes() or None
        place = (
            type(self),
            self.untyped_storage().bytes if self.is_meta is False else None,
            self.dtype,
            tuple(self._array.shape),
            strides_of(self),
            self.storage_offset() if self.is_meta is False else 0,
            self._requires_grad,
        )
        return rebuild, place, state

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state)


# What the engine keeps in a tensor's __dict__.
OWN_ATTRIBUTES = ("_backward_hooks", "_post_accumulate_grad_hooks", "_retains_grad")


def wrap(array: Any) -> Tensor:
    """A new tensor without history that shows this array (made 0-d from a NumPy scalar)."""
    t = _new(Tensor)
    t._array = array if isinstance(array, ndarray) else np.asarray(array)
    t._storage = None
    t._requires_grad = False
    t._node = None
    t._grad = None
    t._base = None
    t._hidden = False
    t._names = None
    return t


def constant(array: Any) -> Tensor:
    """`wrap` for a new array whose values depend on no tensor's values, so that a recorder may keep them."""
    t = wrap(array)
    if recording.recorder is not None:
        recording.recorder.constant(t._array)
    return t


def computed(function: Any, *tensors: Tensor) -> Any:
    """What `function` makes of the tensors' arrays, without history: a tensor, or a tuple of them for a tuple.

    For arithmetic beside the primitives: a recorder may call `function` again with other values, so it depends on
    nothing else that changes, and the shapes of its results on nothing but shapes.
    """
    made = function(*[plain(t) for t in tensors])
    results = tuple(map(wrap, made)) if isinstance(made, tuple) else wrap(made)
    if recording.recorder is not None:
        recording.recorder.computed(results, function, tensors)
    return results


def alias_as(cls: Any, array: np.ndarray) -> Any:
    """Like `wrap`, for a subclass of Tensor."""
    t = _new(cls)
    t._array = array
    t._storage = t._node = t._grad = t._base = t._names = None
    t._requires_grad = t._hidden = False
    return t


def wrap_storage(storage: Storage, dtype: dtypes.dtype, shape: Any, stride: Any, offset: int = 0) -> Tensor:
    """A tensor over part of a storage; stride and offset in elements."""
    t = wrap(as_strided_array(storage, dtype, shape, stride, offset))
    t._storage = storage
    return t


def rebuild(
    cls: Any, data: Any, dtype: dtypes.dtype, shape: Any, stride: Any, offset: int, requires_grad: builtins.bool
) -> Any:
    """Undo pickling, also of subclasses; pickle keeps storages shared through the byte array's identity."""
    if data is None:
        made = alias_as(cls, devices.meta_array(shape, dtype.numpy))
    else:
        storage = Storage.from_bytes(data)
        made = alias_as(cls, as_strided_array(storage, dtype, shape, stride, offset))
        made._storage = storage
    made._requires_grad = requires_grad
    return made


def storage_of(t: Tensor) -> Storage:
    """The storage of a tensor, made on first request."""
    storage = t._storage
    if storage is None:
        storage = t._storage = Storage(t._array)
    return storage


def plain(t: Tensor) -> np.ndarray:
    """The array of `t` in honest layout: a channels-last secret is converted to plain order first."""
    if t._hidden:
        t._array = recording.copied(np.ascontiguousarray(t._array), t._array)
        t._hidden = False
        if t._storage is not None:
            t._storage.repoint(t._array)
    return t._array


def strides_of(t: Tensor) -> tuple[int, ...]:
    """Strides in elements as PyTorch would report them."""
    array = t._array
    if t._hidden or (array.size == 0 and array.flags.c_contiguous and type(array) is not devices.MetaArray):
        return layouts.contiguous_strides(array.shape)
    if type(array) is devices.MetaArray:
        return layouts.contiguous_strides(array.shape)
    size = array.itemsize
    return tuple(s // size for s in array.strides)


def wrap_dim(dim: Any, ndim: int, of: Tensor | None = None) -> int:
    """A dimension counted from the front; 0-d tensors take 0 and -1. IndexError out of range.

    With the tensor it belongs to, `dim` may also be the name of a dimension.
    """
    span = ndim or 1
    try:
        inside = -span <= dim < span
    except TypeError:
        if isinstance(dim, str) and of is not None:
            return dim_of_name(of, dim)
        raise TypeError(f"dim must be int, not {type(dim).__name__}") from None
    if not inside:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-span}, {span - 1}], but got {dim})")
    dim = int(dim.__index__())
    return dim + span if dim < 0 else dim


def dim_of_name(t: Tensor, name: str) -> int:
    """Position of a named dimension. RuntimeError when there is no such name."""
    names = t._names or (None,) * t._array.ndim
    if name not in names:
        raise RuntimeError(f"Name '{name}' not found in Tensor{list(names)}.")
    return names.index(name)


def set_requires_grad(t: Tensor, value: Any) -> None:
    """The checks behind `requires_grad_`."""
    value = bool(value)
    if t._node is not None:
        if not value:
            raise RuntimeError(
                "you can only change requires_grad flags of leaf variables. If you want to use a computed variable "
                "in a "
                "subgraph that doesn't require differentiation use var_no_grad = var.detach()."
            )
        return
    if value and not (t.dtype.is_floating_point or t.dtype.is_complex):
        raise RuntimeError("only Tensors of floating point and complex dtype can require gradients")
    t._requires_grad = value


def legacy_new(cls: Any, data: Any, dtype: dtypes.dtype, device: Any = None) -> Tensor:
    """What `Tensor(...)` and `FloatTensor(...)` make: sizes give memory, a sequence or array gives values."""
    devices.check_device(device)
    if len(data) == 1 and isinstance(data[0], Tensor):
        array = data[0]._array
        made = alias_as(cls, array if array.dtype == dtype.numpy else array.astype(dtype.numpy))
        made._storage = data[0]._storage if array.dtype == dtype.numpy else None
        return made
    if len(data) == 1 and isinstance(data[0], Storage):
        return wrap_storage(data[0], dtype, (data[0].nbytes() // dtype.itemsize,), (1,))
    if len(data) == 1 and not isinstance(data[0], (int, Size)):
        if isinstance(data[0], (float, complex, str)):
            raise TypeError(f"new(): data must be a sequence (got {type(data[0]).__name__})")
        return alias_as(cls, np.array(data[0], dtype=dtype.numpy))
    sizes = data[0] if len(data) == 1 and isinstance(data[0], Size) else data
    if not all(isinstance(n, (int, np.integer)) for n in sizes):
        kinds = ", ".join(type(n).__name__ for n in sizes)
        raise TypeError(
            f"new() received an invalid combination of arguments - got ({kinds}), but expected sizes or one sequence"
        )
    shape = tuple(sizes) if data else (0,)
    if any(n < 0 for n in shape):
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(shape)}: {list(shape)}")
    return alias_as(cls, np.zeros(shape, dtype.numpy))


def _scalar_type_name(d: dtypes.dtype) -> str:
    return {"bfloat16": "BFloat16", "float8_e4m3fn": "Float8_e4m3fn", "float8_e5m2": "Float8_e5m2"}[d.name]


def tensor_text(t: Tensor, contents: str | None = None) -> str:
    """The printed form, as PyTorch prints it; `contents` stands in for the printed values."""
    recording.read(t)
    node = t.grad_fn
    name = type(t).__name__
    return printing.tensor_text(
        t._array,
        dtype=t.dtype,
        default_dtype=dtypes.default_dtype(),
        requires_grad=t._requires_grad,
        grad_fn_name=None if node is None else node.name(),
        names=t._names,
        prefix="tensor(" if name in ("Tensor", "Parameter") else f"{name}(",
        contents=contents,
    )
