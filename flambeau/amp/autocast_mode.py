"""Autocast: inside of it, products run in bfloat16 or float16, and what needs digits in float32."""

from __future__ import annotations

import functools
import threading
import warnings
from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core import recording
from flambeau.core.device import device
from flambeau.core.dispatch import intercept
from flambeau.core.modes import modes
from flambeau.core.tensor import Tensor
from flambeau.ops.casting import to_dtype
from flambeau.ops.precision import widened

# Primitives that run in the lower type, and those that want float32 (PyTorch's lists for the CPU). Losses, which are
# made of several primitives, see to it themselves (ops/precision.py). Others take what they get.
LOWER = frozenset("matmul linear dot convolution transposed_convolution prelu".split())
FLOAT32 = frozenset(
    """
    prod grid_sample ctc_loss binary_cross_entropy mse_loss nll_loss euclidean_distances difference_norm complex
    view_as_complex cholesky cholesky_inverse cholesky_solve inverse pinv solve triangular_solve_kernel lu_factor qr svd
    eig eigh det slogdet matrix_exp geqrf fft_c2c fft_c2r fft_r2c max_unpool
    """.split()
)
KNOWN = ("cpu", "cuda", "mps", "xpu", "xla", "hpu", "ipu", "mtia", "maia", "privateuseone", "meta")


class _State(threading.local):
    """What is switched on in this thread."""

    enabled: dict[str, bool]

    def __init__(self) -> None:
        self.enabled = {}
        self.dtypes = {"cpu": dtypes.bfloat16}
        self.cache_enabled = True
        self.cache: dict[int, tuple[Tensor, Tensor]] = {}  # weights cast once, until the outermost block ends
        self.depth = 0


_state = _State()


def is_autocast_available(device_type: str) -> bool:
    """Whether there is autocast for a kind of device: here, for "cpu"."""
    if not isinstance(device_type, str):
        raise TypeError(f"is_autocast_available(): device_type must be str, not {type(device_type).__name__}")
    return device(device_type).type == "cpu"


def is_autocast_enabled(device_type: str | None = None) -> bool:
    """Whether autocast is on in this thread; without argument that of "cuda" is meant, as in PyTorch."""
    return _state.enabled.get(device_type or "cuda", False)


def set_autocast_enabled(device_type: Any, enabled: bool | None = None) -> None:
    """Switch autocast of a kind of device on or off in this thread, without a block."""
    kind, value = ("cuda", device_type) if enabled is None else (device_type, enabled)
    if value and not is_autocast_available(kind):
        raise RuntimeError(f"autocast is not available for device type '{kind}'")
    _state.enabled[kind] = bool(value)
    if kind == "cpu":
        modes.autocast = _state.dtypes["cpu"].numpy if value else None


def get_autocast_dtype(device_type: str) -> Any:
    """The lower type of a kind of device."""
    return _state.dtypes.get(device_type, dtypes.float16)


def set_autocast_dtype(device_type: str, dtype: Any) -> None:
    """Change the lower type of a kind of device."""
    _state.dtypes[device_type] = dtype
    if modes.autocast is not None and device_type == "cpu":
        modes.autocast = dtype.numpy


def is_autocast_cache_enabled() -> bool:
    """Whether the casts of weights are kept until the outermost block ends."""
    return _state.cache_enabled


def set_autocast_cache_enabled(enabled: bool) -> None:
    """Keep the casts of weights, or do not."""
    _state.cache_enabled = bool(enabled)


def clear_autocast_cache() -> None:
    """Forget the casts of weights."""
    _state.cache.clear()


def _lowered(value: Any) -> Any:
    """float32 and half-width tensors in the lower type; float64, integers and the rest as they are."""
    if not isinstance(value, Tensor):
        return value
    dtype, target = value._array.dtype, modes.autocast
    if dtype == target or not (dtype == np.float32 or (dtype.itemsize == 2 and dtype.kind in "fV")):
        return value
    parameter = value._requires_grad and value._node is None
    keep = recording.recorder is None and _state.cache_enabled and parameter and modes.grad
    if keep and id(value) in _state.cache:
        return _state.cache[id(value)][1]
    cast = to_dtype(value, target)
    if keep:
        _state.cache[id(value)] = value, cast           # the original too: its id must stay its own
    return cast


def _handle(op: Any, inputs: Any, attrs: Any) -> Any:
    if modes.autocast is not None:
        if op.name in LOWER:
            inputs = tuple(_lowered(value) for value in inputs)
        elif op.name in FLOAT32:
            inputs = tuple(widened(value) for value in inputs)
    return op.function(*inputs, **attrs)


class autocast:
    """Context manager and decorator: mixed precision for the operations inside.

    device_type: "cpu"; for others that exist in PyTorch it warns and does nothing. dtype: bfloat16 (default) or
    float16. `enabled=False` switches an outer block off. `cache_enabled`: cast each weight once.
    """

    def __init__(self, device_type: str, dtype: Any = None, enabled: bool = True, cache_enabled: bool | None = None):
        if not isinstance(device_type, str):
            raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
        if device_type not in KNOWN:
            raise RuntimeError(f"User specified an unsupported autocast device_type '{device_type}'")
        self.device = device_type
        self.fast_dtype = get_autocast_dtype(device_type) if dtype is None else dtype
        self.cache_enabled = is_autocast_cache_enabled() if cache_enabled is None else cache_enabled
        if enabled and device_type != "cpu":
            warnings.warn(f"User provided device_type of '{device_type}', but {device_type.upper()} is not available. "
                          "Disabling", stacklevel=2)
            enabled = False
        if enabled and self.fast_dtype not in (dtypes.bfloat16, dtypes.float16):
            warnings.warn("In CPU autocast, but the target dtype is not supported. Disabling autocast.\n"
                          "CPU Autocast only supports dtype of torch.bfloat16, torch.float16 currently.",
                          stacklevel=2)
            enabled = False
        self._enabled = enabled
        self._outer: list[Any] = []

    def __enter__(self) -> autocast:
        listener = intercept(_handle) if self._enabled else None
        self._outer.append((dict(_state.enabled), dict(_state.dtypes), _state.cache_enabled, modes.autocast, listener))
        _state.enabled[self.device] = self._enabled
        _state.dtypes[self.device] = self.fast_dtype
        _state.cache_enabled = self.cache_enabled
        _state.depth += 1
        if self.device == "cpu":
            modes.autocast = self.fast_dtype.numpy if self._enabled else None
        if listener is not None:
            listener.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        enabled, lower, cached, mode, listener = self._outer.pop()
        if listener is not None:
            listener.__exit__(*error)
        _state.enabled, _state.dtypes, _state.cache_enabled, modes.autocast = enabled, lower, cached, mode
        _state.depth -= 1
        if _state.depth == 0:
            clear_autocast_cache()

    def __call__(self, function: Any) -> Any:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return call


def custom_fwd(fwd: Any = None, *, device_type: str = "cpu", cast_inputs: Any = None) -> Any:
    """Decorator for the `forward` of an autograd Function: remember autocast, or leave it and cast."""
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")

    @functools.wraps(fwd)
    def call(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        ctx._dtype = get_autocast_dtype(device_type)
        ctx._fwd_used_autocast = is_autocast_enabled(device_type)
        if cast_inputs is None or not ctx._fwd_used_autocast:
            return fwd(ctx, *args, **kwargs)
        ctx._fwd_used_autocast = False
        with autocast(device_type, enabled=False):
            return fwd(ctx, *_cast(args, cast_inputs), **_cast(kwargs, cast_inputs))

    return call


def custom_bwd(bwd: Any = None, *, device_type: str = "cpu") -> Any:
    """Decorator for the `backward` of an autograd Function: autocast as it was in `forward`."""
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def call(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        with autocast(device_type, enabled=ctx._fwd_used_autocast, dtype=ctx._dtype):
            return bwd(ctx, *args, **kwargs)

    return call


def _cast(value: Any, dtype: Any) -> Any:
    """The floating tensors of nested containers in another type; float64 stays."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() and value.dtype is not dtypes.float64 else value
    if isinstance(value, dict):
        return {_cast(key, dtype): _cast(item, dtype) for key, item in value.items()}
    return type(value)(_cast(item, dtype) for item in value) if isinstance(value, (list, tuple)) else value
