"""Capture: run a function once, eagerly, and write down as a graph what it does to memory.

Values are told apart by the memory they lie in, not by tensor object: every array that owns memory is a block with a
current `Value`, and an array that shows part of it is a `Ref`. So views need no nodes, and a write through one makes a
new value of the block. Memory that was alive before the call is outside state; memory that appears without a recorded
op (a computation on raw arrays) ends the capture: better slow than wrong.
"""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np

from flambeau.compiler.calls import common_type, holds_values
from flambeau.compiler.garbage import Pause
from flambeau.compiler.graph import Check, Graph, Node, Ref, Value, same_order
from flambeau.compiler.memory import Block, address, bounds, element_strides, is_dense, living_tensors, root_of, span
from flambeau.compiler.numbers import Numbers
from flambeau.compiler.sources import Source, Unrecordable, user_line
from flambeau.compiler.symbols import Symbol
from flambeau.core import dispatch, recording
from flambeau.core.device import MetaArray
from flambeau.core.modes import modes
from flambeau.core.tensor import Tensor
from flambeau.ops.comparison import eq, ge, le, logical_and, logical_or
from flambeau.ops.reductions import all as all_

SMALL = 4096  # bytes; an argument that Python reads (sequence lengths) and that is no larger becomes a guard
_RANDOM = "generator"  # an op with this attribute draws from a stream
_CALL = SimpleNamespace(name="@call", attributes={})


def tap(method: Any) -> Any:
    """A method that hears of an event: silent in other threads and after the capture has failed."""

    @functools.wraps(method)
    def hear(self: Recorder, *arguments: Any) -> Any:
        if self.failed is not None or threading.get_ident() != self.thread:
            return None
        try:
            return method(self, *arguments)
        except Unrecordable as error:
            self.fail(error)
            return None

    return hear


class Recorder(Numbers):
    """Listens to one call: `with Recorder(arguments) as r: result = fn(...)`, then `r.graph`.

    When something cannot be recorded the call goes on, eagerly, and `failed` says why (`strict`: it raises).
    """

    def __init__(self, arguments: list[Tensor], strict: bool = False, pause: Pause | None = None):
        super().__init__()
        self.pause = pause  # ends when the record fails: what goes on eagerly may take hours
        self.failed: Unrecordable | None = None
        self.strict = strict
        self.modules: dict[int, Any] = {}  # modules that were called
        self.graph = Graph()
        self.thread = threading.get_ident()
        self.arguments = arguments
        self.blocks: dict[int, list[Block]] = {}
        self.alive: dict[int, Any] = {}  # what keeps (or watches) each root, so that its id stays its own
        self.externals: list[Block] = []
        self.reads: list[tuple[Source, np.ndarray]] = []  # arguments whose values Python read
        self.grads: dict[int, Tensor] = {}  # leaves whose .grad was touched
        self.grad_entries: dict[
            int, tuple[Tensor, bool]
        ] = {}  # leaves whose .grad at entry mattered: (leaf, was there)
        self.overlaps: list[tuple[Source, Source, int]] = []  # (one, another, bytes between their first elements)
        self.histories: list[tuple[Tensor, Any, bool]] = []  # outside tensors, with node and requires_grad as met
        self.flags: list[tuple[Tensor, Exception]] = []  # results that must be true, and what to raise if they are not
        self.grads_alone: dict[int, Tensor] = {}  # gradients at entry that nobody but the leaf refers to
        self.leaves: dict[int, Tensor] = {}  # outside tensors that require grad
        self.freed: list[Any] = []
        self.made: list[weakref.ref] = []
        self.state_changed: Any = None
        self.undecided = False  # whether the step of an optimizer may be taken back (amp), which speaks for itself then
        self._announced: Any = None
        self._busy = False
        self._before: dict[int, list[Tensor]] = {}
        self._listener: Any = None
        self._above: Any = None
        self._tensor_sources: dict[int, Source] = {}

    # ---- beginning and end -------------------------------------------------------------------

    def __enter__(self) -> Recorder:
        if recording.recorder is not None:  # of another thread
            self.failed = Unrecordable("another capture is running", later=True)
            return self
        for t in living_tensors():
            self._before.setdefault(id(root_of(t._array)), []).append(t)
        try:
            for index, argument in enumerate(self.arguments):
                self._tensor_sources[id(argument)] = Source("argument", index)
                if argument._array.size == 0 and argument._requires_grad:
                    self.leaves[id(argument)] = argument
                if argument._array.size or type(argument._array) is MetaArray:
                    block = self._external(argument, Source("argument", index))
                    self._note_overlaps(argument, block)
        except Unrecordable as error:
            self.fail(error)
            return self
        self._listener = dispatch.intercept(self._handle)
        # Beneath those who listen already (autocast, names): what they make of a call is what is recorded.
        self._above = dispatch.interceptor
        if self._above is None:
            self._listener.__enter__()
        else:
            while self._above.previous is not None:
                self._above = self._above.previous
            self._above.previous = self._listener
            self._listener.active = True
        recording.recorder = self
        return self

    def __exit__(self, *error: Any) -> None:
        if self._above is not None:
            self._above.previous = None
            self._listener.active = False
        elif self._listener is not None:
            self._listener.__exit__(*error)
        if recording.recorder is self:
            recording.recorder = None
        self._before = {}

    def fail(self, error: Unrecordable) -> None:
        """Stop recording."""
        if self.failed is None:
            self.failed = error
        if self.pause is not None:
            self.pause.end()
        if recording.recorder is self:
            recording.recorder = None
        if self.strict and not error.later:
            raise error

    # ---- memory ------------------------------------------------------------------------------

    def _find(self, array: np.ndarray) -> Block | None:
        blocks = self.blocks.get(id(root_of(array)))
        if not blocks:
            return None
        if blocks[0].all:
            return blocks[0]
        low, high = bounds(array)
        for block in blocks:
            if block.low <= low and high <= block.high:
                return block
        return None

    def _register(self, array: np.ndarray, value: Value) -> Block:
        root = root_of(array)
        key = id(root)
        if key not in self.alive:
            try:
                self.alive[key] = weakref.ref(root, lambda _, key=key: self._forget(key))
            except TypeError:
                self.alive[key] = root
        block = Block(array, value)
        self.blocks.setdefault(key, []).append(block)
        return block

    def _forget(self, key: int) -> None:
        self.blocks.pop(key, None)
        self.alive.pop(key, None)

    def _external(self, t: Tensor, source: Source) -> Block:
        """Outside memory, as tensor `t` shows it."""
        array = t._array
        if type(array) is not np.ndarray:
            raise Unrecordable("a tensor without memory (device meta)", user_line())
        found = self._find(array)
        if found is not None:
            return found
        if is_dense(array):
            value = self.graph.value(array.shape, element_strides(array), array.dtype)
        else:  # all of the stretch, gaps included; the array is a window on it
            value = self.graph.value((span(array),), (1,), array.dtype)
        value.source = source
        self.graph.inputs.append(value)
        block = self._register(array, value)
        self.alive[id(root_of(array))] = root_of(array)
        block.entry, block.tensor = value, t
        self.histories.append((t, t._node, t._requires_grad))
        self.externals.append(block)
        self._tensor_sources[id(t)] = source
        return block

    def was_alive(self, t: Tensor) -> bool:
        """Whether a tensor object existed before the call."""
        return any(t is known for known in self._before.get(id(root_of(t._array)), ()))

    def source_of(self, t: Tensor) -> Source:
        """Where an outside tensor is found."""
        return self._tensor_sources[id(t)]

    def _note_overlaps(self, t: Tensor, block: Block) -> None:
        """Remember which arguments and outside tensors show the same memory: the record holds for no other case."""
        low, high = bounds(t._array)
        for other in self.blocks[id(root_of(t._array))]:
            if other.tensor is not None and other.tensor is not t and other.low < high and low < other.high:
                self.overlaps.append(
                    (
                        self._tensor_sources[id(t)],
                        self._tensor_sources[id(other.tensor)],
                        address(t._array) - other.start,
                    )
                )

    def _outside(self, array: np.ndarray) -> Block | None:
        """The block of memory that was alive before the call, seen now for the first time."""
        candidates = self._before.get(id(root_of(array)))
        if not candidates:
            return None
        low, high = bounds(array)
        best, most = None, (False, 0, False)
        for t in candidates:
            if type(t._array) is np.ndarray and t._array.size:
                first, last = bounds(t._array)
                if first <= low and high <= last and is_dense(t._array):
                    fits = (t._array.dtype == array.dtype, t._array.nbytes, t._requires_grad)
                    if best is None or fits > most:
                        best, most = t, fits
        if best is None:
            return None
        block = self._external(best, Source("tensor", best))
        self._note_overlaps(best, block)
        return block

    def ref(self, array: np.ndarray) -> Ref | None:
        """The window that an array is, or None for memory of unknown origin."""
        if array.size == 0:
            return self._nothing(array).whole()
        block = self._find(array)
        if block is None:
            block = self._outside(array)
        if block is None:
            return None
        window = block.window(self.graph, array)
        if window is None:
            raise Unrecordable("an unaligned view", user_line())
        return window

    def _nothing(self, array: np.ndarray) -> Value:
        """The constant for memory without elements, wherever it comes from: only its shape matters."""
        value = self.graph.value(array.shape, contiguous(array.shape), array.dtype)
        self.graph.constants[value] = np.empty(array.shape, array.dtype)
        return value

    def operand(self, x: Any) -> Any:
        """What a node reads for an operand of an op."""
        if isinstance(x, Tensor):
            if type(x._array) is MetaArray:
                raise Unrecordable("a tensor without memory (device meta)", user_line())
            found = self.ref(x._array)
            if found is None:
                raise Unrecordable("a tensor made by code that is not recorded as an operation", user_line())
            if x._requires_grad:
                self._note_leaf(x)
            return found
        if type(x) is Symbol:
            return x.ref
        return x

    def _note_leaf(self, x: Tensor) -> None:
        """An operand that requires grad: a gradient that comes later ends at it if it was there before the call."""
        if id(x) not in self.leaves and type(x._array) is np.ndarray and self.was_alive(x):
            self._tensor_sources.setdefault(id(x), Source("tensor", x))
            self.leaves[id(x)] = x

    # ---- ops ---------------------------------------------------------------------------------

    def _handle(self, op: Any, inputs: Any, attrs: Any) -> Any:
        given = [float(x) if type(x) is Symbol else x for x in inputs]
        if threading.get_ident() != self.thread or self._busy or self.failed is not None:
            return op.function(*given, **attrs)
        if op.view:
            for x in inputs:
                if isinstance(x, Tensor) and x._requires_grad:
                    self._note_leaf(x)
            return op.function(*given, **attrs)
        operands = None
        try:
            operands = [self.operand(x) for x in inputs]
            for value in attrs.values():
                if holds_values(value):
                    raise Unrecordable(f"{op.name} takes values of a tensor as an attribute", user_line())
            if any(type(value) is Symbol for value in attrs.values()):
                attrs = {name: self._fixed(value) for name, value in attrs.items()}
        except Unrecordable as error:
            self.fail(error)
        self._busy = True
        try:
            result = op.function(*given, **attrs)
            compute = common_type(op, given) if op.elementwise else None
        finally:
            self._busy = False
        if self.failed is None:
            try:
                self._note(op, operands, attrs, compute, result)
            except Unrecordable as error:
                self.fail(error)
        return result

    def _note(self, op: Any, operands: Any, attrs: Any, compute: Any, result: Any) -> None:
        """Write down what an op computed."""
        made = (result,) if isinstance(result, Tensor) else tuple(result)
        outputs: list[Value | None] = []
        for t in made:
            outputs.append(self._output(t) if isinstance(t, Tensor) and t._array.size else None)
        if all(value is None for value in outputs):
            return
        node = Node(op.name, operands, {**op.attributes, **attrs}, outputs, user_line())
        node.compute = compute
        node.effect = _RANDOM in attrs
        self.graph.nodes.append(node)

    def _output(self, t: Tensor) -> Value | None:
        """The value of a new tensor; None if the op returned memory that is already known."""
        array = t._array
        if type(array) is MetaArray:
            raise Unrecordable("a tensor without memory (device meta)", user_line())
        if self._find(array) is not None:
            return None
        if not is_dense(array):
            array = t._array = np.array(array, order="K" if array.strides and min(array.strides) > 0 else "C")
            t._storage = None
        value = self.graph.value(array.shape, element_strides(array), array.dtype)
        self._register(array, value)
        self.made.append(weakref.ref(array))
        return value

    def _fixed(self, value: Any) -> Any:
        """A symbol where only a plain number can stand: a guard says that it stays the same."""
        if type(value) is not Symbol:
            return value
        plain = float(value)
        self.guards.append((value.evaluate, plain, value.moving))
        return plain

    # ---- what happens beside the ops (core/recording.py) ---------------------------------------

    @tap
    def constant(self, array: np.ndarray) -> None:
        if self._busy or type(array) is MetaArray or array.size == 0 or self._find(array) is not None:
            return
        if array.base is not None and self.ref(array) is not None:
            return
        if not is_dense(array):
            return
        value = self.graph.value(array.shape, element_strides(array), array.dtype)
        first = array.reshape(-1)[:1]
        uniform = array.dtype.kind in "biuf" and bool((array == first).all())
        self.graph.constants[value] = (
            np.broadcast_to(first.reshape(()).copy(), array.shape) if uniform else array.copy()
        )
        self._register(array, value)
        self.made.append(weakref.ref(array))

    @tap
    def computed(self, results: Any, function: Any, tensors: tuple[Tensor, ...]) -> None:
        """Arithmetic on arrays beside the ops: a node that calls the same function."""
        if not self._busy:
            self._note(_CALL, [self.operand(t) for t in tensors], {"run": function}, None, results)

    @tap
    def copied(self, made: np.ndarray, source: np.ndarray) -> None:
        if made.size == 0:
            return
        ref = self.ref(source)
        if ref is None:
            if self._busy:
                return
            raise Unrecordable("a copy of memory of unknown origin", user_line())
        value = ref.value
        if not (ref.is_whole() and same_order(made.shape, element_strides(made), value.strides)):
            value = self._copy_node(ref, made)
        self._register(made, value)
        self.made.append(weakref.ref(made))

    def _copy_node(self, ref: Ref, like: np.ndarray, dtype: Any = None) -> Value:
        value = self.graph.value(ref.shape, element_strides(like), dtype or like.dtype)
        self.graph.nodes.append(Node("@copy", [ref], {}, [value], user_line()))
        return value

    @tap
    def assigned(self, x: Tensor, result: Tensor) -> None:
        """x[...] = result, both of one shape."""
        target = x._array
        if target.size == 0:
            return
        self._announced = x
        values = self.operand(result)
        place = self.operand(x)
        block = self._find(target)
        assert block is not None
        overlapping = [
            b for b in self.blocks[id(root_of(target))] if b is not block and b.low < block.high and block.low < b.high
        ]
        if overlapping:
            raise Unrecordable("a write to memory that is also seen through another argument", user_line())
        if place.is_whole() and place.dtype == block.dtype:
            same = (
                values.is_whole()
                and values.dtype == place.dtype
                and same_order(target.shape, values.value.strides, block.strides)
            )
            block.value = values.value if same else self._copy_node(values, target, target.dtype)
            return
        if len(set(zip(place.strides, place.shape))) and any(
            s == 0 and n > 1 for s, n in zip(place.strides, place.shape)
        ):
            raise Unrecordable("a write to an expanded tensor", user_line())
        block.write(self.graph, place, values)

    @tap
    def wrote(self, t: Tensor) -> None:
        if self._announced is t:
            self._announced = None
            return
        if self._busy:
            return
        if self._find(t._array) is not None or self._outside(t._array) is not None:
            raise Unrecordable("a write to a tensor that is not recorded as an operation", user_line())

    @tap
    def drawn(self, array: np.ndarray, draw: Any) -> None:
        """The whole of `array` was filled with random numbers."""
        if self._busy or array.size == 0:
            return
        if not is_dense(array):
            raise Unrecordable("random numbers written into a view with gaps", user_line())
        value = self.graph.value(array.shape, element_strides(array), array.dtype)
        attrs = {
            "run": draw,
            "kind": getattr(draw, "kind", None),
            "parameters": getattr(draw, "parameters", None),
            "generator": getattr(draw, "generator", None),
        }
        node = Node("@draw", [], attrs, [value], user_line())
        node.effect = True
        block = self._find(array)
        if block is None:
            block = self._outside(array)
        if block is None:
            self.graph.nodes.append(node)
            self._register(array, value)
            return
        window = self.ref(array)
        assert window is not None
        self.graph.nodes.append(node)
        if window.is_whole() and window.dtype == block.dtype:
            block.value = value
        else:
            block.write(self.graph, window, value.whole())

    @tap
    def read(self, t: Tensor) -> None:
        """Python looks at values: fine for constants, and for small arguments that nothing wrote to."""
        if self._busy or t._array.size == 0 or type(t._array) is MetaArray:
            return
        ref = self.ref(t._array)
        if ref is not None:
            if ref.value in self.graph.constants:
                return
            source = ref.value.source
            if (
                source is not None
                and source.kind in ("argument", "tensor")
                and t._array.dtype.kind in "biu"
                and ref.is_whole()
                and t._array.nbytes <= SMALL
            ):
                self.reads.append((source, t._array.copy()))
                return
        raise Unrecordable("Python reads the values of a tensor", user_line())

    @tap
    def fixed(self, t: Tensor) -> bool:
        """Whether a tensor is a constant."""
        ref = None if self._busy else self.ref(t._array)
        return ref is not None and ref.value in self.graph.constants

    @tap
    def bounded(self, t: Tensor, low: Any, high: Any, but: Any, error: Exception) -> None:
        """An op refuses values outside of low … high, except `but`: what the call finds in memory is looked at before
        the program runs (`Graph.checks`), what it computes itself leaves a flag."""
        if self._busy or t._array.size == 0 or type(t._array) is MetaArray:
            return
        ref = self.ref(t._array)
        if ref is None or ref.value in self.graph.constants:
            return
        if ref.value.source is not None and ref.value.source.kind != "option":
            check = Check(ref, low, high, but)
            if not any(check == known for known in self.graph.checks):
                self.graph.checks.append(check)
            return
        before, modes.grad = modes.grad, False
        try:
            fine = logical_and(ge(t, low), le(t, high))
            if but is not None:
                fine = logical_or(fine, eq(t, but))
            self.flags.append((all_(fine), error))
        finally:
            modes.grad = before

    @tap
    def required(self, t: Tensor, error: Exception) -> None:
        before, modes.grad = modes.grad, False
        try:
            self.flags.append((all_(t), error))
        finally:
            modes.grad = before

    @tap
    def changed(self, owner: Any) -> None:
        if self.state_changed is None:
            self.state_changed = (type(owner).__name__, user_line())

    @tap
    def unready(self, reason: str, counted: bool = True) -> None:
        """This call is not like those that follow. An attempt that is not counted may be repeated without end."""
        raise Unrecordable(reason, user_line(), later=True, counted=counted)

    @tap
    def state_made(self) -> None:
        """An optimizer makes its state: nothing after it need be recorded."""
        if not self.undecided:
            raise Unrecordable("an optimizer makes its state", user_line(), later=True)

    # ---- gradients ---------------------------------------------------------------------------

    @tap
    def grad_read(self, leaf: Tensor) -> None:
        """leaf.grad is looked at: if this call has not set it, what it was at entry matters."""
        key = id(leaf)
        if key in self.grads:
            return
        self.grads[key] = leaf
        there = leaf._grad is not None
        self.grad_entries[key] = (leaf, there)
        if there:
            if held_alone(leaf, watching=1):
                self.grads_alone[key] = leaf._grad
            self._external(leaf._grad, Source("grad", leaf))

    accumulating = grad_read

    @tap
    def called(self, module: Any) -> None:
        """A module runs: its attributes, and those of the modules in it, are state the record depends on."""
        if id(module) not in self.modules:
            for part in module.modules():
                self.modules[id(part)] = part

    @tap
    def grad_set(self, leaf: Tensor) -> None:
        self.grads.setdefault(id(leaf), leaf)

    @tap
    def released(self, node: Any) -> None:
        self.freed.append(node)


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides (in elements) of plain order."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def held_alone(leaf: Tensor, watching: int = 0) -> bool:
    """Whether nobody but the leaf refers to its gradient: what is done to one that the leaf then loses, no one sees.

    `watching` is how many references the caller knows of.
    """
    g: Any = leaf._grad
    storage = g._storage
    # References to the tensor: the leaf's, ours, getrefcount's argument; to the storage: the tensor's, ours, the
    # argument.
    return (
        type(g) is Tensor
        and sys.getrefcount(g) <= 3 + watching
        and not g.__dict__
        and (storage is None or (sys.getrefcount(storage) <= 3 and not storage.flags))
    )
