"""What a function reads besides its arguments: closure cells, globals, attributes of objects and modules.

A compiled program is right as long as these are what they were when it was captured. `watch` collects them before the
capture; `Environment.holds` compares. Plain values are compared by value, everything else by identity.
"""

from __future__ import annotations

import inspect
import types
from pathlib import Path
from typing import Any

from flambeau.core.tensor import Tensor

PACKAGE = str(Path(__file__).resolve().parent.parent)
_PLAIN = (int, float, complex, str, bytes, bool, type(None))
_MISSING = object()
_LIMIT = 400  # watched places of one function; a function that reads more is watched as far as that


def is_plain(value: Any) -> bool:
    return isinstance(value, _PLAIN) or (type(value) is tuple and all(isinstance(v, _PLAIN) for v in value))


def same(now: Any, then: Any) -> bool:
    """Whether a watched value is still what it was."""
    return now is then or (is_plain(then) and type(now) is type(then) and now == then)


class Place:
    """Somewhere a value was found: how to look again (`kind`, `holder`, `key`), what it was, and its name."""

    __slots__ = ("kind", "holder", "key", "value", "name")

    def __init__(self, kind: str, holder: Any, key: Any, name: str):
        self.kind = kind  # "cell", "item" of a dict, "element" of a sequence, or "length"
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
        return len(self.holder)


class Environment:
    """Watched places."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        self._seen: set[int] = set()
        self._kept: list[Any] = []

    def changed(self) -> str | None:
        """The name of a place whose value is no longer what it was."""
        for place in self.places:
            if not same(place.now(), place.value):
                return place.name
        return None

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
        if isinstance(value, types.MethodType):
            self.look_into(value.__func__, name, depth)
            self.look_into(value.__self__, name, depth - 1)
        elif isinstance(value, types.FunctionType):
            self._function(value, name, depth)
        elif isinstance(value, (list, tuple)):
            if isinstance(value, list):
                self.places.append(Place("length", value, None, f"len({name})"))
            for index in range(min(len(value), 64)):
                self.add("element", value, index, f"{name}[{index}]", depth - 1)
        elif type(value) is dict:
            self.places.append(Place("length", value, None, f"len({name})"))
            for key in list(value)[:64]:
                self.add("item", value, key, f"{name}[{key!r}]", depth - 1)
        elif _is_users_object(value):
            for key in list(value.__dict__)[:64]:
                self.add("item", value.__dict__, key, f"{name}.{key}", depth - 1)

    def _function(self, function: types.FunctionType, name: str, depth: int) -> None:
        code = function.__code__
        if code.co_filename.startswith(PACKAGE):
            return
        for cell, label in zip(function.__closure__ or (), code.co_freevars):
            self.add("cell", cell, None, label, depth - 1)
        if function.__defaults__:
            self.look_into(function.__defaults__, f"defaults of {name}", depth - 1)
        space = function.__globals__
        for label in code.co_names:
            if label in space and not inspect.ismodule(space[label]) and not _is_ours(space[label]):
                self.add("item", space, label, label, depth - 1)


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _MISSING


def _is_ours(value: Any) -> bool:
    return (getattr(value, "__module__", None) or "").startswith("flambeau")


def _is_users_object(value: Any) -> bool:
    """An object whose attributes its methods may read: not a module (watched by its own counter), not a class."""
    return (
        hasattr(value, "__dict__")
        and not isinstance(value, (type, types.ModuleType))
        and not hasattr(value, "_parameters")
        and not _is_ours(type(value))
    )


def watch(function: Any) -> Environment:
    """The environment of a function, method or callable object, as it is now."""
    made = Environment()
    if not isinstance(function, (types.FunctionType, types.MethodType)) and _is_users_object(function):
        made.look_into(type(function).__call__, "__call__", 4)
    made.look_into(function, getattr(function, "__name__", type(function).__name__), 4)
    return made


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
