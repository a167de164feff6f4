"""Two parameters, a tanh network of one hidden layer, and the perceptron for digits."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from benchmarks.workloads.work import Work, training_step

CELSIUS = [0.5, 14.0, 15.0, 28.0, 11.0, 8.0, 3.0, -4.0, 6.0, 13.0, 21.0]
UNKNOWN = [35.7, 55.9, 58.2, 81.9, 56.3, 48.9, 33.9, 21.8, 48.4, 60.4, 68.4]


def addition(torch: Any, part: Any) -> Work:
    """One recorded addition: what an op costs in eager mode."""
    x, y = torch.randn(11, requires_grad=True), torch.randn(11)
    return Work(lambda x, y: x + y, [(x, y)], [])


def line(torch: Any, part: Any) -> Work:
    """Slope and offset of a line through the readings; both live in one tensor."""
    celsius, unknown = torch.tensor(CELSIUS), 0.1 * torch.tensor(UNKNOWN)
    parameters = torch.tensor([1.0, 0.0], requires_grad=True)
    optimizer = torch.optim.Adam([parameters], lr=1e-1)

    def predict(reading: Any, w: Any, b: Any) -> Any:
        return w * reading + b

    def loss_of(reading: Any, target: Any) -> Any:
        return ((predict(reading, *parameters) - target) ** 2).mean()

    batches = [(unknown, celsius), (unknown.clone(), celsius.clone())]
    return Work(training_step(loss_of, optimizer, part), batches, [[parameters], optimizer])


def tanh_network(torch: Any, part: Any) -> Work:
    """An epoch of the 1-8-1 network: loss of nine readings, loss of the other two without gradient, one update."""
    nn = torch.nn
    celsius, unknown = torch.tensor(CELSIUS).unsqueeze(1), 0.1 * torch.tensor(UNKNOWN).unsqueeze(1)
    order = torch.randperm(11)
    seen, held_out = order[:-2], order[-2:]
    layers = OrderedDict(hidden=nn.Linear(1, 8), activation=nn.Tanh(), output=nn.Linear(8, 1))
    model = nn.Sequential(layers)
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    update = optimizer.step

    def loss_of(x: Any, y: Any) -> Any:
        return criterion(model(x), y)

    if part:
        loss_of, update = part(loss_of), part(lambda: optimizer.step())

    def epoch(x: Any, y: Any, x_held_out: Any, y_held_out: Any) -> Any:
        loss = loss_of(x, y)
        with torch.no_grad():
            validation = loss_of(x_held_out, y_held_out)
        optimizer.zero_grad()
        loss.backward()
        update()
        return loss, validation

    data = (unknown[seen], celsius[seen], unknown[held_out], celsius[held_out])
    return Work(epoch, [data, tuple(tensor.clone() for tensor in data)], [model, optimizer])


def digits(torch: Any, part: Any) -> Work:
    """784-200-200-10 with log_softmax and negative log likelihood, as first networks for digits are written."""
    nn, F = torch.nn, torch.nn.functional

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = nn.Linear(784, 200)
            self.fc2 = nn.Linear(200, 200)
            self.fc3 = nn.Linear(200, 10)

        def forward(self, x: Any) -> Any:
            hidden = F.relu(self.fc2(F.relu(self.fc1(x))))
            return F.log_softmax(self.fc3(hidden), dim=1)

    model = Network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    batches = [(torch.randn(64, 784), torch.randint(0, 10, (64,))) for _ in range(2)]
    step = training_step(lambda x, y: F.nll_loss(model(x), y), optimizer, part)
    return Work(step, batches, [model, optimizer])
