"""Initialisation: PyTorch's numbers, distributions, constants, errors."""

import math
import warnings

import numpy as np
import pytest

import flambeau as torch
from flambeau.nn import init


def filled(function, *shape, **options):
    torch.manual_seed(1234)
    return function(torch.empty(*shape), **options)


# PyTorch 2.13, manual_seed(1234), a (2, 3) tensor.
@pytest.mark.parametrize("function, options, expected", [
    (init.uniform_, {"a": -1, "b": 2},
     [[-0.9130623, 0.2056957, -0.2204674], [0.09992403, -0.8250978, 1.101934]]),
    (init.normal_, {"mean": 0.5, "std": 2.0},
     [[0.5922609, 1.304806, -1.523058], [0.9334764, -0.7245463, 1.507221]]),
    (init.trunc_normal_, {"std": 0.5},
     [[0.02306523, 0.2012014, -0.5057645], [0.1083691, -0.3061365, 0.2518054]]),
    (init.trunc_normal_, {"a": 1.0, "b": 2.0},
     [[1.028979, 1.401899, 1.259844], [1.366641, 1.058301, 1.152496]]),
    (init.trunc_normal_, {"a": -0.6, "b": 0.6},
     [[0.04613046, 0.4024028, -0.2668606], [0.2167382, 0.1021373, 0.5036107]]),
    (init.xavier_uniform_, {},
     [[-1.031955, -0.2149295, -0.5261551], [-0.2921742, -0.9677147, 0.4395906]]),
    (init.xavier_normal_, {"gain": 1.5},
     [[0.0437632, 0.3817528, -0.9596208], [0.2056159, -0.5808533, 0.4777671]]),
    (init.kaiming_uniform_, {"a": 2.23606797749979},
     [[-0.5438879, -0.1132778, -0.277308], [-0.1539893, -0.5100304, 0.2316846]]),
    (init.kaiming_normal_, {"mode": "fan_out", "nonlinearity": "relu"},
     [[0.04613046, 0.4024028, -1.011529], [0.2167382, -0.6122731, 0.5036107]]),
    (init.orthogonal_, {},
     [[0.0423367, 0.3693095, -0.9283416], [0.5400876, -0.7901721, -0.2897129]]),
    (init.sparse_, {"sparsity": 0.3},
     [[0, 0, -0.01011529], [0.002167382, -0.006122731, 0]]),
])
def test_same_numbers_as_pytorch(function, options, expected):
    np.testing.assert_allclose(filled(function, 2, 3, **options).numpy(), expected, rtol=1e-5, atol=1e-7)


def test_returns_the_tensor_and_records_nothing():
    weight = torch.empty(4, 5, requires_grad=True)
    for function in (init.uniform_, init.normal_, init.trunc_normal_, init.ones_, init.zeros_, init.eye_,
                     init.xavier_uniform_, init.xavier_normal_, init.kaiming_uniform_, init.kaiming_normal_,
                     init.orthogonal_):
        assert function(weight) is weight
        assert weight.is_leaf and weight.requires_grad and weight.grad_fn is None
    assert init.sparse_(weight, 0.5) is weight
    assert init.constant_(weight, 3).tolist() == [[3.0] * 5] * 4


def test_gains():
    assert [init.calculate_gain(name) for name in ("linear", "conv_transpose2d", "sigmoid")] == [1, 1, 1]
    assert init.calculate_gain("tanh") == 5 / 3
    assert init.calculate_gain("relu") == math.sqrt(2)
    assert init.calculate_gain("leaky_relu") == math.sqrt(2 / 1.0001)
    assert init.calculate_gain("leaky_relu", 1) == 1
    assert init.calculate_gain("selu") == 0.75
    with pytest.raises(ValueError, match="Unsupported nonlinearity swish"):
        init.calculate_gain("swish")
    for bad in (True, "a"):
        with pytest.raises(ValueError, match="not a valid number"):
            init.calculate_gain("leaky_relu", bad)


@pytest.mark.parametrize("mode, fan", [("fan_in", 30 * 9), ("fan_out", 20 * 9), ("FAN_IN", 30 * 9)])
def test_kaiming_scales_by_the_fan(mode, fan):
    uniform = filled(init.kaiming_uniform_, 20, 30, 3, 3, mode=mode, nonlinearity="relu")
    assert uniform.numpy().max() == pytest.approx(math.sqrt(6 / fan), rel=0.01)
    normal = filled(init.kaiming_normal_, 20, 30, 3, 3, mode=mode, nonlinearity="relu")
    assert normal.numpy().std() == pytest.approx(math.sqrt(2 / fan), rel=0.05)


def test_xavier_scales_by_both_fans():
    assert filled(init.xavier_uniform_, 30, 50).numpy().max() == pytest.approx(math.sqrt(6 / 80), rel=0.01)
    assert filled(init.xavier_normal_, 30, 50, gain=2.0).numpy().std() == pytest.approx(2 * math.sqrt(2 / 80), rel=0.05)


@pytest.mark.parametrize("bounds", [(-0.5, 0.5), (-2, 2), (1, 2), (0.2, 0.3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_trunc_normal_stays_inside(bounds, dtype):
    values = init.trunc_normal_(torch.empty(500, dtype=dtype), 0.0, 1.0, *bounds).tolist()
    assert bounds[0] <= min(values) and max(values) <= bounds[1] * 1.01


def test_trunc_normal_warns_far_from_the_mean():
    with pytest.warns(UserWarning, match="more than 2 std"):
        init.trunc_normal_(torch.empty(5), 0.0, 1.0, 3.0, 4.0)


@pytest.mark.parametrize("shape", [(4, 4), (3, 7), (7, 3), (4, 2, 3)])
def test_orthogonal(shape):
    flat = filled(init.orthogonal_, *shape, gain=2.0).numpy().reshape(shape[0], -1)
    small = flat @ flat.T if flat.shape[0] <= flat.shape[1] else flat.T @ flat
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-5)


def test_sparse_has_zeros_in_every_column():
    weight = filled(init.sparse_, 10, 4, sparsity=0.25).numpy()
    assert ((weight == 0).sum(0) == 3).all()


def test_eye_and_dirac():
    assert init.eye_(torch.empty(2, 3)).tolist() == [[1, 0, 0], [0, 1, 0]]
    image = torch.arange(2 * 4 * 5 * 5.0).reshape(2, 4, 5, 5).numpy()
    weight = init.dirac_(torch.empty(4, 2, 3, 3), groups=2).numpy()
    for group in range(2):
        part = image[:, 2 * group:2 * group + 2]
        centre = np.einsum("oi,bihw->bohw", weight[2 * group:2 * group + 2, :, 1, 1], part)
        np.testing.assert_array_equal(centre, part)
    assert weight.sum() == 4
    assert init.dirac_(torch.empty(3, 2, 3)).tolist()[0] == [[0, 1, 0], [0, 0, 0]]


def test_errors():
    with pytest.raises(ValueError, match="fewer than 2 dimensions"):
        init.xavier_uniform_(torch.empty(3))
    with pytest.raises(ValueError, match="Mode fan_sideways not supported"):
        init.kaiming_uniform_(torch.empty(3, 3), mode="fan_sideways")
    with pytest.raises(ValueError, match="2 dimensions"):
        init.eye_(torch.empty(3))
    with pytest.raises(ValueError, match="3, 4, or 5 dimensions"):
        init.dirac_(torch.empty(3, 3))
    with pytest.raises(ValueError, match="divisible by groups"):
        init.dirac_(torch.empty(3, 3, 3), groups=2)
    with pytest.raises(ValueError, match="2 or more dimensions"):
        init.orthogonal_(torch.empty(3))
    with pytest.raises(ValueError, match="2 dimensions"):
        init.sparse_(torch.empty(3), 0.1)


def test_empty_tensors_are_left_alone():
    with pytest.warns(UserWarning, match="no-op"):
        init.kaiming_uniform_(torch.empty(0, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        init.orthogonal_(torch.empty(0, 3))


def test_meta_tensors_have_nothing_to_fill():
    weight = torch.empty(3, 4, device="meta")
    for function in (init.uniform_, init.normal_, init.trunc_normal_, init.zeros_, init.orthogonal_, init.eye_):
        assert function(weight) is weight


def test_old_names_warn():
    with pytest.warns(FutureWarning, match=r"xavier_uniform` is now deprecated in favor of `nn.init.xavier_uniform_`"):
        init.xavier_uniform(torch.empty(2, 2))
    assert init.constant.__name__ == "constant"


def test_a_generator_of_ones_own():
    first = init.normal_(torch.empty(5), generator=torch.Generator().manual_seed(1))
    assert init.normal_(torch.empty(5), generator=torch.Generator().manual_seed(1)).tolist() == first.tolist()
