"""Types in scripts: `torch.jit.isinstance`, and their names in files."""

from __future__ import annotations

import builtins
import types
from typing import Any, Union, get_args, get_origin

from flambeau.core.tensor import Tensor

TYPES: dict[str, Any] = {"Tensor": Tensor, **{
    kind.__name__: kind for kind in (int, float, bool, str, complex, list, tuple, dict)}}
_PLAIN = {**TYPES, "Any": Any, "None": type(None)}
_GENERIC: dict[str, Any] = {"list": list, "tuple": tuple, "dict": dict}
_UNIONS = (Union, getattr(types, "UnionType", Union))


def isinstance(obj: Any, target_type: Any) -> bool:
    """Whether a value has a type, which may be one of `typing`: `List[int]`, `Dict[str, Tensor]`, `Optional[int]`."""
    if target_type is Any:
        return True
    if type(target_type) is tuple:
        return any(isinstance(obj, one) for one in target_type)
    if target_type is None:
        return obj is None
    origin, parts = get_origin(target_type), get_args(target_type)
    if origin is None:
        return builtins.isinstance(obj, target_type)
    if origin in _UNIONS:
        return any(isinstance(obj, one) for one in parts)
    if not builtins.isinstance(obj, origin):
        return False
    if origin is dict:
        return all(isinstance(k, parts[0]) and isinstance(v, parts[1]) for k, v in obj.items())
    if origin is tuple and not (len(parts) == 2 and parts[1] is ...):
        return len(obj) == len(parts) and all(map(isinstance, obj, parts))
    return all(isinstance(item, parts[0]) for item in obj)


def entry_of(kind: Any) -> Any:
    """The JSON form of a type: its name, or [origin, parts]. KeyError for types that scripts do not have."""
    if kind is ...:
        return "..."
    if kind is None:
        return "None"
    origin = get_origin(kind)
    if origin is None:
        for name, known in _PLAIN.items():
            if known is kind:
                return name
        raise KeyError(kind)
    name = "union" if origin in _UNIONS else origin.__name__
    if name != "union" and _GENERIC.get(name) is not origin:
        raise KeyError(kind)
    return [name, [entry_of(part) for part in get_args(kind)]]


def type_of(entry: Any) -> Any:
    """The type of a JSON form. KeyError, TypeError or ValueError for what is none."""
    if type(entry) is str:
        return _PLAIN[entry]
    origin, parts = entry
    made = tuple(... if part == "..." else type_of(part) for part in parts)
    return Union[made] if origin == "union" else _GENERIC[origin][made]  # noqa: UP007  (parts known now)
