"""One captured call, ready to run again: the calls it stands for (guards), and what it does to objects (effects)."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from flambeau.autograd.engine import FREED, grad
from flambeau.compiler import environment
from flambeau.compiler.capture import Recorder
from flambeau.compiler.graph import Graph, Node, Ref, Value
from flambeau.compiler.guards import Guards
from flambeau.compiler.memory import element_strides
from flambeau.compiler.sources import Source, Unrecordable, user_line
from flambeau.compiler.structure import rebuild
from flambeau.compiler.symbols import Symbol
from flambeau.core import dtype as dtypes
from flambeau.core.device import device
from flambeau.core.modes import modes
from flambeau.core.node import Node as HistoryNode
from flambeau.core.node import Output, changed_message
from flambeau.core.storage import Storage, _Memory
from flambeau.core.tensor import Tensor, storage_of, wrap

Executor = Callable[[list[np.ndarray]], list[np.ndarray]]


class Entry:
    """A record with its executor: `call(tensors)` does what the function did, on these arguments."""

    def __init__(self, recorder: Recorder, guards: Guards, result: Any):
        self.graph = recorder.graph
        self.guards = guards
        self.recorder: Any = recorder
        self.text = ""  # of the graph as it was captured, if somebody asked for it
        self.shortened = False  # whether a short way was looked for (quick.py)
        self.template: Any = None
        self.grads: list[tuple[Tensor, int | None]] = []
        self.backward: Backward | None = None
        self.execute: Any = None
        self.option_arrays: list[tuple[Source, np.ndarray]] = []  # see quick.py
        self._describe(result)
        self.sources = [value.source for value in self.graph.inputs]  # a returned tensor may be a new one
        for block in recorder.externals:
            if block.value is not block.entry:
                assert block.entry is not None
                source = block.entry.source
                if (
                    source.kind == "grad"
                    and source.what._grad is not block.tensor
                    and (recorder.grads_alone.get(id(source.what)) is block.tensor)
                ):
                    self.guards.grads_alone.append(source.what)  # written, then dropped: nobody can look
                    continue
                self.graph.writes[block.entry] = block.value.whole()

    # ---- what the call leaves behind -------------------------------------------------------------

    def _describe(self, result: Any) -> None:
        recorder = self.recorder
        known = {id(block.tensor): block.tensor for block in recorder.externals}
        slots: dict[int, int] = {}
        live: list[Tensor] = []
        types: dict[int, np.dtype] = {}  # block of memory -> as what it is returned

        def place(t: Tensor) -> Any:
            if id(t) in known or any(t is argument for argument in recorder.arguments):
                return Alias(t, next((i for i, a in enumerate(recorder.arguments) if a is t), None))
            ref = recorder.ref(t._array)
            if ref is None:
                raise Unrecordable("returns a tensor of unknown origin", user_line())
            if t._grad is not None:
                raise Unrecordable("returns a new tensor that has a gradient", user_line())
            if type(t) is not Tensor or t._names is not None or t.__dict__:
                raise Unrecordable(f"returns a {type(t).__name__} with attributes of its own", user_line())
            if ref.value.source is not None:
                return self._view_of_outside(t, ref)
            block = recorder._find(t._array)
            shown = block and (block.dtype if block.entry else types.setdefault(id(block), ref.dtype))
            if block is not None and shown != ref.dtype:
                raise Unrecordable(f"returns memory of {block.dtype} as {ref.dtype}", user_line())
            slot = slots.setdefault(ref.value.number, len(slots))
            if slot == len(self.graph.outputs):
                self.graph.outputs.append(ref.value.whole())
            made = Place(slot, ref, t)
            if t._requires_grad and t._node is not None and not _consumed(t, recorder.freed):
                made.live = len(live)
                live.append(t)
            return made

        self.template = rebuild(result, place, check_leaf)
        self._describe_grads()
        self._describe_flags()
        for t, node, requires_grad in recorder.histories:
            if t._node is not node or t._requires_grad is not requires_grad:
                raise Unrecordable("it gives a tensor from outside another history", None)
        if live:
            self.backward = Backward(recorder, live, self.graph)
        recorder.freed.clear()  # nodes keep tensors alive
        self._check_escapes(result)

    def _view_of_outside(self, t: Tensor, ref: Ref) -> Any:
        source = ref.value.source
        if t._requires_grad or source.kind not in ("argument", "tensor"):
            raise Unrecordable("returns a view, with history, of memory from outside", user_line())
        return Seen(source, ref)

    def _describe_flags(self) -> None:
        """Results that must be true become outputs."""
        self.flags: list[tuple[int, Exception]] = []
        for t, error in self.recorder.flags:
            ref = self.recorder.ref(t._array)
            assert ref is not None
            self.flags.append((len(self.graph.outputs), error))
            self.graph.outputs.append(ref)

    def _describe_grads(self) -> None:
        recorder, graph = self.recorder, self.graph
        taken = {ref.value for ref in graph.outputs}
        recorder.grads = {key: leaf for key, leaf in recorder.grads.items() if recorder.was_alive(leaf)}
        for leaf in recorder.grads.values():
            held = leaf._grad
            if held is None:
                self.grads.append((leaf, None))
                continue
            ref = recorder.ref(held._array)
            if ref is None:
                raise Unrecordable("a gradient of unknown origin", None)
            if ref.value.source is not None or ((block := recorder._find(held._array)) and block.entry is not None):
                if block is not None and block.entry is not None and block.entry.source.what is leaf:
                    continue  # written in place: one of the graph's writes
                raise Unrecordable("a gradient that is memory from outside", None)
            if ref.value in taken or not ref.is_whole():
                copy = graph.value(ref.shape, _contiguous(ref.shape), ref.dtype)
                graph.nodes.append(Node("@copy", [ref], {}, [copy], None))
                ref = copy.whole()
            taken.add(ref.value)
            self.grads.append((leaf, len(graph.outputs)))
            graph.outputs.append(ref)

    def _check_escapes(self, result: Any) -> None:
        """Tensors made inside that are still alive, and that nobody can account for, were stored somewhere."""
        allowed: set[int] = set()

        def note(t: Tensor) -> None:
            allowed.update(_chain(t._array))
            if t._base is not None:  # a result that is a view keeps the tensor that it shows
                allowed.update(_chain(t._base[0]._array))
            _history(t, allowed)

        rebuild(result, note)
        for t, _ in self.recorder.flags:
            note(t)
        for leaf in self.recorder.grads.values():
            if leaf._grad is not None:
                allowed.update(_chain(leaf._grad._array))
        if self._kept(allowed):
            gc.collect()  # what only refers to itself is not kept
            if self._kept(allowed):
                raise Unrecordable("a tensor made inside the function is kept outside of it", None, later=True)

    def _kept(self, allowed: set[int]) -> bool:
        arrays = (reference() for reference in self.recorder.made)
        return any(array is not None and id(array) not in allowed for array in arrays)

    # ---- running ---------------------------------------------------------------------------------

    def arrays(self, tensors: list[Tensor]) -> list[np.ndarray]:
        """The memory of all inputs of the graph, for a call with these tensor arguments."""
        found: list[np.ndarray] = []
        for value in self.graph.inputs:
            kind, what = value.source.kind, value.source.what
            if kind == "argument":
                found.append(_laid_flat(tensors[what]._array, value))
            elif kind == "tensor":
                found.append(what._array)
            elif kind == "grad":
                found.append(_laid_flat(what._grad._array, value))
            else:
                group, name, index = what
                found.append(np.array(group[name] if index is None else group[name][index], np.float64))
        return found

    def call(self, tensors: list[Tensor]) -> Any:
        """Run the program, then do to objects what the function did; returns what it returns."""
        assert self.execute is not None
        arrays = self.arrays(tensors)
        if self.graph.checks and not in_bounds(self.graph, arrays):
            return OUT_OF_BOUNDS
        made = self.execute(arrays)
        for slot, error in self.flags:
            if not made[slot]:
                raise type(error)(*error.args)
        for value in self.graph.writes:
            storage_of(self._tensor(value.source, tensors)).version += 1
        for leaf, slot in self.grads:
            leaf._grad = None if slot is None else wrap(made[slot])
        return self.results(made, tensors, arrays)

    def _tensor(self, source: Source, tensors: list[Tensor]) -> Tensor:
        if source.kind == "argument":
            return tensors[source.what]
        return source.what._grad if source.kind == "grad" else source.what

    def results(self, made: list[np.ndarray], tensors: list[Tensor], arrays: list[np.ndarray]) -> Any:
        """The function's result around these outputs."""
        node = None if self.backward is None else self.backward.node(self, made, tensors, arrays)
        storages: dict[int, Storage] = {}

        def fill(leaf: Any) -> Any:
            if type(leaf) is Seen:
                return leaf.shown(self._tensor(leaf.source, tensors))
            if type(leaf) is Alias:
                return leaf.tensor if leaf.argument is None else tensors[leaf.argument]
            array = made[leaf.slot]
            if leaf.whole:
                t = wrap(array)
            else:
                t = wrap(_window(array, leaf.ref))
            if leaf.slot in storages or not leaf.whole:
                t._storage = storages.setdefault(leaf.slot, Storage(array))
            t._hidden = leaf.hidden and not array.flags.c_contiguous
            if leaf.requires_grad:
                t._requires_grad = True
                if leaf.history is not None:  # else a leaf made inside
                    t._node = consumed(leaf.history, array) if leaf.live is None else Output(node, leaf.live)
            return t

        return refill(self.template, fill)


OUT_OF_BOUNDS: Any = object()  # what a call returns that the function itself must answer, with its error


def in_bounds(graph: Graph, arrays: list[np.ndarray]) -> bool:
    """Whether all checks of a graph hold of its inputs."""
    return all(check.holds(_window(arrays[graph.inputs.index(check.ref.value)], check.ref)) for check in graph.checks)


def check_leaf(leaf: Any) -> None:
    """What a function returns besides tensors must be the same in every call."""
    if type(leaf) is Symbol:
        raise Unrecordable("returns a number of an optimizer", user_line())
    if not (
        environment.is_plain(leaf)
        or callable(leaf)
        or isinstance(leaf, (tuple, np.dtype, dtypes.dtype, device))
        or hasattr(leaf, "param_groups")
    ):
        raise Unrecordable(f"returns an object of type {type(leaf).__name__}", user_line())


def refill(tree: Any, fill: Any) -> Any:
    """The template with its places filled."""
    kind = type(tree)
    if kind is Place or kind is Alias or kind is Seen:
        return fill(tree)
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return kind(*[refill(item, fill) for item in tree])
    if kind in (list, tuple):
        return kind([refill(item, fill) for item in tree])
    if isinstance(tree, dict):
        filled = {key: refill(item, fill) for key, item in tree.items()}
        return filled if kind is dict else kind(filled)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return dataclasses.replace(
            tree, **{f.name: refill(getattr(tree, f.name), fill) for f in dataclasses.fields(tree)}
        )
    return tree


def _laid_flat(array: np.ndarray, value: Value) -> np.ndarray:
    """Memory with gaps as the vector that its value is."""
    if array.shape == value.shape:
        return array
    return np.lib.stride_tricks.as_strided(array, value.shape, (array.itemsize,))


def _window(array: np.ndarray, ref: Ref) -> np.ndarray:
    flat = np.lib.stride_tricks.as_strided(array, (ref.offset + 1,), (array.itemsize,))
    return np.lib.stride_tricks.as_strided(
        flat[ref.offset :], ref.shape, tuple(s * array.itemsize for s in ref.strides)
    )


class Consumed:
    """What is left of an op in a history that `backward` has walked inside the function: the names it had."""

    custom = False
    joint = None
    view = False
    outputs = 1

    def __init__(self, op: Any):
        self.name = op.name
        self.grad_name = op.grad_name


def consumed(op: Consumed, array: np.ndarray) -> HistoryNode:
    """The node of a result whose history is gone: walking it again is an error."""
    node = HistoryNode(op, (), None, array.shape, array.dtype)
    node.saved = None
    return node


# ---- a forward whose backward comes later ------------------------------------------------------------


class Backward:
    """The derivative of a captured forward, as a graph of its own, and the node that runs it."""

    custom = True
    joint = None
    view = False
    outputs = None
    name = "compiled"
    grad_name = "CompiledFunctionBackward"

    def __init__(self, recorder: Recorder, live: list[Tensor], graph: Graph):
        self.shapes = [t._array.shape for t in live]
        self.dtypes = [t._array.dtype for t in live]
        self.strides = [element_strides(t._array) for t in live]
        self.graph = Graph(count=0)
        self.leaves = [recorder.source_of(leaf) for leaf in recorder.leaves.values()]
        mark = len(graph.nodes)
        arriving = [wrap(np.ones_like(t._array, subok=False)) for t in live]
        for index, g in enumerate(arriving):
            value = graph.value(g._array.shape, element_strides(g._array), g._array.dtype)
            value.source = Source("gradient", index)
            recorder._register(g._array, value)
            self.graph.inputs.append(value)
        leaves = list(recorder.leaves.values())
        hooks = [(leaf, leaf.__dict__.pop("_backward_hooks")) for leaf in leaves if "_backward_hooks" in leaf.__dict__]
        try:  # hooks of leaves run where the gradients arrive
            found = grad(live, leaves, arriving, retain_graph=True, allow_unused=True)
        finally:
            for leaf, kept in hooks:
                leaf.__dict__["_backward_hooks"] = kept
        if recorder.failed is not None:
            raise recorder.failed
        windows = [None if g is None else recorder.ref(g._array) for g in found]  # which may add nodes
        self.graph.nodes = graph.nodes[mark:]
        del graph.nodes[mark:]
        self.slots: list[int | None] = []
        for g, ref in zip(found, windows):
            if g is not None and ref is None:
                raise Unrecordable("a gradient of unknown origin", None)
            if ref is not None and (
                not ref.is_whole() or any(ref.value is o.value for o in self.graph.outputs) or ref.value.node is None
            ):
                copy = graph.value(ref.shape, _contiguous(ref.shape), ref.dtype)
                self.graph.nodes.append(Node("@copy", [ref], {}, [copy], None))
                ref = copy.whole()
            self.slots.append(None if ref is None else len(self.graph.outputs))
            if ref is not None:
                self.graph.outputs.append(ref)
        self.saved: list[int] = []  # for each further input: a slot of the forward's outputs
        self.outside: list[int] = []  # or, after those, the number of an input of the forward
        self.seeds = _reached(live, leaves)
        self._cross(recorder, graph)
        self.graph.count = graph.count
        self.execute: Executor | None = None

    def _cross(self, recorder: Recorder, graph: Graph) -> None:
        """Find what the derivative reads of the forward."""
        made = {v for node in self.graph.nodes for v in node.outputs if v is not None} | set(self.graph.inputs)
        crossing: dict[Value, None] = {}
        for node in self.graph.nodes:
            for ref in node.refs:
                if ref.value not in made:
                    crossing.setdefault(ref.value)
        written = {block.entry for block in recorder.externals if block.value is not block.entry}
        known = {ref.value: slot for slot, ref in enumerate(graph.outputs)}
        outside = []
        for value in crossing:
            if value in graph.constants:
                self.graph.constants[value] = graph.constants[value]
            elif value.source is not None and value not in written:
                outside.append(value)
            else:
                kept = value
                if value.source is not None:  # what it was before the forward wrote to it
                    kept = graph.value(value.shape, value.strides, value.dtype)
                    graph.nodes.insert(0, Node("@copy", [value.whole()], {}, [kept], None))
                    self._rename(value, kept)
                if kept not in known:
                    known[kept] = len(graph.outputs)
                    graph.outputs.append(kept.whole())
                self.saved.append(known[kept])
                self.graph.inputs.append(kept)
        for value in outside:
            self.outside.append(graph.inputs.index(value))
            self.graph.inputs.append(value)

    def _rename(self, old: Value, new: Value) -> None:
        for node in self.graph.nodes:
            node.inputs = [
                Ref(new, x.shape, x.strides, x.offset) if isinstance(x, Ref) and x.value is old else x
                for x in node.inputs
            ]

    def node(
        self, entry: Entry, made: list[np.ndarray], tensors: list[Tensor], arrays: list[np.ndarray]
    ) -> HistoryNode:
        """The history of one call's results."""
        leaves = [entry._tensor(source, tensors) for source in self.leaves]
        node = HistoryNode(self, tuple(leaf._node or leaf for leaf in leaves), Held())
        node.shape, node.dtype = self.shapes, self.dtypes
        node.saved = (True,)  # tells the engine that there is something to free
        held = node.attrs
        held._saved = [made[slot] for slot in self.saved] + [arrays[i] for i in self.outside]
        outside = [entry._tensor(entry.sources[i], tensors) for i in self.outside if entry.sources[i].kind != "option"]
        held.watched = [(t, t._version) for t in outside]
        return node

    def backward(self, node: Any, arrived: Any) -> Any:
        """The gradients of the leaves: one run of the backward program."""
        held = node.attrs
        if held._saved is None:
            raise RuntimeError(FREED)
        if modes.grad:
            raise RuntimeError(
                "create_graph=True does not work through a compiled function; call the function itself, or compile the "
                "whole step"
            )
        for t, version in held.watched:
            if t._version != version:
                raise RuntimeError(changed_message(t._array, None, 0, t._version, version))
        gradients = []
        for g, shape, dtype, strides in zip(arrived, self.shapes, self.dtypes, self.strides):
            array = np.zeros(shape, dtype) if g is None else g._array
            if element_strides(array) != strides:
                laid = np.empty_like(array, subok=False) if array.ndim < 2 else _like(shape, strides, dtype)
                laid[...] = array
                array = laid
            gradients.append(array)
        assert self.execute is not None
        arrays = [*gradients, *held._saved]
        if not in_bounds(self.graph, arrays):
            raise IndexError("index out of range in the backward of a compiled function")
        made = self.execute(arrays)
        came = {number for number, g in enumerate(arrived) if g is not None}
        return [
            None if slot is None or not (seeds & came) else wrap(made[slot])
            for slot, seeds in zip(self.slots, self.seeds)
        ]


def _like(shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    order = sorted(range(len(shape)), key=lambda d: -strides[d])
    return np.empty([shape[d] for d in order], dtype).transpose(np.argsort(order))


class Held:
    """What a compiled forward keeps for its backward."""

    __slots__ = ("_saved", "watched")


class Alias:
    """A returned tensor that was there before: an argument (by number) or an outside object."""

    __slots__ = ("tensor", "argument")

    def __init__(self, tensor: Tensor, argument: int | None):
        self.tensor = tensor if argument is None else None
        self.argument = argument


class Seen:
    """A returned tensor that shows memory from outside: window `ref` on what `source` names."""

    __slots__ = ("source", "ref")

    def __init__(self, source: Source, ref: Ref):
        self.source = source
        self.ref = ref

    def shown(self, outside: Tensor) -> Tensor:
        """The view."""
        t = wrap(_window(outside._array, self.ref))
        t._storage = storage_of(outside)
        return t


class Place:
    """A returned tensor: window `ref` on output number `slot`."""

    __slots__ = ("slot", "ref", "requires_grad", "live", "history", "hidden", "whole")

    def __init__(self, slot: int, ref: Ref, t: Tensor):
        self.slot = slot
        self.ref = ref
        self.requires_grad = t._requires_grad
        self.live: int | None = None
        self.history = Consumed(t._node.owner.op) if t._node is not None else None
        self.hidden = t._hidden
        self.whole = ref.is_whole()


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def _chain(array: Any) -> Iterator[int]:
    """Ids of an array and of all it is a view of."""
    while array is not None:
        yield id(array)
        array = getattr(array, "base", None) if not isinstance(array, _Memory) else array.owner


def _nodes_of(t: Tensor) -> Iterator[Any]:
    """All nodes of the history of `t`."""
    stack = [t._node.owner] if t._node is not None else []
    seen: set[int] = set()
    while stack:
        node = stack.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            stack.extend(edge.owner for edge in node.edges if edge is not None and not isinstance(edge, Tensor))


def _consumed(t: Tensor, freed: list[Any]) -> bool:
    """Whether `backward` has freed part of the history, so that it cannot be walked again."""
    gone = {id(node) for node in freed}
    return any(id(node) in gone for node in _nodes_of(t))


def _reached(results: list[Tensor], leaves: list[Tensor]) -> list[set[int]]:
    """For each leaf the numbers of the results whose history it is in: its gradient is None where none has one."""
    found: list[set[int]] = [set() for _ in leaves]
    for number, t in enumerate(results):
        met: set[int] = set()
        for node in _nodes_of(t):
            met.add(id(node))
            met.update(id(edge) for edge in node.edges if isinstance(edge, Tensor))
        for leaf, seeds in zip(leaves, found):
            if id(leaf) in met or (leaf._node is not None and id(leaf._node.owner) in met):
                seeds.add(number)
    return found


def _history(t: Tensor, found: set[int]) -> None:
    """Ids of the arrays that the history of `t` saved."""
    for node in _nodes_of(t):
        for leaf in node.edges:
            if isinstance(leaf, Tensor):
                found.update(_chain(leaf._array))
        for s in node.saved or ():
            if isinstance(s, Tensor):
                found.update(_chain(s._array))
        packed = node.saved_out
        for kept in packed.values() if isinstance(packed, dict) else (packed,) if packed is not None else ():
            found.update(_chain(kept[0]))
