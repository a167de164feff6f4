"""RNN, LSTM, GRU: one formula for layers, cells and packed sequences; first and second derivatives."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import flambeau as torch
from flambeau import nn
from flambeau.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

KINDS = [("RNN", {}), ("RNN", {"nonlinearity": "relu"}), ("LSTM", {}), ("GRU", {})]


def states_of(hidden):
    return list(hidden) if isinstance(hidden, tuple) else [hidden]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_step(kind, x, h, c, w_ih, w_hh, b_ih, b_hh):
    """One step by the textbook's formulas."""
    a, b = x @ w_ih.T + b_ih, h @ w_hh.T + b_hh
    if kind == "LSTM":
        i, f, g, o = np.split(a + b, 4, 1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    if kind == "GRU":
        (ar, az, an), (br, bz, bn) = np.split(a, 3, 1), np.split(b, 3, 1)
        r, z = sigmoid(ar + br), sigmoid(az + bz)
        n = np.tanh(an + r * bn)
        return (1 - z) * n + z * h, c
    return (np.maximum(a + b, 0) if kind == "relu" else np.tanh(a + b)), c


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_a_layer_is_its_formula(kind, options):
    torch.manual_seed(0)
    layer = getattr(nn, kind)(3, 4, **options).double()
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    out, hidden = layer(x)
    h = c = np.zeros((2, 4))
    for t in range(5):
        h, c = numpy_step(options.get("nonlinearity", kind), x[t].numpy(), h, c,
                          *(p.detach().numpy() for p in layer.parameters()))
        np.testing.assert_allclose(out[t].detach().numpy(), h, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(states_of(hidden)[-1][0].detach().numpy(), c if kind == "LSTM" else h, rtol=1e-12)


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_cells_are_one_step_of_the_layer(kind, options):
    torch.manual_seed(0)
    layer, cell = getattr(nn, kind)(3, 4, **options), getattr(nn, kind + "Cell")(3, 4, **options)
    for own, other in zip(cell.parameters(), layer.parameters()):
        own.data = other.data
    x = torch.randn(2, 3)
    got, wanted = states_of(cell(x)), [state[0] for state in states_of(layer(x.unsqueeze(0))[1])]
    for a, b in zip(got, wanted):
        assert a.tolist() == b.tolist()
    assert states_of(cell(x[0]))[0].shape == (4,)


@pytest.mark.parametrize(("kind", "options"), [*KINDS, ("LSTM", {"proj_size": 2})])
@pytest.mark.parametrize("shape", [{}, {"num_layers": 2, "bidirectional": True}])
def test_packed_sequences_equal_each_sequence_alone(kind, options, shape):
    torch.manual_seed(0)
    layer = getattr(nn, kind)(3, 4, **options, **shape)
    lengths = [2, 5, 3]
    x = torch.randn(5, 3, 3)
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    out, hidden = layer(packed)
    padded, back = pad_packed_sequence(out)
    assert back.tolist() == lengths
    for n, length in enumerate(lengths):
        alone, last = layer(x[:length, n])
        np.testing.assert_allclose(padded[:length, n].tolist(), alone.tolist(), rtol=1e-4, atol=1e-6)
        assert not padded[length:, n].any()
        for a, b in zip(states_of(hidden), states_of(last)):
            np.testing.assert_allclose(a[:, n].tolist(), b.tolist(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("kind", "options"), [("RNN", {}), ("LSTM", {}), ("GRU", {}), ("LSTM", {"proj_size": 2}),
                                               ("GRU", {"bias": False}), ("LSTM", {"bidirectional": True})])
def test_derivatives_by_finite_differences(kind, options):
    torch.manual_seed(0)
    layer = getattr(nn, kind)(2, 3, **options).double()
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    parameters = list(layer.parameters())

    def total():
        out, hidden = layer(x)
        return (out * out).sum() + sum(state.sin().sum() for state in states_of(hidden))

    grads = torch.autograd.grad(total(), [x, *parameters])
    for tensor, grad in zip([x, *parameters], grads):
        flat = tensor.detach().reshape(-1)
        for index in {0, flat.numel() // 2, flat.numel() - 1}:
            before = flat[index].item()
            values = []
            for step in (1e-6, -1e-6):
                flat[index] = before + step
                values.append(total().item())
            flat[index] = before
            assert (values[0] - values[1]) / 2e-6 == pytest.approx(grad.reshape(-1)[index].item(), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_second_derivatives_by_finite_differences(kind):
    torch.manual_seed(0)
    layer = getattr(nn, kind)(2, 3).double()
    x = torch.randn(3, 1, 2, dtype=torch.float64, requires_grad=True)
    weight = layer.weight_hh_l0

    def slope(create_graph):
        out, _ = layer(x)
        grad, = torch.autograd.grad((out * out).sum(), [x], create_graph=create_graph)
        return (grad * grad).sum()

    second, = torch.autograd.grad(slope(True), [weight])
    flat = weight.detach().reshape(-1)
    for index in (0, flat.numel() - 1):
        before = flat[index].item()
        values = []
        for step in (1e-6, -1e-6):
            flat[index] = before + step
            values.append(slope(False).item())
        flat[index] = before
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(second.reshape(-1)[index].item(), rel=1e-4, abs=1e-8)


def test_third_argument_is_the_number_of_layers():
    assert nn.RNN(2, 3, 4).num_layers == 4 and nn.RNN(2, 3, 1, "relu").nonlinearity == "relu"
    assert list(dict(nn.GRU(2, 3, 2, bidirectional=True).named_parameters()))[4] == "weight_ih_l0_reverse"


def test_without_batch_first_the_last_of_dim_1_is_an_example():
    layer = nn.RNN(2, 3)
    out, hidden = layer(torch.ones(5, 4, 2))
    assert out[:, -1].shape == (5, 3) and hidden.shape == (1, 4, 3)
    out, hidden = nn.RNN(2, 3, batch_first=True)(torch.ones(5, 4, 2))
    assert out.shape == (5, 4, 3) and hidden.shape == (1, 5, 3)


def test_dropout_between_layers_only_in_training():
    layer = nn.LSTM(2, 8, 2, dropout=0.5)
    x = torch.ones(3, 1, 2)
    assert layer(x)[0].tolist() != layer(x)[0].tolist()
    layer.eval()
    assert layer(x)[0].tolist() == layer(x)[0].tolist()
    with pytest.warns(UserWarning, match="num_layers greater than 1"):
        nn.LSTM(2, 8, dropout=0.5)


def test_wrong_inputs():
    layer = nn.LSTM(2, 3)
    with pytest.raises(RuntimeError, match="Expected 2, got 4"):
        layer(torch.ones(3, 1, 4))
    with pytest.raises(RuntimeError, match=r"Expected hidden\[0\] size \(1, 1, 3\), got \[1, 2, 3\]"):
        layer(torch.ones(3, 1, 2), (torch.zeros(1, 2, 3), torch.zeros(1, 2, 3)))
    with pytest.raises(RuntimeError, match="batched 3-D input, hx and cx should also be 3-D"):
        layer(torch.ones(3, 1, 2), (torch.zeros(1, 3), torch.zeros(1, 3)))
    with pytest.raises(ValueError, match="does not match weight dtype"):
        layer(torch.ones(3, 1, 2, dtype=torch.float64))
    with pytest.raises(RuntimeError, match="inconsistent input_size: got 3 expected 2"):
        nn.LSTMCell(2, 3)(torch.ones(1, 3))
    with pytest.raises(RuntimeError, match="Input batch size 1 doesn't match hidden0 batch size 2"):
        nn.GRUCell(2, 3)(torch.ones(1, 2), torch.ones(2, 3))


def test_half_precision_computes_in_float32():
    layer = nn.GRU(2, 3).bfloat16()
    out, _ = layer(torch.ones(2, 1, 2, dtype=torch.bfloat16))
    assert out.dtype == torch.bfloat16
    out.sum().backward()
    assert layer.weight_hh_l0.grad.dtype == torch.bfloat16


def test_copy_pickle_and_functions():
    layer = nn.LSTM(2, 3, 2)
    x = torch.ones(2, 1, 2)
    wanted = layer(x)[0].tolist()
    assert copy.deepcopy(layer)(x)[0].tolist() == wanted
    assert pickle.loads(pickle.dumps(layer))(x)[0].tolist() == wanted
    from flambeau.ops.recurrent import lstm

    zero = torch.zeros(2, 1, 3)
    out, h, c = lstm(x, (zero, zero), layer._flat_weights, True, 2, 0.0, False, False, False)
    assert out.tolist() == wanted and h.shape == c.shape == (2, 1, 3)
    assert len(layer.all_weights) == 2 and layer.flatten_parameters() is None
