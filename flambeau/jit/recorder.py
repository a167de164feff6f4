"""Recording a tape: listening to one run of a function."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.compiler.memory import address, root_of
from flambeau.compiler.sources import user_line
from flambeau.core import dispatch, recording
from flambeau.core.device import MetaArray
from flambeau.core.modes import modes
from flambeau.core.random import default_generator
from flambeau.core.tensor import Tensor, wrap
from flambeau.jit.tape import DRAWS, Call, Tape, Var, mapped, nest, vars_in

_HISTORY = frozenset({"copy_slices", "clear_region", "read_region", "write_region"})  # of writes through views


class TracerWarning(Warning):
    """Python looked at a value while a trace was made: the trace keeps what it did with this value."""


class Recorder:
    """`with Recorder(names) as r: result = fn(...)`, then `r.finish(result)` is the tape.

    `names` maps the ids of parameters and buffers to their names and themselves; other tensors from outside become
    constants.
    """

    def __init__(self, tensors: list[Tensor], names: dict[int, tuple[str, Tensor]],
                 modules: dict[str, Any] | None = None):
        self.tape = Tape()
        self.modules = modules or {}  # submodules that are scripts, by path
        self.scripts = 0  # how many scripts within each other run now
        self.script_reads = 0  # of values, by them
        self.names = names
        self.outside: dict[int, list[tuple[str, Tensor]]] = {}  # by the owner of their memory
        for name, t in names.values():
            if type(t._array) is not MetaArray:
                self.outside.setdefault(id(root_of(t._array)), []).append((name, t))
        self.thread = threading.get_ident()
        self.numbers: dict[int, int] = {}  # id of a tensor -> value
        self.tensors: dict[int, Tensor] = {}
        self.memory: dict[int, list[tuple[np.ndarray, int]]] = {}  # id of the owner of memory -> what shows it
        self.kept: list[Any] = []  # whose ids must stay theirs
        self.base: dict[int, int] = {}  # value -> the constant that it is a view of
        self._busy = False
        self._announced: Any = None
        self._listener: Any = None
        for t in tensors:
            self.note(t)
            self.tape.shapes.append(tuple(t.shape))
            self.tape.dtypes.append(t._array.dtype.name)

    def __enter__(self) -> Recorder:
        if recording.recorder is not None:
            raise RuntimeError("torch.jit.trace inside another trace or a compiled function")
        self._listener = dispatch.intercept(self._handle)
        self._listener.__enter__()
        recording.recorder = self
        return self

    def __exit__(self, *error: Any) -> None:
        recording.recorder = None
        self._listener.__exit__(*error)

    def finish(self, result: Any) -> Tape:
        """The tape of a call that returned `result`; only what the result or a write needs."""
        tape = self.tape
        tape.result = nest(result, self.number)
        wanted = {x.number for x in vars_in(tape.result)}
        tape.fresh |= {self.base[number] for number in wanted if number in self.base}  # nobody else shall hold it
        kept: list[Call] = []
        for call in reversed(tape.calls):
            if call.kind not in ("op", "detach") or any(number in wanted for number in call.outputs):
                wanted.update(x.number for x in vars_in(call.inputs))
                shown = [None if n is None else self.tensors.get(n) for n in call.outputs]
                call.plain = [t is not None and (t._hidden or t._array.flags.c_contiguous) for t in shown]
                kept.append(call)
        tape.calls = kept[::-1]
        tape.attributes = {n: name for n, name in tape.attributes.items() if n in wanted}
        tape.constants = {n: t for n, t in tape.constants.items() if n in wanted}
        return tape

    # ---- values --------------------------------------------------------------------------------------

    def note(self, t: Tensor, number: int | None = None) -> int:
        """Give a tensor a number."""
        if number is None:
            number = self.tape.count
            self.tape.count += 1
        self.numbers[id(t)] = number
        self.tensors.setdefault(number, t)
        self.kept.append(t)
        self.remember(t._array, number)
        return number

    def remember(self, array: np.ndarray, number: int) -> None:
        if type(array) is not MetaArray and array.size:
            root = root_of(array)
            self.kept.append(root)
            self.memory.setdefault(id(root), []).append((array, number))

    def number(self, t: Tensor) -> int:
        """The number of a tensor; one from outside gets a name or becomes a constant."""
        found = self.numbers.get(id(t))
        if found is not None:
            return found
        found = self.at(t._array)
        if found is not None:
            return self.again(t, found)
        name = self.name_of(t)
        if name is not None and id(t) not in self.names and t._array.size:  # another view of a parameter or buffer
            owner = self.outside[id(root_of(t._array))][0][1]
            self.number(owner)
            known = self.at(t._array)
            assert known is not None
            return self.again(t, known)
        if name is None and t._requires_grad:
            raise RuntimeError(
                f"the function uses a tensor that requires grad, of shape {list(t.shape)}, that is neither an argument "
                "nor a parameter of the traced module: make it one of the two, or detach it"
            )
        number = self.note(t)
        if name is not None:
            self.tape.attributes[number] = name
        else:
            self.tape.constants[number] = wrap(np.array(t._array, order="K"))
            self.base[number] = number
        return number

    def again(self, t: Tensor, number: int) -> int:
        """The number of another tensor object on the memory of a known value: without history unless it has its own."""
        if t._requires_grad:
            return self.note(t, number)
        made = self.note(t)
        if number in self.base:
            self.base[made] = self.base[number]
        self.write("detach", "detach", [Var(number)], {}, [made])
        return made

    def name_of(self, t: Tensor) -> str | None:
        """The name of the parameter or buffer that a tensor is, or whose memory it shows."""
        if id(t) in self.names:
            return self.names[id(t)][0]
        if t._array.size and type(t._array) is not MetaArray:
            for name, _ in self.outside.get(id(root_of(t._array)), ()):
                return name
        return None

    def at(self, array: np.ndarray) -> int | None:
        """The value that shows exactly this memory. RuntimeError if it is another view of known memory."""
        if type(array) is MetaArray or not array.size:
            return None
        shown = self.memory.get(id(root_of(array)), ())
        for known, number in reversed(shown):
            if (address(known) == address(array) and known.shape == array.shape and known.strides == array.strides
                    and known.dtype == array.dtype):
                return number
        if shown:
            raise RuntimeError(f"the function uses a view of shape {list(array.shape)} that no operation made")
        return None

    def write(self, kind: str, name: str, inputs: list[Any], attrs: dict[str, Any], outputs: list[int | None],
              shapes: Any = ()) -> None:
        line = user_line()
        self.tape.calls.append(Call(kind, name, inputs, attrs, outputs, not modes.grad, list(shapes), [],
                                    f"{line[0]}:{line[1]}" if line else ""))

    # ---- ops -----------------------------------------------------------------------------------------

    def _handle(self, op: Any, inputs: Any, attrs: Any) -> Any:
        if self._busy or threading.get_ident() != self.thread or op.name in _HISTORY:
            return op.function(*inputs, **attrs)
        for value in attrs.values():
            if callable(value) and not isinstance(value, (np.dtype, type(default_generator))):
                raise RuntimeError(f"{op.name} with a function as attribute cannot be traced")
        given = [Var(self.number(x)) if isinstance(x, Tensor) else x for x in inputs]
        shapes = [tuple(x.shape) if isinstance(x, Tensor) else None for x in inputs]
        attrs = {name: self._constant(value) for name, value in attrs.items()}
        self._busy = True
        try:
            result = op.function(*inputs, **attrs)
        finally:
            self._busy = False
        made = (result,) if isinstance(result, Tensor) else result
        outputs = [self.note(t) if isinstance(t, Tensor) else None for t in made]
        if op.view:
            for number in outputs:
                if number is not None and given[0].number in self.base:
                    self.base[number] = self.base[given[0].number]
        self.write("op", op.name, given, attrs, outputs, shapes)
        return result

    def _constant(self, value: Any) -> Any:
        if isinstance(value, (Tensor, np.ndarray)):
            raise RuntimeError("values of a tensor became an attribute of an operation, which a trace cannot keep")
        return value

    # ---- scripts ---------------------------------------------------------------------------------------

    def script(self, program: Any, owner: Any, args: tuple, kwargs: dict[str, Any], run: Callable[[], Any]) -> Any:
        """Run a script: one that reads values is kept as a call with branches, of others the operations are."""
        name, path = "", ""
        if owner is not None:
            found = next(((n, m) for n, m in self.modules.items() if m is owner), None)
            method = next((n for n, p in owner.__dict__["_programs"].items() if p is program), None)
            if found is None or method is None:
                return run()
            name, path = method, found[0]
        given = nest((args, kwargs), self.number)
        start, count, outer, self.script_reads = len(self.tape.calls), self.tape.count, self.script_reads, 0
        self.scripts += 1
        try:
            result = run()
        finally:
            self.scripts -= 1
            reads, self.script_reads = self.script_reads, outer + self.script_reads
        if not reads or self.scripts:
            return result
        self.script_reads = 0
        del self.tape.calls[start:]
        seen: set[int] = set()

        def fresh(t: Tensor) -> Tensor:
            """The tensor, or the same as another object: in another branch it would not be the argument."""
            number = self.numbers.get(id(t))
            if number is not None and number >= count and number not in seen:
                seen.add(number)
                return t
            self._busy = True
            try:
                made = t[...]
            finally:
                self._busy = False
            seen.add(self.note(made))
            return made

        result = mapped(result, fresh)
        tree = nest(result, lambda t: self.numbers[id(t)])
        line = user_line()
        self.tape.calls.append(Call("script", name or program.name, [given], {}, [v.number for v in vars_in(tree)],
                                    not modes.grad, line=f"{line[0]}:{line[1]}" if line else "",
                                    program=None if owner is not None else program, owner=path, result=tree))
        return result

    # ---- what happens beside the ops (core/recording.py) -----------------------------------------------

    def mine(self) -> bool:
        return not self._busy and threading.get_ident() == self.thread

    def constant(self, array: np.ndarray) -> None:
        """Constants are kept when an operation meets them."""

    def copied(self, made: np.ndarray, source: np.ndarray) -> None:
        if self.mine() and source.size:
            number = self.at(source)
            if number is not None:
                copy = self.tape.count
                self.tape.count += 1
                self.remember(made, copy)
                self.write("op", "to_copy", [Var(number)], {"dtype": made.dtype}, [copy], [source.shape])

    def assigned(self, x: Tensor, result: Tensor) -> None:
        if not self.mine():
            return
        self._announced = x
        target, values = self.number(x), self.number(result)
        self._written(target)
        self.write("assign", "assign", [Var(target), Var(values)], {}, [])

    def _written(self, number: int) -> None:
        if number in self.base:
            self.tape.fresh.add(self.base[number])

    def wrote(self, t: Tensor) -> None:
        if self._announced is t:
            self._announced = None
        elif self.mine() and (id(t) in self.numbers or self.at(t._array) is not None):
            raise RuntimeError("a tensor was written to by something that is no operation: a trace cannot keep it")

    def computed(self, results: Any, function: Any, tensors: tuple[Tensor, ...]) -> None:
        """Arithmetic that a file cannot hold: what uses its results says so."""

    def drawn(self, array: np.ndarray, draw: Any) -> None:
        if not self.mine() or not array.size:
            return
        kind = getattr(draw, "kind", None)
        if kind not in DRAWS:
            raise RuntimeError("random numbers of this distribution cannot be traced")
        if draw.generator is not default_generator:
            raise RuntimeError("random numbers of a generator of its own cannot be traced: draw from the default one")
        number = self.at(array)
        if number is None:
            number = self.tape.count
            self.tape.count += 1
            self.tape.constants[number] = wrap(np.zeros_like(array))
            self.tape.fresh.add(number)
            self.remember(array, number)
        self._written(number)
        self.write("draw", kind, [Var(number)], dict(draw.parameters), [])

    def read(self, t: Tensor) -> None:
        if self.mine() and (id(t) in self.numbers or self.at(t._array) is not None):
            number = self.number(t)
            if self.scripts:
                self.script_reads += 1
            elif number not in self.base:
                warnings.warn(
                    "Python reads the values of a tensor here: the trace keeps what it does with them as it is, and "
                    "may be wrong for other inputs (use torch.jit.script for code that depends on values)",
                    TracerWarning, stacklevel=4)

    def bounded(self, t: Tensor, low: Any, high: Any, but: Any, error: Exception) -> None:
        if self.mine():
            attrs = {"low": low, "high": high, "but": but, "error": type(error).__name__, "message": str(error)}
            self.write("check", "check", [Var(self.number(t))], attrs, [])

    def _ignored(self, *arguments: Any) -> None:
        """Events that a trace has no use for."""

    changed = grad_read = accumulating = called = grad_set = released = _ignored

    def options(self, optimizer: Any, group: dict) -> dict:
        """Optimizers are not traced."""
        raise RuntimeError("an optimizer's step cannot be traced; torch.compile can run whole training steps")


def record(function: Callable[..., Any], args: tuple, kwargs: dict[str, Any],
           names: dict[int, tuple[str, Tensor]], modules: dict[str, Any] | None = None) -> Tape:
    """The tape of `function(*args, **kwargs)`."""
    tensors: list[Tensor] = []

    def place(t: Tensor) -> int:
        tensors.append(t)
        return len(tensors) - 1

    arguments = nest((args, kwargs), place)
    recorder = Recorder(tensors, names, modules)
    before, modes.grad = modes.grad, True
    try:
        with recorder:
            result = function(*args, **kwargs)
        tape = recorder.finish(result)
    finally:
        modes.grad = before
    tape.arguments = arguments
    return tape
