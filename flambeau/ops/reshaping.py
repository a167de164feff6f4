"""Other shapes by name of what they do: `flatten`, `view_as`, `broadcast_to`, `chunk`, `T`, `unsqueeze_`."""

from __future__ import annotations

import importlib
import math
import warnings
from typing import Any

import numpy as np

from flambeau.core.inplace import before, bump
from flambeau.core.layout import contiguous_strides
from flambeau.core.modes import modes
from flambeau.core.storage import Storage
from flambeau.core.tensor import Size, Tensor, plain, storage_of, wrap_dim, wrap_storage
from flambeau.ops.casting import contiguous, to
from flambeau.ops.masking import common_shape
from flambeau.ops.pointwise import conj
from flambeau.ops.reductions import sum as total
from flambeau.ops.shape import (
    _alias,
    _permute,
    _slice,
    _view,
    as_sizes,
    as_strided,
    expand,
    reshape,
    split,
    squeeze,
    transpose,
    unsqueeze,
    view,
)

# ---- flatten and its relatives -----------------------------------------------------------------------------


def flatten(input: Tensor, start_dim: Any = 0, end_dim: Any = -1, out_dim: str | None = None) -> Tensor:
    """Dimensions `start_dim` to `end_dim` as one: the tensor itself, a view or, if strides demand it, a copy."""
    if input._names is not None:
        return importlib.import_module("flambeau.ops.named").flatten_names(input, start_dim, end_dim, out_dim)
    shape = input._array.shape
    start, end = wrap_dim(start_dim, len(shape)), wrap_dim(end_dim, len(shape))
    if not shape:
        return reshape(input, (1,))
    if start > end:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if start == end:
        return input
    count = math.prod(shape[start : end + 1])
    sizes = (*shape[:start], count, *shape[end + 1 :])
    return _view(input, shape=sizes) if plain(input).flags.c_contiguous else reshape(input, sizes)


def unflatten(input: Tensor, dim: Any, sizes: Any) -> Tensor:
    """A view with one dimension split into several; one size may be -1."""
    if input._names is not None or hasattr(sizes, "items"):
        return importlib.import_module("flambeau.ops.named").unflatten_names(input, dim, sizes)
    shape = input._array.shape
    dim = wrap_dim(dim, len(shape))
    sizes = as_sizes((sizes,) if isinstance(sizes, (tuple, list)) else sizes)
    if not sizes:
        raise RuntimeError("unflatten: sizes must be non-empty")
    n = shape[dim]
    known = math.prod([s for s in sizes if s != -1])
    if sizes.count(-1) > 1:
        raise RuntimeError("only one dimension can be inferred")
    if (-1 in sizes and (known == 0 or n % known)) or (-1 not in sizes and known != n):
        raise RuntimeError(
            f"unflatten: Provided sizes {list(sizes)} don't multiply up to the size of dim {dim} ({n}) in the input "
            "tensor"
        )
    sizes = tuple(n // known if s == -1 else s for s in sizes)
    return view(input, (*shape[:dim], *sizes, *shape[dim + 1 :]))


def ravel(input: Tensor) -> Tensor:
    """All elements as one dimension."""
    return reshape(contiguous(input), (-1,))


def view_as(self: Tensor, other: Tensor) -> Tensor:
    """A view with the shape of `other`."""
    return view(self, other._array.shape)


def reshape_as(self: Tensor, other: Tensor) -> Tensor:
    """The same elements with the shape of `other`."""
    return reshape(self, other._array.shape)


def expand_as(self: Tensor, other: Tensor) -> Tensor:
    """A view expanded to the shape of `other`."""
    return expand(self, other._array.shape)


def type_as(self: Tensor, other: Tensor) -> Tensor:
    """The tensor in the type of `other`."""
    return to(self, other.dtype)


def sum_to_size(self: Tensor, *size: Any) -> Tensor:
    """The sum over dimensions, so that broadcasting the result to this tensor's shape is possible.

    RuntimeError if it is not.
    """
    shape = as_sizes(size)
    have = self._array.shape
    trailing = have[len(have) - len(shape) :]
    if len(shape) > len(have) or any(n != m and n != 1 for n, m in zip(shape, trailing, strict=True)):
        raise RuntimeError(f"size {{{list(shape)}}} is not expandable to size {{{list(have)}}}.")
    if not shape:
        return total(self)
    if shape == have:
        return self
    added = len(have) - len(shape)
    dims = (*range(added), *(d + added for d, n in enumerate(shape) if n == 1 and have[d + added] != 1))
    return reshape(total(self, dims), shape)


# ---- broadcasting -----------------------------------------------------------------------------------------


def broadcast_to(input: Tensor, *size: Any) -> Tensor:
    """A view expanded to a shape."""
    return expand(input, *size)


def broadcast_shapes(*shapes: Any) -> Size:
    """The shape that all these broadcast to. RuntimeError if there is none."""
    wanted = [tuple(s) if isinstance(s, (tuple, list)) else (s,) for s in shapes]
    shape: tuple[int, ...] = ()
    for position, other in enumerate(wanted):
        if any(n < 0 for n in other):
            raise RuntimeError(f"Trying to create tensor with negative dimension ({min(other)}): ({min(other)})")
        try:
            shape = np.broadcast_shapes(shape, other)
        except ValueError:
            raise RuntimeError(
                f"Shape mismatch: objects cannot be broadcast to a single shape: argument {position} has {other}, "
                f"which does not "
                f"fit {list(shape)}"
            ) from None
    return Size(shape)


def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """All tensors as views of their common shape."""
    several = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors
    shape: tuple[int, ...] = ()
    for t in several:
        shape = common_shape(shape, t._array.shape)
    return tuple(expand(t, shape) for t in several)


# ---- pieces -----------------------------------------------------------------------------------------------


def chunk(input: Tensor, chunks: int, dim: Any = 0) -> tuple[Tensor, ...]:
    """At most `chunks` consecutive views along `dim`, all of one size but the last."""
    if input._array.ndim == 0:
        raise RuntimeError("chunk expects at least a 1-dimensional tensor")
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    dim = wrap_dim(dim, input._array.ndim, input)
    n = input._array.shape[dim]
    return split(input, -(-n // chunks) if n else [0] * chunks, dim)


def tensor_split(input: Tensor, indices_or_sections: Any, dim: Any = 0) -> tuple[Tensor, ...]:
    """Views along `dim`: `sections` of nearly equal size, or cut before each of the indices."""
    if input._array.ndim == 0:
        raise RuntimeError("tensor_split expected at least a 1-dimensional tensor, but got a tensor with 0 dims")
    dim = wrap_dim(dim, input._array.ndim, input)
    n = input._array.shape[dim]
    if isinstance(indices_or_sections, Tensor):
        if indices_or_sections._array.ndim > 1 or indices_or_sections._array.dtype != np.int64:
            raise RuntimeError(
                "tensor_split expected tensor_indices_or_sections to be a zero-dimensional or one-dimensional int64 "
                f"tensor, but got a tensor with {indices_or_sections._array.ndim} dims"
            )
        indices_or_sections = indices_or_sections.tolist()
    if isinstance(indices_or_sections, int):
        sections = indices_or_sections
        if sections <= 0:
            raise RuntimeError(f"number of sections must be larger than 0, got {sections}")
        sizes = [n // sections + (i < n % sections) for i in range(sections)]
        return split(input, sizes, dim)
    cuts = [int(i) for i in indices_or_sections]
    bounds = [slice(a, b).indices(n)[:2] for a, b in zip([0, *cuts], [*cuts, n], strict=True)]
    return tuple(_slice(input, dim=dim, start=a, stop=max(a, b), step=1) for a, b in bounds)


def _splitter(name: str, least: int, choose: Any) -> Any:
    def call(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
        if isinstance(indices_or_sections, str):
            raise TypeError(
                f"{name}() received an invalid combination of arguments - got (Tensor, str), but expected an int or a "
                "tuple of ints"
            )
        ndim = input._array.ndim
        if ndim < least:
            raise RuntimeError(
                f"torch.{name} requires a tensor with at least {least} dimension, but got a tensor with {ndim} "
                "dimensions!"
            )
        dim = choose(ndim)
        n = input._array.shape[dim]
        if isinstance(indices_or_sections, int) and (indices_or_sections == 0 or n % indices_or_sections):
            raise RuntimeError(
                f"torch.{name} attempted to split along dimension {dim}, but the size of the dimension {n} is not "
                f"divisible by the split_size {indices_or_sections}!"
            )
        return tensor_split(input, indices_or_sections, dim)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = "Views cut along one dimension, into equal parts or before each of the indices."
    return call


hsplit = _splitter("hsplit", 1, lambda ndim: 0 if ndim == 1 else 1)
vsplit = _splitter("vsplit", 2, lambda ndim: 0)
dsplit = _splitter("dsplit", 3, lambda ndim: 2)

# ---- transposed ----------------------------------------------------------------------------------------------


def t(input: Tensor) -> Tensor:
    """A matrix transposed; a vector or number as it is. RuntimeError for more dimensions."""
    ndim = input._array.ndim
    if ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {ndim}D")
    return _alias(input) if ndim < 2 else transpose(input, 0, 1)


def numpy_T(self: Tensor) -> Tensor:
    """`x.T`: the dimensions in reverse order, a view. Deprecated for anything but matrices."""
    ndim = self._array.ndim
    if ndim not in (0, 2):
        warnings.warn(
            "The use of `x.T` on tensors of dimension other than 2 to reverse their shape is deprecated and it will "
            "throw "
            "an error in a future release. Consider `x.mT` to transpose batches of matrices or "
            "`x.permute(*torch.arange(x.ndim - 1, -1, -1))` to reverse the dimensions of a tensor.",
            UserWarning,
            stacklevel=2,
        )
    return _permute(self, dims=tuple(range(ndim - 1, -1, -1)))


def _matrices(name: str, self: Tensor) -> None:
    if self._array.ndim == 1:
        raise RuntimeError(f"tensor.{name} is only supported on matrices or batches of matrices. Got 1-D tensor.")


def matrix_T(self: Tensor) -> Tensor:
    """`x.mT`: the last two dimensions swapped, a view."""
    _matrices("mT", self)
    return self if self._array.ndim == 0 else transpose(self, -2, -1)


def matrix_H(self: Tensor) -> Tensor:
    """`x.H`: a matrix transposed and conjugated."""
    if self._array.ndim not in (0, 2):
        hint = " For batches of matrices, consider using tensor.mH" if self._array.ndim > 2 else ""
        raise RuntimeError(
            f"tensor.H is only supported on matrices (2-D tensors). Got {self._array.ndim}-D tensor.{hint}"
        )
    return self if self._array.ndim == 0 else conj(transpose(self, 0, 1))


def adjoint(input: Tensor) -> Tensor:
    """The last two dimensions swapped, conjugated."""
    _matrices("mH", input)
    return input if input._array.ndim == 0 else conj(transpose(input, -2, -1))


# ---- the same in place ------------------------------------------------------------------------------------------


def _inplace_view(function: Any, name: str) -> Any:
    """The form of a view op that changes the tensor's own shape."""

    def call(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if modes.grad and self._requires_grad and self._node is None:
            raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
        plain(self)
        storage = storage_of(self)
        old = before(self, copied=False)
        old._storage, old._base = storage, self._base
        made = function(old, *args, **kwargs)
        if storage.views is not None:  # `made` becomes `self`: it is not one more view
            storage.views = [ref for ref in storage.views if ref() is not made]
        self._array = made._array
        self._node, self._requires_grad = made._node, made._requires_grad or self._requires_grad
        if self._base is not None:
            self._base = made._base
        bump(self)
        return self

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"`{function.__name__}` in place: the tensor's own shape changes, its memory stays."
    return call


unsqueeze_ = _inplace_view(unsqueeze, "unsqueeze_")
squeeze_ = _inplace_view(squeeze, "squeeze_")
transpose_ = _inplace_view(transpose, "transpose_")
t_ = _inplace_view(t, "t_")
as_strided_ = _inplace_view(as_strided, "as_strided_")


def resize_(self: Tensor, *size: Any, memory_format: Any = None) -> Tensor:
    """Change the shape in place; the memory grows if it must, new elements are undefined.

    RuntimeError with requires_grad.
    """
    if self._requires_grad:
        raise RuntimeError("cannot resize variables that require grad")
    shape = as_sizes(size)
    array = plain(self)
    if shape == array.shape:
        return self
    count = math.prod(shape)
    storage = storage_of(self)
    offset = self.storage_offset()
    if (offset + count) * array.itemsize <= storage.nbytes():
        self._array = wrap_storage(storage, self.dtype, shape, contiguous_strides(shape), offset)._array
    else:
        grown = np.zeros(count, array.dtype)
        kept = storage.bytes[offset * array.itemsize :].view(array.dtype)[:count]
        grown[: kept.size] = kept
        self._array = grown.reshape(shape)
        self._storage = Storage(self._array)
    bump(self)
    return self


def resize_as_(self: Tensor, tensor: Tensor, memory_format: Any = None) -> Tensor:
    """`resize_` to the shape of another tensor."""
    return resize_(self, tensor._array.shape)


def set_(self: Tensor, source: Any = None, storage_offset: int = 0, size: Any = None, stride: Any = None) -> Tensor:
    """Let the tensor show the memory of a tensor, or of a storage with offset, size and stride; nothing without one."""
    if modes.grad and self._requires_grad and self._node is None and source is not None:
        raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
    if source is None:
        self._array = np.empty(0, self._array.dtype)
        self._storage = Storage(self._array)
    elif isinstance(source, Tensor) and size is None:
        self._array, self._storage = plain(source), storage_of(source)
    else:
        storage = (
            source
            if isinstance(source, Storage)
            else source.untyped_storage()
            if isinstance(source, Tensor)
            else source.untyped()
        )
        shape = (storage.nbytes() // self._array.itemsize,) if size is None else tuple(size)
        self._array = wrap_storage(
            storage, self.dtype, shape, contiguous_strides(shape) if stride is None else tuple(stride), storage_offset
        )._array
        self._storage = storage
    self._hidden = False
    bump(self)
    return self


PROPERTIES = {"T": numpy_T, "mT": matrix_T, "H": matrix_H, "mH": adjoint}
