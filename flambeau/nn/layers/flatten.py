"""Flatten and Unflatten."""

from __future__ import annotations

from typing import Any

from flambeau.core.tensor import Tensor
from flambeau.nn.module import Module

__all__ = ["Flatten", "Unflatten"]


class Flatten(Module):
    """Makes one dimension of start_dim … end_dim."""

    __constants__ = ["start_dim", "end_dim"]

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Tensor) -> Tensor:
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Gives dimension `dim` (a number or a name) the shape `unflattened_size`."""

    __constants__ = ["dim", "unflattened_size"]

    def __init__(self, dim: int | str, unflattened_size: Any) -> None:
        super().__init__()
        if isinstance(dim, int):
            self._require_sizes(unflattened_size)
        elif isinstance(dim, str):
            self._require_named_sizes(unflattened_size)
        else:
            raise TypeError("invalid argument type for dim parameter")
        self.dim = dim
        self.unflattened_size = unflattened_size

    @staticmethod
    def _require_named_sizes(sizes: Any) -> None:
        if not isinstance(sizes, tuple):
            raise TypeError(f"unflattened_size must be a tuple of tuples, but found type {type(sizes).__name__}")
        for i, item in enumerate(sizes):
            if not isinstance(item, tuple):
                raise TypeError("unflattened_size must be tuple of tuples, but found element of type "
                                f"{type(item).__name__} at pos {i}")

    @staticmethod
    def _require_sizes(sizes: Any) -> None:
        if not isinstance(sizes, (tuple, list)):
            raise TypeError(f"unflattened_size must be a tuple of ints, but found type {type(sizes).__name__}")
        for i, item in enumerate(sizes):
            if not isinstance(item, int):
                raise TypeError("unflattened_size must be tuple of ints, but found element of type "
                                f"{type(item).__name__} at pos {i}")

    def forward(self, input: Tensor) -> Tensor:
        return input.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
