"""Devices and the placeholder arrays of the `meta` device, which have a shape and a type but no memory."""

from __future__ import annotations

from typing import Any

import numpy as np

_KNOWN = (
    "cpu",
    "cuda",
    "meta",
    "mps",
    "xpu",
    "mkldnn",
    "ipu",
    "hpu",
    "mtia",
    "privateuseone",
    "xla",
    "vulkan",
    "hip",
    "ve",
    "lazy",
)


class device:
    """Where a tensor lives: `device("cpu")`, `device("cuda:1")`, `device("cuda", 1)`, `device("meta")`."""

    __slots__ = ("type", "index")
    type: str
    index: int | None

    def __init__(self, type: Any, index: int | None = None):
        if isinstance(type, device):
            self.type, self.index = type.type, type.index
            return
        if isinstance(type, int):
            type, index = "cuda", type
        if not isinstance(type, str):
            raise TypeError(f"device(): expected a device string such as 'cpu' or 'cuda:0', got {type!r}")
        name, colon, number = type.partition(":")
        if name not in _KNOWN:
            raise RuntimeError(
                f"Expected one of cpu, cuda, ipu, xpu, mkldnn, opengl, opencl, ideep, hip, ve, fpga, maia, xla, lazy, "
                f"vulkan, mps, meta, hpu, mtia, privateuseone device type at start of device string: {type}"
            )
        if colon:
            if index is not None:
                raise RuntimeError(
                    f"type (string) must not include an index because index was passed explicitly: {type}"
                )
            if not number.isdigit():
                raise RuntimeError(f"Invalid device string: '{type}'")
            index = int(number)
        if index is not None and index < 0:
            raise RuntimeError(f"Device index must not be negative, got {index}")
        self.type = name
        self.index = index

    def __repr__(self) -> str:
        suffix = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{suffix})"

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, device) and self.type == other.type and self.index == other.index

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __reduce__(self) -> Any:
        return (device, (self.type,)) if self.index is None else (device, (self.type, self.index))

    def __enter__(self) -> device:
        _context.append(check_device(self))
        return self

    def __exit__(self, *error: Any) -> None:
        _context.pop()


CPU = device("cpu")
META = device("meta")
_context: list[device] = []
_default = CPU


def set_default(where: Any) -> None:
    """Where tensors are made outside of a `with device(...)` block when none is given; None: the CPU."""
    global _default
    _default = CPU if where is None else check_device(where)


def check_device(where: Any) -> device:
    """The device meant by a string, device or None; PyTorch's error for one that this build cannot use."""
    if where is None:
        return _context[-1] if _context else _default
    d = where if isinstance(where, device) else device(where)
    if d.type == "cpu":
        return CPU
    if d.type == "meta":
        return META
    if d.type == "cuda":
        raise AssertionError("Torch not compiled with CUDA enabled")
    raise RuntimeError(f"device '{d}' is not available; flambeau runs on 'cpu' and 'meta'")


class MetaArray(np.ndarray):
    """An array without memory of its own (stride 0 everywhere) that NumPy functions turn into more of its kind."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        if out is not None:
            return out[0] if len(out) == 1 else out
        arrays = [np.empty((1,) * x.ndim, x.dtype) if isinstance(x, np.ndarray) else x for x in inputs]
        if method != "__call__" or ufunc.signature is not None:
            real = [np.zeros(x.shape, x.dtype) if isinstance(x, np.ndarray) else x for x in inputs]
            return as_meta(getattr(ufunc, method)(*real, **options))
        sample = ufunc(*arrays, **options)
        shape = np.broadcast_shapes(*(x.shape for x in inputs if isinstance(x, np.ndarray)))
        if isinstance(sample, tuple):
            return tuple(meta_array(shape, s.dtype) for s in sample)
        return meta_array(shape, sample.dtype)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Writing changes nothing: there are no values."""

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return as_meta(function(*_with_memory(args), **_with_memory(kwargs)))


def meta_array(shape: Any, dtype: Any) -> MetaArray:
    """A placeholder of this shape and NumPy dtype."""
    return np.broadcast_to(np.zeros((), dtype), shape).view(MetaArray)


def _with_memory(value: Any) -> Any:
    if isinstance(value, MetaArray):
        return np.zeros(value.shape, value.dtype)
    if isinstance(value, (list, tuple)):
        return type(value)(_with_memory(item) for item in value)
    if isinstance(value, dict):
        return {key: _with_memory(item) for key, item in value.items()}
    return value


def as_meta(value: Any) -> Any:
    """Arrays as placeholders of their shape and type, also inside lists and tuples."""
    if isinstance(value, (np.ndarray, np.generic)):
        return meta_array(value.shape, value.dtype)
    if isinstance(value, (list, tuple)):
        return type(value)(as_meta(item) for item in value)
    return value
