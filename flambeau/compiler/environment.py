"""What a function reads besides its arguments: closure cells, globals, attributes of objects and modules.

A compiled program is right as long as these are what they were when it was captured. `watch` collects them before the
capture; `Environment.holds` compares. Plain values are compared by value, everything else by identity.
"""

from __future__ import annotations

import dis
import functools
import inspect
import itertools
import random
import sys
import sysconfig
import types
from pathlib import Path
from typing import Any

import numpy as np

from flambeau.core.tensor import Tensor

PACKAGE = str(Path(__file__).resolve().parent.parent)
_PLAIN = (int, float, complex, str, bytes, bool, type(None))
_MISSING = object()
_LIMIT = 4000  # watched places of one function; a function that reads more is watched as far as that
_LARGE = 1 << 20  # bytes; NumPy arrays up to this size are compared by content
_MANY = 256  # elements of a container that are watched; of more than these only the number is


def is_plain(value: Any) -> bool:
    return isinstance(value, _PLAIN) or (type(value) is tuple and all(isinstance(v, _PLAIN) for v in value))


def same(now: Any, then: Any) -> bool:
    """Whether a watched value is still what it was."""
    return now is then or (is_plain(then) and type(now) is type(then) and now == then)


class Place:
    """Somewhere a value was found: how to look again (`kind`, `holder`, `key`), what it was, and its name."""

    __slots__ = ("kind", "holder", "key", "value", "name")

    def __init__(self, kind: str, holder: Any, key: Any, name: str):
        self.kind = kind  # "cell", "item" of a dict, "element" of a sequence, "length", or "values": all plain ones
        self.holder = holder
        self.key = key
        self.name = name
        self.value = self.now()

    def now(self) -> Any:
        """What is there now."""
        if self.kind == "cell":
            return _contents(self.holder)
        if self.kind == "item":
            return self.holder.get(self.key, _MISSING)
        if self.kind == "element":
            return self.holder[self.key] if self.key < len(self.holder) else _MISSING
        if isinstance(self.holder, np.ndarray):
            return (self.holder.shape, self.holder.dtype.str, self.holder.tobytes())
        if self.kind == "values":
            values = self.holder.values() if isinstance(self.holder, dict) else self.holder
            return [list(self.holder), list(values), list(map(type, values))]
        return len(self.holder)

    def holds(self) -> bool:
        """Whether the value is still what it was."""
        now = self.now()
        return now == self.value if self.kind == "values" else same(now, self.value)


class Environment:
    """Watched places."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.ours: list[tuple[Any, str, Any]] = []  # schedulers and their like, with the numbers they held
        self.iterators: list[str] = []  # names of things that give something else each time
        self._seen: set[int] = set()
        self._kept: list[Any] = []

    def changed(self) -> str | None:
        """The name of a place whose value is no longer what it was."""
        for place in self.places:
            if not place.holds():
                return place.name
        return None

    def changed_inside(self) -> str | None:
        """The name of an object of this package (a scheduler) that the call has changed."""
        return next((name for thing, name, before in self.ours if _numbers_of(thing) != before), None)

    def modules(self) -> list[Any]:
        """Modules in sight, with those inside of them."""
        found = {id(part): part for thing in self._kept if _is_module(thing) for part in thing.modules()}
        return list(found.values())

    def add(self, kind: str, holder: Any, key: Any, name: str, depth: int) -> None:
        if len(self.places) < _LIMIT:
            place = Place(kind, holder, key, name)
            self.places.append(place)
            self.look_into(place.value, name, depth)

    def look_into(self, value: Any, name: str, depth: int) -> None:
        """Watch what `value` itself reads or holds."""
        if is_plain(value) or isinstance(value, Tensor) or id(value) in self._seen or depth < 0:
            return
        self._seen.add(id(value))
        self._kept.append(value)
        if hasattr(type(value), "__next__"):
            self.iterators.append(name)
        elif isinstance(value, np.ndarray) and value.nbytes <= _LARGE and value.dtype.kind != "O":
            self.places.append(Place("values", value, None, name))
        if isinstance(value, types.MethodType):
            self.look_into(value.__func__, name, depth)
            self.look_into(value.__self__, name, depth - 1)
        elif isinstance(value, types.FunctionType):
            self._function(value, name, depth)
        elif isinstance(value, functools.partial):
            for part in (value.func, value.args, value.keywords):
                self.look_into(part, name, depth)
        elif isinstance(value, (list, tuple, dict)):
            self._container(value, name, depth)
        elif isinstance(value, type):
            if _is_users(value):
                self._class(value, name, depth)
        elif _is_module(value):
            self._module(value, name, depth)
        elif _is_users_object(value):
            for key in list(value.__dict__)[:_MANY]:
                self.add("item", value.__dict__, key, f"{name}.{key}", depth - 1)
            self.look_into(type(value), name, depth - 1)
        elif _has_state_of_ours(value):
            self.ours.append((value, name, _numbers_of(value)))

    def _container(self, value: Any, name: str, depth: int) -> None:
        items = value.values() if isinstance(value, dict) else value
        if all(map(is_plain, items)):
            if not isinstance(value, tuple):
                self.places.append(Place("values", value, None, name))
            return
        if not isinstance(value, tuple):
            self.places.append(Place("length", value, None, f"len({name})"))
        kind = "item" if isinstance(value, dict) else "element"
        for key in itertools.islice(value if isinstance(value, dict) else range(len(value)), _MANY):
            self.add(kind, value, key, f"{name}[{key!r}]", depth - 1)

    def _class(self, kind: type, name: str, depth: int) -> None:
        """Attributes of a class that are plain, and what its methods read."""
        for base in kind.__mro__:
            for key, value in list(vars(base).items()) if _is_users(base) else ():
                if key.startswith("__") and not callable(value):
                    continue
                if is_plain(value) or isinstance(value, (list, dict, Tensor)):
                    self.add("item", base.__dict__, key, f"{name}.{key}", depth - 1)
                else:
                    value = getattr(value, "fget", None) or getattr(value, "__func__", value)
                    if isinstance(value, types.FunctionType):
                        self.look_into(value, f"{name}.{key}", depth - 1)

    def _module(self, module: Any, name: str, depth: int) -> None:
        """What forwards and hooks read, and attributes that change without a word to the module."""
        for part in module.modules():
            self.look_into(type(part), type(part).__name__, depth - 1)
            for key, value in part.__dict__.items():
                if key in ("_forward_hooks", "_forward_pre_hooks"):
                    for hook in value.values():
                        self.look_into(hook, f"a hook of {name}", depth - 1)
                elif not key.startswith("_") and not is_plain(value) and not isinstance(value, Tensor):
                    self.look_into(value, f"{name}.{key}", depth - 1)

    def _function(self, function: types.FunctionType, name: str, depth: int) -> None:
        code = function.__code__
        if code.co_filename.startswith(PACKAGE):
            return
        for cell, label in zip(function.__closure__ or (), code.co_freevars):
            self.add("cell", cell, None, label, depth - 1)
            self._used(_contents(cell), label, depth)
        for defaults in (function.__defaults__, function.__kwdefaults__):
            if defaults:
                self.look_into(defaults, f"defaults of {name}", depth - 1)
        space, (labels, names) = function.__globals__, _names(code)
        for label in labels:
            found = space.get(label, _MISSING)
            if inspect.ismodule(found):
                if _is_users(found):
                    for attribute in names & vars(found).keys():
                        if not inspect.ismodule(vars(found)[attribute]):
                            self.add("item", vars(found), attribute, f"{label}.{attribute}", depth - 1)
            elif found is not _MISSING and not _is_ours(found):
                self.add("item", space, label, label, depth - 1)
            elif _has_state_of_ours(found):
                self.add("item", space, label, label, depth - 1)
                self._used(found, label, depth)

    def _used(self, thing: Any, name: str, depth: int) -> None:
        """An object of ours that the function names itself: what it reads of it may be anything."""
        if _has_state_of_ours(thing):
            for key in list(thing.__dict__):
                self.add("item", thing.__dict__, key, f"{name}.{key}", depth - 1)


@functools.lru_cache(1024)
def _names(code: types.CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Names of globals, and of globals and attributes, in a function and in those defined inside of it."""
    labels = {str(i.argval) for i in dis.get_instructions(code) if i.opname.endswith(("_GLOBAL", "_NAME"))}
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            more_labels, more_names = _names(constant)
            labels |= more_labels
            names |= more_names
    return frozenset(labels), frozenset(names)


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _MISSING


def _is_module(value: Any) -> bool:
    return hasattr(value, "_parameters") and hasattr(value, "modules") and not isinstance(value, type)


def _is_ours(value: Any) -> bool:
    return (getattr(value, "__module__", None) or "").startswith("flambeau")


@functools.cache
def _library_folders() -> tuple[str, ...]:
    return tuple({sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")})


def _is_users(thing: Any) -> bool:
    """Whether a module or class belongs to the user's program: not to Python, this package or an installed one."""
    module = thing if inspect.ismodule(thing) else sys.modules.get(getattr(thing, "__module__", ""))
    if module is None:
        return False
    file = getattr(module, "__file__", None)
    if file is None:
        return module.__name__ == "__main__"
    return not file.startswith((PACKAGE, *_library_folders()))


def _has_state_of_ours(value: Any) -> bool:
    """Whether it is an object of this package with attributes that its methods change: a scheduler, a scaler."""
    return (
        _is_ours(type(value))
        and hasattr(value, "__dict__")
        and not isinstance(value, (type, Tensor, types.FunctionType))
        and not _is_module(value)
        and not hasattr(value, "param_groups")
        and not hasattr(value, "entries")
    )


def _numbers_of(thing: Any) -> dict[str, Any]:
    """The plain attributes, and lists of plain ones."""
    return {
        key: list(value) if isinstance(value, list) else value
        for key, value in thing.__dict__.items()
        if is_plain(value) or (isinstance(value, list) and all(map(is_plain, value)))
    }


def _is_users_object(value: Any) -> bool:
    """An object whose attributes its methods may read: not a module (watched by its own counter), not a class."""
    return (
        hasattr(value, "__dict__")
        and not isinstance(value, (type, types.ModuleType))
        and not hasattr(value, "_parameters")
        and not _is_ours(type(value))
    )


def watch(function: Any, arguments: Any = ()) -> Environment:
    """The environment of a function, method or callable object, as it is now, and the objects among its arguments."""
    made = Environment()
    made.look_into(function, getattr(function, "__name__", type(function).__name__), 5)
    for argument in arguments:
        if _is_users_object(argument) or isinstance(argument, np.ndarray):
            made.look_into(argument, "an argument", 3)
    return made


def random_states(watched: Environment) -> list[Any]:
    """Python's and NumPy's random streams, as far as they are in sight: a program would not repeat their draws."""
    numpy_random = sys.modules.get("numpy.random")  # 50 ms to import: who draws from it has it already
    found: list[Any] = [random.getstate()]
    if numpy_random is not None:
        found.append(_text_of(np.random.get_state(legacy=False)))
    for place in watched.places:
        stream = getattr(place.value, "__self__", place.value)
        if isinstance(stream, random.Random):
            found.append(stream.getstate())
        elif numpy_random is None:
            continue
        elif isinstance(stream, np.random.Generator):
            found.append(_text_of(stream.bit_generator.state))
        elif isinstance(stream, np.random.RandomState):
            found.append(_text_of(stream.get_state(legacy=False)))
    return found


def _text_of(state: Any) -> Any:
    """The state of a stream of NumPy as something that can be compared."""
    if isinstance(state, dict):
        return {key: _text_of(value) for key, value in state.items()}
    return state.tobytes() if isinstance(state, np.ndarray) else state


# ---- modules -------------------------------------------------------------------------------------


def snapshot(module: Any) -> dict[str, Any]:
    """The attributes of a module that its forward may read; registries as tuples."""
    found: dict[str, Any] = {}
    for key, value in module.__dict__.items():
        if isinstance(value, dict):
            found[key] = tuple(value.items())
        elif isinstance(value, (list, set)):
            found[key] = (type(value), tuple(value))
        else:
            found[key] = value
    return found


def module_changed(module: Any, then: dict[str, Any]) -> str | None:
    """The name of an attribute that is no longer what it was."""
    now = snapshot(module)
    if now.keys() != then.keys():
        return next(iter(now.keys() ^ then.keys()))
    for key, value in now.items():
        old = then[key]
        if value is old:
            continue
        if isinstance(value, tuple) and isinstance(old, tuple) and len(value) == len(old):
            if all(_alike(a, b) for a, b in zip(value, old)):
                continue
        elif same(value, old):
            continue
        return key
    return None


def _alike(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if type(a) is tuple and type(b) is tuple and len(a) == len(b):
        return all(_alike(x, y) for x, y in zip(a, b))
    return is_plain(a) and same(a, b)
