"""flambeau.utils.summary against numbers worked out by hand and published ones."""

import flambeau as torch
from flambeau import nn
from flambeau.utils import summary


def digits():
    return nn.Sequential(nn.Conv2d(1, 10, 5), nn.BatchNorm2d(10), nn.Flatten(), nn.Linear(10 * 24 * 24, 10))


def test_rows_and_totals():
    net = digits()
    net[3].bias.requires_grad_(False)
    found = summary(net, (1, 28, 28), verbose=False)
    rows = [(row.name, row.output_shape, row.parameters, row.multiply_adds) for row in found.layers]
    assert rows == [
        ("Conv2d-1", [-1, 10, 24, 24], 260, 24 * 24 * 10 * 25),
        ("BatchNorm2d-2", [-1, 10, 24, 24], 20, 0),
        ("Flatten-3", [-1, 5760], 0, 0),
        ("Linear-4", [-1, 10], 57_610, 57_600),
    ]
    assert (found.total_params, found.trainable_params) == (57_890, 57_880)
    assert found.total_mult_adds == 24 * 24 * 10 * 25 + 57_600
    assert (found.input_bytes, found.param_bytes) == (4 * 28 * 28, 4 * 57_890)
    assert found.output_bytes == 4 * (3 * 5760 + 10)


def test_batch_multiplies(capsys):
    found = summary(digits(), (1, 28, 28), batch_size=8)
    assert found.layers[-1].output_shape == [8, 10]
    assert found.total_mult_adds == 8 * (24 * 24 * 10 * 25 + 57_600)
    printed = capsys.readouterr().out
    assert "Total params: 57,890\n" in printed and "[8, 10, 24, 24]" in printed and printed == f"{found}\n"


def test_looking_changes_nothing():
    net = digits()
    net[1].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    summary(net, (1, 28, 28), verbose=False)
    assert all(value.equal(before[name]) for name, value in net.state_dict().items())
    assert net.training and not net[1].training and net[3].training
    assert not net[0]._forward_hooks and not net[0]._forward_pre_hooks


def test_depth_shows_what_contains_what():
    net = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)))
    found = {depth: summary(net, (3,), depth=depth, verbose=False).layers for depth in (None, 1, 2)}
    names = {depth: [row.name for row in rows] for depth, rows in found.items()}
    assert names[None] == ["Linear-1", "ReLU-3", "Linear-4"]
    assert names[1] == ["Linear-1", "Sequential-2"]
    assert names[2] == ["Linear-1", "Sequential-2", "ReLU-3", "Linear-4"]


def test_several_inputs_several_outputs_and_shared_layers():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)
            self.rnn = nn.LSTM(3, 5, batch_first=True)

        def forward(self, x, y):
            return self.rnn(self.layer(x) + self.layer(y))

    found = summary(Twice(), [(4, 3), (4, 3)], verbose=False)
    assert [row.parameters for row in found.layers[:2]] == [12, 0]  # counted at its first call
    assert found.layers[2].output_shape[0] == [-1, 4, 5] and len(found.layers[2].output_shape) == 3


def test_published_multiply_adds():
    with torch.no_grad():
        found = summary(torch.vision.models.resnet18(), (3, 224, 224), verbose=False)
    assert found.total_params == 11_689_512
    assert found.total_mult_adds == 1_814_073_344  # torchvision documents 1.814 GFLOPS
