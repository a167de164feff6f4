"""Compiled calls next to eager ones: same arguments, same generator state, then everything that can be seen
compared."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

import flambeau as torch
from flambeau.compiler.api import Compiled
from flambeau.core.tensor import Tensor


def compiled_of(function: Any) -> Compiled:
    """The object that keeps the programs, for what `flambeau.compile` returns."""
    return function if isinstance(function, Compiled) else function.__dict__["_compiled"]


def entries(function: Any) -> list[Any]:
    """All records of a compiled function."""
    return [entry for found in compiled_of(function).entries.values() for entry in found]


def assert_native(function: Any, captures: int | None = 1) -> None:
    """The calls ran programs, and the function was captured this often."""
    compiled = compiled_of(function)
    assert not compiled.eager, compiled.eager
    assert captures is None or compiled.captures == captures
    assert entries(function)


def leaves(tree: Any) -> list[Any]:
    """Tensors and other leaves of a nested result, in order."""
    if isinstance(tree, dict):
        return [leaf for key in tree for leaf in leaves(tree[key])]
    if isinstance(tree, (tuple, list)):
        return [leaf for item in tree for leaf in leaves(item)]
    return [tree]


def difference(found: Any, expected: Any, tolerance: float = 1e-5) -> str | None:
    """What differs between two leaves, in words; None if nothing does."""
    if not isinstance(expected, Tensor):
        return None if found == expected or (found != found and expected != expected) else f"{found} != {expected}"
    if not isinstance(found, Tensor):
        return f"{type(found).__name__} instead of a tensor"
    for name in ("shape", "dtype", "requires_grad"):
        if getattr(found, name) != getattr(expected, name):
            return f"{name} {getattr(found, name)} != {getattr(expected, name)}"
    a, b = found.detach()._array, expected.detach()._array
    if a.dtype.kind not in "fcV":
        return None if np.array_equal(a, b) else f"values {a} != {b}"
    a, b = (x.astype(np.complex128 if x.dtype.kind == "c" else np.float64) for x in (a, b))
    finite = np.abs(np.where(np.isfinite(b), b, 0))
    scale = max(1.0, float(finite.max())) if b.size else 1.0
    if np.allclose(a, b, rtol=tolerance, atol=tolerance * scale, equal_nan=True):
        return None
    return f"values differ by {np.nanmax(np.abs(a - b)):.3g}"


def assert_same(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Nested results are equal to rounding."""
    one, other = leaves(found), leaves(expected)
    assert len(one) == len(other)
    for number, (a, b) in enumerate(zip(one, other)):
        wrong = difference(a, b, tolerance)
        assert wrong is None, f"leaf {number}: {wrong}"


def alike(function: Any, *calls: Any, tolerance: float = 1e-5, native: bool = True, captures: int | None = 1) -> Any:
    """Call the function eagerly and compiled with each tuple of arguments, from one generator state; everything that
    comes back, the arguments afterwards and the state of the generator are equal. Returns the compiled function."""
    compiled = torch.compile(function)
    for number, arguments in enumerate(calls):
        both = []
        for run in (function, compiled):
            given = copy.deepcopy(arguments)
            torch.manual_seed(number)
            result = run(*given)
            both.append((result, given, [torch.rand(3)]))
        assert_same(both[1], both[0], tolerance)
    if native:
        assert_native(compiled, captures)
    return compiled


def state_of(model: Any, optimizer: Any = None) -> list[Any]:
    """The tensors and numbers of a model, its gradients and its optimizer."""
    found = [t.clone() for t in model.state_dict().values()]
    found += [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    return found if optimizer is None else found + leaves(copy.deepcopy(optimizer.state_dict()))
