"""Questions about tensors and settings: `is_tensor`, `numel`, `result_type`, thread counts."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.backends import threads
from flambeau.core import dtype as dtypes
from flambeau.core import printing
from flambeau.core.storage import Storage, TypedStorage
from flambeau.core.tensor import Tensor


def is_tensor(obj: Any) -> bool:
    """Whether the object is a tensor."""
    return isinstance(obj, Tensor)


def is_storage(obj: Any) -> bool:
    """Whether the object is a storage."""
    return isinstance(obj, (Storage, TypedStorage))


def is_floating_point(input: Tensor) -> bool:
    """Whether the dtype is a floating type."""
    if not isinstance(input, Tensor):
        raise TypeError(
            f"is_floating_point(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}"
        )
    return input.is_floating_point()


def is_complex(input: Tensor) -> bool:
    """Whether the dtype is complex."""
    return input.is_complex()


def is_signed(input: Tensor) -> bool:
    """Whether the dtype has negative values."""
    return input.is_signed()


def is_conj(input: Tensor) -> bool:
    """False: conjugates are computed at once."""
    return False


def is_inference(input: Tensor) -> bool:
    """Whether the tensor was made in inference mode."""
    return input.is_inference()


def is_nonzero(input: Tensor) -> bool:
    """Whether the single element is not zero. RuntimeError for other sizes."""
    if input._array.size != 1:
        raise RuntimeError(
            f"Boolean value of Tensor with {'no values' if input._array.size == 0 else 'more than one value'} is "
            f"ambiguous"
        )
    return bool(input)


def is_same_size(input: Tensor, other: Tensor) -> bool:
    """Whether both have the same shape."""
    return input._array.shape == other._array.shape


def numel(input: Tensor) -> int:
    """Number of elements."""
    if not isinstance(input, Tensor):
        raise TypeError(f"numel(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    return input.numel()


def get_device(input: Tensor) -> int:
    """-1: values are on the CPU."""
    return input.get_device()


def result_type(tensor1: Any, tensor2: Any) -> dtypes.dtype:
    """The dtype of an operation on two tensors or numbers."""
    both = (tensor1, tensor2)
    arrays = [t._array for t in both if isinstance(t, Tensor)]
    return dtypes.result_of(arrays, [t for t in both if not isinstance(t, Tensor)])


def typename(obj: Any) -> str:
    """The legacy type name of a tensor, the class path of anything else."""
    if isinstance(obj, Tensor):
        return obj.type()
    kind = obj if isinstance(obj, type) else type(obj)
    return f"{kind.__module__}.{kind.__qualname__}" if kind.__module__ != "builtins" else kind.__qualname__


def set_num_threads(num: int) -> None:
    """How many threads oneDNN, BLAS and our own kernels use. RuntimeError unless positive."""
    if not isinstance(num, (int, np.integer)) or isinstance(num, bool):
        raise TypeError(f"set_num_threads expects an int, but got {type(num).__name__}")
    if num < 1:
        raise RuntimeError("set_num_threads expects a positive integer")
    threads.set_num_threads(int(num))


def get_num_threads() -> int:
    """How many threads operations may use."""
    return threads.get_num_threads()


set_printoptions = printing.set_printoptions
