"""Custom differentiable functions: subclass `Function`, write `forward` and `backward`, call `apply`."""

from __future__ import annotations

import functools
import weakref
from typing import Any

import numpy as np

from flambeau.autograd.engine import FREED
from flambeau.core.modes import modes
from flambeau.core.node import Node, Output, edge_of
from flambeau.core.tensor import Tensor, constant, storage_of, wrap


class FunctionCtx:
    """What `forward` and `backward` share: saved tensors, `needs_input_grad`, and any attribute you set."""

    def __init__(self) -> None:
        self.needs_input_grad: tuple[bool, ...] = ()
        self.materialize_grads = True
        self.to_save: tuple[Any, ...] = ()
        self.non_differentiable: tuple[Any, ...] = ()
        self.dirty_tensors: tuple[Any, ...] = ()
        self._saved: Any = ()

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep tensors (inputs, outputs or intermediates) for `backward`."""
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(
                    f"save_for_backward can only save variables, but argument 0 is of type {type(t).__name__}"
                )
        self.to_save = tensors

    def save_for_forward(self, *tensors: Any) -> None:
        """Keep tensors for a forward-mode rule."""
        self.saved_for_forward = tensors

    def mark_dirty(self, *args: Any) -> None:
        """Say which inputs `forward` wrote to in place."""
        self.dirty_tensors = args

    def mark_non_differentiable(self, *args: Any) -> None:
        """Say which outputs have no gradient."""
        self.non_differentiable = args

    def set_materialize_grads(self, value: bool) -> None:
        """Whether missing output gradients arrive as zeros (the default) or as None."""
        self.materialize_grads = value

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """The tensors given to `save_for_backward`. RuntimeError once the graph was freed or one was modified."""
        if self._saved is None:
            raise RuntimeError(FREED)
        out: list[Any] = []
        for entry in self._saved:
            if entry is None:
                out.append(None)
                continue
            tensor, version, own = entry
            if storage_of(tensor).version != version:
                raise RuntimeError(
                    "one of the variables needed for gradient computation has been modified by an inplace operation: "
                    f"[{tensor.dtype} {list(tensor.shape)}], is at version {storage_of(tensor).version}; expected "
                    f"version {version} "
                    "instead. Hint: enable anomaly detection to find the operation that failed to compute its "
                    "gradient, with "
                    "torch.autograd.set_detect_anomaly(True)."
                )
            if own is not None:  # an output of this very function: attach it without a reference cycle
                attached = wrap(tensor._array)
                attached._storage = tensor._storage
                attached._node, attached._requires_grad = own(), True
                out.append(attached)
            else:
                out.append(tensor)
        return tuple(out)

    saved_variables = saved_tensors


class _FunctionOp:
    """The op of a custom function, as the engine sees it."""

    custom = True
    joint = None
    view = False
    outputs = None

    def __init__(self, function: type[Function]):
        self.function_class = function
        self.name = function.__name__
        self.grad_name = function.__name__ + "Backward"

    def backward(self, node: Any, arrived: Any) -> Any:
        """Run the user's `backward` and check what it returns."""
        ctx = node.attrs
        grads = list(arrived) if isinstance(node.shape, list) else [arrived]
        if ctx.materialize_grads:
            shapes = node.shape if isinstance(node.shape, list) else [node.shape]
            kinds = node.dtype if isinstance(node.dtype, list) else [node.dtype]
            grads = [constant(np.zeros(s, d)) if g is None else g for g, s, d in zip(grads, shapes, kinds, strict=True)]
        rule = self.function_class.backward
        if rule is Function.backward:
            rule = self.function_class.vjp
        results = rule(ctx, *grads)
        if not isinstance(results, tuple):
            results = tuple(results) if isinstance(results, list) else (results,)
        expected = len(node.edges)
        if len(results) > expected and all(r is None for r in results[expected:]):
            results = results[:expected]
        if len(results) != expected:
            raise RuntimeError(
                f"function {self.grad_name} returned an incorrect number of gradients (expected {expected}, got "
                f"{len(results)})"
            )
        for position, (edge, r) in enumerate(zip(node.edges, results, strict=True)):
            if r is not None and not isinstance(r, Tensor):
                raise TypeError(
                    f"function {self.grad_name}: expected a Tensor or None as gradient {position}, got "
                    f"{type(r).__name__}"
                )
            if edge is not None and r is not None:
                target = (
                    edge._array.shape
                    if isinstance(edge, Tensor)
                    else (edge.owner.shape[edge.index] if isinstance(edge, Output) else edge.shape)
                )
                if r._array.shape != target and not _reducible(r._array.shape, target):
                    raise RuntimeError(
                        f"Function {self.grad_name} returned an invalid gradient at index {position} - got "
                        f"{list(r._array.shape)} but "
                        f"expected shape compatible with {list(target)}"
                    )
        return results


def _reducible(have: Any, want: Any) -> bool:
    try:
        return np.broadcast_shapes(have, want) == tuple(have)
    except ValueError:
        return False


class _FunctionNode(Node):
    """A custom function's node: lets hooks and users reach the context."""

    __slots__ = ()

    @property
    def saved_tensors(self) -> Any:
        return self.attrs.saved_tensors


class Function:
    """Base of custom functions.

    `forward(ctx, *args)` computes with tensors (no history is recorded inside); `backward(ctx, *grad_outputs)`
    returns one gradient or None per argument. Alternatively `forward(*args)` with `setup_context(ctx, inputs, output)`.

    >>> class Exp(Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         y = x.exp()
    ...         ctx.save_for_backward(y)
    ...         return y
    ...     @staticmethod
    ...     def backward(ctx, grad):
    ...         (y,) = ctx.saved_tensors
    ...         return grad * y
    """

    generate_vmap_rule = False

    def __init__(self, *args: Any, **kwargs: Any):
        raise RuntimeError(
            f"{type(self)} should not be instantiated. Methods on autograd functions are all static, so you should "
            "invoke them on the class itself. Instantiating an autograd function will raise an error in a future "
            "version of PyTorch."
        )

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> Any:
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom autograd.Function to use it with "
            "backward mode AD."
        )

    @staticmethod
    def vjp(ctx: Any, *grad_outputs: Any) -> Any:
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom autograd.Function to use it with "
            "backward mode AD."
        )

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run `forward` and record one node whose derivative is `backward`."""
        ctx = FunctionCtx()
        ctx.needs_input_grad = tuple(isinstance(a, Tensor) and a._requires_grad for a in args)
        recording = modes.grad and any(ctx.needs_input_grad)
        split = cls.setup_context is not Function.setup_context
        before = modes.grad
        modes.grad = False
        try:
            if split:
                result = cls.forward(*args, **kwargs)
                cls.setup_context(ctx, args, result)
            else:
                result = cls.forward(ctx, *args, **kwargs)
        finally:
            modes.grad = before
        several = isinstance(result, (tuple, list))
        outs = list(result) if several else [result]
        node: Any = None
        if recording:
            node = _FunctionNode(
                _op_of(cls),  # type: ignore[arg-type]
                tuple(edge_of(a) for a in args),
                ctx,
            )
            outs = [_attached(ctx, node, o, i, len(outs), args) for i, o in enumerate(outs)]
            node.shape = [o._array.shape if isinstance(o, Tensor) else () for o in outs]
            node.dtype = [o._array.dtype if isinstance(o, Tensor) else np.dtype(np.float32) for o in outs]
            node.saved = (ctx,)
        ctx._saved = (
            tuple(_pack(t, outs, node) for t in ctx.to_save)
            if recording
            else tuple(None if t is None else (t, storage_of(t).version, None) for t in ctx.to_save)
        )
        ctx.to_save = ()
        if not several:
            return outs[0]
        return tuple(outs) if isinstance(result, tuple) else outs


@functools.cache
def _op_of(cls: Any) -> _FunctionOp:
    return _FunctionOp(cls)


def _attached(ctx: FunctionCtx, node: Node, out: Any, index: int, count: int, args: Any) -> Any:
    if (
        not isinstance(out, Tensor)
        or any(out is t for t in ctx.non_differentiable)
        or out._array.dtype.kind not in "fcV"
    ):
        return out
    dirty = any(out is t for t in ctx.dirty_tensors)
    if any(out is a for a in args) and not dirty:  # an input returned as it is: a view of it
        alias = wrap(out._array)
        alias._storage = storage_of(out)
        out = alias
    out._node = Output(node, index)
    out._requires_grad = True
    return out


def _pack(t: Any, outs: list[Any], node: Any) -> Any:
    if t is None:
        return None
    version = storage_of(t).version
    for o in outs:
        if o is t and t._node is not None and t._node.owner is node:
            bare = wrap(t._array)
            bare._storage = t._storage
            return bare, version, functools.partial(_edge, weak_node(node), t._node.index)
    return t, version, None


def weak_node(node: Any) -> Any:
    """A weak reference: the context belongs to the node."""
    return weakref.ref(node)


def _edge(ref: Any, index: int) -> Output:
    return Output(ref(), index)


def once_differentiable(function: Any) -> Any:
    """Decorator for a `backward` that cannot be differentiated itself: differentiating it is an error."""

    @functools.wraps(function)
    def call(ctx: Any, *grads: Any) -> Any:
        before = modes.grad
        modes.grad = False
        try:
            results = function(ctx, *grads)
        finally:
            modes.grad = before
        if not before or not any(isinstance(g, Tensor) and g._requires_grad for g in grads):
            return results
        several = isinstance(results, tuple)
        out = tuple(
            _Barrier.apply(r, *grads) if isinstance(r, Tensor) else r for r in (results if several else (results,))
        )
        return out if several else out[0]

    return call


class _Barrier(Function):
    """Passes a value on, and refuses to be differentiated."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *grads: Any) -> Tensor:
        return wrap(value._array)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")
