"""The backward walk: nodes in reverse order of creation, gradients summed on the way."""

from __future__ import annotations

import heapq
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from flambeau.core import dispatch, recording
from flambeau.core.inplace import assign
from flambeau.core.modes import modes
from flambeau.core.node import Node, Output, check_version, unpack_output
from flambeau.core.tensor import Tensor, constant, wrap
from flambeau.ops.casting import to_dtype
from flambeau.ops.pointwise import add, real
from flambeau.ops.reductions import sum_to_shape

FREED = (
    "Trying to backward through the graph a second time (or directly access saved tensors after they have already been "
    "freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). Specify "
    "retain_graph=True if you need to backward through the graph a second time or if you need to access saved tensors "
    "after calling backward."
)


class _Anomaly:
    """Anomaly mode: whether nodes remember their forward line, and whether nan gradients raise."""

    def __init__(self) -> None:
        self.enabled = False
        self.check_nan = True
        self.listener: Any = None

    def set(self, enabled: bool, check_nan: bool) -> None:
        """Switch the mode; while it is on, every call is watched for the node it records."""
        if enabled and not self.enabled:
            self.listener = dispatch.intercept(_remember_line)
            self.listener.__enter__()
        elif self.enabled and not enabled:
            self.listener.__exit__()
        self.enabled, self.check_nan = enabled, check_nan


def _remember_line(op: Any, inputs: Any, attrs: Any) -> Any:
    result = op.function(*inputs, **attrs)
    for t in result if isinstance(result, tuple) else (result,):
        if isinstance(t, Tensor) and t._node is not None and t._node.owner.trace is None:
            t._node.owner.trace = traceback.extract_stack()[:-3]
    return result


anomaly = _Anomaly()


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Add the gradient of `tensors` to `.grad` of the leaves (or of `inputs` only).

    RuntimeError when a tensor has no history or a non-scalar comes without its gradient.
    """
    roots = (tensors,) if isinstance(tensors, Tensor) else tuple(tensors)
    grads = _root_grads(roots, grad_tensors, create_graph)
    targets = None
    if inputs is not None:
        targets = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
        if not targets:
            raise RuntimeError("'inputs' argument to backward() cannot be empty.")
    keep = create_graph if retain_graph is None else retain_graph
    if create_graph:
        warnings.warn(
            "Using backward() with create_graph=True will create a reference cycle between the parameter and its "
            "gradient "
            "which can cause a memory leak. We recommend using autograd.grad when creating the graph to avoid this. "
            "If you "
            "have to use this function, make sure to reset the .grad fields of your parameters to None after use to "
            "break "
            "the cycle and avoid the leak.",
            stacklevel=3,
        )
    found = _walk(roots, grads, keep, create_graph, targets)
    if targets is not None:
        for tensor, gradient in zip(targets, found, strict=True):
            if gradient is not None:
                accumulate(tensor, gradient, create_graph)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of `outputs` with respect to `inputs`, without touching any `.grad`.

    An input that `outputs` do not depend on is a RuntimeError, unless `allow_unused` (None) or `materialize_grads`
    (zeros).
    """
    roots = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
    targets = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    if allow_unused is False and materialize_grads:
        raise ValueError(
            "Expected allow_unused to be True or not passed when materialize_grads=True, but got: allow_unused=False."
        )
    if is_grads_batched:
        return _batched_grad(roots, targets, grad_outputs, create_graph, allow_unused, materialize_grads)
    grads = _root_grads(roots, grad_outputs, create_graph)
    for target in targets:
        if not target._requires_grad:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
    keep = create_graph if retain_graph is None else retain_graph
    found = _walk(roots, grads, keep, create_graph, targets)
    if materialize_grads:
        return tuple(constant(np.zeros_like(t._array)) if g is None else g for t, g in zip(targets, found, strict=True))
    if not allow_unused and any(g is None for g in found):
        raise RuntimeError(
            "One of the differentiated Tensors appears to not have been used in the graph. Set allow_unused=True if "
            "this is "
            "the desired behavior."
        )
    return tuple(found)


def _batched_grad(
    roots: Any, targets: Any, grad_outputs: Any, create_graph: bool, allow_unused: Any, materialize: bool
) -> tuple[Tensor | None, ...]:
    """One walk per entry of the batch dimension of `grad_outputs`."""
    from flambeau.ops.joining import stack

    batch = (grad_outputs,) if isinstance(grad_outputs, Tensor) else tuple(grad_outputs)
    rows = [
        grad(
            roots,
            targets,
            [g[i] for g in batch],
            True,
            create_graph,
            allow_unused=allow_unused,
            materialize_grads=materialize,
        )
        for i in range(len(batch[0]))
    ]
    return tuple(None if column[0] is None else stack(column) for column in zip(*rows, strict=True))


def _root_grads(roots: Sequence[Any], given: Any, create_graph: bool) -> list[Tensor]:
    if given is None or isinstance(given, Tensor):
        given = (given,) * (len(roots) if given is None else 1)
    given = tuple(given)
    if len(given) != len(roots):
        raise RuntimeError(f"got {len(roots)} tensors and {len(given)} gradients")
    grads: list[Tensor] = []
    for root, g in zip(roots, given, strict=True):
        if not root._requires_grad:
            raise RuntimeError("element 0 of tensors does not require grad and does not have a grad_fn")
        if g is None:
            if root._array.size != 1:
                raise RuntimeError("grad can be implicitly created only for scalar outputs")
            if root._array.dtype.kind == "c":
                raise RuntimeError(f"grad can be implicitly created only for real scalar outputs but got {root.dtype}")
            g = constant(np.ones(root._array.shape, root._array.dtype))
        elif not isinstance(g, Tensor):
            raise TypeError(f"gradients can be either Tensors or None, but got {type(g).__name__}")
        elif g._array.shape != root._array.shape:
            raise RuntimeError(
                f"Mismatch in shape: grad_output[{len(grads)}] has a shape of {g.shape} and output[{len(grads)}] has "
                f"a shape of "
                f"{root.shape}."
            )
        grads.append(g)
    return grads


def _walk(
    roots: Sequence[Tensor], grads: list[Tensor], keep: bool, create_graph: bool, targets: Any
) -> list[Tensor | None]:
    """Visit nodes by falling number. With `targets`, return their gradients instead of accumulating into leaves."""
    wanted: dict[Any, Any] = {}
    useful: set[int] | None = None
    if targets is not None:
        for t in targets:
            wanted.setdefault(_key(t), None)
        useful = _nodes_on_the_way(roots, targets)
    pending: dict[Node, Any] = {}
    heap: list[tuple[int, Node]] = []

    def arrive(edge: Any, g: Tensor) -> None:
        kind = type(edge)
        if kind is Node:
            if useful is not None and id(edge) not in useful:
                return
            g = _matched(g, edge.shape, edge.dtype)
            if edge in pending:
                pending[edge] = add(pending[edge], g)
            else:
                pending[edge] = g
                heapq.heappush(heap, (-edge.number, edge))
        elif kind is Output:
            node, index = edge.owner, edge.index
            if useful is not None and id(node) not in useful:
                return
            g = _matched(g, node.shape[index], node.dtype[index])
            slots = pending.get(node)
            if slots is None:
                slots = pending[node] = [None] * len(node.shape)
                heapq.heappush(heap, (-node.number, node))
            slots[index] = g if slots[index] is None else add(slots[index], g)
        else:  # a leaf tensor
            g = _matched(g, edge._array.shape, edge._array.dtype)
            if targets is None:
                slot = leaves.get(id(edge))
                if slot is None:
                    leaves[id(edge)] = [edge, g]
                else:
                    slot[1] = add(slot[1], g)
            elif (key := ("leaf", id(edge))) in wanted:
                wanted[key] = g if wanted[key] is None else add(wanted[key], g)

    leaves: dict[int, list[Any]] = {}
    before = modes.grad
    walking = modes.walking
    modes.grad, modes.walking = create_graph, True
    try:
        for root, g in zip(roots, grads, strict=True):
            arrive(root._node or root, g)
        while heap:
            node = heapq.heappop(heap)[1]
            arrived = pending.pop(node)
            if node.pre_hooks is not None or node.hooks is not None:
                arrived = _run_hooks(node, arrived)
            if targets is not None:
                _collect(node, arrived, wanted)
            try:
                results = custom_backward(node, arrived) if node.op.custom else derive(node, arrived, create_graph)
            except Exception as error:
                if node.trace is not None:
                    _point_at_forward(node, error)
                raise
            if anomaly.enabled and anomaly.check_nan:
                _look_for_nan(node, results)
            if node.hooks is not None:
                results = _run_post_hooks(node, results, arrived)
            del arrived
            if not keep:
                release(node)
                if recording.recorder is not None:
                    recording.recorder.released(node)
            for edge, g in zip(node.edges, results):
                if edge is not None and g is not None:
                    arrive(edge, g)
            del results
        for key in list(leaves):
            leaf, g = leaves.pop(key)
            accumulate(leaf, g, create_graph)
        if targets is not None:
            return [_after_leaf_hooks(t, wanted[_key(t)]) for t in targets]
        return []
    finally:
        modes.grad, modes.walking = before, walking


def _key(t: Tensor) -> Any:
    node = t._node
    if node is None:
        return ("leaf", id(t))
    return (id(node.owner), node.index)


def _collect(node: Node, arrived: Any, wanted: dict[Any, Any]) -> None:
    if isinstance(node.shape, list):
        for index, g in enumerate(arrived):
            if (id(node), index) in wanted:
                wanted[(id(node), index)] = g
    elif (id(node), 0) in wanted:
        wanted[(id(node), 0)] = arrived


def _nodes_on_the_way(roots: Sequence[Tensor], targets: Sequence[Tensor]) -> set[int]:
    """Ids of the nodes from which a target can be reached (a target's own node included)."""
    ends = {_key(t) for t in targets}
    order: list[Node] = []
    seen: set[int] = set()
    stack = [root._node.owner for root in roots if root._node is not None]
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        order.append(node)
        stack.extend(edge.owner for edge in node.edges if edge is not None and type(edge) in (Node, Output))
    useful: set[int] = set()
    owners = {key[0] for key in ends if key[0] != "leaf"}
    for node in sorted(order, key=lambda n: n.number):
        reaches = id(node) in owners or any(
            id(e.owner) in useful if type(e) in (Node, Output) else e is not None and ("leaf", id(e)) in ends
            for e in node.edges
        )
        if reaches:
            useful.add(id(node))
    return useful


def custom_backward(node: Node, arrived: Any) -> Sequence[Any]:
    """The gradients of a user's `Function`. Its context keeps the saved tensors and says when they are gone."""
    return node.op.backward(node, arrived)


def derive(node: Node, arrived: Any, create_graph: bool = False) -> Sequence[Any]:
    """The gradients for all inputs of a node, by its op's rules."""
    op = node.op
    saved = node.saved
    if saved is None:
        raise RuntimeError(FREED)
    if op.joint is not None:
        needs = tuple(edge is not None for edge in node.edges)
        if isinstance(node.shape, list):
            arrived = _materialized(node, arrived)
        results = op.joint.function(*_arguments(op.joint, node, saved, arrived, needs))
        return results if isinstance(results, (tuple, list)) else (results,)
    if isinstance(node.shape, list):
        arrived = _materialized(node, arrived)
    out: list[Any] = []
    for edge, rule in zip(node.edges, op.rules):
        if edge is None or rule is None:
            if edge is not None:
                raise RuntimeError(f"the derivative of '{op.name}' with respect to this input is not implemented")
            out.append(None)
        else:
            out.append(rule.function(*_arguments(rule, node, saved, arrived, None)))
    return out


def _arguments(rule: Any, node: Node, saved: Any, arrived: Any, needs: Any) -> list[Any]:
    arguments: list[Any] = []
    for kind, which in rule.plan:
        if kind == "grad":
            arguments.append(arrived)
        elif kind == "input":
            value = saved[which]
            if isinstance(value, Tensor) and value._storage is not None:
                versions = node.versions
                expected = 0 if versions is None else versions[which]
                if value._storage.version != expected:
                    check_version(value, expected, node)
            arguments.append(value)
        elif kind == "attr":
            arguments.append(node.attrs[which])
        elif kind == "out":
            packed = node.saved_out
            if isinstance(packed, dict):
                arguments.append(tuple(unpack_output(node, packed[i], i) for i in range(len(packed))))
            else:
                arguments.append(unpack_output(node, packed))
        elif kind == "output":
            arguments.append(unpack_output(node, node.saved_out[which], which))
        elif kind == "inputs":
            for i, value in enumerate(saved):
                if isinstance(value, Tensor):
                    check_version(value, 0 if node.versions is None else node.versions[i], node)
            arguments.append(saved)
        elif kind == "rest":
            for i, value in enumerate(saved[which:], which):
                if isinstance(value, Tensor):
                    check_version(value, 0 if node.versions is None else node.versions[i], node)
            arguments.append(saved[which:])
        elif kind == "needs":
            arguments.append(needs if needs is not None else tuple(edge is not None for edge in node.edges))
        else:  # shapes
            arguments.append(node.shapes)
    return arguments


def _materialized(node: Node, arrived: Any) -> tuple[Any, ...]:
    return tuple(
        constant(np.zeros(shape, dtype)) if g is None and dtype.kind in "fcV" else g
        for g, shape, dtype in zip(arrived, node.shape, node.dtype)
    )


def _matched(g: Tensor, shape: Any, dtype: Any) -> Tensor:
    """The gradient summed to the shape and cast to the type of what it belongs to."""
    array = g._array
    if array.shape != shape:
        g = sum_to_shape(g, shape)
    if array.dtype is not dtype and array.dtype != dtype:
        if array.dtype.kind == "c" and dtype.kind != "c":
            g = real(g)
        if g._array.dtype != dtype:
            g = to_dtype(g, dtype)
    return g


def accumulate(leaf: Tensor, g: Tensor, create_graph: bool = False) -> None:
    """Add a gradient to `leaf.grad`, running the leaf's hooks."""
    hooks = leaf.__dict__.get("_backward_hooks")
    if hooks:
        g = _after_leaf_hooks(leaf, g)
    if recording.recorder is not None:
        recording.recorder.accumulating(leaf)
    if leaf._grad is None:
        leaf._grad = g if create_graph else _owned(g)
    elif create_graph or leaf._grad._requires_grad:
        leaf._grad = add(leaf._grad, g)
    elif recording.recorder is not None:
        assign(leaf._grad, add(leaf._grad, g))
    else:
        np.add(leaf._grad._array, g._array, out=leaf._grad._array)
        if leaf._grad._storage is not None:
            leaf._grad._storage.version += 1
    post = leaf.__dict__.get("_post_accumulate_grad_hooks")
    if post:
        for hook in list(post):
            hook(leaf)


def _after_leaf_hooks(leaf: Tensor, g: Any) -> Any:
    if g is None or leaf._node is not None:
        return g
    for hook in list(leaf.__dict__.get("_backward_hooks") or ()):
        g = call_hook(hook, g)
    return g


def _owned(g: Tensor) -> Tensor:
    """The gradient as a tensor that nobody else holds, so that changing `.grad` in place changes nothing else."""
    array = g._array
    # 4 references to the tensor: the caller's two names, ours, and getrefcount's argument; the array: the slot,
    # ours, the
    # argument. Anything more means that the array is shared (a saved value, the other input of an add).
    if array.base is None and array.flags.c_contiguous and sys.getrefcount(array) <= 3 and sys.getrefcount(g) <= 4:
        if not g._requires_grad:
            return g
        array = g._array
        return wrap(array)
    return wrap(recording.copied(np.array(array, order="C"), array))


def release(node: Node) -> None:
    """Free what a node saved; walking it again is an error if there was something."""
    if node.saved or node.saved_out is not None:
        if node.op.custom:
            node.attrs._saved = None
        node.saved = None
        node.saved_out = None


def _run_hooks(node: Node, arrived: Any) -> Any:
    single = not isinstance(node.shape, list)
    grads = [arrived] if single else list(arrived)
    for hook in list(node.pre_hooks or ()):
        changed = hook(tuple(grads))
        if changed is not None:
            grads = list(changed) if isinstance(changed, (tuple, list)) else [changed]
    for index, hook in list(node.hooks or ()):
        if index is not None and grads[index] is not None:
            grads[index] = call_hook(hook, grads[index])
    return grads[0] if single else grads


def call_hook(hook: Any, g: Tensor) -> Tensor:
    """What a tensor's hook makes of its gradient. RuntimeError if shape or type changed, TypeError for no tensor."""
    changed = hook(g)
    if changed is None:
        return g
    if not isinstance(changed, Tensor):
        raise TypeError(f"expected Variable, but hook returned '{type(changed).__name__}'")
    name = getattr(hook, "__name__", type(hook).__name__)
    if changed._array.shape != g._array.shape:
        raise RuntimeError(
            f"hook '{name}' has changed the size of value (was {list(g._array.shape)}, got "
            f"{list(changed._array.shape)})"
        )
    if changed._array.dtype != g._array.dtype:
        raise RuntimeError(f"hook '{name}' has changed the type of value (was {g.dtype}, got {changed.dtype})")
    return changed


def _run_post_hooks(node: Node, results: Sequence[Any], arrived: Any) -> Sequence[Any]:
    given = tuple(arrived) if isinstance(node.shape, list) else (arrived,)
    for index, hook in list(node.hooks):
        if index is None:
            changed = hook(tuple(results), given)
            if changed is not None:
                results = changed if isinstance(changed, (tuple, list)) else (changed,)
    return results


def _look_for_nan(node: Node, results: Sequence[Any]) -> None:
    for index, g in enumerate(results):
        if g is not None and np.isnan(g._array).any():
            error = RuntimeError(f"Function '{node.name()}' returned nan values in its {index}th output.")
            _point_at_forward(node, error)
            raise error


def _point_at_forward(node: Node, error: Exception) -> None:
    if node.trace is not None:
        lines = "".join(traceback.format_list(node.trace))
        warnings.warn(
            f"Error detected in {node.name()}. Traceback of forward call that caused the error:\n{lines}",
            stacklevel=4,
        )
