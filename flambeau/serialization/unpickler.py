"""Reading pickles: a machine that runs only harmless instructions (`weights_only=True`), and Python's own.

A pickle is a program. The restricted one may build containers, numbers, text and tensors; it may call only what is on
the list, so a hostile file cannot run code.
"""

from __future__ import annotations

import pickle
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

from flambeau.core.tensor import Tensor
from flambeau.serialization import names

__all__ = ["add_safe_globals", "clear_safe_globals", "get_safe_globals", "safe_globals"]


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """`_codecs.encode`, as far as pickles of bytes need it."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "iso-8859-1"):
        raise pickle.UnpicklingError(f"_codecs.encode is only allowed for text in latin1, got {encoding!r}")
    return text.encode("latin1")


def _bytes(*nothing: Any) -> bytes:
    if nothing:
        raise pickle.UnpicklingError("bytes(…) is only allowed without arguments")
    return b""


def _bytearray(*content: Any) -> bytearray:
    if content and not isinstance(content[0], (bytes, str)):
        raise pickle.UnpicklingError("bytearray(…) is only allowed of bytes or text")
    return bytearray(*content)


_PLAIN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "Counter"): Counter,
    ("builtins", "set"): set,
    ("builtins", "complex"): complex,
    ("builtins", "bytearray"): _bytearray,
    ("builtins", "bytes"): _bytes,
    ("_codecs", "encode"): _latin1,
}
_OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}

# ---- what users allow ----------------------------------------------------------------------

_allowed: dict[tuple[str, str], Any] = {}


def _entry(item: Any) -> tuple[tuple[str, str], Any]:
    if isinstance(item, tuple):
        obj, name = item
        if not isinstance(name, str):
            raise TypeError(f"expected (object, 'module.name'), got {item!r}")
        module, _, name = name.rpartition(".")
        return (module, name), obj
    return names.written_name(item, item.__module__, item.__qualname__), item


def add_safe_globals(safe_globals: Iterable[Any]) -> None:
    """Allow these classes and functions (or pairs of one and its name in the file) in `load(weights_only=True)`."""
    _allowed.update(_entry(item) for item in safe_globals)


def get_safe_globals() -> list[Any]:
    """What `add_safe_globals` has allowed."""
    return list(_allowed.values())


def clear_safe_globals() -> None:
    """Forget everything `add_safe_globals` has allowed."""
    _allowed.clear()


class safe_globals:
    """Context manager: allow these classes and functions for a while."""

    def __init__(self, safe_globals: list[Any]):
        self.items = safe_globals

    def __enter__(self) -> None:
        self.before = dict(_allowed)
        add_safe_globals(self.items)

    def __exit__(self, *error: Any) -> None:
        _allowed.clear()
        _allowed.update(self.before)


# ---- the restricted machine ----------------------------------------------------------------

_INSTRUCTIONS = """
    PROTO STOP FRAME MARK POP POP_MARK EMPTY_DICT EMPTY_LIST EMPTY_TUPLE EMPTY_SET TUPLE TUPLE1 TUPLE2 TUPLE3 DICT LIST
    NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8
    BINBYTES SHORT_BINBYTES BINBYTES8 BINSTRING SHORT_BINSTRING BINPUT LONG_BINPUT BINGET LONG_BINGET MEMOIZE
    APPEND APPENDS SETITEM SETITEMS ADDITEMS GLOBAL STACK_GLOBAL REDUCE NEWOBJ BUILD BINPERSID
""".split()
_CONTAINERS = {"APPEND": list, "APPENDS": list, "SETITEM": dict, "SETITEMS": dict, "ADDITEMS": set}
_PICKLE_FAULTS = (
    IndexError, KeyError, TypeError, ValueError, AttributeError, AssertionError, struct.error, OverflowError,
)

ADVICE = (
    "Weights only load failed. {reason}\n"
    "  - If you trust the source of the file, load it with `weights_only=False`; the code in the file then runs.\n"
    "  - Or allow single classes and functions you know with `flambeau.serialization.add_safe_globals([...])`, or "
    "for a while with `flambeau.serialization.safe_globals([...])`."
)


_Machine: Any = vars(pickle)["_Unpickler"]     # Python's own machine in Python, whose instructions can be chosen


def _permitted(module: str, name: str) -> Any:
    """What the name stands for, if it is on the list; else None."""
    key = (module, name)
    found = _PLAIN.get(key) or names.SAFE.get(key) or _allowed.get(key)
    return names.find(module, name) if found is None and key == ("torch.nn.parameter", "Parameter") else found


def is_allowed(module: str, name: str) -> bool:
    """Whether `weights_only=True` lets a file name this class or function."""
    return _permitted(_OLD_MODULES.get(module, module), name) is not None


class WeightsUnpickler(_Machine):
    """Reads tensors and plain containers. UnpicklingError for everything else, before anything is called."""

    dispatch = {opcode: _Machine.dispatch[opcode] for opcode in (getattr(pickle, name)[0] for name in _INSTRUCTIONS)}

    def __init__(self, file: Any, *, persistent_load: Callable | None = None, encoding: str = "utf-8", **unused: Any):
        super().__init__(file, encoding=encoding)
        if persistent_load is not None:
            self.persistent_load = persistent_load
        self._callable: set[int] = set()    # identities of what the list let through

    def load(self) -> Any:
        try:
            return super().load()
        except pickle.UnpicklingError as error:
            raise pickle.UnpicklingError(ADVICE.format(reason=error)) from None
        except _PICKLE_FAULTS as error:
            reason = f"The pickle is damaged or uses a forbidden instruction ({type(error).__name__}: {error})."
            raise pickle.UnpicklingError(ADVICE.format(reason=reason)) from error

    def find_class(self, module: str, name: str) -> Any:
        module = _OLD_MODULES.get(module, module)
        found = _permitted(module, name)
        if found is None and module == "torch._utils" and name in names.ABSENT:
            raise RuntimeError(f"the file holds {names.ABSENT[name]}, which flambeau does not have")
        if found is None:
            raise pickle.UnpicklingError(
                f"Unsupported global: GLOBAL {module}.{name} was not an allowed global by default. Please use "
                f"`flambeau.serialization.add_safe_globals([{name}])` to allowlist this global if you trust this "
                "class/function."
            )
        self._callable.add(id(found))
        return found

    def _check_callable(self, function: Any) -> None:
        if id(function) not in self._callable or function is Tensor:
            raise pickle.UnpicklingError(f"Trying to call {function!r}, which the file did not name as a global")

    def load_reduce(self) -> None:
        self._check_callable(self.stack[-2])
        super().load_reduce()

    def load_newobj(self) -> None:
        self._check_callable(self.stack[-2])
        super().load_newobj()

    def load_build(self) -> None:
        target = self.stack[-2]
        if type(target) in (OrderedDict, Counter):
            state = self.stack.pop()
            if not isinstance(state, dict):
                raise pickle.UnpicklingError(f"the attributes of a dict must be a dict, got {type(state).__name__}")
            target.__dict__.update(state)
        elif isinstance(target, Tensor) or any(type(target) is known for known in _allowed.values()):
            super().load_build()
        else:
            raise pickle.UnpicklingError("Can only build Tensor, Parameter, OrderedDict or types allowlisted via "
                                         f"`add_safe_globals`, but got {type(target)}")

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.BUILD[0]] = load_build


def _checked(name: str, kind: type) -> Callable:
    """A container instruction that insists on its kind of container (or one the user has allowed)."""
    opcode = getattr(pickle, name)[0]
    plain = WeightsUnpickler.dispatch[opcode]
    alone = name in ("APPEND", "SETITEM")

    def run(self: Any) -> None:
        below = (2 if name == "APPEND" else 3) if alone else 1
        target = (self.stack if alone else self.metastack[-1])[-below]
        usual = type(target) in (kind, OrderedDict, Counter)
        if not isinstance(target, kind) or not (usual or any(type(target) is known for known in _allowed.values())):
            raise pickle.UnpicklingError(f"{name} works on a {kind.__name__}, but got {type(target)}")
        plain(self)

    return run


for _name, _kind in _CONTAINERS.items():
    WeightsUnpickler.dispatch[getattr(pickle, _name)[0]] = _checked(_name, _kind)


def full_unpickler(module: Any) -> type:
    """Python's unpickler (or that of `module`) which finds flambeau's objects under PyTorch's names. Runs any code."""

    class FullUnpickler(module.Unpickler):
        def __init__(self, file: Any, *, persistent_load: Callable | None = None, **options: Any):
            super().__init__(file, **options)
            self._persistent = persistent_load

        def persistent_load(self, place: Any) -> Any:
            if self._persistent is None:
                raise pickle.UnpicklingError("the pickle refers to a storage where none can be")
            return self._persistent(place)

        def find_class(self, module_name: str, name: str) -> Any:
            if module_name == "torch" or module_name.startswith("torch."):
                return names.find(module_name, name)
            return super().find_class(module_name, name)

    return FullUnpickler
