"""A feed-forward classifier to start from: its depth, width and dropout are arguments.

Shows: a module that builds its layers in a loop, `DataLoader`, a training and an evaluating pass, a held-out score.
Data: the bundled handwritten digits, 8×8 pixels (1,442 to learn from, 355 held out).
Run: python examples/feed_forward.py [--num-hidden 2] [--hidden-dim 64] [--dropout 0.2] [--epochs 20] [--out
    runs/feed_forward]
Expect: about 97 % of the held-out digits right, and result.png with the learning curves and the confusion matrix.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt

import flambeau as torch
from flambeau import nn
from flambeau.utils.data import DataLoader, TensorDataset
from flambeau.vision.datasets import Digits

plt.switch_backend("agg")


class FeedForward(nn.Module):
    """`num_hidden` layers of `hidden_dim` units with ReLU and dropout, then one score per class."""

    def __init__(self, num_inputs, num_classes, num_hidden=2, hidden_dim=64, dropout=0.2):
        super().__init__()
        layers, width = [nn.Flatten()], num_inputs
        for _ in range(num_hidden):
            layers += [nn.Linear(width, hidden_dim), nn.ReLU(), nn.Dropout(dropout)]
            width = hidden_dim
        self.layers = nn.Sequential(*layers, nn.Linear(width, num_classes))

    def forward(self, x):
        return self.layers(x)


def digits(train):
    """Images as floats of 0 to 1, with their labels."""
    data = Digits(train=train)
    return TensorDataset(data.data.float() / 16, data.targets)


def train_epoch(model, loader, optimizer):
    """One pass over the data; the mean loss on the way."""
    model.train()
    total = 0.0
    for images, labels in loader:
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(images)
    return total / len(loader.dataset)


@torch.no_grad()
def evaluate(model, loader):
    """Mean loss, and a matrix that counts how often class i (row) was taken for class j (column)."""
    model.eval()
    total, confusion = 0.0, torch.zeros(10, 10, dtype=torch.int64)
    for images, labels in loader:
        logits = model(images)
        total += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
        confusion.index_put_((labels, logits.argmax(1)), torch.tensor(1), accumulate=True)
    return total / len(loader.dataset), confusion


def draw(curves, confusion, path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    left.plot(*zip(*[(epoch, train) for epoch, train, _ in curves]), label="training (with dropout)")
    left.plot(*zip(*[(epoch, held_out) for epoch, _, held_out in curves]), label="held out")
    left.set(xlabel="epoch", ylabel="cross entropy", yscale="log")
    left.grid(alpha=0.25)
    left.legend(frameon=False)
    right.imshow(confusion, cmap="Blues", vmax=confusion.max() / 2)
    for i, j in confusion.nonzero().tolist():
        right.text(j, i, confusion[i, j].item(), ha="center", va="center", color="white" if i == j else "black")
    right.set(xlabel="answer", ylabel="digit", xticks=range(10), yticks=range(10))
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-hidden", type=int, default=2)
    parser.add_argument("--hidden-dim", type=int, default=64)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("runs/feed_forward"))
    args = parser.parse_args(argv)

    torch.manual_seed(0)
    train_loader = DataLoader(digits(train=True), batch_size=32, shuffle=True)
    test_loader = DataLoader(digits(train=False), batch_size=128)
    model = FeedForward(64, 10, args.num_hidden, args.hidden_dim, args.dropout)
    print(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    curves = []
    for epoch in range(1, args.epochs + 1):
        train_loss = train_epoch(model, train_loader, optimizer)
        test_loss, confusion = evaluate(model, test_loader)
        accuracy = confusion.diagonal().sum().item() / confusion.sum().item()
        curves.append((epoch, train_loss, test_loss))
        print(f"epoch {epoch:2}: training loss {train_loss:.4f}, held out {test_loss:.4f}, accuracy {accuracy:.1%}")

    args.out.mkdir(parents=True, exist_ok=True)
    draw(curves, confusion, args.out / "result.png")
    return {"accuracy": accuracy, "loss": test_loss}


if __name__ == "__main__":
    main()
