"""Largest, smallest, middle: amax, argmax, max, min, median, mode, quantile."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core import recording, return_types
from flambeau.core.dispatch import primitive
from flambeau.core.inplace import scalar_name, write_out
from flambeau.core.tensor import Tensor, computed, constant, dim_of_name, wrap_dim
from flambeau.ops import pointwise
from flambeau.ops.arithmetic import _lerp
from flambeau.ops.comparison import eq, isnan, logical_and, logical_or
from flambeau.ops.pointwise import add, div, mul, sub
from flambeau.ops.reductions import _sum, axes, restore, wrap_dims
from flambeau.ops.shape import reshape

_PLACE = "a position is constant almost everywhere"


def _one_dim(input: Tensor, dim: Any) -> int:
    return dim_of_name(input, dim) if isinstance(dim, str) else wrap_dim(dim, input._array.ndim)


def _not_empty(name: str, input: Tensor, dims: Any) -> None:
    shape = input._array.shape
    for d in dims:
        if shape and shape[d] == 0:
            raise IndexError(f"{name}(): Expected reduction dim {d} to have non-zero size.")


def wide(x: Any) -> Any:
    """bfloat16 as float32: NumPy's orderings do not know it."""
    return x.astype(np.float32) if x.dtype in dtypes.NARROW_FLOATS else x


# ---- values, gradient shared between ties -----------------------------------------------------------


@primitive("amax")
def _amax(x: Any, *, dims: Any, keepdim: bool) -> Any:
    return np.maximum.reduce(x, axis=axes(dims, x), keepdims=keepdim)


@primitive("amin")
def _amin(x: Any, *, dims: Any, keepdim: bool) -> Any:
    return np.minimum.reduce(x, axis=axes(dims, x), keepdims=keepdim)


def _shared_vjp(grad: Tensor, x: Tensor, out: Tensor, dims: Any, keepdim: bool) -> Tensor:
    """Ties share the gradient evenly; nan equals nan here."""
    ndim = x._array.ndim
    best = restore(out, dims, keepdim, ndim)
    mask = eq(x, best)
    if recording.recorder is not None or np.isnan(wide(out._array)).any():
        mask = logical_or(mask, logical_and(isnan(best), isnan(x)))
    mask = mask.to(grad.dtype)
    count = _sum(mask, dims=dims, keepdim=True) if ndim else mask
    return mul(div(restore(grad, dims, keepdim, ndim), count), mask)


_amax.vjp(x=_shared_vjp)
_amin.vjp(x=_shared_vjp)


def _reduced(name: str, input: Tensor, dim: Any) -> tuple[int, ...]:
    if input._array.size == 0 and dim == ():
        raise RuntimeError(
            f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim "
            f"with the 'dim' "
            "argument."
        )
    dims = wrap_dims(dim, input)
    _not_empty(name, input, dims)
    return dims


def amax(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """Largest value over `dim` (all by default); ties share the gradient. IndexError over an empty dimension."""
    dims = _reduced("amax", input, dim)
    return _amax(input, dims=dims, keepdim=keepdim)


def amin(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """Smallest value over `dim` (all by default); ties share the gradient. IndexError over an empty dimension."""
    dims = _reduced("amin", input, dim)
    return _amin(input, dims=dims, keepdim=keepdim)


def aminmax(input: Tensor, *, dim: Any = None, keepdim: bool = False) -> Any:
    """Smallest and largest value together."""
    if dim is None and input._array.size == 0:
        raise RuntimeError(
            "aminmax(): cannot compute aminmax over an empty dimension as the operation has no identity."
        )
    dims = wrap_dims(dim, input)
    _not_empty("aminmax", input, dims)
    return return_types.TYPES["aminmax"](
        (_amin(input, dims=dims, keepdim=keepdim), _amax(input, dims=dims, keepdim=keepdim))
    )


# ---- positions --------------------------------------------------------------------------------------


def _argument(run: Any) -> Any:
    def kernel(x: Any, *, dim: int | None, keepdim: bool) -> Any:
        x = wide(x)
        if dim is None or x.ndim == 0:
            place = run(x)
            return np.asarray(place, np.int64).reshape((1,) * x.ndim) if keepdim else np.asarray(place, np.int64)
        return np.asarray(run(x, axis=dim, keepdims=keepdim), np.int64)

    return kernel


_argmax = primitive("argmax", no_gradient=_PLACE)(_argument(np.argmax))
_argmin = primitive("argmin", no_gradient=_PLACE)(_argument(np.argmin))


def _position(name: str, run: Any, input: Tensor, dim: Any, keepdim: bool) -> Tensor:
    if input.dtype is dtypes.bool or input.dtype.is_complex:
        raise NotImplementedError(f"\"{name}_cpu\" not implemented for '{scalar_name(input._array.dtype)}'")
    if dim is None:
        if input._array.size == 0:
            raise IndexError(
                f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim "
                "with the 'dim' argument."
            )
        return run(input, dim=None, keepdim=keepdim)
    dim = _one_dim(input, dim)
    _not_empty(name, input, (dim,))
    return run(input, dim=dim, keepdim=keepdim)


def argmax(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Position of the first largest value (nan counts as largest), in the flattened tensor or along `dim`."""
    return _position("argmax", _argmax, input, dim, keepdim)


def argmin(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Position of the first smallest value (nan counts as smallest), in the flattened tensor or along `dim`."""
    return _position("argmin", _argmin, input, dim, keepdim)


# ---- value and position -------------------------------------------------------------------------------


def _pick(x: Any, places: Any, dim: int) -> Any:
    return np.take_along_axis(x, places, dim)


def pairs_kernel(find: Any) -> Any:
    """A kernel (values, indices) from a function that finds positions along `dim` (kept as size 1)."""

    def kernel(x: Any, *, dim: int, keepdim: bool) -> Any:
        if x.ndim == 0:
            return x.copy(), np.zeros((), np.int64)
        places = np.asarray(find(wide(x), dim), np.int64)
        values = _pick(x, places, dim)
        return (values, places) if keepdim else (np.squeeze(values, dim), np.squeeze(places, dim))

    return kernel


@primitive("spread_value", grad_name="ValueSelectingReductionBackward0")
def spread_value(grad: Any, places: Any, *, dim: int, shape: Any, keepdim: bool) -> Any:
    """Zeros of `shape` with the gradient at the chosen positions."""
    out = np.zeros(shape, grad.dtype)
    if not shape:
        return np.array(grad)
    if not keepdim:
        grad, places = np.expand_dims(grad, dim), np.expand_dims(places, dim)
    np.put_along_axis(out, places, grad, dim)
    return out


@primitive("take_value")
def take_value(x: Any, places: Any, *, dim: int, keepdim: bool) -> Any:
    """The elements at the chosen positions: the derivative of `spread_value`."""
    if x.ndim == 0:
        return x.copy()
    values = _pick(x, places if keepdim else np.expand_dims(places, dim), dim)
    return values if keepdim else np.squeeze(values, dim)


spread_value.vjp(grad=lambda grad, places, dim, keepdim: take_value(grad, places, dim=dim, keepdim=keepdim))
take_value.vjp(
    x=lambda grad, places, dim, keepdim, shapes: spread_value(grad, places, dim=dim, shape=shapes[0], keepdim=keepdim)
)


def selecting_vjp(grad: Any, out1: Tensor, dim: int, keepdim: bool, shapes: Any) -> Any:
    """All of the gradient goes to the chosen element."""
    return (spread_value(grad[0], out1, dim=dim, shape=shapes[0], keepdim=keepdim),)


def selecting(name: str, find: Any) -> Any:
    """A primitive with outputs (values, indices), found along one dimension."""
    op = primitive(name, outputs=2)(pairs_kernel(find))
    op.vjp(selecting_vjp)
    return op


_max_dim = selecting("max", lambda x, dim: np.argmax(x, axis=dim, keepdims=True))
_min_dim = selecting("min", lambda x, dim: np.argmin(x, axis=dim, keepdims=True))


def _extreme(name: str, input: Tensor, args: Any, kwargs: Any, everything: Any, along: Any, pairwise: Any) -> Any:
    if not isinstance(input, Tensor):
        kinds = ", ".join(type(v).__name__ for v in (input, *args))
        raise TypeError(
            f"{name}() received an invalid combination of arguments - got ({kinds}), but the first must be a Tensor"
        )
    if kwargs.get("out") is not None:
        out = kwargs.pop("out")
        return write_out(_extreme(name, input, args, kwargs, everything, along, pairwise), out, name)
    if input.dtype.is_complex:
        raise RuntimeError(f"{name}(): does not support complex input")
    other = kwargs.pop("other", None)
    dim = kwargs.pop("dim", kwargs.pop("axis", None))
    keepdim = kwargs.pop("keepdim", False)
    if args and isinstance(args[0], Tensor):
        other, args = args[0], args[1:]
    elif args:
        dim, args = args[0], args[1:]
        if args:
            keepdim, args = args[0], args[1:]
    if args or kwargs:
        raise TypeError(f"{name}() received an invalid combination of arguments")
    if other is not None:
        return pairwise(input, other)
    if dim is None:
        if input._array.size == 0:
            raise RuntimeError(
                f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim "
                "with the 'dim' argument."
            )
        return everything(input, dims=wrap_dims(None, input), keepdim=False)
    dim = _one_dim(input, dim)
    _not_empty(name, input, (dim,))
    return return_types.TYPES[name](along(input, dim=dim, keepdim=keepdim))


def max(input: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Largest element; `max(dim)` gives (values, indices) with the first of ties; `max(other)` is `maximum`."""
    return _extreme("max", input, args, kwargs, _amax, _max_dim, pointwise.maximum)


def min(input: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Smallest element; `min(dim)` gives (values, indices) with the first of ties; `min(other)` is `minimum`."""
    return _extreme("min", input, args, kwargs, _amin, _min_dim, pointwise.minimum)


# ---- the middle ---------------------------------------------------------------------------------------


def _lower_median(x: Any, dim: int) -> Any:
    """Position of the lower median; of the first nan if there is one."""
    order = np.argsort(x, axis=dim, kind="stable")
    middle = np.take(order, [(x.shape[dim] - 1) // 2], axis=dim)
    bad = np.isnan(x) if x.dtype.kind == "f" else np.zeros(x.shape, bool)
    return np.where(bad.any(axis=dim, keepdims=True), bad.argmax(axis=dim, keepdims=True), middle)


def _lower_nanmedian(x: Any, dim: int) -> Any:
    """Position of the lower median of the elements that are not nan."""
    order = np.argsort(x, axis=dim, kind="stable")  # nan sorts last
    valid = x.shape[dim] - (np.isnan(x).sum(axis=dim, keepdims=True) if x.dtype.kind == "f" else 0)
    place = np.broadcast_to(np.maximum((valid - 1) // 2, 0), tuple(1 if d == dim else n for d, n in enumerate(x.shape)))
    return np.take_along_axis(order, place, dim)


def _most_frequent(x: Any, dim: int) -> Any:
    """Position of the last of the most frequent values, the smallest of those that tie."""
    order = np.moveaxis(np.argsort(x, axis=dim, kind="stable"), dim, -1)
    ordered = np.take_along_axis(np.moveaxis(x, dim, -1), order, -1)
    out = np.empty((*ordered.shape[:-1], 1), np.int64)
    for row in np.ndindex(ordered.shape[:-1]):
        values = ordered[row]
        starts = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
        lengths = np.diff(np.append(starts, values.size))
        best = int(np.argmax(lengths))
        out[row] = order[row][starts[best] + lengths[best] - 1]
    return np.moveaxis(out, -1, dim)


_median_dim = selecting("median", _lower_median)
_nanmedian_dim = selecting("nanmedian", _lower_nanmedian)
_mode_dim = selecting("mode", _most_frequent)


@primitive("median_all", grad_name="MedianBackward0")
def _median_all(x: Any, *, skip_nan: bool) -> Any:
    flat = x.reshape(-1)
    if flat.size == 0:
        return np.array(np.nan).astype(x.dtype)
    find = _lower_nanmedian if skip_nan else _lower_median
    return flat[find(wide(flat), 0)[0]]


@_median_all.vjp
def _median_all_vjp(grad: Tensor, x: Tensor, out: Tensor, skip_nan: bool) -> Tensor:
    return _shared_vjp(grad, x, out, tuple(range(x._array.ndim)), False)


def _middle(name: str, input: Tensor, dim: Any, keepdim: bool, along: Any, skip_nan: bool) -> Any:
    if input.dtype.is_complex or input.dtype is dtypes.bool:
        raise NotImplementedError(f"\"{name}_out_impl\" not implemented for '{scalar_name(input._array.dtype)}'")
    if dim is None:
        return _median_all(input, skip_nan=skip_nan)
    dim = _one_dim(input, dim)
    _not_empty(name, input, (dim,))
    return return_types.TYPES[name](along(input, dim=dim, keepdim=keepdim))


def median(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The lower middle value, nan if there is one; along `dim` (values, indices)."""
    return _middle("median", input, dim, keepdim, _median_dim, False)


def nanmedian(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The lower middle of the values that are not nan; along `dim` (values, indices)."""
    return _middle("nanmedian", input, dim, keepdim, _nanmedian_dim, True)


def mode(input: Tensor, dim: Any = -1, keepdim: bool = False) -> Any:
    """The most frequent value along `dim`, the smallest if several are, and a position of it."""
    dim = _one_dim(input, dim)
    _not_empty("mode", input, (dim,))
    return return_types.TYPES["mode"](_mode_dim(input, dim=dim, keepdim=keepdim))


_METHODS = ("linear", "lower", "higher", "midpoint", "nearest")


def quantile(
    input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """The q-quantiles (0 to 1) over all elements or along `dim`; several q give a new first dimension."""
    return _quantile("quantile", input, q, dim, keepdim, interpolation, False)


def nanquantile(
    input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """`quantile` of the elements that are not nan."""
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation, True)


def _quantile(name: str, input: Tensor, q: Any, dim: int | None, keepdim: bool, how: str, skip_nan: bool) -> Tensor:
    if input._array.size == 0:
        raise RuntimeError(f"{name}() input tensor must be non-empty")
    if input.dtype not in (dtypes.float32, dtypes.float64):
        raise RuntimeError(f"{name}() input tensor must be either float or double dtype")
    if how not in _METHODS:
        raise RuntimeError(
            f"{name}() interpolation must be one of linear, lower, higher, midpoint or nearest, but got {how}"
        )
    if not isinstance(q, Tensor):
        if not 0 <= q <= 1:
            raise RuntimeError(f"{name}() q must be in the range [0, 1] but got {q}")
        q = constant(np.array(q, input._array.dtype))
    if q._array.ndim > 1:
        raise RuntimeError(f"{name}() q must be a scalar or 1D tensor")
    if q._array.dtype != input._array.dtype:
        raise RuntimeError(f"{name}() q tensor must be same dtype as the input tensor")
    out_of_range = RuntimeError(f"{name}() q values must be in the range [0, 1]")
    recording.bounded(q, 0, 1, out_of_range)
    if not ((q._array >= 0) & (q._array <= 1)).all():
        raise out_of_range
    x = reshape(input, (-1,)) if dim is None else input
    at = 0 if dim is None else wrap_dim(dim, input._array.ndim)
    moved = x.unsqueeze(-1) if x._array.ndim == 0 else x.transpose(at, -1)
    ordered = moved.sort(-1).values  # (..., n)
    low, high, part, span = computed(lambda values, levels: _ranks(values, levels, how, skip_nan), ordered, q)
    if q._requires_grad and how == "linear":
        exact = mul(reshape(q, (-1,)), span)
        part = add(part, sub(exact, exact.detach()))  # the value as above, with the derivative for q
    levels = q._array.reshape(-1)
    out = _lerp(ordered.gather(-1, low), ordered.gather(-1, high), part)  # (..., levels)
    if dim is None:
        out = reshape(out, (*(1,) * input._array.ndim, levels.size)) if keepdim else reshape(out, (levels.size,))
    elif input._array.ndim == 0:
        out = reshape(out, (levels.size,))
    else:
        out = out.unsqueeze(-2).transpose(at, -2)  # the reduced dimension has size 1 and is where it was
        out = out if keepdim else out.squeeze(at)
    out = out.movedim(-1, 0)
    return out.squeeze(0) if q._array.ndim == 0 else out


def _ranks(values: np.ndarray, q: np.ndarray, how: str, skip_nan: bool) -> tuple[np.ndarray, ...]:
    """For rows in order and levels q: positions below and above, (..., levels), how far it is from one to the other,
    and by how many positions a level of 1 lies above one of 0, (..., 1)."""
    n, kind = values.shape[-1], values.dtype
    bad = np.isnan(values)
    count = (n - bad.sum(-1, keepdims=True)) if skip_nan else np.full((*values.shape[:-1], 1), n)
    ranks = np.atleast_1d(q).astype(kind) * np.maximum(count - 1, 0).astype(kind)
    span = np.maximum(count - 1, 0)
    if not skip_nan:  # nan sorts last: a row with one gives nan at every level
        ranks = np.where(bad.any(-1, keepdims=True), kind.type(n - 1), ranks)
        span = np.where(bad[..., -1:], 0, n - 1)
    if how in ("lower", "higher", "nearest"):
        ranks = {"lower": np.floor, "higher": np.ceil, "nearest": np.round}[how](ranks)
    low, high = np.floor(ranks).astype(np.int64), np.ceil(ranks).astype(np.int64)
    part = np.full_like(ranks, 0.5) if how == "midpoint" else ranks - low
    return low, high, part.astype(kind), span.astype(kind)
