"""LSTM, GRU and Elman recurrences in generated code, forward and backward; see `recurrent.py` for how they are built.

Each function puts `void (ptr frame)` into a module, once, and returns it. All arrays are float32 and contiguous, but
for the rows of d_out. The formulas are those of `ops/recurrent.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau.backends.llvm.frames import GATES, UNITS
from flambeau.backends.llvm.mersenne import loop
from flambeau.backends.llvm.recurrent import (
    BackStep,
    Step,
    begin_share,
    emit_backward,
    emit_forward,
    emit_product,
)


def emit_lstm(module: Any) -> Any:
    """`lstm_scan` without projection: gates i, f, g, o -> acts i, f, o, g. h_n and c_n end up as the last states."""
    share, w = begin_share(module, "lstm")
    if w is not None:
        b, m, f = w.b, w.m, w.frame(share.args[0], "lstm")
        product, wide = emit_product(module, 2), w.number((f.size, 4))
        with loop(b, *share.args[1:]) as part, loop(b, 0, f.steps) as k:
            step = Step(w, f, part, k, 4, 2, product)
            with w.blocks(f.size) as (block, unit):
                step.multiply(block)
                with loop(b, 0, step.rows) as r:
                    sequence, row = step.row(r)
                    above = w.at(f.gates, (row, wide), unit)
                    i, forget, g, o = (
                        w.load(w.at(step.sums, (r, step.width), UNITS * n)) + w.load(w.at(above, (f.size, n)))
                        for n in range(4)
                    )
                    i, forget, o, g = m.sigmoid(i), m.sigmoid(forget), m.sigmoid(o), m.tanh(g)
                    place = w.at(f.acts, (row, wide), unit)
                    for n, gate in enumerate((i, forget, o, g)):
                        w.store(gate, w.at(place, (f.size, n)))
                    c = forget * w.load(w.at(f.c_n, (sequence, f.size), unit)) + i * g
                    w.store(c, w.at(f.cells, (row, f.size), unit))
                    w.store(o * m.tanh(c), w.at(f.out, (row, f.size), unit))
            step.keep((f.h_n, f.out), (f.c_n, f.cells))
        w.done()
    return emit_forward(module, "lstm", "lstm", share, [("h_n", "h0"), ("c_n", "c0")], 2)


def emit_lstm_backward(module: Any) -> Any:
    """`lstm_scan_backward` without projection and without the weights' gradient, which is d_gates.T @ before."""
    share, w = begin_share(module, "lstm_backward")
    if w is not None:
        b, m, f = w.b, w.m, w.frame(share.args[0], "lstm_backward")
        product, wide = emit_product(module, 2), w.number((f.size, 4))
        with loop(b, *share.args[1:]) as part, loop(b, 0, f.steps) as visited:
            step = BackStep(w, f, part, visited)
            kept = w.own(f, part, 4, f.size)
            with loop(b, 0, step.rows) as r:
                sequence, row = step.row(r)
                cell = step.started_from(sequence, f.cells, f.c0)
                hidden = step.started_from(sequence, f.out, f.h0)
                with w.blocks(f.size) as (_, unit):
                    w.store(w.load(w.at(hidden, unit)), w.at(f.before, (row, f.size), unit))
                    i, forget, o, g = (w.load(w.at(f.acts, (row, wide), (f.size, n), unit)) for n in range(4))
                    dh = w.load(w.at(f.d_h0, (sequence, f.size), unit))
                    dh = dh + w.load(w.at(f.d_out, (row, f.d_out_step), unit))
                    squashed = m.tanh(w.load(w.at(f.cells, (row, f.size), unit)))
                    dc = w.load(w.at(f.d_c0, (sequence, f.size), unit)) + dh * o * (1 - squashed * squashed)
                    w.store(dc * forget, w.at(kept, unit))
                    gradients = (
                        dc * g * (i - i * i),
                        dc * w.load(w.at(cell, unit)) * (forget - forget * forget),
                        dc * i * (1 - g * g),
                        dh * squashed * (o - o * o),
                    )
                    place = w.at(f.d_gates, (row, wide), unit)
                    for n, gradient in enumerate(gradients):
                        w.store(gradient, w.at(place, (f.size, n)))
                w.copy(w.at(f.d_c0, (sequence, f.size)), kept, f.size)
            step.multiply(product, f.d_gates, 4)
        w.done()
    return emit_backward(module, "lstm", "lstm", share, [("d_h0", "d_h"), ("d_c0", "d_c")])


def emit_gru(module: Any) -> Any:
    """`gru_scan`: gates r, z, n -> acts r, z, n and the recurrent share of n. b_hh is there, be it zero."""
    share, w = begin_share(module, "gru")
    if w is not None:
        b, m, f = w.b, w.m, w.frame(share.args[0], "gru")
        product = emit_product(module, 3)
        with loop(b, *share.args[1:]) as part, loop(b, 0, f.steps) as k:
            step = Step(w, f, part, k, 3, 3, product)
            with w.blocks(f.size) as (block, unit):
                step.multiply(block)
                with loop(b, 0, step.rows) as r:
                    sequence, row = step.row(r)
                    bias = w.at(f.b_hh, unit)
                    above = w.at(f.gates, (row, f.size, 3), unit)
                    recurrent = [w.load(w.at(step.sums, (r, step.width), UNITS * n)) + w.load(w.at(bias, (f.size, n)))
                                 for n in range(3)]
                    given = [w.load(w.at(above, (f.size, n))) for n in range(3)]
                    reset, update = (m.sigmoid(recurrent[n] + given[n]) for n in range(2))
                    new = m.tanh(given[2] + reset * recurrent[2])
                    place = w.at(f.acts, (row, f.size, 4), unit)
                    for n, value in enumerate((reset, update, new, recurrent[2])):
                        w.store(value, w.at(place, (f.size, n)))
                    old = w.load(w.at(f.h_n, (sequence, f.size), unit))
                    w.store((old - new) * update + new, w.at(f.out, (row, f.size), unit))
            step.keep((f.h_n, f.out))
        w.done()
    return emit_forward(module, "gru", "gru", share, [("h_n", "h0")], 3)


def emit_gru_backward(module: Any) -> Any:
    """`gru_scan_backward` without the gradients of w_hh (d_recurrent.T @ before) and b_hh (the sum of d_recurrent)."""
    share, w = begin_share(module, "gru_backward")
    if w is not None:
        b, f = w.b, w.frame(share.args[0], "gru_backward")
        product = emit_product(module, 2)
        with loop(b, *share.args[1:]) as part, loop(b, 0, f.steps) as visited:
            step = BackStep(w, f, part, visited)
            kept = w.own(f, part, 3, f.size)
            with loop(b, 0, step.rows) as r:
                sequence, row = step.row(r)
                hidden = step.started_from(sequence, f.out, f.h0)
                with w.blocks(f.size) as (_, unit):
                    old = w.load(w.at(hidden, unit))
                    w.store(old, w.at(f.before, (row, f.size), unit))
                    reset, update, new, given = (
                        w.load(w.at(f.acts, (row, f.size, 4), (f.size, n), unit)) for n in range(4)
                    )
                    dh = w.load(w.at(f.d_h0, (sequence, f.size), unit))
                    dh = dh + w.load(w.at(f.d_out, (row, f.d_out_step), unit))
                    w.store(dh * update, w.at(kept, (r, f.size), unit))
                    d_new = dh * (1 - update) * (1 - new * new)
                    d_update = dh * (old - new) * (update - update * update)
                    d_reset = d_new * given * (reset - reset * reset)
                    for array, last in ((f.d_gates, d_new), (f.d_recurrent, d_new * reset)):
                        place = w.at(array, (row, f.size, 3), unit)
                        for n, gradient in enumerate((d_reset, d_update, last)):
                            w.store(gradient, w.at(place, (f.size, n)))
            step.multiply(product, f.d_recurrent, 3)
            with loop(b, 0, step.rows) as r:
                w.copy(w.at(f.d_h0, (step.row(r)[0], f.size)), w.at(kept, (r, f.size)), f.size, add=True)
        w.done()
    return emit_backward(module, "gru", "gru", share, [("d_h0", "d_h")])


def emit_rnn(module: Any, relu: bool) -> Any:
    """`rnn_scan` with tanh or relu."""
    kind = "rnn_relu" if relu else "rnn_tanh"
    share, w = begin_share(module, kind)
    if w is not None:
        b, m, f = w.b, w.m, w.frame(share.args[0], "rnn")
        product = emit_product(module, 2)
        with loop(b, *share.args[1:]) as part, loop(b, 0, f.steps) as k:
            step = Step(w, f, part, k, GATES["rnn"], 2, product)
            with w.blocks(f.size, 2 * UNITS) as (block, unit):
                step.multiply(block)
                with loop(b, 0, step.rows) as r:
                    _, row = step.row(r)
                    for half in (0, UNITS):
                        total = w.load(w.at(step.sums, (r, step.width), half)) + w.load(
                            w.at(f.gates, (row, f.size), unit, half))
                        w.store(m.maximum(total, 0) if relu else m.tanh(total), w.at(f.out, (row, f.size), unit, half))
            step.keep((f.h_n, f.out))
        w.done()
    return emit_forward(module, kind, "rnn", share, [("h_n", "h0")], 2, 2 * UNITS)


def emit_rnn_backward(module: Any, relu: bool) -> Any:
    """`rnn_scan_backward` without the weights' gradient, which is d_gates.T @ before."""
    kind = "rnn_relu" if relu else "rnn_tanh"
    share, w = begin_share(module, f"{kind}_backward")
    if w is not None:
        b, m, f = w.b, w.m, w.frame(share.args[0], "rnn_backward")
        product = emit_product(module, 2)
        with loop(b, *share.args[1:]) as part, loop(b, 0, f.steps) as visited:
            step = BackStep(w, f, part, visited)
            with loop(b, 0, step.rows) as r:
                sequence, row = step.row(r)
                hidden = step.started_from(sequence, f.out, f.h0)
                with w.blocks(f.size) as (_, unit):
                    w.store(w.load(w.at(hidden, unit)), w.at(f.before, (row, f.size), unit))
                    dh = w.load(w.at(f.d_h0, (sequence, f.size), unit))
                    dh = dh + w.load(w.at(f.d_out, (row, f.d_out_step), unit))
                    h = w.load(w.at(f.out, (row, f.size), unit))
                    gradient = m.where(h > 0, dh, dh * 0) if relu else dh * (1 - h * h)
                    w.store(gradient, w.at(f.d_gates, (row, f.size), unit))
            step.multiply(product, f.d_gates, GATES["rnn"])
        w.done()
    return emit_backward(module, kind, "rnn", share, [("d_h0", "d_h")])


EMITTERS: dict[str, Any] = {
    "lstm": emit_lstm,
    "lstm_backward": emit_lstm_backward,
    "gru": emit_gru,
    "gru_backward": emit_gru_backward,
    "rnn_tanh": lambda module: emit_rnn(module, False),
    "rnn_tanh_backward": lambda module: emit_rnn_backward(module, False),
    "rnn_relu": lambda module: emit_rnn(module, True),
    "rnn_relu_backward": lambda module: emit_rnn_backward(module, True),
}
