"""`flambeau.compile`: the public face of the compiler."""

from __future__ import annotations

import copy
import functools
import os
import threading
import warnings
from collections.abc import Callable
from typing import Any

from flambeau.backends import threads
from flambeau.compiler import environment
from flambeau.compiler.capture import Recorder
from flambeau.compiler.entry import OUT_OF_BOUNDS, Entry
from flambeau.compiler.garbage import Pause
from flambeau.compiler.guards import Guards
from flambeau.compiler.quick import MISS, quick
from flambeau.compiler.sources import Unrecordable
from flambeau.compiler.structure import split
from flambeau.core import dtype as dtypes
from flambeau.core import recording
from flambeau.core.modes import modes
from flambeau.core.tensor import Tensor

RECAPTURES = 8  # records of one function for one signature, before it stays eager (torch: cache_size_limit)
SIGNATURES = 32  # kinds of arguments (shapes, values) that get programs; further ones run eagerly
SHORT = 4  # short ways that are tried one after the other
ATTEMPTS = 3  # calls that may fail to be captured because they make state (an optimizer's first step)


def build(entry: Entry) -> None:
    """Make the programs of a record."""
    from flambeau.compiler.program import program

    with Pause():
        entry.execute = program(entry.graph)
        if entry.backward is not None:
            entry.backward.execute = program(entry.backward.graph)


class Compiled:
    """A compiled function: captures at its first call, runs the program from then on."""

    def __init__(self, function: Callable[..., Any], fullgraph: bool = False, name: str | None = None):
        self.function = function
        self.fullgraph = fullgraph
        self.entries: dict[Any, list[Entry]] = {}
        self.failures: dict[Any, int] = {}
        self.eager: dict[Any, str] = {}  # signatures that stay eager, and why
        self.captures = 0
        self.keep_text = False  # whether entries keep the text of the graph as it was captured (explain.py)
        self.crowded = False  # no further signatures
        self.told: set[str] = set()  # reasons that a warning gave
        self.short: list[tuple[int, Callable[..., Any]]] = []  # number of arguments, and the short way (quick.py)
        if not hasattr(function, "_parameters"):
            functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not kwargs:
            count = len(args)
            for wanted, short in self.short:
                if wanted == count and (found := short(*args)) is not MISS:
                    return found
        # Inside another capture: part of it. What is to be differentiated more than once needs its whole history.
        if recording.recorder is not None or DISABLED or modes.transforming:
            return self.function(*args, **kwargs)
        tensors: list[Tensor] = []
        shape = split((args, kwargs), tensors) if kwargs else split(args, tensors)
        key = (
            shape,
            tuple((t._array.shape, t._array.strides, t._array.dtype, t._requires_grad, t._hidden) for t in tensors),
            modes.grad,
            modes.inference,
            modes.autocast,
            dtypes.default_dtype(),
            threads.get_num_threads(),
        )
        found = self.entries.get(key)
        if found is not None:
            for entry in found:
                if entry.guards.hold(tensors):
                    if not kwargs and not entry.shortened and all(type(a) in _TENSORS for a in args):
                        self._shorten(entry, tensors, args, key)
                    found = entry.call(tensors)
                    return self.function(*args, **kwargs) if found is OUT_OF_BOUNDS else found
        elif key in self.eager:
            return self.function(*args, **kwargs)
        return self._capture(key, tensors, args, kwargs)

    def _shorten(self, entry: Entry, tensors: list[Tensor], args: Any, key: Any) -> None:
        """Write the short way into an entry."""
        entry.shortened = True
        if len(args) == len(tensors):
            short = quick(entry, tensors, key[2:])
            if short is not None:
                self.short.insert(0, (len(args), short))
                del self.short[SHORT:]

    def __reduce__(self) -> Any:
        """A copy, or one read from a file, captures anew."""
        return Compiled, (self.function, self.fullgraph)

    def __deepcopy__(self, memo: dict[int, Any]) -> Compiled:
        return Compiled(copy.deepcopy(self.function, memo), self.fullgraph)

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        return self if owner is None else functools.partial(self, owner)

    def _capture(self, key: Any, tensors: list[Tensor], args: Any, kwargs: Any) -> Any:
        entries = self.entries.get(key, ())
        if not entries and self.crowded:
            return self.function(*args, **kwargs)
        if not entries and len(self.entries) >= SIGNATURES:
            self.crowded = True
            self._stay_eager(key, Unrecordable(f"it was called with {SIGNATURES} kinds of arguments, this is another"))
            return self.function(*args, **kwargs)
        if len(entries) >= RECAPTURES:
            self.entries.pop(key)
            self._stay_eager(key, Unrecordable(f"it was captured {RECAPTURES} times and still changes"))
            return self.function(*args, **kwargs)
        watched = environment.watch(self.function, (*args, *kwargs.values()))
        draws = environment.random_states(watched)
        with Pause() as pause:
            recorder = Recorder(tensors, strict=self.fullgraph, pause=pause)
            made: Entry | None = None
            with recorder:
                result = self.function(*args, **kwargs)
                if recorder.failed is None:
                    try:
                        if environment.random_states(watched) != draws:
                            raise Unrecordable("it draws random numbers with Python or NumPy")
                        made = self._entry(recorder, watched, result)
                    except Unrecordable as error:
                        recorder.fail(error)
            self.captures += 1
            if made is not None:
                try:
                    if self.keep_text:
                        made.text = str(made.graph)
                    with _BUILDING:
                        build(made)
                except Exception as error:  # whatever the compiler cannot do yet, the call has been answered
                    recorder.failed = Unrecordable(f"the compiler cannot take it ({type(error).__name__}: {error})")
        if recorder.failed is not None or made is None:
            assert recorder.failed is not None
            self._failed(key, recorder.failed)
            return result
        made.recorder = None  # and with it the arguments of this call
        self.entries.setdefault(key, []).insert(0, made)
        return result

    def _entry(self, recorder: Recorder, watched: environment.Environment, result: Any) -> Entry:
        if recorder.state_changed is not None:
            kind, line = recorder.state_changed
            raise Unrecordable(f"it sets an attribute of a {kind}", line, later=True)
        if watched.iterators:
            raise Unrecordable(f"it takes from '{watched.iterators[0]}', which is an iterator")
        for group, items in recorder.options_read:
            if tuple(group.items()) != items:
                raise Unrecordable("it changes options of an optimizer")
        place = watched.changed_inside() or watched.changed()
        if place is not None:
            raise Unrecordable(f"it changes '{place}', which is outside of it", None, later=True)
        return Entry(recorder, Guards(recorder, watched), result)

    def _failed(self, key: Any, error: Unrecordable) -> None:
        self.failures[key] = self.failures.get(key, 0) + error.counted
        self.crowded = self.crowded or len(self.failures) >= SIGNATURES
        if not error.later or self.failures[key] >= ATTEMPTS:
            self._stay_eager(key, error)

    def _stay_eager(self, key: Any, error: Unrecordable) -> None:
        if self.fullgraph:
            raise error
        self.eager[key] = error.reason
        if error.reason in self.told:
            return
        self.told.add(error.reason)
        where = f" ({error.line[0]}:{error.line[1]})" if error.line else ""
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        warnings.warn(
            f"flambeau.compile: {name} runs eagerly from now on: {error.reason}{where}", UserWarning, stacklevel=4
        )


_BUILDING = threading.Lock()  # LLVM makes one module at a time
_TENSORS = (Tensor,)
DISABLED = os.environ.get("FLAMBEAU_COMPILE", "1") == "0"
