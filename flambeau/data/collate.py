"""From a list of samples to a batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core.tensor import Tensor, plain, wrap
from flambeau.ops.creation import as_tensor, tensor

__all__ = ["collate", "default_collate", "default_collate_fn_map", "default_convert"]

_EXPECTED = "batch must contain tensors, numpy arrays, numbers, dicts or lists"


def default_convert(data: Any) -> Any:
    """NumPy arrays, also inside dicts, lists and tuples, as tensors; everything else as it is."""
    if isinstance(data, Tensor):
        return data
    if isinstance(data, (np.ndarray, np.generic)):
        return data if data.dtype.kind in "SUO" else as_tensor(data)
    if isinstance(data, Mapping):
        return _like_mapping(data, {key: default_convert(data[key]) for key in data})
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(default_convert(item) for item in data))
    if isinstance(data, tuple):
        return [default_convert(item) for item in data]
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return _like_sequence(data, [default_convert(item) for item in data])
    return data


def default_collate(batch: list) -> Any:
    """One batch from a list of samples: tensors, arrays and numbers gain a first dimension; dicts, tuples and lists
    keep their shape; text stays a list.

    RuntimeError for tensors of different shapes or samples of different lengths, TypeError for types it does not know.
    """
    return collate(batch, collate_fn_map=default_collate_fn_map)


def collate(batch: Any, *, collate_fn_map: dict[Any, Callable] | None = None) -> Any:
    """`default_collate` with a table of one's own: type (or tuple of types) -> `function(batch, *, collate_fn_map)`."""
    first = batch[0]
    kind = type(first)
    if collate_fn_map is not None:
        if kind in collate_fn_map:
            return collate_fn_map[kind](batch, collate_fn_map=collate_fn_map)
        for known, function in collate_fn_map.items():
            if isinstance(first, known):
                return function(batch, collate_fn_map=collate_fn_map)
    if isinstance(first, Mapping):
        columns = {key: collate([sample[key] for sample in batch], collate_fn_map=collate_fn_map) for key in first}
        return _like_mapping(first, columns)
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return kind(*(collate(column, collate_fn_map=collate_fn_map) for column in _columns(batch)))
    if isinstance(first, Sequence):
        columns_list = [collate(column, collate_fn_map=collate_fn_map) for column in _columns(batch)]
        return columns_list if isinstance(first, tuple) else _like_sequence(first, columns_list)
    raise TypeError(_unknown(kind))


def _unknown(kind: type) -> str:
    message = f"default_collate: {_EXPECTED}; found {kind}"
    if kind.__module__.partition(".")[0] == "PIL":
        message += ". Images become tensors with a transform: add transforms.ToTensor() to the dataset's transform"
    return message


def _columns(batch: list) -> list[tuple]:
    sizes = [len(sample) for sample in batch]
    if len(set(sizes)) > 1:
        raise RuntimeError(f"each element in list of batch should be of equal size, got {min(sizes)} and {max(sizes)}")
    return list(zip(*batch, strict=True))


def _like_mapping(sample: Mapping, columns: dict) -> Any:
    """The columns in a mapping of the sample's type; a plain dict where that cannot be made."""
    try:
        if isinstance(sample, MutableMapping):
            made = copy.copy(sample)  # keeps further attributes of the sample
            made.update(columns)
            return made
        return type(sample)(columns)  # type: ignore[call-arg]
    except TypeError:
        return columns


def _like_sequence(sample: Sequence, columns: list) -> Any:
    try:
        if isinstance(sample, MutableSequence):
            made = copy.copy(sample)
            for position, column in enumerate(columns):
                made[position] = column
            return made
        return type(sample)(columns)  # type: ignore[call-arg]
    except TypeError:  # range, for one, is not made from a list
        return columns


def collate_tensors(batch: list, *, collate_fn_map: Any = None) -> Tensor:
    """Stacked along a new first dimension."""
    arrays = _same_shape(batch)
    if arrays is None:
        from flambeau.ops.joining import stack  # gradients and promotion are its business

        return stack(batch, 0)
    if not arrays[0].shape:
        return wrap(np.array(arrays, arrays[0].dtype))
    return wrap(np.concatenate(arrays).reshape(len(arrays), *arrays[0].shape))


def _same_shape(batch: list) -> list[np.ndarray] | None:
    """The values of tensors of one shape, None unless they have one dtype and no history. RuntimeError for others."""
    first = batch[0]
    arrays = [plain(t) for t in batch]
    shape, dtype = arrays[0].shape, arrays[0].dtype
    for position, array in enumerate(arrays):
        if array.shape != shape:
            raise RuntimeError(f"stack expects each tensor to be equal size, but got {list(shape)} at entry 0 and "
                               f"{list(array.shape)} at entry {position}")
    if any(t._requires_grad for t in batch) or first.is_meta or any(array.dtype != dtype for array in arrays):
        return None
    return arrays


def collate_arrays(batch: list, *, collate_fn_map: Any) -> Any:
    """NumPy arrays: as tensors. TypeError for text and objects."""
    if batch[0].dtype.kind in "SUO":
        raise TypeError(f"default_collate: {_EXPECTED}; found {batch[0].dtype}")
    return collate([as_tensor(array) for array in batch], collate_fn_map=collate_fn_map)


def collate_scalars(batch: list, *, collate_fn_map: Any = None) -> Tensor:
    """NumPy scalars: a tensor of their type."""
    if batch[0].dtype.kind in "SUO":
        raise TypeError(f"default_collate: {_EXPECTED}; found {batch[0].dtype}")
    return wrap(np.array(batch))


def collate_floats(batch: list, *, collate_fn_map: Any = None) -> Tensor:
    """Python floats: float64."""
    return tensor(batch, dtype=dtypes.float64)


def collate_ints(batch: list, *, collate_fn_map: Any = None) -> Tensor:
    """Python integers: int64; bools: bool."""
    return tensor(batch)


def collate_text(batch: list, *, collate_fn_map: Any = None) -> list:
    """Text stays a list."""
    return batch


default_collate_fn_map: dict[Any, Callable] = {
    Tensor: collate_tensors,
    np.ndarray: collate_arrays,
    (np.bool_, np.number, np.object_): collate_scalars,
    float: collate_floats,
    int: collate_ints,
    str: collate_text,
    bytes: collate_text,
}


# ---- in workers ----------------------------------------------------------------------------------

_LARGE = 16384  # bytes of a sample whose second copy is worth avoiding
_own = dict(default_collate_fn_map)


class Stacked:
    """Contiguous arrays of one shape and dtype that become one tensor, along a new first dimension, on their way."""

    __slots__ = ("arrays",)

    def __init__(self, arrays: list[np.ndarray]):
        self.arrays = arrays


def in_worker(collate_fn: Callable) -> Callable:
    """What a worker calls for `collate_fn`: `default_collate` leaves large tensors to be put together on their way."""
    return _collate_for_transport if collate_fn is default_collate else collate_fn


def _collate_for_transport(batch: list) -> Any:
    """`default_collate`, where nobody else's code would come to see what is not a tensor yet."""
    if default_collate_fn_map != _own or not _is_plain(batch[0]):
        return default_collate(batch)
    return collate(batch, collate_fn_map=_transport_fn_map)


def _is_plain(sample: Any) -> bool:
    """Whether a sample is made of Python's own containers."""
    if type(sample) is dict:
        return all(map(_is_plain, sample.values()))
    if type(sample) in (list, tuple):
        return all(map(_is_plain, sample))
    return not isinstance(sample, (Mapping, Sequence)) or isinstance(sample, (str, bytes))


def _stacked_later(batch: list, *, collate_fn_map: Any = None) -> Any:
    """`collate_tensors` for a batch that is only sent."""
    if batch[0]._array.nbytes >= _LARGE:
        arrays = _same_shape(batch)
        if arrays is not None and all(type(array) is np.ndarray and array.flags.c_contiguous for array in arrays):
            return Stacked(arrays)
    return collate_tensors(batch, collate_fn_map=collate_fn_map)


_transport_fn_map = {**_own, Tensor: _stacked_later}
