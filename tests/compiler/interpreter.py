"""The meaning of kernels, in NumPy: slow, plain, and sharing no code with the generator."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.compiler.kernel import Apply, Cast, Gather, Kernel, Load, Number, Position, Reduce

REDUCTIONS = {"sum": np.sum, "prod": np.prod, "max": np.max, "min": np.min, "any": np.any, "all": np.all}
EMPTY = {"sum": 0, "prod": 1, "any": False, "all": True}

OPS: dict[str, Any] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative, "exp": np.exp,
    "log": np.log, "sqrt": np.sqrt, "tanh": np.tanh, "maximum": np.maximum, "minimum": np.minimum, "abs": np.abs,
    "gt": np.greater, "lt": np.less, "eq": np.equal, "where": np.where, "logical_and": np.logical_and,
    "rsqrt": lambda x: (1 / np.sqrt(x)).astype(x.dtype), "reciprocal": lambda x: (1 / x).astype(x.dtype),
}  # fmt: skip


def places(kernel: Kernel, strides: tuple[int, ...], offset: int) -> np.ndarray:
    """The element number that an access goes to, at every point of the space."""
    out = np.full(kernel.shape, offset, np.int64)
    for d, stride in enumerate(strides):
        steps = np.arange(kernel.shape[d], dtype=np.int64) * stride
        out += steps.reshape([-1 if e == d else 1 for e in range(len(kernel.shape))])
    return out


def interpret(kernel: Kernel, buffers: list[np.ndarray]) -> None:
    """Run a kernel on flat arrays, which are written in place."""
    inner = tuple(range(len(kernel.shape) - kernel.inner, len(kernel.shape)))
    values: list[Any] = []
    stores = []
    for i in kernel.body:
        if isinstance(i, Load):
            values.append(buffers[i.slot][places(kernel, i.strides, i.offset)])
        elif isinstance(i, Gather):
            values.append(buffers[i.slot][places(kernel, i.strides, i.offset) + values[i.index] * i.scale])
        elif isinstance(i, Number):
            values.append(np.full(kernel.shape, i.value, i.dtype))
        elif isinstance(i, Position):
            strides = tuple(int(d == i.dim) for d in range(len(kernel.shape)))
            values.append(places(kernel, strides, 0))
        elif isinstance(i, Cast):
            values.append(values[i.value].astype(i.dtype))
        elif isinstance(i, Apply):
            with np.errstate(all="ignore"):
                values.append(OPS[i.op](*(values[j] for j in i.args), **dict(i.attrs)).astype(i.dtype))
        elif isinstance(i, Reduce):
            values.append(_reduced(i, values[i.value], inner))
        else:
            stores.append((i, values[i.value]))
            values.append(None)
    for store, value in stores:
        buffers[store.slot][places(kernel, store.strides, store.offset)] = value


def _reduced(i: Reduce, value: np.ndarray, inner: tuple[int, ...]) -> np.ndarray:
    wide = np.float64 if i.dtype == np.float32 and i.kind in ("sum", "prod") else i.dtype
    with np.errstate(all="ignore"):
        out = REDUCTIONS[i.kind](value.astype(wide), axis=inner, keepdims=True).astype(i.dtype)
    return np.broadcast_to(out, value.shape)
