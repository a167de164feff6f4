"""The workloads, each written once for a module `torch` that may be PyTorch or flambeau.

A builder takes the module and returns a function of no arguments that does one unit of work.
"""

from collections.abc import Callable
from typing import Any

Step = Callable[[], Any]
CELSIUS = [0.5, 14.0, 15.0, 28.0, 11.0, 8.0, 3.0, -4.0, 6.0, 13.0, 21.0]
UNKNOWN = [35.7, 55.9, 58.2, 81.9, 56.3, 48.9, 33.9, 21.8, 48.4, 60.4, 68.4]


def add(torch: Any) -> Step:
    """x + y on 11 elements, with the gradient's node recorded."""
    x, y = torch.randn(11, requires_grad=True), torch.randn(11)

    def step() -> Any:
        return x + y

    return step


def regression(torch: Any) -> Step:
    """Thermometer readings by a line: 2 parameters, 11 points; forward, mean square, backward, Adam."""
    t_c, t_u = torch.tensor(CELSIUS), 0.1 * torch.tensor(UNKNOWN)
    parameters = torch.tensor([1.0, 0.0], requires_grad=True)
    optimizer = torch.optim.Adam([parameters], lr=0.1)

    def step() -> Any:
        w, b = parameters
        loss = ((w * t_u + b - t_c) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def tanh_network(torch: Any) -> Step:
    """The same readings by a network 1-8-1 with tanh: forward, MSELoss, backward, Adam."""
    nn = torch.nn
    t_c, t_u = torch.tensor(CELSIUS).unsqueeze(1), 0.1 * torch.tensor(UNKNOWN).unsqueeze(1)
    model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
    return _training_step(torch, model, nn.MSELoss(), t_u, t_c, lr=1e-2)


def dog_cnn(torch: Any) -> Step:
    """A convolutional network for 133 dog breeds, batch 32 at 64×64: forward, cross entropy, backward, Adam."""
    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(64), nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(128), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(128, 512), nn.ReLU(), nn.Dropout(0.3), nn.Linear(512, 133),
    )  # fmt: skip
    images, labels = torch.randn(32, 3, 64, 64), torch.randint(0, 133, (32,))
    return _training_step(torch, model, nn.CrossEntropyLoss(), images, labels, lr=1e-3)


def _training_step(torch: Any, model: Any, criterion: Any, inputs: Any, targets: Any, lr: float) -> Step:
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)

    def step() -> Any:
        loss = criterion(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


WORKLOADS = {function.__name__: function for function in (add, regression, tanh_network, dog_cnn)}
