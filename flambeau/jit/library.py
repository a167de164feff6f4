"""Modules of flambeau.nn inside of scripts: kept as they are, saved by class name and plain attributes.

Only classes that `flambeau.nn` lists can be named in a file, and only plain values become attributes, so that a file
can make no other object.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau import nn
from flambeau.core.tensor import Tensor
from flambeau.jit.plain import NotPlain, decode, encode
from flambeau.nn import functional
from flambeau.nn.parameter import Parameter

_BARE = nn.Module()
_CONTAINERS = ("Module",)


def is_library(module: nn.Module) -> bool:
    """Whether a module is of a class of flambeau.nn, without hooks, and all within it are."""
    kind = type(module)
    return getattr(nn, kind.__name__, None) is kind and kind.__name__ not in _CONTAINERS and not any(
        module.__dict__[name] for name in ("_forward_hooks", "_forward_pre_hooks")
    ) and all(part is None or is_library(part) for part in module._modules.values())


def write_library(module: nn.Module, add: Callable[[Tensor], int]) -> dict[str, Any]:
    """The JSON form. NotPlain for attributes that have none."""
    if not is_library(module):
        raise NotPlain(f"a module of class {type(module).__name__} cannot be saved in a script")
    state = {name: _written(value) for name, value in module.__dict__.items() if name not in _BARE.__dict__}
    return {
        "library": type(module).__name__,
        "training": module.training,
        "state": state,
        "parameters": [[name, None if t is None else add(t)] for name, t in module._parameters.items()],
        "buffers": [[name, None if t is None else add(t), name not in module._non_persistent_buffers_set]
                    for name, t in module._buffers.items()],
        "modules": [[name, None if part is None else write_library(part, add)]
                    for name, part in module._modules.items()],
    }


def _written(value: Any) -> Any:
    name = getattr(value, "__name__", None)
    if callable(value) and isinstance(name, str) and getattr(functional, name, None) is value:
        return {"functional": name}
    return encode(value)


def _read(entry: Any) -> Any:
    if type(entry) is dict and list(entry) == ["functional"]:
        name = entry["functional"]
        if type(name) is not str or name not in functional.__all__:
            raise RuntimeError(f"there is no function named {name!r:.60} in torch.nn.functional")
        return getattr(functional, name)
    return decode(entry)


def read_library(entry: Any, tensor: Callable[[Any], Tensor], depth: int = 0) -> nn.Module:
    """The module of a JSON form."""
    kind = getattr(nn, entry["library"], None) if type(entry["library"]) is str else None
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)) or entry["library"] in _CONTAINERS or depth > 100:
        raise RuntimeError(f"there is no module named {entry['library']!r:.60} in torch.nn")
    made: nn.Module = kind.__new__(kind)
    nn.Module.__init__(made)
    made.__dict__["training"] = entry["training"] is True
    for name, value in entry["state"].items():
        if name in _BARE.__dict__ or name.startswith("__") or hasattr(nn.Module, name):
            raise RuntimeError(f"{entry['library']} has no attribute {name!r:.60} in a file")
        made.__dict__[name] = _read(value)
    for name, number in entry["parameters"]:
        t = None if number is None else tensor(number)
        if t is not None and not isinstance(t, Parameter):
            raise RuntimeError(f"tensor {number} of the file is no parameter")
        made.register_parameter(name, t)
    for name, number, persistent in entry["buffers"]:
        made.register_buffer(name, None if number is None else tensor(number), persistent is True)
    for name, part in entry["modules"]:
        made.add_module(name, None if part is None else read_library(part, tensor, depth + 1))
    return made
