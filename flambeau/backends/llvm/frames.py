"""What recurrences (`recurrences.py`) and batch normalisation (`channels.py`) in generated code are called with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

UNITS = 8  # the units that one vector holds
WORTH_A_THREAD = 8e6  # floating point operations of a scan, some 0.1 ms
SMALLEST = 16  # hidden size
APART = 32  # floats between the channels' sums of two threads, which should not write into one line of the cache

# The words of each frame: sizes, and behind the bar addresses. `table` has the steps (first row, rows) in visiting
# order, `d_out_step` is the distance of d_out's rows; the names are otherwise those of `ops/recurrent.py`. `before`
# gets the state that each row started from, which the gradient of the weights is made of. "channels" is explained in
# `channels.py`.
FRAMES = {
    "lstm": "parts steps batch size | table w_hh h0 c0 gates scratch out h_n c_n acts cells",
    "lstm_backward": "parts steps batch size d_out_step | table w_hh h0 c0 out acts cells d_out d_h d_c scratch "
                     "d_gates d_h0 d_c0 before",
    "gru": "parts steps batch size | table w_hh h0 gates b_hh scratch out h_n acts",
    "gru_backward": "parts steps batch size d_out_step | table w_hh h0 out acts d_out d_h scratch "
                    "d_gates d_recurrent d_h0 before",
    "rnn": "parts steps batch size | table w_hh h0 gates scratch out h_n",
    "rnn_backward": "parts steps batch size d_out_step | table w_hh h0 out d_out d_h scratch d_gates d_h0 before",
    "channels": "parts rows channels size | x grad out shift factor offset slope scratch",
}  # fmt: skip
GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def parts_of(kind: str, rows: int, batch: int, size: int, threads: int) -> int:
    """Into how many shares to divide the batch: threads have to be worth waking."""
    return min(threads, batch) if 2 * rows * GATES[kind] * size * size >= WORTH_A_THREAD else 1


def scratch_size(kind: str, batch: int, size: int, parts: int) -> int:
    """Bytes of scratch memory that a scan, forward or backward, needs."""
    gates, padded = GATES[kind], -(-size // (2 * UNITS)) * 2 * UNITS
    return 4 * (gates * padded * size + parts * -(-batch // parts) * max(gates * UNITS, padded))


def visiting(sizes: Sequence[int], reverse: bool) -> np.ndarray:
    """First row and number of rows of each time step, in the order in which a recurrence visits them."""
    table = np.empty((len(sizes), 2), np.int64)
    table[:, 1] = sizes
    table[:, 0] = np.cumsum(table[:, 1]) - table[:, 1]
    return np.ascontiguousarray(table[::-1]) if reverse else table
