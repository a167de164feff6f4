"""The gradient of a convolution's weight as matrix products, where that beats oneDNN's own kernel.

On AVX2 oneDNN computes it at 45–60 GFLOP/s a core, its matrix product at 85 (docs/decisions/0005-onednn-layouts.md).
For kernel row i and stride 1, with images channels-last,

    dw[i] = sum over images of grad[n].T @ columns[n][i : i + H']        (O, kw*C) = (O, H'*W') @ (H'*W', kw*C)

where columns[n] holds for each pixel of an output column, in every row of the padded image, its kw neighbours:
(H + padding, W', kw, C). So the image is copied as often as the kernel is wide, not as often as it has elements.
Images are shared out among threads; the threads meet once, at the end.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np

from flambeau.backends import threads
from flambeau.backends.onednn.matmul import sgemm
from flambeau.backends.onednn.memory import loaded
from flambeau.backends.onednn.reorder import channels_last

Sizes = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]
Block = tuple[int, int, int, int]  # images from, to; output rows from, to

_FEW_CHANNELS = 32      # with fewer, the matrices are too thin and oneDNN's own kernel wins
_FEW_WEIGHTS = 2048     # the same for their product
_MOST_TAPS = 3          # wider kernels copy too much
_COLUMN_BYTES = 3 << 20  # of one block: stays in cache between its products
_FEW_PIXELS = 128       # images smaller than this are multiplied several at a time


def fits(x_shape: Sizes, w_shape: Sizes, stride: Sizes, groups: int) -> bool:
    """Whether this way covers the geometry and is worth it. With AVX-512 oneDNN's kernel is as fast as its product."""
    return (groups == 1 and len(x_shape) == 4 and max(stride) == 1 and w_shape[3] <= _MOST_TAPS
            and min(x_shape[1], w_shape[0]) >= _FEW_CHANNELS and x_shape[1] * w_shape[0] >= _FEW_WEIGHTS
            and not loaded().has_avx512)


def weight_gradient(grad: np.ndarray, x: np.ndarray, w_shape: Sizes, padding: Pairs,
                    dilation: Sizes) -> tuple[np.ndarray, np.ndarray]:
    """The gradients of weight and bias: (N, O, H', W') and (N, C, H, W) -> (O, C, kh, kw) and (O,).

    Both arrays lie in one of the two orders; the results are contiguous.
    """
    outputs, channels, rows, taps = w_shape
    image, seen = (channels_last(a).transpose(0, 2, 3, 1) for a in (x, grad))
    work = _blocks(seen.shape, rows, taps * channels, dilation[0])
    count = min(threads.get_num_threads(), len(work))
    shares = [work[i * len(work) // count:(i + 1) * len(work) // count] for i in range(count)]
    parts = threads.parallel([
        functools.partial(_share, seen, image, share, (rows, outputs, taps, channels), padding, dilation)
        for share in shares])
    total, bias = parts[0]
    for more, more_bias in parts[1:]:
        total += more
        bias += more_bias
    return np.ascontiguousarray(total.transpose(1, 3, 0, 2)), bias


def _blocks(seen: Sizes, rows: int, wide: int, dilation: int) -> list[Block]:
    """The work in pieces whose columns fit in cache: some rows of one image, or several small images."""
    images, height, width, _ = seen
    if height * width < _FEW_PIXELS:
        step = max(1, min(1024 // (height * width), images))
        return [(n, min(n + step, images), 0, height) for n in range(0, images, step)]
    fitting = max(_COLUMN_BYTES // (4 * width * wide) - (rows - 1) * dilation, 512 // width, 1)
    pieces = -(-height // fitting)
    cuts = [i * height // pieces for i in range(pieces + 1)]
    return [(n, n + 1, a, b) for n in range(images) for a, b in itertools.pairwise(cuts)]


def _share(seen: np.ndarray, image: np.ndarray, work: list[Block], shape: Sizes, padding: Pairs,
           dilation: Sizes) -> tuple[np.ndarray, np.ndarray]:
    """The part of the gradients that comes from some blocks, (kh, O, kw, C) and (O,)."""
    rows, outputs, taps, channels = shape
    (top, _), (left, _) = padding
    out, bias = np.zeros((rows, outputs, taps * channels), np.float32), np.zeros((1, outputs), np.float32)
    reach = (rows - 1) * dilation[0]
    columns = np.empty(0, np.float32)
    for first, last, begin, end in work:
        grad, source, tall = seen[first:last, begin:end].reshape(-1, outputs), image[first:last], end - begin
        bias += sgemm(np.ones((1, len(grad)), np.float32), grad)
        arguments = (seen.shape[2], taps, left, dilation[1])
        if last - first == 1:  # rows of one image follow each other: what one kernel row sees, the next sees shifted
            columns = _columns(source, begin - top, tall + reach, *arguments, columns)
        for row in range(rows):
            shift = row * dilation[0]
            if last - first == 1:
                matrix = columns[0, shift:shift + tall]
            else:
                columns = matrix = _columns(source, begin - top + shift, tall, *arguments, columns)
            sgemm(grad.T, matrix.reshape(-1, taps * channels), out[row], add=True)
    return out.reshape(shape), bias[0]


def _columns(image: np.ndarray, start: int, tall: int, width: int, taps: int, left: int, dilation: int,
             memory: np.ndarray) -> np.ndarray:
    """Rows from `start` of the padded images, for each of `width` output columns its `taps` neighbours.

    (n, H, W, C) -> (n, tall, width, taps, C), in `memory` if that has the shape; the image itself where it has.
    """
    images, height, across, channels = image.shape
    shape = (images, tall, width, taps, channels)
    if taps == 1 and tall == height and width == across and start == left == 0:
        return image.reshape(shape)
    out = memory if memory.shape == shape and memory.base is None else np.empty(shape, np.float32)
    above, below = max(0, -start), max(0, start + tall - height)
    out[:, :above] = 0
    out[:, tall - below:] = 0
    inside, source = out[:, above:tall - below], image[:, start + above:start + tall - below]
    for tap in range(taps):
        shift = tap * dilation - left
        low = min(max(0, -shift), width)
        high = max(min(width, across - shift), low)
        inside[:, :, :low, tap] = 0
        inside[:, :, low:high, tap] = source[:, :, low + shift:high + shift]
        inside[:, :, high:, tap] = 0
    return out
