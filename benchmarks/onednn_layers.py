"""Layers through our oneDNN binding, against PyTorch in the same process, in turns.

    python benchmarks/onednn_layers.py [--runs 15] [--threads 2] [--only conv]

Prints milliseconds (minimum over the runs, which a busy machine disturbs least) and the ratio PyTorch / ours: above 1
we are faster. PyTorch gets plain (contiguous) tensors, as in eager use. Without PyTorch only our times are printed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.backends import onednn, threads

try:
    import torch
except ImportError:
    torch = None

# name: batch, channels, outputs, size, kernel, stride, padding
CONVOLUTIONS = {
    "conv 64→64 3×3 56² b32": (32, 64, 64, 56, 3, 1, 1),
    "conv 32→64 3×3 64² b32": (32, 32, 64, 64, 3, 1, 1),
    "conv 3→32 3×3 64² b32": (32, 3, 32, 64, 3, 1, 1),
    "conv 64→128 3×3 32² b32": (32, 64, 128, 32, 3, 1, 1),
    "conv 3→64 7×7/2 224² b8": (8, 3, 64, 224, 7, 2, 3),
    "conv 64→256 1×1 28² b32": (32, 64, 256, 28, 1, 1, 0),
    "conv 256→64 1×1 28² b32": (32, 256, 64, 28, 1, 1, 0),
    "conv 1→8 3×3 8² b64": (64, 1, 8, 8, 3, 1, 1),
}
Pair = tuple[Callable[[], Any], "Callable[[], Any] | None"]


def noise(*shape: int, channels_last: bool = True) -> np.ndarray:
    """Normal float32 numbers."""
    array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return onednn.channels_last(array) if channels_last and len(shape) > 2 else array


def plain(array: np.ndarray) -> Any:
    """The PyTorch tensor of an array, contiguous."""
    return torch.tensor(np.ascontiguousarray(array))


def convolution(n: int, c: int, o: int, size: int, k: int, stride: int, padding: int) -> dict[str, Pair]:
    """Forward, gradient of the image, gradients of weight and bias."""
    x, w, b = noise(n, c, size, size), noise(o, c, k, k, channels_last=False), noise(o)
    geometry = ((stride,) * 2, (padding,) * 2, (1, 1), 1)
    grad = noise(*onednn.conv_forward(x, w, b, *geometry).shape)
    pairs: dict[str, Pair] = {
        "forward": (lambda: onednn.conv_forward(x, w, b, *geometry), None),
        "image": (lambda: onednn.conv_backward_input(grad, w, x.shape, *geometry), None),
        "weight": (lambda: onednn.conv_backward_weight(grad, x, w.shape, *geometry, True), None),
    }
    if torch is None:
        return pairs
    tx, tw, tb, tg = map(plain, (x, w, b, grad))

    def backward(*mask: bool) -> Callable[[], Any]:
        return lambda: torch.ops.aten.convolution_backward(
            tg, tx, tw, [o], [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, mask)

    theirs = (lambda: torch.conv2d(tx, tw, tb, stride, padding), backward(True, False, False),
              backward(False, True, True))
    return {name: (ours[0], other) for (name, ours), other in zip(pairs.items(), theirs)}


def others() -> dict[str, Pair]:
    """Pooling, normalisation, elementwise functions and matrix products."""
    x = noise(32, 64, 64, 64)
    w, b, rows = noise(64), noise(64), noise(32, 1024)
    square, weight = noise(1024, 1024), noise(1024, 1024)
    y, mean, variance, _ = onednn.batch_norm_train(x, w, b, 1e-5)
    pooled, memory = onednn.max_pool_forward(x, (2, 2), (2, 2), (0, 0), (1, 1))
    ours = {
        "max_pool 2×2": lambda: onednn.max_pool_forward(x, (2, 2), (2, 2), (0, 0), (1, 1)),
        "max_pool backward": lambda: onednn.max_pool_backward(pooled, memory),
        "avg_pool 2×2": lambda: onednn.avg_pool_forward(x, (2, 2), (2, 2), (0, 0), True),
        "batch_norm": lambda: onednn.batch_norm_train(x, w, b, 1e-5),
        "batch_norm backward": lambda: onednn.batch_norm_backward(y, x, w, mean, variance, 1e-5),
        "relu": lambda: onednn.eltwise("relu", x),
        "gelu": lambda: onednn.eltwise("gelu", x),
        "add": lambda: onednn.binary("add", x, y),
        "softmax 32×1024": lambda: onednn.softmax(rows, 1),
        "matmul 1024³": lambda: onednn.sgemm(square, weight),
        "linear 32×1024×1024": lambda: onednn.linear(rows, weight),
    }
    if torch is None:
        return {name: (run, None) for name, run in ours.items()}
    F = torch.nn.functional
    tx, tw, tb, trows, tsquare, tweight = map(plain, (x, w, b, rows, square, weight))
    ty, tmean, trstd = torch.native_batch_norm(tx, tw, tb, None, None, True, 0.1, 1e-5)
    tpooled, places = F.max_pool2d(tx, 2, return_indices=True)
    theirs = {
        "max_pool 2×2": lambda: F.max_pool2d(tx, 2, return_indices=True),
        "max_pool backward": lambda: torch.ops.aten.max_pool2d_with_indices_backward(
            tpooled, tx, [2, 2], [2, 2], [0, 0], [1, 1], False, places),
        "avg_pool 2×2": lambda: F.avg_pool2d(tx, 2),
        "batch_norm": lambda: torch.native_batch_norm(tx, tw, tb, None, None, True, 0.1, 1e-5),
        "batch_norm backward": lambda: torch.ops.aten.native_batch_norm_backward(
            ty, tx, tw, None, None, tmean, trstd, True, 1e-5, [True] * 3),
        "relu": lambda: torch.relu(tx),
        "gelu": lambda: F.gelu(tx),
        "add": lambda: tx + ty,
        "softmax 32×1024": lambda: torch.softmax(trows, 1),
        "matmul 1024³": lambda: tsquare @ tweight,
        "linear 32×1024×1024": lambda: F.linear(trows, tweight),
    }
    return {name: (run, theirs[name]) for name, run in ours.items()}


def measure(pairs: dict[str, Pair], runs: int) -> dict[str, tuple[float, float | None]]:
    """The best time in ms of ours and theirs, run in turns."""
    found: dict[str, tuple[float, float | None]] = {}
    for name, pair in pairs.items():
        times = [[], []]  # type: ignore[var-annotated]
        for _ in range(runs + 2):
            for spent, run in zip(times, pair):
                if run is not None:
                    start = time.perf_counter()
                    run()
                    spent.append(1e3 * (time.perf_counter() - start))
        found[name] = (min(times[0][2:]), min(times[1][2:]) if times[1] else None)
    return found


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=threads.get_num_threads())
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    if not onednn.available():
        raise SystemExit("oneDNN is not available here")
    threads.set_num_threads(arguments.threads)
    if torch is not None:
        torch.set_num_threads(arguments.threads)
        torch.set_grad_enabled(False)
    tables = {name: lambda shape=shape: convolution(*shape) for name, shape in CONVOLUTIONS.items()}
    tables["64 channels 64² b32"] = others
    print(f"{'':38}{'ours ms':>10}{'PyTorch ms':>12}{'ratio':>8}   ({arguments.threads} threads)")
    for name, build in tables.items():
        if arguments.only in name:
            for part, (ours, theirs) in measure(build(), arguments.runs).items():
                rest = "" if theirs is None else f"{theirs:12.2f}{theirs / ours:8.2f}"
                print(f"{name + ' ' + part:38}{ours:10.2f}{rest}", flush=True)


if __name__ == "__main__":
    main()
