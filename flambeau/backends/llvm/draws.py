"""Large eager draws by generated code: functions (generator, out, …) that fill a contiguous NumPy array.

`core/random.py` calls them by name once a program has drawn so much that compiling (some 0.1 s) is worth it.
"""

from __future__ import annotations

import ctypes
import functools
import math
from typing import Any

import numpy as np
from llvmlite import ir

from flambeau.backends.llvm import jit, mersenne
from flambeau.backends.llvm import registers as reg

_EMITTERS: dict[str, Any] = {
    "uniform32": lambda module: mersenne.emit_uniform(module, np.dtype(np.float32)),
    "uniform64": lambda module: mersenne.emit_uniform(module, np.dtype(np.float64)),
    "bernoulli": lambda module: mersenne.emit_bernoulli(module, 1),
    "randint": mersenne.emit_randint,
    "randperm": mersenne.emit_randperm,
    "normal": mersenne.emit_normal,
}
_C_TYPES = {reg.i64: ctypes.c_int64, ir.FloatType(): ctypes.c_float, ir.DoubleType(): ctypes.c_double,
            reg.i8: ctypes.c_uint8, reg.pointer: ctypes.c_void_p}


@functools.cache
def _function(name: str) -> Any:
    """The compiled function of that name; it lives as long as the process."""
    module = ir.Module(name)
    function = _EMITTERS[name](module)
    function.linkage = "external"
    code = jit.compile_and_load(module, [function.name])
    made = ctypes.CFUNCTYPE(None, *(_C_TYPES[a.type] for a in function.args))(code.address(function.name))
    made.code = code
    return made


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
    return _run("randint", generator, out, low, span, factor_of(span))


def randperm(generator: Any, out: np.ndarray) -> np.ndarray:
    """Fill an int64 array with the numbers from 0 in random order."""
    return _run("randperm", generator, out)


def factor_of(span: int) -> int:
    """2**64 // span + 1 as 64 bits, by which remainders are taken without dividing; see `mersenne.emit_randint`."""
    bits = ((1 << 64) // span + 1) & (1 << 64) - 1 if span > 1 else 0
    return bits - (1 << 64) if bits >> 63 else bits
