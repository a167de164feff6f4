"""Large eager draws by generated code: functions (generator, out, …) that fill a contiguous NumPy array.

`core/random.py` calls them by name once a program has drawn so much that compiling (some 0.1 s) is worth it.
"""

from __future__ import annotations

import functools
import math
from ctypes import c_double, c_float, c_int64, c_uint8, c_void_p
from typing import Any

import numpy as np

from flambeau.compiler.native import compiled
from flambeau.core import random as stream

# By name: the emitter in `backends/llvm/mersenne.py` and its arguments, the function's name in generated code, and the
# types of its parameters after (state, out, count).
_DRAWS: dict[str, tuple[str, tuple[Any, ...], str, tuple[Any, ...]]] = {
    "uniform32": ("emit_uniform", (np.dtype(np.float32),), "flambeau.uniform.float32", (c_float,) * 3),
    "uniform64": ("emit_uniform", (np.dtype(np.float64),), "flambeau.uniform.float64", (c_double,) * 3),
    "bernoulli": ("emit_bernoulli", (1,), "flambeau.bernoulli.1", (c_int64, c_uint8)),
    "randint": ("emit_randint", (), "flambeau.randint", (c_int64,) * 3),
    "randperm": ("emit_randperm", (), "flambeau.randperm", ()),
    "normal": ("emit_normal", (), "flambeau.normal", (c_float,) * 2),
}


@functools.cache
def _function(name: str) -> Any:
    """The compiled function of that name; it lives as long as the process."""
    emitter, arguments, symbol, parameters = _DRAWS[name]

    def emit(module: Any) -> Any:
        from flambeau.backends.llvm import mersenne

        return getattr(mersenne, emitter)(module, *arguments)

    return compiled(emit, symbol, c_void_p, c_void_p, c_int64, *parameters)


def _run(name: str, generator: Any, out: np.ndarray, *parameters: Any) -> np.ndarray:
    memory, function = generator.memory(), _function(name)
    with generator.lock:
        function(memory.ctypes.data, out.ctypes.data, out.size, *parameters)
    return out


def uniform(generator: Any, out: np.ndarray, low: Any, high: Any) -> np.ndarray:
    """Fill a float32 or float64 array with numbers uniform in [low, high)."""
    name = "uniform64" if out.dtype == np.float64 else "uniform32"
    return _run(name, generator, out, low, out.dtype.type(high) - out.dtype.type(low), high)


def normal(generator: Any, out: np.ndarray, mean: float, std: float) -> np.ndarray:
    """Fill a float32 array of at least 16 elements with normal numbers."""
    return _run("normal", generator, out, mean, std)


def bernoulli(generator: Any, out: np.ndarray, p: float) -> np.ndarray:
    """Fill a bool array with truths of probability p."""
    return _run("bernoulli", generator, out, math.ceil(p * 2.0**53), 1)


def randint(generator: Any, out: np.ndarray, low: int, span: int) -> np.ndarray:
    """Fill an int64 array with integers in [low, low + span), for a span below 2**32."""
    return _run("randint", generator, out, low, span, stream.factor_of(span))


def randperm(generator: Any, out: np.ndarray) -> np.ndarray:
    """Fill an int64 array with the numbers from 0 in random order."""
    return _run("randperm", generator, out)
