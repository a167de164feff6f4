"""Contractions over named or listed dimensions: tensordot, einsum, Kronecker products."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core.modes import modes
from flambeau.core.tensor import Tensor
from flambeau.ops import pointwise
from flambeau.ops.matmul import cname, matrix_product, mm
from flambeau.ops.reductions import _sum
from flambeau.ops.reductions import sum as sum_
from flambeau.ops.shape import _expand, _permute, diagonal, permute, reshape


def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """Contract the last `dims` dimensions of `a` with the first of `b`, or the listed pairs of dimensions."""
    if isinstance(dims, Tensor):
        dims = dims.tolist()
    if isinstance(dims, int):
        if dims < 0:
            raise RuntimeError(f"tensordot expects dims >= 0, but got dims={dims}")
        if dims > min(a._array.ndim, b._array.ndim):
            raise RuntimeError(f"tensordot expects dims < ndim_a or ndim_b, but got dims={dims}")
        left, right = list(range(a._array.ndim - dims, a._array.ndim)), list(range(dims))
    else:
        left, right = (list(d) if isinstance(d, (list, tuple)) else [d] for d in dims)
    n, m = a._array.ndim, b._array.ndim
    left, right = [d % n if n else 0 for d in left], [d % m if m else 0 for d in right]
    if len(left) != len(right):
        raise RuntimeError("both dimension lists should have same length")
    for i, j in zip(left, right):
        if a._array.shape[i] != b._array.shape[j] and 1 not in (a._array.shape[i], b._array.shape[j]):
            raise RuntimeError(
                f"contracted dimensions need to match, but first has size {a._array.shape[i]} in dim {i} and second "
                f"has size "
                f"{b._array.shape[j]} in dim {j}"
            )
        if a._array.shape[i] != b._array.shape[j]:  # a size of 1 broadcasts: sum the other side first
            if a._array.shape[i] == 1:
                b = _sum(b, dims=(j,), keepdim=True)
            else:
                a = _sum(a, dims=(i,), keepdim=True)
    free_a = [d for d in range(n) if d not in left]
    free_b = [d for d in range(m) if d not in right]
    shape = [a._array.shape[d] for d in free_a] + [b._array.shape[d] for d in free_b]
    inner_size = int(np.prod([a._array.shape[d] for d in left], dtype=np.int64))
    rows = int(np.prod([a._array.shape[d] for d in free_a], dtype=np.int64))
    columns = int(np.prod([b._array.shape[d] for d in free_b], dtype=np.int64))
    x = reshape(permute(a, free_a + left), (rows, inner_size))
    y = reshape(permute(b, right + free_b), (inner_size, columns))
    return reshape(mm(x, y), shape)


def einsum(*args: Any) -> Tensor:
    """Sums of products by Einstein: `einsum("bij,bjk->bik", a, b)` or `einsum(a, [0, 1], b, [1, 2], [0, 2])`.

    RuntimeError for an equation that does not fit the operands.
    """
    if not args:
        raise ValueError(
            "einsum(): must specify the equation string and at least one operand, or at least one operand and its "
            "subscripts list"
        )
    equation, operands = _equation(args)
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(operands):
        word = "fewer" if len(operands) < len(terms) else "more"
        raise RuntimeError(f"einsum(): {word} operands were provided than specified in the equation")
    sizes: dict[str, int] = {}
    widest = max(
        (t._array.ndim - len(term.replace("...", "")) for t, term in zip(operands, terms) if "..." in term), default=0
    )
    dots = [f"<{i}>" for i in range(widest)]
    prepared = [_prepare(t, term, dots, sizes) for t, term in zip(operands, terms)]
    labels_seen = [label for _, labels in prepared for label in labels]
    if arrow:
        wanted = _labels(output, dots)
        for label in wanted:
            if label not in labels_seen:
                raise RuntimeError(
                    f"einsum(): output subscript {label} does not appear in the equation for any input operand"
                )
        if len(set(wanted)) != len(wanted):
            repeated = next(x for x in wanted if wanted.count(x) > 1)
            raise RuntimeError(f"einsum(): output subscript {repeated} appears more than once in the output")
    else:
        once = sorted({x for x in labels_seen if not x.startswith("<") and inputs.count(x) == 1})
        wanted = (dots if any("..." in term for term in terms) else []) + once
    value, labels = prepared[0]
    for step, (other, other_labels) in enumerate(prepared[1:], start=1):
        needed = set(wanted) | {x for _, rest in prepared[step + 1 :] for x in rest}
        value, labels = _contract(value, labels, other, other_labels, needed)
    dims = tuple(d for d, x in enumerate(labels) if x not in wanted)
    if dims:
        value = _sum(value, dims=dims, keepdim=False)
        labels = [x for x in labels if x in wanted]
    shape_order = [labels.index(x) for x in wanted]
    return _permute(value, dims=tuple(shape_order)) if shape_order != list(range(len(labels))) else value


def _equation(args: Any) -> tuple[str, list[Tensor]]:
    if isinstance(args[0], str):
        operands = list(args[1]) if len(args) == 2 and isinstance(args[1], (list, tuple)) else list(args[1:])
        return args[0], operands
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

    def spell(subscripts: Any) -> str:
        return "".join("..." if s is Ellipsis else letters[s] for s in subscripts)

    operands = list(args[0 : len(args) - len(args) % 2 : 2])
    equation = ",".join(spell(s) for s in args[1 : len(args) - len(args) % 2 : 2])
    if len(args) % 2:
        equation += "->" + spell(args[-1])
    return equation, operands


def _labels(term: str, dots: list[str]) -> list[str]:
    before, ellipsis, after = term.partition("...")
    for x in before + after:
        if not x.isalpha():
            raise RuntimeError(
                f"einsum(): invalid subscript given at index {term.index(x)} in the equation string, subscripts must "
                f"be "
                "in [a-zA-Z]"
            )
    return [*before, *(dots if ellipsis else []), *after]


def _prepare(t: Tensor, term: str, dots: list[str], sizes: dict[str, int]) -> tuple[Tensor, list[str]]:
    """One operand with each label once (repeated ones become diagonals) and its sizes noted."""
    named = len(term.replace("...", ""))
    ndim = t._array.ndim
    own_dots = dots[len(dots) - (ndim - named) :] if "..." in term and ndim - named else []
    labels = _labels(term, own_dots)
    if len(labels) != ndim:
        raise RuntimeError(
            f"einsum(): the number of subscripts in the equation ({len(labels)}) does not match the number of "
            f"dimensions ({ndim}) for "
            "operand" + (" and no ellipsis was given" if "..." not in term else "")
        )
    position = 0
    while position < len(labels):
        label = labels[position]
        if label in labels[:position]:
            first = labels.index(label)
            if t._array.shape[first] != t._array.shape[position]:
                raise RuntimeError(
                    f"einsum(): subscript {label} is repeated for operand 0 but the sizes don't match, "
                    f"{t._array.shape[position]} != {t._array.shape[first]}"
                )
            t = diagonal(t, 0, first, position)
            labels = [x for d, x in enumerate(labels) if d not in (first, position)] + [label]
            position = 0
            continue
        position += 1
    for label, n in zip(labels, t._array.shape):
        have = sizes.get(label, 1)
        if n != 1 and have not in (1, n):
            raise RuntimeError(
                f"einsum(): operands do not broadcast with remapped shapes [original->remapped]: subscript {label} "
                f"has size {n} for an "
                f"operand which does not broadcast with previously seen size {have}"
            )
        sizes[label] = max(have, n) if n != 0 else 0
    return t, labels


def _contract(a: Tensor, la: list[str], b: Tensor, lb: list[str], needed: set[str]) -> tuple[Tensor, list[str]]:
    """The product of two operands summed over the labels nobody needs any more, as one batched matrix product."""
    for label in list(la):  # labels only one side has and nobody needs: sum them at once
        if label not in lb and label not in needed:
            d = la.index(label)
            a, la = _sum(a, dims=(d,), keepdim=False), la[:d] + la[d + 1 :]
    for label in list(lb):
        if label not in la and label not in needed:
            d = lb.index(label)
            b, lb = _sum(b, dims=(d,), keepdim=False), lb[:d] + lb[d + 1 :]
    size_a, size_b = dict(zip(la, a._array.shape)), dict(zip(lb, b._array.shape))
    for label in [x for x in la if x in lb and x not in needed and size_a[x] != size_b[x]]:
        # One side broadcasts a summed label: sum the other side first.
        if size_a[label] == 1:
            b = _sum(b, dims=(lb.index(label),), keepdim=True)
        else:
            a = _sum(a, dims=(la.index(label),), keepdim=True)
        size_a[label] = size_b[label] = 1
    batch = [x for x in la if x in lb and x in needed]
    summed = [x for x in la if x in lb and x not in needed]
    free_a = [x for x in la if x not in lb]
    free_b = [x for x in lb if x not in la]
    for label in batch:
        n = max(size_a[label], size_b[label]) if 0 not in (size_a[label], size_b[label]) else 0
        if size_a[label] != n:
            a = _expand(a, shape=tuple(n if x == label else s for x, s in zip(la, a._array.shape)))
        if size_b[label] != n:
            b = _expand(b, shape=tuple(n if x == label else s for x, s in zip(lb, b._array.shape)))
        size_a[label] = size_b[label] = n
    pa = permute(a, [la.index(x) for x in batch + free_a + summed])
    pb = permute(b, [lb.index(x) for x in batch + summed + free_b])
    nb = [size_a[x] for x in batch]
    na, ns, nc = ([size[x] for x in names] for size, names in ((size_a, free_a), (size_a, summed), (size_b, free_b)))
    if not summed:
        x = reshape(pa, [*nb, *na, *([1] * len(nc))])
        y = reshape(pb, [*nb, *([1] * len(na)), *nc])
        return pointwise.mul(x, y), batch + free_a + free_b
    rows, inner_size, columns = (int(np.prod(s, dtype=np.int64)) for s in (na, ns, nc))
    groups = int(np.prod(nb, dtype=np.int64))
    x, y = reshape(pa, (groups, rows, inner_size)), reshape(pb, (groups, inner_size, columns))
    if x._array.dtype != y._array.dtype and modes.autocast is None:
        raise RuntimeError(f"expected scalar type {cname(x)} but found {cname(y)}")
    return reshape(matrix_product(x, y), [*nb, *na, *nc]), batch + free_a + free_b


def kron(input: Tensor, other: Tensor) -> Tensor:
    """Kronecker product."""
    n = max(input._array.ndim, other._array.ndim)
    a = (1,) * (n - input._array.ndim) + input._array.shape
    b = (1,) * (n - other._array.ndim) + other._array.shape
    x = reshape(input, [s for pair in zip(a, (1,) * n) for s in pair])
    y = reshape(other, [s for pair in zip((1,) * n, b) for s in pair])
    return reshape(pointwise.mul(x, y), [p * q for p, q in zip(a, b)])


def trace(input: Tensor) -> Tensor:
    """Sum of the diagonal of a matrix."""
    if input._array.ndim != 2:
        raise RuntimeError("trace: expected a matrix")
    return sum_(diagonal(input))


def inner(input: Tensor, other: Tensor) -> Tensor:
    """Sum of products over the last dimensions of both."""
    if input._array.ndim == 0 or other._array.ndim == 0:
        return pointwise.mul(input, other)
    if input._array.shape[-1] != other._array.shape[-1]:
        raise RuntimeError(
            f"inner() the last dimension must match on both input tensors but got shapes {list(input._array.shape)} "
            f"and "
            f"{list(other._array.shape)}"
        )
    return tensordot(input, other, dims=([-1], [-1]))


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x1 · W_k · x2 for every output k: (..., in1), (..., in2), weight (out, in1, in2) -> (..., out)."""
    a, b, w = input1._array.shape, input2._array.shape, weight._array.shape
    if a[:-1] != b[:-1]:
        raise RuntimeError(f"bilinear(): input dimensions do not match: got {list(a)} and {list(b)}")
    if a[-1] != w[1] or b[-1] != w[2]:
        raise RuntimeError(f"bilinear(): input sizes {a[-1]} and {b[-1]} do not match weight {list(w)}")
    x1, x2 = reshape(input1, (-1, a[-1])), reshape(input2, (-1, b[-1]))
    out = einsum("ni,kij,nj->nk", x1, weight, x2)
    out = reshape(out, (*a[:-1], w[0]))
    return out if bias is None else pointwise.add(out, bias)
