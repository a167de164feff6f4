"""All parameters as one vector, and back."""

from __future__ import annotations

from collections.abc import Iterable

from flambeau.core.tensor import Tensor
from flambeau.ops.joining import cat

__all__ = ["parameters_to_vector", "vector_to_parameters"]


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """The elements of all parameters, one after the other, as a 1-d tensor."""
    return cat([parameter.reshape(-1) for parameter in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Gives the parameters the slices of `vec`, whose memory they then share. Raises TypeError for other types."""
    if not isinstance(vec, Tensor):
        raise TypeError(f"expected torch.Tensor, but got: {type(vec).__name__}")
    first = 0
    for parameter in parameters:
        count = parameter.numel()
        parameter.data = vec[first:first + count].view_as(parameter).data
        first += count
