"""Numbers in a row: arange, linspace, logspace, and the identity matrix."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core.tensor import Tensor
from flambeau.ops.creation import delivered, numpy_dtype


def _numbers(*values: Any) -> list[Any]:
    return [v.item() if isinstance(v, Tensor) else v for v in values]


def arange(
    *args: Any,
    start: Any = 0,
    end: Any = None,
    step: Any = 1,
    out: Any = None,
    dtype: dtypes.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: builtins.bool = False,
    pin_memory: builtins.bool = False,
) -> Tensor:
    """Numbers from `start` (0) up to `end` (not included): int64 if all are integers, else the default dtype."""
    if len(args) == 1:
        start, end = (start, args[0]) if end is None else (args[0], end)
    elif args:
        start, end, step = (*args, step)[:3] if len(args) == 2 else args
    start, end, step = _numbers(start, end, step)
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if not all(np.isfinite(v) for v in (start, end)):
        raise RuntimeError(f"unsupported range: {start} -> {end}")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    if dtype is None:
        whole = all(isinstance(v, int) for v in (start, end, step))
        dtype = out.dtype if out is not None else dtypes.int64 if whole else dtypes.default_dtype()
    if dtype.category == dtypes.INT:
        start, end, step = int(start), int(end), int(step)  # truncated before they are used, as PyTorch does
        if step == 0:
            raise ValueError("step must be nonzero")
        count = -((start - end) // step)
        array = (start + step * np.arange(count, dtype=np.int64)).astype(dtype.numpy)
    else:
        count = int(np.ceil((end - start) / step))
        array = (np.arange(count, dtype=np.float64) * step + start).astype(dtype.numpy)
    return delivered("arange", array, out, device, requires_grad)


def linspace(
    start: Any,
    end: Any,
    steps: int,
    *,
    out: Any = None,
    dtype: dtypes.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: builtins.bool = False,
) -> Tensor:
    """`steps` numbers from `start` to `end`, both included, evenly spaced."""
    if not isinstance(steps, int):
        raise TypeError(f"linspace(): argument 'steps' must be int, not {type(steps).__name__}")
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    start, end = _numbers(start, end)
    kind = dtype or (
        dtypes.default_dtype().to_complex()
        if isinstance(start, complex) or isinstance(end, complex)
        else dtypes.default_dtype()
    )
    array = _evenly(start, end, steps, kind)
    return delivered("linspace", array, out, device, requires_grad)


def _evenly(start: Any, end: Any, steps: int, kind: dtypes.dtype) -> np.ndarray:
    """Counted from both ends towards the middle, so that both are exact."""
    if steps == 1:
        return np.array([start]).astype(kind.numpy)
    if kind.category < dtypes.FLOAT:  # integers: steps in float64, multiplied and added in one rounding, then cut off
        first, last = int(start), int(end)
        width = np.longdouble(np.float64(last - first) / np.float64(max(steps - 1, 1)))
        index = np.arange(steps)
        exact = np.where(index < steps // 2, first + width * index, last - width * (steps - index - 1))
        return np.trunc(exact.astype(np.float64)).astype(kind.numpy)
    work = np.float64 if not kind.is_complex else np.complex128
    real = kind.numpy if kind.itemsize >= 4 and kind.category >= dtypes.FLOAT else work
    step = np.asarray((np.asarray(end, work) - np.asarray(start, work)) / max(steps - 1, 1)).astype(real)
    index = np.arange(steps).astype(real)
    first, last = np.asarray(start, work).astype(real), np.asarray(end, work).astype(real)
    half = steps // 2
    return np.where(
        np.arange(steps) < half, first + step * index, last - step * (steps - 1 - index).astype(real)
    ).astype(kind.numpy)


def logspace(
    start: Any,
    end: Any,
    steps: int,
    base: float = 10.0,
    *,
    out: Any = None,
    dtype: dtypes.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: builtins.bool = False,
) -> Tensor:
    """`base` to the power of evenly spaced exponents."""
    if not isinstance(steps, int):
        raise TypeError(f"logspace(): argument 'steps' must be int, not {type(steps).__name__}")
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    start, end = _numbers(start, end)
    kind = dtype or dtypes.default_dtype()
    if kind.category < dtypes.FLOAT and steps != 1:  # an integer type cuts off both ends before, as PyTorch does
        start, end = int(start), int(end)
    array = np.power(float(base), _evenly(start, end, steps, dtypes.float64)).astype(kind.numpy)
    return delivered("logspace", array, out, device, requires_grad)


def eye(
    n: int,
    m: int | None = None,
    *,
    out: Any = None,
    dtype: dtypes.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: builtins.bool = False,
) -> Tensor:
    """Ones on the diagonal, zeros elsewhere: (n, m), or (n, n)."""
    if n < 0 or (m is not None and m < 0):
        raise RuntimeError(f"n must be greater or equal to 0, got {n if n < 0 else m}")
    array = np.eye(n, m, dtype=numpy_dtype(dtype))
    return delivered("eye", array, out, device, requires_grad)
