"""Boolean masks: `masked_fill`, `masked_select`, `masked_scatter`, `nonzero`, `where`."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core import recording
from flambeau.core.dispatch import primitive
from flambeau.core.inplace import scalar_name
from flambeau.core.tensor import Tensor, constant, wrap
from flambeau.ops import pointwise
from flambeau.ops.comparison import ne
from flambeau.ops.indexing_kernels import both, over, writer
from flambeau.ops.pointwise import zero_of
from flambeau.ops.shape import _expand, reshape

_POSITIONS = "positions are integers"


def _check_bool(name: str, mask: Any) -> None:
    if not isinstance(mask, Tensor):
        raise TypeError(f"{name}(): argument 'mask' (position 1) must be Tensor, not {type(mask).__name__}")
    if mask._array.dtype.kind != "b":
        raise RuntimeError(f"{name} only supports boolean masks, but got mask with dtype {mask.dtype}")


def broadcast_pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both tensors expanded to their common shape. RuntimeError if there is none."""
    a, b = x._array, y._array
    if a.shape == b.shape:
        return x, y
    shape = common_shape(a.shape, b.shape)
    return (x if a.shape == shape else _expand(x, shape=shape)), (y if b.shape == shape else _expand(y, shape=shape))


def common_shape(a: Any, b: Any) -> tuple[int, ...]:
    """The broadcast shape of two. RuntimeError naming the first dimension from the end that does not fit."""
    try:
        return np.broadcast_shapes(a, b)
    except ValueError:
        rank = max(len(a), len(b))
        for d in range(rank - 1, -1, -1):
            m = a[d - rank] if d - rank + len(a) >= 0 else 1
            n = b[d - rank] if d - rank + len(b) >= 0 else 1
            if m != n and m != 1 and n != 1:
                break
        raise RuntimeError(f"The size of tensor a ({m}) must match the size of tensor b ({n}) at non-singleton "
                           f"dimension {d}") from None


# ---- fill, select, scatter ---------------------------------------------------------------------------


@writer("masked_fill", grad_name="MaskedFillBackward0")
def _masked_fill(x: Any, mask: Any, value: Any) -> None:
    np.copyto(x, value, where=mask)


_masked_fill.vjp(
    x=lambda grad, mask: _masked_fill(grad, mask, zero_of(grad)),
    value=lambda grad, mask: pointwise.where_arrays(mask, grad, zero_of(grad)),
)


def _masked_fill_form(apply: Any, input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """The tensor with `value` (a number or a 0-d tensor) where `mask` is true; the mask broadcasts."""
    _check_bool("masked_fill", mask)
    if isinstance(value, Tensor):
        if value._array.ndim:
            raise RuntimeError("masked_fill only supports a 0-dimensional value tensor, but got tensor with "
                               f"{value._array.ndim} dimension(s).")
        if value.dtype.category > input.dtype.category:
            raise RuntimeError(f"value cannot be converted to type {scalar_name(input._array.dtype)} without overflow")
        if value._array.dtype != input._array.dtype:
            value = pointwise._cast(value, dtype=input._array.dtype)
    elif not isinstance(value, (bool, int, float, complex, np.generic)):
        raise TypeError("masked_fill(): argument 'value' (position 2) must be Number or Tensor, not "
                        f"{type(value).__name__}")
    else:
        value = constant(_fill_value(value, input._array.dtype))
    shape = input._array.shape
    if mask._array.shape != shape:
        common = common_shape(shape, mask._array.shape)
        if common != shape:
            if apply is over:
                raise RuntimeError(
                    f"output with shape {list(shape)} doesn't match the broadcast shape {list(common)}")
            input = _expand(input, shape=common)
    return apply(_masked_fill, input, mask, value)


def _fill_value(value: Any, target: Any) -> np.ndarray:
    kind = {bool: "b", int: "i", float: "f", complex: "c"}.get(type(value), np.asarray(value).dtype.kind)
    message = f"value cannot be converted to type {dtypes.from_numpy(target).name} without overflow"
    if (kind == "c" and target.kind != "c") or (kind == "f" and target.kind in "biu"):
        raise RuntimeError(message)
    try:
        return np.array(value, target)
    except OverflowError:
        raise RuntimeError(message) from None


masked_fill, masked_fill_ = both("masked_fill", _masked_fill_form)


@primitive("masked_select")
def _masked_select(x: Any, mask: Any) -> Any:
    return x[mask]


_masked_select.vjp(x=lambda grad, mask: _masked_unselect(grad, mask))


@primitive("masked_unselect")
def _masked_unselect(grad: Any, mask: Any) -> Any:
    """Zeros of the mask's shape with the values where it is true."""
    out = np.zeros(mask.shape, grad.dtype)
    out[mask] = grad
    return out


_masked_unselect.vjp(grad=lambda grad, mask: _masked_select(grad, mask))


def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where `mask` is true, in a vector; both broadcast."""
    if mask._array.dtype.kind != "b":
        raise RuntimeError(f"masked_select: expected BoolTensor for mask, but got {mask.dtype}")
    recording.read(mask)
    input, mask = broadcast_pair(input, mask)
    return _masked_select(input, mask)


@writer("masked_scatter")
def _masked_scatter(x: Any, mask: Any, source: Any) -> None:
    x[mask] = source.reshape(-1)[: np.count_nonzero(mask)]


@_masked_scatter.vjp
def _masked_scatter_vjp(grad: Tensor, mask: Tensor, needs: Any, shapes: Any) -> Any:
    old = _masked_fill(grad, mask, zero_of(grad)) if needs[0] else None
    new = None
    if needs[2]:
        new = _take_first(_masked_select(grad, mask), shape=shapes[2])
    return old, None, new


@primitive("masked_scatter_backward")
def _take_first(grad: Any, *, shape: Any) -> Any:
    """A vector as the first elements of zeros of `shape`."""
    out = np.zeros(shape, grad.dtype)
    out.reshape(-1)[: grad.size] = grad
    return out


_take_first.vjp(grad=lambda grad, shapes: reshape(grad, -1)[: shapes[0][0]])


def _masked_scatter_form(apply: Any, input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """The tensor with the elements of `source`, in order, where `mask` is true. RuntimeError if there are too few."""
    if input._array.dtype != source._array.dtype:
        raise RuntimeError(f"masked_scatter: expected self and source to have same dtypes but got {input.dtype} and "
                           f"{source.dtype}")
    if mask._array.dtype.kind != "b":
        raise RuntimeError(f"masked_scatter_ only supports boolean masks, but got mask with dtype {mask.dtype}")
    shape = common_shape(input._array.shape, mask._array.shape)
    if input._array.shape != shape:
        if apply is over:
            raise RuntimeError(
                f"output with shape {list(input._array.shape)} doesn't match the broadcast shape {list(shape)}")
        input = _expand(input, shape=shape)
    if mask._array.shape != shape:
        mask = _expand(mask, shape=shape)
    count = int(np.count_nonzero(mask._array))
    if count > source._array.size:
        raise RuntimeError("Number of elements of source < number of ones in mask")
    return apply(_masked_scatter, input, mask, source)


masked_scatter, masked_scatter_ = both("masked_scatter", _masked_scatter_form)

# ---- where is it true ----------------------------------------------------------------------------------


@primitive("nonzero", no_gradient=_POSITIONS)
def _nonzero(x: Any) -> Any:
    return np.argwhere(x).astype(np.int64, copy=False)


def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """Positions of the non-zero elements: one row each (N, D), or with `as_tuple` one index vector per dimension."""
    recording.read(input)  # how many there are decides about shapes
    found = _nonzero(input)
    if not as_tuple:
        return found
    array = found._array if input._array.ndim else np.zeros((found._array.shape[0], 1), np.int64)
    return tuple(wrap(np.ascontiguousarray(array[:, d])) for d in range(array.shape[1]))


def argwhere(input: Tensor) -> Tensor:
    """Positions of the non-zero elements, one row each."""
    recording.read(input)
    return _nonzero(input)


def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """`input` where the condition holds, else `other`; with the condition alone, `nonzero(as_tuple=True)`."""
    if input is None and other is None:
        return nonzero(condition, as_tuple=True)
    if not isinstance(condition, Tensor):
        raise TypeError(f"where(): argument 'condition' (position 1) must be Tensor, not {type(condition).__name__}")
    array = condition._array
    if array.dtype.kind != "b":
        if array.dtype != np.uint8:
            raise RuntimeError(
                "where expected condition to be a boolean tensor, but got a tensor with dtype "
                f"{scalar_name(array.dtype)}")
        warnings.warn("where received a uint8 condition tensor. This behavior is deprecated and will be removed in a "
                      "future version "
                      "of PyTorch. Use a boolean condition instead.", UserWarning, stacklevel=2)
        condition = ne(condition, 0)
    return pointwise.where(condition, input, other)


def where_method(self: Tensor, condition: Tensor, other: Any) -> Tensor:
    """This tensor where the condition holds, else `other`."""
    return where(condition, self, other)


def contains(self: Tensor, element: Any) -> bool:
    """`element in x`: whether any element equals it. RuntimeError for anything but a number or a tensor."""
    if not isinstance(element, (Tensor, bool, int, float, complex)):
        raise RuntimeError(f"Tensor.__contains__ only supports Tensor or scalar, but you passed in a {type(element)}.")
    return bool((self == element).any())
