"""Recurrences in generated code against the NumPy kernels of the ops."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from flambeau.backends import threads
from flambeau.compiler import scans
from flambeau.ops import recurrent

# Rows of each time step: padded, packed (with one sequence at the end), one step, a batch of one.
BATCHES = [(3, 3, 3, 3), (7, 7, 5, 4, 4, 1), (9,), (1, 1, 1)]


@pytest.fixture(autouse=True)
def numpy_kernels(monkeypatch):
    monkeypatch.setattr(recurrent, "_scans", lambda *arrays: None)


@pytest.fixture(params=[1, 2])
def parts(request, monkeypatch):
    """Shares of the batch: on one thread, and on two although there is little to do."""
    monkeypatch.setattr(scans, "parts_of", lambda kind, rows, batch, size, count: min(request.param, batch))


def close(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * max(1e-3, float(np.abs(b).max())))


def draws(seed):
    rng = np.random.default_rng(seed)
    return lambda *shape: rng.standard_normal(shape).astype(np.float32)


def before(out, h0, sizes, reverse):
    steps = recurrent._steps(sizes, reverse)
    return recurrent._all_before(out, h0, steps, reverse, recurrent._join_arrays)


def apart(rows, size, draw):
    """A gradient whose rows lie apart, as that of one direction does."""
    return draw(rows, 2 * size)[:, size:]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("sizes", BATCHES)
@pytest.mark.parametrize("size", [16, 43])
def test_lstm(sizes, size, reverse, parts):
    draw, rows, batch = draws(1), sum(sizes), sizes[0]
    gates, h0, c0, w_hh = draw(rows, 4 * size), draw(batch, size), draw(batch, size), 0.2 * draw(4 * size, size)
    expected = recurrent.lstm_scan.op.kernel(gates, h0, c0, w_hh, None, sizes=sizes, reverse=reverse)
    close(scans.lstm(gates, h0, c0, w_hh, sizes, reverse), expected)
    out, _, _, acts, cells = expected
    d_out, d_h, d_c = apart(rows, size, draw), draw(batch, size), draw(batch, size)
    kept = h0, c0, w_hh, out, acts, cells
    found = scans.lstm_backward(d_out, d_h, d_c, *kept, sizes, reverse)
    expected = recurrent._lstm_gradients(d_out, d_h, d_c, h0, c0, w_hh, None, out, acts, cells, sizes, reverse)
    close((*found[:3], found[0].T @ found[3]), expected[:4])
    np.testing.assert_array_equal(found[3], before(out, h0, sizes, reverse))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("sizes", BATCHES)
def test_gru(sizes, reverse, bias, parts, size=37):
    draw, rows, batch = draws(2), sum(sizes), sizes[0]
    gates, h0, w_hh = draw(rows, 3 * size), draw(batch, size), 0.2 * draw(3 * size, size)
    b_hh = draw(3 * size) if bias else None
    expected = recurrent.gru_scan.op.kernel(gates, h0, w_hh, b_hh, sizes=sizes, reverse=reverse)
    close(scans.gru(gates, h0, w_hh, b_hh, sizes, reverse), expected)
    out, _, acts = expected
    d_out, d_h = apart(rows, size, draw), draw(batch, size)
    d_gates, d_recurrent, d_h0, started = scans.gru_backward(d_out, d_h, h0, w_hh, out, acts, sizes, reverse)
    expected = recurrent.gru_scan_backward.op.kernel(
        d_out, d_h, np.zeros_like(acts), h0, w_hh, out, acts, sizes=sizes, reverse=reverse
    )
    close((d_gates, d_h0, d_recurrent.T @ started, d_recurrent.sum(0)), expected)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("sizes", BATCHES)
def test_elman(sizes, reverse, relu, parts, size=41):
    draw, rows, batch = draws(3), sum(sizes), sizes[0]
    gates, h0, w_hh = draw(rows, size), draw(batch, size), 0.2 * draw(size, size)
    options = {"sizes": sizes, "relu": relu, "reverse": reverse}
    out, h = recurrent.rnn_scan.op.kernel(gates, h0, w_hh, **options)
    close(scans.rnn(gates, h0, w_hh, sizes, relu, reverse), (out, h))
    d_out, d_h = apart(rows, size, draw), draw(batch, size)
    d_gates, d_h0, started = scans.rnn_backward(d_out, d_h, h0, w_hh, out, sizes, relu, reverse)
    expected = recurrent.rnn_scan_backward.op.kernel(d_out, d_h, h0, w_hh, out, **options)
    close((d_gates, d_h0, d_gates.T @ started), expected)


def test_large_batch_on_both_threads():
    draw, sizes, size = draws(4), (70, 70, 33, 20), 128
    gates, h0, c0, w_hh = draw(193, 4 * size), draw(70, size), draw(70, size), 0.1 * draw(4 * size, size)
    kept = threads.get_num_threads()
    threads.set_num_threads(2)
    try:
        found = scans.lstm(gates, h0, c0, w_hh, sizes, False)
    finally:
        threads.set_num_threads(kept)
    close(found, recurrent.lstm_scan.op.kernel(gates, h0, c0, w_hh, None, sizes=sizes, reverse=False))


def test_nan_passes_through_relu():
    gates = np.full((2, 16), np.nan, np.float32)
    out, _ = scans.rnn(gates, np.zeros((2, 16), np.float32), np.zeros((16, 16), np.float32), (2,), True, False)
    assert np.isnan(out).all()


@pytest.mark.parametrize(
    "dtype, size, fits", [(np.float32, 16, True), (np.float32, 15, False), (np.float64, 16, False)]
)
def test_what_it_can_do(dtype, size, fits):
    assert scans.fits(np.zeros((3, 4 * size), dtype), None, np.zeros((4 * size, size), dtype)) is fits
    assert not scans.fits(np.zeros((0, size), np.float32), np.zeros((size, size), np.float32))
