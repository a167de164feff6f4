"""Celsius from an unmarked thermometer: the same straight line fitted three ways, and a small network.

Shows: one training loop with derivatives written by hand, one with autograd, one with `nn.Linear` and an optimizer.
    All start at the same point and so find the same line; then a network 1-8-1 fits a curve.
Data: eleven readings of two thermometers, one in °C and one in units of its own; they are in this file.
Run: python examples/temperature.py [--epochs 5000] [--out runs/temperature]
Expect: three times the loss 2.93 (°C²) with °C = 5.37 * reading / 10 - 17.30, a smaller loss for the curve, and
    fit.png.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt

import flambeau as torch
from flambeau import nn, optim

plt.switch_backend("agg")

CELSIUS = torch.tensor([0.5, 14.0, 15.0, 28.0, 11.0, 8.0, 3.0, -4.0, 6.0, 13.0, 21.0])
READING = torch.tensor([35.7, 55.9, 58.2, 81.9, 56.3, 48.9, 33.9, 21.8, 48.4, 60.4, 68.4])
SCALED = READING / 10  # near 1, so that one learning rate suits both the slope and the offset


def line(x, w, b):
    return w * x + b


def mean_square(prediction, target):
    return ((prediction - target) ** 2).mean()


def by_hand(epochs, rate=1e-2):
    """The chain rule, written out: d loss/d prediction, times d prediction/d w and d prediction/d b."""
    w, b = torch.ones(()), torch.zeros(())
    for _ in range(epochs):
        slope = 2 * (line(SCALED, w, b) - CELSIUS) / len(CELSIUS)
        w, b = w - rate * (slope * SCALED).sum(), b - rate * slope.sum()
    return mean_square(line(SCALED, w, b), CELSIUS), w, b


def with_autograd(epochs, rate=1e-2):
    """`backward` fills `params.grad`; the step itself is arithmetic that must not be recorded."""
    params = torch.tensor([1.0, 0.0], requires_grad=True)
    for _ in range(epochs):
        if params.grad is not None:
            params.grad.zero_()
        mean_square(line(SCALED, *params), CELSIUS).backward()
        with torch.no_grad():
            params -= rate * params.grad
    w, b = params.detach()
    return mean_square(line(SCALED, w, b), CELSIUS), w, b


def fit(model, optimizer, epochs):
    """The loop that nearly every PyTorch script has; returns the last loss."""
    inputs, targets = SCALED.unsqueeze(1), CELSIUS.unsqueeze(1)
    for _ in range(epochs):
        loss = nn.functional.mse_loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return nn.functional.mse_loss(model(inputs), targets)


def with_nn(epochs, rate=1e-2):
    """A layer holds the two parameters, an optimizer takes the step."""
    model = nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(1.0)
        model.bias.zero_()
    loss = fit(model, optim.SGD(model.parameters(), lr=rate), epochs)
    return loss, model.weight.detach().squeeze(), model.bias.detach().squeeze()


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5000)
    parser.add_argument("--out", type=Path, default=Path("runs/temperature"))
    args = parser.parse_args(argv)

    torch.manual_seed(0)
    losses = {}
    for name, way in (("by hand", by_hand), ("autograd", with_autograd), ("nn", with_nn)):
        loss, w, b = way(args.epochs)
        losses[name] = loss.item()
        print(f"{name:9} loss {loss:.6f}   °C = {w:.4f} * reading / 10 {b:+.4f}")

    network = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
    losses["network"] = fit(network, optim.Adam(network.parameters(), lr=0.02), args.epochs).item()
    print(f"network   loss {losses['network']:.6f}")

    args.out.mkdir(parents=True, exist_ok=True)
    x = torch.linspace(20, 85, 200)
    with torch.no_grad():
        curve = network(x.unsqueeze(1) / 10).squeeze(1)
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.plot(READING, CELSIUS, "o", color="black", label="measured")
    axes.plot(x, line(x / 10, w, b), color="tab:blue", label=f"line, loss {losses['nn']:.2f}")
    axes.plot(x, curve, color="tab:orange", label=f"network 1-8-1, loss {losses['network']:.2f}")
    axes.set(xlabel="reading of the unmarked thermometer", ylabel="temperature (°C)")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(args.out / "fit.png", dpi=100)
    plt.close(figure)
    return {"losses": losses, "w": w.item(), "b": b.item()}


if __name__ == "__main__":
    main()
