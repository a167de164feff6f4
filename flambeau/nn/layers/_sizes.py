"""Numbers that mean a size per dimension."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["_ntuple", "_pair", "_quadruple", "_single", "_triple"]


def _ntuple(n: int, name: str = "parse") -> Callable[[Any], tuple]:
    """A function that turns a number into a tuple of n, and an iterable into a tuple."""

    def parse(value: Any) -> tuple:
        return tuple(value) if isinstance(value, Iterable) else (value,) * n

    parse.__name__ = name
    return parse


_single = _ntuple(1, "_single")
_pair = _ntuple(2, "_pair")
_triple = _ntuple(3, "_triple")
_quadruple = _ntuple(4, "_quadruple")


def reversed_twice(sizes: tuple) -> tuple:
    """(h, w) -> (w, w, h, h): the order in which `pad` takes the same padding on both sides."""
    return tuple(size for size in reversed(sizes) for _ in range(2))
