"""Views: other shapes of the same memory."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from flambeau.core import dispatch
from flambeau.core import dtype as dtypes
from flambeau.core.device import MetaArray, meta_array
from flambeau.core.dispatch import primitive
from flambeau.core.inplace import write_region
from flambeau.core.modes import modes
from flambeau.core.storage import as_strided_array
from flambeau.core.tensor import Size, Tensor, plain, storage_of, strides_of, wrap_dim


def as_sizes(args: Any) -> tuple[int, ...]:
    """Sizes given as separate numbers or as one sequence. TypeError for anything that is not an integer."""
    if len(args) == 1 and isinstance(args[0], (tuple, list, Size)):
        args = args[0]
    sizes = []
    for n in args:
        if isinstance(n, (bool, float)):
            raise TypeError(f"shape must be a tuple of ints, but found element of type {type(n).__name__}")
        sizes.append(n.__index__())
    return tuple(sizes)


def infer_size(sizes: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Sizes with a -1 filled in. RuntimeError when they do not hold `count` elements."""
    known, open_at = 1, None
    for position, n in enumerate(sizes):
        if n == -1:
            if open_at is not None:
                raise RuntimeError("only one dimension can be inferred")
            open_at = position
        elif n < 0:
            raise RuntimeError(f"invalid shape dimension {n}")
        else:
            known *= n
    if open_at is None:
        if known != count:
            raise RuntimeError(f"shape '{list(sizes)}' is invalid for input of size {count}")
        return sizes
    if known == 0:
        raise RuntimeError(
            f"cannot reshape tensor of 0 elements into shape {list(sizes)} because the unspecified dimension size -1 "
            f"can be any "
            "value and is ambiguous"
        )
    if count % known:
        raise RuntimeError(f"shape '{list(sizes)}' is invalid for input of size {count}")
    return (*sizes[:open_at], count // known, *sizes[open_at + 1 :])


@primitive("view", view=True)
def _view(x: Any, *, shape: Any) -> Any:
    if isinstance(x, MetaArray):
        return meta_array(shape, x.dtype)
    if isinstance(x, MetaArray):
        return meta_array(shape, x.dtype)
    made = x.reshape(shape)
    if x.size and not np.may_share_memory(made, x):
        raise RuntimeError(
            "view size is not compatible with input tensor's size and stride (at least one dimension spans across "
            "two contiguous "
            "subspaces). Use .reshape(...) instead."
        )
    return made


_view.vjp(x=lambda grad, shapes: reshape(grad, shapes[0]))


def view(self: Tensor, *shape: Any, size: Any = None, dtype: dtypes.dtype | None = None) -> Any:
    """The same memory with another shape; a -1 is inferred. Also `view(dtype)`: the same bytes as another type.

    RuntimeError when the shape does not fit the number of elements or the strides.
    """
    if len(shape) == 1 and isinstance(shape[0], dtypes.dtype):
        return view_dtype(self, shape[0])
    if dtype is not None and not shape:
        return view_dtype(self, dtype)
    if size is not None and not shape:
        shape = (size,)
    return _view(self, shape=infer_size(as_sizes(shape), self._array.size))


@primitive("view_dtype", view=True, no_gradient="bytes reinterpreted are not differentiable")
def _view_dtype(x: Any, *, dtype: Any) -> Any:
    return x.view(dtype)


def view_dtype(self: Tensor, dtype: dtypes.dtype) -> Tensor:
    """The same bytes read as another element type; the last dimension grows or shrinks with the element size."""
    if self.dtype is dtype:
        return _alias(self)
    array = plain(self)
    if dtype.itemsize != array.itemsize:
        if array.ndim == 0:
            raise RuntimeError(f"self.dim() cannot be 0 to view {self.dtype} as {dtype} (different element sizes)")
        if array.size and array.strides[-1] != array.itemsize:
            raise RuntimeError(
                f"self.stride(-1) must be 1 to view {self.dtype} as {dtype} (different element sizes), but got "
                f"{strides_of(self)[-1]}"
            )
        if array.shape[-1] * array.itemsize % dtype.itemsize:
            raise RuntimeError(
                f"self.size(-1) must be divisible by {dtype.itemsize // array.itemsize} to view {self.dtype} as "
                f"{dtype} "
                f"(different element sizes), but got {array.shape[-1]}"
            )
    return _view_dtype(self, dtype=dtype.numpy)


@primitive("reshape_copy", grad_name="ViewBackward0")
def _reshape_copy(x: Any, *, shape: Any) -> Any:
    if isinstance(x, MetaArray):
        return meta_array(shape, x.dtype)
    return np.array(x, order="C").reshape(shape)


_reshape_copy.vjp(x=lambda grad, shapes: reshape(grad, shapes[0]))


def _reshapes_in_place(array: np.ndarray, sizes: Any) -> bool:
    """Whether the strides allow another shape without a copy."""
    try:
        if _HAS_COPY_ARGUMENT:
            np.reshape(array, sizes, copy=False)
        else:
            array[...].shape = sizes
    except (ValueError, AttributeError):
        return False
    return True


_HAS_COPY_ARGUMENT = np.lib.NumpyVersion(np.__version__) >= "2.1.0"


def reshape(input: Tensor, *shape: Any) -> Tensor:
    """Another shape of the same elements in order: a view when the strides allow it, else a copy."""
    sizes = infer_size(as_sizes(shape), input._array.size)
    array = plain(input)
    if array.flags.c_contiguous or array.size == 0 or type(array) is MetaArray or _reshapes_in_place(array, sizes):
        return _view(input, shape=sizes)
    return _reshape_copy(input, shape=sizes)


@primitive("alias", view=True)
def _alias(x: Any) -> Any:
    return x.view()


_alias.vjp(x=lambda grad: grad)


@primitive("transpose", view=True)
def _transpose(x: Any, *, dim0: int, dim1: int) -> Any:
    return np.swapaxes(x, dim0, dim1) if x.ndim else x.view()


_transpose.vjp(x=lambda grad, dim0, dim1: _transpose(grad, dim0=dim0, dim1=dim1))


def transpose(input: Tensor, dim0: Any, dim1: Any) -> Tensor:
    """A view with two dimensions swapped."""
    n = input._array.ndim
    return _transpose(input, dim0=wrap_dim(dim0, n, input), dim1=wrap_dim(dim1, n, input))


@primitive("permute", view=True)
def _permute(x: Any, *, dims: Any) -> Any:
    return np.transpose(x, dims)


@_permute.vjp
def _permute_vjp(grad: Tensor, dims: Any) -> Any:
    return _permute(grad, dims=tuple(np.argsort(dims).tolist()))


def permute(input: Tensor, *dims: Any) -> Tensor:
    """A view with the dimensions in another order."""
    order = as_sizes(dims)
    n = input._array.ndim
    if len(order) != n:
        raise RuntimeError(
            f"permute(sparse_coo): number of dimensions in the tensor input does not match the length of the desired "
            f"ordering of "
            f"dimensions i.e. input.dim() = {n} is not equal to len(dims) = {len(order)}"
        )
    order = tuple(wrap_dim(d, n) for d in order)
    if len(set(order)) != n:
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    return _permute(input, dims=order)


def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """A view with some dimensions moved, the others kept in order."""
    n = input._array.ndim
    src = [wrap_dim(d, n) for d in ((source,) if isinstance(source, int) else source)]
    dst = [wrap_dim(d, n) for d in ((destination,) if isinstance(destination, int) else destination)]
    if len(src) != len(dst):
        raise RuntimeError(
            f"movedim: Invalid source or destination dims: source ({src} dims) should contain the same number of "
            f"dims as "
            f"destination ({dst} dims)"
        )
    if len(set(src)) != len(src):
        raise RuntimeError(f"movedim: repeated dim in `source` ({src})")
    if len(set(dst)) != len(dst):
        raise RuntimeError(f"movedim: repeated dim in `destination` ({dst})")
    if n == 0:
        return _alias(input)
    order = [d for d in range(n) if d not in src]
    for to, come in sorted(zip(dst, src)):
        order.insert(to, come)
    return _permute(input, dims=tuple(order))


@primitive("expand", view=True)
def _expand(x: Any, *, shape: Any) -> Any:
    if isinstance(x, MetaArray):
        return np.broadcast_to(np.asarray(x), shape).view(MetaArray)
    added = len(shape) - x.ndim
    strides = [0] * added
    for n, have, s in zip(shape[added:], x.shape, x.strides):
        strides.append(s if n == have else 0)
    return np.lib.stride_tricks.as_strided(x, shape, strides)


_expand.vjp(x=lambda grad: grad)


def expand(self: Tensor, *size: Any, implicit: bool = False) -> Tensor:
    """A view in which dimensions of size 1 are repeated without copying (stride 0); -1 keeps a size."""
    sizes = as_sizes(size)
    have = self._array.shape
    added = len(sizes) - len(have)
    if added < 0:
        raise RuntimeError(
            f"expand({self.type()}{{{list(have)}}}, size={list(sizes)}): the number of sizes provided ({len(sizes)}) "
            f"must be "
            f"greater or equal to the number of dimensions in the tensor ({len(have)})"
        )
    shape = list(sizes)
    for d, n in enumerate(sizes):
        if d < added:
            if n < 0:
                raise RuntimeError(
                    f"The expanded size of the tensor ({n}) isn't allowed in a leading, non-existing dimension {d}"
                )
        elif n == -1:
            shape[d] = have[d - added]
        elif have[d - added] != n and have[d - added] != 1:
            raise RuntimeError(
                f"The expanded size of the tensor ({n}) must match the existing size ({have[d - added]}) at "
                f"non-singleton "
                f"dimension {d}.  Target sizes: {list(sizes)}.  Tensor sizes: {list(have)}"
            )
    return _expand(self, shape=tuple(shape))


@primitive("squeeze", view=True)
def _squeeze(x: Any, *, dims: Any) -> Any:
    return np.squeeze(x, axis=dims) if dims else x.view()


_squeeze.vjp(x=lambda grad, shapes: reshape(grad, shapes[0]))


def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """A view without dimensions of size 1: all of them, or those in `dim` that have size 1."""
    shape = input._array.shape
    if dim is None:
        dims = tuple(d for d, n in enumerate(shape) if n == 1)
    else:
        given = (dim,) if isinstance(dim, (int, str)) else tuple(dim)
        wrapped = [wrap_dim(d, len(shape), input) for d in given]
        if len(set(wrapped)) != len(wrapped):
            raise RuntimeError(f"dim {wrapped[-1]} appears multiple times in the list of dims")
        dims = tuple(d for d in wrapped if shape and shape[d] == 1)
    return _squeeze(input, dims=dims)


@primitive("unsqueeze", view=True)
def _unsqueeze(x: Any, *, dim: int) -> Any:
    """PyTorch gives the new dimension the stride of the one it stands before times its size."""
    made = np.expand_dims(x, dim)
    if isinstance(x, MetaArray) or x.ndim == 0:
        return made
    strides = list(x.strides)
    strides.insert(dim, x.strides[dim] * x.shape[dim] if dim < x.ndim else x.itemsize)
    return np.lib.stride_tricks.as_strided(x, made.shape, strides) if x.size else made


_unsqueeze.vjp(x=lambda grad, dim: _squeeze(grad, dims=(dim,)))


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """A view with a dimension of size 1 inserted at `dim`."""
    return _unsqueeze(input, dim=wrap_dim(dim, input._array.ndim + 1))


@primitive("select", view=True)
def _select(x: Any, *, dim: int, index: int) -> Any:
    return x[(slice(None),) * dim + (index, ...)]


_select.vjp(
    x=lambda grad, dim, index, shapes: write_region(
        grad, replay=lambda a: a[(slice(None),) * dim + (index, ...)], shape=shapes[0]
    )
)


def select(input: Tensor, dim: int, index: int) -> Tensor:
    """A view of one entry along a dimension, without that dimension. IndexError out of range."""
    shape = input._array.shape
    if not shape:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    dim = wrap_dim(dim, len(shape), input)
    index = int(index)
    if not -shape[dim] <= index < shape[dim]:
        raise IndexError(f"select(): index {index} out of range for tensor of size {list(shape)} at dimension {dim}")
    return _select(input, dim=dim, index=index + shape[dim] if index < 0 else index)


@primitive("slice", view=True)
def _slice(x: Any, *, dim: int, start: int, stop: int, step: int) -> Any:
    return x[(slice(None),) * dim + (slice(start, stop, step),)]


_slice.vjp(
    x=lambda grad, dim, start, stop, step, shapes: write_region(
        grad, replay=lambda a: a[(slice(None),) * dim + (slice(start, stop, step),)], shape=shapes[0]
    )
)


def narrow(input: Tensor, dim: int, start: Any, length: int) -> Tensor:
    """A view of `length` entries along `dim` from `start` on. RuntimeError out of range."""
    shape = input._array.shape
    if not shape:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    dim = wrap_dim(dim, len(shape), input)
    if isinstance(start, Tensor) and (start._array.ndim or start._array.dtype.kind not in "iu"):
        raise RuntimeError("start must be an 0-dim integral Tensor.")
    start = int(start)
    n = shape[dim]
    if not -n <= start <= n:
        raise IndexError(f"start out of range (expected to be in range of [{-n}, {n}], but got {start})")
    if length < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    start = start + n if start < 0 else start
    if start + length > n:
        raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({n}).")
    return _slice(input, dim=dim, start=start, stop=start + length, step=1)


@primitive("unbind", view=True, outputs=None)
def _unbind(x: Any, *, dim: int) -> Any:
    moved = np.moveaxis(x, dim, 0)
    return [moved[i, ...] for i in range(moved.shape[0])]


@primitive("restack", grad_name="StackBackward0")
def _restack(*xs: Any, dim: int) -> Any:
    """The parts of an unbind put together again."""
    return np.stack(xs, axis=dim)


@_restack.vjp
def _restack_vjp(grad: Tensor, dim: int) -> Any:
    return _unbind(grad, dim=dim)


@_unbind.vjp
def _unbind_vjp(grad: Any, dim: int) -> Any:
    return _restack(*grad, dim=dim)


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """All entries along a dimension, as views without it."""
    if input._array.ndim == 0:
        raise IndexError("Dimension specified as 0 but tensor has no dimensions")
    return _unbind(input, dim=wrap_dim(dim, input._array.ndim, input))


def iterate(self: Tensor) -> Any:
    """Iterating gives views of the entries along the first dimension. TypeError for a 0-d tensor."""
    if self._array.ndim == 0:
        raise TypeError("iteration over a 0-d tensor")
    return iter(_unbind(self, dim=0))


@primitive("split", view=True, outputs=None)
def _split(x: Any, *, sizes: Any, dim: int) -> Any:
    parts, start = [], 0
    for n in sizes:
        parts.append(x[(slice(None),) * dim + (slice(start, start + n),)])
        start += n
    return parts


@primitive("rejoin", grad_name="CatBackward0")
def _rejoin(*xs: Any, dim: int) -> Any:
    """The parts of a split put together again."""
    return np.concatenate(xs, axis=dim)


@_split.vjp
def _split_vjp(grad: Any, dim: int) -> Any:
    return _rejoin(*grad, dim=dim)


@_rejoin.vjp
def _rejoin_vjp(grad: Tensor, dim: int, shapes: Any) -> Any:
    return _split(grad, sizes=tuple(s[dim] for s in shapes), dim=dim)


def split(tensor: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of consecutive pieces along `dim`: of one size (the last may be smaller), or of the sizes listed."""
    array = tensor._array
    if array.ndim == 0:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    dim = wrap_dim(dim, array.ndim, tensor)
    n = array.shape[dim]
    if isinstance(split_size_or_sections, (list, tuple)):
        sizes = tuple(int(s) for s in split_size_or_sections)
        if any(s < 0 for s in sizes):
            raise RuntimeError(
                f"split_with_sizes expects split_sizes have only non-negative entries, but got "
                f"split_sizes={list(sizes)}"
            )
        if sum(sizes) != n:
            raise RuntimeError(
                f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at dimension "
                f"{dim}), but got "
                f"split_sizes={list(sizes)}"
            )
    else:
        size = int(split_size_or_sections)
        if size < 0:
            raise RuntimeError(f"split expects split_size be non-negative, but got split_size={size}")
        if size == 0:
            if n:
                raise RuntimeError(f"split_size can only be 0 if dimension size is 0, but got dimension size of {n}")
            sizes = (0,)
        else:
            sizes = tuple(min(size, n - start) for start in range(0, n, size)) or (0,)
    return _split(tensor, sizes=sizes, dim=dim)


@primitive("diagonal", view=True)
def _diagonal(x: Any, *, offset: int, dim1: int, dim2: int) -> Any:
    made = np.diagonal(x, offset, dim1, dim2)
    if not isinstance(x, MetaArray):
        made = made.view()
        made.flags.writeable = x.flags.writeable
    return made


def _diagonal_replay(offset: int, dim1: int, dim2: int) -> Any:
    return lambda a: _diagonal.op.kernel(a, offset=offset, dim1=dim1, dim2=dim2)


_diagonal.vjp(
    x=lambda grad, offset, dim1, dim2, shapes: write_region(
        grad, replay=_diagonal_replay(offset, dim1, dim2), shape=shapes[0]
    )
)


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A view of the diagonal of two dimensions, as a new last dimension."""
    n = input._array.ndim
    first, second = wrap_dim(dim1, n), wrap_dim(dim2, n)
    if first == second:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    return _diagonal(input, offset=offset, dim1=first, dim2=second)


@primitive("unfold", view=True)
def _unfold(x: Any, *, dim: int, size: int, step: int) -> Any:
    if x.ndim == 0:
        return np.lib.stride_tricks.as_strided(x, (size,), (x.itemsize,))
    shape, strides = list(x.shape), list(x.strides)
    shape[dim] = (shape[dim] - size) // step + 1
    if isinstance(x, MetaArray):
        return meta_array((*shape, size), x.dtype)
    strides.append(strides[dim])
    strides[dim] *= step
    return np.lib.stride_tricks.as_strided(x, (*shape, size), strides)


_unfold.vjp(x=lambda grad, dim, size, step, shapes: _fold_windows(grad, dim=dim, size=size, step=step, shape=shapes[0]))


@primitive("unfold_backward")
def _fold_windows(grad: Any, *, dim: int, size: int, step: int, shape: Any) -> Any:
    """Windows summed back to where they were cut from."""
    out = np.zeros(shape, grad.dtype)
    if not shape:
        return grad.sum(-1).reshape(shape)
    target, source = np.moveaxis(out, dim, -1), np.moveaxis(grad, dim, -2)
    for window in range(source.shape[-2]):
        target[..., window * step : window * step + size] += source[..., window, :]
    return out


_fold_windows.vjp(grad=lambda grad, dim, size, step: _unfold(grad, dim=dim, size=size, step=step))


def unfold(self: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """A view of all windows of `size` entries, `step` apart, along a dimension; they form a new last dimension."""
    shape = self._array.shape
    dim = wrap_dim(dimension, len(shape))
    extent = shape[dim] if shape else 1
    if size < 0:
        raise RuntimeError(f"size is {size} but must be >= 0")
    if size > extent:
        raise RuntimeError(f"maximum size for tensor at dimension {dim} is {extent} but size is {size}")
    if step <= 0:
        raise RuntimeError(f"step is {step} but must be > 0")
    return _unfold(self, dim=dim, size=size, step=step)


@primitive("as_strided", view=True)
def _as_strided(x: Any, *, size: Any, stride: Any, offset: int, geometry: Any) -> Any:
    """Only replayed for in-place writes: there `x` is a dense array of the base's own elements."""
    memory: Any = x.reshape(-1).view(np.uint8)  # bytes: NumPy lends no buffer of bfloat16
    strides = [s * x.itemsize for s in stride]
    return np.ndarray(size, x.dtype, buffer=memory, offset=offset * x.itemsize, strides=strides)


_as_strided.vjp(
    x=lambda grad, size, stride, offset, geometry: _restride(
        grad, source=(size, stride, offset), target=geometry, shared=geometry
    )
)


@primitive("as_strided_backward")
def _restride(grad: Any, *, source: Any, target: Any, shared: Any) -> Any:
    """A gradient laid out as `source` (sizes, strides, offset) summed into memory and read as `target`.

    Where `shared` shows an element several times, each gets its share, so that they add up again.
    """
    first = min(source[2], target[2])
    spans = [
        offset - first + sum((n - 1) * s for n, s in zip(size, stride)) for size, stride, offset in (source, target)
    ]
    count = max(0, *spans) + 1
    memory = np.zeros(count, grad.dtype)
    np.add.at(memory, _positions(source, first), grad)
    if shared is not None:
        places = _positions(shared, first)
        shown = np.bincount(places.reshape(-1), minlength=count)
        if shown.max(initial=0) > 1:
            memory = memory / np.maximum(shown, 1).astype(grad.dtype)
    return memory[_positions(target, first)]


_restride.vjp(grad=lambda grad, source, target, shared: _restride(grad, source=target, target=source, shared=shared))


def _positions(geometry: Any, first: int) -> np.ndarray:
    """Where in memory each element lies, counted from `first`."""
    size, stride, offset = geometry
    places = np.full((1,) * len(size), offset - first, np.int64)
    for d, (n, s) in enumerate(zip(size, stride)):
        places = places + (np.arange(n) * s).reshape((-1,) + (1,) * (len(size) - d - 1))
    return places.reshape(size)


def as_strided(input: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    """A view of the whole storage with these sizes, strides and offset (in elements).

    RuntimeError if it reaches outside.
    """
    plain(input)
    here = input.storage_offset()
    start = here if storage_offset is None else storage_offset
    array = as_strided_array(storage_of(input), input.dtype, size, stride, start)
    attrs = {
        "size": tuple(size),
        "stride": tuple(stride),
        "offset": start,
        "geometry": (input._array.shape, strides_of(input), here),
    }
    # Writes are replayed on the base, whose elements are taken to lie densely from its own offset on.
    base = input if input._base is None else input._base[0]
    t = dispatch.attach_view(input, array, None)
    t._base = (base, partial(_as_strided.op.kernel, **{**attrs, "offset": start - base.storage_offset()}))
    if modes.grad:
        if input._requires_grad:
            dispatch.record(_as_strided.op, (input,), attrs, [t])
        storage_of(t).note_view(t)
    return t
