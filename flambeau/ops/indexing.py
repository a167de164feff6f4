"""`x[...]`, `x[...] = v`, and the ops behind them: views for numbers and slices, copies for tensors and masks."""

from __future__ import annotations

import operator
import warnings
from typing import Any

import numpy as np

from flambeau.core import dispatch, recording
from flambeau.core import dtype as dtypes
from flambeau.core.device import MetaArray
from flambeau.core.dispatch import primitive
from flambeau.core.inplace import bump, check_overlap, scalar_name, write_region
from flambeau.core.modes import modes
from flambeau.core.tensor import Tensor, constant, plain, wrap
from flambeau.ops.comparison import ne
from flambeau.ops.creation import infer_array
from flambeau.ops.indexing_kernels import add_at, both, dimension_error, indexed_shape, over, writer
from flambeau.ops.masking import masked_fill_
from flambeau.ops.pointwise import cast_array
from flambeau.ops.shape import _alias, expand, reshape
from flambeau.ops.writing import copy_

_ALL = slice(None)
_NUMBERS = (bool, int, float, complex, np.generic)
ZERO_DIM = ("invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in C++ to convert a "
            "0-dim "
            "tensor to a number")

# ---- basic indexing: views ------------------------------------------------------------------------


def _basic(name: str, grad_name: str, take: Any) -> Any:
    """A view by a NumPy key of numbers, slices and None that ends in an Ellipsis."""

    @primitive(name, view=True, grad_name=grad_name)
    def take_view(x: Any, *, key: Any) -> Any:
        return take(x, key)

    take_view.vjp(x=lambda grad, key, shapes: write_region(grad, replay=lambda a: a[key], shape=shapes[0]))
    return take_view


def _with_new_dims(x: Any, key: Any) -> Any:
    """NumPy gives new dimensions stride 0; PyTorch the stride of what follows times its size."""
    made = x[key]
    if isinstance(x, MetaArray) or not made.size:
        return made
    shape, strides = made.shape, list(made.strides)
    for d in range(len(shape) - 1, -1, -1):
        if shape[d] == 1 and strides[d] == 0:
            strides[d] = strides[d + 1] * shape[d + 1] if d + 1 < len(shape) else made.itemsize
    return np.lib.stride_tricks.as_strided(made, shape, strides)


# One op, under the name of the last step that PyTorch would have taken.
_pick = _basic("pick", "SelectBackward0", operator.getitem)
_cut = _basic("cut", "SliceBackward0", operator.getitem)
_insert = _basic("insert", "UnsqueezeBackward0", _with_new_dims)


def getitem(self: Tensor, index: Any) -> Tensor:
    """`x[index]`. Numbers, slices, None and ... give views; tensors, masks and sequences copies.

    IndexError out of range, ValueError for a negative step.
    """
    kind = type(index)
    if kind is int:
        shape = self._array.shape
        if shape and -shape[0] <= index < shape[0]:
            return _pick(self, key=(index, ...))
    elif kind is slice:
        if self._array.ndim and _plain_slice(index):
            return _cut(self, key=(index, ...))
    elif kind is tuple:
        op = _basic_op(index, self._array.ndim)
        if op is not None:
            try:
                return op(self, key=index if ... in index else (*index, ...))
            except IndexError as error:
                raise dimension_error(error) from None
        if _only_positions(index, self._array.ndim):
            return _index(self, *index, dims=tuple(range(len(index))))
    elif kind is Tensor and self._array.ndim:
        array = index._array
        if array.ndim and array.dtype.kind == "i":
            return _index(self, index, dims=(0,))
    key, advanced, op = resolve(self, index)
    if not advanced:
        return _alias(self) if op is None else op(self, key=key)
    view = self if all(k is Ellipsis or k == _ALL for k in key) else (op or _cut)(self, key=key)
    if len(advanced) == 1 and advanced[0][1]._array.dtype.kind == "b":
        dim, mask = advanced[0]
        recording.read(mask)  # how many are true decides about shapes
        return _mask_index(view, mask, dim=dim)
    dims, indices = index_arrays(view, advanced)
    return _index(view, *indices, dims=dims)


def _basic_op(index: tuple[Any, ...], ndim: int) -> Any:
    """The view op for a tuple of Python integers, plain slices and at most one Ellipsis; None for anything else."""
    op = None
    dots = 0
    for item in index:
        kind = type(item)
        if kind is int:
            op = _pick
        elif kind is slice:
            if not _plain_slice(item):
                return None
            if op is None or item != _ALL:
                op = _cut
        elif item is Ellipsis:
            dots += 1
        else:
            return None
    return op if dots < 2 and len(index) - dots <= ndim else None


def _only_positions(index: tuple[Any, ...], ndim: int) -> bool:
    """Whether an index is nothing but integer tensors of one shape: `x[rows, columns]`."""
    shape = None
    for item in index:
        if type(item) is not Tensor or item._array.dtype.kind != "i":
            return False
        if shape is not None and item._array.shape != shape:
            return False
        shape = item._array.shape
    return bool(shape) and len(index) <= ndim


def _plain_slice(s: slice) -> bool:
    """Whether a slice holds only Python integers and None, with a positive step."""
    step = s.step
    if step is not None and (type(step) is not int or step <= 0):
        return False
    start, stop = s.start, s.stop
    return (start is None or type(start) is int) and (stop is None or type(stop) is int)


def resolve(x: Tensor, index: Any) -> tuple[tuple[Any, ...], list[tuple[int, Tensor]], Any]:
    """A NumPy key of the view part, the (dimension of that view, index tensor) pairs, and the view op.

    Integers are taken first and do not count for the place of the indexed dimensions.
    """
    items = [_known(item) for item in _as_tuple(index)]
    ndim = x._array.ndim
    used = 0
    for item in items:
        if isinstance(item, Tensor):
            used += item._array.ndim if item._array.dtype.kind == "b" else 1
        elif type(item) is int or isinstance(item, slice):
            used += 1
    if used > ndim:
        if ndim == 0 and len(items) == 1:
            sliced = isinstance(items[0], slice)
            raise IndexError("slice() cannot be applied to a 0-dim tensor." if sliced else ZERO_DIM)
        raise IndexError(f"too many indices for tensor of dimension {ndim}")
    key: list[Any] = []
    advanced: list[tuple[int, Tensor]] = []
    op = None
    dim = source = 0
    for item in items:
        if type(item) is int:
            _check_bounds(item, source, x._array.shape[source])
            key.append(item)
            source += 1
            op = _pick
        elif isinstance(item, slice):
            key.append(item)
            op = op if item == _ALL and op is not None else _cut
            source += 1
            dim += 1
        elif item is None:
            key.append(None)
            dim += 1
            op = _insert
        elif item is Ellipsis:
            missing = max(ndim - used, 0)
            key.extend([_ALL] * missing)
            dim += missing
            source += missing
        elif isinstance(item, bool):
            key.append(None)
            advanced.append((dim, constant(np.zeros(1 if item else 0, np.int64))))
            dim += 1
            op = _insert
        else:
            width = item._array.ndim if item._array.dtype.kind == "b" else 1
            if item._array.dtype.kind == "b":
                _check_mask(item, x, source, len(advanced))
            key.extend([_ALL] * width)
            advanced.append((dim, item))
            dim += width
            source += width
    key.append(Ellipsis)
    return tuple(key), advanced, op


def _as_tuple(index: Any) -> tuple[Any, ...]:
    if isinstance(index, tuple):
        return index
    if isinstance(index, list) and len(index) < 32 and any(
        item is None or item is Ellipsis or isinstance(item, (slice, Tensor, list, tuple, np.ndarray)) for item in index
    ):
        warnings.warn(
            "Using a non-tuple sequence for multidimensional indexing is deprecated; use x[tuple(seq)] instead of "
            "x[seq].",
            UserWarning, stacklevel=4)
        return tuple(index)
    return (index,)


def _known(item: Any) -> Any:
    """An item of an index as int, bool, slice of ints, None, Ellipsis or a tensor with at least one dimension."""
    kind = type(item)
    if item is None or item is Ellipsis or kind is int or kind is bool:
        return item
    if kind is slice:
        return item if _plain_slice(item) else _checked_slice(item)
    if isinstance(item, np.bool_) or isinstance(item, (float, complex, np.floating, np.complexfloating)):
        raise IndexError("only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid "
                         "indices "
                         f"(got {kind.__name__})")
    if isinstance(item, np.integer):
        return int(item)
    if not isinstance(item, Tensor):
        if isinstance(item, (list, tuple, range, np.ndarray)):
            array = infer_array(list(item) if isinstance(item, range) else item, None)
            empty = not array.size and isinstance(item, (list, tuple, range))
            item = constant(array.astype(np.int64) if empty else array)
        elif hasattr(item, "__index__"):
            return item.__index__()
        else:
            infer_array(item, None)  # says what cannot be understood
            raise IndexError("only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid "
                             f"indices (got {kind.__name__})")
    array = item._array
    if array.dtype.kind not in "iub":
        raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
    if array.ndim == 0:
        recording.read(item)
        return bool(array) if array.dtype.kind == "b" else int(array)
    if array.dtype == np.uint8:
        warnings.warn("indexing with dtype torch.uint8 is now deprecated, please use a dtype torch.bool instead.",
                      UserWarning, stacklevel=5)
        return ne(item, 0)
    return item


def _checked_slice(s: slice) -> slice:
    start, stop, step = (v.__index__() if hasattr(v, "__index__") else v for v in (s.start, s.stop, s.step))
    for v in (start, stop, step):
        if v is not None and not isinstance(v, int):
            raise TypeError("slice indices must be integers or None or have an __index__ method")
    if step == 0:
        raise ValueError("slice step cannot be zero")
    if step is not None and step < 0:
        raise ValueError("step must be greater than zero")
    return slice(start, stop, step)


def _check_bounds(index: int, dim: int, size: int) -> None:
    if not -size <= index < size:
        raise IndexError(f"index {index} is out of bounds for dimension {dim} with size {size}")


def _check_mask(mask: Tensor, x: Tensor, at: int, number: int) -> None:
    shape = x._array.shape
    have = mask._array.shape
    if shape[at : at + len(have)] != have:
        raise IndexError(f"The shape of the mask {list(have)} at index {number} does not match the shape of the "
                         "indexed tensor "
                         f"{list(shape)} at index {at}")


# ---- tensors as indices ----------------------------------------------------------------------------


def index_arrays(view: Tensor, advanced: list[tuple[int, Tensor]]) -> tuple[tuple[int, ...], list[Tensor]]:
    """Dimensions and integer index tensors; a mask stands for the positions where it is true."""
    dims: list[int] = []
    indices: list[Tensor] = []
    for dim, item in advanced:
        if item._array.dtype.kind == "b":
            recording.read(item)
            for offset, positions in enumerate(np.nonzero(item._array)):
                dims.append(dim + offset)
                indices.append(constant(positions))
        else:
            dims.append(dim)
            indices.append(item)
    if len(indices) > 1:
        shapes = [i._array.shape for i in indices]
        if all(s == shapes[0] for s in shapes):
            return tuple(dims), indices
        try:
            np.broadcast_shapes(*shapes)
        except ValueError:
            listed = ", ".join(str(list(s)) for s in shapes)
            raise IndexError(
                f"shape mismatch: indexing tensors could not be broadcast together with shapes {listed}") from None
    return tuple(dims), indices


def array_key(dims: tuple[int, ...], indices: Any) -> tuple[Any, ...]:
    """The NumPy key with index arrays at these dimensions."""
    key: list[Any] = [_ALL] * (dims[-1] + 1)
    for dim, index in zip(dims, indices, strict=True):
        key[dim] = index
    return tuple(key)


@primitive("index")
def _index(x: Any, *indices: Any, dims: tuple[int, ...]) -> Any:
    """The entries at index arrays, one per dimension of `dims`."""
    try:
        if len(dims) == 1 and x.flags.c_contiguous:
            return np.take(x, indices[0], axis=dims[0])
        made = x[array_key(dims, indices)]
        return made if made.flags.c_contiguous else np.ascontiguousarray(made)
    except IndexError as error:
        raise dimension_error(error) from None


@_index.vjp
def _index_vjp(grad: Tensor, rest: Any, dims: tuple[int, ...], shapes: Any) -> Any:
    return (_index_backward(grad, *rest, dims=dims, shape=shapes[0]), *[None] * len(rest))


@primitive("index_backward")
def _index_backward(grad: Any, *indices: Any, dims: tuple[int, ...], shape: Any) -> Any:
    """Zeros with the gradient added at the index arrays."""
    out = np.zeros(shape, grad.dtype)
    add_at(out, dims, indices, grad)
    return out


@_index_backward.vjp
def _index_backward_vjp(grad: Tensor, rest: Any, dims: tuple[int, ...]) -> Any:
    return (_index(grad, *rest, dims=dims), *[None] * len(rest))


@primitive("mask_index", grad_name="IndexBackward0")
def _mask_index(x: Any, mask: Any, *, dim: int) -> Any:
    """The entries where a mask over dimensions `dim`... is true, as one dimension."""
    return np.ascontiguousarray(x[(_ALL,) * dim + (mask,)])


_mask_index.vjp(x=lambda grad, mask, dim, shapes: _mask_place(grad, mask, dim=dim, shape=shapes[0]))


@primitive("mask_place")
def _mask_place(grad: Any, mask: Any, *, dim: int, shape: Any) -> Any:
    """Zeros with the entries of `grad` where the mask is true."""
    out = np.zeros(shape, grad.dtype)
    out[(_ALL,) * dim + (mask,)] = grad
    return out


_mask_place.vjp(grad=lambda grad, mask, dim: _mask_index(grad, mask, dim=dim))


# ---- writing ---------------------------------------------------------------------------------------


@writer("index_put", grad_name="IndexPutBackward0")
def _index_put(x: Any, values: Any, *indices: Any, dims: tuple[int, ...], accumulate: bool) -> None:
    """Values written, or added, at index arrays."""
    try:
        if accumulate:
            add_at(x, dims, indices, values)
        else:
            x[array_key(dims, indices)] = values
    except IndexError as error:
        raise dimension_error(error) from None


@_index_put.vjp
def _index_put_vjp(grad: Tensor, rest: Any, dims: tuple[int, ...], accumulate: bool, needs: Any) -> Any:
    old = None
    if needs[0]:
        zero = constant(np.zeros((), grad._array.dtype))
        old = grad if accumulate else _index_put(grad, zero, *rest, dims=dims, accumulate=False)
    new = _index(grad, *rest, dims=dims) if needs[1] else None
    return (old, new, *[None] * len(rest))


def _index_put_form(apply: Any, input: Tensor, indices: Any, values: Tensor, accumulate: bool = False) -> Tensor:
    """Write (or, with `accumulate`, add) values at index tensors: one per leading dimension, None for a whole one.

    RuntimeError when the types differ or values do not broadcast to the indexed shape.
    """
    if not isinstance(indices, (tuple, list)):
        raise TypeError("index_put_(): argument 'indices' (position 1) must be tuple of Tensors, not "
                        f"{type(indices).__name__}")
    if input._array.dtype != values._array.dtype:
        raise RuntimeError("Index put requires the source and destination dtypes match, got "
                           f"{scalar_name(input._array.dtype)} for the destination and "
                           f"{scalar_name(values._array.dtype)} for the "
                           "source.")
    items = tuple(_ALL if i is None else reshape(i, (1,)) if i._array.ndim == 0 else i for i in indices)
    _, advanced, _ = resolve(input, items)
    dims, arrays = index_arrays(input, advanced)
    if not dims:
        return apply(_copy_over, input, values)
    return _put(apply, input, dims, arrays, values, accumulate)


def _put(apply: Any, input: Tensor, dims: Any, arrays: Any, values: Tensor, accumulate: bool) -> Tensor:
    shape = indexed_shape(input._array.shape, dims, np.broadcast_shapes(*(i._array.shape for i in arrays)))
    values = _without_leading_ones(values, len(shape))
    try:
        fits = np.broadcast_shapes(values._array.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise RuntimeError(f"shape mismatch: value tensor of shape {list(values._array.shape)} cannot be broadcast to "
                           "indexing "
                           f"result of shape {list(shape)}")
    return apply(_index_put, input, values, *arrays, dims=dims, accumulate=accumulate)


@writer("copy_over", grad_name="CopyBackwards")
def _copy_over(x: Any, values: Any) -> None:
    x[...] = values


_copy_over.vjp(x=lambda grad: constant(np.zeros_like(grad._array)), values=lambda grad: grad)

index_put, index_put_ = both("index_put", _index_put_form)


def _without_leading_ones(value: Tensor, ndim: int) -> Tensor:
    """A value with more dimensions than its target loses leading ones, as assignment allows."""
    shape = value._array.shape
    extra = len(shape) - ndim
    if extra > 0 and shape[:extra] == (1,) * extra:
        return reshape(value, shape[extra:])
    return value


def setitem(self: Tensor, index: Any, value: Any) -> None:
    """`x[index] = value`: a number, or a tensor that broadcasts to the indexed shape.

    TypeError for sequences and arrays, RuntimeError for shapes that do not fit, IndexError out of range.
    """
    if not isinstance(value, Tensor) and not isinstance(value, _NUMBERS):
        raise TypeError(f"can't assign a {_type_name(value)} to a {self.type()}")
    key, advanced, op = resolve(self, index)
    recorded = dispatch.interceptor is not None or (
        modes.grad and (self._requires_grad or (isinstance(value, Tensor) and value._requires_grad)))
    if not recorded and not isinstance(self._array, MetaArray):
        _write(self, key, advanced, value)
        return
    trivial = all(k is Ellipsis or k == _ALL for k in key)
    view = self if trivial and advanced else _alias(self) if op is None else op(self, key=key)
    if not isinstance(value, Tensor):
        value = constant(_number_for(self, value))
    if not advanced:
        copy_(view, _without_leading_ones(value, view._array.ndim))
    elif len(advanced) == 1 and advanced[0][1]._array.dtype.kind == "b" and value._array.ndim == 0:
        dim, mask = advanced[0]
        trailing = view._array.ndim - dim - mask._array.ndim
        masked_fill_(view, reshape(mask, (*mask._array.shape, *[1] * trailing)), value)
    else:
        _check_value_type(self, value)
        dims, arrays = index_arrays(view, advanced)
        _put(over, view, dims, arrays, value, False)


def _write(self: Tensor, key: Any, advanced: Any, value: Any) -> None:
    """Assignment without history: straight into memory."""
    array = plain(self)
    region = array[key]
    check_overlap(region)
    if isinstance(value, Tensor):
        values = value._array
    else:
        values = _number_for(self, value)
    if not advanced:
        if values.ndim > region.ndim:
            values = _without_leading_ones(wrap(values), region.ndim)._array
        if values.dtype != region.dtype:
            values = cast_array(values, region.dtype)
        try:
            region[...] = values
        except ValueError:
            expand(wrap(values), region.shape)  # PyTorch's words
            raise
    else:
        if isinstance(value, Tensor) and not (values.ndim == 0 and advanced[0][1]._array.dtype.kind == "b"):
            _check_value_type(self, value)
        if values.dtype != region.dtype:
            values = cast_array(values, region.dtype)
        _write_advanced(region, advanced, values)
    bump(self)


def _write_advanced(region: np.ndarray, advanced: Any, values: np.ndarray) -> None:
    if len(advanced) == 1:
        dim, item = advanced[0]
        where: Any = (_ALL,) * dim + (item._array,)
    else:
        dims, indices = index_arrays(wrap(region), advanced)
        where = array_key(dims, [i._array for i in indices])
    if values.ndim > 1 and values.shape[0] == 1:
        rank = np.ndim(region) + (0 if len(advanced) > 1 else advanced[0][1]._array.ndim - 1)
        values = _without_leading_ones(wrap(values), max(rank, 1))._array if values.ndim > rank else values
    try:
        region[where] = values
    except IndexError as error:
        raise dimension_error(error) from None
    except ValueError:
        shape = region[where].shape
        raise RuntimeError(f"shape mismatch: value tensor of shape {list(values.shape)} cannot be broadcast to "
                           "indexing result of "
                           f"shape {list(shape)}") from None


def _check_value_type(self: Tensor, value: Tensor) -> None:
    if self._array.dtype != value._array.dtype:
        raise RuntimeError("Index put requires the source and destination dtypes match, got "
                           f"{scalar_name(self._array.dtype)} for the destination and "
                           f"{scalar_name(value._array.dtype)} for the "
                           "source.")


def _number_for(self: Tensor, value: Any) -> np.ndarray:
    """A Python number as a 0-d array of the tensor's type. RuntimeError if it does not fit."""
    target = self._array.dtype
    return number_as(value, target)


def number_as(value: Any, target: Any) -> np.ndarray:
    """A number as a 0-d array of a NumPy type; floats are cut for integers. RuntimeError if the type cannot hold it."""
    name = dtypes.from_numpy(target).name
    if isinstance(value, (complex, np.complexfloating)) and target.kind != "c":
        raise RuntimeError(f"value cannot be converted to type {name} without overflow")
    try:
        if target.kind in "iu" and not isinstance(value, (bool, np.bool_)):
            value = int(value)
        return np.array(value).astype(target) if isinstance(value, np.generic) else np.array(value, target)
    except (OverflowError, ValueError):
        raise RuntimeError(f"value cannot be converted to type {name} without overflow") from None


def _type_name(value: Any) -> str:
    return "numpy.ndarray" if isinstance(value, np.ndarray) else type(value).__name__
