"""Normalisation: statistics, running averages, corner cases, errors. Values are in test_recorded.py."""

import numpy as np
import pytest

import flambeau as torch
import flambeau.nn.functional as F
from flambeau.autograd import gradcheck, gradgradcheck


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 5), (4, 3, 5, 2), (2, 3, 2, 3, 2)])
def test_batch_norm_moves_running_statistics(shape, engine):
    x = torch.randn(*shape) * 3 + 1
    mean, var = torch.zeros(3), torch.ones(3)
    before = mean._version
    out = F.batch_norm(x, mean, var, training=True, momentum=0.25)
    rows = np.moveaxis(x.numpy(), 1, 0).reshape(3, -1).astype(np.float64)
    np.testing.assert_allclose(mean.numpy(), 0.25 * rows.mean(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(var.numpy(), 0.75 + 0.25 * rows.var(1, ddof=1), rtol=1e-4)  # unbiased
    assert mean._version > before
    kept = [mean.clone(), var.clone()]
    unit = np.moveaxis(out.numpy(), 1, 0).reshape(3, -1)
    np.testing.assert_allclose(unit.mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(unit.var(1), 1, rtol=1e-3)  # biased
    fixed = F.batch_norm(x, mean, var, eps=0.5)
    along = (1, 3, *(1,) * (len(shape) - 2))
    expected = (x.numpy() - mean.numpy().reshape(along)) / np.sqrt(var.numpy().reshape(along) + 0.5)
    np.testing.assert_allclose(fixed.numpy(), expected, rtol=1e-4, atol=1e-5)
    assert (mean == kept[0]).all().item() and (var == kept[1]).all().item()


def test_running_statistics_move_without_history_too():
    mean, var = torch.zeros(2), torch.ones(2)
    with torch.no_grad():
        F.batch_norm(torch.ones(4, 2), mean, var, training=True, momentum=1.0)
    assert mean.tolist() == [1, 1] and var.tolist() == [0, 0]
    x = torch.randn(4, 2, requires_grad=True)
    out = F.batch_norm(x, mean, var, torch.ones(2, requires_grad=True), training=True)
    assert out.requires_grad and not mean.requires_grad


def test_instance_norm_averages_statistics_over_the_batch(engine):
    x = torch.randn(4, 3, 10)
    mean, var = torch.zeros(3), torch.ones(3)
    out = F.instance_norm(x, mean, var, momentum=1.0)
    np.testing.assert_allclose(mean.numpy(), x.numpy().mean((0, 2)), atol=1e-5)
    np.testing.assert_allclose(var.numpy(), x.numpy().var(2, ddof=1).mean(0), rtol=1e-4)
    np.testing.assert_allclose(out.numpy().mean(2), 0, atol=1e-5)
    fixed = F.instance_norm(x, mean, var, use_input_stats=False)
    assert torch.allclose(fixed, F.batch_norm(x, mean, var), atol=1e-6)


@pytest.mark.parametrize("dtype, eps", [(torch.float32, 1.1920929e-07), (torch.float64, 2.220446049250313e-16)])
def test_rms_norm_takes_the_epsilon_of_the_dtype(dtype, eps):
    x = torch.full((1, 4), 1e-5, dtype=dtype)
    expected = 1e-5 / np.sqrt(1e-10 + eps)
    assert F.rms_norm(x, (4,))[0, 0].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_floats(dtype, engine):
    x, weight = torch.randn(8, 6, 5), torch.rand(6)
    for norm in (
        lambda t, w: F.batch_norm(t, None, None, w, training=True),
        lambda t, w: F.group_norm(t, 2, w),
        lambda t, w: F.layer_norm(t, (5,)),
        lambda t, w: F.rms_norm(t, (5,)),
    ):
        narrow = norm(x.to(dtype), weight.to(dtype))
        assert narrow.dtype is dtype
        assert torch.allclose(narrow.float(), norm(x, weight), atol=0.06)


def test_second_derivatives(engine):
    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    image, channel = draw(2, 2, 2, 2), [draw(2), draw(2)]
    for norm in (
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        lambda x, w, b: F.instance_norm(x, None, None, w, b),
        lambda x, w, b: F.group_norm(x, 1, w, b),
        lambda x, w, b: F.layer_norm(x, (2,), w, b),
    ):
        assert gradcheck(norm, [image, *channel], atol=1e-4)
        assert gradgradcheck(norm, [image, *channel], atol=1e-4)
    shifted = lambda x, b: F.batch_norm(x, None, None, None, b, training=True)
    assert gradgradcheck(shifted, [image, channel[0]], atol=1e-4)


def test_empty_batches():
    weight = torch.ones(3, requires_grad=True)
    mean, var = torch.zeros(3), torch.ones(3)
    out = F.batch_norm(torch.zeros(0, 3, 4), mean, var, weight, training=True)
    assert out.shape == (0, 3, 4) and mean.tolist() == [0, 0, 0]
    out.sum().backward()
    assert weight.grad.tolist() == [0, 0, 0]
    assert F.layer_norm(torch.zeros(0, 4), (4,)).shape == (0, 4)
    assert F.group_norm(torch.zeros(0, 4, 2), 2).shape == (0, 4, 2)


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (
            lambda: F.batch_norm(torch.ones(2, 4, 5), torch.zeros(3), torch.ones(3)),
            RuntimeError,
            r"running_mean should contain 4 elements, not 3 \(input 2×4×5\)",
        ),
        (
            lambda: F.batch_norm(torch.ones(1, 3), None, None, training=True),
            ValueError,
            "Expected more than 1 value per channel",
        ),
        (
            lambda: F.batch_norm(torch.ones(2, 3), None, None),
            RuntimeError,
            "running_mean and running_var to be defined",
        ),
        (lambda: F.instance_norm(torch.ones(2, 3, 1)), ValueError, "more than 1 spatial element"),
        (lambda: F.layer_norm(torch.ones(2, 4), (5,)), RuntimeError, r"\[\*, 5\], but got input of size \[2, 4\]"),
        (lambda: F.layer_norm(torch.ones(2, 4), (4,), torch.ones(5)), RuntimeError, r"weight of shape \[4\]"),
        (lambda: F.layer_norm(torch.ones(2, 4, dtype=torch.int64), (4,)), NotImplementedError, "int64"),
        (lambda: F.group_norm(torch.ones(2, 4, 3), 3), RuntimeError, "divisible by num_groups"),
        (lambda: F.local_response_norm(torch.ones(2, 4), 3), ValueError, "3D or higher"),
    ],
)
def test_errors(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("shape", [(4, 6), (3, 6, 5), (2, 6, 5, 4), (1, 64, 9, 8)])
def test_evaluation_is_the_same_with_and_without_history(shape, affine, engine):
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.standard_normal(shape).astype(np.float32))
    mean, weight, bias = (torch.tensor(rng.standard_normal(shape[1]).astype(np.float32)) for _ in range(3))
    var = torch.tensor(rng.random(shape[1]).astype(np.float32))
    parameters = [t.requires_grad_() for t in (weight, bias)] if affine else [None, None]
    recorded = F.batch_norm(x, mean, var, *parameters)
    with torch.no_grad():
        bare = F.batch_norm(x, mean, var, *parameters)
    assert recorded.requires_grad == affine and not bare.requires_grad
    assert torch.equal(recorded, bare)
    along = (1, -1, *(1,) * (len(shape) - 2))
    x, mean, var = x.double().numpy(), mean.numpy().reshape(along), var.numpy().reshape(along)
    expected = (x - mean) / np.sqrt(var + 1e-5)
    if affine:
        expected = expected * weight.detach().numpy().reshape(along) + bias.detach().numpy().reshape(along)
    np.testing.assert_allclose(bare.numpy(), expected, rtol=1e-5, atol=1e-4)
