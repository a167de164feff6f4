"""Batch and layer normalisation, forward and backward.

oneDNN 2023.2 adds up a channel in float32, one element after the other: on 32×64×64×64 its variances are off by 3e-5
of themselves, on plain images its gradients of scale and shift by 1e-5. So for channels of many elements NumPy makes
those sums here, in blocks, and oneDNN is given them. Means over rows (layer normalisation) have no such weakness.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from flambeau.backends.onednn import library as lib
from flambeau.backends.onednn.convolution import Sizes
from flambeau.backends.onednn.memory import described, empty, ordered, pointer, strided
from flambeau.backends.onednn.primitive import Cache, Primitive, Workspace
from flambeau.backends.onednn.reorder import between


def _flags(scale: bool, shift: bool, relu: bool, fixed: bool) -> int:
    return (lib.USE_SCALE * scale + lib.USE_SHIFT * shift + lib.FUSE_RELU * relu + lib.USE_GLOBAL_STATS * fixed)


class _BatchNorm:
    def __init__(self, shape: Sizes, last: bool, scale: bool, shift: bool, eps: float, relu: bool, fixed: bool,
                 training: bool):
        x = described(shape, last)
        self.last = last
        self.channels = shape[1]
        flags = _flags(scale, shift, relu, fixed)
        arguments = [lib.ARG_SRC, lib.ARG_DST, lib.ARG_MEAN, lib.ARG_VARIANCE,
                     *([lib.ARG_SCALE] if scale else []), *([lib.ARG_SHIFT] if shift else []),
                     *([lib.ARG_WORKSPACE] if relu and training else [])]
        self.run = Primitive("batch_normalization_forward", [
            lib.FORWARD_TRAINING if training else lib.FORWARD_INFERENCE, x, x, eps, flags], arguments)
        self.workspace_size = self.run.size(lib.ARG_WORKSPACE) if relu and training else 0
        if training:
            self.back = Primitive("batch_normalization_backward", [lib.BACKWARD, x, x, x, eps, flags], [
                lib.ARG_SRC, lib.ARG_MEAN, lib.ARG_VARIANCE, lib.ARG_DIFF_DST, lib.ARG_DIFF_SRC,
                *([lib.ARG_SCALE, lib.ARG_DIFF_SCALE] if scale else []), *([lib.ARG_DIFF_SHIFT] if shift else []),
                *([lib.ARG_WORKSPACE] if relu else [])], self.run)


_batch_norm = Cache(_BatchNorm)

MANY = 512  # elements of a channel whose sum in float32, one by one, begins to lose digits
_CHUNK = 1 << 16  # elements that NumPy works on at a time, in the second-level cache
_BLOCK = 128  # rows that are added up in float32 before they are added to a float64 number


def _chunks(*arrays: np.ndarray, last: bool) -> Iterator[tuple[np.ndarray, ...]]:
    """Parts of equally ordered (N, C, *size) arrays, each as rows of channels (channels-last) or as (n, C, size)."""
    samples, channels, *spatial = arrays[0].shape
    if last:
        axes = (0, *range(2, len(spatial) + 2), 1)
        views = [a.transpose(axes).reshape(-1, channels) for a in arrays]
    else:
        views = [a.reshape(samples, channels, -1) for a in arrays]
    step = max(1, _CHUNK * len(views[0]) // arrays[0].size)
    for start in range(0, len(views[0]), step):
        yield tuple(view[start:start + step] for view in views)


def _channel_sums(part: np.ndarray, last: bool) -> Any:
    """The sum of each channel of a chunk, in float64."""
    if not last:
        return np.add.reduce(np.add.reduce(part, -1), 0, np.float64)
    whole = len(part) // _BLOCK * _BLOCK
    blocks = np.add.reduce(part[:whole].reshape(-1, _BLOCK, part.shape[1]), 1)
    return np.add.reduce(blocks, 0, np.float64) + np.add.reduce(part[whole:], 0)


def moments(x: np.ndarray, last: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance of the channels of (N, C, *size), which lies in plain order or channels-last."""
    channels = x.shape[1]
    near = next(_chunks(x, last=last))[0][0].reshape(channels, -1).mean(1)  # what is near 0 adds up without loss
    near[~np.isfinite(near)] = 0
    count, first, second = x.size // channels, np.zeros(channels), np.zeros(channels)
    with np.errstate(invalid="ignore", over="ignore"):
        for (part,) in _chunks(x, last=last):
            apart = part - (near if last else near[:, None])
            first += _channel_sums(apart, last)
            np.multiply(apart, apart, out=apart)
            second += _channel_sums(apart, last)
        first /= count
        variance = np.maximum(second / count - first * first, 0)
        return (near + first).astype(np.float32), variance.astype(np.float32)


def _affine_gradients(grad: np.ndarray, x: np.ndarray, last: bool, mean: np.ndarray, variance: np.ndarray,
                      eps: float) -> tuple[np.ndarray, np.ndarray]:
    """The gradients of scale and shift."""
    shift, product = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    with np.errstate(invalid="ignore", over="ignore"):
        for part, up in _chunks(x, grad, last=last):
            apart = part - (mean if last else mean[:, None])
            apart *= up
            product += _channel_sums(apart, last)
            shift += _channel_sums(up, last)
        scale = product / np.sqrt(variance.astype(np.float64) + eps)
    return scale.astype(np.float32), shift.astype(np.float32)


def batch_norm_train(x: np.ndarray, scale: np.ndarray | None, shift: np.ndarray | None, eps: float,
                     relu: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Normalise (N, C, *size) by its own statistics: (output, mean, biased variance, workspace of a fused relu)."""
    x, last = ordered(x)
    given = x.size // x.shape[1] >= MANY
    plan = _batch_norm(x.shape, last, scale is not None, shift is not None, eps, relu, given, relu or not given)
    y = empty(x.shape, last)
    if given:
        mean, variance = moments(x, last)
    else:
        mean, variance = np.empty(plan.channels, np.float32), np.empty(plan.channels, np.float32)
    workspace = np.empty(plan.workspace_size, np.uint8) if relu else None
    affine = [np.ascontiguousarray(a) for a in (scale, shift) if a is not None]
    extra = [] if workspace is None else [workspace]
    plan.run.run(*map(pointer, (x, y, mean, variance, *affine, *extra)))
    return y, mean, variance, workspace


def batch_norm_eval(x: np.ndarray, scale: np.ndarray | None, shift: np.ndarray | None, mean: np.ndarray,
                    variance: np.ndarray, eps: float, relu: bool = False) -> np.ndarray:
    """Normalise (N, C, *size) by the given statistics."""
    x, last = ordered(x)
    plan = _batch_norm(x.shape, last, scale is not None, shift is not None, eps, relu, True, False)
    y = empty(x.shape, last)
    given = [np.ascontiguousarray(a) for a in (mean, variance, scale, shift) if a is not None]
    plan.run.run(*map(pointer, (x, y, *given)))
    return y


def batch_norm_backward(grad: np.ndarray, x: np.ndarray, scale: np.ndarray | None, mean: np.ndarray,
                        variance: np.ndarray, eps: float, train: bool = True,
                        workspace: np.ndarray | None = None, shift: bool = True,
                        ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """The gradients in image, scale and shift (None for a scale or shift that was not given).

    `train`: the statistics were the batch's own, so they pass gradient on. `workspace`: that of a fused relu.
    """
    x, last = ordered(x)
    plan = _batch_norm(x.shape, last, scale is not None, shift, eps, workspace is not None, not train, True)
    out = empty(x.shape, last)
    mean, variance = np.ascontiguousarray(mean), np.ascontiguousarray(variance)
    grad, grad_last = ordered(grad)
    grad_scale = grad_shift = None
    with Workspace() as space:
        converter = None if grad_last == last else between(x.shape, grad_last, last)
        addresses = [pointer(x), pointer(mean), pointer(variance), space.take(converter, grad), pointer(out)]
        if scale is not None:
            grad_scale = np.empty(plan.channels, np.float32)
            addresses += [space.hold(np.ascontiguousarray(scale)), pointer(grad_scale)]
        if shift:
            grad_shift = np.empty(plan.channels, np.float32)
            addresses.append(pointer(grad_shift))
        if workspace is not None:
            addresses.append(pointer(workspace))
        plan.back.run(*addresses)
    # Its kernel for plain images is the inaccurate one. (A fused relu's workspace is not ours to read.)
    if not last and workspace is None and x.size // plan.channels >= MANY and scale is not None:
        accurate = _affine_gradients(grad, x, last, mean, variance, eps)
        grad_scale, grad_shift = accurate[0], accurate[1] if shift else None
    return out, grad_scale, grad_shift


# ---- layer normalisation -----------------------------------------------------------------------


class _LayerNorm:
    def __init__(self, rows: int, columns: int, scale: bool, shift: bool, eps: float):
        x, statistics = strided((rows, columns)), strided((rows,))
        flags = _flags(scale, shift, False, False)
        self.run = Primitive("layer_normalization_forward", [lib.FORWARD_TRAINING, x, x, statistics, eps, flags], [
            lib.ARG_SRC, lib.ARG_DST, lib.ARG_MEAN, lib.ARG_VARIANCE,
            *([lib.ARG_SCALE] if scale else []), *([lib.ARG_SHIFT] if shift else [])])
        self.back = Primitive("layer_normalization_backward", [
            lib.BACKWARD if scale or shift else lib.BACKWARD_DATA, x, x, x, statistics, eps, flags], [
            lib.ARG_SRC, lib.ARG_MEAN, lib.ARG_VARIANCE, lib.ARG_DIFF_DST, lib.ARG_DIFF_SRC,
            *([lib.ARG_SCALE, lib.ARG_DIFF_SCALE] if scale else []),
            *([lib.ARG_SHIFT, lib.ARG_DIFF_SHIFT] if shift else [])], self.run)


_layer_norm = Cache(_LayerNorm)


def layer_norm(x: np.ndarray, axes: int, scale: np.ndarray | None, shift: np.ndarray | None,
               eps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normalise over the last `axes` axes: (output, mean, biased variance), the latter of the leading axes' shape."""
    x = np.ascontiguousarray(x)
    lead, rows, columns = _matrix(x.shape, axes)
    plan = _layer_norm(rows, columns, scale is not None, shift is not None, eps)
    y, mean, variance = np.empty(x.shape, np.float32), np.empty(lead, np.float32), np.empty(lead, np.float32)
    given = [np.ascontiguousarray(a) for a in (scale, shift) if a is not None]
    plan.run.run(*map(pointer, (x, y, mean, variance, *given)))
    return y, mean, variance


def layer_norm_backward(grad: np.ndarray, x: np.ndarray, axes: int, scale: np.ndarray | None, mean: np.ndarray,
                        variance: np.ndarray, eps: float, shift: bool = True,
                        ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """The gradients in the input, scale and shift (None for a scale or shift that was not given)."""
    x, grad = np.ascontiguousarray(x), np.ascontiguousarray(grad)
    mean, variance = np.ascontiguousarray(mean), np.ascontiguousarray(variance)
    _, rows, columns = _matrix(x.shape, axes)
    plan = _layer_norm(rows, columns, scale is not None, shift, eps)
    out = np.empty(x.shape, np.float32)
    arrays: list[Any] = [x, mean, variance, grad, out]
    grad_scale = grad_shift = None
    if scale is not None:
        grad_scale = np.empty(scale.shape, np.float32)
        arrays += [np.ascontiguousarray(scale), grad_scale]
    if shift:
        grad_shift = np.empty(x.shape[x.ndim - axes:], np.float32)
        arrays += [grad_shift, grad_shift]  # oneDNN counts the shift among the inputs, but does not read it
    plan.back.run(*map(pointer, arrays))
    return out, grad_scale, grad_shift


def _matrix(shape: Sizes, axes: int) -> tuple[Sizes, int, int]:
    lead = shape[:len(shape) - axes]
    rows, columns = 1, 1
    for n in lead:
        rows *= n
    for n in shape[len(shape) - axes:]:
        columns *= n
    return lead, rows, columns
