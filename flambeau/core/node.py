"""Nodes of the autograd graph: which op made a tensor, from what, and what its derivative needs."""

from __future__ import annotations

import itertools
from typing import Any

from flambeau.core import recording
from flambeau.core.dtype import scalar_name
from flambeau.core.storage import Storage
from flambeau.core.tensor import Tensor, wrap

# Nodes are numbered in order of creation: a consumer always has the larger number, so walking numbers downwards
# visits every consumer of a node before the node itself.
next_number = itertools.count().__next__


class Node:
    """One recorded operation with one output.

    `edges` holds, per tensor input, the node that made it (or an `Output` of one), the leaf tensor itself, or None.
    `saved` holds the inputs the derivative needs (None elsewhere); it becomes None once the memory was freed.
    """

    # The first eight are set for every node; the others are rare, and live in the instance dictionary when set.
    __slots__ = ("op", "edges", "saved", "saved_out", "attrs", "number", "shape", "dtype", "__dict__", "__weakref__")
    index = 0
    versions: Any = None
    hooks: Any = None  # list of (index, function): on the gradient that arrives
    pre_hooks: Any = None
    trace: Any = None  # forward traceback, in anomaly mode
    shapes: Any = None  # shapes of the inputs, for derivatives that ask for them

    def __init__(self, op: Any, edges: tuple[Any, ...], attrs: Any = None, shape: Any = None, dtype: Any = None):
        self.op = op
        self.edges = edges
        self.saved: Any = ()
        self.saved_out: Any = None
        self.attrs = attrs
        self.number = next_number()
        self.shape = shape
        self.dtype = dtype

    @property
    def owner(self) -> Node:
        return self

    @property
    def outputs(self) -> int:
        return 1 if self.shape is None or not isinstance(self.shape, list) else len(self.shape)

    def name(self) -> str:
        """PyTorch's name of the node: "AddBackward0"."""
        return self.op.grad_name

    def __repr__(self) -> str:
        return f"<{self.name()} object at {id(self):#x}>"

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """For each input: (the node that made it or None, which of its outputs)."""
        found: list[tuple[Any, int]] = []
        for edge in self.edges:
            if edge is None:
                found.append((None, 0))
            elif isinstance(edge, Tensor):
                found.append((AccumulateGrad(edge), 0))
            else:
                found.append((edge.owner, edge.index))
        return tuple(found)

    @property
    def metadata(self) -> dict[str, Any]:
        """A dictionary for users."""
        return self.__dict__.setdefault("user_metadata", {})

    def register_hook(self, hook: Any) -> Any:
        """Call `hook(grad_inputs, grad_outputs)` after the derivative of this node ran."""
        if self.hooks is None:
            self.hooks = []
        entry = (None, hook)
        self.hooks.append(entry)
        return RemovableHandle(self.hooks, entry)

    def register_prehook(self, hook: Any) -> Any:
        """Call `hook(grad_outputs)` before the derivative of this node runs."""
        if self.pre_hooks is None:
            self.pre_hooks = []
        self.pre_hooks.append(hook)
        return RemovableHandle(self.pre_hooks, hook)


class Output:
    """One output of a node that has several."""

    __slots__ = ("owner", "index")

    def __init__(self, owner: Node, index: int):
        self.owner = owner
        self.index = index


class AccumulateGrad:
    """How a leaf shows itself in `next_functions`."""

    __slots__ = ("variable",)
    next_functions: tuple[Any, ...] = ()

    def __init__(self, variable: Tensor):
        self.variable = variable

    def name(self) -> str:
        return "torch::autograd::AccumulateGrad"

    def __repr__(self) -> str:
        return f"<AccumulateGrad object at {id(self.variable):#x}>"


class RemovableHandle:
    """Takes a hook away again: `handle.remove()`, or as a context manager."""

    __slots__ = ("hooks", "entry")

    def __init__(self, hooks: Any, entry: Any):
        self.hooks = hooks
        self.entry = entry

    def remove(self) -> None:
        """Remove the hook; doing it twice is harmless."""
        recording.changed(self)
        if self.entry in self.hooks:
            self.hooks.remove(self.entry)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *error: Any) -> None:
        self.remove()


def edge_of(t: Any) -> Any:
    """What an edge to this input looks like: its node, the tensor itself if it is a leaf, None without grad."""
    return (t._node or t) if isinstance(t, Tensor) and t._requires_grad else None


def save_output(t: Tensor) -> Any:
    """An output kept for the derivative without keeping the tensor (which would be a reference cycle)."""
    storage = t._storage
    if storage is None:
        storage = t._storage = Storage(t._array)
    return (t._array, storage, storage.version, t._hidden)


def unpack_output(node: Any, packed: Any, index: int = 0) -> Tensor:
    """The saved output as a tensor again, attached to its node so that it can be differentiated further."""
    array, storage, version, hidden = packed
    if storage.version != version:
        raise RuntimeError(changed_message(array, node, index, storage.version, version))
    t = wrap(array)
    t._storage = storage
    t._hidden = hidden
    if array.dtype.kind in "fcV":
        t._requires_grad = True
        t._node = node if index == 0 and node.outputs == 1 else Output(node, index)
    return t


def check_version(t: Tensor, expected: int, node: Any) -> None:
    """RuntimeError if an input saved for the derivative was written to since."""
    storage = t._storage
    if storage is not None and storage.version != expected:
        raise RuntimeError(changed_message(t._array, t._node, t.output_nr, storage.version, expected))


def changed_message(array: Any, node: Any, index: int, found: int, expected: int) -> str:
    """PyTorch's text; `node` is None for a leaf."""
    made_by = "" if node is None else f", which is output {index} of {node.owner.name()},"
    return (
        "one of the variables needed for gradient computation has been modified by an inplace operation: "
        f"[torch.{scalar_name(array.dtype)}Tensor {list(array.shape)}]{made_by} is at version {found}; expected "
        f"version {expected} instead. Hint: enable anomaly detection to find the operation that failed to compute its "
        "gradient, with torch.autograd.set_detect_anomaly(True)."
    )
