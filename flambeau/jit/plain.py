"""Attributes of ops and constants of scripts as JSON, and back: plain data only, nothing that could run.

JSON's own numbers, strings, booleans and null stand for themselves; everything else is an object with one key that says
what it is: {"tuple": […]}, {"slice": [1, null, 2]}, {"dtype": "float32"}, {"float": "nan"}, ….
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core import layout
from flambeau.core.device import check_device, device
from flambeau.core.random import Generator, default_generator

_FORMATS = {f.name: f for f in (layout.contiguous_format, layout.channels_last, layout.channels_last_3d,
                                layout.preserve_format)}
DEPTH = 200  # of nesting in a file


class NotPlain(RuntimeError):
    """A value that has no place in a file."""


def encode(value: Any) -> Any:
    """The JSON form of a plain value. NotPlain for functions, tensors and other objects."""
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if kind in (tuple, list) or isinstance(value, tuple):
        return {"list" if kind is list else "tuple": [encode(item) for item in value]}
    if kind is dict:
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    if kind is slice:
        return {"slice": [encode(part) for part in (value.start, value.stop, value.step)]}
    if value is Ellipsis:
        return {"ellipsis": True}
    if kind is complex:
        return {"complex": [encode(value.real), encode(value.imag)]}
    if isinstance(value, dtypes.dtype):
        return {"dtype": value.numpy.name}
    if isinstance(value, np.dtype):
        return {"numpy": value.name}
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, np.floating):
        return encode(float(value))
    if isinstance(value, layout.memory_format):
        return {"memory_format": value.name}
    if isinstance(value, device):
        return {"device": str(value)}
    if isinstance(value, Generator):
        if value is default_generator:
            return {"generator": "default"}
        raise NotPlain("a generator of its own cannot be saved: draw from the default one")
    raise NotPlain(f"a value of type {type(value).__name__} cannot be saved: {value!r:.80}")


def decode(found: Any, depth: int = 0) -> Any:
    """The value that a JSON form stands for. RuntimeError for what is none."""
    if found is None or type(found) in (bool, int, float, str):
        return found
    if depth > DEPTH:
        raise RuntimeError("a value in the file is nested too deeply")
    if type(found) is not dict or len(found) != 1:
        raise RuntimeError(f"a value in the file is not understood: {found!r:.80}")
    ((kind, body),) = found.items()
    try:
        return _DECODERS[kind](body, depth + 1)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise RuntimeError(f"a value in the file is not understood: {found!r:.80}") from error


def _items(body: Any, depth: int) -> list[Any]:
    if type(body) is not list:
        raise TypeError("expected a list")
    return [decode(item, depth) for item in body]


def _dict(body: Any, depth: int) -> dict[Any, Any]:
    return {decode(key, depth): decode(item, depth) for key, item in body}


def _float(body: Any, depth: int) -> float:
    return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[body]


def _dtype(body: Any, depth: int) -> dtypes.dtype:
    return dtypes.from_numpy(_numpy(body, depth))


def _numpy(body: Any, depth: int) -> np.dtype:
    return KINDS[body]


def _generator(body: Any, depth: int) -> Generator:
    return {"default": default_generator}[body]


KINDS = {d.numpy.name: d.numpy for d in vars(dtypes).values() if isinstance(d, dtypes.dtype)}
_DECODERS: dict[str, Any] = {
    "float": _float,
    "tuple": lambda body, depth: tuple(_items(body, depth)),
    "list": _items,
    "dict": _dict,
    "slice": lambda body, depth: slice(*_items(body, depth)),
    "ellipsis": lambda body, depth: ...,
    "complex": lambda body, depth: complex(*_items(body, depth)),
    "dtype": _dtype,
    "numpy": _numpy,
    "memory_format": lambda body, depth: _FORMATS[body],
    "device": lambda body, depth: check_device(body),
    "generator": _generator,
}
