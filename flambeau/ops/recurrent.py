"""Recurrent networks: scans over time as primitives, and the layered functions and cells made of them.

A scan takes the input's share of the gates for all time steps at once (one large product, computed outside) and runs
the recurrence in one kernel. Time steps lie one after the other in rows; step t has sizes[t] rows, the longest
sequences first, so that padded batches (all sizes equal) and packed sequences are the same case.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.core.dispatch import primitive
from flambeau.core.modes import modes
from flambeau.core.tensor import Tensor
from flambeau.ops.dropout import dropout as drop
from flambeau.ops.joining import cat, stack
from flambeau.ops.matmul import linear, multiply_arrays

__all__ = ["gru", "gru_cell", "lstm", "lstm_cell", "rnn_relu", "rnn_relu_cell", "rnn_tanh", "rnn_tanh_cell"]


# ------------------------------------------------------------------------------------------------ steps in time

def _steps(sizes: tuple, reverse: bool) -> list[tuple[int, int]]:
    """First row and number of rows of each time step, in the order in which the recurrence visits them."""
    steps, first = [], 0
    for size in sizes:
        steps.append((first, size))
        first += size
    return steps[::-1] if reverse else steps


def _before(values: Any, initial: Any, steps: list, k: int, join: Callable) -> Any:
    """The state that step k started from: rows of the step visited before it, or of the initial state.

    A step with more rows than the one visited before it (backwards through packed sequences) begins the sequences
    that the other did not have.
    """
    _, rows = steps[k]
    if k == 0:
        return initial[:rows]
    first, known = steps[k - 1]
    if known >= rows:
        return values[first:first + rows]
    return join([values[first:first + known], initial[known:rows]], 0)


def _in_time(parts: list, reverse: bool, join: Callable) -> Any:
    """What was computed in visiting order, joined in the order of the rows."""
    return join(parts if not reverse else parts[::-1], 0)


def _all_before(values: Any, initial: Any, steps: list, reverse: bool, join: Callable) -> Any:
    """`_before` of every step, in the order of the rows."""
    return _in_time([_before(values, initial, steps, k, join) for k in range(len(steps))], reverse, join)


def _keep_rest(new: Any, old: Any, rows: int, join: Callable) -> Any:
    """New values for the first rows of a state, the old ones for the others."""
    return new if rows == old.shape[0] else join([new, old[rows:]], 0)


def _last(values: np.ndarray, initial: np.ndarray, steps: list) -> np.ndarray:
    """Where each sequence ends up."""
    end = initial.copy()
    for first, rows in steps:
        end[:rows] = values[first:first + rows]
    return end


def _wide(*arrays: Any) -> list[Any]:
    """Half-precision arrays as float32, others as they are; None stays."""
    return [a if a is None or a.dtype in (np.float32, np.float64) else a.astype(np.float32) for a in arrays]


def _narrow(dtype: Any, *arrays: Any) -> tuple:
    return tuple(a if a is None else a.astype(dtype, copy=False) for a in arrays)


def _to_sigmoid(a: np.ndarray) -> None:
    """In place (a + 1) / 2: sigmoid(x) is that of tanh(x / 2), so that one function serves all gates."""
    a *= 0.5
    a += 0.5


def _join_arrays(parts: list, axis: int) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis)


def _join_tensors(parts: list, axis: int) -> Tensor:
    return parts[0] if len(parts) == 1 else cat(parts, axis)


def _derivative(formula: Callable, as_primitive: Callable, needs_graph: bool, grads: tuple, tensors: tuple,
                attrs: dict) -> tuple:
    """A derivative formula, which works on arrays and on tensors alike: as one kernel, or, when the derivative will
    be differentiated itself, as tensor operations."""
    if not needs_graph:
        return as_primitive(*grads, *tensors, **attrs)
    return formula(*grads, *tensors, **attrs, join=_join_tensors, tanh=lambda x: x.tanh())


def _if_any(array: Any) -> Any:
    """None for zeros: the gradients of values that only second derivatives read."""
    return array if array is None or not isinstance(array, np.ndarray) or array.any() else None


# ------------------------------------------------------------------------------------------------ generated code

_patience = 8e9                 # operations of scans after which compiling, some 0.2 s for each kind, has paid off


def _scans(sizes: tuple, *arrays: Any) -> Any:
    """The scans of generated code (`compiler/scans.py`), None where NumPy shall do it. The last array is w_hh."""
    global _patience
    if _patience > 0:
        if "flambeau.backends.llvm.jit" not in sys.modules:
            _patience -= 2.0 * sum(sizes) * arrays[-1].size
            return None
        _patience = 0.0         # the compiler is loaded anyway
    module = _compiled_scans()
    return module if module is not None and module.fits(*arrays) else None


@functools.cache
def _compiled_scans() -> Any:
    if os.environ.get("FLAMBEAU_COMPILE") == "0":
        return None
    try:
        return importlib.import_module("flambeau.compiler.scans")
    except ImportError:         # no llvmlite
        return None


# ------------------------------------------------------------------------------------------------ LSTM

def _i_f_o_g(array: np.ndarray, size: int) -> np.ndarray:
    """A copy with the gates i, f, g, o (last dimension) in the order i, f, o, g: those with a sigmoid are side by side,
    and halved.
    """
    out = np.empty(array.shape, array.dtype)
    np.multiply(array[..., :2 * size], 0.5, out=out[..., :2 * size])
    np.multiply(array[..., 3 * size:], 0.5, out=out[..., 2 * size:3 * size])
    out[..., 3 * size:] = array[..., 2 * size:3 * size]
    return out


@primitive("lstm_scan", outputs=5)
def lstm_scan(gates, h0, c0, w_hh, w_hr, *, sizes, reverse=False):
    """The LSTM recurrence (gates i, f, g, o).

    gates (rows, 4H), h0 (N, P), c0 (N, H), w_hh (4H, P), w_hr (P, H) or None (then P = H). Returns the hidden state of
    every step (rows, P), the last h and c, and for the derivative the activated gates (in the order i, f, o, g) and the
    cells of every step.
    """
    native = _scans(sizes, gates, h0, c0, w_hh) if w_hr is None else None
    if native is not None:
        return native.lstm(gates, h0, c0, w_hh, sizes, reverse)
    dtype = gates.dtype
    gates, h0, c0, w_hh, w_hr = _wide(gates, h0, c0, w_hh, w_hr)
    size = c0.shape[1]
    steps = _steps(sizes, reverse)
    acts, to_gates = _i_f_o_g(gates, size), _i_f_o_g(w_hh.T, size)
    out = np.empty((len(gates), h0.shape[1]), gates.dtype)
    hidden = out if w_hr is None else np.empty((len(gates), size), gates.dtype)
    cells = np.empty((len(gates), size), gates.dtype)
    for k, (first, rows) in enumerate(steps):
        now = slice(first, first + rows)
        a, c, h = acts[now], cells[now], hidden[now]
        a += _before(out, h0, steps, k, _join_arrays) @ to_gates
        np.tanh(a, out=a)
        _to_sigmoid(a[:, :3 * size])
        np.multiply(_before(cells, c0, steps, k, _join_arrays), a[:, size:2 * size], out=c)
        c += a[:, :size] * a[:, 3 * size:]
        np.tanh(c, out=h)
        h *= a[:, 2 * size:3 * size]
        if w_hr is not None:
            np.matmul(h, w_hr.T, out=out[now])
    return _narrow(dtype, out, _last(out, h0, steps), _last(cells, c0, steps), acts, cells)


def _lstm_formula(d_out, d_h, d_c, d_acts, d_cells, h0, c0, w_hh, w_hr, out, acts, cells, *, sizes, reverse, join,
                  tanh):
    """Gradients of gates, h0, c0, w_hh, w_hr (None without projection)."""
    size = c0.shape[1]
    steps = _steps(sizes, reverse)
    i, f, o, g = (acts[:, n * size:(n + 1) * size] for n in range(4))
    squashed = tanh(cells)
    # What a gradient of c, or of h, becomes on its way through each step: known before the walk begins.
    c_to_i, c_to_g = g * i * (1 - i), i * (1 - g * g)
    c_to_f = _all_before(cells, c0, steps, reverse, join) * f * (1 - f)
    h_to_o, h_to_c = squashed * o * (1 - o), o * (1 - squashed * squashed)
    if d_acts is not None:
        d_i, d_f, d_o, d_g = (d_acts[:, n * size:(n + 1) * size] for n in range(4))
        d_acts = join([d_i * i * (1 - i), d_f * f * (1 - f), d_g * (1 - g * g), d_o * o * (1 - o)], 1)
    d_gates, d_hiddens = [], []
    for first, rows in reversed(steps):
        now = slice(first, first + rows)
        dh = d_h[:rows] + d_out[now]
        d_hiddens.append(dh)
        if w_hr is not None:
            dh = dh @ w_hr
        dc = d_c[:rows] + dh * h_to_c[now]
        if d_cells is not None:
            dc = dc + d_cells[now]
        d_gate = join([dc * c_to_i[now], dc * c_to_f[now], dc * c_to_g[now], dh * h_to_o[now]], 1)
        if d_acts is not None:
            d_gate = d_gate + d_acts[now]
        d_gates.append(d_gate)
        d_h = _keep_rest(d_gate @ w_hh, d_h, rows, join)
        d_c = _keep_rest(dc * f[now], d_c, rows, join)
    d_gates = _in_time(d_gates, not reverse, join)
    d_w_hh = d_gates.T @ _all_before(out, h0, steps, reverse, join)
    d_w_hr = None if w_hr is None else _in_time(d_hiddens, not reverse, join).T @ (o * squashed)
    return d_gates, d_h, d_c, d_w_hh, d_w_hr


def _lstm_gradients(d_out, d_h, d_c, h0, c0, w_hh, w_hr, out, acts, cells, sizes, reverse):
    """`_lstm_formula` on arrays, in place: at these sizes fresh memory costs more than the arithmetic."""
    native = _scans(sizes, d_out, d_h, d_c, h0, c0, out, acts, cells, w_hh) if w_hr is None else None
    if native is not None:
        arrays = d_out, d_h, d_c, h0, c0, w_hh, out, acts, cells
        d_gates, d_h, d_c, before = native.lstm_backward(*arrays, sizes, reverse)
        return d_gates, d_h, d_c, multiply_arrays(d_gates.T, before), None
    size = c0.shape[1]
    steps = _steps(sizes, reverse)
    i, f, o, g = (acts[:, n * size:(n + 1) * size] for n in range(4))
    d_gates = np.empty_like(acts)       # first what a gradient of c, or of h, becomes; then the gradients
    d_i, d_f, d_g, d_o = (d_gates[:, n * size:(n + 1) * size] for n in range(4))
    h_to_c = np.tanh(cells)
    for gate, d_gate, factor in ((i, d_i, g), (f, d_f, _all_before(cells, c0, steps, reverse, _join_arrays)),
                                 (o, d_o, h_to_c)):
        np.multiply(gate, gate, out=d_gate)
        np.subtract(gate, d_gate, out=d_gate)
        d_gate *= factor
    np.multiply(g, g, out=d_g)
    np.subtract(1, d_g, out=d_g)
    d_g *= i
    hidden = None if w_hr is None else o * h_to_c
    h_to_c *= h_to_c
    np.subtract(1, h_to_c, out=h_to_c)
    h_to_c *= o
    d_h, d_c = d_h.copy(), d_c.copy()
    d_hidden = None if w_hr is None else np.empty_like(out)
    for first, rows in reversed(steps):
        now = slice(first, first + rows)
        dh, dc, d_gate = d_h[:rows], d_c[:rows], d_gates[now]
        dh += d_out[now]
        if w_hr is None:
            inner = dh
        else:
            d_hidden[now] = dh
            inner = dh @ w_hr
        dc += inner * h_to_c[now]
        d_gate.reshape(rows, 4, size)[:, :3] *= dc[:, None]
        d_gate[:, 3 * size:] *= inner
        np.matmul(d_gate, w_hh, out=dh)
        dc *= f[now]
    d_w_hh = d_gates.T @ _all_before(out, h0, steps, reverse, _join_arrays)
    return d_gates, d_h, d_c, d_w_hh, None if w_hr is None else d_hidden.T @ hidden


@primitive("lstm_scan_backward", outputs=5, no_gradient="second derivatives take the formula in tensor operations")
def lstm_scan_backward(d_out, d_h, d_c, d_acts, d_cells, h0, c0, w_hh, w_hr, out, acts, cells, *, sizes, reverse):
    """The derivative of `lstm_scan` as one kernel."""
    dtype = d_out.dtype
    d_out, d_h, d_c, d_acts, d_cells, *rest = _wide(d_out, d_h, d_c, _if_any(d_acts), _if_any(d_cells), h0, c0, w_hh,
                                                    w_hr, out, acts, cells)
    if d_acts is None and d_cells is None:
        grads = _lstm_gradients(d_out, d_h, d_c, *rest, sizes, reverse)
    else:
        grads = _lstm_formula(d_out, d_h, d_c, d_acts, d_cells, *rest, sizes=sizes, reverse=reverse,
                              join=_join_arrays, tanh=np.tanh)
    if w_hr is None:
        grads = (*grads[:4], np.zeros((), dtype))                       # a kernel's outputs are arrays
    return _narrow(dtype, *grads)


@lstm_scan.vjp
def lstm_scan_vjp(grad, h0, c0, w_hh, w_hr, out0, out3, out4, sizes, reverse):
    grads = _derivative(_lstm_formula, lstm_scan_backward, modes.grad, grad,
                        (h0, c0, w_hh, w_hr, out0, out3, out4), {"sizes": sizes, "reverse": reverse})
    return (*grads[:4], None if w_hr is None else grads[4])


# ------------------------------------------------------------------------------------------------ GRU

@primitive("gru_scan", outputs=3)
def gru_scan(gates, h0, w_hh, b_hh, *, sizes, reverse=False):
    """The GRU recurrence (gates r, z, n).

    gates (rows, 3H), h0 (N, H), w_hh (3H, H), b_hh (3H) or None. Returns the hidden state of every step (rows, H), the
    last one, and for the derivative r, z, n and the recurrent share of n (rows, 4H).
    """
    native = _scans(sizes, gates, h0, b_hh, w_hh)
    if native is not None:
        return native.gru(gates, h0, w_hh, b_hh, sizes, reverse)
    dtype = gates.dtype
    gates, h0, w_hh, b_hh = _wide(gates, h0, w_hh, b_hh)
    size = h0.shape[1]
    steps = _steps(sizes, reverse)
    out, acts = np.empty((len(gates), size), gates.dtype), np.empty((len(gates), 4 * size), gates.dtype)
    np.multiply(gates[:, :2 * size], 0.5, out=acts[:, :2 * size])
    acts[:, 2 * size:3 * size] = gates[:, 2 * size:]
    to_gates = w_hh.T.copy()
    to_gates[:, :2 * size] *= 0.5
    if b_hh is not None:
        acts[:, :2 * size] += 0.5 * b_hh[:2 * size]
    for k, (first, rows) in enumerate(steps):
        now = slice(first, first + rows)
        a, h, before = acts[now], out[now], _before(out, h0, steps, k, _join_arrays)
        rz, n, share = a[:, :2 * size], a[:, 2 * size:3 * size], a[:, 3 * size:]
        recurrent = before @ to_gates
        rz += recurrent[:, :2 * size]
        np.tanh(rz, out=rz)
        _to_sigmoid(rz)
        np.add(recurrent[:, 2 * size:], 0 if b_hh is None else b_hh[2 * size:], out=share)
        n += rz[:, :size] * share
        np.tanh(n, out=n)
        np.subtract(before, n, out=h)
        h *= rz[:, size:]
        h += n
    return _narrow(dtype, out, _last(out, h0, steps), acts)


def _gru_formula(d_out, d_h, d_acts, h0, w_hh, out, acts, *, sizes, reverse, join, tanh):
    """Gradients of gates, h0, w_hh, b_hh."""
    size = h0.shape[1]
    steps = _steps(sizes, reverse)
    r, z, n, share = (acts[:, k * size:(k + 1) * size] for k in range(4))
    before = _all_before(out, h0, steps, reverse, join)
    # What a gradient of h becomes on its way through each step: known before the walk begins.
    h_to_n, h_to_z, n_to_r = (1 - z) * (1 - n * n), (before - n) * z * (1 - z), share * r * (1 - r)
    if d_acts is not None:
        d_r, d_z, d_n, d_s = (d_acts[:, k * size:(k + 1) * size] for k in range(4))
        d_r, d_z, d_n = d_r * r * (1 - r), d_z * z * (1 - z), d_n * (1 - n * n)
    d_gates, d_recurrents = [], []
    for first, rows in reversed(steps):
        now = slice(first, first + rows)
        dh = d_h[:rows] + d_out[now]
        dn, dz = dh * h_to_n[now], dh * h_to_z[now]
        if d_acts is not None:
            dn, dz = dn + d_n[now], dz + d_z[now]
        dr, ds = dn * n_to_r[now], dn * r[now]
        if d_acts is not None:
            dr, ds = dr + d_r[now], ds + d_s[now]
        d_gates.append(join([dr, dz, dn], 1))
        d_recurrents.append(join([dr, dz, ds], 1))
        d_h = _keep_rest(dh * z[now] + d_recurrents[-1] @ w_hh, d_h, rows, join)
    d_recurrent = _in_time(d_recurrents, not reverse, join)
    return _in_time(d_gates, not reverse, join), d_h, d_recurrent.T @ before, d_recurrent.sum(0)


@primitive("gru_scan_backward", outputs=4, no_gradient="second derivatives take the formula in tensor operations")
def gru_scan_backward(d_out, d_h, d_acts, h0, w_hh, out, acts, *, sizes, reverse):
    """The derivative of `gru_scan` as one kernel."""
    arrays = _wide(d_out, d_h, _if_any(d_acts), h0, w_hh, out, acts)
    native = _scans(sizes, d_out, d_h, h0, out, acts, w_hh) if arrays[2] is None else None
    if native is not None:
        d_gates, d_recurrent, d_h, before = native.gru_backward(d_out, d_h, h0, w_hh, out, acts, sizes, reverse)
        return d_gates, d_h, multiply_arrays(d_recurrent.T, before), d_recurrent.sum(0)
    return _narrow(d_out.dtype, *_gru_formula(*arrays, sizes=sizes, reverse=reverse, join=_join_arrays, tanh=np.tanh))


@gru_scan.vjp
def gru_scan_vjp(grad, h0, w_hh, b_hh, out0, out2, sizes, reverse):
    grads = _derivative(_gru_formula, gru_scan_backward, modes.grad, grad, (h0, w_hh, out0, out2),
                        {"sizes": sizes, "reverse": reverse})
    return (*grads[:3], None if b_hh is None else grads[3])


# ------------------------------------------------------------------------------------------------ Elman

@primitive("rnn_scan", outputs=2)
def rnn_scan(gates, h0, w_hh, *, sizes, relu=False, reverse=False):
    """h = tanh(gates + h @ w_hh.T), or relu: gates (rows, H), h0 (N, H), w_hh (H, H) -> (rows, H) and the last h."""
    native = _scans(sizes, gates, h0, w_hh)
    if native is not None:
        return native.rnn(gates, h0, w_hh, sizes, relu, reverse)
    dtype = gates.dtype
    gates, h0, w_hh = _wide(gates, h0, w_hh)
    steps = _steps(sizes, reverse)
    out = np.empty(gates.shape, gates.dtype)
    to_gates = w_hh.T
    for k, (first, rows) in enumerate(steps):
        h = out[first:first + rows]
        np.matmul(_before(out, h0, steps, k, _join_arrays), to_gates, out=h)
        h += gates[first:first + rows]
        if relu:
            np.maximum(h, 0, out=h)
        else:
            np.tanh(h, out=h)
    return _narrow(dtype, out, _last(out, h0, steps))


def _rnn_formula(d_out, d_h, h0, w_hh, out, *, sizes, relu, reverse, join, tanh):
    """Gradients of gates, h0, w_hh."""
    steps = _steps(sizes, reverse)
    d_gates = []
    for first, rows in reversed(steps):
        hidden = out[first:first + rows]
        dh = d_h[:rows] + d_out[first:first + rows]
        d_gates.append(dh * (hidden > 0) if relu else dh * (1 - hidden * hidden))
        d_h = _keep_rest(d_gates[-1] @ w_hh, d_h, rows, join)
    d_gates = _in_time(d_gates, not reverse, join)
    return d_gates, d_h, d_gates.T @ _all_before(out, h0, steps, reverse, join)


@primitive("rnn_scan_backward", outputs=3, no_gradient="second derivatives take the formula in tensor operations")
def rnn_scan_backward(d_out, d_h, h0, w_hh, out, *, sizes, relu, reverse):
    """The derivative of `rnn_scan` as one kernel."""
    native = _scans(sizes, d_out, d_h, h0, out, w_hh)
    if native is not None:
        d_gates, d_h, before = native.rnn_backward(d_out, d_h, h0, w_hh, out, sizes, relu, reverse)
        return d_gates, d_h, multiply_arrays(d_gates.T, before)
    arrays = _wide(d_out, d_h, h0, w_hh, out)
    return _narrow(d_out.dtype, *_rnn_formula(*arrays, sizes=sizes, relu=relu, reverse=reverse, join=_join_arrays,
                                              tanh=np.tanh))


@rnn_scan.vjp
def rnn_scan_vjp(grad, h0, w_hh, out0, sizes, relu, reverse):
    return _derivative(_rnn_formula, rnn_scan_backward, modes.grad, grad, (h0, w_hh, out0),
                       {"sizes": sizes, "relu": relu, "reverse": reverse})


# ------------------------------------------------------------------------------------------------ layers

def _scan(mode: str, rows: Tensor, states: list, weights: list, bias: bool, sizes: tuple, reverse: bool) -> tuple:
    """One layer in one direction: rows (all time steps, inputs), states (N, ·) -> hidden rows and last states."""
    w_ih, w_hh = weights[:2]
    b_ih, b_hh = weights[2:4] if bias else (None, None)
    if mode == "GRU":
        out, h, _ = gru_scan(linear(rows, w_ih, b_ih), states[0], w_hh, b_hh, sizes=sizes, reverse=reverse)
        return out, [h]
    gates = linear(rows, w_ih, b_ih + b_hh if bias and b_ih is not None else None)
    if mode == "LSTM":
        w_hr = weights[-1] if len(weights) in (3, 5) else None
        out, h, c, _, _ = lstm_scan(gates, *states, w_hh, w_hr, sizes=sizes, reverse=reverse)
        return out, [h, c]
    out, h = rnn_scan(gates, states[0], w_hh, sizes=sizes, relu=mode == "RNN_RELU", reverse=reverse)
    return out, [h]


def sequence(mode: str, input: Tensor, states: list[Tensor], weights: list[list[Tensor]], *, bias: bool,
             dropout: float = 0.0, bidirectional: bool = False, batch_first: bool = False,
             batch_sizes: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
    """All layers of a recurrent network of the kind LSTM, GRU, RNN_TANH or RNN_RELU.

    input (L, N, I), (N, L, I) with batch_first, or packed rows (rows, I) with their batch_sizes; states
    (layers·directions, N, ·); weights per layer and direction. Dropout acts between layers. Returns the last layer's
    output in the layout of the input, and the last states.
    """
    if batch_sizes is None:
        if batch_first:
            input = input.transpose(0, 1)
        length, batch = input.shape[:2]
        sizes = (batch,) * length
        if length == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
    else:
        sizes = tuple(batch_sizes.tolist())
    directions = 2 if bidirectional else 1
    last: list[list[Tensor]] = [[] for _ in states]
    current = input
    for layer in range(len(weights) // directions):
        if layer and dropout:
            current = drop(current, dropout, True)
        rows = current.reshape(-1, current.shape[-1]) if batch_sizes is None else current
        outputs = []
        for direction in range(directions):
            index = layer * directions + direction
            out, ends = _scan(mode, rows, [state[index] for state in states], weights[index], bias, sizes,
                              direction == 1)
            outputs.append(out)
            for ending, end in zip(last, ends):
                ending.append(end)
        current = outputs[0] if directions == 1 else cat(outputs, 1)
        if batch_sizes is None:
            current = current.reshape(length, batch, -1)
    if batch_sizes is None and batch_first:
        current = current.transpose(0, 1)
    return current, [stack(ending) for ending in last]


def _grouped(mode: str, params: Any, has_biases: bool, count: int) -> list[list[Tensor]]:
    """The flat list of weights, per layer and direction."""
    params = list(params)
    per = len(params) // count
    return [params[i * per:(i + 1) * per] for i in range(count)]


def _function(mode: str, args: tuple) -> tuple:
    """The two spellings of torch.lstm and its siblings: padded input, or data with batch sizes."""
    names = ("hx", "params", "has_biases", "num_layers", "dropout", "train", "bidirectional", "batch_first")
    packed = len(args) == 9 and isinstance(args[1], Tensor) and not isinstance(args[3], bool)
    batch_sizes = args[1] if packed else None
    given = dict(zip(names, args[2:] if packed else args[1:]))
    states = list(given["hx"]) if mode == "LSTM" else [given["hx"]]
    count = given["num_layers"] * (2 if given["bidirectional"] else 1)
    output, ends = sequence(
        mode, args[0], states, _grouped(mode, given["params"], given["has_biases"], count), bias=given["has_biases"],
        dropout=given["dropout"] if given["train"] else 0.0, bidirectional=given["bidirectional"],
        batch_first=given.get("batch_first", False), batch_sizes=batch_sizes)
    return (output, *ends)


def lstm(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    """lstm(input, (h, c), params, has_biases, num_layers, dropout, train, bidirectional, batch_first), or with
    (data, batch_sizes, …) and no batch_first: output, h, c."""
    return _function("LSTM", args)


def gru(*args: Any) -> tuple[Tensor, Tensor]:
    """gru(input, h, params, has_biases, num_layers, dropout, train, bidirectional, batch_first): output, h."""
    return _function("GRU", args)


def rnn_tanh(*args: Any) -> tuple[Tensor, Tensor]:
    """rnn_tanh(input, h, params, has_biases, num_layers, dropout, train, bidirectional, batch_first): output, h."""
    return _function("RNN_TANH", args)


def rnn_relu(*args: Any) -> tuple[Tensor, Tensor]:
    """rnn_relu(input, h, params, has_biases, num_layers, dropout, train, bidirectional, batch_first): output, h."""
    return _function("RNN_RELU", args)


# ------------------------------------------------------------------------------------------------ cells

def _check_cell(input: Tensor, states: list[Tensor], w_ih: Tensor, w_hh: Tensor) -> None:
    """Raises RuntimeError for sizes that do not fit."""
    if input.size(1) != w_ih.size(1):
        raise RuntimeError(f"input has inconsistent input_size: got {input.size(1)} expected {w_ih.size(1)}")
    for i, state in enumerate(states):
        if state.size(0) != input.size(0):
            raise RuntimeError(f"Input batch size {input.size(0)} doesn't match hidden{i} batch size {state.size(0)}")
        if state.size(1) != w_hh.size(1):
            raise RuntimeError(f"hidden{i} has inconsistent hidden_size: got {state.size(1)}, expected {w_hh.size(1)}")


def _cell(mode: str, input: Tensor, states: list[Tensor], w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None,
          b_hh: Tensor | None) -> list[Tensor]:
    _check_cell(input, states, w_ih, w_hh)
    bias = b_ih is not None and b_hh is not None
    weights = [w_ih, w_hh, b_ih, b_hh] if bias else [w_ih, w_hh]
    return _scan(mode, input, states, weights, bias, (input.size(0),), False)[1]


def lstm_cell(input: Tensor, hx: Any, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None,
              b_hh: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """One LSTM step: input (N, I), (h, c) each (N, H), weights (4H, I) and (4H, H) -> (h', c')."""
    return tuple(_cell("LSTM", input, list(hx), w_ih, w_hh, b_ih, b_hh))


def gru_cell(input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None,
             b_hh: Tensor | None = None) -> Tensor:
    """One GRU step: input (N, I), h (N, H), weights (3H, I) and (3H, H) -> h'."""
    return _cell("GRU", input, [hx], w_ih, w_hh, b_ih, b_hh)[0]


def rnn_tanh_cell(input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None,
                  b_hh: Tensor | None = None) -> Tensor:
    """tanh(W_ih x + b_ih + W_hh h + b_hh): input (N, I), h (N, H) -> h'."""
    return _cell("RNN_TANH", input, [hx], w_ih, w_hh, b_ih, b_hh)[0]


def rnn_relu_cell(input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None,
                  b_hh: Tensor | None = None) -> Tensor:
    """relu(W_ih x + b_ih + W_hh h + b_hh): input (N, I), h (N, H) -> h'."""
    return _cell("RNN_RELU", input, [hx], w_ih, w_hh, b_ih, b_hh)[0]
