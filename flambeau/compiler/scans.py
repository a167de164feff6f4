"""The recurrences of generated code (`backends/llvm/recurrences.py`) for eager arrays.

All arrays are float32; the hidden size is at least `SMALLEST`. The functions are those of the primitives in
`ops/recurrent.py`, whose names and shapes they share.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from flambeau.backends import threads
from flambeau.backends.llvm.frames import FRAMES, SMALLEST, parts_of, scratch_size, visiting
from flambeau.compiler.native import compiled


@functools.cache
def _function(name: str) -> Any:
    """The compiled function of that name; it lives as long as the process."""

    def emit(module: Any) -> Any:
        from flambeau.backends.llvm.recurrences import EMITTERS

        return EMITTERS[name](module)

    return compiled(emit, f"flambeau.{name}", ctypes.c_void_p)


def fits(*arrays: np.ndarray | None) -> bool:
    """Whether these can do a scan on such arrays, of which the last is w_hh."""
    size = arrays[-1].shape[1]  # type: ignore[union-attr]
    return size >= SMALLEST and all(
        a is None or (type(a) is np.ndarray and a.dtype == np.float32 and a.size) for a in arrays
    )


def _run(name: str, kind: str, sizes: Sequence[int], reverse: bool, arrays: dict[str, np.ndarray]) -> None:
    """Call a scan: `arrays` by their names in its frame, all but the table and the scratch memory."""
    batch, size = arrays["h0"].shape
    layer = kind.partition("_")[0]
    parts = parts_of(layer, sum(sizes), batch, size, threads.get_num_threads())
    arrays["table"] = visiting(sizes, reverse)
    arrays["scratch"] = np.empty(scratch_size(layer, batch, size, parts), np.uint8)
    numbers = {"parts": parts, "steps": len(sizes), "batch": batch, "size": size}
    if "d_out" in arrays:
        numbers["d_out_step"] = arrays["d_out"].strides[0] // 4
    words = [
        arrays[word].ctypes.data if word in arrays else numbers[word] for word in FRAMES[kind].replace("|", "").split()
    ]
    frame = (ctypes.c_int64 * len(words))(*words)
    _function(name)(ctypes.addressof(frame))


def _plain(**arrays: Any) -> dict[str, np.ndarray]:
    """The arrays contiguous; the rows of d_out may lie apart."""
    made = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    d_out = arrays.get("d_out")
    if d_out is not None and d_out.strides[1] == 4 and d_out.strides[0] > 0:
        made["d_out"] = d_out
    return made


def _empty(rows: int, size: int) -> np.ndarray:
    return np.empty((rows, size), np.float32)


def lstm(gates: Any, h0: Any, c0: Any, w_hh: Any, sizes: Sequence[int], reverse: bool) -> tuple[np.ndarray, ...]:
    """out, h_n, c_n, acts, cells of `lstm_scan` without projection."""
    arrays = _plain(gates=gates, h0=h0, c0=c0, w_hh=w_hh)
    rows, size = len(gates), h0.shape[1]
    made = {
        "out": _empty(rows, size),
        "h_n": _empty(*h0.shape),
        "c_n": _empty(*h0.shape),
        "acts": _empty(rows, 4 * size),
        "cells": _empty(rows, size),
    }
    _run("lstm", "lstm", sizes, reverse, {**arrays, **made})
    return tuple(made.values())


def lstm_backward(
    d_out: Any,
    d_h: Any,
    d_c: Any,
    h0: Any,
    c0: Any,
    w_hh: Any,
    out: Any,
    acts: Any,
    cells: Any,
    sizes: Sequence[int],
    reverse: bool,
) -> tuple[np.ndarray, ...]:
    """Gradients of gates, h0 and c0, and the state that each row started from."""
    arrays = _plain(d_out=d_out, d_h=d_h, d_c=d_c, h0=h0, c0=c0, w_hh=w_hh, out=out, acts=acts, cells=cells)
    made = {
        "d_gates": _empty(*acts.shape),
        "d_h0": _empty(*h0.shape),
        "d_c0": _empty(*h0.shape),
        "before": _empty(*out.shape),
    }
    _run("lstm_backward", "lstm_backward", sizes, reverse, {**arrays, **made})
    return tuple(made.values())


def gru(gates: Any, h0: Any, w_hh: Any, b_hh: Any, sizes: Sequence[int], reverse: bool) -> tuple[np.ndarray, ...]:
    """out, h_n, acts of `gru_scan`."""
    bias = np.zeros(len(w_hh), np.float32) if b_hh is None else b_hh
    arrays = _plain(gates=gates, h0=h0, w_hh=w_hh, b_hh=bias)
    rows, size = len(gates), h0.shape[1]
    made = {"out": _empty(rows, size), "h_n": _empty(*h0.shape), "acts": _empty(rows, 4 * size)}
    _run("gru", "gru", sizes, reverse, {**arrays, **made})
    return tuple(made.values())


def gru_backward(
    d_out: Any, d_h: Any, h0: Any, w_hh: Any, out: Any, acts: Any, sizes: Sequence[int], reverse: bool
) -> tuple[np.ndarray, ...]:
    """Gradients of gates, of the recurrent share of the gates and of h0; the state that each row started from."""
    arrays = _plain(d_out=d_out, d_h=d_h, h0=h0, w_hh=w_hh, out=out, acts=acts)
    rows, size = out.shape
    made = {
        "d_gates": _empty(rows, 3 * size),
        "d_recurrent": _empty(rows, 3 * size),
        "d_h0": _empty(*h0.shape),
        "before": _empty(rows, size),
    }
    _run("gru_backward", "gru_backward", sizes, reverse, {**arrays, **made})
    return tuple(made.values())


def rnn(gates: Any, h0: Any, w_hh: Any, sizes: Sequence[int], relu: bool, reverse: bool) -> tuple[np.ndarray, ...]:
    """out, h_n of `rnn_scan`."""
    arrays = _plain(gates=gates, h0=h0, w_hh=w_hh)
    made = {"out": _empty(*gates.shape), "h_n": _empty(*h0.shape)}
    _run("rnn_relu" if relu else "rnn_tanh", "rnn", sizes, reverse, {**arrays, **made})
    return tuple(made.values())


def rnn_backward(
    d_out: Any, d_h: Any, h0: Any, w_hh: Any, out: Any, sizes: Sequence[int], relu: bool, reverse: bool
) -> tuple[np.ndarray, ...]:
    """Gradients of gates and h0, and the state that each row started from."""
    arrays = _plain(d_out=d_out, d_h=d_h, h0=h0, w_hh=w_hh, out=out)
    made = {"d_gates": _empty(*out.shape), "d_h0": _empty(*h0.shape), "before": _empty(*out.shape)}
    _run("rnn_relu_backward" if relu else "rnn_tanh_backward", "rnn_backward", sizes, reverse, {**arrays, **made})
    return tuple(made.values())
