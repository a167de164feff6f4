"""Conversion between plain and channels-last order with all threads."""

from __future__ import annotations

import numpy as np

from flambeau.backends.onednn.memory import empty, ordered, pointer
from flambeau.backends.onednn.primitive import Cache, Converter

between = Cache(lambda shape, from_last, to_last: Converter.between(shape, from_last, to_last))
"""The converter of an (N, C, spatial…) array from one order to the other; None where they are the same memory."""


def channels_last(x: np.ndarray) -> np.ndarray:
    """The same values, channels-last in memory; the array itself if it is already."""
    return _to(x, True)


def contiguous(x: np.ndarray) -> np.ndarray:
    """The same values in plain order; the array itself if it is already."""
    return _to(x, False)


def _to(x: np.ndarray, last: bool) -> np.ndarray:
    x, is_last = ordered(x)
    if is_last == last:
        return x
    out = empty(x.shape, last)
    converter = between(x.shape, is_last, last)
    if converter is None:  # one channel or one position: both orders are the same memory
        return x
    converter.run(pointer(x), pointer(out))
    return out
