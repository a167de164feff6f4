"""What scripts may name: public functions of flambeau, of `math`, a few of Python's own; methods and attributes.

A saved script holds these names. Nothing else can be called, so that a file can do no more than compute.
"""

from __future__ import annotations

import functools
import importlib
import math
import string
import warnings
from collections.abc import Callable
from typing import Any

from flambeau.core.device import device
from flambeau.core.dtype import dtype, finfo, iinfo
from flambeau.core.layout import layout, memory_format
from flambeau.core.tensor import Size, Tensor
from flambeau.jit import types
from flambeau.jit.modules import ScriptModule
from flambeau.nn import Module, ModuleDict, ModuleList, ParameterList, Sequential
from flambeau.ops import public

_PLACES = ("flambeau.nn.functional", "flambeau.linalg", "flambeau.fft", "flambeau.special")
# What hands out memory, or changes how the whole process computes or prints.
_NOT_PUBLIC = frozenset({"from_numpy", "from_dlpack", "frombuffer", "set_num_threads", "set_printoptions"})
_MORE = ("Size", "is_tensor", "is_floating_point", "is_complex", "promote_types", "numel", "manual_seed",
         "is_grad_enabled", "get_default_dtype", "device", "finfo", "iinfo")
CONTAINERS = (Sequential, ModuleList, ModuleDict)
BUILTINS: dict[str, Callable[..., Any]] = {f.__name__: f for f in (
    len, range, enumerate, zip, int, float, bool, str, complex, min, max, abs, sum, round, reversed, sorted, any, all,
    tuple, list, dict, isinstance, divmod, pow, print, slice)}  # fmt: skip
BUILTINS["jit.isinstance"] = types.isinstance
ERRORS = {e.__name__: e for e in (
    Exception, RuntimeError, ValueError, TypeError, IndexError, KeyError, AssertionError, NotImplementedError,
    ArithmeticError, OverflowError, ZeroDivisionError)}  # fmt: skip


@functools.cache
def functions() -> dict[str, Callable[..., Any]]:
    """Every function that a script may call, by its path below `torch` (or `math`)."""
    torch = importlib.import_module("flambeau")
    found = {name: getattr(torch, name) for name in (*public.SOURCES, *_MORE)
             if name not in _NOT_PUBLIC and hasattr(torch, name)}
    for place in _PLACES:
        module = importlib.import_module(place)
        for name in module.__all__:
            thing = getattr(module, name)
            if callable(thing) and not isinstance(thing, type):
                found[f"{place.removeprefix('flambeau.')}.{name}"] = thing
    for name in dir(math):
        if not name.startswith("_") and callable(getattr(math, name)):
            found[f"math.{name}"] = getattr(math, name)
    found["warnings.warn"] = warnings.warn
    return found


@functools.cache
def paths() -> dict[int, str]:
    """The path of each of these functions, by id."""
    return {id(function): path for path, function in reversed(functions().items())}


_TENSOR_NO = frozenset("""
    apply_ map_ map2_ numpy register_hook register_post_accumulate_grad_hook storage untyped_storage data_ptr set_
    share_memory_ backward cuda grad_fn data new name names output_nr tofile dump is_shared pin_memory""".split())
_OF = {
    str: "lower upper startswith endswith split strip lstrip rstrip join replace find count index isdigit",
    list: "append extend insert pop clear copy reverse index count sort remove",
    dict: "keys values items get pop update clear copy setdefault",
    tuple: "index count",
    dtype: "itemsize is_floating_point is_complex is_signed",
    device: "type index",
}
_MODULE = ("training", "weight", "bias", "forward", "items", "keys", "values", "named_parameters", "parameters")


def attribute(value: Any, name: str) -> Any:
    """`value.name` for those that scripts may look at. RuntimeError for others."""
    if name.startswith("_"):
        raise RuntimeError(f"'{name}' is private: scripts cannot look at it")
    if isinstance(value, Tensor):
        if name not in _TENSOR_NO and hasattr(Tensor, name):
            return getattr(value, name)
    elif isinstance(value, ScriptModule):
        return module_attribute(value, name)
    elif isinstance(value, Module):
        registries = (value._parameters, value._buffers, value._modules)
        if name in _MODULE or any(name in registry for registry in registries) or _is_plain_state(value, name):
            return getattr(value, name)
    elif type(value) in (finfo, iinfo) or (isinstance(value, Size) and name == "numel"):
        return getattr(value, name)
    elif isinstance(value, str) and name == "format":
        return Format(value)
    else:
        for kind, listing in _OF.items():
            if isinstance(value, kind) and name in listing.split():
                return getattr(value, name)
        if isinstance(value, tuple) and name in getattr(type(value), "_fields", ()):
            return getattr(value, name)
    raise RuntimeError(f"scripts cannot use '{name}' of a {type(value).__name__}")


class Format:
    """`text.format`, without fields that look into objects."""

    _script_value = True

    def __init__(self, text: str):
        self.text = text

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        if not self.plain(self.text):
            raise RuntimeError(f"scripts cannot look into objects with a format: {self.text!r:.60}")
        return self.text.format(*args, **kwargs)

    def plain(self, text: str) -> bool:
        """Whether its fields, and those in their specifications, are names and numbers."""
        return all(not set(".[") & set(field or "") and self.plain(spec or "")
                   for _, field, spec, _ in string.Formatter().parse(text))


def _is_plain_state(module: Module, name: str) -> bool:
    value = module.__dict__.get(name, Ellipsis)
    return value is None or isinstance(value, (bool, int, float, str, tuple, list, dtype, memory_format, layout))


def container_of(module: Module) -> str | None:
    """The kind of container that a module is: "Sequential", "ModuleList", "ModuleDict" or None."""
    if isinstance(module, ScriptModule):
        return module.__dict__.get("_container")
    return next((kind.__name__ for kind in CONTAINERS if isinstance(module, kind)), None)


def module_attribute(module: ScriptModule, name: str) -> Any:
    """An attribute of a scripted module: parameter, buffer, submodule, constant or method. AttributeError if none."""
    if name == "training":
        return module.training
    for registry in (module._parameters, module._buffers, module._modules, module.__dict__.get("_constants", {})):
        if name in registry:
            return registry[name]
    if container_of(module) is not None and name in ("items", "keys", "values"):
        return getattr(module._modules, name)
    if name in module.__dict__["_programs"] or f"{name}.fget" in module.__dict__["_programs"]:
        return getattr(module, name) if name != "forward" else module.forward
    raise AttributeError(f"the scripted {module.original_name} has no attribute '{name}'")


def iterable(value: Any) -> Any:
    """What a `for` goes through."""
    if isinstance(value, Module) and (kind := container_of(value)) is not None:
        return list(value._modules) if kind == "ModuleDict" else list(value._modules.values())
    if isinstance(value, ParameterList):
        return list(value)
    if isinstance(value, (Tensor, list, tuple, dict, range, str, enumerate, zip, reversed)) or type(value).__name__ in (
            "dict_items", "dict_keys", "dict_values", "odict_items", "list_reverseiterator", "range_iterator"):
        return value
    raise RuntimeError(f"scripts cannot iterate over a {type(value).__name__}")


def callable_value(value: Any) -> Callable[..., Any]:
    """The value, if a script may call it."""
    from flambeau.jit.modules import Method, ScriptFunction

    if isinstance(value, (Module, Method, ScriptFunction)) or getattr(value, "_script_value", False):
        return value
    owner = getattr(value, "__self__", None)
    if callable(value) and isinstance(owner, (Tensor, list, dict, str, tuple, Module)):
        return value  # a method that `attribute` has let through
    if id(value) in paths():
        return value
    raise RuntimeError(f"scripts cannot call a {type(value).__name__}")
