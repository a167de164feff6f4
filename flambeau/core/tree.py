"""Nested structures of tuples, lists and dicts: their leaves, and building them again."""

from __future__ import annotations

from typing import Any


def leaves(tree: Any) -> list[Any]:
    """The leaves from left to right; None is a leaf."""
    if isinstance(tree, dict):
        return [leaf for value in tree.values() for leaf in leaves(value)]
    if isinstance(tree, (list, tuple)):
        return [leaf for value in tree for leaf in leaves(value)]
    return [tree]


def map_leaves(function: Any, tree: Any, *others: Any) -> Any:
    """The same structure with `function(leaf, *corresponding leaves of others)` at each leaf."""
    if isinstance(tree, dict):
        made = {key: map_leaves(function, value, *(o[key] for o in others)) for key, value in tree.items()}
        return made if type(tree) is dict else type(tree)(made)
    if isinstance(tree, (list, tuple)):
        items = [map_leaves(function, value, *(o[i] for o in others)) for i, value in enumerate(tree)]
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    return function(tree, *others)


def rebuild(tree: Any, values: Any) -> Any:
    """The same structure with other leaves, taken in order."""
    supply = iter(values)
    return map_leaves(lambda leaf: next(supply), tree)


def broadcast_prefix(prefix: Any, tree: Any) -> list[Any]:
    """One value per leaf of `tree` from a structure that may stop early (its value then holds for all below)."""
    if isinstance(tree, dict) and isinstance(prefix, dict):
        return [v for key, value in tree.items() for v in broadcast_prefix(prefix[key], value)]
    if isinstance(tree, (list, tuple)) and isinstance(prefix, (list, tuple)):
        if len(prefix) != len(tree):
            raise ValueError(f"structures do not fit: {len(prefix)} entries for {len(tree)}")
        return [v for p, value in zip(prefix, tree) for v in broadcast_prefix(p, value)]
    return [prefix] * len(leaves(tree))
