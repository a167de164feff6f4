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
    """Whether a module is of a class of flambeau.nn."""
    kind = type(module)
    return getattr(nn, kind.__name__, None) is kind and kind.__name__ not in _CONTAINERS


def write_library(module: nn.Module, add: Callable[[Tensor], int], part: Callable[[Any], Any]) -> dict[str, Any]:
    """The JSON form; `part` gives that of a submodule. NotPlain for attributes that have none."""
    return {
        "library": type(module).__name__,
        "training": module.training,
        "state": written_state(module),
        "parameters": [[name, None if t is None else add(t)] for name, t in module._parameters.items()],
        "buffers": [[name, None if t is None else add(t), name not in module._non_persistent_buffers_set]
                    for name, t in module._buffers.items()],
        "modules": [[name, None if m is None else part(m)] for name, m in module._modules.items()],
    }


def written_state(module: nn.Module) -> dict[str, Any]:
    """The plain attributes of a module of flambeau.nn."""
    if not is_library(module):
        raise NotPlain(f"a module of class {type(module).__name__} cannot be saved in a script")
    return {name: _written(value) for name, value in module.__dict__.items() if name not in _BARE.__dict__}


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


def bare_library(name: Any, state: Any) -> nn.Module:
    """A module of flambeau.nn with these attributes, without parameters, buffers and submodules."""
    kind = getattr(nn, name, None) if type(name) is str else None
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)) or name in _CONTAINERS:
        raise RuntimeError(f"there is no module named {name!r:.60} in torch.nn")
    made: nn.Module = kind.__new__(kind)
    nn.Module.__init__(made)
    for key, value in state.items():
        if key in _BARE.__dict__ or key.startswith("__") or hasattr(nn.Module, key):
            raise RuntimeError(f"{name} has no attribute {key!r:.60} in a file")
        made.__dict__[key] = _read(value)
    return made


def read_library(entry: Any, tensor: Callable[[Any], Tensor], part: Callable[[Any], Any]) -> nn.Module:
    """The module of a JSON form; `part` reads a submodule."""
    made = bare_library(entry["library"], entry["state"])
    made.__dict__["training"] = entry["training"] is True
    for name, number in entry["parameters"]:
        t = None if number is None else tensor(number)
        if t is not None and not isinstance(t, Parameter):
            raise RuntimeError(f"tensor {number} of the file is no parameter")
        made.register_parameter(name, t)
    for name, number, persistent in entry["buffers"]:
        made.register_buffer(name, None if number is None else tensor(number), persistent is True)
    for name, entry_of in entry["modules"]:
        made.add_module(name, None if entry_of is None else part(entry_of))
    return made


def adopted(made: nn.Module, module: nn.Module) -> None:
    """Let two modules have the same parameters, buffers and submodules: the same dictionaries."""
    for registry in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
        module.__dict__[registry] = made.__dict__[registry] = (module if module.__dict__[registry] else made).__dict__[
            registry]


class LibraryProgram:
    """The program of a scripted module of flambeau.nn: its own forward."""

    def __init__(self, module: nn.Module):
        self.module = module

    def __call__(self, owner: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        self.module.__dict__["training"] = owner.training
        return self.module.forward(*args, **kwargs)

    @property
    def attributes(self) -> dict[str, Any]:
        """What the module around it shows as its own: numbers and the like, not what every module has."""
        return {name: value for name, value in self.module.__dict__.items() if name not in _BARE.__dict__}

    @property
    def graph(self) -> LibraryProgram:
        """Itself: it prints as text."""
        return self

    def __str__(self) -> str:
        return f"torch.nn.{type(self.module).__name__}.forward"

    def written(self, add: Callable[[Tensor], int]) -> dict[str, Any]:
        """The JSON form, without what the ScriptModule around it holds."""
        return {"kind": "library", "library": type(self.module).__name__, "state": written_state(self.module)}

    @classmethod
    def read(cls, entry: Any, owner: nn.Module) -> LibraryProgram:
        """The program of a JSON form, for a module that holds parameters and submodules."""
        made = bare_library(entry["library"], entry["state"])
        adopted(made, owner)
        return cls(made)
