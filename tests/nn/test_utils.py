"""nn.utils: clipping, vectors, packing, fusion, functional_call, skip_init."""

from __future__ import annotations

import math

import numpy as np
import pytest

import flambeau as torch
from flambeau import nn
from flambeau.nn import utils
from flambeau.nn.utils import rnn, stateless


def with_gradients(*values):
    parameters = []
    for value in values:
        parameter = nn.Parameter(torch.zeros(len(value)))
        parameter.grad = torch.tensor(value)
        parameters.append(parameter)
    return parameters


def test_clip_grad_norm():
    parameters = [*with_gradients([3.0, 0.0], [4.0]), nn.Parameter(torch.zeros(1))]
    assert utils.clip_grad_norm_(parameters, 1.0).item() == pytest.approx(5)
    np.testing.assert_allclose([parameters[0].grad[0].item(), parameters[1].grad.item()], [0.6, 0.8], rtol=1e-5)
    assert utils.clip_grad_norm_(iter(parameters), 10.0).item() == pytest.approx(1, rel=1e-5)
    assert parameters[1].grad.item() == pytest.approx(0.8, rel=1e-5)


@pytest.mark.parametrize(("p", "expected"), [(1, 8.0), (2, math.sqrt(26)), (3, (1 + 27 + 64) ** (1 / 3)),
                                             (math.inf, 4.0), ("inf", 4.0)])
def test_total_norm(p, expected):
    gradients = [parameter.grad for parameter in with_gradients([1.0, -3.0], [4.0])]
    assert utils.get_total_norm(gradients, p).item() == pytest.approx(expected, rel=1e-6)


def test_clip_grad_norm_refuses_nan_if_asked():
    parameters = with_gradients([math.nan])
    with pytest.raises(RuntimeError, match=r"total norm of order 2.0 .* is non-finite"):
        utils.clip_grad_norm_(parameters, 1.0, error_if_nonfinite=True)
    assert math.isnan(utils.clip_grad_norm_(parameters, 1.0).item())
    assert utils.get_total_norm([]).item() == 0


def test_clip_grad_value():
    parameters = with_gradients([3.0, -5.0, 0.5])
    utils.clip_grad_value_(parameters, 1)
    assert parameters[0].grad.tolist() == [1.0, -1.0, 0.5]
    utils.clip_grad_value_(parameters[0], 0.25)
    assert parameters[0].grad.tolist() == [0.25, -0.25, 0.25]


def test_parameters_to_vector_and_back():
    layer = nn.Linear(2, 3)
    vector = utils.parameters_to_vector(layer.parameters())
    assert vector.shape == (9,) and vector.requires_grad
    utils.vector_to_parameters(torch.arange(9.0), layer.parameters())
    assert layer.weight.tolist() == [[0, 1], [2, 3], [4, 5]] and layer.bias.tolist() == [6, 7, 8]
    assert type(layer.weight) is nn.Parameter
    with pytest.raises(TypeError, match=r"expected torch.Tensor, but got: list"):
        utils.vector_to_parameters([1.0], layer.parameters())


def test_pad_sequence_both_sides():
    sequences = [torch.tensor([1.0, 2.0]), torch.tensor([3.0])]
    assert rnn.pad_sequence(sequences).tolist() == [[1, 3], [2, 0]]
    assert rnn.pad_sequence(sequences, batch_first=True, padding_value=-1).tolist() == [[1, 2], [3, -1]]
    assert rnn.pad_sequence(sequences, True, padding_side="left").tolist() == [[1, 2], [0, 3]]
    with pytest.raises(RuntimeError, match="Expected iterable for input sequences"):
        rnn.pad_sequence(3)


def test_pack_and_unpack():
    sequences = [torch.tensor([1, 2]), torch.tensor([3, 4, 5]), torch.tensor([6])]
    packed = rnn.pack_sequence(sequences, enforce_sorted=False)
    assert packed.data.tolist() == [3, 1, 6, 4, 2, 5]
    assert packed.batch_sizes.tolist() == [3, 2, 1]
    assert packed.sorted_indices.tolist() == [1, 0, 2] and packed.unsorted_indices.tolist() == [1, 0, 2]
    assert [s.tolist() for s in rnn.unpack_sequence(packed)] == [[1, 2], [3, 4, 5], [6]]
    padded, lengths = rnn.pad_packed_sequence(packed, batch_first=True, padding_value=9, total_length=4)
    assert padded.tolist() == [[1, 2, 9, 9], [3, 4, 5, 9], [6, 9, 9, 9]] and lengths.tolist() == [2, 3, 1]
    data, batch_sizes, _, _ = packed
    assert data is packed.data and batch_sizes is packed.batch_sizes
    assert packed.double().data.dtype == torch.float64 and packed.to("cpu") is packed
    with pytest.raises(ValueError, match="total_length=1 and max sequence length being 3"):
        rnn.pad_packed_sequence(packed, total_length=1)


def test_packing_refuses_bad_lengths():
    x = torch.ones(3, 2)
    for lengths, message in (([1, 3], "must be sorted in decreasing order"), ([3, 0], "greater than 0"),
                             ([3], r"equal to batch_size, but got 1 \(batch_size=2\)"), ([4, 1], "padded length 3")):
        with pytest.raises(RuntimeError, match=message):
            rnn.pack_padded_sequence(x, lengths)
    with pytest.raises(RuntimeError, match="Cannot pack empty tensors"):
        rnn.pack_padded_sequence(torch.ones(0, 2), [1, 1])


def test_packing_is_differentiable():
    x = torch.ones(3, 2, requires_grad=True)
    packed = rnn.pack_padded_sequence(x, torch.tensor([3, 1]))
    rnn.pad_packed_sequence(packed)[0].sum().backward()
    assert x.grad.tolist() == [[1, 1], [1, 0], [1, 0]]


@pytest.mark.parametrize(("layer", "norm", "shape"), [
    (nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), (1, 2, 5, 5)),
    (nn.Conv1d(2, 3, 3, bias=False), nn.BatchNorm1d(3), (1, 2, 5)),
    (nn.Linear(2, 3), nn.BatchNorm1d(3), (4, 2)),
])
def test_fused_batch_norm_computes_the_same(layer, norm, shape):
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    layer.eval(), norm.eval()
    fuse = utils.fuse_linear_bn_eval if isinstance(layer, nn.Linear) else utils.fuse_conv_bn_eval
    x = torch.randn(*shape)
    np.testing.assert_allclose(fuse(layer, norm)(x).tolist(), norm(layer(x)).tolist(), rtol=1e-4, atol=1e-5)
    with pytest.raises(AssertionError, match="Fusion only for eval"):
        fuse(layer.train(), norm)
    layer.eval()


def test_functional_call_uses_other_tensors_and_puts_back():
    layer = nn.Linear(2, 1)
    weight = layer.weight
    out = stateless.functional_call(layer, {"weight": torch.ones(1, 2), "bias": torch.zeros(1)}, torch.ones(1, 2))
    assert out.item() == 2 and layer.weight is weight
    with pytest.raises(RuntimeError):
        stateless.functional_call(layer, {"weight": torch.ones(1, 3)}, torch.ones(1, 2))
    assert layer.weight is weight
    with pytest.raises(RuntimeError, match=r"missing keys \['bias'\]"):
        stateless.functional_call(layer, {"weight": weight}, torch.ones(1, 2), strict=True)
    with pytest.raises(ValueError, match="appeared in multiple dictionaries"):
        stateless.functional_call(layer, ({"bias": layer.bias}, {"bias": layer.bias}), torch.ones(1, 2))


def test_functional_call_ties_shared_weights():
    layer = nn.Linear(1, 1, bias=False)
    net = nn.Sequential(layer, layer)
    out = stateless.functional_call(net, {"0.weight": torch.full((1, 1), 3.0)}, torch.ones(1, 1))
    assert out.item() == 9


def test_functional_call_is_differentiable():
    layer = nn.Linear(2, 1)
    weight = torch.ones(1, 2, requires_grad=True)
    stateless.functional_call(layer, {"weight": weight}, torch.ones(3, 2)).sum().backward()
    assert weight.grad.tolist() == [[3.0, 3.0]] and layer.weight.grad is None


def test_skip_init_and_memory_format():
    layer = utils.skip_init(nn.Linear, 2, 3)
    assert layer.weight.shape == (3, 2) and not layer.weight.is_meta
    with pytest.raises(RuntimeError, match="must support a 'device' arg"):
        utils.skip_init(nn.ReLU)
    net = utils.convert_conv2d_weight_memory_format(nn.Sequential(nn.Conv2d(2, 3, 3)), torch.channels_last)
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)
