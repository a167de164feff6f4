"""Guards: the calls that a record stands for, and the state it was made in."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.compiler import environment
from flambeau.compiler.capture import Recorder, held_alone
from flambeau.compiler.memory import address, overlap, root_of
from flambeau.compiler.sources import Source
from flambeau.core import recording
from flambeau.core.tensor import Tensor


class Guards:
    """What must be as it was for a record to stand for a call with the same signature."""

    def __init__(self, recorder: Recorder, watched: environment.Environment):
        self.environment = watched
        modules = {**{id(m): m for m in watched.modules()}, **recorder.modules}
        self.modules = [(module, environment.snapshot(module)) for module in modules.values()]
        self.changes = recording.changes
        self.reads = recorder.reads
        self.numbers = recorder.guards
        for evaluate, _, _ in self.numbers:
            evaluate(None)  # what cannot be computed again ends the capture here
        self.groups = [(group, items) for group, items in recorder.options_read]
        recorder.grad_entries = {
            k: (t, there) for k, (t, there) in recorder.grad_entries.items() if recorder.was_alive(t)
        }
        self.grad_entries = list(recorder.grad_entries.values())
        self.grads_alone: list[Tensor] = []  # leaves whose gradient nobody else may refer to
        self.optimizers = [(o, o.state, [id(s) for s in o.state.values()]) for o in recorder.optimizers]
        self.tensors = [
            (
                v.source.what,
                v.shape,
                tuple(s * v.dtype.itemsize for s in v.strides),
                v.dtype,
                v.source.what._requires_grad,
            )
            for v in recorder.graph.inputs
            if v.source.kind == "tensor"
        ]
        symbols = {(id(s.what[0]), s.what[1]) for v in recorder.graph.inputs if (s := v.source).kind == "option"}
        self.known = _known_tensors(recorder, watched, [module for module, _ in self.modules])
        self.arrangement = _arrangement(self.known)
        self._find_shared_memory(recorder)
        self.fixed_options = [
            (group, [(k, v) for k, v in items if (id(group), k) not in symbols]) for group, items in self.groups
        ]

    def _find_shared_memory(self, recorder: Recorder) -> None:
        """Which of the arguments showed memory of each other or of outside tensors, and which memory is written."""
        self.overlaps = list(recorder.overlaps)
        for index, argument in enumerate(recorder.arguments):
            for t in self.known:
                if t is argument or overlap(t._array, argument._array):
                    self.overlaps.append(
                        (Source("argument", index), Source("tensor", t), address(argument._array) - address(t._array))
                    )
        written = [
            block.entry.source
            for block in recorder.externals
            if block.entry is not None and block.value is not block.entry
        ]
        self.written = [source for source in written if source.kind == "argument"]
        state = [
            source
            for source in (
                written
                if not self.written
                else [block.entry.source for block in recorder.externals if block.entry is not None]
            )
            if source.kind != "argument"
        ]
        self.state = [source.what for source in state if source.kind == "tensor"]
        self.state_roots = {id(root): root for t in self.state for root in (root_of(t._array),)}
        self.state_grads = [source.what for source in state if source.kind == "grad"]
        self.alone = bool(written) and bool(recorder.arguments)

    def apart(self, tensors: Any) -> bool:
        """Whether no argument shows memory that is written through another name."""
        arrays = [t._array for t in tensors]
        if any(id(root_of(a)) in self.state_roots for a in arrays):
            if any(overlap(a, t._array) for a in arrays for t in self.state):
                return False
        if any(overlap(a, t._grad._array) for a in arrays for t in self.state_grads if t._grad is not None):
            return False
        return not any(
            overlap(arrays[source.what], other)
            for source in self.written
            for n, other in enumerate(arrays)
            if n != source.what
        )

    def same_overlaps(self, tensors: Any) -> bool:
        """Whether what shared memory when the record was made does so now."""
        for one, another, distance in self.overlaps:
            a, b = (
                tensors[s.what] if s.kind == "argument" else s.what if s.kind == "tensor" else s.what._grad
                for s in (one, another)
            )
            if address(a._array) - address(b._array) != distance:
                return False
        return True

    def hold(self, tensors: list[Tensor]) -> bool:
        """Whether the record is right for this call."""
        if (self.overlaps and not self.same_overlaps(tensors)) or (self.alone and not self.apart(tensors)):
            return False
        if self.environment.changed() is not None:
            return False
        if self.changes != recording.changes and not self._state_holds():
            return False
        for group, items in self.groups:
            if tuple(group.items()) != items and not self._options_hold(group):
                return False
        for t, shape, strides, dtype, needs_grad in self.tensors:
            a = t._array
            if a.shape != shape or a.strides != strides or a.dtype != dtype or t._requires_grad != needs_grad:
                return False
        for leaf, there in self.grad_entries:
            if (leaf._grad is not None) != there:
                return False
        if not all(held_alone(leaf) for leaf in self.grads_alone):
            return False
        for evaluate, expected, _ in self.numbers:
            if evaluate(None) != expected:
                return False
        return self.reads_hold(tensors)

    def reads_hold(self, tensors: list[Tensor]) -> bool:
        """Whether the values that Python read are the same."""
        return all(
            np.array_equal((tensors[s.what] if s.kind == "argument" else s.what)._array, values)
            for s, values in self.reads
        )

    def _state_holds(self) -> bool:
        """The closer look, after an attribute of some module or optimizer was set."""
        if any(environment.module_changed(module, then) is not None for module, then in self.modules):
            return False
        for optimizer, state, slots in self.optimizers:
            if optimizer.state is not state or [id(s) for s in state.values()] != slots:
                return False
        if _arrangement(self.known) != self.arrangement:
            return False
        self.changes = recording.changes
        return True

    def _options_hold(self, group: dict) -> bool:
        for known, items in self.fixed_options:
            if known is group and any(
                key not in group or not environment.same(group[key], value) for key, value in items
            ):
                return False
        return all(
            isinstance(group[k], type(v)) for g, items in self.groups if g is group for k, v in items if k in group
        )


def _known_tensors(recorder: Recorder, watched: environment.Environment, modules: list[Any]) -> list[Tensor]:
    """Outside tensors that the function can name: in its environment, its modules and its optimizers."""
    found: dict[int, Tensor] = {}

    def note(thing: Any) -> None:
        if isinstance(thing, Tensor) and type(thing._array) is np.ndarray:
            found.setdefault(id(thing), thing)

    for place in watched.places:
        note(place.value)
    for module in modules:
        for registry in (module._parameters, module._buffers):
            for t in registry.values():
                note(t)
    for group, _ in recorder.options_read:
        for t in group["params"]:
            note(t)
    return list(found.values())


def _arrangement(known: list[Tensor]) -> list[Any]:
    """Which tensors share memory, and which have hooks."""
    first: dict[int, int] = {}
    made = []
    for number, t in enumerate(known):
        hooks = tuple((name, *map(id, t.__dict__[name])) for name in _HOOKS if t.__dict__.get(name))
        root = first.setdefault(id(root_of(t._array)), number)
        made.append((root, address(t._array) - address(known[root]._array), hooks))
    return made


_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
