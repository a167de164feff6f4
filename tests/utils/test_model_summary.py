"""flambeau.utils.summary against numbers worked out by hand and published ones."""

import pytest

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


def test_multiply_adds_of_other_layers():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(9, 6)
            self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
            self.gru = nn.GRU(6, 5, 2, bidirectional=True, batch_first=True)
            self.up = nn.ConvTranspose1d(10, 4, 3, stride=2, groups=2)

        def forward(self, text):
            x = self.words(text)
            x, _ = self.attention(x, x, x)
            return self.up(self.gru(x)[0].transpose(1, 2))

    found = summary(Net(), (7,), 3, dtypes=[torch.int64], verbose=False)
    assert [row.name for row in found.layers] == ["Embedding-1", "MultiheadAttention-2", "GRU-3", "ConvTranspose1d-4"]
    gates = 3 * 5 * (6 + 5) * 2 + 3 * 5 * (10 + 5) * 2
    wanted = [0, 7 * 4 * 36 + 2 * 7 * 7 * 6, 7 * gates, 7 * 10 * 2 * 3]
    assert [row.multiply_adds for row in found.layers] == [3 * count for count in wanted]
    assert found.layers[1].parameters == 4 * 36 + 4 * 6 and found.layers[3].output_shape == [3, 4, 15]
    assert found.input_bytes == 3 * 7 * 8


def test_data_instead_of_shapes():
    found = summary(digits(), input_data=torch.rand(2, 1, 28, 28), verbose=False)
    by_shape = summary(digits(), (1, 28, 28), 2, verbose=False)
    assert str(found) == str(by_shape) and found.layers[0].output_shape == [2, 10, 24, 24]


def test_what_summary_refuses():
    net = nn.Linear(3, 4)
    with pytest.raises(ValueError, match="either input_size"):
        summary(net)
    with pytest.raises(ValueError, match="1 shapes in input_size, but 2 dtypes"):
        summary(net, (3,), dtypes=[torch.float32, torch.float64])


def test_torchsummary_counts_the_same():
    """torchsummary's figures for VGG-like layers: rows, sizes in MB, as its own table prints them."""
    net = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    printed = str(summary(net, (3, 224, 224), verbose=False))
    assert ["Conv2d-1", "[-1,", "64,", "224,", "224]", "1,792", "86,704,128"] in map(str.split, printed.splitlines())
    assert "Input size (MB): 0.57" in printed and "Forward/backward pass size (MB): 55.12" in printed
    assert "Params size (MB): 0.01" in printed


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds"),
    [
        ("resnet18", 11_689_512, 1_814_073_344),        # torchvision documents 1.814 GFLOPS
        ("vgg16", 138_357_544, 15_470_264_320),         # 15.470
        ("mobilenet_v2", 3_504_872, 300_774_272),       # 0.301
        ("squeezenet1_1", 1_235_496, 349_151_936),      # 0.349
    ],
)
def test_published_multiply_adds(name, parameters, multiply_adds):
    """Figures of torchvision's documentation; a network without weights of its own is enough to count."""
    with torch.device("meta"):
        network = getattr(torch.vision.models, name)()
    found = summary(network, (3, 224, 224), device="meta", verbose=False)
    assert (found.total_params, found.total_mult_adds) == (parameters, multiply_adds)
