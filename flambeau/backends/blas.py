"""Matrix products on NumPy's BLAS, divided among Python threads instead of the BLAS' own."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.backends import threads

# From this many products on, waking a thread costs nothing in comparison.
WORTH_DIVIDING = 1 << 26


def divided(x: np.ndarray, y: np.ndarray) -> np.ndarray | None:
    """The product of two matrices, its rows or columns divided among threads that each call BLAS alone.

    oneDNN takes up to twice as long for a left operand stored transposed, as in every weight's gradient; OpenBLAS with
    threads of its own would fight with OpenMP's for the cores. None where the product is too small, x is not
    transposed, or the BLAS is not one whose threads can be set.
    """
    rows, columns = x.shape[0], y.shape[1]
    count = threads.get_num_threads()
    if rows * columns * x.shape[1] < WORTH_DIVIDING or x.strides[0] != x.itemsize or max(rows, columns) < 32 * count:
        return None
    set_blas_threads = threads.openblas_setter()
    if set_blas_threads is None:
        return None
    out = np.empty((rows, columns), x.dtype)
    ends = [max(rows, columns) * i // count // 16 * 16 for i in range(count)] + [max(rows, columns)]
    tasks = [_task(x, y, out, slice(*ends[i:i + 2]), rows >= columns) for i in range(count)]
    set_blas_threads(1)
    try:
        threads.parallel(tasks)
    finally:
        set_blas_threads(count)
    return out


def _task(x: np.ndarray, y: np.ndarray, out: np.ndarray, part: slice, by_rows: bool) -> Any:
    if by_rows:
        return lambda: np.matmul(x[part], y, out=out[part])
    return lambda: np.matmul(x, y[:, part], out=out[:, part])
