"""A conditional GAN: one network draws the digit it is told to, the other learns to tell its drawings from real ones.

Shows: two networks and two optimizers with alternating steps, `detach` for the discriminator's step, labels as
    embeddings, and a judge that never saw the game: a classifier trained on real digits reads what was drawn.
Data: the bundled handwritten digits, 8×8 pixels (1,797, used together).
Run: python examples/conditional_gan.py [--epochs 100] [--out runs/conditional_gan]
Expect: the judge reads about 95 % of the drawings as the digit that was asked for; samples.png has a row per label.
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

NOISE = 32


class Generator(nn.Module):
    """Noise (N, 32) and labels (N,) -> pictures (N, 64) of values -1 to 1."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 16)
        self.layers = nn.Sequential(
            nn.Linear(NOISE + 16, 128), nn.LeakyReLU(0.2), nn.Linear(128, 128), nn.LeakyReLU(0.2),
            nn.Linear(128, 64), nn.Tanh(),
        )  # fmt: skip

    def forward(self, noise, labels):
        return self.layers(torch.cat([noise, self.embedding(labels)], dim=1))


class Discriminator(nn.Module):
    """Pictures (N, 64) and labels (N,) -> a logit (N,): is this a real picture of that digit?"""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 16)
        self.layers = nn.Sequential(
            nn.Linear(64 + 16, 128), nn.LeakyReLU(0.2), nn.Dropout(0.3),
            nn.Linear(128, 128), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Linear(128, 1),
        )  # fmt: skip

    def forward(self, pictures, labels):
        return self.layers(torch.cat([pictures, self.embedding(labels)], dim=1)).squeeze(1)


def real_digits():
    parts = Digits(train=True), Digits(train=False)
    pictures = torch.cat([part.data for part in parts]).flatten(1).float() / 8 - 1
    return pictures, torch.cat([part.targets for part in parts])


def train_judge(pictures, labels, steps=300):
    """A small classifier of real digits."""
    judge = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(judge.parameters(), lr=1e-2)
    for _ in range(steps):
        loss = nn.functional.cross_entropy(judge(pictures), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return judge


def real_or_not(logits, real):
    """The cross entropy against ones or zeros. Real pictures count as 0.9, which keeps the discriminator unsure."""
    return nn.functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, 0.9 if real else 0.0))


def play(generator, discriminator, pictures, labels, epochs):
    """Alternate: a step of the discriminator, a step of the generator. Returns both losses of each epoch."""
    loader = DataLoader(TensorDataset(pictures, labels), batch_size=64, shuffle=True, drop_last=True)
    to_draw = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    to_judge = torch.optim.Adam(discriminator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    curves = []
    for epoch in range(1, epochs + 1):
        sums = [0.0, 0.0]
        for real, digits in loader:
            drawn = generator(torch.randn(len(real), NOISE), digits)

            # Discriminator: tell real from drawn. detach: this step is none of the generator's business.
            loss_d = (
                real_or_not(discriminator(real, digits), True)
                + real_or_not(discriminator(drawn.detach(), digits), False)
            ) / 2
            to_judge.zero_grad()
            loss_d.backward()
            to_judge.step()

            # Generator: be taken for real by the discriminator as it is now.
            loss_g = nn.functional.softplus(-discriminator(drawn, digits)).mean()
            to_draw.zero_grad()
            loss_g.backward()
            to_draw.step()
            sums = [sums[0] + loss_d.item(), sums[1] + loss_g.item()]
        curves.append([total / len(loader) for total in sums])
        if epoch == 1 or epoch % 10 == 0 or epoch == epochs:
            print(f"epoch {epoch:3}: discriminator {curves[-1][0]:.4f}, generator {curves[-1][1]:.4f}")
    return curves


def draw(curves, samples, path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
    left.plot([d for d, _ in curves], label="discriminator")
    left.plot([g for _, g in curves], label="generator")
    left.set(xlabel="epoch", title="losses")
    left.grid(alpha=0.25)
    left.legend(frameon=False)
    right.imshow(make_grid(samples, nrow=10, padding=1, pad_value=0.3).permute(1, 2, 0))
    right.set(title="drawn to order", ylabel="label", xticks=[], yticks=[9 * i + 5 for i in range(10)])
    right.set_yticklabels(range(10))
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("runs/conditional_gan"))
    args = parser.parse_args(argv)

    torch.manual_seed(0)
    pictures, labels = real_digits()
    judge = train_judge(pictures, labels)
    generator, discriminator = Generator(), Discriminator()
    curves = play(generator, discriminator, pictures, labels, args.epochs)

    generator.eval()
    with torch.no_grad():
        asked = torch.arange(10).repeat_interleave(100)
        drawn = generator(torch.randn(1000, NOISE), asked)
        agreement = (judge(drawn).argmax(1) == asked).float().mean().item()
        # Drawings of one digit should differ from each other as real ones do: the mean deviation of a pixel in a class.
        variety = drawn.view(10, 100, 64).std(1).mean().item()
        real_variety = torch.stack([pictures[labels == digit].std(0).mean() for digit in range(10)]).mean().item()
    print(f"read as the digit asked for: {agreement:.1%}; variety {variety:.3f} (real digits: {real_variety:.3f})")

    args.out.mkdir(parents=True, exist_ok=True)
    samples = (drawn.view(10, 100, 1, 8, 8)[:, :10].reshape(100, 1, 8, 8) + 1) / 2
    draw(curves, samples, args.out / "samples.png")
    return {"agreement": agreement, "variety": variety / real_variety, "curves": curves}


if __name__ == "__main__":
    main()
