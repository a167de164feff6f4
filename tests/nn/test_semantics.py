"""What ordinary scripts rely on without saying so: modules."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

import flambeau as torch
from flambeau import nn


def test_frozen_modules_in_training_mode_still_move_their_statistics():
    norm = nn.BatchNorm1d(2).requires_grad_(False)
    x = torch.tensor([[0.0, 2.0], [2.0, 6.0]])
    norm(x)
    np.testing.assert_allclose(norm.running_mean.tolist(), [0.1, 0.4], rtol=1e-6)
    np.testing.assert_allclose(norm.running_var.tolist(), [0.9 + 0.2, 0.9 + 0.8], rtol=1e-6)
    with torch.no_grad():
        norm(x)
    assert norm.num_batches_tracked.item() == 2


def test_eval_stops_statistics_but_freezes_nothing():
    norm = nn.BatchNorm1d(2).eval()
    norm(torch.tensor([[0.0, 2.0], [2.0, 6.0]])).sum().backward()
    assert norm.num_batches_tracked.item() == 0 and norm.running_mean.tolist() == [0.0, 0.0]
    assert norm.weight.requires_grad and norm.bias.grad.tolist() == [2.0, 2.0]


def test_cumulative_statistics_without_momentum():
    norm = nn.BatchNorm1d(1, momentum=None)
    for value in (1.0, 2.0, 6.0):
        norm(torch.tensor([[value], [value]]))
    assert norm.running_mean.item() == pytest.approx(3.0)


def test_a_repeated_name_replaces_the_earlier_module():
    net = nn.Sequential(OrderedDict([("fc", nn.Linear(1, 2)), ("act", nn.ReLU()), ("fc", nn.Linear(1, 3))]))
    assert [name for name, _ in net.named_children()] == ["fc", "act"] and net.fc.out_features == 3
    net.add_module("act", nn.Tanh())
    assert type(net.act) is nn.Tanh and len(net) == 2


def test_common_idioms():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
            self.fc = nn.Linear(8, 3)

        def forward(self, x):
            x = self.features(x)
            return self.fc(x.view(x.size(0), -1))

    model = Net()
    assert model.train(False) is model and not model.fc.training
    assert not next(model.parameters()).is_cuda
    backbone = nn.Sequential(*list(model.children())[:-1])
    assert backbone(torch.ones(1, 1, 4, 4)).shape == (1, 2, 2, 2)
    for parameter in model.parameters():
        parameter.requires_grad = False
    model.fc = nn.Linear(model.fc.in_features, 5)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["fc.weight", "fc.bias"]
    assert model(torch.ones(2, 1, 4, 4)).shape == (2, 5)
    assert sum(p.numel() for p in model.parameters()) == 20 + 45
    assert "(fc): Linear(in_features=8, out_features=5, bias=True)" in str(model)


def test_state_dict_is_live_memory():
    layer = nn.Linear(1, 1)
    kept = {name: value.clone() for name, value in layer.state_dict().items()}
    live = layer.state_dict()
    with torch.no_grad():
        layer.weight.add_(1.0)
    assert live["weight"].item() == layer.weight.item() != kept["weight"].item()


def test_conv_transpose_weight_is_in_out_over_groups():
    assert nn.ConvTranspose2d(4, 6, (3, 5), groups=2).weight.shape == (4, 3, 3, 5)


def test_max_unpool_positions_are_flat_per_plane():
    x = torch.zeros(2, 2, 4, 4)
    x[0, 0, 3, 3] = x[0, 1, 2, 2] = x[1, 0, 3, 2] = x[1, 1, 2, 3] = 1.0
    _, indices = nn.MaxPool2d(2, return_indices=True)(x)
    assert indices[:, :, 1, 1].tolist() == [[15, 10], [14, 11]]


def test_bce_loss_counts_log_zero_as_minus_100():
    assert nn.BCELoss()(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])).item() == 100


def test_kl_div_averages_over_elements():
    with pytest.warns(UserWarning, match="batchmean"):
        loss = nn.KLDivLoss()(torch.zeros(2, 3), torch.ones(2, 3))
    assert loss.item() == 0
    log_q, p = torch.full((2, 4), 0.25).log(), torch.tensor([[1.0, 0.0, 0.0, 0.0]] * 2)
    assert nn.KLDivLoss(reduction="batchmean")(log_q, p).item() == pytest.approx(np.log(4), rel=1e-6)


def test_functional_dropout_is_on_by_default():
    torch.manual_seed(0)
    assert (nn.functional.dropout(torch.ones(100)) == 0).any()
    assert not (nn.functional.dropout(torch.ones(100), training=False) == 0).any()


def test_lstm_and_lstm_cell_share_their_formulas():
    lstm, cell = nn.LSTM(2, 3), nn.LSTMCell(2, 3)
    cell.load_state_dict({name.replace("_l0", ""): value for name, value in lstm.state_dict().items()})
    x = torch.randn(4, 1, 2)
    state, outputs = None, []
    for step in x:
        state = cell(step, state)
        outputs.append(state[0].tolist())
    np.testing.assert_allclose(outputs, lstm(x)[0].tolist(), rtol=1e-6)


def test_whole_modules_and_optimizers_come_back_from_a_checkpoint(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    x = torch.randn(4, 2)
    nn.MSELoss()(model(x), torch.zeros(4, 1)).backward()
    optimizer.step()
    checkpoint = {"model": model, "state": model.state_dict(), "optimizer": optimizer, "epoch": 3,
                  "criterion": nn.MSELoss(reduction="sum"), "device": torch.device("cpu")}
    torch.save(checkpoint, tmp_path / "checkpoint.pt")
    back = torch.load(tmp_path / "checkpoint.pt", map_location="cpu", weights_only=False)
    assert back["model"](x).tolist() == model(x).tolist()
    assert back["epoch"] == 3 and back["criterion"].reduction == "sum" and back["device"] == torch.device("cpu")
    # The parameters that the optimizer steps are still those of the model.
    assert back["optimizer"].param_groups[0]["params"][0] is back["model"][0].weight
    assert back["state"]["0.weight"].data_ptr() == back["model"][0].weight.data_ptr()


def test_half_and_back():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert model.half()[0].weight.dtype == torch.float16
    assert model.float()[1].running_mean.dtype == torch.float32


def test_a_model_with_hooks_on_its_parameters_can_be_saved(tmp_path):
    model = nn.Linear(2, 1)
    model.weight.register_hook(lambda grad: grad * 0)
    torch.save(model, tmp_path / "model.pt")
    back = torch.load(tmp_path / "model.pt", weights_only=False)
    back(torch.ones(1, 2)).sum().backward()
    assert back.weight.grad.tolist() == [[1.0, 1.0]]
