"""An image classifier from a folder of pictures, with all around it: look, train, stop, resume, predict.

Shows: `ImageFolder` with augmentation; pictures of samples; a convolutional network; a training loop that keeps the
    weights of the best epoch; a checkpoint of model, optimizer, epoch and random numbers after each epoch, from
    which `--resume` goes on as if nothing had happened; a grid of predictions; a table of probabilities to submit.
Data: shapes that shapes.py draws (320 to learn from, 120 to choose the epoch by, 30 without labels), or with
    `--data` a folder of your own with train/CLASS/*.jpg, val/CLASS/*.jpg and perhaps test/unlabelled/*.jpg.
Run: python examples/image_folder.py [--data FOLDER] [--epochs 10] [--resume] [--out runs/image_folder]
Expect: over 90 % of the shapes right; samples.png, predictions.png, submission.csv, checkpoint.pt and best.pt.
"""

import argparse
import copy
import csv
from pathlib import Path

import matplotlib.pyplot as plt
from shapes import draw_folder

import flambeau as torch
from flambeau import nn
from flambeau.utils.data import DataLoader
from flambeau.vision import transforms
from flambeau.vision.datasets import ImageFolder
from flambeau.vision.utils import make_grid

plt.switch_backend("agg")

SIZE = 40
PREPARE = [transforms.ToTensor(), transforms.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))]
TRAIN = transforms.Compose([
    transforms.Resize(SIZE), transforms.RandomCrop(SIZE, padding=4, padding_mode="reflect"),
    transforms.RandomHorizontalFlip(), transforms.RandomVerticalFlip(), *PREPARE,
])  # fmt: skip
EVALUATE = transforms.Compose([transforms.Resize(SIZE), transforms.CenterCrop(SIZE), *PREPARE])


def block(inputs, outputs):
    """Convolve, normalise, halve the size."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)
    )


class Network(nn.Module):
    """(N, 3, 40, 40) -> (N, classes)."""

    def __init__(self, num_classes):
        super().__init__()
        self.features = nn.Sequential(block(3, 16), block(16, 32), block(32, 64))
        self.classifier = nn.Sequential(
            nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, num_classes)
        )

    def forward(self, x):
        return self.classifier(self.features(x))


def train_epoch(model, loader, optimizer):
    """One pass over the data; the mean loss."""
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
def predict(model, loader):
    """Class probabilities (N, classes) and labels (N,) of all pictures."""
    model.eval()
    batches = [(nn.functional.softmax(model(images), dim=1), labels) for images, labels in loader]
    probabilities, labels = zip(*batches)
    return torch.cat(probabilities), torch.cat(labels)


def draw(data, path, titles, colours=None):
    """Pictures of a data set in rows of eight, each under its title."""
    gap = SIZE // 4
    images = torch.stack([image for image, _ in data]) * 0.25 + 0.5
    grid = make_grid(images.clamp(0, 1), nrow=8, padding=gap, pad_value=1.0)
    figure = plt.figure(figsize=(9, 9 * grid.shape[1] / grid.shape[2]))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(grid.permute(1, 2, 0))
    axes.set_axis_off()
    for index, title in enumerate(titles):
        x, y = index % 8 * (SIZE + gap) + gap + SIZE / 2, index // 8 * (SIZE + gap) + gap - 2
        axes.text(x, y, title, ha="center", fontsize=8, color=colours[index] if colours else "black")
    figure.savefig(path, dpi=80)
    plt.close(figure)


def spread(data, count=24):
    """`count` pictures from all over a data set that is sorted by class."""
    chosen = torch.linspace(0, len(data) - 1, min(count, len(data))).long().tolist()
    return [data[i] for i in chosen], chosen


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder with train/, val/ and perhaps test/; drawn where missing")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--resume", action="store_true", help="go on from checkpoint.pt in --out")
    parser.add_argument("--out", type=Path, default=Path("runs/image_folder"))
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    root = args.data or draw_folder(args.out / "data")

    torch.manual_seed(0)
    train_data, val_data = ImageFolder(root / "train", TRAIN), ImageFolder(root / "val", EVALUATE)
    classes = train_data.classes
    print(f"{len(train_data)} pictures to learn from, {len(val_data)} to choose by; classes {', '.join(classes)}")
    samples, chosen = spread(train_data)
    draw(samples, args.out / "samples.png", [classes[train_data.targets[i]] for i in chosen])

    train_loader = DataLoader(train_data, batch_size=16, shuffle=True)
    val_loader = DataLoader(val_data, batch_size=64)
    model = Network(len(classes))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    epoch, best, losses = 0, {"accuracy": 0.0}, []
    if args.resume:
        checkpoint = torch.load(args.out / "checkpoint.pt")
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        torch.set_rng_state(checkpoint["random"])  # shuffles, crops and dropout go on where they were
        epoch, best, losses = checkpoint["epoch"], checkpoint["best"], checkpoint["losses"]
        print(f"resumed after epoch {epoch}")

    while epoch < args.epochs:
        epoch += 1
        losses.append(train_epoch(model, train_loader, optimizer))
        probabilities, labels = predict(model, val_loader)
        accuracy = (probabilities.argmax(1) == labels).float().mean().item()
        print(f"epoch {epoch:2}: training loss {losses[-1]:.4f}, accuracy {accuracy:.1%}")
        if accuracy > best["accuracy"]:
            # A state dict is live memory: without the copy, the next step would change what was kept.
            best = {"accuracy": accuracy, "epoch": epoch, "model": copy.deepcopy(model.state_dict())}
            torch.save(best["model"], args.out / "best.pt")
        torch.save(
            {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "random": torch.get_rng_state(),
                "epoch": epoch,
                "best": best,
                "losses": losses,
            },
            args.out / "checkpoint.pt",
        )

    model.load_state_dict(best["model"])
    print(f"best epoch: {best['epoch']}, accuracy {best['accuracy']:.1%}")
    probabilities, labels = predict(model, val_loader)
    shown, chosen = spread(val_data)
    values, answers = probabilities[chosen].max(1)
    titles = [f"{classes[answer]} {value:.0%}" for answer, value in zip(answers, values)]
    colours = ["green" if right else "red" for right in answers == labels[chosen]]
    draw(shown, args.out / "predictions.png", titles, colours)

    test_data = ImageFolder(root / "test", EVALUATE) if (root / "test").is_dir() else val_data
    probabilities, _ = predict(model, DataLoader(test_data, batch_size=64))
    with open(args.out / "submission.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", *classes])
        for (path, _), row in zip(test_data.samples, probabilities):
            table.writerow([Path(path).stem, *[f"{p:.6f}" for p in row]])
    return {"accuracy": best["accuracy"], "losses": losses}


if __name__ == "__main__":
    main()
