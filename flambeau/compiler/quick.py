"""The short way into a compiled program: one Python function written for one entry.

The general way (api.py, entry.py) walks data structures; for a step of a few microseconds that is most of the time.
Here the same checks and effects are written out as straight code for calls whose arguments are all tensors: compare,
collect arrays, one native call, wrap the results. Whatever does not hold returns MISS, and the general way decides.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.backends import threads
from flambeau.compiler.capture import held_alone
from flambeau.compiler.entry import Alias, Entry, Place, consumed
from flambeau.compiler.interpreter import window
from flambeau.compiler.memory import root_of
from flambeau.core import dtype as dtypes
from flambeau.core import recording
from flambeau.core.modes import modes
from flambeau.core.tensor import Tensor, storage_of, wrap

MISS = object()
MANY = 16  # things of one kind from which their lines are a loop: compiling a line takes as long as a thousand turns


class Writer:
    """Lines of Python and the objects they name."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.space: dict[str, Any] = {"MISS": MISS, "recording": recording, "modes": modes, "wrap": wrap}
        self.names: dict[int, str] = {}

    def name(self, thing: Any) -> str:
        """A name for an object."""
        found = self.names.get(id(thing))
        if found is None:
            found = self.names[id(thing)] = f"o{len(self.names)}"
            self.space[found] = thing
        return found

    def line(self, text: str) -> None:
        self.lines.append("    " + text)

    def miss_if(self, condition: str) -> None:
        self.line(f"if {condition}: return MISS")


def quick(entry: Entry, tensors: list[Tensor], modes_key: tuple) -> Callable[..., Any] | None:
    """The function for an entry whose arguments are these tensors, in this order; None if it wants the general way."""
    program = entry.execute
    if getattr(program, "hosts", True) or entry.backward is not None or entry.guards.overlaps or entry.flags:
        return None
    if any(isinstance(leaf, Place) and (leaf.hidden or not leaf.whole) for leaf in _leaves(entry.template)):
        return None
    if type(entry.template) not in (Place, Alias, tuple, list) or any(
        type(leaf) not in (Place, Alias) for leaf in _leaves(entry.template)
    ):
        return None
    w = Writer()
    arguments = [f"a{i}" for i in range(len(tensors))]
    _check_arguments(w, entry, tensors, arguments)
    _check_state(w, entry, tensors, modes_key)
    inputs = _inputs(w, entry, tensors)
    _run(w, entry, program, inputs)
    head = f"def call({', '.join(arguments)}):"
    w.space["Program"] = program
    exec(compile("\n".join([head, *w.lines]), "<flambeau.compile>", "exec"), w.space)
    return w.space["call"]  # type: ignore[no-any-return]


def _leaves(tree: Any) -> list[Any]:
    return [leaf for item in tree for leaf in _leaves(item)] if type(tree) in (tuple, list) else [tree]


def _check_arguments(w: Writer, entry: Entry, tensors: list[Tensor], arguments: list[str]) -> None:
    w.line("try:")
    for i, (name, t) in enumerate(zip(arguments, tensors)):
        array = t._array
        w.line(f"    x{i} = {name}._array")
        hidden = f" or {name}._hidden is not {t._hidden}" if array.ndim > 3 else ""
        w.line(
            f"    if x{i}.shape != {array.shape} or x{i}.strides != {array.strides} or x{i}.dtype is not "
            f"{w.name(array.dtype)} or {name}._requires_grad is not {t._requires_grad}{hidden}: return MISS"
        )
    if not arguments:
        w.line("    pass")
    w.line("except AttributeError: return MISS")
    # The same tensor twice is another signature.
    for i in range(len(arguments)):
        for j in range(i):
            if tensors[i]._array.shape == tensors[j]._array.shape:
                w.miss_if(f"a{i} is a{j}")


def _check_state(w: Writer, entry: Entry, tensors: list[Tensor], modes_key: tuple) -> None:
    guards = entry.guards
    grad, inference, autocast, default, _ = modes_key
    w.miss_if(f"{w.name(threads)}.generation != {threads.generation}")
    w.miss_if("recording.recorder is not None")
    w.miss_if(
        f"modes.grad is not {grad} or modes.inference is not {inference} or modes.autocast is not {w.name(autocast)}"
        f" or {w.name(dtypes.default_dtype)}() is not {w.name(default)}"
    )
    w.miss_if(f"recording.changes != {w.name(guards)}.changes")
    for place in guards.environment.places:
        value, holder = w.name(place.value), w.name(place.holder)
        if place.kind == "cell":
            w.miss_if(f"{holder}.cell_contents is not {value}")
        elif place.kind == "item":
            w.miss_if(
                f"{holder}.get({place.key!r}) is not {value}"
                if isinstance(place.key, (str, int))
                else f"{holder}.get({w.name(place.key)}) is not {value}"
            )
        elif place.kind == "length":
            w.miss_if(f"len({holder}) != {place.value}")
        elif place.kind == "values":
            w.miss_if(f"not {w.name(place)}.holds()")
        elif isinstance(place.holder, list):
            w.miss_if(f"{holder}[{place.key}] is not {value}")
    for number, (group, items) in enumerate(guards.groups):
        w.space[f"items{number}"] = [list(dict(items).values())]
        w.line(f"if list({w.name(group)}.values()) != items{number}[0]:")
        w.line(f"    if not {w.name(Options(entry, group))}(items{number}): return MISS")
    for leaf, there in guards.grad_entries:
        w.miss_if(f"{w.name(leaf)}._grad is {'None' if there else 'not None'}")
    for leaf in guards.grads_alone:
        w.miss_if(f"not {w.name(held_alone)}({w.name(leaf)})")
    moving = [(evaluate, expected) for evaluate, expected, moves in guards.numbers if moves]
    for evaluate, expected in moving:
        w.miss_if(f"{w.name(evaluate)}(None) != {expected!r}")
    if guards.reads:
        w.miss_if(f"not {w.name(guards)}.reads_hold([{', '.join(f'a{i}' for i in range(len(tensors)))}])")
    if guards.alone:
        for i in range(len(tensors)):
            root = f"id(x{i} if x{i}.base is None else {w.name(root_of)}(x{i}))"
            w.miss_if(f"{root} in {w.name(guards.state_roots)}")
        if guards.written or guards.state_grads:
            w.miss_if(f"not {w.name(guards)}.apart(({', '.join(f'a{i}' for i in range(len(tensors)))},))")
    for check in entry.graph.checks:
        source = check.ref.value.source
        name = f"x{source.what}" if source.kind == "argument" else f"{w.name(source.what)}._array"
        shown = name if check.ref.is_whole() else f"{w.name(window)}({name}, {w.name(check.ref)})"
        w.miss_if(f"not {w.name(check)}.holds({shown})")


class Options:
    """Takes over the new values of an optimizer's options, if only numbers changed that are inputs of the program."""

    def __init__(self, entry: Entry, group: dict):
        self.entry = entry
        self.group = group

    def __call__(self, known: list[list[Any]]) -> bool:
        guards = self.entry.guards
        if not guards._options_hold(self.group):
            return False
        if any(evaluate(None) != expected for evaluate, expected, moving in guards.numbers if not moving):
            return False
        for source, array in self.entry.option_arrays:
            group, name, index = source.what
            array[...] = group[name] if index is None else group[name][index]
        known[0] = list(self.group.values())
        return True


def _inputs(w: Writer, entry: Entry, tensors: list[Tensor]) -> list[str]:
    """Names of the arrays of the graph's inputs; outside tensors must hold the arrays they held."""
    names = []
    state: list[tuple[Tensor, np.ndarray, bool]] = []
    entry.option_arrays = []
    for value in entry.graph.inputs:
        kind, what = value.source.kind, value.source.what
        if kind == "argument":
            names.append(f"x{what}")
        elif kind == "option":
            group, name, index = what
            array = np.array(group[name] if index is None else group[name][index], np.float64)
            entry.option_arrays.append((value.source, array))
            names.append(w.name(array))
        else:
            t = what._grad if kind == "grad" else what
            holder = f"{w.name(what)}._grad" if kind == "grad" else w.name(what)
            if kind == "grad":
                w.line(f"g{len(names)} = {holder}._array")
                names.append(f"g{len(names)}")
                array = t._array
                w.miss_if(
                    f"{names[-1]}.shape != {array.shape} or {names[-1]}.strides != {array.strides} or "
                    f"{names[-1]}.dtype is not {w.name(array.dtype)}"
                )
                continue
            state.append((t, t._array, t._requires_grad))
            names.append(w.name(t._array))
    if len(state) < MANY:
        for t, array, needed in state:
            w.miss_if(f"{w.name(t)}._array is not {w.name(array)} or {w.name(t)}._requires_grad is not {needed}")
    else:
        w.line(f"for t, array, needed in {w.name(state)}:")
        w.line("    if t._array is not array or t._requires_grad is not needed: return MISS")
        w.line("array = None")
    return names


def _run(w: Writer, entry: Entry, program: Any, inputs: list[str]) -> None:
    grads = {slot: leaf for leaf, slot in entry.grads if slot is not None}
    used = {ref.value for node in entry.graph.nodes for ref in node.refs}
    # Leaves whose gradient at entry the program reads: their new one cannot lie in the same memory.
    read = {id(v.source.what) for v in entry.graph.inputs if v in used and v.source.kind == "grad"}
    outputs = []
    for slot, ref in enumerate(entry.graph.outputs):
        value = ref.value
        name = f"y{slot}"
        if slot in grads and id(grads[slot]) not in read:
            _gradient_memory(w, grads[slot], name, value)
        elif value.strides == _contiguous(value.shape):
            w.line(f"{name} = {w.name(np.empty)}({value.shape}, {w.name(value.dtype)})")
        else:
            w.line(f"{name} = {w.name(_maker(value))}()")
        outputs.append(name)
    if [ref.value for ref in entry.graph.outputs] != program.outputs:
        outputs = [outputs[next(i for i, r in enumerate(entry.graph.outputs) if r.value is v)] for v in program.outputs]
    w.line(f"{w.name(program)}.run({', '.join([*inputs, *outputs])})")
    written = [value.source for value in entry.graph.writes]
    objects = [source.what for source in written if source.kind == "tensor"]
    if len(objects) >= MANY:
        written = [source for source in written if source.kind != "tensor"]
        w.line(f"for t in {w.name(objects)}:")
        w.line("    s = t._storage")
        w.line(f"    if s is None: s = {w.name(storage_of)}(t)")
        w.line("    s.version += 1")
    for source in written:
        t = (
            f"a{source.what}"
            if source.kind == "argument"
            else w.name(source.what) + ("._grad" if source.kind == "grad" else "")
        )
        w.line(f"s = {t}._storage")  # asking it for truth would count its bytes
        w.line(f"if s is None: s = {w.name(storage_of)}({t})")
        w.line("s.version += 1")
    for leaf, slot in entry.grads:
        if slot is None:
            w.line(f"{w.name(leaf)}._grad = None")
        elif id(leaf) in read:
            w.line(f"{w.name(leaf)}._grad = wrap(y{slot})")
    w.line(f"return {_result(w, entry, entry.template)}")


def _gradient_memory(w: Writer, leaf: Tensor, name: str, value: Any) -> None:
    """The gradient's array is used again if nobody but the leaf holds it, as after `zero_grad(set_to_none=True)`."""
    slot = w.name([None])  # the array that the last call made
    p = w.name(leaf)
    count = w.name(sys.getrefcount)
    # Who refers to the tensor: the leaf, g and getrefcount's argument; to the array: the tensor, the list, the local
    # name and the argument. A storage means that somebody may have a view.
    w.line(f"g = {p}._grad")
    w.line(f"{name} = {slot}[0]")
    w.line(
        f"if g is None or g._array is not {name} or g._storage is not None or {count}(g) > 3 or "
        f"{count}({name}) > 4 or g.__class__ is not {w.name(Tensor)}:"
    )
    w.line(f"    {name} = {slot}[0] = {w.name(_maker(value))}()")
    w.line(f"    {p}._grad = wrap({name})")
    w.line("g = None")


def _result(w: Writer, entry: Entry, template: Any) -> str:
    if type(template) in (tuple, list):
        inside = ", ".join(_result(w, entry, item) for item in template)
        return f"({inside},)" if type(template) is tuple else f"[{inside}]"
    if type(template) is Alias:
        return w.name(template.tensor) if template.argument is None else f"a{template.argument}"
    if not template.requires_grad:
        return f"wrap(y{template.slot})"
    value = entry.graph.outputs[template.slot].value
    shown = np.empty(value.shape, value.dtype) if value.size < 2 else _Shape(value)
    node = None if template.history is None else w.name(consumed(template.history, shown))
    return f"{w.name(with_node)}(y{template.slot}, {node})"


class _Shape:
    """Enough of an array for a node: shape and dtype."""

    def __init__(self, value: Any):
        self.shape, self.dtype = value.shape, value.dtype


def with_node(array: np.ndarray, node: Any) -> Tensor:
    """A result whose history was walked inside the program."""
    t = wrap(array)
    t._requires_grad = True
    t._node = node
    return t


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def _maker(value: Any) -> Callable[[], np.ndarray]:
    """Makes memory in a value's layout."""
    shape, dtype = value.shape, value.dtype
    if value.strides == _contiguous(shape):
        return lambda: np.empty(shape, dtype)
    order = sorted(range(len(shape)), key=lambda d: (-value.strides[d], d))
    inside = tuple(shape[d] for d in order)
    back = tuple(int(d) for d in np.argsort(order))
    return lambda: np.empty(inside, dtype).transpose(back)


__all__ = ["MISS", "quick"]
