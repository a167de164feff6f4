"""Whole derivatives of functions: jacobian, hessian, and their products with vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.autograd.engine import grad
from flambeau.autograd.modes import enable_grad
from flambeau.core.tensor import Tensor, constant, wrap
from flambeau.ops.joining import stack


def _as_tuple(values: Any, what: str) -> tuple[bool, tuple[Tensor, ...]]:
    if isinstance(values, Tensor):
        return False, (values,)
    values = tuple(values)
    for i, v in enumerate(values):
        if not isinstance(v, Tensor):
            raise TypeError(
                f"The {what} given to this function must be either a Tensor or a tuple of Tensors but the value at "
                f"index "
                f"{i} has type {type(v)}."
            )
    return True, values


def _fresh(inputs: tuple[Tensor, ...], create_graph: bool) -> tuple[Tensor, ...]:
    if create_graph:
        return tuple(x.view_as(x) if x._requires_grad else x.detach().requires_grad_() for x in inputs)
    return tuple(x.detach().requires_grad_() for x in inputs)


def _zeros(t: Tensor) -> Tensor:
    return constant(np.zeros(t._array.shape, t._array.dtype))


def _unit(t: Tensor, place: Any) -> Tensor:
    seed = np.zeros(t._array.shape, t._array.dtype)
    seed[place] = 1
    return wrap(seed)


def _pack(several: bool, values: Any) -> Any:
    return tuple(values) if several else values[0]


def _gradients(
    outs: Any, xs: Any, seeds: Any, strict: bool, create_graph: bool, retain_graph: bool | None = None
) -> tuple[Tensor | None, ...]:
    """The gradients of those `outs` that have a history, None where there is none; with `strict` that is an error."""
    for i, out in enumerate(outs):
        if strict and not out._requires_grad:
            raise RuntimeError(
                f"Output {i} of the user-provided function does not require gradients. The outputs must be computed in "
                "a differentiable manner from the input when running in strict mode."
            )
    live = [i for i, out in enumerate(outs) if out._requires_grad]
    if not live:
        return (None,) * len(xs)
    found = grad(
        [outs[i] for i in live],
        xs,
        None if seeds is None else [seeds[i] for i in live],
        retain_graph=retain_graph,
        create_graph=create_graph,
        allow_unused=True,
    )
    for i, g in enumerate(found):
        if strict and g is None:
            raise RuntimeError(
                f"The output of the user-provided function is independent of input {i}. This is not allowed in strict "
                "mode."
            )
    return found


def vjp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """(outputs, v · J): the product of a vector with the Jacobian."""
    several_in, xs = _as_tuple(inputs, "inputs")
    with enable_grad():
        xs = _fresh(xs, create_graph)
        several_out, outs = _as_tuple(func(*xs), "outputs")
        if v is None:
            if len(outs) != 1 or outs[0].numel() != 1:
                raise RuntimeError(
                    "The vector v can only be None if the user-provided function returns a single Tensor with a "
                    "single element."
                )
            vs: Any = None
        else:
            vs = _as_tuple(v, "v")[1]
        found = _gradients(outs, xs, vs, strict, create_graph)
    results = [_zeros(x) if g is None else g for x, g in zip(xs, found, strict=True)]
    values = outs if create_graph else [o.detach() for o in outs]
    return _pack(several_out, values), _pack(several_in, results)


def jvp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """(outputs, J · v): the product of the Jacobian with a vector, by differentiating v · J with respect to v."""
    _, xs = _as_tuple(inputs, "inputs")
    with enable_grad():
        xs = _fresh(xs, create_graph)
        if v is None:
            if len(xs) != 1 or xs[0].numel() != 1:
                raise RuntimeError(
                    "The vector v can only be None if the input to the user-provided function is a single Tensor with "
                    "a single element."
                )
            vs: tuple[Tensor, ...] = tuple(constant(np.ones(x._array.shape, x._array.dtype)) for x in xs)
        else:
            vs = _as_tuple(v, "v")[1]
        several_out, outs = _as_tuple(func(*xs), "outputs")
        seeds = [_zeros(o).requires_grad_() for o in outs]
        first = _gradients(outs, xs, seeds, strict, create_graph=True)
        pairs = [(g, w) for g, w in zip(first, vs, strict=True) if g is not None and g._requires_grad]
        if pairs:
            found = grad(
                [g for g, _ in pairs], seeds, [w for _, w in pairs], create_graph=create_graph, allow_unused=True
            )
        else:
            found = (None,) * len(outs)
    results = [_zeros(o) if g is None else g for o, g in zip(outs, found, strict=True)]
    values = outs if create_graph else [o.detach() for o in outs]
    return _pack(several_out, values), _pack(several_out, results)


def jacobian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """All partial derivatives: for each output and input a tensor of shape output.shape + input.shape."""
    several_in, xs = _as_tuple(inputs, "inputs")
    with enable_grad():
        xs = _fresh(xs, create_graph)
        several_out, outs = _as_tuple(func(*xs), "outputs")
        table = []
        for out in outs:
            columns: list[list[Tensor]] = [[] for _ in xs]
            for place in np.ndindex(out._array.shape):
                found = _gradients([out], xs, [_unit(out, place)], strict, create_graph, retain_graph=True)
                for column, x, g in zip(columns, xs, found, strict=True):
                    column.append(_zeros(x) if g is None else g)
            table.append(
                [
                    stack(c).reshape(out._array.shape + x._array.shape)
                    if c
                    else constant(np.zeros(out._array.shape + x._array.shape, x._array.dtype))
                    for c, x in zip(columns, xs, strict=True)
                ]
            )
    rows = [_pack(several_in, row) for row in table]
    return _pack(several_out, rows)


def hessian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """Second derivatives of a function with one scalar output."""
    several_in, xs = _as_tuple(inputs, "inputs")

    def gradient(*values: Tensor) -> Any:
        out = func(*values)
        if not isinstance(out, Tensor) or out.numel() != 1:
            raise RuntimeError("The function given to hessian should return a single Tensor with a single element")
        found = _gradients([out.reshape(())], values, None, strict, create_graph=True)
        return tuple(_zeros(x) if g is None else g for x, g in zip(values, found, strict=True))

    table = jacobian(gradient, xs, create_graph=create_graph, strict=strict)
    return table if several_in else table[0][0]


def vhp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """(output, v · H) of a function with one scalar output."""
    several_in, xs = _as_tuple(inputs, "inputs")
    with enable_grad():
        xs = _fresh(xs, create_graph)
        out = func(*xs)
        ones = (constant(np.ones(x._array.shape, x._array.dtype)) for x in xs)
        vs = _as_tuple(v, "v")[1] if v is not None else tuple(ones)
        first = _gradients([out], xs, None, strict, create_graph=True)
        pairs = [(g, w) for g, w in zip(first, vs, strict=True) if g is not None and g._requires_grad]
        found: Any = (None,) * len(xs)
        if pairs:
            found = grad([g for g, _ in pairs], xs, [w for _, w in pairs], create_graph=create_graph, allow_unused=True)
    results = [_zeros(x) if g is None else g for x, g in zip(xs, found, strict=True)]
    return out if create_graph else out.detach(), _pack(several_in, results)


def hvp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """(output, H · v); the Hessian is symmetric, so this is `vhp`."""
    return vhp(func, inputs, v, create_graph, strict)
