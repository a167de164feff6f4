"""Making tensors: from values, of one value, of a range."""

from __future__ import annotations

import builtins
import warnings
from typing import Any

import numpy as np

from flambeau.core import device as devices
from flambeau.core import dtype as dtypes
from flambeau.core import layout as layouts
from flambeau.core import recording
from flambeau.core.inplace import write_out
from flambeau.core.storage import Storage, as_strided_array
from flambeau.core.tensor import Tensor, constant, legacy_new, storage_of, wrap
from flambeau.ops.shape import as_sizes


def finish(array: Any, device: Any = None, requires_grad: builtins.bool = False, names: Any = None) -> Tensor:
    """A new tensor of this array with the options every creation function takes."""
    t = constant(array)
    where = devices.check_device(device)
    if where is devices.META:
        t._array = devices.meta_array(t._array.shape, t._array.dtype)
    if requires_grad:
        t.requires_grad_()
    if names is not None:
        from flambeau.ops.named import set_names  # here: few programs name dimensions

        set_names(t, names)
    return t


def delivered(name: str, array: Any, out: Any, device: Any, requires_grad: builtins.bool, names: Any = None) -> Tensor:
    """The tensor a creation function returns: written into `out` if there is one."""
    if out is not None:
        return write_out(constant(array), out, name)
    return finish(array, device, requires_grad, names)


def infer_array(data: Any, dtype: dtypes.dtype | None) -> np.ndarray:
    """A new NumPy array of nested sequences, numbers, arrays or tensors; floats take the default dtype.

    ValueError for ragged sequences, TypeError for things that are not numbers.
    """
    if isinstance(data, Tensor):
        recording.read(data)
        array = data._array.copy()
    elif isinstance(data, (np.ndarray, np.generic)):
        array = np.array(data)
        dtypes.from_numpy(array.dtype)
        array = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    elif isinstance(data, (bool, int, float, complex)):
        return (
            np.array(data, (dtype or dtypes.of_number(data)).numpy)
            if not _overflows(data, dtype)
            else _overflow(data, dtype)
        )
    else:
        if hasattr(data, "__array__") and not isinstance(data, (list, tuple)):
            array = np.array(data)
        else:
            array = _array_of_sequence(data)
            if array.dtype == np.float64 and dtype is None and not _holds_arrays(data):
                array = array.astype(dtypes.default_dtype().numpy)
            elif array.dtype == np.complex128 and dtype is None and not _holds_arrays(data):
                array = array.astype(dtypes.default_dtype().to_complex().numpy)
    if dtype is not None and array.dtype != dtype.numpy:
        if array.dtype.kind == "c" and not dtype.is_complex:
            array = array.real
        array = array.astype(dtype.numpy)
    return array


def _overflows(value: Any, dtype: dtypes.dtype | None) -> builtins.bool:
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    limits = dtype if dtype is not None else dtypes.int64
    if limits.category != dtypes.INT:
        return False
    info = np.iinfo(limits.numpy)
    return not info.min <= value <= info.max


def _overflow(value: Any, dtype: Any) -> Any:
    if dtype is None or dtype is dtypes.int64:
        raise ValueError("Overflow when unpacking long long")
    raise RuntimeError(f"value cannot be converted to type {dtype.name} without overflow")


def _holds_arrays(data: Any) -> builtins.bool:
    """Whether the first leaf of nested sequences is a NumPy value: those keep their precision, Python floats do not."""
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return isinstance(data, (np.ndarray, np.generic, Tensor))


def _array_of_sequence(data: Any) -> np.ndarray:
    try:
        plain = _plain_values(data)
        array = np.array(plain)
    except (ValueError, OverflowError) as error:
        if "inhomogeneous" in str(error):
            raise ValueError(_ragged(data)) from None
        raise
    if array.dtype.kind in "OUSV" and array.dtype not in dtypes._BY_NUMPY:
        if not isinstance(data, (list, tuple)) and not hasattr(data, "__len__"):
            raise RuntimeError(f"Could not infer dtype of {type(data).__name__}")
        kind = _first_stranger(data)
        if kind == "str":
            if isinstance(data, (list, tuple)):
                raise ValueError("too many dimensions 'str'")
            raise TypeError("new(): invalid data type 'str'")
        if kind in ("list", "tuple"):
            raise ValueError(_ragged(data))
        raise RuntimeError(f"Could not infer dtype of {kind}")
    if array.size == 0 and array.dtype == np.float64:
        return array.astype(dtypes.default_dtype().numpy)
    return array


def _ragged(data: Any) -> str:
    lengths = [len(d) if hasattr(d, "__len__") else None for d in data]
    first = lengths[0]
    for position, n in enumerate(lengths):
        if n != first:
            got = "a number" if n is None else n
            return f"expected sequence of length {first} at dim 1 (got {got}) at position {position}"
    return "expected sequences of equal length at every dim"


def _first_stranger(data: Any) -> str:
    if isinstance(data, (list, tuple)):
        for item in data:
            found = _first_stranger(item)
            if found:
                return found
        return ""
    if isinstance(data, (bool, int, float, complex, np.generic)):
        return ""
    return type(data).__name__


def _plain_values(data: Any) -> Any:
    """Nested sequences with one-element tensors replaced by their arrays."""
    if isinstance(data, Tensor):
        recording.read(data)
        return data._array if data._array.ndim else data.item()
    if isinstance(data, (list, tuple)):
        if not data or (isinstance(data[0], (float, int)) and not isinstance(data[-1], Tensor)):
            return data
        return [_plain_values(item) for item in data]
    return data


def tensor(
    data: Any,
    *,
    dtype: dtypes.dtype | None = None,
    device: Any = None,
    requires_grad: builtins.bool = False,
    pin_memory: builtins.bool = False,
    names: Any = None,
) -> Tensor:
    """A new tensor that copies `data` (numbers, nested sequences, arrays). Python floats become the default dtype."""
    if isinstance(data, Tensor):
        warnings.warn(
            "To copy construct from a tensor, it is recommended to use sourceTensor.detach().clone() or "
            "sourceTensor.detach().clone().requires_grad_(True), rather than torch.tensor(sourceTensor).",
            UserWarning,
            stacklevel=2,
        )
    return finish(infer_array(data, dtype), device, requires_grad, names)


def as_tensor(data: Any, dtype: dtypes.dtype | None = None, device: Any = None) -> Tensor:
    """A tensor of `data` that shares memory with it where it can (tensors with their history, NumPy arrays)."""
    if isinstance(data, Tensor):
        from flambeau.ops.casting import to

        return to(data, device=device, dtype=dtype)
    if isinstance(data, np.ndarray) and (dtype is None or data.dtype == dtype.numpy):
        return from_numpy(data)
    return finish(infer_array(data, dtype), device)


def asarray(
    obj: Any,
    *,
    dtype: dtypes.dtype | None = None,
    device: Any = None,
    copy: Any = None,
    requires_grad: builtins.bool = False,
) -> Tensor:
    """Like `as_tensor`; `copy=True` always copies, and history is dropped unless `requires_grad`.

    Of a storage: its bytes, shared, as a tensor of uint8 or read as `dtype`.
    """
    if isinstance(obj, Storage):
        obj = obj.bytes if dtype is None else obj.bytes.view(dtype.numpy)
    made = (
        tensor(obj.detach() if isinstance(obj, Tensor) else obj, dtype=dtype, device=device)
        if copy and not isinstance(obj, Tensor)
        else as_tensor(obj, dtype, device)
    )
    if isinstance(obj, Tensor) and copy:
        made = made.detach().clone()
    elif isinstance(obj, Tensor) and not requires_grad and made._requires_grad:
        made = made.detach()
    return made.requires_grad_() if requires_grad else made


def from_numpy(ndarray: np.ndarray) -> Tensor:
    """A tensor that shares memory with a NumPy array. TypeError for other objects, ValueError for negative strides."""
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(ndarray).__name__})")
    dtypes.from_numpy(ndarray.dtype)
    if not ndarray.dtype.isnative:
        raise ValueError(
            "given numpy array has byte order different from the native byte order. Conversion between byte orders "
            "is currently "
            "not supported."
        )
    if any(s < 0 for s in ndarray.strides):
        raise ValueError(
            "At least one stride in the given numpy array is negative, and tensors with negative strides are not "
            "currently "
            "supported. (You can probably work around this by making a copy of your array with array.copy().)"
        )
    if any(s % ndarray.itemsize for s in ndarray.strides):
        raise ValueError(
            "given numpy array strides not a multiple of the element byte size. Copy the numpy array to reallocate "
            "the memory."
        )
    if not ndarray.flags.writeable:
        warnings.warn(
            "The given NumPy array is not writable, and PyTorch does not support non-writable tensors. This means "
            "writing to this "
            "tensor will result in undefined behavior. You may want to copy the array to protect its data or make it "
            "writable "
            "before converting it to a tensor.",
            UserWarning,
            stacklevel=2,
        )
    made = wrap(np.asarray(ndarray))
    storage_of(made).expose()
    return made


def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: builtins.bool | None = None) -> Tensor:
    """A tensor that shares memory with any object that speaks DLPack, or has its own with `copy`."""
    devices.check_device(device)
    array = np.from_dlpack(ext_tensor)
    made = wrap(array.copy() if copy else array)
    if not copy:
        storage_of(made).expose()
    return made


def frombuffer(
    buffer: Any, *, dtype: dtypes.dtype, count: int = -1, offset: int = 0, requires_grad: builtins.bool = False
) -> Tensor:
    """A 1-D tensor over a Python buffer. ValueError when it is too small."""
    made = finish(np.frombuffer(buffer, dtype.numpy, count, offset), None, requires_grad)
    storage_of(made).expose()
    return made


def numpy_dtype(dtype: dtypes.dtype | None) -> Any:
    if dtype is not None and not isinstance(dtype, dtypes.dtype):
        raise TypeError(f"argument 'dtype' must be torch.dtype, not {type(dtype).__name__}")
    return (dtype or dtypes.default_dtype()).numpy


def _checked_sizes(size: Any) -> tuple[int, ...]:
    sizes = as_sizes(size)
    for n in sizes:
        if n < 0:
            raise RuntimeError(f"Trying to create tensor with negative dimension {n}: {list(sizes)}")
    return sizes


def _maker(name: str, run: Any, doc: str) -> Any:
    def make(
        *size: Any,
        out: Any = None,
        dtype: dtypes.dtype | None = None,
        layout: Any = None,
        device: Any = None,
        requires_grad: builtins.bool = False,
        pin_memory: builtins.bool = False,
        names: Any = None,
        memory_format: Any = None,
        **shape: Any,
    ) -> Tensor:
        if not size and "size" in shape:
            size = (shape.pop("size"),)
        if shape:
            raise TypeError(f"{name}() got an unexpected keyword argument '{next(iter(shape))}'")
        if not size and out is None:
            raise TypeError(
                f"{name}() received an invalid combination of arguments - got (), but expected (tuple of ints size)"
            )
        try:
            sizes = _checked_sizes(size)
        except AttributeError:
            kinds = ", ".join(type(s).__name__ for s in size)
            raise TypeError(f"{name}(): argument 'size' must be tuple of ints, not {kinds}") from None
        if devices.check_device(device) is devices.META:
            return finish(devices.meta_array(sizes, numpy_dtype(dtype)), None, requires_grad, names)
        array = run(sizes, numpy_dtype(dtype))
        if memory_format is not None:
            array = layouts.with_format(array, memory_format)
        return delivered(name, array, out, device, requires_grad, names)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = doc
    return make


zeros = _maker("zeros", np.zeros, "A tensor of zeros; sizes as separate numbers or one sequence.")
ones = _maker("ones", np.ones, "A tensor of ones; sizes as separate numbers or one sequence.")
empty = _maker("empty", np.empty, "A tensor over uninitialised memory; sizes as separate numbers or one sequence.")


def full(
    size: Any,
    fill_value: Any,
    *,
    out: Any = None,
    dtype: dtypes.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: builtins.bool = False,
    names: Any = None,
) -> Tensor:
    """A tensor of one value; its type is that of the value unless given."""
    value = fill_value.item() if isinstance(fill_value, Tensor) else fill_value
    d = dtype or (fill_value.dtype if isinstance(fill_value, Tensor) else dtypes.of_number(value))
    array = np.full(_checked_sizes((size,)), value, d.numpy)
    return delivered("full", array, out, device, requires_grad, names)


def _like(name: str, run: Any, doc: str) -> Any:
    def make(
        input: Tensor,
        *,
        dtype: dtypes.dtype | None = None,
        layout: Any = None,
        device: Any = None,
        requires_grad: builtins.bool = False,
        memory_format: Any = None,
        pin_memory: builtins.bool = False,
    ) -> Tensor:
        if not isinstance(input, Tensor):
            raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
        return finish(
            run(like_array(input, dtype, memory_format)), input.device if device is None else device, requires_grad
        )

    make.__name__ = make.__qualname__ = name
    make.__doc__ = doc
    return make


def like_array(input: Tensor, dtype: dtypes.dtype | None = None, memory_format: Any = None) -> np.ndarray:
    """Uninitialised memory of the same shape, order of elements and type."""
    source = input._array
    d = source.dtype if dtype is None else dtype.numpy
    if isinstance(source, devices.MetaArray):
        return np.empty(source.shape, d)
    if memory_format is not None and memory_format is not layouts.preserve_format:
        return layouts.with_format(np.empty(source.shape, d), memory_format)
    if input._hidden or (0 in source.strides and source.size > 1):
        return np.empty(source.shape, d)
    return np.empty_like(source, dtype=d, order="K", subok=False)


def _filled(value: Any) -> Any:
    def run(array: np.ndarray) -> np.ndarray:
        array[...] = value
        return array

    return run


zeros_like = _like("zeros_like", _filled(0), "Zeros of the same shape, type and memory order.")
ones_like = _like("ones_like", _filled(1), "Ones of the same shape, type and memory order.")
empty_like = _like("empty_like", lambda array: array, "Uninitialised memory of the same shape, type and memory order.")


def full_like(
    input: Tensor,
    fill_value: Any,
    *,
    dtype: dtypes.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: builtins.bool = False,
    memory_format: Any = None,
) -> Tensor:
    """One value in the shape, type and memory order of another tensor."""
    array = like_array(input, dtype, memory_format)
    array[...] = fill_value.item() if isinstance(fill_value, Tensor) else fill_value
    return finish(array, input.device if device is None else device, requires_grad)


def empty_strided(
    size: Any,
    stride: Any,
    *,
    dtype: dtypes.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: builtins.bool = False,
    pin_memory: builtins.bool = False,
) -> Tensor:
    """Uninitialised memory with these sizes and strides (in elements)."""
    d = dtype or dtypes.default_dtype()
    reach = 0 if 0 in size else 1 + builtins.sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    storage = Storage.from_bytes(np.empty(reach * d.itemsize, np.uint8))
    t = wrap(recording.known(as_strided_array(storage, d, size, stride)))
    t._storage = storage
    return t.requires_grad_() if requires_grad else t


def empty_permuted(
    size: Any,
    physical_layout: Any,
    *,
    dtype: dtypes.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: builtins.bool = False,
    pin_memory: builtins.bool = False,
) -> Tensor:
    """Uninitialised memory without gaps whose dimensions lie in memory in this order, outermost first.

    RuntimeError unless `physical_layout` names every dimension once.
    """
    order = list(physical_layout)
    if len(order) != len(size):
        raise RuntimeError(
            f"Number of dimensions in size does not match the length of the physical_layout; i.e. len(size) = "
            f"{len(size)} is not equal to len(physical_layout) = {len(order)}"
        )
    if any(not 0 <= d < len(size) for d in order):
        raise RuntimeError(f"Dimension out of range (expected to be in range of [0, {len(size) - 1}], but got {order})")
    if len(set(order)) != len(order):
        raise RuntimeError("Duplicate dim not allowed")
    strides, step = [1] * len(size), 1
    for d in reversed(order):
        strides[d] = step
        step *= max(size[d], 1)
    return empty_strided(tuple(size), strides, dtype=dtype, device=device, requires_grad=requires_grad)


def scalar_tensor(
    s: Any,
    *,
    dtype: dtypes.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: builtins.bool = False,
) -> Tensor:
    """A 0-d tensor of the default dtype."""
    return finish(np.array(s, numpy_dtype(dtype)), device, requires_grad)


# ---- methods: new tensors of another one's type ---------------------------------------------------


def _new_maker(name: str, maker: Any) -> Any:
    def make(self: Tensor, *size: Any, dtype: dtypes.dtype | None = None, **options: Any) -> Tensor:
        options.setdefault("device", self.device)
        return maker(*size, dtype=dtype or self.dtype, **options)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"`{name[4:]}` with this tensor's dtype and device."
    return make


new_zeros = _new_maker("new_zeros", zeros)
new_ones = _new_maker("new_ones", ones)
new_empty = _new_maker("new_empty", empty)


new_empty_strided = _new_maker("new_empty_strided", empty_strided)


def new_full(self: Tensor, size: Any, fill_value: Any, *, dtype: dtypes.dtype | None = None, **options: Any) -> Tensor:
    """`full` with this tensor's dtype and device."""
    return full(size, fill_value, dtype=dtype or self.dtype, **options)


def new_tensor(
    self: Tensor,
    data: Any,
    *,
    dtype: dtypes.dtype | None = None,
    device: Any = None,
    requires_grad: builtins.bool = False,
) -> Tensor:
    """`tensor` with this tensor's dtype and device."""
    return tensor(data, dtype=dtype or self.dtype, device=device, requires_grad=requires_grad)


def new(self: Tensor, *data: Any, device: Any = None) -> Tensor:
    """The legacy constructor with this tensor's dtype: sizes give memory, a sequence gives values."""
    return legacy_new(Tensor, data, self.dtype, device)
