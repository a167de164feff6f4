"""Convolution and its two gradients; transposed convolution is the same three with the roles exchanged.

Activations are channels-last inside: measured, oneDNN's best layout or within a few per cent of it for the output and
the gradient of the image. The gradient of the weight is 25–35 % faster in blocked order on AVX2, so that one converts
what it reads (docs/decisions/0005-onednn-layouts.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.backends.onednn import library as lib
from flambeau.backends.onednn import weight_gradient
from flambeau.backends.onednn.memory import described, empty, free_choice, ordered, pointer, strided
from flambeau.backends.onednn.primitive import Cache, Converter, Primitive, Unsupported, Workspace
from flambeau.backends.onednn.weights import packed

Sizes = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


class Geometry:
    """Shapes and parameters of one convolution as oneDNN wants them."""

    def __init__(self, x_shape: Sizes, w_shape: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int):
        self.x, self.w, self.groups = x_shape, w_shape, groups
        spans = [d * (k - 1) + 1 for k, d in zip(w_shape[2:], dilation)]
        # oneDNN wants the padding that the windows really touch: what the last window does not reach is cut off.
        count = [(n + b + a - span) // s + 1 for n, (b, a), span, s in zip(x_shape[2:], padding, spans, stride)]
        after = [(c - 1) * s + span - n - b
                 for c, s, span, n, (b, _) in zip(count, stride, spans, x_shape[2:], padding)]
        self.y = (x_shape[0], w_shape[0], *count)
        self.parameters = [lib.dims(stride), lib.dims([d - 1 for d in dilation]), lib.dims([b for b, _ in padding]),
                           lib.dims(after)]

    @property
    def grouped(self) -> Sizes:
        """The weight's shape for oneDNN: groups are an axis of their own."""
        o, *rest = self.w
        return self.w if self.groups == 1 else (self.groups, o // self.groups, *rest)

    def forward(self, x: Any, bias: bool, y: Any) -> Primitive:
        """The forward primitive; also the hint of the other two."""
        arguments = [lib.ARG_SRC, lib.ARG_WEIGHTS, lib.ARG_DST, *([lib.ARG_BIAS] if bias else [])]
        return Primitive("convolution_forward", [
            lib.FORWARD_TRAINING, lib.CONVOLUTION_DIRECT, x, free_choice(self.grouped),
            strided((self.w[0],)) if bias else None, y, *self.parameters], arguments)


def refuse_reference(primitive: Primitive) -> Primitive:
    """Raise Unsupported for oneDNN's plain loops: NumPy's matrix products are faster."""
    if primitive.implementation.startswith("ref"):
        raise Unsupported(f"oneDNN has no fast {primitive.name} for these shapes")
    return primitive


# ---- forward -----------------------------------------------------------------------------------


class _Forward:
    def __init__(self, x_shape: Sizes, x_last: bool, w_shape: Sizes, bias: bool, *rest: Any):
        geometry = Geometry(x_shape, w_shape, *rest)
        self.shape = geometry.y
        self.run = refuse_reference(
            geometry.forward(described(x_shape, True), bias, described(geometry.y, True)))
        self.x = Converter.into(self.run, lib.ARG_SRC, described(x_shape, x_last))
        self.w = Converter.into(self.run, lib.ARG_WEIGHTS, strided(geometry.grouped))


_forward = Cache(_Forward)


def conv_forward(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, stride: Sizes, padding: Any, dilation: Sizes,
                 groups: int, key: Any = None) -> np.ndarray:
    """Convolution of (N, C, *size) with (O, C/groups, *kernel) and bias (O,): (N, O, *positions), channels-last.

    `padding` is an int or a (before, after) pair per axis. `key` is (owner, version) of the weight's memory: what is
    reordered for one version of the array is kept and reused as long as the owner lives.
    """
    x, last = ordered(x)
    plan = _forward(x.shape, last, w.shape, bias is not None, stride, pairs(padding), dilation, groups)
    y = empty(plan.shape, True)
    with Workspace() as space:
        addresses = [space.take(plan.x, x), packed(plan.w, np.ascontiguousarray(w), space, key), pointer(y)]
        if bias is not None:
            bias = np.ascontiguousarray(bias)
            addresses.append(pointer(bias))
        plan.run.run(*addresses)
    return y


# ---- gradient of the image ---------------------------------------------------------------------


class _BackwardInput:
    def __init__(self, grad_shape: Sizes, grad_last: bool, w_shape: Sizes, x_shape: Sizes, bias: bool, *rest: Any):
        geometry = Geometry(x_shape, w_shape, *rest)
        if geometry.y != grad_shape:
            raise Unsupported(f"the gradient {grad_shape} does not belong to an image {x_shape}")
        self.shape = x_shape
        x, y = described(x_shape, True), described(geometry.y, True)
        self.run = refuse_reference(Primitive(
            "convolution_backward_data",
            [lib.CONVOLUTION_DIRECT, x, free_choice(geometry.grouped), y, *geometry.parameters],
            [lib.ARG_DIFF_DST, lib.ARG_WEIGHTS, lib.ARG_DIFF_SRC], geometry.forward(x, False, y)))
        self.grad = Converter.into(self.run, lib.ARG_DIFF_DST, described(grad_shape, grad_last))
        self.w = Converter.into(self.run, lib.ARG_WEIGHTS, strided(geometry.grouped))


_backward_input = Cache(_BackwardInput)


def conv_backward_input(grad: np.ndarray, w: np.ndarray, x_shape: Sizes, stride: Sizes, padding: Any, dilation: Sizes,
                        groups: int, key: Any = None) -> np.ndarray:
    """The gradient of `conv_forward` in its image, of shape `x_shape`, channels-last."""
    grad, last = ordered(grad)
    plan = _backward_input(grad.shape, last, w.shape, tuple(x_shape), False, stride, pairs(padding), dilation, groups)
    out = empty(plan.shape, True)
    with Workspace() as space:
        plan.run.run(space.take(plan.grad, grad), packed(plan.w, np.ascontiguousarray(w), space, key), pointer(out))
    return out


# ---- gradient of the weight --------------------------------------------------------------------


class _BackwardWeight:
    def __init__(self, grad_shape: Sizes, grad_last: bool, x_shape: Sizes, x_last: bool, w_shape: Sizes, bias: bool,
                 *rest: Any):
        geometry = Geometry(x_shape, w_shape, *rest)
        if geometry.y != grad_shape:
            raise Unsupported(f"the gradient {grad_shape} does not belong to an image {x_shape}")
        x, y, b = free_choice(x_shape), free_choice(geometry.y), strided((w_shape[0],)) if bias else None
        arguments = [lib.ARG_SRC, lib.ARG_DIFF_DST, lib.ARG_DIFF_WEIGHTS, *([lib.ARG_DIFF_BIAS] if bias else [])]
        self.run = refuse_reference(Primitive(
            "convolution_backward_weights",
            [lib.CONVOLUTION_DIRECT, x, free_choice(geometry.grouped), b, y, *geometry.parameters],
            arguments, geometry.forward(x, bias, y)))
        self.x = Converter.into(self.run, lib.ARG_SRC, described(x_shape, x_last))
        self.grad = Converter.into(self.run, lib.ARG_DIFF_DST, described(grad_shape, grad_last))
        self.out = Converter.out_of(self.run, lib.ARG_DIFF_WEIGHTS, strided(geometry.grouped))


_backward_weight = Cache(_BackwardWeight)


def conv_backward_weight(grad: np.ndarray, x: np.ndarray, w_shape: Sizes, stride: Sizes, padding: Any, dilation: Sizes,
                         groups: int, want_bias: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """The gradients of `conv_forward` in its weight, of shape `w_shape`, and (if wanted) in its bias."""
    grad, grad_last = ordered(grad)
    x, x_last = ordered(x)
    w_shape, padding = tuple(w_shape), pairs(padding)
    if weight_gradient.fits(x.shape, w_shape, stride, groups):
        dw, db = weight_gradient.weight_gradient(grad, x, w_shape, padding, dilation)
        return dw, db if want_bias else None
    plan = _backward_weight(grad.shape, grad_last, x.shape, x_last, w_shape, want_bias, stride, padding, dilation,
                            groups)
    out = np.empty(w_shape, np.float32)
    bias = np.empty(w_shape[0], np.float32) if want_bias else None
    with Workspace() as space:
        made = pointer(out) if plan.out is None else space.reserve(plan.out.size)
        addresses = [space.take(plan.x, x), space.take(plan.grad, grad), made]
        if bias is not None:
            addresses.append(pointer(bias))
        plan.run.run(*addresses)
        if plan.out is not None:
            plan.out.run(made, pointer(out))
    return out, bias


# ---- transposed --------------------------------------------------------------------------------


def conv_transpose_forward(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, stride: Sizes, padding: Any,
                           output_padding: Sizes, dilation: Sizes, groups: int, key: Any = None) -> np.ndarray:
    """Transposed convolution of (N, C, *positions) with (C, O/groups, *kernel): (N, O, *size), channels-last."""
    both = pairs(padding)
    size = tuple((n - 1) * s - b - a + d * (k - 1) + extra + 1 for n, s, (b, a), d, k, extra in zip(
        x.shape[2:], stride, both, dilation, w.shape[2:], output_padding))
    out = conv_backward_input(x, w, (x.shape[0], w.shape[1] * groups, *size), stride, both, dilation, groups, key)
    if bias is not None:
        out += bias.reshape(-1, *(1,) * len(size))
    return out


def conv_transpose_backward_input(grad: np.ndarray, w: np.ndarray, x_shape: Sizes, stride: Sizes, padding: Any,
                                  dilation: Sizes, groups: int, key: Any = None) -> np.ndarray:
    """The gradient of `conv_transpose_forward` in its first input, of shape `x_shape`, channels-last."""
    out = conv_forward(grad, w, None, stride, padding, dilation, groups, key)
    inside: Any = (..., *(slice(0, n) for n in x_shape[2:]))  # a large output padding makes room for one more
    return out[inside]


def conv_transpose_backward_weight(grad: np.ndarray, x: np.ndarray, w_shape: Sizes, stride: Sizes, padding: Any,
                                   dilation: Sizes, groups: int,
                                   want_bias: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """The gradients of `conv_transpose_forward` in its weight and (if wanted) in its bias."""
    out, _ = conv_backward_weight(x, grad, w_shape, stride, padding, dilation, groups, False)
    return out, grad.sum((0, *range(2, grad.ndim))) if want_bias else None


def pairs(padding: Any) -> Pairs:
    """(before, after) per axis."""
    return tuple((p, p) if isinstance(p, int) else tuple(p) for p in padding)
