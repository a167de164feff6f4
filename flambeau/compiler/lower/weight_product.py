"""The gradient of a convolution's weight as one matrix product, where oneDNN has no kernel of its own for the shapes.

    dw[o, tap, c] = sum over windows of grad[window, o] * columns[window, tap, c]

with the columns, what each window sees, copied out of the padded image. Worth it for small images with many channels.
"""

from __future__ import annotations

import math

from flambeau.backends.onednn import library as lib
from flambeau.backends.onednn.convolution import Geometry
from flambeau.backends.onednn.memory import contiguous_strides, strided
from flambeau.backends.onednn.primitive import Primitive
from flambeau.compiler.graph import Ref
from flambeau.compiler.kernel import Instruction, Kernel, Load, Number, Reduce, Store
from flambeau.compiler.lower.onednn import FLOAT, Plan, Sizes, is_last, reorder
from flambeau.compiler.steps import KernelStep

MOST_BYTES = 16 << 20  # of columns


def fits(geometry: Geometry) -> bool:
    """Whether the columns are small enough, and the channels enough for a good product."""
    n, channels, *_ = geometry.x
    count = n * math.prod(geometry.y[2:]) * math.prod(geometry.w[2:]) * channels
    return geometry.groups == 1 and 4 * count <= MOST_BYTES and min(channels, geometry.w[0]) >= 32


def weight_as_product(plan: Plan, geometry: Geometry, x: Ref, grad: Ref, of_weight: Ref, of_bias: Ref | None) -> None:
    """Add the steps that compute the gradients of weight and bias."""
    outputs, channels, *kernel = geometry.w
    grad = grad if is_last(grad) else plan.copied(grad, last=True)
    windows, taps = grad.shape[0] * math.prod(grad.shape[2:]), math.prod(kernel)
    columns = columns_of(plan, geometry, x)
    product = plan.low.graph.value((outputs, taps * channels), (taps * channels, 1), FLOAT)
    multiply = Primitive(
        "matmul",
        [
            strided((outputs, windows), (1, outputs)),
            strided((windows, taps * channels)),
            None,
            strided((outputs, taps * channels)),
        ],
        [lib.ARG_SRC, lib.ARG_WEIGHTS, lib.ARG_DST],
    )
    plan.run(multiply, [grad, columns], [product.whole()])
    made = (taps * channels, 1, *(step * channels for step in contiguous_strides(tuple(kernel))))
    plan.run(reorder(strided(geometry.w, made), strided(geometry.w, of_weight.strides)), [product.whole()], [of_weight])
    if of_bias is not None:
        body = (
            Load(0, (1, outputs), grad.offset, FLOAT),
            Reduce("sum", 0, FLOAT),
            Store(1, (of_bias.strides[0], 0), of_bias.offset, 1, FLOAT),
        )
        plan.steps.append(
            KernelStep(
                Kernel((outputs, windows), 1, body, 2), (grad.value, of_bias.value), (grad.value,), (of_bias.value,)
            )
        )


def columns_of(plan: Plan, geometry: Geometry, x: Ref) -> Ref:
    """(N, positions…, kernel…, C): what each window sees."""
    n, channels, *size = geometry.x
    stride, dilation, before, after = (tuple(p[: len(size)]) for p in geometry.parameters)
    kernel, positions = geometry.w[2:], geometry.y[2:]
    room = tuple(s + b + max(a, 0) for s, b, a in zip(size, before, after))
    image = (n, *room, channels)
    steps = contiguous_strides(image)
    padded = plan.low.graph.value(image, steps, FLOAT)
    fill = Kernel((math.prod(image),), 0, (Number(0.0, FLOAT), Store(0, (1,), 0, 0, FLOAT)), 1)
    plan.steps.append(KernelStep(fill, (padded,), (), (padded,)))
    start = sum(b * step for b, step in zip(before, steps[1:]))
    inside: tuple[Instruction, ...] = (
        Load(0, (x.strides[0], *x.strides[2:], x.strides[1]), x.offset, FLOAT),
        Store(1, steps, start, 0, FLOAT),
    )
    plan.steps.append(KernelStep(Kernel((n, *size, channels), 0, inside, 2), (x.value, padded), (x.value,), (padded,)))
    shape = (n, *positions, *kernel, channels)
    columns = plan.low.graph.value(shape, contiguous_strides(shape), FLOAT)
    seen: Sizes = (
        steps[0],
        *(s * t for s, t in zip(stride, steps[1:])),
        *((d + 1) * t for d, t in zip(dilation, steps[1:])),
        1,
    )
    copy = Kernel(shape, 0, (Load(0, seen, 0, FLOAT), Store(1, columns.strides, 0, 0, FLOAT)), 2)
    plan.steps.append(KernelStep(copy, (padded, columns), (padded,), (columns,)))
    return columns.whole()
