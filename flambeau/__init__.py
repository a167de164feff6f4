"""flambeau: deep learning with PyTorch's programming model, written in Python.

`import flambeau as torch`.
"""

from __future__ import annotations

import importlib as _importlib
import math as _math
from typing import Any as _Any

from flambeau.core.device import device
from flambeau.core.dtype import (
    bfloat16,
    bool,
    can_cast,
    complex64,
    complex128,
    dtype,
    finfo,
    float8_e4m3fn,
    float8_e5m2,
    float16,
    float32,
    float64,
    iinfo,
    int8,
    int16,
    int32,
    int64,
    set_default_dtype,
    uint8,
    uint16,
    uint32,
    uint64,
)
from flambeau.core.dtype import default_dtype as get_default_dtype
from flambeau.core.dtype import promote as promote_types
from flambeau.core.layout import (
    channels_last,
    channels_last_3d,
    contiguous_format,
    layout,
    memory_format,
    preserve_format,
    strided,
)
from flambeau.core.legacy import TYPES as _LEGACY
from flambeau.core.legacy import set_default_tensor_type
from flambeau.core.storage import Storage as UntypedStorage
from flambeau.core.storage import TypedStorage
from flambeau.core.tensor import Size, Tensor
from flambeau.ops import methods as _methods
from flambeau.ops import public as _public
from flambeau.random import (
    Generator,
    default_generator,
    get_rng_state,
    initial_seed,
    manual_seed,
    seed,
    set_rng_state,
)
from flambeau.version import __version__

_methods.bind()
globals().update(_LEGACY)

from flambeau import autograd  # noqa: E402  (binds backward and hooks, which need the ops)
from flambeau.autograd.modes import (  # noqa: E402
    enable_grad,
    inference_mode,
    is_anomaly_enabled,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)

half, float, double = float16, float32, float64
short, int, long = int16, int32, int64
cfloat, cdouble = complex64, complex128
inf, nan, pi, e = _math.inf, _math.nan, _math.pi, _math.e
newaxis = None

# Public modules that are imported when first used.
_LAZY = (
    "return_types",
    "nn",
    "optim",
    "utils",
    "linalg",
    "random",
    "serialization",
    "vision",
    "hub",
    "testing",
    "fft",
    "special",
    "func",
    "distributions",
    "cuda",
    "cpu",
    "backends",
    "jit",
    "multiprocessing",
    "export",
    "distributed",
    "compiler",
    "amp",
    "profiler",
    "fx",
    "types",
    "accelerator",
    "xpu",
    "_C",
)

# Single names that are imported from their module when first used.
_ELSEWHERE = {
    "save": "serialization",
    "load": "serialization",
    "as_torch": "torch_alias",
    "vmap": "func",
    **dict.fromkeys(
        """use_deterministic_algorithms are_deterministic_algorithms_enabled set_deterministic_debug_mode
        get_deterministic_debug_mode is_deterministic_algorithms_warn_only_enabled set_float32_matmul_precision
        get_float32_matmul_precision set_default_device get_default_device set_flush_denormal""".split(),
        "core.settings",
    ),
    **dict.fromkeys(
        """autocast is_autocast_enabled set_autocast_enabled get_autocast_dtype set_autocast_dtype
        is_autocast_cache_enabled set_autocast_cache_enabled clear_autocast_cache""".split(),
        "amp.autocast_mode",
    ),
    "GradScaler": "amp",
    "compile": "nn.compiled",
}


def __getattr__(name: str) -> _Any:
    if name in _public.SOURCES:
        found = globals()[name] = _public.resolve(name)
        return found
    if name in _LAZY:
        try:
            return _importlib.import_module(f"flambeau.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"flambeau.{name}":
                raise
    if name in _ELSEWHERE:
        found = globals()[name] = getattr(_importlib.import_module(f"flambeau.{_ELSEWHERE[name]}"), name)
        return found
    if name.startswith("_foreach_"):
        functions = _importlib.import_module("flambeau.foreach").FUNCTIONS
        if name in functions:
            return functions[name]
    raise AttributeError(f"module 'flambeau' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_public.SOURCES, *_LAZY, *_ELSEWHERE})
