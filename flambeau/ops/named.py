"""Dimension names: `zeros(2, 3, names=("N", "C"))`, `.names`, `rename`, `align_to`, and how ops pass names on.

Names cost nothing until the first named tensor exists: only then is every op watched (`dispatch.intercept`) and the
names of its result worked out from those of its inputs. PyTorch had names from 1.3 on and dropped them after 2.12.
"""

from __future__ import annotations

from typing import Any

from flambeau.core import dispatch
from flambeau.core.modes import modes
from flambeau.core.tensor import Tensor, wrap_dim
from flambeau.ops.shape import _alias, _permute, _unsqueeze, reshape, view

Names = tuple[str | None, ...]

# ---- names of one tensor -----------------------------------------------------------------------------


def names_of(t: Tensor) -> Names:
    """A name or None for each dimension."""
    return t._names or (None,) * t._array.ndim


def set_names(t: Tensor, names: Any) -> None:
    """Give a tensor names (None takes them away). RuntimeError for a wrong number, a repeated or an invalid name."""
    if names is None:
        t._names = None
        return
    given = (names,) if isinstance(names, str) else tuple(names)
    if len(given) != t._array.ndim:
        raise RuntimeError(f"Number of names ({len(given)}) and number of dimensions in tensor ({t._array.ndim}) do "
                           "not match. "
                           "Attempted to create a tensor with dims " + f"{list(t._array.shape)} and names "
                                                                       f"{list(given)}")
    for name in given:
        if name is not None and not isinstance(name, str):
            raise TypeError(f"names must be strings or None, not {type(name).__name__}")
        if name is not None and not name.isidentifier():
            raise RuntimeError("Invalid name: a valid identifier contains only digits, letters and underscores and "
                               "does not start "
                               f"with a digit, got: '{name}'.")
    _check_distinct(given)
    t._names = given if any(name is not None for name in given) else None
    if t._names is not None:
        _watch()


def _check_distinct(names: Names) -> None:
    for name in names:
        if name is not None and names.count(name) > 1:
            raise RuntimeError(f"Cannot construct a tensor with duplicate names. Got names: {_shown(names)}.")


def _shown(names: Any) -> str:
    return "[" + ", ".join("None" if name is None else f"'{name}'" for name in names) + "]"


def has_names(self: Tensor) -> bool:
    """Whether any dimension has a name."""
    return self._names is not None


def _with_names(self: Tensor, names: Any) -> Tensor:
    """A view with these names."""
    made = _alias(self)
    set_names(made, names)
    return made


def _renamed(self: Tensor, names: Any, changes: dict[str, Any]) -> Any:
    have = names_of(self)
    if changes:
        if names:
            raise RuntimeError("rename: cannot take both new names and a mapping of old names to new ones")
        for old in changes:
            if old not in have:
                raise RuntimeError(f"rename: Tried to rename dim '{old}' to '{changes[old]}' in Tensor{_shown(have)} "
                                   f"but dim '{old}' "
                                   "does not exist")
        return tuple(changes.get(name, name) if name is not None else None for name in have)
    if len(names) == 1 and (names[0] is None or isinstance(names[0], (tuple, list))):
        names = names[0]
    return None if names is None else _expanded(names, have, "rename")


def _expanded(names: Any, have: Names, function: str) -> tuple[Any, ...]:
    """Names with "..." replaced by the existing ones that it stands for."""
    names = tuple("..." if name is Ellipsis else name for name in names)
    if "..." not in names:
        return names
    if names.count("...") > 1:
        raise RuntimeError(f"{function}: More than one Ellipsis ('...') found in names {_shown(names)}")
    at = names.index("...")
    return (*names[:at], *have[at : len(have) - (len(names) - at - 1)], *names[at + 1 :])


def rename(self: Tensor, *names: Any, **changes: Any) -> Tensor:
    """A view with other names: `rename("N", "C")`, `rename(N="batch")`, `rename(None)` for none."""
    return _with_names(self, _renamed(self, names, changes))


def rename_(self: Tensor, *names: Any, **changes: Any) -> Tensor:
    """Change the names in place."""
    set_names(self, _renamed(self, names, changes))
    return self


def refine_names(self: Tensor, *names: Any) -> Tensor:
    """A view in which unnamed dimensions get names. RuntimeError if a name would change."""
    have = names_of(self)
    names = names[0] if len(names) == 1 and isinstance(names[0], (tuple, list)) else names
    wanted = _expanded(names, have, "refine_names")
    if len(wanted) != len(have):
        raise RuntimeError(f"refine_names: cannot coerce Tensor{_shown(have)} to Tensor{_shown(wanted)} because they "
                           "have different "
                           f"number of dims ({len(have)} and {len(wanted)} respectively).")
    for position, (old, new) in enumerate(zip(have, wanted)):
        if old is not None and old != new:
            raise RuntimeError(f"refine_names: cannot coerce Tensor{_shown(have)} to Tensor{_shown(wanted)} because "
                               f"'{old}' is "
                               f"different from '{new}' at index {position}")
    return _with_names(self, wanted)


# ---- order by name -----------------------------------------------------------------------------------


def align_to(self: Tensor, *names: Any) -> Tensor:
    """A view with the dimensions in this order; new names are dimensions of size 1, "..." stands for the rest."""
    have = names_of(self)
    names = names[0] if len(names) == 1 and isinstance(names[0], (tuple, list)) else names
    wanted = ["..." if name is Ellipsis else name for name in names]
    if "..." in wanted:
        at = wanted.index("...")
        wanted[at : at + 1] = [name for name in have if name not in wanted]
    return _aligned(self, tuple(wanted), "align_to")


def align_as(self: Tensor, other: Tensor) -> Tensor:
    """A view with the dimensions in the order of another tensor's names."""
    return _aligned(self, names_of(other), "align_as")


def align_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """All tensors with the dimensions in the order of the one that has most."""
    longest = max(tensors, key=lambda t: t._array.ndim)
    return tuple(align_as(t, longest) for t in tensors)


def _aligned(self: Tensor, wanted: Names, function: str) -> Tensor:
    have = names_of(self)
    if None in have:
        raise RuntimeError(f"{function}: All input dims must be named. Found unnamed dim at index {have.index(None)} "
                           "of "
                           f"Tensor{_shown(have)}")
    if None in wanted:
        raise RuntimeError(f"{function}: All dims that are aligned to must be named, got {_shown(wanted)}")
    missing = [name for name in have if name not in wanted]
    if missing:
        raise RuntimeError(f"{function}: Cannot find dim '{missing[0]}' from Tensor{_shown(have)} in the desired "
                           "alignment "
                           f"{_shown(wanted)}.")
    made = _permute(_alias(self), dims=tuple(have.index(name) for name in wanted if name in have))
    for dim, name in enumerate(wanted):
        if name not in have:
            made = _unsqueeze(made, dim=dim)
    set_names(made, wanted)
    return made


def flatten_names(input: Tensor, dims: Any, end: Any, out_dim: str | None) -> Tensor:
    """`flatten(["rows", "columns"], "pixels")` or `flatten(start, end, "pixels")`: neighbours become one dimension."""
    have = names_of(input)
    if isinstance(dims, (tuple, list)):
        positions = [wrap_dim(d, len(have), input) for d in dims]
        out_dim = out_dim if isinstance(out_dim, str) else end
    else:
        start, last = (wrap_dim(d, len(have), input) for d in (dims, end))
        positions = list(range(start, last + 1))
    if not positions:
        raise RuntimeError("flatten(tensor, dims, out_dim): dims cannot be empty")
    if positions != list(range(positions[0], positions[0] + len(positions))):
        raise RuntimeError(f"flatten(tensor, dims, out_dim): dims {_shown(have[p] for p in positions)} must be "
                           f"consecutive in Tensor{_shown(have)}")
    if out_dim is None and any(have[p] is not None for p in positions):
        raise RuntimeError("flatten(tensor, dims, out_dim): a name for the result is needed: pass out_dim")
    start, last = positions[0], positions[-1]
    shape = input._array.shape
    made = reshape(_unnamed(input), (*shape[:start], -1, *shape[last + 1 :]))
    set_names(made, (*have[:start], out_dim, *have[last + 1 :]))
    return made


def unflatten_names(input: Tensor, dim: Any, named_sizes: Any) -> Tensor:
    """`unflatten("pixels", (("rows", 4), ("columns", 4)))`: the opposite of `flatten`."""
    pairs = list(named_sizes.items()) if hasattr(named_sizes, "items") else list(named_sizes)
    have, shape = names_of(input), input._array.shape
    at = wrap_dim(dim, len(shape), input)
    sizes = [size for _, size in pairs]
    made = view(_unnamed(input), (*shape[:at], *sizes, *shape[at + 1 :]))
    set_names(made, (*have[:at], *(name for name, _ in pairs), *have[at + 1 :]))
    return made


def _unnamed(t: Tensor) -> Tensor:
    return _with_names(t, None) if t._names is not None else t


# ---- names through ops ---------------------------------------------------------------------------------


def unify(a: Names, b: Names) -> Names:
    """The names of a broadcast result. RuntimeError where two names meet that differ."""
    rank = max(len(a), len(b))
    left, right = ((None,) * (rank - len(n)) + n for n in (a, b))
    out = []
    for m, n in zip(left, right):
        if m is not None and n is not None and m != n:
            raise RuntimeError(f"Error when attempting to broadcast dims {_shown(a)} and dims {_shown(b)}: dim '{m}' "
                               f"and dim '{n}' are "
                               "at the same position from the right but do not match.")
        for one, other, names in ((m, n, right), (n, m, left)):
            if one is not None and other is None and one in names:
                raise RuntimeError(f"Misaligned dims when attempting to broadcast dims {_shown(a)} and dims "
                                   f"{_shown(b)}: dim '{one}' "
                                   "appears in a different position from the right across both lists.")
        out.append(m if m is not None else n)
    return tuple(out)


def _unify_all(names: list[Names], attrs: Any, inputs: Any) -> Names:
    found: Names = ()
    for n in names:
        found = unify(found, n)
    return found


def _first(names: list[Names], attrs: Any, inputs: Any) -> Names:
    return names[0]


def _without(names: Names, dims: Any) -> Names:
    return tuple(name for d, name in enumerate(names) if d not in dims)


def _reduce(names: list[Names], attrs: Any, inputs: Any) -> Names:
    dims = attrs["dims"] if "dims" in attrs else attrs["dim"]
    if attrs.get("keepdim"):
        return names[0]
    return () if dims is None else _without(names[0], dims if isinstance(dims, tuple) else (dims,))


def _insert(names: Names, dim: int) -> Names:
    return (*names[:dim], None, *names[dim:])


def _swap(names: list[Names], attrs: Any, inputs: Any) -> Names:
    made = list(names[0])
    if made:
        i, j = attrs["dim0"], attrs["dim1"]
        made[i], made[j] = made[j], made[i]
    return tuple(made)


def _by_key(names: list[Names], attrs: Any, inputs: Any) -> Names:
    """Indexing with numbers, slices and None; what the key does not reach stays."""
    key = attrs["key"]
    used = sum(k is not None and k is not Ellipsis for k in key)
    out: list[Any] = []
    source = 0
    for k in key:
        if k is None:
            out.append(None)
        elif k is Ellipsis:
            rest = len(names[0]) - used
            out.extend(names[0][source : source + rest])
            source += rest
        else:
            if isinstance(k, slice):
                out.append(names[0][source])
            source += 1
    return tuple(out)


def _matmul(names: list[Names], attrs: Any, inputs: Any) -> Names:
    """Batch names, the rows' name of the left and the columns' name of the right; contracted names are not compared."""
    a, b = names
    rows, columns = a[-2:-1], b[-1:] if len(b) > 1 else ()
    return (*unify(a[:-2], b[:-2]), *rows, *columns)


def _linear(names: list[Names], attrs: Any, inputs: Any) -> Names:
    return (*names[0][:-1], names[1][0] if len(names[1]) == 2 else None)


RULES: dict[str, Any] = {
    **dict.fromkeys(("where", "masked_fill", "clamp", "copy", "rejoin"), _unify_all),
    **dict.fromkeys((
        "sum", "mean", "amax", "amin", "all", "any", "count_nonzero", "norm", "std", "var", "logsumexp", "argmax",
        "argmin", "max", "min", "median", "nanmedian", "mode", "kthvalue", "prod", "take_value"), _reduce),
    **dict.fromkeys(("slice", "split", "index_select", "gather", "topk"), _first),
    **dict.fromkeys(("pick", "cut", "insert"), _by_key),
    "select": lambda names, attrs, inputs: _without(names[0], (attrs["dim"],)),
    "unbind": lambda names, attrs, inputs: _without(names[0], (attrs["dim"],)),
    "squeeze": lambda names, attrs, inputs: _without(names[0], attrs["dims"]),
    "unsqueeze": lambda names, attrs, inputs: _insert(names[0], attrs["dim"]),
    "restack": lambda names, attrs, inputs: _insert(_unify_all(names, attrs, inputs), attrs["dim"]),
    "permute": lambda names, attrs, inputs: tuple(names[0][d] for d in attrs["dims"]),
    "transpose": _swap,
    "expand": lambda names, attrs, inputs: (None,) * (len(attrs["shape"]) - len(names[0])) + names[0],
    "matmul": _matmul,
    "linear": _linear,
}


def _propagate(op: Any, inputs: Any, attrs: Any) -> Any:
    """Run an op and name its results. Ops without a rule pass names on when they keep the shape."""
    tensors = [t for t in inputs if isinstance(t, Tensor)]
    if modes.walking or all(t._names is None for t in tensors):
        return op.function(*inputs, **attrs)
    rule = RULES.get(op.name) or (_unify_all if op.elementwise else None)
    names = None
    if rule is not None:
        names = rule([names_of(t) for t in tensors], {**op.attributes, **attrs}, inputs)
        _check_distinct(names)
    result = op.function(*inputs, **attrs)
    shape = tensors[0]._array.shape
    for made in result if isinstance(result, tuple) else (result,):
        if names is None and made._array.shape == shape:
            made._names = tensors[0]._names
        elif names is not None and len(names) == made._array.ndim and any(names):
            made._names = names
    return result


def _watch() -> None:
    """Let every op pass names on from now on."""
    listener = dispatch.interceptor
    while listener is not None:
        if getattr(listener, "handler", None) is _propagate:
            return
        listener = getattr(listener, "previous", None)
    dispatch.intercept(_propagate).__enter__()

