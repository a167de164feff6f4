"""Averages of weights."""

import pytest

import flambeau as torch
from flambeau import nn
from flambeau.optim.swa_utils import (
    AveragedModel,
    get_ema_avg_fn,
    get_ema_multi_avg_fn,
    get_swa_avg_fn,
    get_swa_multi_avg_fn,
    update_bn,
)


def model_with(value):
    model = nn.Linear(2, 1)
    set_weights(model, value)
    return model


def set_weights(model, value):
    with torch.no_grad():
        for param in model.parameters():
            param.fill_(value)


@pytest.mark.parametrize("options", [{}, {"avg_fn": get_swa_avg_fn()}, {"multi_avg_fn": get_swa_multi_avg_fn()}])
def test_equal_weights(options):
    model = model_with(0.0)
    averaged = AveragedModel(model, **options)
    for value in (1.0, 2.0, 6.0):
        set_weights(model, value)
        averaged.update_parameters(model)
    assert averaged.n_averaged.item() == 3
    assert torch.allclose(averaged.module.weight, torch.full((1, 2), 3.0))
    assert averaged(torch.ones(1, 2)).item() == pytest.approx(9.0)


@pytest.mark.parametrize("options", [{"avg_fn": get_ema_avg_fn(0.5)}, {"multi_avg_fn": get_ema_multi_avg_fn(0.5)}])
def test_exponential_weights(options):
    model = model_with(0.0)
    averaged = AveragedModel(model, **options)
    for value in (4.0, 0.0, 2.0):
        set_weights(model, value)
        averaged.update_parameters(model)
    assert torch.allclose(averaged.module.bias, torch.tensor([2.0]))


@pytest.mark.parametrize("use_buffers, expected", [(False, 5.0), (True, 3.0)])
def test_buffers_follow_or_are_averaged(use_buffers, expected):
    model = nn.BatchNorm1d(2)
    averaged = AveragedModel(model, use_buffers=use_buffers)
    for value in (1.0, 5.0):
        model.running_mean.fill_(value)
        averaged.update_parameters(model)
    assert averaged.module.running_mean.tolist() == [expected, expected]


def test_only_one_function():
    with pytest.raises(AssertionError, match="Only one"):
        AveragedModel(model_with(0.0), avg_fn=get_swa_avg_fn(), multi_avg_fn=get_swa_multi_avg_fn())
    with pytest.raises(ValueError, match="decay value 2"):
        get_ema_avg_fn(2)


def test_update_bn_averages_over_the_whole_loader():
    model = nn.Sequential(nn.BatchNorm1d(1)).eval()
    batches = [torch.tensor([[0.0], [2.0]]), (torch.tensor([[4.0], [6.0]]), "label")]
    update_bn(batches, model)
    assert model[0].running_mean.item() == pytest.approx(3.0)
    assert model[0].momentum == 0.1 and not model.training
    update_bn(batches, model_with(0.0))
