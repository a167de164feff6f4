"""Sequences of different lengths: padded, packed, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from flambeau.core.dtype import int64
from flambeau.core.tensor import Tensor, constant
from flambeau.ops.creation import as_tensor

__all__ = ["PackedSequence", "invert_permutation", "pack_padded_sequence", "pack_sequence", "pad_packed_sequence",
           "pad_sequence", "unpack_sequence", "unpad_sequence"]


class PackedSequence_(NamedTuple):
    """The fields of a packed sequence."""

    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(PackedSequence_):
    """The elements of a batch of sequences by time step, without padding.

    data (Σ lengths, *), batch_sizes (longest length) on the CPU: how many sequences reach each step; sorted_indices
    puts the sequences in order of falling length, unsorted_indices puts them back.
    """

    __slots__ = ()

    def __new__(cls, data: Tensor, batch_sizes: Tensor | None = None, sorted_indices: Tensor | None = None,
                unsorted_indices: Tensor | None = None) -> PackedSequence:
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        if batch_sizes is None:
            data, batch_sizes = data
        if batch_sizes.device.type != "cpu":
            raise ValueError("batch_sizes should always be on CPU. Instances of PackedSequence should never be created "
                             "manually. They should be instantiated by functions like pack_sequence and "
                             "pack_padded_sequences in nn.utils.rnn.")
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The same sequences on another device or of another dtype."""
        data = self.data.to(*args, **kwargs)
        if data is self.data:
            return self
        kwargs = {key: value for key, value in kwargs.items() if key not in ("device", "dtype")}
        indices = [None if index is None else index.to(data.device, **kwargs)
                   for index in (self.sorted_indices, self.unsorted_indices)]
        return type(self)(data, self.batch_sizes, *indices)

    def cpu(self) -> PackedSequence:
        """The same sequences on the CPU."""
        return self.to(device="cpu")

    def cuda(self, device: Any = "cuda") -> PackedSequence:
        """The same sequences on a CUDA device; PyTorch's error where there is none."""
        return self.to(device=device)

    def double(self) -> PackedSequence:
        """data as float64."""
        return self._with(self.data.double())

    def float(self) -> PackedSequence:
        """data as float32."""
        return self._with(self.data.float())

    def half(self) -> PackedSequence:
        """data as float16."""
        return self._with(self.data.half())

    def long(self) -> PackedSequence:
        """data as int64."""
        return self._with(self.data.long())

    def int(self) -> PackedSequence:
        """data as int32."""
        return self._with(self.data.int())

    def _with(self, data: Tensor) -> PackedSequence:
        return self if data is self.data else type(self)(data, *self[1:])

    @property
    def is_cuda(self) -> bool:
        """Whether data lies on a CUDA device."""
        return self.data.is_cuda

    def is_pinned(self) -> bool:
        """Whether data lies in page-locked memory."""
        return self.data.is_pinned()

    def pin_memory(self) -> PackedSequence:
        """The same sequences in page-locked memory."""
        return type(self)(self.data.pin_memory(), *self[1:])


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The permutation that undoes another; None for None."""
    if permutation is None:
        return None
    inverse = np.empty(permutation.numel(), np.int64)
    inverse[permutation.numpy()] = np.arange(permutation.numel())
    return constant(inverse)


def _rows(lengths: np.ndarray, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Batch sizes per step, and where the packed rows lie in a time-major (L, N, *) tensor seen as (L·N, *)."""
    steps = np.arange(lengths[0])
    sizes = (lengths[None, :] > steps[:, None]).sum(1)
    return sizes, np.concatenate([step * batch + np.arange(size) for step, size in zip(steps, sizes)])


def pack_padded_sequence(input: Tensor, lengths: Any, batch_first: bool = False,
                         enforce_sorted: bool = True) -> PackedSequence:
    """Drops the padding of (L, N, *), or (N, L, *) with batch_first.

    lengths: a list or a 1-D int64 tensor on the CPU, falling unless `enforce_sorted=False`. Raises RuntimeError for
    lengths that are not positive, not sorted, or do not fit the batch.
    """
    lengths = as_tensor(lengths, dtype=int64)
    if lengths.dim() != 1 or lengths.device.type != "cpu":
        raise RuntimeError(f"'lengths' argument should be a 1D CPU int64 tensor, but got {lengths.dim()}D "
                           f"{lengths.device} tensor")
    sorted_indices = None
    values = lengths.numpy()
    if not enforce_sorted:
        order = np.argsort(-values, kind="stable")
        values = values[order]
        sorted_indices = constant(order)
        input = input.index_select(0 if batch_first else 1, sorted_indices)
    if batch_first:
        input = input.transpose(0, 1)
    if input.numel() == 0:
        raise RuntimeError("Cannot pack empty tensors.")
    longest, batch = input.shape[:2]
    if len(values) != batch:
        raise RuntimeError(f"Expected `len(lengths)` to be equal to batch_size, but got {len(values)} "
                           f"(batch_size={batch})")
    if values.min() <= 0:
        raise RuntimeError("Length of all samples has to be greater than 0, but found an element in 'lengths' that is "
                           "<= 0")
    if (np.diff(values) > 0).any():
        raise RuntimeError("`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can "
                           "pass `enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to sidestep this "
                           "requirement if you do not need ONNX exportability.")
    if values[0] > longest:
        raise RuntimeError(f"Expected no length greater than the padded length {longest}, but got {values[0]}")
    sizes, rows = _rows(values, batch)
    data = input.reshape(longest * batch, *input.shape[2:]).index_select(0, constant(rows))
    return PackedSequence(data, constant(sizes.astype(np.int64)), sorted_indices)


def pad_packed_sequence(sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0,
                        total_length: int | None = None) -> tuple[Tensor, Tensor]:
    """The padded batch (L, N, *) of a packed one, in its original order, and the lengths (N).

    total_length: pads to at least this length; ValueError if it is shorter than the longest sequence.
    """
    data, batch_sizes, _, unsorted_indices = sequence
    sizes = batch_sizes.numpy()
    longest, batch = len(sizes), int(sizes[0])
    if total_length is not None:
        if total_length < longest:
            raise ValueError("Expected total_length to be at least the length of the longest sequence in input, but "
                             f"got total_length={total_length} and max sequence length being {longest}")
        longest = total_length
    lengths = (sizes[None, :] > np.arange(batch)[:, None]).sum(1)
    _, rows = _rows(lengths, batch)
    padded = data.new_full((longest * batch, *data.shape[1:]), padding_value)
    padded = padded.index_copy(0, constant(rows), data).reshape(longest, batch, *data.shape[1:])
    lengths = constant(lengths.astype(np.int64))
    if batch_first:
        padded = padded.transpose(0, 1)
    if unsorted_indices is not None:
        return padded.index_select(0 if batch_first else 1, unsorted_indices), lengths[unsorted_indices]
    return padded, lengths


def pad_sequence(sequences: Any, batch_first: bool = False, padding_value: float = 0.0,
                 padding_side: str = "right") -> Tensor:
    """Stacks tensors (L_i, *) into (max L, N, *), or (N, max L, *) with batch_first, padded on one side."""
    if isinstance(sequences, Tensor):
        sequences = sequences.unbind(0)
    elif not isinstance(sequences, Iterable):
        raise RuntimeError("pad_sequence: Expected iterable for input sequences, but got arg of type: "
                           f"{type(sequences)}")
    sequences = list(sequences)
    if padding_side not in ("left", "right"):
        raise RuntimeError(f"Expected padding_side to be one of left or right, but got {padding_side}.")
    if not sequences:
        raise RuntimeError("received an empty list of sequences")
    longest = max(sequence.size(0) for sequence in sequences)
    padded = sequences[0].new_full((len(sequences), longest, *sequences[0].shape[1:]), padding_value)
    for i, sequence in enumerate(sequences):
        length = sequence.size(0)
        where = slice(0, length) if padding_side == "right" else slice(longest - length, longest)
        padded[i, where] = sequence
    return padded if batch_first else padded.transpose(0, 1)


def unpad_sequence(padded_sequences: Tensor, lengths: Tensor, batch_first: bool = False) -> list[Tensor]:
    """The sequences of a padded batch, without padding."""
    if not batch_first:
        padded_sequences = padded_sequences.transpose(0, 1)
    return [sequence[:int(length)] for sequence, length in zip(padded_sequences, lengths)]


def pack_sequence(sequences: list[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Packs tensors (L_i, *), the longest first unless `enforce_sorted=False`."""
    lengths = [sequence.size(0) for sequence in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences of a packed batch, in their original order."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
