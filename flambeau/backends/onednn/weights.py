"""Weights in the order the kernel wants, kept per version of the weight."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from flambeau.backends.onednn.memory import pointer
from flambeau.backends.onednn.primitive import Converter, Workspace


class _Copy:
    """What is known of one version of a weight: the reordered copy, or None while it was seen only once."""

    __slots__ = ("array", "version", "buffer")

    def __init__(self, array: np.ndarray, version: Any, buffer: np.ndarray | None):
        self.array = weakref.ref(array)
        self.version = version
        self.buffer = buffer


# Owner of the weight's memory -> {converter: copy}. An owner that dies takes its copies along.
_copies: weakref.WeakKeyDictionary[Any, dict[Converter, _Copy]] = weakref.WeakKeyDictionary()


def packed(converter: Converter | None, w: np.ndarray, space: Workspace, key: Any) -> int:
    """Address of the weight as the kernel wants it; with key (owner, version) the copy is kept for the next call.

    A version is kept when it is used a second time: in training, where every step makes a new one, nothing is.
    """
    if converter is None:
        return space.hold(w)
    if key is None:
        return space.take(converter, w)
    owner, version = key
    copies = _copies.get(owner)
    if copies is None:
        copies = _copies[owner] = {}
    found = copies.get(converter)
    if found is None or found.version != version or found.array() is not w:
        copies[converter] = _Copy(w, version, None)
        return space.take(converter, w)
    buffer = found.buffer
    if buffer is None:  # published when it is complete: another thread may be looking
        buffer = np.empty(converter.size + 64, np.uint8)
        converter.run(pointer(w), _aligned(buffer))
        copies[converter] = _Copy(w, version, buffer)
    space.hold(buffer)
    return _aligned(buffer)


def _aligned(buffer: np.ndarray) -> int:
    return -(-pointer(buffer) // 64) * 64
