"""Matrix products through oneDNN: `sgemm` for one matrix, the matmul primitive for batches."""

from __future__ import annotations

import math

import numpy as np

from flambeau.backends import threads
from flambeau.backends.onednn import library as lib
from flambeau.backends.onednn.memory import loaded, pointer, strided
from flambeau.backends.onednn.primitive import Cache, Primitive

Sizes = tuple[int, ...]


def _readable(matrix: np.ndarray) -> tuple[np.ndarray, bool, int]:
    """The array, whether its matrices are stored transposed, and the leading dimension; copied if neither way fits."""
    rows, columns = matrix.shape[-2:]
    down, right = matrix.strides[-2] // 4, matrix.strides[-1] // 4
    if right == 1 and down >= columns:
        return matrix, False, down
    if down == 1 and right >= rows:
        return matrix, True, right
    matrix = np.ascontiguousarray(matrix)
    return matrix, False, columns


def sgemm(x: np.ndarray, y: np.ndarray, out: np.ndarray | None = None, add: bool = False) -> np.ndarray:
    """The product of two float32 matrices; transposed views are read in place. `add`: added to `out`.

    Raises: ValueError unless the inner sizes agree.
    """
    check_inner(x, y)
    (rows, depth), columns = x.shape, y.shape[1]
    x, x_turned, x_lead = _readable(x)
    y, y_turned, y_lead = _readable(y)
    if out is None:
        out = np.empty((rows, columns), np.float32)
    if threads.stale():
        threads.apply()
    status = loaded().dll.dnnl_sgemm(
        b"T" if x_turned else b"N", b"T" if y_turned else b"N", rows, columns, depth, 1.0, pointer(x), x_lead,
        pointer(y), y_lead, 1.0 if add else 0.0, pointer(out), out.strides[0] // 4)
    if status:
        raise lib.OneDNNError("dnnl_sgemm", status)
    return out


def check_inner(x: np.ndarray, y: np.ndarray) -> None:
    """ValueError unless the rows of y are as many as the columns of x."""
    if x.shape[-1] != y.shape[-2]:
        raise ValueError(f"shapes {x.shape} and {y.shape} do not multiply: {x.shape[-1]} columns, {y.shape[-2]} rows")


def _make_matmul(x_shape: Sizes, x_turned: bool, y_shape: Sizes, y_turned: bool, bias: int) -> Primitive:
    batch = tuple(max(a, b) for a, b in zip(x_shape[:-2], y_shape[:-2]))
    out = (*batch, x_shape[-2], y_shape[-1])
    b_shape = (*(1,) * (len(out) - 1), bias)
    operands = [_turned(x_shape, x_turned), _turned(y_shape, y_turned), strided(b_shape) if bias else None,
                strided(out)]
    return Primitive("matmul", operands, [lib.ARG_SRC, lib.ARG_WEIGHTS, lib.ARG_DST, *([lib.ARG_BIAS] if bias else [])])


def _turned(shape: Sizes, turned: bool) -> object:
    *batch, rows, columns = shape
    steps = [rows * columns * math.prod(batch[i + 1:]) for i in range(len(batch))]
    return strided(shape, (*steps, 1, rows) if turned else (*steps, columns, 1))


_matmul = Cache(_make_matmul)


def _dense(array: np.ndarray) -> tuple[np.ndarray, bool]:
    """The array with its matrices dense in memory, and whether they are stored transposed."""
    if array.flags.c_contiguous:
        return array, False
    if array.swapaxes(-1, -2).flags.c_contiguous:
        return array, True
    return np.ascontiguousarray(array), False


def matmul(x: np.ndarray, y: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """(…, m, k) @ (…, k, n) + bias (n,); batch axes broadcast. Raises: ValueError for shapes that do not fit."""
    check_inner(x, y)
    rank = max(x.ndim, y.ndim)
    x, x_turned = _dense(x.reshape((1,) * (rank - x.ndim) + x.shape))
    y, y_turned = _dense(y.reshape((1,) * (rank - y.ndim) + y.shape))
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    plan = _matmul(x.shape, x_turned, y.shape, y_turned, 0 if bias is None else bias.size)
    out = np.empty((*batch, x.shape[-2], y.shape[-1]), np.float32)
    arrays = [x, y, out] if bias is None else [x, y, out, np.ascontiguousarray(bias)]
    plan.run(*map(pointer, arrays))
    return out


def linear(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """x (…, in) times the transpose of w (out, in), plus bias (out,)."""
    rows = x.reshape(-1, x.shape[-1])
    out = matmul(rows, w.T, bias) if bias is not None else sgemm(rows, w.T)
    return out.reshape(*x.shape[:-1], w.shape[0])
