"""A convolutional variational autoencoder: digits as points of a plane, and digits drawn from any point of it.

Shows: encoder and decoder with transposed convolutions, the reparametrised sample, the sum of reconstruction error
    and KL divergence; then what the plane looks like: reconstructions, the way from one digit to another, and a
    walk over it.
Data: the bundled handwritten digits, 8×8 pixels (1,442 to learn from, 355 held out).
Run: python examples/vae.py [--epochs 100] [--out runs/vae]
Expect: a loss near 24 nats per held-out image (after the first epoch about 28), and reconstructions.png,
    interpolation.png, walk.png.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt

import flambeau as torch
from flambeau import nn
from flambeau.utils.data import DataLoader, TensorDataset
from flambeau.vision.datasets import Digits
from flambeau.vision.utils import make_grid

plt.switch_backend("agg")


class VAE(nn.Module):
    """(N, 1, 8, 8) -> a Gaussian over (N, 2) -> (N, 1, 8, 8), as logits."""

    def __init__(self, latent_dim=2):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),  # 4×4
            nn.Flatten(), nn.Linear(32 * 4 * 4, 128), nn.ReLU(),
        )  # fmt: skip
        self.mean = nn.Linear(128, latent_dim)
        self.log_variance = nn.Linear(128, latent_dim)
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, 128), nn.ReLU(), nn.Linear(128, 32 * 4 * 4), nn.ReLU(), nn.Unflatten(1, (32, 4, 4)),
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), nn.ReLU(),  # 8×8
            nn.Conv2d(16, 1, 3, padding=1),
        )  # fmt: skip

    def encode(self, x):
        hidden = self.encoder(x)
        return self.mean(hidden), self.log_variance(hidden)

    def forward(self, x):
        mean, log_variance = self.encode(x)
        # Drawn as mean + deviation * noise, so that gradients reach both.
        noise = torch.randn_like(mean)
        return self.decoder(mean + noise * torch.exp(log_variance / 2)), mean, log_variance


def loss_function(model, x):
    """Reconstruction error plus KL divergence from the standard normal distribution, per image."""
    logits, mean, log_variance = model(x)
    error = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    divergence = -0.5 * (1 + log_variance - mean.pow(2) - log_variance.exp()).sum()
    return (error + divergence) / len(x)


def images(train):
    data = Digits(train=train)
    return data.data.float().unsqueeze(1) / 16, data.targets


@torch.no_grad()
def draw_reconstructions(model, x, path):
    """Held-out digits above what the plane keeps of them."""
    again = torch.sigmoid(model.decoder(model.encode(x)[0]))
    save(make_grid(torch.cat([x, again]), nrow=len(x), padding=1, pad_value=0.5), path, (9, 1.2))


@torch.no_grad()
def draw_interpolation(model, start, end, path, steps=12):
    """Digits on the straight line between the places of two, with the two themselves at its ends."""
    ends = model.encode(torch.stack([start, end]))[0]
    t = torch.linspace(0, 1, steps).unsqueeze(1)
    between = torch.sigmoid(model.decoder(torch.lerp(ends[0], ends[1], t)))
    row = torch.cat([start.unsqueeze(0), between, end.unsqueeze(0)])
    save(make_grid(row, nrow=len(row), padding=1, pad_value=0.5), path, (9, 0.7))


@torch.no_grad()
def draw_walk(model, x, labels, path, side=20):
    """Where the digits lie in the plane, and what the decoder draws at the points of a grid over it."""
    # The grid has equal shares of the normal distribution between its lines, so it is dense where the digits are.
    steps = torch.special.ndtri(torch.linspace(0.02, 0.98, side))
    rows, columns = torch.meshgrid(steps.flip(0), steps, indexing="ij")
    plane = torch.stack([columns, rows], dim=-1).reshape(-1, 2)
    grid = make_grid(torch.sigmoid(model.decoder(plane)), nrow=side, padding=1)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 5), layout="constrained")
    points = model.encode(x)[0]
    dots = left.scatter(points[:, 0], points[:, 1], c=labels, cmap="tab10", s=6)
    colours, _ = dots.legend_elements(num=None)
    left.legend(colours, range(10), ncols=10, loc="upper center", frameon=False, columnspacing=0.6, handletextpad=0)
    left.set(title="the digits in the plane", ylim=(-3, 3.4), xlim=(-3.2, 3.2))
    right.imshow(grid.permute(1, 2, 0))
    right.set(title=f"a walk over it, {side}×{side} steps", xticks=[], yticks=[])
    figure.savefig(path, dpi=80)
    plt.close(figure)


def save(grid, path, size):
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    axes.imshow(grid.permute(1, 2, 0), cmap="gray")
    axes.set_axis_off()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("runs/vae"))
    args = parser.parse_args(argv)

    torch.manual_seed(0)
    inputs, labels = images(train=True)
    test_inputs, test_labels = images(train=False)
    loader = DataLoader(TensorDataset(inputs), batch_size=32, shuffle=True)
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    losses = []
    for epoch in range(1, args.epochs + 1):
        total = 0.0
        for (x,) in loader:
            loss = loss_function(model, x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
        with torch.no_grad():
            held_out = loss_function(model, test_inputs).item()
        losses.append(held_out)
        if epoch == 1 or epoch % 10 == 0 or epoch == args.epochs:
            print(f"epoch {epoch:3}: loss {total / len(inputs):.3f} in training, {held_out:.3f} held out")

    args.out.mkdir(parents=True, exist_ok=True)
    draw_reconstructions(model, test_inputs[:16], args.out / "reconstructions.png")
    zero, three = (test_inputs[test_labels == digit][0] for digit in (0, 3))
    draw_interpolation(model, zero, three, args.out / "interpolation.png")
    draw_walk(model, inputs, labels, args.out / "walk.png")
    return {"losses": losses, "model": model}


if __name__ == "__main__":
    main()
