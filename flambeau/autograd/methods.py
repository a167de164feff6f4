"""The tensor methods that need the engine: `backward`, hooks, `retain_grad`, `grad`, `detach_`."""

from __future__ import annotations

import warnings
import weakref
from typing import Any

from flambeau.autograd.engine import backward as run_backward
from flambeau.core import recording
from flambeau.core.node import Node, Output, RemovableHandle
from flambeau.core.tensor import Tensor


def backward(
    self: Tensor, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False, inputs: Any = None
) -> None:
    """Add the gradient of this tensor to `.grad` of the leaves it was computed from.

    `gradient` has this tensor's shape and may be left out for a single element. RuntimeError without history, or
    when the graph was already freed by an earlier call without `retain_graph`.
    """
    run_backward(self, gradient, retain_graph, create_graph, inputs)


def register_hook(self: Tensor, hook: Any) -> RemovableHandle:
    """Call `hook(grad)` when the gradient of this tensor is known; a returned tensor replaces it."""
    if not self._requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if self._node is None:
        recording.changed(self)
        hooks = self.__dict__.setdefault("_backward_hooks", [])
        hooks.append(hook)
        return RemovableHandle(hooks, hook)
    return _hook_node(self._node, hook)


def _hook_node(edge: Any, hook: Any) -> RemovableHandle:
    node: Node = edge.owner if isinstance(edge, Output) else edge
    if node.hooks is None:
        node.hooks = []
    entry = (edge.index, hook)
    node.hooks.append(entry)
    return RemovableHandle(node.hooks, entry)


def register_post_accumulate_grad_hook(self: Tensor, hook: Any) -> RemovableHandle:
    """Call `hook(tensor)` after a gradient was added to `.grad` of this leaf. RuntimeError for other tensors."""
    if self._node is not None:
        raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
    if not self._requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    recording.changed(self)
    hooks = self.__dict__.setdefault("_post_accumulate_grad_hooks", [])
    hooks.append(hook)
    return RemovableHandle(hooks, hook)


def retain_grad(self: Tensor) -> None:
    """Keep the gradient of a computed tensor in `.grad` too."""
    if not self._requires_grad:
        raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
    if self._node is None or self.__dict__.get("_retains_grad"):
        return
    self.__dict__["_retains_grad"] = True

    me = weakref.ref(self)

    def keep(grad: Tensor) -> None:
        t = me()
        if t is not None:
            t._grad = grad if t._grad is None else t._grad + grad

    _hook_node(self._node, keep)


def retains_grad(self: Tensor) -> bool:
    """Whether a computed tensor keeps its gradient."""
    return bool(self.__dict__.get("_retains_grad"))


def get_grad(self: Tensor) -> Tensor | None:
    """The gradient accumulated by `backward`; None before, and (with a warning) for tensors that are not leaves."""
    if self._grad is None and self._node is not None and self._requires_grad and not self.__dict__.get("_retains_grad"):
        warnings.warn(
            "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its .grad attribute won't "
            "be populated "
            "during autograd.backward(). If you indeed want the .grad field to be populated for a non-leaf Tensor, use "
            ".retain_grad() on the non-leaf Tensor. If you access the non-leaf Tensor by mistake, make sure you "
            "access the leaf "
            "Tensor instead. See github.com/pytorch/pytorch/pull/30531 for more informations.",
            UserWarning,
            stacklevel=2,
        )
    if recording.recorder is not None:
        recording.recorder.grad_read(self)
    return self._grad


def set_grad(self: Tensor, value: Any) -> None:
    """Checks that a gradient fits: RuntimeError for another shape or type."""
    if recording.recorder is not None:
        recording.recorder.grad_set(self)
    if value is None:
        self._grad = None
        return
    if not isinstance(value, Tensor):
        raise TypeError(f"assigned grad expected to be a Tensor or None but got grad of type {type(value).__name__}")
    if value is self:
        raise RuntimeError("can't assign Variable as its own grad")
    if value._array.shape != self._array.shape:
        raise RuntimeError(
            f"attempting to assign a gradient of size '{list(value._array.shape)}' to a tensor of size "
            f"'{list(self._array.shape)}'. Please ensure that the gradient and the tensor are the same size"
        )
    if value._array.dtype != self._array.dtype:
        raise RuntimeError(
            f"attempting to assign a gradient with dtype '{value.dtype}' to a tensor of dtype '{self.dtype}'. The "
            "gradient must match the tensor's dtype."
        )
    self._grad = value


def del_grad(self: Tensor) -> None:
    """`del t.grad` forgets the gradient."""
    if recording.recorder is not None:
        recording.recorder.grad_set(self)
    self._grad = None


def detach_(self: Tensor) -> Tensor:
    """Cut the tensor off its history in place. RuntimeError for a view."""
    if self._base is not None and self._requires_grad:
        raise RuntimeError(
            "Can't detach views in-place. Use detach() instead. If you are using DistributedDataParallel (DDP) for "
            "training, and "
            "gradient_as_bucket_view is set as True, gradients are views of DDP buckets, and hence detach_() cannot "
            "be called on "
            "these gradients."
        )
    self._node = None
    self._requires_grad = False
    return self


METHODS = ("backward", "register_hook", "register_post_accumulate_grad_hook", "retain_grad", "detach_")


def bind() -> None:
    """Give Tensor these methods."""
    for name in METHODS:
        setattr(Tensor, name, globals()[name])
    Tensor.grad = property(get_grad, set_grad, del_grad)  # type: ignore[assignment, method-assign]
    Tensor.retains_grad = property(retains_grad)  # type: ignore[method-assign, assignment]
