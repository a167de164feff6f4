"""Weights in the order the kernel wants, kept per version of the weight."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from flambeau.backends.onednn.memory import pointer
from flambeau.backends.onednn.primitive import Converter, Workspace

# Owner of the weight's memory -> {converter: (version, reordered copy)}. An owner that dies takes its copies along.
_copies: weakref.WeakKeyDictionary[Any, dict[Converter, tuple[Any, np.ndarray]]] = weakref.WeakKeyDictionary()


def packed(converter: Converter | None, w: np.ndarray, space: Workspace, key: Any) -> int:
    """Address of the weight as the kernel wants it; with key (owner, version) the copy is kept for the next call."""
    if converter is None:
        return space.hold(w)
    if key is None:
        return space.take(converter, w)
    owner, version = key
    copies = _copies.setdefault(owner, {})
    found = copies.get(converter)
    if found is None or found[0] != version:
        buffer = np.empty(converter.size + 64, np.uint8) if found is None else found[1]
        converter.run(pointer(w), _aligned(buffer))
        found = copies[converter] = (version, buffer)
    return _aligned(found[1])


def _aligned(buffer: np.ndarray) -> int:
    return -(-pointer(buffer) // 64) * 64
