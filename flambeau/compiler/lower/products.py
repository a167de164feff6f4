"""Matrix products and linear layers as oneDNN's matmul, at the operands' own strides."""

from __future__ import annotations

import math
from ctypes import c_void_p

from flambeau.backends.onednn import library as lib
from flambeau.backends.onednn.memory import loaded, strided
from flambeau.backends.onednn.primitive import PostOps, Primitive
from flambeau.compiler.graph import Node, Ref
from flambeau.compiler.kernel import Apply, Instruction, Kernel, Load, Reduce, Store
from flambeau.compiler.lower import skinny
from flambeau.compiler.lower.onednn import FLOAT, Plan, Sizes, quality, reorder, reshaped, takes
from flambeau.compiler.passes.readers import Steady
from flambeau.compiler.steps import KernelStep, Lowering, Step, lowering

# Up to this many products a loop of our own beats the call of the library.
FEW_PRODUCTS, FEW_IN_ROWS = 1024, 32768  # the latter where one side is a vector and both are read along rows
# Without AVX-512 oneDNN's product suffers from rows that fall into the same lines of the cache: it takes twice the
# time where they lie a multiple of PAGE apart along a long contraction, a tenth more where it is a multiple of QUARTER.
# A copy with GAP elements after each row costs as much as 43 uses of each (docs/decisions/0010-compiled-layouts.md).
LONG, PAGE, QUARTER, GAP = 512, 1024, 256, 16
OFTEN = {PAGE: 64, QUARTER: 512}  # how often each element must be used for the copy to be worth it


@lowering("matmul")
def matmul(node: Node, low: Lowering) -> list[Step] | None:
    """Products of the last two axes, the others broadcast."""
    x, y = node.inputs
    out = node.outputs[0]
    return None if out is None or not takes(x, y) else product(node, low, x, y, None, out.whole(), [])


@lowering("linear", "linear_chain")
def linear(node: Node, low: Lowering) -> list[Step] | None:
    """x @ w.T + bias, all rows as one matrix where strides allow; "linear_chain" with post-ops on further inputs."""
    x, w, bias, *others = node.inputs
    out = node.outputs[0]
    if out is None or not takes(x, w, bias, *others):
        return None
    rows = math.prod(x.shape[:-1])
    target = reshaped(out.whole(), (rows, w.shape[0]))
    flat = reshaped(x, (rows, x.shape[-1]))
    sides = [other if other.shape == (1,) else reshaped(other, (rows, w.shape[0])) for other in others]
    plan: list[Step] = []
    if flat is None:
        first = Plan(low)
        flat = reshaped(first.copied(x), (rows, x.shape[-1]))
        plan = first.steps
    if target is None or flat is None or any(side is None for side in sides):
        return None
    found = product(node, low, flat, swapped(w), bias, target, [side for side in sides if side is not None])
    return None if found is None else plan + found


@lowering("@products")
def products(node: Node, low: Lowering) -> list[Step] | None:
    """Products added up, with a further matrix perhaps (passes/products.py); None leaves them as they were."""
    operands, count = node.inputs, node.attrs["count"]
    out = node.outputs[0]
    if out is None or not takes(*operands):
        return None
    pairs = list(zip(operands[: 2 * count : 2], operands[1 : 2 * count : 2]))
    start = operands[2 * count] if len(operands) > 2 * count else None
    found = skinny.steps(low, pairs, out.whole(), start=start)
    return None if found is None else [*found]


def product(
    node: Node, low: Lowering, x: Ref, y: Ref, bias: Ref | None, out: Ref, others: list[Ref]
) -> list[Step] | None:
    """The steps of out = x @ y + bias and of the node's post-ops."""
    rank = len(out.shape)
    x, y = widened(x, rank), widened(y, rank)
    if "post" not in node.attrs and is_small(x, y, out):
        return [loop(x, y, bias, out)]
    own = skinny.steps(low, [(x, y)], out, bias=bias, post=node.attrs.get("post", ()))
    if own is not None:
        return [*own]
    plan = Plan(low)
    if any(n > 1 and a == b == 0 for n, a, b in zip(out.shape[:-2], x.strides, y.strides)):
        x = plan.copied(x)  # every axis of the result must be one of an operand's
    x, y, others = readable(plan, x), readable(plan, y), [plan.dense(widened(other, rank)) for other in others]
    if not loaded().has_avx512:
        x, y = apart(plan, x, -1, out.shape[-1]), apart(plan, y, -2, out.shape[-2])
    chain = PostOps.of(node.attrs.get("post", ()), [described(other) for other in others])
    inputs = [lib.ARG_SRC, lib.ARG_WEIGHTS, *([] if bias is None else [lib.ARG_BIAS]), *chain.arguments]
    try:
        primitive = Primitive(
            "matmul",
            [
                described(x),
                described(y),
                None if bias is None else strided((*(1,) * (rank - 1), bias.shape[0])),
                described(out),
            ],
            [*inputs, lib.ARG_DST],
            post_ops=chain,
        )
    except lib.OneDNNError:
        return None
    if not quality(primitive):
        return None
    plan.run(primitive, [x, y, *([] if bias is None else [plan.vector(bias)]), *others], [out])
    return plan.steps


def is_small(x: Ref, y: Ref, out: Ref) -> bool:
    """Whether a loop of our own takes less time than the call of the library."""
    count = math.prod(out.shape) * x.shape[-1]
    if 1 in out.shape[-2:] and x.strides[-1] == y.strides[-2] == 1:
        return count <= FEW_IN_ROWS
    return count <= FEW_PRODUCTS


def widened(ref: Ref, rank: int) -> Ref:
    """The window with axes of one element in front."""
    more = rank - len(ref.shape)
    return Ref(ref.value, (*(1,) * more, *ref.shape), (*(0,) * more, *ref.strides), ref.offset)


def swapped(matrix: Ref) -> Ref:
    """The transpose of the last two axes."""
    (*shape, rows, columns), (*strides, down, right) = matrix.shape, matrix.strides
    return Ref(matrix.value, (*shape, columns, rows), (*strides, right, down), matrix.offset)


def described(ref: Ref) -> c_void_p:
    """The descriptor of a window; axes of one element get the stride they would have in plain order."""
    steps, plain = list(ref.strides), 1
    for axis in reversed(range(len(steps))):
        if ref.shape[axis] == 1:
            steps[axis] = max(plain, 1)
        plain = max(plain, steps[axis] * ref.shape[axis])
    return strided(ref.shape, tuple(steps))


def readable(plan: Plan, ref: Ref) -> Ref:
    """A window whose matrices have unit stride along one axis; broadcast axes have one element. Copied if need be."""
    shape: Sizes = tuple(1 if step == 0 else n for n, step in zip(ref.shape[:-2], ref.strides))
    ref = Ref(ref.value, (*shape, *ref.shape[-2:]), ref.strides, ref.offset)
    (rows, columns), (down, right) = ref.shape[-2:], ref.strides[-2:]
    by_rows = (right == 1 or columns == 1) and (down >= columns or rows == 1)
    by_columns = (down == 1 or rows == 1) and (right >= rows or columns == 1)
    return ref if by_rows or by_columns else plan.copied(ref)


def apart(plan: Plan, ref: Ref, contracted: int, uses: int) -> Ref:
    """The matrix, copied with a gap after each row if its rows collide in the cache and are used often enough.

    `contracted` is the axis that the product sums over, `uses` how often it reads each element.
    """
    if len(ref.shape) != 2 or ref.shape[contracted] < LONG or 1 not in ref.strides:
        return ref
    along = ref.strides.index(1)  # the axis that runs along rows
    length, count, step = ref.shape[along], ref.shape[1 - along], ref.strides[1 - along]
    modulus = PAGE if along != contracted % 2 and step % PAGE == 0 else QUARTER
    if step % modulus or uses < OFTEN[modulus] or count == 1:
        return ref
    if contracted == -1 and along == 1:  # rows of the left operand are read one by one
        return ref
    room = plan.low.graph.value((count, length + GAP), (length + GAP, 1), FLOAT)
    steps = [length + GAP, length + GAP]
    steps[along] = 1
    target = Ref(room, ref.shape, tuple(steps))
    plan.run(reorder(described(ref), described(target)), [ref], [target], Steady(plan.low.graph)(ref.value))
    return target


def loop(x: Ref, y: Ref, bias: Ref | None, out: Ref) -> KernelStep:
    """A small product as a loop of our own: the space is (batch…, rows, columns, inner), reduced over the last."""
    depth = x.shape[-1]
    shape = (*out.shape, depth)
    batch = [tuple(0 if n == 1 else step for n, step in zip(ref.shape[:-2], ref.strides)) for ref in (x, y)]
    values = list(dict.fromkeys(ref.value for ref in (x, y, bias, out) if ref is not None))
    body: list[Instruction] = [
        Load(values.index(x.value), (*batch[0], x.strides[-2], 0, x.strides[-1]), x.offset, FLOAT),
        Load(values.index(y.value), (*batch[1], 0, y.strides[-1], y.strides[-2]), y.offset, FLOAT),
        Apply("mul", (0, 1), (), FLOAT),
        Reduce("sum", 2, FLOAT),
    ]
    if bias is not None:
        across = (*(0,) * (len(shape) - 2), bias.strides[0], 0)
        body += [Load(values.index(bias.value), across, bias.offset, FLOAT), Apply("add", (3, 4), (), FLOAT)]
    body.append(Store(values.index(out.value), (*out.strides, 0), out.offset, len(body) - 1, FLOAT))
    reads = tuple(value for value in values if value is not out.value)
    return KernelStep(Kernel(shape, 1, tuple(body), len(values)), tuple(values), reads, (out.value,))
