"""Functions that turn functions into their derivatives, and `vmap`: the contents of `flambeau.func`.

Every transform runs the function on fresh tensors that require grad and differentiates with `create_graph`, so that
transforms nest; a result that depends on nothing but those fresh tensors is detached before it is handed out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.autograd.engine import grad as autograd_grad
from flambeau.autograd.modes import enable_grad
from flambeau.core import tree
from flambeau.core.modes import modes
from flambeau.core.node import Node, Output
from flambeau.core.tensor import Tensor, constant, wrap
from flambeau.ops.joining import stack
from flambeau.ops.shape import _alias, _select, movedim


def _fresh(value: Any) -> Any:
    """A tensor to differentiate by: connected to an outer differentiation if there is one."""
    if not isinstance(value, Tensor) or value._array.dtype.kind not in "fcV":
        return value
    return _alias(value) if value._requires_grad else value.detach().requires_grad_()


def _settled(results: Any, own: list[Tensor]) -> Any:
    """Results without history if they depend on our fresh tensors only."""
    mine = {id(t) for t in own}

    def settle(value: Any) -> Any:
        if isinstance(value, Tensor) and value._requires_grad and not _reaches_others(value, mine):
            return value.detach()
        return value

    return tree.map_leaves(settle, results)


def _reaches_others(value: Tensor, mine: set[int]) -> bool:
    if value._node is None:
        return id(value) not in mine
    seen: set[int] = set()
    stack_: list[Any] = [value._node.owner]
    while stack_:
        node = stack_.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        for edge in node.edges:
            if isinstance(edge, Tensor):
                if id(edge) not in mine:
                    return True
            elif isinstance(edge, (Node, Output)):
                stack_.append(edge.owner)
    return False


def _chosen(args: tuple[Any, ...], argnums: Any) -> tuple[int, ...]:
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for n in numbers:
        if not -len(args) <= n < len(args):
            raise RuntimeError(f"Got argnum={n}, but only {len(args)} positional inputs")
    return tuple(n % len(args) for n in numbers)


def _run(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: Any, chosen: tuple[int, ...]
) -> tuple[Any, list[Any], list[Tensor]]:
    """Call with fresh tensors at the chosen places: (result, the fresh arguments, their tensors)."""
    fresh = [tree.map_leaves(_fresh, args[n]) for n in chosen]
    full = list(args)
    for n, value in zip(chosen, fresh):
        full[n] = value
    modes.transforming += 1
    try:
        result = func(*full, **kwargs)
    finally:
        modes.transforming -= 1
    own = [t for t in tree.leaves(fresh) if isinstance(t, Tensor) and t._requires_grad]
    return result, fresh, own


def _zeros(t: Tensor) -> Tensor:
    return constant(np.zeros(t._array.shape, t._array.dtype))


def _pull(outputs: list[Tensor], seeds: list[Any], own: list[Tensor]) -> list[Tensor]:
    live = [(o, s) for o, s in zip(outputs, seeds) if isinstance(o, Tensor) and o._requires_grad]
    if not live:
        return [_zeros(t) for t in own]
    found = autograd_grad([o for o, _ in live], own, [s for _, s in live], create_graph=True, allow_unused=True)
    return [_zeros(t) if g is None else g for t, g in zip(own, found)]


def _place_gradients(fresh: Any, own: list[Tensor], grads: list[Tensor]) -> Any:
    by_tensor = {id(t): g for t, g in zip(own, grads)}
    return tree.map_leaves(
        lambda leaf: by_tensor.get(id(leaf), _zeros(leaf) if isinstance(leaf, Tensor) else None), fresh
    )


def grad_and_value(func: Callable[..., Any], argnums: Any = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns (gradient, value) of a scalar function; with `has_aux` (gradient, (value, aux))."""

    @functools.wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        with enable_grad():
            chosen = _chosen(args, argnums)
            result, fresh, own = _run(func, args, kwargs, chosen)
            aux = None
            if has_aux:
                if not isinstance(result, tuple) or len(result) != 2:
                    raise RuntimeError(
                        "grad_and_value(f)(*args): output of function f should be a tuple: (output, aux) if has_aux "
                        f"is True. Got {type(result).__name__}"
                    )
                result, aux = result
            if not isinstance(result, Tensor):
                raise RuntimeError(
                    f"grad_and_value(f)(*args): Expected f(*args) to return a tensor, got {type(result)}"
                )
            if result._array.ndim:
                raise RuntimeError(
                    "grad_and_value(f)(*args): Expected f(*args) to return a scalar tensor, got tensor with "
                    f"{result._array.ndim} dims. Maybe you wanted to use the vjp or jacrev APIs instead?"
                )
            one = constant(np.ones((), result._array.dtype))
            grads = _place_gradients(fresh, own, _pull([result], [one], own))
        grads = _settled(grads, own)
        value = _settled(result, own)
        gradient = grads[0] if isinstance(argnums, int) else tuple(grads)
        return (gradient, (value, _settled(aux, own))) if has_aux else (gradient, value)

    return call


def grad(func: Callable[..., Any], argnums: Any = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the gradient of a scalar function by its argument(s) `argnums`."""
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        gradient, value = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return call


def vjp(func: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """(output, function from cotangents to the gradients of all primals); with `has_aux` also aux."""
    with enable_grad():
        chosen = tuple(range(len(primals)))
        result, fresh, own = _run(func, primals, {}, chosen)
    aux = None
    if has_aux:
        result, aux = result
    outputs = tree.leaves(result)

    def pull_back(*cotangents: Any, retain_graph: bool = True, create_graph: bool | None = None) -> Any:
        given = (
            cotangents[0]
            if len(cotangents) == 1 and not isinstance(result, tuple)
            else (cotangents[0] if len(cotangents) == 1 and isinstance(cotangents[0], tuple) else cotangents)
        )
        with enable_grad():
            grads = _place_gradients(fresh, own, _pull(outputs, tree.leaves(given), own))
        grads = _settled(tuple(grads), own)
        return grads

    value = _settled(result, own)
    return (value, pull_back, _settled(aux, own)) if has_aux else (value, pull_back)


def jvp(func: Callable[..., Any], primals: Any, tangents: Any, *, strict: bool = False, has_aux: bool = False) -> Any:
    """(output, J · tangents): found by differentiating v · J with respect to v."""
    if not isinstance(primals, tuple) or not isinstance(tangents, tuple) or len(primals) != len(tangents):
        raise RuntimeError("jvp(f, primals, tangents): Expected primals and tangents to be tuples of one length")
    with enable_grad():
        result, fresh, own = _run(func, primals, {}, tuple(range(len(primals))))
        aux = None
        if has_aux:
            result, aux = result
        outputs = tree.leaves(result)
        direction = {id(f): t for f, t in zip(tree.leaves(fresh), tree.leaves(tangents))}
        pushed = _push(outputs, own, [direction[id(t)] for t in own])
    value, tangent = _settled(result, own), _settled(tree.rebuild(result, pushed), own)
    return (value, tangent, _settled(aux, own)) if has_aux else (value, tangent)


def _push(outputs: list[Tensor], own: list[Tensor], direction: list[Tensor]) -> list[Tensor]:
    seeds = [_zeros(o).requires_grad_() for o in outputs]
    first = _pull(outputs, seeds, own)
    live = [(g, d) for g, d in zip(first, direction) if g._requires_grad]
    if not live:
        return [_zeros(o) for o in outputs]
    found = autograd_grad([g for g, _ in live], seeds, [d for _, d in live], create_graph=True, allow_unused=True)
    return [_zeros(o) if g is None else g for o, g in zip(outputs, found)]


def linearize(func: Callable[..., Any], *primals: Any) -> Any:
    """(output, function from tangents to J · tangents at these primals)."""
    output, _ = jvp(func, primals, tuple(tree.map_leaves(_zeros, p) for p in primals))

    def push_forward(*tangents: Any) -> Any:
        return jvp(func, primals, tangents)[1]

    return output, push_forward


def jacrev(
    func: Callable[..., Any], argnums: Any = 0, *, has_aux: bool = False, chunk_size: int | None = None
) -> Callable[..., Any]:
    """A function that returns the Jacobian, computed row by row: shape output.shape + input.shape."""

    @functools.wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        with enable_grad():
            chosen = _chosen(args, argnums)
            result, fresh, own = _run(func, args, kwargs, chosen)
            aux = None
            if has_aux:
                result, aux = result

            def rows_of(out: Tensor) -> Any:
                rows = []
                for place in np.ndindex(out._array.shape):
                    seed = np.zeros(out._array.shape, out._array.dtype)
                    seed[place] = 1
                    rows.append(_pull([out], [wrap(seed)], own))
                stacked = [
                    stack([r[i] for r in rows]).reshape(out._array.shape + t._array.shape) for i, t in enumerate(own)
                ]
                placed = _place_gradients(fresh, own, stacked)
                return placed[0] if isinstance(argnums, int) else tuple(placed)

            jacobian = tree.map_leaves(rows_of, result)
        jacobian = _settled(jacobian, own)
        return (jacobian, _settled(aux, own)) if has_aux else jacobian

    return call


def jacfwd(
    func: Callable[..., Any], argnums: Any = 0, has_aux: bool = False, *, randomness: str = "error"
) -> Callable[..., Any]:
    """A function that returns the Jacobian, computed column by column: shape output.shape + input.shape."""

    @functools.wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        chosen = _chosen(args, argnums)

        def only(*values: Any) -> Any:
            full = list(args)
            for n, value in zip(chosen, values):
                full[n] = value
            return func(*full, **kwargs)

        primals = tuple(args[n] for n in chosen)
        tables, output, aux = [], None, None
        for which, primal in enumerate(primals):
            columns = []
            for place in np.ndindex(primal._array.shape):
                unit = np.zeros(primal._array.shape, primal._array.dtype)
                unit[place] = 1
                tangents = tuple(wrap(unit) if i == which else _zeros(p) for i, p in enumerate(primals))
                found = jvp(only, primals, tangents, has_aux=has_aux)
                output, column = found[0], found[1]
                aux = found[2] if has_aux else None
                columns.append(tree.leaves(column))
            tables.append(
                [
                    movedim(stack([c[i] for c in columns]), 0, -1).reshape(o._array.shape + primal._array.shape)
                    for i, o in enumerate(tree.leaves(output))
                ]
            )
        per_output = [[table[i] for table in tables] for i in range(len(tree.leaves(output)))]
        entries = [row[0] if isinstance(argnums, int) else tuple(row) for row in per_output]
        jacobian: Any = entries[0] if isinstance(output, Tensor) else tree.rebuild(output, entries)
        return (jacobian, aux) if has_aux else jacobian

    return call


def hessian(func: Callable[..., Any], argnums: Any = 0) -> Callable[..., Any]:
    """A function that returns all second derivatives."""
    return jacfwd(jacrev(func, argnums), argnums)


def vmap(
    func: Callable[..., Any],
    in_dims: Any = 0,
    out_dims: Any = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """`func` for every entry of a batch dimension; results stacked along `out_dims`.

    The entries are computed one after the other (see docs/differences.md): the results are PyTorch's, the speed is not.
    `randomness`: "error", "different" (each entry draws anew) or "same" (all entries draw the same numbers).
    """
    if randomness not in ("error", "different", "same"):
        raise RuntimeError(f"Only allowed values for randomness are 'error', 'different', or 'same'. Got {randomness}")

    @functools.wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        dims = in_dims if isinstance(in_dims, (list, tuple)) else (in_dims,) * len(args)
        if len(dims) != len(args):
            raise ValueError(
                f"vmap({_name(func)}, in_dims={in_dims}, ...)(<inputs>): in_dims is not compatible with the "
                f"structure of "
                f"inputs. in_dims has {len(dims)} entries, inputs {len(args)}."
            )
        flat = tree.leaves(list(args))
        per_leaf = tree.broadcast_prefix(list(dims), list(args))
        count = _batch_size(func, flat, per_leaf, in_dims)
        results = [
            func(
                *tree.rebuild(list(args), [_entry(leaf, d, i) for leaf, d in zip(flat, per_leaf)]),
                **tree.map_leaves(lambda leaf, i=i: _entry(leaf, 0, i) if isinstance(leaf, Tensor) else leaf, kwargs),
            )
            for i in range(count)
        ]
        return _stacked(results, out_dims)

    return call


def _name(func: Any) -> str:
    return getattr(func, "__name__", repr(func))


def _batch_size(func: Any, flat: list[Any], per_leaf: list[Any], in_dims: Any) -> int:
    sizes = set()
    for leaf, d in zip(flat, per_leaf):
        if d is None:
            continue
        if not isinstance(leaf, Tensor):
            raise ValueError(
                f"vmap({_name(func)}, in_dims={in_dims}, ...)(<inputs>): Got in_dim={d} for an input but the input "
                f"is of "
                f"type {type(leaf)}. We cannot vmap over non-Tensor arguments, please use None as the respective in_dim"
            )
        if not -leaf._array.ndim <= d < leaf._array.ndim:
            raise ValueError(
                f"vmap({_name(func)}, in_dims={in_dims}, ...)(<inputs>): Got in_dim={d} for some input, but that "
                f"input is a "
                f"Tensor of dimensionality {leaf._array.ndim} so expected in_dim to satisfy -{leaf._array.ndim} <= "
                f"in_dim < "
                f"{leaf._array.ndim}."
            )
        sizes.add(leaf._array.shape[d])
    if not sizes:
        raise ValueError(
            f"vmap({_name(func)}, in_dims={in_dims}, ...)(<inputs>): at least one input has to be mapped over"
        )
    if len(sizes) > 1:
        raise ValueError(
            f"vmap: Expected all tensors to have the same size in the mapped dimension, got sizes {sorted(sizes)} "
            f"for the "
            "mapped dimension"
        )
    return sizes.pop()


def _entry(leaf: Any, d: int | None, index: int) -> Any:
    if d is None:
        return leaf
    return _select(leaf, dim=d % leaf._array.ndim, index=index)


def _stacked(results: list[Any], out_dims: Any) -> Any:
    first = results[0]
    columns = list(zip(*(tree.leaves(r) for r in results)))
    per_leaf = tree.broadcast_prefix(out_dims, first)
    made = []
    for column, d in zip(columns, per_leaf):
        if not isinstance(column[0], Tensor):
            raise ValueError(f"vmap: the function must only return Tensors, got type {type(column[0])} as a return.")
        made.append(column[0] if d is None else stack(list(column), d))
    return tree.rebuild(first, made)


def functionalize(func: Callable[..., Any], *, remove: str = "mutations") -> Callable[..., Any]:
    """The function itself: writes in place are already recorded as functional operations."""
    return func


def debug_unwrap(tensor: Tensor, *, recurse: bool = True) -> Tensor:
    """The tensor itself: transforms do not wrap tensors here."""
    return tensor
