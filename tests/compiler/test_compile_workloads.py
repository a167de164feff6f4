"""Small versions of the benchmarks' workloads: eight steps, compiled and eager, losses and states to 1e-5 relative.

Parameters whose gradient is zero but for rounding (a bias before batch normalisation, the bias of keys) are kept away
from Adam, which would make steps of full size of the rounding.
"""

import numpy as np
import pytest

import flambeau as torch
from flambeau import nn, optim
from tests.compiler.comparing import assert_native, compiled_of

F = nn.functional
STEPS = 8


def trained(model, optimizer, loss_of):
    """A step that trains one model; `loss_of(*batch)`."""

    def step(*batch):
        optimizer.zero_grad()
        loss = loss_of(*batch)
        loss.backward()
        optimizer.step()
        return loss

    return step, [model]


def linear_regression():
    w, b = (torch.zeros(n, requires_grad=True) for n in (2, 1))

    def step(x, y):
        loss = ((x @ w + b - y) ** 2).mean()
        loss.backward()
        with torch.no_grad():
            for p in (w, b):
                p -= 0.1 * p.grad
                p.grad = None
        return loss

    return step, [w, b], lambda r: (torch.randn(10, 2, generator=r), torch.randn(10, generator=r))


def tanh_network():
    net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
    step, state = trained(net, optim.SGD(net.parameters(), lr=0.05), lambda x, y: F.mse_loss(net(x), y))
    return step, state, lambda r: (torch.randn(16, 1, generator=r), torch.randn(16, 1, generator=r))


def perceptron():
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 20), nn.ReLU(), nn.Dropout(0.2), nn.Linear(20, 5))
    step, state = trained(net, optim.Adam(net.parameters(), 0.01), lambda x, y: F.cross_entropy(net(x), y))
    return step, state, lambda r: (torch.randn(12, 1, 6, 6, generator=r), torch.randint(0, 5, (12,), generator=r))


def convolutional():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )
    optimizer = optim.SGD(net.parameters(), 0.05, momentum=0.9, weight_decay=1e-3)

    def step(x, y):
        optimizer.zero_grad()
        out = net(x)
        loss = F.cross_entropy(out, y)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        return loss, (out.argmax(1) == y).sum()

    return step, [net], lambda r: (torch.randn(6, 3, 12, 12, generator=r), torch.randint(0, 4, (6,), generator=r))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.places = nn.Embedding(11, 16), nn.Embedding(6, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(16, 11)

    def forward(self, t):
        mask = nn.Transformer.generate_square_subsequent_mask(t.shape[1])
        return self.out(self.layers(self.tokens(t) + self.places(torch.arange(t.shape[1])), mask=mask, is_causal=True))


def transformer():
    net = Transformer()
    step, state = trained(
        net,
        optim.SGD(net.parameters(), 0.1, momentum=0.9),
        lambda t, y: F.cross_entropy(net(t).flatten(0, 1), y.flatten()),
    )
    return step, state, lambda r: (torch.randint(0, 11, (3, 6), generator=r), torch.randint(0, 11, (3, 6), generator=r))


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(9, 6)
        self.lstm = nn.LSTM(6, 5, batch_first=True, bidirectional=True)
        self.out = nn.Linear(10, 3)

    def forward(self, t, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(self.table(t), lengths, batch_first=True, enforce_sorted=False)
        _, (h, _) = self.lstm(packed)
        return self.out(torch.cat([h[0], h[1]], 1))


def packed_lstm():
    net = Tagger()
    step, state = trained(net, optim.Adam(net.parameters(), 0.01), lambda t, n, y: F.cross_entropy(net(t, n), y))
    return (
        step,
        state,
        lambda r: (
            torch.randint(0, 9, (4, 5), generator=r),
            torch.tensor([5, 2, 4, 3]),
            torch.randint(0, 3, (4,), generator=r),
        ),
    )


def autoencoder():
    down, up = nn.Linear(12, 6), nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 12), nn.Sigmoid())
    both = nn.ModuleList([down, up])

    def loss_of(x):
        mean, spread = down(x).chunk(2, 1)
        z = mean + torch.randn_like(mean) * (0.5 * spread).exp()
        kl = -0.5 * (1 + spread - mean.pow(2) - spread.exp()).sum()
        return F.binary_cross_entropy(up(z), x, reduction="sum") + kl

    step, state = trained(both, optim.Adam(both.parameters(), 0.01), loss_of)
    return step, state, lambda r: (torch.rand(5, 12, generator=r),)


def adversarial():
    g = nn.Sequential(nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8), nn.LeakyReLU(0.2), nn.Linear(8, 6), nn.Tanh())
    d = nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1), nn.Sigmoid())
    og, od = (optim.Adam(m.parameters(), 0.005, betas=(0.5, 0.999)) for m in (g, d))
    loss = nn.BCELoss()

    def step(real):
        one, zero = torch.ones(len(real), 1), torch.zeros(len(real), 1)
        fake = g(torch.randn(len(real), 4))
        od.zero_grad()
        loss_d = loss(d(real), one) + loss(d(fake.detach()), zero)
        loss_d.backward()
        od.step()
        og.zero_grad()
        loss_g = loss(d(fake), one)
        loss_g.backward()
        og.step()
        return loss_d, loss_g

    return step, [g, d], lambda r: (torch.randn(6, 6, generator=r).clamp(-1, 1),)


WORKLOADS = {
    f.__name__: f
    for f in (
        linear_regression,
        tanh_network,
        perceptron,
        convolutional,
        transformer,
        packed_lstm,
        autoencoder,
        adversarial,
    )
}


def run(make, compiled):
    torch.manual_seed(0)
    step, state, batch = make()
    step = torch.compile(step) if compiled else step
    values = []
    for number in range(STEPS):
        torch.manual_seed(number + 1)
        result = step(*batch(torch.Generator().manual_seed(number)))
        values.append([float(t) for t in (result if isinstance(result, tuple) else (result,))])
    tensors = [
        t for thing in state for t in (thing.state_dict().values() if isinstance(thing, nn.Module) else (thing,))
    ]
    return step, np.array(values), [t.detach().numpy().copy() for t in tensors]


@pytest.mark.parametrize("name", WORKLOADS)
def test_workload(name):
    _, values, state = run(WORKLOADS[name], False)
    step, found, after = run(WORKLOADS[name], True)
    assert np.allclose(found, values, rtol=1e-5, atol=1e-6)
    for a, b in zip(after, state):
        assert np.linalg.norm(a.astype(float) - b) <= 1e-5 * max(np.linalg.norm(b.astype(float)), 1)
    assert_native(step, None)
    assert compiled_of(step).captures <= 3
