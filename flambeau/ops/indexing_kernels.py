"""What the indexing families share on arrays: adding where positions repeat, and ops that exist in two forms."""

from __future__ import annotations

import inspect
import math
import re
from typing import Any

import numpy as np

from flambeau.core import dispatch
from flambeau.core.device import MetaArray
from flambeau.core.dispatch import primitive
from flambeau.core.inplace import assign, before, bump, check_overlap, check_writable
from flambeau.core.modes import modes
from flambeau.core.tensor import Tensor, constant, plain

HALF_WIDTH = 2  # bytes of float16 and bfloat16, whose sums are taken in float32


# ---- ops that write into a copy, and their in-place twins -----------------------------------------


def writer(name: str, **options: Any) -> Any:
    """Declare a primitive by how it writes into its first array; the functional op writes into a copy."""

    def declare(write: Any) -> Any:
        def kernel(x: Any, *others: Any, **attrs: Any) -> Any:
            if isinstance(x, MetaArray):
                return x
            out = np.array(x, order="C")
            write(out, *others, **attrs)
            return out

        kernel.__doc__ = write.__doc__
        kernel.__module__ = write.__module__
        kernel.__signature__ = inspect.signature(write)  # type: ignore[attr-defined]
        op = primitive(name, **options)(kernel)
        op.op.write = write
        return op

    return declare


def fresh(op: Any, x: Tensor, *others: Any, **attrs: Any) -> Tensor:
    """The functional form: a new tensor."""
    return op(x, *others, **attrs)


def over(op: Any, x: Tensor, *others: Any, **attrs: Any) -> Tensor:
    """The in-place form: straight into memory unless history is recorded."""
    recording = modes.grad and (x._requires_grad or any(isinstance(v, Tensor) and v._requires_grad for v in others))
    if recording:
        check_writable(x)
    if recording or dispatch.interceptor is not None:
        return assign(x, op(before(x, copied=True), *others, **attrs))
    if isinstance(x._array, MetaArray):
        return x
    check_overlap(x._array)
    arrays = [v._array if isinstance(v, Tensor) else v for v in others]
    target = plain(x)
    # A source that shows the memory being written is read first.
    arrays = [a.copy() if isinstance(a, np.ndarray) and np.may_share_memory(a, target) else a for a in arrays]
    op.op.write(target, *arrays, **attrs)
    bump(x)
    return x


def both(name: str, function: Any) -> tuple[Any, Any]:
    """The functional and the in-place public function of `function(apply, input, ...)`: `name` and `name_`."""

    def functional(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return function(fresh, input, *args, **kwargs)

    def in_place(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return function(over, self, *args, **kwargs)

    for made, called in ((functional, name), (in_place, name + "_")):
        made.__name__ = made.__qualname__ = called
        made.__doc__ = function.__doc__
        made.__module__ = function.__module__
    return functional, in_place


# ---- positions ------------------------------------------------------------------------------------


def dimension_error(error: IndexError) -> IndexError:
    """NumPy's IndexError in PyTorch's words."""
    return IndexError(re.sub(r"\baxis\b", "dimension", str(error)))


def at_least_1d(x: Any) -> Any:
    """A 0-d array as a vector of one element that shares its memory."""
    return x.reshape(1) if x.ndim == 0 else x


def zeros(shape: Any, like: Tensor) -> Tensor:
    """Zeros of a shape in the type of another tensor."""
    return constant(np.zeros(shape, like._array.dtype))


def add_at(out: np.ndarray, dims: tuple[int, ...], indices: Any, values: Any) -> None:
    """`out[..., indices, ...] += values` where equal positions add up; `values` has the shape NumPy would give."""
    shape = np.broadcast_shapes(*(i.shape for i in indices))
    adjacent = dims[-1] - dims[0] == len(dims) - 1
    values = np.broadcast_to(values, indexed_shape(out.shape, dims, shape))
    moved = np.moveaxis(out, dims, range(len(dims)))
    if adjacent and dims[0]:
        values = np.moveaxis(values, range(dims[0], dims[0] + len(shape)), range(len(shape)))
    sizes = moved.shape[: len(dims)]
    flat = flat_positions(indices, sizes)
    rows = math.prod(sizes)
    inner = out.size // rows if rows else 0
    values = values.reshape(flat.size, inner) if values.size else values
    if not values.size:
        return
    if moved.flags.c_contiguous:
        add_rows(moved.reshape(rows, inner), flat, values)
    else:
        sums = np.zeros((rows, inner), out.dtype)
        add_rows(sums, flat, values)
        moved += sums.reshape(moved.shape)


def indexed_shape(shape: Any, dims: tuple[int, ...], index_shape: Any) -> tuple[int, ...]:
    """The shape of `x[..., indices, ...]`: index dimensions in place when adjacent, else in front."""
    if dims[-1] - dims[0] == len(dims) - 1:
        return (*shape[: dims[0]], *index_shape, *shape[dims[-1] + 1 :])
    return (*index_shape, *(n for d, n in enumerate(shape) if d not in dims))


def flat_positions(indices: Any, sizes: Any) -> np.ndarray:
    """Index arrays of several dimensions as one vector of positions; negative ones count from the end."""
    flat: Any = 0
    for index, n in zip(indices, sizes, strict=True):
        index = index.astype(np.int64, copy=False)
        if index.size and (index.min() < -n or index.max() >= n):
            bad = index[(index < -n) | (index >= n)].reshape(-1)[0]
            raise IndexError(f"index {bad} is out of bounds for dimension with size {n}")
        flat = flat * n + np.where(index < 0, index + n, index)
    return flat.reshape(-1)


def add_rows(target: np.ndarray, rows: np.ndarray, values: np.ndarray) -> None:
    """`target[rows] += values` where repeated rows add up; target (R, C) contiguous, values (M, C)."""
    if target.dtype.itemsize == HALF_WIDTH and target.dtype.kind in "fV":
        wide = target.astype(np.float32)
        add_rows(wide, rows, values.astype(np.float32))
        target[...] = wide.astype(target.dtype)
        return
    if distinct(rows, target.shape[0]):
        target[rows] += values
    elif target.shape[1] == 1:
        np.add.at(target.reshape(-1), rows, values.reshape(-1).astype(target.dtype, copy=False))
    else:  # sorted, equal rows lie together: one vector sum per run
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        target[ordered[starts]] += np.add.reduceat(values[order], starts, axis=0, dtype=target.dtype)


def distinct(positions: np.ndarray, count: int) -> bool:
    """Whether no position (out of `count`) repeats."""
    if positions.size < 2:
        return True
    if positions.size > count:
        return False
    if positions.size * 16 < count:
        ordered = np.sort(positions)
        return bool((ordered[1:] != ordered[:-1]).all())
    return int(np.bincount(positions, minlength=count).max()) <= 1
