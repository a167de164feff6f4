"""Nested arguments and results: the tensors inside of dicts, lists, tuples and dataclasses, and the rest around
them."""

from __future__ import annotations

import dataclasses
from typing import Any

from flambeau.core.tensor import Tensor

_PLAIN = (int, float, complex, str, bytes, bool, type(None))


class Hole:
    """The place of a tensor in a template."""

    __slots__ = ("index",)

    def __init__(self, index: int):
        self.index = index

    def __eq__(self, other: Any) -> bool:
        return type(other) is Hole and other.index == self.index

    def __hash__(self) -> int:
        return hash(("hole", self.index))


def split(tree: Any, tensors: list[Tensor]) -> Any:
    """A hashable description of a tree of arguments; its tensors are appended to `tensors`, each once.

    Objects of other kinds are described by themselves (identity).
    """
    if isinstance(tree, Tensor):
        for index, known in enumerate(tensors):
            if known is tree:
                return Hole(index)
        tensors.append(tree)
        return Hole(len(tensors) - 1)
    kind = type(tree)
    if isinstance(tree, _PLAIN):
        return (kind, tree)
    if kind in (list, tuple) or isinstance(tree, tuple):
        return (kind, *[split(item, tensors) for item in tree])
    if isinstance(tree, dict):
        return (kind, *[(key, split(item, tensors)) for key, item in tree.items()])
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return (kind, *[(f.name, split(getattr(tree, f.name), tensors)) for f in dataclasses.fields(tree)])
    return Same(tree)


class Same:
    """An object that stands for itself only; kept alive, so that its identity is not given away."""

    __slots__ = ("object",)

    def __init__(self, thing: Any):
        self.object = thing

    def __eq__(self, other: Any) -> bool:
        return type(other) is Same and other.object is self.object

    def __hash__(self) -> int:
        return id(self.object)


def rebuild(tree: Any, replace: Any, leaf: Any = None) -> Any:
    """The same nesting with each tensor replaced by replace(tensor); other leaves, of which `leaf` hears, as they
    are."""
    if isinstance(tree, Tensor):
        return replace(tree)
    kind = type(tree)
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return kind(*[rebuild(item, replace, leaf) for item in tree])
    if kind in (list, tuple):
        return kind(rebuild(item, replace, leaf) for item in tree)
    if isinstance(tree, dict):
        made = {key: rebuild(item, replace, leaf) for key, item in tree.items()}
        return made if kind is dict else kind(made)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return dataclasses.replace(
            tree, **{f.name: rebuild(getattr(tree, f.name), replace, leaf) for f in dataclasses.fields(tree)}
        )
    if leaf is not None:
        leaf(tree)
    return tree
