"""Dropout: what is dropped, what is scaled, gradients, in-place forms, errors."""

import pytest

import flambeau as torch
from flambeau.ops import dropout as F


def test_kept_elements_are_scaled_and_gradients_follow():
    torch.manual_seed(0)
    x = torch.ones(1000, requires_grad=True)
    y = F.dropout(x, 0.25)
    assert sorted(set(y.tolist())) == pytest.approx([0, 4 / 3])
    assert abs(y.mean().item() - 1) < 0.1
    y.sum().backward()
    assert x.grad.tolist() == y.tolist()


def test_identity_outside_training_and_zeros_at_one():
    x = torch.ones(3)
    assert F.dropout(x, 0.5, training=False) is x
    assert F.dropout(x, 0.0) is x
    assert F.dropout(x, 1.0).tolist() == [0, 0, 0]
    assert F.alpha_dropout(x) is x                      # training is False unless said


def test_in_place():
    x = torch.ones(50)
    assert F.dropout(x, 0.5, inplace=True) is x
    assert set(x.tolist()) == {0.0, 2.0}
    y = torch.ones(5, 4)
    assert F.dropout1d(y, 0.5, inplace=True) is y
    assert all(row in ([0.0] * 4, [2.0] * 4) for row in y.tolist())
    with pytest.raises(RuntimeError, match="leaf"):
        F.dropout(torch.ones(3, requires_grad=True), 0.5, inplace=True)


@pytest.mark.parametrize("function, shape", [
    (F.dropout1d, (3, 8, 4)), (F.dropout1d, (8, 4)), (F.dropout2d, (3, 8, 2, 3)), (F.dropout3d, (2, 8, 2, 2, 2)),
    (F.dropout3d, (8, 2, 2, 2)),
])
def test_whole_channels_are_dropped(function, shape):
    torch.manual_seed(1)
    spatial = len(shape) - 2 if shape[0] != 8 else len(shape) - 1
    y = function(torch.ones(*shape), 0.5)
    assert y.shape == shape
    channels = y.reshape(-1, *shape[-spatial:]).reshape(y.numel() // torch.ones(shape[-spatial:]).numel(), -1).tolist()
    assert {tuple(sorted(set(c))) for c in channels} == {(0.0,), (2.0,)}


def test_alpha_dropout_keeps_mean_and_variance():
    torch.manual_seed(0)
    y = F.alpha_dropout(torch.randn(20000), 0.3, training=True)
    mean = y.mean().item()
    assert abs(mean) < 0.05
    assert abs((y * y).mean().item() - mean**2 - 1) < 0.05


def test_ranks():
    with pytest.warns(UserWarning, match="3D input"):
        F.dropout2d(torch.ones(3, 3, 3))
    with pytest.warns(UserWarning, match="5-D input"):
        F.dropout2d(torch.ones(1, 1, 1, 1, 1))
    with pytest.raises(RuntimeError, match="2D or 3D input, but received a 1D"):
        F.dropout1d(torch.ones(3))
    with pytest.raises(RuntimeError, match="at least 2 dimensions"):
        F.feature_alpha_dropout(torch.ones(3), 0.5, True)


def test_probabilities_and_dtypes_are_checked():
    with pytest.raises(ValueError, match=r"between 0 and 1, but got 1\.5"):
        F.dropout(torch.ones(3), 1.5)
    with pytest.raises(RuntimeError, match=r"between 0 and 1, but got 1\.5"):
        torch.dropout(torch.ones(3), 1.5, True)
    with pytest.raises(RuntimeError, match="Long"):
        F.dropout(torch.ones(3, dtype=torch.int64))


def test_raw_forms_and_the_mask():
    x = torch.ones(20)
    assert torch.dropout_(x, 0.5, True) is x
    y, mask = torch.native_dropout(torch.ones(20), 0.5, True)
    assert (y > 0).tolist() == mask.tolist()
    assert torch.feature_dropout(torch.ones(2, 2), 0.5, False).tolist() == [[1, 1], [1, 1]]
