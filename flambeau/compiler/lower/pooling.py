"""Average pooling as oneDNN primitives."""

from __future__ import annotations

from ctypes import c_void_p
from typing import Any

from flambeau.backends.onednn import library as lib
from flambeau.backends.onednn.primitive import Primitive
from flambeau.compiler.graph import Node
from flambeau.compiler.lower.convolution import Image, chosen
from flambeau.compiler.lower.onednn import Plan, Sizes, takes
from flambeau.compiler.steps import Lowering, Step, lowering


def average_parameters(size: Sizes, attrs: dict[str, Any]) -> list[Any] | None:
    """oneDNN's stride, kernel, dilation and padding for the windows on `size`; None where it counts otherwise.

    It does not clip windows at the padded edge, and divides by nothing but the number of elements.
    """
    kernel, stride, before, count = attrs["kernel"], attrs["stride"], attrs["padding"], attrs["count"]
    after = [(c - 1) * s + k - n - p for c, s, k, n, p in zip(count, stride, kernel, size, before)]
    clipped = any(a > b for a, b in zip(after, before))
    in_padding = any(b >= k or a >= k for b, a, k in zip(before, after, kernel))
    if attrs["divisor"] is not None or in_padding or (attrs["include_pad"] and clipped):
        return None
    return [*map(lib.dims, (stride, kernel, (0,) * len(kernel), before, after))]


def algorithm(attrs: dict[str, Any]) -> int:
    return lib.POOLING_AVG_INCLUDE_PADDING if attrs["include_pad"] else lib.POOLING_AVG_EXCLUDE_PADDING


@lowering("avg_pool")
def avg_pool(node: Node, low: Lowering) -> list[Step] | None:
    """Forward."""
    (x,), (out,) = node.inputs, node.outputs
    parameters = average_parameters(x.shape[2:], node.attrs) if takes(x) else None
    if out is None or parameters is None:
        return None
    plan = Plan(low)
    source, target = Image(plan.dense(x)), Image(out.whole())

    def make(x_md: c_void_p, y_md: c_void_p) -> Primitive:
        return Primitive(
            "pooling_forward",
            [lib.FORWARD_INFERENCE, algorithm(node.attrs), x_md, y_md, *parameters],
            [lib.ARG_SRC, lib.ARG_DST],
        )

    primitive = chosen(make, source, target)
    if primitive is None:
        return None
    return target.written(plan, primitive, lib.ARG_DST, [source.laid(plan, primitive, lib.ARG_SRC)])


@lowering("avg_pool_backward")
def avg_pool_backward(node: Node, low: Lowering) -> list[Step] | None:
    """The gradient of the image."""
    (grad,), (out,) = node.inputs, node.outputs
    parameters = average_parameters(node.attrs["size"], node.attrs) if takes(grad) else None
    if out is None or parameters is None:
        return None
    plan = Plan(low)
    source, target = Image(plan.dense(grad)), Image(out.whole())

    def make(y_md: c_void_p, x_md: c_void_p) -> Primitive:
        kind = algorithm(node.attrs)
        hint = Primitive(
            "pooling_forward", [lib.FORWARD_TRAINING, kind, x_md, y_md, *parameters], [lib.ARG_SRC, lib.ARG_DST]
        )
        arguments = [lib.ARG_DIFF_DST, lib.ARG_DIFF_SRC]
        return Primitive("pooling_backward", [kind, x_md, y_md, *parameters], arguments, hint)

    primitive = chosen(make, source, target)
    if primitive is None:
        return None
    return target.written(plan, primitive, lib.ARG_DIFF_SRC, [source.laid(plan, primitive, lib.ARG_DIFF_DST)])
