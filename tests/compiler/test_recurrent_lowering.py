"""Recurrent scans lowered to native routines against the NumPy kernels of their ops."""

import ctypes

import numpy as np
import pytest

pytest.importorskip("llvmlite")

import flambeau as torch
import flambeau.compiler.lower.recurrent
import flambeau.ops.recurrent as ops
from flambeau import nn
from flambeau.backends.llvm import jit
from flambeau.backends.onednn import available
from flambeau.compiler.graph import Node, Ref
from flambeau.compiler.steps import LOWERINGS, KernelStep, Lowering, RoutineStep
from flambeau.core.dispatch import REGISTRY
from tests.compiler.library_steps import Program as Steps
from tests.compiler.library_steps import steps_of

SIZES = [(3, 3, 3), (7, 7, 5, 4, 4, 1)]
SIZE = 19
needs_onednn = pytest.mark.skipif(not available(), reason="the weights' gradient is oneDNN's")


@pytest.fixture(autouse=True)
def numpy_kernels(monkeypatch):
    monkeypatch.setattr(ops, "_scans", lambda *arrays: None)


class Program(Steps):
    """Runs routines that have parallel regions, too."""

    def routine(self, step):
        from llvmlite import ir

        module = ir.Module("test")
        function = step.emit(module)
        function.linkage = "external"
        code = jit.compile_and_load(module, [function.name])
        addresses = (ctypes.c_void_p * len(step.operands))(*(self.address(o) for o in step.operands))
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(code.address(function.name))(ctypes.addressof(addresses))


def draws():
    rng = np.random.default_rng(0)
    return lambda *shape: rng.standard_normal(shape).astype(np.float32)


def program_of(op, inputs, attrs, zeros=(), unwanted=()):
    """The lowered node and its values; inputs in `zeros` are constants, outputs in `unwanted` are nobody's."""
    expected = REGISTRY[op].kernel(*inputs, **attrs)
    program = Program()
    refs = [program.ref(array) for array in inputs]
    for i in zeros:
        value = refs[i].value
        program.graph.constants[value] = inputs[i]
    outputs = [
        None if i in unwanted else program.graph.value(a.shape, steps_of(np.empty(a.shape, a.dtype)), a.dtype)
        for i, a in enumerate(expected)
    ]
    node = Node(op, refs, attrs, outputs)
    return program, node, expected


def check(op, inputs, attrs, zeros=(), unwanted=(), unwritten=()):
    program, node, expected = program_of(op, inputs, attrs, zeros, unwanted)
    steps = LOWERINGS[op](node, Lowering(program.graph, 2))
    assert steps is not None and any(isinstance(step, RoutineStep) for step in steps)
    program.memory.update({v: a for v, a in program.graph.constants.items() if v not in program.memory})
    program.run(steps)
    for i, (value, wanted) in enumerate(zip(node.outputs, expected)):
        if value is not None and i not in unwritten:
            scale = max(1e-3, float(np.abs(wanted).max()))
            np.testing.assert_allclose(program.show(value.whole()), wanted, rtol=1e-5, atol=1e-5 * scale)
    return steps


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
def test_lstm(sizes, reverse):
    draw, rows, batch = draws(), sum(sizes), sizes[0]
    states, attrs = [draw(batch, SIZE), draw(batch, SIZE)], {"sizes": sizes, "reverse": reverse}
    w_hh = draw(4 * SIZE, SIZE)
    check("lstm_scan", [draw(rows, 4 * SIZE), *states, w_hh, None], attrs, unwanted=(2,))


@needs_onednn
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
def test_lstm_backward(sizes, reverse):
    draw, rows, batch = draws(), sum(sizes), sizes[0]
    h0, c0, w_hh = draw(batch, SIZE), draw(batch, SIZE), draw(4 * SIZE, SIZE)
    attrs = {"sizes": sizes, "reverse": reverse}
    out, _, _, acts, cells = REGISTRY["lstm_scan"].kernel(draw(rows, 4 * SIZE), h0, c0, w_hh, None, **attrs)
    d_out, d_h, d_c = draw(rows, 2 * SIZE)[:, SIZE:], draw(batch, SIZE), draw(SIZE, batch).T  # one of them is copied
    inputs = [d_out, d_h, d_c, np.zeros_like(acts), np.zeros_like(cells), h0, c0, w_hh, None, out, acts, cells]
    steps = check("lstm_scan_backward", inputs, attrs, zeros=(3, 4), unwritten=(4,))
    assert isinstance(steps[0], KernelStep) and isinstance(steps[1], RoutineStep)
    check("lstm_scan_backward", inputs, attrs, zeros=(3, 4), unwanted=(1, 2, 3, 4))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_gru(bias, reverse, sizes=SIZES[1]):
    draw, rows, batch = draws(), sum(sizes), sizes[0]
    inputs = [draw(rows, 3 * SIZE), draw(batch, SIZE), draw(3 * SIZE, SIZE), draw(3 * SIZE) if bias else None]
    check("gru_scan", inputs, {"sizes": sizes, "reverse": reverse})


@needs_onednn
@pytest.mark.parametrize("reverse", [False, True])
def test_gru_backward(reverse, sizes=SIZES[1]):
    draw, rows, batch = draws(), sum(sizes), sizes[0]
    h0, w_hh, attrs = draw(batch, SIZE), draw(3 * SIZE, SIZE), {"sizes": sizes, "reverse": reverse}
    out, _, acts = REGISTRY["gru_scan"].kernel(draw(rows, 3 * SIZE), h0, w_hh, None, **attrs)
    inputs = [draw(rows, SIZE), draw(batch, SIZE), np.zeros_like(acts), h0, w_hh, out, acts]
    check("gru_scan_backward", inputs, attrs, zeros=(2,))


@pytest.mark.parametrize("relu", [False, True])
def test_elman(relu, sizes=SIZES[1]):
    draw, rows, batch = draws(), sum(sizes), sizes[0]
    attrs = {"sizes": sizes, "reverse": False, "relu": relu}
    h0, w_hh = draw(batch, SIZE), draw(SIZE, SIZE)
    check("rnn_scan", [draw(rows, SIZE), h0, w_hh], attrs)
    if available():
        out, _ = REGISTRY["rnn_scan"].kernel(draw(rows, SIZE), h0, w_hh, **attrs)
        check("rnn_scan_backward", [draw(rows, SIZE), draw(batch, SIZE), h0, w_hh, out], attrs)


def test_what_it_leaves_to_numpy():
    draw, sizes = draws(), (2, 2)
    attrs = {"sizes": sizes, "reverse": False}

    def lowered(inputs, op="lstm_scan"):
        program, node, _ = program_of(op, inputs, attrs)
        return LOWERINGS[op](node, Lowering(program.graph))

    assert lowered([draw(4, 64), draw(2, 8), draw(2, 16), draw(64, 8), draw(8, 16)]) is None  # a projection
    assert lowered([draw(4, 40), draw(2, 10), draw(2, 10), draw(40, 10), None]) is None  # too few units
    double = [a.astype(np.float64) for a in (draw(4, 64), draw(2, 16), draw(2, 16), draw(64, 16))]
    assert lowered([*double, None]) is None
    h0, c0, w_hh = draw(2, 16), draw(2, 16), draw(64, 16)
    out, _, _, acts, cells = REGISTRY["lstm_scan"].kernel(draw(4, 64), h0, c0, w_hh, None, **attrs)
    known_by_nobody = [draw(4, 16), h0, c0, np.zeros_like(acts), np.zeros_like(cells)]
    assert lowered([*known_by_nobody, h0, c0, w_hh, None, out, acts, cells], "lstm_scan_backward") is None
    assert all(
        isinstance(x, (Ref, type(None)))
        for x in program_of("gru_scan", [draw(4, 48), h0, draw(48, 16), None], attrs)[1].inputs
    )


@needs_onednn
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_training_steps_compiled_and_eager(kind):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(20, 7)
            self.rnn = kind(7, 18, num_layers=2, bidirectional=True, dropout=0.5)
            self.end = nn.Linear(36, 1)

        def forward(self, text, lengths):
            packed = nn.utils.rnn.pack_padded_sequence(self.embedding(text), lengths)
            out, lengths = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0])
            return self.end(out.mean(0)).squeeze(1)

    def losses(compile):
        torch.manual_seed(0)
        net = Net()
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)

        def step(text, lengths, wanted):
            optimizer.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(net(text, lengths), wanted)
            loss.backward()
            optimizer.step()
            return loss

        run = torch.compile(step) if compile else step
        text, wanted, lengths = torch.randint(0, 20, (6, 4)), torch.tensor([0.0, 1, 1, 0]), torch.tensor([6, 5, 5, 2])
        found = [run(text, lengths, wanted).item() for _ in range(6)]
        return found, [p.detach().numpy() for p in net.parameters()]

    (found, weights), (expected, eager) = losses(True), losses(False)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    for a, b in zip(weights, eager):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
