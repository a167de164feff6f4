"""Writing into a tensor while keeping the graph right: `add_`, `x[i] = v`, `copy_`.

An in-place op is the functional op whose result is then written over the tensor's memory; the tensor takes over the
result's history. Writing through a view changes the history of its base: the base's gradient is then made of the part
outside the view (which goes to the base's old history) and the part inside (which goes to the new values).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core import dispatch, recording
from flambeau.core import dtype as dtypes
from flambeau.core.device import MetaArray
from flambeau.core.dispatch import primitive
from flambeau.core.dtype import scalar_name
from flambeau.core.modes import modes
from flambeau.core.node import Node, edge_of, save_output
from flambeau.core.operands import broadcast_error
from flambeau.core.storage import Storage
from flambeau.core.tensor import Tensor, plain, storage_of, wrap

FLOATS = dtypes.NATIVE_FLOATS


# ---- the derivative of writing through a view -------------------------------------------------


@primitive("clear_region")
def clear_region(grad: Any, *, replay: Any) -> Any:
    """The gradient with the region of a view set to zero."""
    out = np.array(grad, order="C")
    replay(out)[...] = 0
    return out


@primitive("read_region", grad_name="AsStridedBackward0")
def read_region(grad: Any, *, replay: Any) -> Any:
    """The part of a gradient that a view shows."""
    return np.array(replay(np.ascontiguousarray(grad).reshape(grad.shape)), order="C")


@primitive("write_region")
def write_region(grad: Any, *, replay: Any, shape: Any) -> Any:
    """Zeros of the base's shape with the gradient added at the view's region."""
    out = np.zeros(shape, grad.dtype)
    region = replay(out)
    if region.size <= out.size and all(s != 0 or n == 1 for s, n in zip(region.strides, region.shape)):
        region[...] = grad
    else:  # an expanded view shows an element several times: its gradients add up
        positions = replay(np.arange(out.size).reshape(shape))
        np.add.at(out.reshape(-1), positions.reshape(-1), grad.reshape(-1))
    return out


clear_region.vjp(grad=lambda grad, replay: clear_region(grad, replay=replay))
read_region.vjp(grad=lambda grad, replay, shapes: write_region(grad, replay=replay, shape=shapes[0]))
write_region.vjp(grad=lambda grad, replay: read_region(grad, replay=replay))


@primitive("copy_slices", grad_name="CopySlices")
def copy_slices(base: Any, values: Any, *, replay: Any) -> Any:
    """What an in-place write through a view computes: the base with the region replaced."""
    out = np.array(base, order="C")
    replay(out)[...] = values
    return out


copy_slices.vjp(
    base=lambda grad, replay: clear_region(grad, replay=replay),
    values=lambda grad, replay: read_region(grad, replay=replay),
)


# ---- in-place ops -----------------------------------------------------------------------------


def bump(t: Tensor) -> None:
    """Count a write to the tensor's memory."""
    if recording.recorder is not None:
        recording.recorder.wrote(t)
    storage = t._storage
    if storage is None:
        storage = t._storage = Storage(t._array)
    storage.version += 1


def check_writable(x: Tensor) -> None:
    """RuntimeError for an in-place write with history to a leaf, a view of a leaf, or an expanded tensor."""
    if x._requires_grad:
        if x._node is None:
            raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
        if x._base is not None and x._base[0]._node is None and x._base[0]._requires_grad:
            raise RuntimeError("a view of a leaf Variable that requires grad is being used in an in-place operation.")
        node = x._node
        if type(node) is not Node and node.owner.op.view and node.owner.op.outputs != 1:
            raise RuntimeError(
                f"Output {node.index} of {node.owner.name()} is a view and is being modified inplace. This view is the "
                "output of a function that returns multiple views. Such functions do not allow the output views to be "
                "modified inplace. You should replace the inplace operation by an out-of-place one."
            )
    elif x._base is not None:
        base = x._base[0]
        if base._node is None and base._requires_grad:
            raise RuntimeError("a view of a leaf Variable that requires grad is being used in an in-place operation.")


def check_overlap(array: np.ndarray) -> None:
    """RuntimeError when several elements share one place in memory (an expanded tensor)."""
    if type(array) is MetaArray:
        return
    if 0 in array.strides and array.size and any(s == 0 and n > 1 for s, n in zip(array.strides, array.shape)):
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a single memory location. "
            "Please clone() the tensor before performing the operation."
        )


def check_result(x: np.ndarray, result: np.ndarray, name: str) -> None:
    """RuntimeError unless `result` may be written over `x`: same shape, a type that fits."""
    if x.shape != result.shape:
        raise RuntimeError(f"output with shape {list(x.shape)} doesn't match the broadcast shape {list(result.shape)}")
    if x.dtype != result.dtype and not dtypes.can_cast(dtypes.from_numpy(result.dtype), dtypes.from_numpy(x.dtype)):
        raise RuntimeError(
            f"result type {scalar_name(result.dtype)} can't be cast to the desired output type {scalar_name(x.dtype)}"
        )


def assign(x: Tensor, result: Tensor, name: str = "") -> Tensor:
    """Write `result` over `x` and give `x` its history. The checks come first: nothing is half-written."""
    target, values = x._array, result._array
    check_result(target, values, name)
    check_overlap(target)
    recorded = modes.grad and (x._requires_grad or result._requires_grad)
    if recorded:
        check_writable(x)
    if recording.recorder is not None:
        recording.recorder.assigned(x, result)
    target[...] = values
    bump(x)
    if recorded:
        adopt_history(x, result)
    return x


def adopt_history(x: Tensor, result: Tensor) -> None:
    """`x` now holds what `result` computed: take its node, and rewrite the base's history if `x` is a view."""
    if x._base is None:
        x._node = result._node if result._node is not None else edge_of(result)
        x._requires_grad = result._requires_grad
        refresh_views(x, but=None)
        return
    base, replay = x._base
    node = Node(copy_slices.op, (edge_of(base), edge_of(result)), {"replay": replay})
    node.shape, node.dtype = base._array.shape, base._array.dtype
    base._node = node
    base._requires_grad = True
    refresh_views(base, but=None)


def refresh_views(base: Tensor, but: Tensor | None) -> None:
    """Derive the history of every live view of `base` from its new one."""
    storage = base._storage
    if storage is None or storage.views is None:
        return
    for view in storage.live_views():
        if view is not but and view._base is not None and view._base[0] is base:
            node = Node(read_region.op, (edge_of(base),), {"replay": view._base[1]})
            node.shape, node.dtype = view._array.shape, view._array.dtype
            node.shapes = (base._array.shape,)
            view._node = node if base._requires_grad else None
            view._requires_grad = base._requires_grad


def before(x: Tensor, copied: bool) -> Tensor:
    """`x` as it is before an in-place write: same history, own values if the derivative will read them."""
    old = wrap(recording.copied(x._array.copy(), x._array) if copied else x._array)
    old._node, old._requires_grad, old._hidden = x._node, x._requires_grad, x._hidden
    if x._requires_grad and x._node is None:
        old._node = None
    return old


def inplace_of(function: Any, name: str | None = None) -> Any:
    """The in-place form of any function whose first argument and result are tensors of the same shape."""
    op = getattr(function, "op", None)
    if op is not None and (len(op.parameters) != 1 or op.outputs != 1):
        op = None

    def call(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not isinstance(self, Tensor):
            raise TypeError(f"{call.__name__}(): argument 'self' must be Tensor, not {type(self).__name__}")
        if modes.grad and (self._requires_grad or _any_requires_grad(args) or _any_requires_grad(kwargs.values())):
            check_writable(self)
            # A primitive whose derivative reads its result only (relu, sigmoid) needs neither a copy of the input nor,
            # once the result is written, its own: what it saved is then what the tensor holds.
            lean = op is not None and not op.reads_input
            old = before(self, copied=not lean)
            args = tuple(old if a is self else a for a in args)
            assign(self, function(old, *args, **kwargs), call.__name__)
            node = self._node
            if lean and type(node) is Node and node.op is op and node.saved_out is not None:
                node.saved_out = save_output(self)
            return self
        return assign(self, function(self, *args, **kwargs), call.__name__)

    call.__name__ = call.__qualname__ = name or function.__name__ + "_"
    call.__doc__ = f"In-place form of `{function.__name__}`: writes the result over the tensor and returns it."
    call.functional = function  # type: ignore[attr-defined]
    return call


def _any_requires_grad(values: Any) -> bool:
    return any(isinstance(v, Tensor) and v._requires_grad for v in values)


def inplace(function: Any) -> Any:
    """The in-place form of an elementwise primitive. Without history NumPy writes straight into the memory."""
    op = function.op
    run = op.kernel
    general = inplace_of(function)
    direct = isinstance(run, np.ufunc) and not op.float_op
    arity = len(op.parameters)
    if not direct or arity > 2:
        return general

    def unary(x: Tensor) -> Tensor:
        array = x._array
        if dispatch.interceptor is not None or (x._requires_grad and modes.grad) or array.dtype not in FLOATS:
            return general(x)
        check_overlap(array)
        run(array, out=array)
        bump(x)
        return x

    def binary(x: Tensor, y: Any) -> Tensor:
        kind = type(y)
        try:
            a = x._array
            if kind is float or kind is int:
                b, needs = y, x._requires_grad
            else:
                b, needs = y._array, x._requires_grad or y._requires_grad
                if b.dtype is not a.dtype:
                    return general(x, y)
            if dispatch.interceptor is not None or (needs and modes.grad) or a.dtype not in FLOATS:
                return general(x, y)
        except AttributeError:
            return general(x, y)
        if 0 in a.strides:
            check_overlap(a)
        try:
            run(a, b, out=a)
        except ValueError as error:
            shape = np.broadcast_shapes(a.shape, np.shape(b)) if _fits(a, b) else None
            if shape is None:
                raise broadcast_error(op, (a, b), error) from None
            raise RuntimeError(
                f"output with shape {list(a.shape)} doesn't match the broadcast shape {list(shape)}"
            ) from None
        storage = x._storage
        if storage is None:
            storage = x._storage = Storage(a)
        storage.version += 1
        return x

    call: Any = unary if arity == 1 else binary
    call.__name__ = call.__qualname__ = op.name + "_"
    call.__doc__ = general.__doc__
    call.functional = function
    return call


def _fits(a: Any, b: Any) -> bool:
    try:
        np.broadcast_shapes(a.shape, np.shape(b))
    except ValueError:
        return False
    return True


def with_out(function: Any) -> Any:
    """Add `out=` to a function that returns a tensor (or a tuple of them): the result is written there and returned."""

    def call(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        if out is None:
            return function(*args, **kwargs)
        return write_out(function(*args, **kwargs), out, function.__name__)

    call.__name__ = call.__qualname__ = function.__name__
    call.__doc__ = function.__doc__
    call.__module__ = function.__module__
    call.__wrapped__ = function  # type: ignore[attr-defined]
    return call


def write_out(result: Any, out: Any, name: str) -> Any:
    """Copy results into the tensors of `out=`, resizing them as PyTorch does; RuntimeError if the types do not fit."""
    if isinstance(result, tuple):
        written = tuple(write_out(r, o, name) for r, o in zip(result, out))
        return type(result)(*written) if hasattr(result, "_fields") else written
    if not isinstance(out, Tensor):
        raise TypeError(f"{name}(): argument 'out' must be Tensor, not {type(out).__name__}")
    if modes.grad and (result._requires_grad or out._requires_grad):
        raise RuntimeError(
            f"{name}(): functions with out=... arguments don't support automatic differentiation, but one of the "
            f"arguments "
            "requires grad."
        )
    values, target = result._array, out._array
    if not dtypes.can_cast(result.dtype, out.dtype):
        raise RuntimeError(
            f"result type {scalar_name(values.dtype)} can't be cast to the desired output type "
            f"{scalar_name(target.dtype)}"
        )
    if target.shape != values.shape:
        out._array = np.empty(values.shape, target.dtype)
        out._hidden = False
        storage_of(out).repoint(out._array)
    target = plain(out)
    check_overlap(target)
    if recording.recorder is not None:
        recording.recorder.assigned(out, result)
    target[...] = values
    bump(out)
    return out
