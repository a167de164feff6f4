"""Looking up rows of a table: embeddings, bags of embeddings, one-hot vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core import recording
from flambeau.core.dispatch import primitive
from flambeau.core.inplace import bump, scalar_name
from flambeau.core.tensor import Tensor, computed, constant, plain, wrap
from flambeau.ops.casting import to_dtype
from flambeau.ops.comparison import eq, ne
from flambeau.ops.pointwise import mul

__all__ = ["embedding", "embedding_bag", "embedding_renorm_", "one_hot"]


@primitive("embedding")
def _embedding(weight: Any, indices: Any) -> Any:
    return weight[indices]


@primitive("embedding_backward", grad_name="EmbeddingDenseBackwardBackward0")
def _add_rows(grad: Any, indices: Any, *, rows: int) -> Any:
    """Sum the rows of `grad` that belong to one index; a table with `rows` rows."""
    width = grad.shape[indices.ndim :]
    out = np.zeros((rows, *width), grad.dtype)
    if indices.size == 0:
        return out
    values, numbers = grad.reshape(-1, *width), indices.reshape(-1)
    order = np.argsort(numbers, kind="stable")
    sorted_numbers = numbers[order]
    starts = np.flatnonzero(np.diff(sorted_numbers, prepend=-1))
    lengths = np.diff(starts, append=len(order))
    once = order[starts[lengths == 1]]
    out[numbers[once]] = values[once]
    again = np.repeat(lengths > 1, lengths)  # adding up costs ten times as much as copying
    if again.any():
        lengths = lengths[lengths > 1]
        starts = np.cumsum(lengths) - lengths
        order = order[again]
        out[numbers[order[starts]]] = np.add.reduceat(values[order], starts, axis=0)
    return out


_embedding.vjp(weight=lambda grad, indices, shapes: _add_rows(grad, indices, rows=shapes[0][0]))
_add_rows.vjp(grad=lambda grad, indices: _embedding(grad, indices))


@primitive("scale_gradient", grad_name="EmbeddingBackward0")
def _scale_gradient(x: Any, factor: Any) -> Any:
    """The values as they are; their gradient times a constant factor."""
    return np.array(x)


_scale_gradient.vjp(x=lambda grad, factor: mul(grad, factor))
_scale_gradient.scalar(lambda m, x, factor: x)


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of `weight` that `input` numbers.

    Shapes: input (…) of integers, weight (V, D) -> (…, D).
    The row `padding_idx` gets no gradient; `scale_grad_by_freq` divides gradients by how often a row was asked for;
    `max_norm` first scales the rows asked for, in the table itself, down to that norm. `sparse` is accepted: gradients
    are dense.
    Raises: IndexError for an index out of range, RuntimeError for other index dtypes, AssertionError for a
    padding_idx outside of the table.

    >>> F.embedding(torch.tensor([1, 0]), torch.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[3.0, 4.0], [1.0, 2.0]]
    """
    if weight._array.ndim != 2:
        raise RuntimeError(f"'weight' must be 2-D, got size {list(weight._array.shape)}")
    rows = weight._array.shape[0]
    padding_idx = _row_number(padding_idx, rows)
    _check_indices(input, rows, "embedding")
    if max_norm is not None:
        embedding_renorm_(weight, input, max_norm, norm_type)
    found = _embedding(weight, input)
    if not found._requires_grad or (padding_idx is None and not scale_grad_by_freq):
        return found
    if not scale_grad_by_freq:
        return _scale_gradient(found, to_dtype(ne(input, padding_idx), weight._array.dtype).unsqueeze(-1))
    kind = weight._array.dtype
    return _scale_gradient(found, computed(lambda indices: _gradient_factors(indices, padding_idx, kind), input))


def _row_number(padding_idx: int | None, rows: int) -> int | None:
    """`padding_idx` counted from the start. AssertionError if there is no such row."""
    if padding_idx is None:
        return None
    if not -rows <= padding_idx < rows:
        raise AssertionError(f"Padding_idx must be within num_embeddings, got {padding_idx} for {rows} rows")
    return padding_idx + rows if padding_idx < 0 else padding_idx


def _check_indices(input: Tensor, rows: int, name: str) -> None:
    indices = input._array
    if indices.dtype not in (np.int64, np.int32):
        raise RuntimeError(
            f"Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; but got "
            f"{scalar_name(indices.dtype)} instead (while checking arguments for {name})"
        )
    if recording.recorder is not None:
        recording.bounded(input, 0, rows - 1, IndexError(f"index out of range in self, in a table of {rows} rows"))
    if indices.size and (indices.min() < 0 or indices.max() >= rows):
        wrong = indices[(indices < 0) | (indices >= rows)].flat[0]
        raise IndexError(f"index out of range in self: {wrong} in a table of {rows} rows")


def _gradient_factors(indices: Any, padding_idx: int | None, dtype: Any) -> Any:
    """What to multiply the gradient of each looked-up row with, (…, 1), so that frequent rows do not move more."""
    _, inverse, counts = np.unique(indices, return_inverse=True, return_counts=True)
    factors = (1 / counts[inverse.reshape(indices.shape)]).astype(dtype)
    if padding_idx is not None:
        factors[indices == padding_idx] = 0
    return factors[..., None]


def embedding_renorm_(weight: Tensor, indices: Tensor, max_norm: float, norm_type: float = 2.0) -> Tensor:
    """Scale the rows of `weight` with these numbers, in place, down to at most `max_norm`. No history is recorded."""

    def scale(table: np.ndarray, indices: np.ndarray) -> np.ndarray:
        numbers = np.unique(indices)
        rows = table[numbers]
        norms = np.linalg.norm(rows, ord=norm_type, axis=1)
        too_long = norms > max_norm
        scale = max_norm / (norms[too_long] + 1e-7)
        table[numbers[too_long]] = rows[too_long] * scale[:, None].astype(table.dtype)
        return table

    if recording.recorder is not None:  # as a write that it can see
        weight.detach().copy_(computed(lambda table, indices: scale(table.copy(), indices), weight, indices))
    else:
        scale(plain(weight), indices._array)
        bump(weight)
    return weight


# ---- bags ----------------------------------------------------------------------------------------


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """The sum, mean or maximum of the rows in each bag.

    Shapes: input (B, L), a bag in each row, or (N,) with offsets (B,) at which the bags begin (with
    `include_last_offset` the end is listed too) -> (B, D). Rows with `padding_idx` do not count; an empty bag is 0.
    `per_sample_weights`, like the input, needs mode "sum".
    Raises: ValueError for inconsistent arguments and shapes, RuntimeError for offsets that do not start at 0,
    NotImplementedError for weights in another mode, IndexError for an index out of range.
    """
    if mode not in ("sum", "mean", "max"):
        raise ValueError("mode has to be one of sum, mean or max")
    if mode == "max" and scale_grad_by_freq:
        raise ValueError("max mode does not support scaling the gradient by the frequency")
    if per_sample_weights is not None:
        _check_sample_weights(per_sample_weights, input, weight, mode)
    flat, bags, count = _bags(input, offsets, include_last_offset)
    padding_idx = _row_number(padding_idx, weight._array.shape[0])
    found = embedding(flat, weight, None, max_norm, norm_type, scale_grad_by_freq)  # (N, D)
    counts = constant(np.ones(flat._array.shape, bool)) if padding_idx is None else ne(flat, padding_idx)
    if mode == "max":
        return _bag_maximum(found, bags, counts, count)
    if per_sample_weights is not None:
        found = found * per_sample_weights.reshape(-1, 1)
    if padding_idx is not None:
        found = mul(found, counts.unsqueeze(1))
    total = _add_rows(found, bags, rows=count)
    if mode == "sum":
        return total
    return total / computed(lambda bags, counts: _sizes(bags, counts, count), bags, counts)


def _sizes(bags: np.ndarray, counts: np.ndarray, count: int) -> np.ndarray:
    """How many rows each bag has, at least 1, (B, 1)."""
    return np.maximum(np.bincount(bags[counts], minlength=count), 1)[:, None]


def _check_sample_weights(weights: Tensor, input: Tensor, weight: Tensor, mode: str) -> None:
    if weights._array.shape != input._array.shape:
        raise ValueError(
            f"embedding_bag: If per_sample_weights ({list(weights._array.shape)}) is not None, then it must have the "
            f"same shape as the input ({list(input._array.shape)})"
        )
    if mode != "sum":
        raise NotImplementedError(
            f"embedding_bag: per_sample_weights was not None. per_sample_weights is only supported for mode='sum' "
            f"(got mode='{mode}')."
        )
    if weights._array.dtype != weight._array.dtype:
        raise RuntimeError(
            f"expected weight and per_sample_weights to have the same type, got {weight.dtype} and {weights.dtype}"
        )


def _bags(input: Tensor, offsets: Tensor | None, include_last_offset: bool) -> tuple[Tensor, Tensor, int]:
    """(row numbers, the bag of each, number of bags)"""
    indices = input._array
    if indices.ndim == 2:
        if offsets is not None:
            raise ValueError("if input is 2D, then offsets has to be None: the rows are bags of equal length.")
        count, length = indices.shape
        return input.reshape(-1), constant(np.repeat(np.arange(count), length)), count
    if indices.ndim != 1:
        raise ValueError(f"input has to be 1D or 2D Tensor, but got Tensor of dimension {indices.ndim}")
    if offsets is None:
        raise ValueError("offsets has to be a 1D Tensor but got None")
    starts = offsets._array
    if starts.ndim != 1:
        raise ValueError("offsets has to be a 1D Tensor")
    if starts.size and starts[0] != 0:
        raise RuntimeError(f"offsets[0] has to be 0, the first bag begins at the start of the input; got {starts[0]}")
    if starts.size and starts[-1] > indices.size:
        raise RuntimeError(
            f"offsets[-1] can not be greater than input's length({indices.size}), but got offsets[-1] of {starts[-1]}"
        )
    recording.bounded(offsets, 0, indices.size, RuntimeError(f"offsets outside of an input of {indices.size} rows"))
    count = len(starts) - include_last_offset
    if count < 0:
        raise RuntimeError("include_last_offset: number of offset should be at least 1")
    places = np.arange(indices.size)
    return input, computed(lambda starts: np.searchsorted(starts[:count], places, side="right") - 1, offsets), count


def _bag_maximum(found: Tensor, bags: Tensor, counts: Tensor, count: int) -> Tensor:
    """For each bag and column the largest value, whose gradient goes to the first row that has it."""
    length, width = found._array.shape
    if length == 0:
        return constant(np.zeros((count, width), found._array.dtype))

    def largest(values: np.ndarray, bags: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The row that each value comes from, and which bags have none."""
        first = np.zeros((count, width), np.int64)
        empty = np.ones((count, 1), bool)
        for bag in np.unique(bags[counts]):
            members = np.flatnonzero((bags == bag) & counts)
            first[bag] = members[values[members].argmax(0)]
            empty[bag] = False
        return first, empty

    first, empty = computed(largest, found, bags, counts)
    return found.gather(0, first).masked_fill(empty, 0)


# ---- one-hot -------------------------------------------------------------------------------------


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """1 at the place that each number names, 0 elsewhere, in a new last dimension.

    Shapes: (…) of int64 -> (…, C) of int64; C is one more than the largest number unless `num_classes` is given.
    Raises: RuntimeError for other dtypes, numbers below 0 or not below `num_classes`, or an empty tensor without it.

    >>> F.one_hot(torch.tensor([2, 0])).tolist()
    [[0, 0, 1], [1, 0, 0]]
    """
    numbers = tensor._array
    if num_classes == -1:
        recording.read(tensor)
    if numbers.dtype != np.int64:
        raise RuntimeError(
            f"one_hot is only applicable to index tensor of type LongTensor, got {scalar_name(numbers.dtype)}"
        )
    if numbers.size == 0:
        if num_classes <= 0:
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
        return constant(np.zeros((*numbers.shape, num_classes), np.int64))
    if numbers.min() < 0:
        raise RuntimeError(f"Class values must be non-negative, got {numbers.min()}.")
    if num_classes == -1:
        num_classes = int(numbers.max()) + 1
    elif num_classes < 1:
        raise RuntimeError(f"num_classes should be positive, got {num_classes}")
    elif numbers.max() >= num_classes:
        raise RuntimeError(f"Class values must be smaller than num_classes, got {numbers.max()} and {num_classes}.")
    if recording.recorder is not None:
        error = RuntimeError(f"Class values must be non-negative and smaller than num_classes {num_classes}.")
        recording.bounded(tensor, 0, num_classes - 1, error)
    return eq(tensor.unsqueeze(-1), constant(np.arange(num_classes))).to(dtypes.int64)


def _sample_arguments(make: Any) -> list[Any]:
    indices = wrap(np.array([[1, 0, 1], [3, 1, 2]]))
    return [((make(4, 3), indices), {}), ((make(4, 3), constant(np.zeros((0,), np.int64))), {})]


_embedding.samples(_sample_arguments)
_add_rows.samples(lambda make: [((make(2, 3, 5), wrap(np.array([[1, 0, 1], [3, 1, 2]]))), {"rows": 4})])
_scale_gradient.samples(lambda make: [((make(3, 2), constant(np.ones((3, 1)))), {})])
