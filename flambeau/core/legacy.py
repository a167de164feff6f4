"""`FloatTensor(2, 3)`, `LongTensor([1, 2])`: constructors from before dtypes had names of their own."""

from __future__ import annotations

from typing import Any

from flambeau.core import dtype as dtypes
from flambeau.core.tensor import Tensor, legacy_new


class _LegacyMeta(type):
    dtype: dtypes.dtype

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor) and instance.dtype is cls.dtype

    def __repr__(cls) -> str:
        return f"<class 'torch.{cls.__name__}'>"


def _legacy(name: str, dtype: dtypes.dtype) -> Any:
    def __new__(cls: Any, *data: Any, device: Any = None) -> Tensor:
        return legacy_new(Tensor, data, dtype, device)

    doc = f"Sizes give a {dtype.name} tensor of uninitialised memory, a sequence or array gives its values."
    return _LegacyMeta(name, (), {"__new__": __new__, "dtype": dtype, "__doc__": doc, "__module__": "torch"})


TYPES: dict[str, Any] = {
    name: _legacy(name, dtype)
    for name, dtype in {
        "FloatTensor": dtypes.float32,
        "DoubleTensor": dtypes.float64,
        "HalfTensor": dtypes.float16,
        "BFloat16Tensor": dtypes.bfloat16,
        "ByteTensor": dtypes.uint8,
        "CharTensor": dtypes.int8,
        "ShortTensor": dtypes.int16,
        "IntTensor": dtypes.int32,
        "LongTensor": dtypes.int64,
        "BoolTensor": dtypes.bool,
    }.items()
}


def set_default_tensor_type(t: Any) -> None:
    """The legacy way to set the default dtype: a type such as `DoubleTensor` or its name."""
    if isinstance(t, str):
        t = TYPES[t.rpartition(".")[2]]
    dtypes.set_default_dtype(t.dtype)
