"""An LSTM cell by hand, held against `nn.LSTMCell` and `nn.LSTM`, which have the same formulas.

Shows: the four gates as a dozen lines of tensor arithmetic; the same weights giving the same outputs and gradients
    in all three; a module that is trained with the cell by hand and ends with the same loss as one with `nn.LSTM`.
Data: the bundled handwritten digits, read from top to bottom, one row of eight pixels at a time.
Run: python examples/lstm_cell.py [--epochs 10] [--out runs/lstm_cell]
Expect: differences below 1e-5 between the three, two learning curves that lie on each other, 95 % of the held-out
    digits right, and cell.png, which also shows the gates of the trained cell while it reads a digit.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt

import flambeau as torch
from flambeau import nn
from flambeau.utils.data import DataLoader, TensorDataset
from flambeau.vision.datasets import Digits

plt.switch_backend("agg")


class CellByHand(nn.Module):
    """One step of an LSTM; its parameters have nn.LSTMCell's names and shapes, so that a state dict carries over."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        bound = hidden_size**-0.5
        for name, shape in (
            ("weight_ih", (4 * hidden_size, input_size)),
            ("weight_hh", (4 * hidden_size, hidden_size)),
            ("bias_ih", (4 * hidden_size,)),
            ("bias_hh", (4 * hidden_size,)),
        ):
            self.register_parameter(name, nn.Parameter(torch.empty(shape).uniform_(-bound, bound)))

    def gates(self, x, h):
        """What comes in, what stays, what is written, what is shown: each (N, hidden_size)."""
        sums = x @ self.weight_ih.t() + self.bias_ih + h @ self.weight_hh.t() + self.bias_hh
        i, f, g, o = sums.chunk(4, dim=1)
        return torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)

    def forward(self, x, state):
        h, c = state
        i, f, g, o = self.gates(x, h)
        c = f * c + i * g  # forget some of the memory, add some of the news
        return o * torch.tanh(c), c


class Reader(nn.Module):
    """Reads the rows of a digit (N, 8, 8) with the cell by hand, and judges by its last output."""

    def __init__(self, hidden_size=32):
        super().__init__()
        self.hidden_size = hidden_size
        self.cell = CellByHand(8, hidden_size)
        self.classifier = nn.Linear(hidden_size, 10)

    def forward(self, images):
        h = c = torch.zeros(len(images), self.hidden_size)
        for row in images.unbind(1):
            h, c = self.cell(row, (h, c))
        return self.classifier(h)


class LibraryReader(nn.Module):
    """The same with nn.LSTM, which takes the loop upon itself."""

    def __init__(self, hidden_size=32):
        super().__init__()
        self.lstm = nn.LSTM(8, hidden_size, batch_first=True)
        self.classifier = nn.Linear(hidden_size, 10)

    def forward(self, images):
        outputs, _ = self.lstm(images)  # (N, 8, hidden_size)
        return self.classifier(outputs[:, -1])


def compare(images):
    """The largest difference in outputs and in gradients, of nn.LSTMCell and of nn.LSTM to the cell by hand."""
    by_hand, cell, lstm = CellByHand(8, 32), nn.LSTMCell(8, 32), nn.LSTM(8, 32, batch_first=True)
    cell.load_state_dict(by_hand.state_dict())
    lstm.load_state_dict({f"{name}_l0": tensor for name, tensor in by_hand.state_dict().items()})

    def unroll(step):
        h = c = torch.zeros(len(images), 32)
        outputs = []
        for row in images.unbind(1):
            h, c = step(row, (h, c))
            outputs.append(h)
        return torch.stack(outputs, dim=1)

    outputs = unroll(by_hand), unroll(cell), lstm(images)[0]
    for output in outputs:
        output.square().mean().backward()
    gradients = [[p.grad for p in module.parameters()] for module in (by_hand, cell, lstm)]
    return {
        name: max((a - b).abs().max().item() for a, b in [(outputs[0], outputs[k]), *zip(gradients[0], gradients[k])])
        for k, name in ((1, "nn.LSTMCell"), (2, "nn.LSTM"))
    }


def train(model, inputs, labels, epochs):
    """The mean loss of each epoch."""
    torch.manual_seed(1)  # the same shuffles for both models
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=32, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(epochs):
        total = 0.0
        for images, targets in loader:
            loss = nn.functional.cross_entropy(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(targets)
        losses.append(total / len(labels))
    return losses


@torch.no_grad()
def draw(by_hand_losses, library_losses, model, image, path):
    """Learning curves, the digit, and the three gates after each of its rows."""
    h = c = torch.zeros(1, model.hidden_size)
    steps = []
    for row in image.unsqueeze(0).unbind(1):
        i, f, _, o = model.cell.gates(row, h)
        steps.append((i[0], f[0], o[0]))
        h, c = model.cell(row, (h, c))
    figure, axes = plt.subplots(1, 5, figsize=(11, 3), width_ratios=(2.2, 1, 1.6, 1.6, 1.6), layout="constrained")
    axes[0].plot(range(1, len(by_hand_losses) + 1), by_hand_losses, linewidth=5, alpha=0.4, label="cell by hand")
    axes[0].plot(range(1, len(library_losses) + 1), library_losses, color="black", label="nn.LSTM")
    axes[0].set(xlabel="epoch", title="training loss")
    axes[0].legend(frameon=False)
    axes[1].imshow(image, cmap="gray_r")
    axes[1].set(title="read row by row", xticks=[], ylabel="row")
    for panel, name, gate in zip(axes[2:], ("input gate", "forget gate", "output gate"), zip(*steps)):
        panel.imshow(torch.stack(gate), cmap="viridis", vmin=0, vmax=1, aspect="auto")
        panel.set(title=name, xlabel="unit", yticks=range(0, 8, 2))
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("runs/lstm_cell"))
    args = parser.parse_args(argv)

    torch.manual_seed(0)
    digits, held_out = Digits(train=True), Digits(train=False)
    inputs = digits.data.float() / 16
    differences = compare(inputs[:16])
    for name, difference in differences.items():
        print(f"{name}: outputs and gradients differ from the cell by hand by at most {difference:.1e}")

    by_hand, library = Reader(), LibraryReader()
    library.load_state_dict(
        {
            (f"lstm.{name[5:]}_l0" if name.startswith("cell.") else name): tensor
            for name, tensor in by_hand.state_dict().items()
        }
    )
    by_hand_losses = train(by_hand, inputs, digits.targets, args.epochs)
    library_losses = train(library, inputs, digits.targets, args.epochs)
    for epoch, losses in enumerate(zip(by_hand_losses, library_losses), start=1):
        print("epoch {}: loss {:.4f} by hand, {:.4f} with nn.LSTM".format(epoch, *losses))
    with torch.no_grad():
        answers = by_hand(held_out.data.float() / 16).argmax(1)
    accuracy = (answers == held_out.targets).float().mean().item()
    print(f"accuracy on the held-out digits {accuracy:.1%}")

    args.out.mkdir(parents=True, exist_ok=True)
    draw(by_hand_losses, library_losses, by_hand, inputs[3], args.out / "cell.png")
    return {"differences": differences, "losses": (by_hand_losses, library_losses), "accuracy": accuracy}


if __name__ == "__main__":
    main()
