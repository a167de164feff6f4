"""Copies with the elements in other places, or several times: `repeat`, `roll`, `flip`, `tril`, `diag_embed`."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from flambeau.core import device as devices
from flambeau.core import dtype as dtypes
from flambeau.core import recording
from flambeau.core.dispatch import primitive
from flambeau.core.inplace import copy_slices
from flambeau.core.storage import as_strided_array
from flambeau.core.tensor import Tensor, computed, constant, storage_of, strides_of, wrap_dim
from flambeau.ops.gathering import index_select
from flambeau.ops.pointwise import pow as power
from flambeau.ops.reductions import _sum
from flambeau.ops.shape import (
    _diagonal,
    _diagonal_replay,
    _expand,
    _unsqueeze,
    as_sizes,
    diagonal,
    reshape,
    transpose,
)

# ---- repetition ---------------------------------------------------------------------------------------------


@primitive("repeat")
def _repeat(x: Any, *, times: Any) -> Any:
    return np.tile(x, times)


@_repeat.vjp
def _repeat_vjp(grad: Tensor, times: Any, shapes: Any) -> Any:
    shape = (1,) * (len(times) - len(shapes[0])) + shapes[0]
    if 0 in times:
        return constant(np.zeros(shapes[0], grad._array.dtype))
    pairs = tuple(n for pair in zip(times, shape, strict=True) for n in pair)  # (t1, n1, t2, n2, …)
    return reshape(_sum(reshape(grad, pairs), dims=tuple(range(0, len(pairs), 2)), keepdim=False), shapes[0])


def repeat(self: Tensor, *repeats: Any) -> Tensor:
    """A copy repeated so many times along each dimension; more numbers than dimensions add dimensions in front."""
    times = as_sizes(repeats)
    if len(times) < self._array.ndim:
        raise RuntimeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    shape = (1,) * (len(times) - self._array.ndim) + self._array.shape
    for n, m in zip(times, shape, strict=True):
        if n < 0:
            made = [a * b for a, b in zip(times, shape, strict=True)]
            raise RuntimeError(f"Trying to create tensor with negative dimension {n * m}: {made}")
    return _repeat(self, times=times)


def tile(input: Tensor, *dims: Any) -> Tensor:
    """`repeat` in which missing numbers count as 1."""
    times = as_sizes(dims)
    return repeat(input, (1,) * (input._array.ndim - len(times)) + times)


def repeat_interleave(input: Tensor, repeats: Any = None, dim: Any = None, *, output_size: int | None = None) -> Tensor:
    """Each entry along `dim` repeated: all `repeats` times, or each its own number from a tensor.

    Without `dim` the flattened input; with one tensor of counts alone, position i so many times.
    """
    if repeats is None:
        recording.read(input)
        counts = input._array
        if counts.ndim != 1:
            raise RuntimeError("repeat_interleave only accept 1D vector as repeat")
        return constant(np.repeat(np.arange(counts.size), counts))
    if dim is None:
        input = reshape(input, (-1,))
        dim = 0
    shape = input._array.shape
    dim = wrap_dim(dim, len(shape))
    if isinstance(repeats, (list, tuple)):
        repeats = constant(np.array(repeats, np.int64))
    if isinstance(repeats, Tensor) and repeats._array.size == 1 and repeats._array.ndim <= 1:
        repeats = int(repeats)
    if isinstance(repeats, Tensor):
        return _repeat_each(input, repeats, dim, output_size)
    if repeats < 0:
        raise RuntimeError("Repeats must be non-negative")
    if output_size is not None and shape and output_size != shape[dim] * repeats:
        raise RuntimeError("allocated size does not match required size")
    if not shape:
        return _expand(reshape(input, (1,)), shape=(repeats,)).clone()
    spread = _expand(_unsqueeze(input, dim=dim + 1), shape=(*shape[: dim + 1], repeats, *shape[dim + 1 :]))
    return reshape(spread.contiguous(), (*shape[:dim], shape[dim] * repeats, *shape[dim + 1 :])).clone()


def _repeat_each(input: Tensor, repeats: Tensor, dim: int, output_size: int | None) -> Tensor:
    recording.read(repeats)
    counts = repeats._array
    n = input._array.shape[dim] if input._array.ndim else 1
    if counts.ndim != 1:
        raise RuntimeError("repeats must be 0-dim or 1-dim tensor")
    if counts.dtype not in (np.int64, np.int32):
        raise RuntimeError("repeats has to be Long or Int tensor")
    if counts.size != n:
        raise RuntimeError(
            f"repeats must have the same size as input along dim, but got repeats.size(0) = {counts.size} and "
            f"input.size({dim}) = {n}"
        )
    if counts.size and counts.min() < 0:
        raise RuntimeError("repeats can not be negative")
    if output_size is not None and output_size != counts.sum():
        raise RuntimeError("allocated size does not match required size")
    return index_select(input, dim, constant(np.repeat(np.arange(n), counts)))


# ---- other places ---------------------------------------------------------------------------------------------


@primitive("flip")
def _flip(x: Any, *, dims: Any) -> Any:
    return np.flip(x, dims).copy()


_flip.vjp(x=lambda grad, dims: _flip(grad, dims=dims))


def flip(input: Tensor, *args: Any, dims: Any = None) -> Tensor:
    """A copy with the order reversed along the given dimensions."""
    wrapped = tuple(wrap_dim(d, input._array.ndim) for d in as_sizes(args if dims is None else (dims,)))
    for d in wrapped:
        if wrapped.count(d) > 1:
            raise RuntimeError(f"dim {d} appears multiple times in the list of dims")
    return _flip(input, dims=wrapped)


def flip_function(input: Tensor, dims: Any) -> Tensor:
    """A copy with the order reversed along the given dimensions."""
    if isinstance(dims, int):
        raise TypeError("flip(): argument 'dims' (position 2) must be tuple of ints, not int")
    return flip(input, dims)


def fliplr(input: Tensor) -> Tensor:
    """A copy with the columns (dimension 1) in reverse order."""
    if input._array.ndim < 2:
        raise RuntimeError("Input must be >= 2-d.")
    return _flip(input, dims=(1,))


def flipud(input: Tensor) -> Tensor:
    """A copy with the rows (dimension 0) in reverse order."""
    if input._array.ndim < 1:
        raise RuntimeError("Input must be >= 1-d.")
    return _flip(input, dims=(0,))


@primitive("roll")
def _roll(x: Any, *, shifts: Any, dims: Any) -> Any:
    return np.roll(x, shifts, dims)


_roll.vjp(
    x=lambda grad, shifts, dims: _roll(grad, shifts=-shifts if dims is None else tuple(-s for s in shifts), dims=dims)
)


def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """A copy shifted along dimensions, what leaves at one end enters at the other; without `dims` as if flattened."""
    steps = (shifts,) if isinstance(shifts, (int, Tensor)) else tuple(shifts)
    steps = tuple(int(s) for s in steps)
    along = () if dims is None else (dims,) if isinstance(dims, int) else tuple(dims)
    if not steps:
        raise RuntimeError("`shifts` required")
    if not along and len(steps) == 1:
        return _roll(input, shifts=steps[0], dims=None)
    if len(steps) != len(along):
        raise RuntimeError(f"shifts and dimensions must align. shifts: {len(steps)}, dims:{len(along)}")
    if input._array.ndim == 0:
        raise IndexError(f"Dimension specified as {along[0]} but tensor has no dimensions")
    along = tuple(wrap_dim(d, input._array.ndim) for d in along)
    return _roll(input, shifts=steps, dims=along)


def rot90(input: Tensor, k: int = 1, dims: Any = (0, 1)) -> Tensor:
    """A copy turned by 90 degrees `k` times, in the plane of two dimensions, from the first towards the second."""
    ndim = input._array.ndim
    if len(dims) != 2:
        raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    if ndim < 2:
        raise RuntimeError(f"expected total dims >= 2, but got total dims = {ndim}")
    if dims[0] == dims[1] or abs(dims[0] - dims[1]) == ndim:
        raise RuntimeError(f"expected rotation dims to be different, but got dim0 = {dims[0]} and dim1 = {dims[1]}")
    for d in dims:
        if not -ndim <= d < ndim:
            raise RuntimeError(f"Rotation dim0 out of range, dim0 = {d}")
    a, b = (wrap_dim(d, ndim) for d in dims)
    turns = k % 4
    if turns == 0:
        return input.clone()
    if turns == 2:
        return _flip(input, dims=(a, b))
    return transpose(_flip(input, dims=(b if turns == 1 else a,)), a, b)


# ---- triangles and diagonals ---------------------------------------------------------------------------------------


def _triangle(name: str, keep: Any) -> Any:
    @primitive(name)
    def run(x: Any, *, diagonal: int) -> Any:
        return np.where(keep(*x.shape[-2:], diagonal), x, np.zeros((), x.dtype))

    run.vjp(x=lambda grad, diagonal: run(grad, diagonal=diagonal))

    def public(input: Tensor, diagonal: int = 0) -> Tensor:
        if input._array.ndim < 2:
            raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions")
        return run(input, diagonal=int(diagonal))

    public.__name__ = public.__qualname__ = name
    return public


def _lower(n: int, m: int, k: int) -> Any:
    return np.tri(n, m, k, dtype=bool)


def _upper(n: int, m: int, k: int) -> Any:
    return ~np.tri(n, m, k - 1, dtype=bool)


tril = _triangle("tril", _lower)
tril.__doc__ = "The lower triangle of each matrix, zeros elsewhere; `diagonal` moves the border up."
triu = _triangle("triu", _upper)
triu.__doc__ = "The upper triangle of each matrix, zeros elsewhere; `diagonal` moves the border up."


def _triangle_indices(keep: Any, row: int, col: int, offset: int, dtype: Any, device: Any) -> Tensor:
    if row < 0:
        raise RuntimeError(f"row must be non-negative, got {row}")
    if col < 0:
        raise RuntimeError(f"col must be non-negative, got {col}")
    devices.check_device(device)
    return constant(np.argwhere(keep(row, col, offset)).T.astype((dtype or dtypes.int64).numpy, order="C"))


def tril_indices(
    row: int, col: int, offset: int = 0, *, dtype: Any = dtypes.int64, device: Any = None, layout: Any = None
) -> Tensor:
    """Rows and columns of the lower triangle's elements, shape (2, N)."""
    return _triangle_indices(_lower, row, col, offset, dtype, device)


def triu_indices(
    row: int, col: int, offset: int = 0, *, dtype: Any = dtypes.int64, device: Any = None, layout: Any = None
) -> Tensor:
    """Rows and columns of the upper triangle's elements, shape (2, N)."""
    return _triangle_indices(_upper, row, col, offset, dtype, device)


@primitive("diag_embed")
def _diag_embed(x: Any, *, offset: int, dim1: int, dim2: int) -> Any:
    n = x.shape[-1] + abs(offset)
    out = np.zeros((*x.shape[:-1], n, n), x.dtype)
    place = np.diagonal(out, offset, -2, -1)
    place.flags.writeable = True
    place[...] = x
    return np.ascontiguousarray(np.moveaxis(out, (-2, -1), (dim1, dim2)))


_diag_embed.vjp(x=lambda grad, offset, dim1, dim2: _diagonal(grad, offset=offset, dim1=dim1, dim2=dim2))


def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Matrices of zeros with the last dimension of the input on a diagonal."""
    ndim = input._array.ndim + 1
    a, b = wrap_dim(dim1, ndim), wrap_dim(dim2, ndim)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    return _diag_embed(input, offset=offset, dim1=a, dim2=b)


def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """A vector as the diagonal of a matrix, or a copy of the diagonal of a matrix."""
    if input._array.ndim == 1:
        return diag_embed(input, diagonal)
    if input._array.ndim != 2:
        raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {input._array.ndim}D")
    return _diagonal(input, offset=diagonal, dim1=0, dim2=1).clone()


def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """The flattened input as the diagonal of a matrix."""
    return diag_embed(reshape(input.contiguous(), (-1,)), offset)


def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """Powers of a vector as columns, falling from N-1 unless `increasing`."""
    if x._array.ndim != 1:
        raise RuntimeError("x must be a one-dimensional tensor.")
    n = x._array.size if N is None else N
    if n < 0:
        raise RuntimeError("N must be non-negative.")
    exponents = np.arange(n) if increasing else np.arange(n)[::-1].copy()
    return power(_unsqueeze(x, dim=1), constant(exponents))


def unravel_index(indices: Tensor, shape: Any) -> tuple[Tensor, ...]:
    """Positions of a flattened tensor as one index tensor per dimension."""
    if indices._array.dtype.kind not in "iu":
        raise ValueError(f"expected 'indices' to be integer dtype, but got {indices.dtype}")
    sizes = as_sizes((shape.tolist() if isinstance(shape, Tensor) else shape,))
    if any(n < 0 for n in sizes):
        raise ValueError(f"'shape' cannot have negative values, but got {tuple(sizes)}")
    strides = [math.prod(sizes[d + 1 :]) for d in range(len(sizes))]
    places = list(zip(strides, sizes, strict=True))
    return computed(lambda i: tuple(np.asarray(i.astype(np.int64) // s % n) for s, n in places), indices)


# ---- a copy with one region replaced ------------------------------------------------------------------------------


def _replaced(input: Tensor, src: Tensor, replay: Any) -> Tensor:
    region = replay(input._array).shape
    if src._array.shape != region:
        raise RuntimeError(
            f"expected src to have a size equal to the slice of self. src size = {list(src._array.shape)}, slice size "
            "= "
            f"{list(region)}"
        )
    return copy_slices(input, src, replay=replay)


def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """A copy in which `input.select(dim, index)` is `src`."""
    dim = wrap_dim(dim, input._array.ndim)
    n = input._array.shape[dim]
    if not -n <= index < n:
        raise IndexError(
            f"select(): index {index} out of range for tensor of size {list(input._array.shape)} at dimension {dim}"
        )
    return _replaced(input, src, lambda a: a[(slice(None),) * dim + (index, ...)])


def slice_scatter(
    input: Tensor, src: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    """A copy in which `start:end:step` along `dim` is `src`."""
    if step <= 0:
        raise RuntimeError("slice step must be positive")
    dim = wrap_dim(dim, input._array.ndim)
    return _replaced(input, src, lambda a: a[(slice(None),) * dim + (slice(start, end, step),)])


def diagonal_scatter(input: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A copy in which `input.diagonal(offset, dim1, dim2)` is `src`."""
    shape = diagonal(input.detach(), offset, dim1, dim2)._array.shape
    if src._array.shape != shape:
        raise RuntimeError(
            f"expected src to have a size equal to the slice of self. src size = {list(src._array.shape)}, slice size "
            "= "
            f"{list(shape)}"
        )
    ndim = input._array.ndim
    return copy_slices(input, src, replay=_diagonal_replay(offset, wrap_dim(dim1, ndim), wrap_dim(dim2, ndim)))


def as_strided_scatter(input: Tensor, src: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    """A copy of the input's memory in which `as_strided(size, stride, storage_offset)` is `src`, seen as the input was.

    RuntimeError if that reaches outside.
    """
    shown = input.detach().as_strided(size, stride, storage_offset)
    if src._array.shape != shown._array.shape:
        raise RuntimeError(
            f"expected src to have a size equal to the slice of self. src size = {list(src._array.shape)}, slice size "
            "= "
            f"{list(shown._array.shape)}"
        )
    start = shown.storage_offset() if storage_offset is None else storage_offset
    return _as_strided_scatter(
        input,
        src,
        storage=storage_of(input),
        geometry=(strides_of(input), input.storage_offset()),
        size=tuple(size),
        stride=tuple(stride),
        offset=start,
    )


@primitive("as_strided_scatter")
def _as_strided_scatter(
    x: Any, source: Any, *, storage: Any, geometry: Any, size: Any, stride: Any, offset: int
) -> Any:
    copied = storage.clone()
    kind = dtypes.from_numpy(x.dtype)
    as_strided_array(copied, kind, size, stride, offset)[...] = source
    return as_strided_array(copied, kind, x.shape, *geometry)


@_as_strided_scatter.vjp
def _as_strided_scatter_vjp(grad: Tensor, size: Any, stride: Any, offset: int) -> Any:
    """As PyTorch defines it: the old values receive the gradient of the region, not of what lies outside it."""
    region = grad.contiguous().as_strided(size, stride, offset)
    old = constant(np.zeros(grad._array.shape, grad._array.dtype))
    old.as_strided(size, stride, offset).copy_(region)
    return old, region


def fill_diagonal_(self: Tensor, fill_value: Any, wrap: bool = False) -> Tensor:
    """Write a number on the main diagonal; with `wrap`, a tall matrix's diagonal starts again below an empty row."""
    shape = self._array.shape
    if len(shape) < 2:
        raise RuntimeError("dimensions must larger than 1")
    if len(shape) > 2:
        if len(set(shape)) > 1:
            raise RuntimeError("all dimensions of input must be of equal length")
        self.as_strided((shape[0],), (builtins.sum(strides_of(self)),), self.storage_offset()).fill_(fill_value)
        return self
    rows, columns = shape
    diagonal(self).fill_(fill_value)
    if wrap and columns:
        for start in range(columns + 1, rows, columns + 1):
            diagonal(self[start : start + columns]).fill_(fill_value)
    return self


def reverse(self: Tensor) -> Tensor:
    """`reversed(x)`: a copy with the first dimension in reverse order; a number as it is."""
    return _flip(self, dims=(0,)) if self._array.ndim else self
