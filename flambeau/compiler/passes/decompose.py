"""Composite operations taken apart into elementwise ones and reductions, which fusion then puts together as it likes.

Three node kinds exist only from here on:
    "@reduce"    kind, dims, keepdim: "sum", "max", … over dimensions of one operand
    "@gather"    x, index; dim: x with dimension `dim` replaced by the dimensions of index
    "@position"  dim: the index along a dimension of the result
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.compiler.graph import Check, Graph, Node, Ref, Value, common_shape

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
RULES: dict[str, Callable[[Builder, Node], bool | None]] = {}


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of plain order."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def like(shape: tuple[int, ...], order: tuple[int, ...]) -> tuple[int, ...]:
    """Dense strides for a shape, its dimensions in memory in the order that other strides have."""
    strides = [0] * len(shape)
    step = 1
    for d in sorted(range(len(shape)), key=lambda d: (order[d], -d)):
        strides[d] = step
        step *= shape[d]
    return tuple(strides)


class Builder:
    """Makes nodes in place of one."""

    def __init__(self, graph: Graph, node: Node):
        self.graph = graph
        self.again = False  # whether nodes are marked as computed again (see `Node.again`)
        self.source = node
        self.nodes: list[Node] = []

    def value(self, shape: tuple[int, ...], strides: tuple[int, ...], dtype: Any) -> Value:
        return self.graph.value(shape, strides, np.dtype(dtype))

    def node(self, op: str, inputs: list[Any], attrs: dict[str, Any], out: Value) -> Ref:
        made = Node(op, inputs, attrs, [out], self.source.line)
        made.again = self.again
        self.nodes.append(made)
        return out.whole()

    def __call__(self, op: str, *inputs: Any, out: Value | None = None, dtype: Any = None, **attrs: Any) -> Ref:
        """An elementwise node; operands broadcast, and compute in the type of the first one that is not a symbol."""
        refs = [x for x in inputs if isinstance(x, Ref)]
        main = max(refs, key=lambda r: (len(r.shape), math.prod(r.shape), r.is_whole()))
        compute = next(r.dtype for r in refs if not r.value.symbol)
        if out is None:
            shape = common_shape(refs)
            out = self.value(
                shape,
                like(shape, main.strides if len(main.strides) == len(shape) else contiguous(shape)),
                dtype or compute,
            )
        ref = self.node(op, list(inputs), attrs, out)
        self.nodes[-1].compute = compute
        return ref

    def reduce(self, kind: str, x: Ref, dims: tuple[int, ...], keepdim: bool = True, out: Value | None = None) -> Ref:
        """A reduction over dimensions."""
        if out is None:
            shape = tuple(1 if d in dims else n for d, n in enumerate(x.shape) if keepdim or d not in dims)
            out = self.value(shape, contiguous(shape), x.dtype)
        return self.node("@reduce", [x], {"kind": kind, "dims": tuple(dims), "keepdim": keepdim}, out)

    def position(self, shape: tuple[int, ...], dim: int) -> Ref:
        return self.node("@position", [], {"dim": dim}, self.value(shape, contiguous(shape), np.int64))

    def gather(self, x: Ref, index: Ref, dim: int, out: Value | None = None) -> Ref:
        shape = (*x.shape[:dim], *index.shape, *x.shape[dim + 1 :])
        out = out or self.value(shape, contiguous(shape), x.dtype)
        return self.node("@gather", [x, index], {"dim": dim}, out)


def rule(*names: str) -> Callable[[Any], Any]:
    """Register how operations are taken apart; a rule that returns False leaves the node as it is."""

    def register(function: Any) -> Any:
        for name in names:
            RULES[name] = function
        return function

    return register


def decompose(graph: Graph) -> None:
    """Take apart every node that has a rule."""
    nodes: list[Node] = []
    for node in graph.nodes:
        apart = RULES.get(node.op)
        if apart is not None:
            b = Builder(graph, node)
            if apart(b, node) is not False:
                nodes.extend(b.nodes)
                continue
        nodes.append(node)
    graph.nodes = nodes


def single(node: Node) -> Value:
    value = node.outputs[0]
    assert value is not None
    return value


def fits(*operands: Any) -> bool:
    """Whether all operands are float32 or float64 windows (or absent)."""
    return all(x is None or (isinstance(x, Ref) and x.dtype in FLOATS) for x in operands)


# ---- reductions ----------------------------------------------------------------------------------


@rule("sum", "amax", "amin", "any", "all")
def _reduction(b: Builder, node: Node) -> bool | None:
    x, out = node.inputs[0], single(node)
    kind = {"amax": "max", "amin": "min"}.get(node.op, node.op)
    if not isinstance(x, Ref) or "dims" not in node.attrs or (kind == "sum" and x.dtype.kind == "b"):
        return False
    if x.dtype.kind not in "fiub" or x.dtype.itemsize == 2:
        return False
    if kind in ("any", "all") and x.dtype.kind != "b":
        x = b("ne", x, 0, dtype=bool)
    dims = node.attrs["dims"]
    b.reduce(kind, x, tuple(range(len(x.shape))) if dims is None else tuple(dims), node.attrs["keepdim"], out)
    return None


@rule("mean")
def _mean(b: Builder, node: Node) -> bool | None:
    x, out = node.inputs[0], single(node)
    if not fits(x):
        return False
    dims = node.attrs["dims"]
    dims = tuple(range(len(x.shape))) if dims is None else tuple(dims)
    total = b.reduce("sum", x, dims, node.attrs["keepdim"])
    b("div", total, float(math.prod(x.shape[d] for d in dims)), out=out)
    return None


@rule("dot")
def _dot(b: Builder, node: Node) -> bool | None:
    x, y = node.inputs
    if not fits(x, y):
        return False
    b.reduce("sum", b("mul", x, y), (0,), False, single(node))
    return None


@rule("norm")
def _norm(b: Builder, node: Node) -> bool | None:
    x, out, order = node.inputs[0], single(node), node.attrs["ord"]
    if not fits(x) or order not in (1, 2):
        return False
    dims = node.attrs["dims"]
    dims = tuple(range(len(x.shape))) if dims is None else tuple(dims)
    if order == 1:
        b.reduce("sum", b("abs", x), dims, node.attrs["keepdim"], out)
    else:
        b("sqrt", b.reduce("sum", b("mul", x, x), dims, node.attrs["keepdim"]), out=out)
    return None


# ---- softmax -------------------------------------------------------------------------------------


@rule("softmax", "log_softmax")
def _softmax(b: Builder, node: Node) -> bool | None:
    x, out, dims = node.inputs[0], single(node), (node.attrs["dim"],)
    if not fits(x) or not x.shape:
        return False
    shifted = b("sub", x, b.reduce("max", x, dims))
    powers = b("exp", shifted)
    total = b.reduce("sum", powers, dims)
    if node.op == "softmax":
        b("div", powers, total, out=out)
    else:
        b("sub", shifted, b("log", total), out=out)
    return None


@rule("softmax_backward", "log_softmax_backward")
def _softmax_backward(b: Builder, node: Node) -> bool | None:
    grad, y = node.inputs
    out, dims = single(node), (node.attrs["dim"],)
    if not fits(grad, y) or not y.shape:
        return False
    if node.op == "softmax_backward":
        b("mul", b("sub", grad, b.reduce("sum", b("mul", grad, y), dims)), y, out=out)
    else:
        b("sub", grad, b("mul", b("exp", y), b.reduce("sum", grad, dims)), out=out)
    return None


# ---- losses --------------------------------------------------------------------------------------


@rule("mse_loss")
def _mse(b: Builder, node: Node) -> bool | None:
    x, y = node.inputs
    out = single(node)
    if not fits(x, y):
        return False
    gap = b("sub", x, y)
    reduced(b, b("mul", gap, gap, out=out if node.attrs["reduction"] == "none" else None), node.attrs["reduction"], out)
    return None


def reduced(b: Builder, losses: Ref, reduction: str, out: Value) -> None:
    """The sum or mean of losses, if it is asked for."""
    if reduction == "none":
        return
    dims = tuple(range(len(losses.shape)))
    if reduction == "sum":
        b.reduce("sum", losses, dims, False, out)
    else:
        b("div", b.reduce("sum", losses, dims, False), float(math.prod(losses.shape)), out=out)


def known_index(b: Builder, index: Any, size: int, but: int | None = None) -> bool:
    """Whether an index needs no check where it is used: constants and draws within bounds, and outside memory, which
    the entry checks before each call (`Graph.checks`). Values equal to `but` are allowed as well."""
    if not isinstance(index, Ref) or index.dtype.kind != "i":
        return False
    value = index.value
    if value in b.graph.constants:
        array = b.graph.constants[value]
        return Check(index, 0, size - 1, but).holds(array)
    if value.source is not None and value.source.kind in ("argument", "tensor"):
        check = Check(index, 0, size - 1, but)
        if not any(check == known for known in b.graph.checks):
            b.graph.checks.append(check)
        return True
    node = value.node
    if node is not None and node.op == "@draw" and node.attrs["kind"] == "randint":
        bounds = node.attrs["parameters"]
        return bool(bounds["low"] >= 0 and bounds["high"] <= size)
    return False


@rule("nll_loss")
def _nll(b: Builder, node: Node) -> bool | None:
    x, target, weight = node.inputs
    out, reduction = single(node), node.attrs["reduction"]
    if weight is not None or not fits(x) or len(x.shape) != 2:
        return False
    n, classes = x.shape
    if not known_index(b, target, classes, node.attrs["ignore_index"]):
        return False
    own = _own_class(b, node, target, classes)
    picked = b.reduce(
        "sum", b.node("where", [own, x, 0.0], {}, b.value((n, classes), contiguous((n, classes)), x.dtype)), (1,), False
    )
    losses = b("neg", picked, out=out if reduction == "none" else None)
    if reduction == "mean":
        b("div", b.reduce("sum", losses, (0,), False), _counted(b, node, target, x.dtype), out=out)
    else:
        reduced(b, losses, reduction, out)
    return None


def _own_class(b: Builder, node: Node, target: Ref, classes: int) -> Ref:
    """Where a column is the class of its row; nowhere in rows to be ignored."""
    n, ignored = target.shape[0], node.attrs["ignore_index"]
    column = Ref(target.value, (n, 1), (target.strides[0], 0), target.offset)
    own = b("eq", b.position((n, classes), 1), column, dtype=bool)
    return b("logical_and", own, b("ne", column, ignored, dtype=bool)) if 0 <= ignored < classes else own


def _counted(b: Builder, node: Node, target: Ref, dtype: Any) -> Ref:
    """How many targets are not to be ignored."""
    counts = b("ne", target, node.attrs["ignore_index"], dtype=bool)
    numbers = b.node("to_copy", [counts], {"dtype": dtype}, b.value(target.shape, contiguous(target.shape), dtype))
    return b.reduce("sum", numbers, (0,), False)


@rule("nll_loss_backward")
def _nll_backward(b: Builder, node: Node) -> bool | None:
    grad, x, target, weight = node.inputs
    out = single(node)
    if weight is not None or not fits(grad, x) or len(x.shape) != 2:
        return False
    n, classes = x.shape
    if not known_index(b, target, classes, node.attrs["ignore_index"]):
        return False
    if grad.shape == (n,):
        grad = Ref(grad.value, (n, 1), (grad.strides[0], 0), grad.offset)
    share = b("neg", b("div", grad, _counted(b, node, target, x.dtype)) if node.attrs["reduction"] == "mean" else grad)
    own = _own_class(b, node, target, classes)
    b.node("where", [own, share, 0.0], {}, out)
    return None


# ---- normalisation -------------------------------------------------------------------------------


def along(ref: Ref | None, rank: int) -> Ref | None:
    """A vector of channels as (1, C, 1, …)."""
    if ref is None or len(ref.shape) != 1:
        return ref
    tail = (1,) * (rank - 2), (0,) * (rank - 2)
    return Ref(ref.value, (1, ref.shape[0], *tail[0]), (0, ref.strides[0], *tail[1]), ref.offset)


@rule("native_batch_norm", "native_layer_norm")
def _normalize(b: Builder, node: Node) -> bool | None:
    x, weight, bias = node.inputs
    out, mean_out, var_out = node.outputs
    axes = tuple(node.attrs["axes"])
    if not fits(x, weight, bias) or out is None:
        return False
    if node.op == "native_batch_norm":
        weight, bias = along(weight, len(x.shape)), along(bias, len(x.shape))
    count = float(math.prod(x.shape[d] for d in axes))
    if node.op == "native_batch_norm":
        # One pass over memory: sums of x and x^2, shifted by one element of each channel so that nothing cancels.
        shift = Ref(x.value, x.shape, tuple(0 if d in axes else s for d, s in enumerate(x.strides)), x.offset)
        one = Ref(x.value, tuple(1 if d in axes else n for d, n in enumerate(x.shape)), shift.strides, x.offset)
        centred = b("sub", x, shift)
        first = b("div", b.reduce("sum", centred, axes), count)
        second = b("div", b.reduce("sum", b("mul", centred, centred), axes), count)
        mean = b("add", first, one, out=mean_out)
        var = b("maximum", b("sub", second, b("mul", first, first)), 0.0, out=var_out)
    else:
        mean = b("div", b.reduce("sum", x, axes), count, out=mean_out)
        centred = b("sub", x, mean)
        var = b("div", b.reduce("sum", b("mul", centred, centred), axes), count, out=var_out)
    scale = b("rsqrt", b("add", var, node.attrs["eps"]))
    unit = b("mul", b("sub", x, mean), scale, out=out if weight is None and bias is None else None)
    if weight is not None:
        unit = b("mul", unit, weight, out=out if bias is None else None)
    if bias is not None:
        b("add", unit, bias, out=out)
    return None


@rule("native_batch_norm_backward", "native_layer_norm_backward")
def _normalize_backward(b: Builder, node: Node) -> bool | None:
    upstream, x, weight, mean, var = node.inputs
    dx, dweight, dbias = node.outputs
    axes = tuple(node.attrs["axes"])
    if not fits(upstream, x, weight, mean, var) or dx is None:
        return False
    rank = len(x.shape)
    count = float(math.prod(x.shape[d] for d in axes))
    if node.op == "native_batch_norm_backward":
        weight, mean, var = along(weight, rank), along(mean, rank), along(var, rank)
    scale = b("rsqrt", b("add", var, node.attrs["eps"]))
    b.again = True  # cheaper than keeping it from the forward: x is read either way
    unit = b("mul", b("sub", x, mean), scale)
    over = tuple(d for d in range(rank) if d not in axes) if node.op == "native_layer_norm_backward" else axes
    affine = node.attrs["affine"] is not None
    if node.op == "native_batch_norm_backward":
        sums = b.reduce("sum", upstream, axes, False, dbias if affine else None)
        products = b.reduce("sum", b("mul", upstream, unit), axes, False, dweight if affine else None)
        factor = scale if weight is None else b("mul", scale, weight)
        kept = along(sums, rank), along(products, rank)
        rest = b("add", b("div", kept[0], count), b("mul", unit, b("div", kept[1], count)))
        b("mul", b("sub", upstream, rest), factor, out=dx)
        return None
    scaled = upstream if weight is None else b("mul", upstream, weight)
    first = b("div", b.reduce("sum", scaled, axes), count)
    second = b("div", b.reduce("sum", b("mul", scaled, unit), axes), count)
    b("mul", b("sub", b("sub", scaled, first), b("mul", unit, second)), scale, out=dx)
    if affine:
        if tuple(node.attrs["affine"]) != tuple(x.shape[d] for d in axes):
            return False
        b.reduce("sum", b("mul", upstream, unit), over, False, dweight)
        b.reduce("sum", upstream, over, False, dbias)
    return None


@rule("channel_affine")
def _channel_affine(b: Builder, node: Node) -> bool | None:
    x, scale, shift = node.inputs
    if not fits(x, scale, shift):
        return False
    b("add", b("mul", x, scale), shift, out=single(node))
    return None


# ---- looking up ----------------------------------------------------------------------------------


@rule("embedding")
def _embedding(b: Builder, node: Node) -> bool | None:
    table, index = node.inputs
    if not fits(table) or not known_index(b, index, table.shape[0]):
        return False
    b.gather(table, index, 0, single(node))
    return None


@rule("index_select")
def _index_select(b: Builder, node: Node) -> bool | None:
    x, index = node.inputs
    dim = node.attrs["dim"]
    if not isinstance(x, Ref) or not x.shape or len(index.shape) != 1 or not known_index(b, index, x.shape[dim]):
        return False
    b.gather(x, index, dim, single(node))
    return None


@rule("masked_fill")
def _masked_fill(b: Builder, node: Node) -> bool | None:
    x, mask, value = node.inputs
    out = single(node)
    if (
        not fits(x)
        or not isinstance(mask, Ref)
        or mask.dtype.kind != "b"
        or x.shape != out.shape
        or (isinstance(value, Ref) and value.shape)
    ):
        return False
    if np.broadcast_shapes(mask.shape, x.shape) != x.shape:
        return False
    b.node("where", [mask, value, x], {}, out)
    return None


@rule("scale_gradient")
def _as_it_is(b: Builder, node: Node) -> bool | None:
    b.node("@copy", [node.inputs[0]], {}, single(node))
    return None


# ---- windows of memory that the history of views names by a function (core/inplace.py) ---------------


def window_of(replay: Any, shape: tuple[int, ...]) -> dict[str, Any] | None:
    """The window that `replay` takes of plain memory; None if it copies or shows elements twice."""
    base = np.empty(shape, np.uint8)
    part = replay(base)
    low, high = np.lib.array_utils.byte_bounds(base)
    if (
        not part.size
        or not np.may_share_memory(part, base)
        or any(s <= 0 < n - 1 for s, n in zip(part.strides, part.shape))
    ):
        return None
    offset = int(part.__array_interface__["data"][0]) - low
    return {"shape": part.shape, "strides": part.strides, "offset": offset} if 0 <= offset < high - low else None


@rule("read_region")
def _read_region(b: Builder, node: Node) -> bool | None:
    grad = node.inputs[0]
    window = window_of(node.attrs["replay"], grad.shape)
    if window is None or grad.strides != contiguous(grad.shape):
        return False
    part = Ref(grad.value, window["shape"], window["strides"], grad.offset + window["offset"])
    b.node("@copy", [part], {}, single(node))
    return None


@rule("write_region", "clear_region", "copy_slices")
def _change_region(b: Builder, node: Node) -> bool | None:
    out = single(node)
    window = window_of(node.attrs["replay"], out.shape)
    if window is None or out.strides != contiguous(out.shape):
        return False
    first = node.inputs[0]
    if node.op == "write_region":
        old, new = 0.0, first
    elif node.op == "clear_region":
        old, new = first, 0.0
    else:
        old, new = node.inputs
    if isinstance(new, Ref) and new.shape != window["shape"]:
        return False
    b.node("@update", [old, new], window, out)
    return None
