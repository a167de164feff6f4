"""A network that leaves Python: trained here, exported as an object file, called by a program in C.

Shows: `flambeau.export.native`, the header it writes, and what a program in C does with it (classify.c, beside this).
Data: the bundled handwritten digits; the program in C reads held-out ones.
Run: python examples/outside_python/main.py [--epochs 15] [--cpu native] [--out runs/outside_python]
Needs: a C compiler (cc, gcc or clang).
Expect: 98 % of the held-out digits right, the same scores from C as from Python to rounding, and answers.png: digits
    with the answers of the program in C.
"""

import argparse
import subprocess
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import flambeau as torch
from flambeau import nn
from flambeau.export import native
from flambeau.vision.datasets import Digits

plt.switch_backend("agg")


def images(train):
    """Pictures (N, 1, 8, 8) with values 0 to 1, and labels."""
    data = Digits(train=train)
    return data.data.unsqueeze(1).float() / 16, data.targets


def train(model, epochs):
    """Adam on batches of 64; returns the mean loss of each epoch."""
    x, y = images(train=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(epochs):
        model.train()
        total = 0.0
        for batch in torch.randperm(len(x)).split(64):
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        losses.append(total / len(x))
    return losses


def build(folder, compiler):
    """Compile classify.c with the exported network; the path of the program."""
    source, program = Path(__file__).parent / "classify.c", folder / "classify"
    subprocess.run([compiler, "-O2", f"-I{folder}", "-o", program, source, folder / "digits.o", "-lm"], check=True)
    return program


def write_pictures(x, folder):
    """Each image as a PGM file; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, image in enumerate(x):
        pixels = (image[0] * 255).round().to(torch.uint8).numpy()
        paths.append(folder / f"{number:03}.pgm")
        paths[-1].write_bytes(b"P5 8 8 255\n" + pixels.tobytes())
    return paths


def ask(program, paths):
    """The answers and scores of the program in C."""
    lines = subprocess.run([program, *paths], check=True, capture_output=True, text=True).stdout.splitlines()
    answers = [int(line.split()[1]) for line in lines]
    return answers, np.array([line.split()[2:] for line in lines], np.float32)


def draw(x, answers, labels, path):
    """The digits, each with the answer of the program in C; wrong ones in red."""
    figure, axes = plt.subplots(3, 10, figsize=(10, 3.8), layout="constrained")
    for panel, image, answer, label in zip(axes.flat, x, answers, labels):
        panel.imshow(image[0].numpy(), cmap="gray")
        panel.set_title(f"C: {answer}", color="black" if answer == label else "red", fontsize=10)
        panel.set_axis_off()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--cpu", default="native", help="the processor to export for: native, generic, x86-64-v3, …")
    parser.add_argument("--out", type=Path, default=Path("runs/outside_python"))
    args = parser.parse_args(argv)
    compiler = native.c_compiler()
    if compiler is None:
        parser.error("there is no C compiler here (cc, gcc or clang)")

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 4 * 4, 10),
    )  # fmt: skip
    losses = train(model, args.epochs)
    model.eval()

    written = native.export(model, torch.zeros(1, 1, 8, 8), args.out, name="digits", cpu=args.cpu)
    program = build(args.out, compiler)
    print(f"{written.object} ({written.object.stat().st_size / 1024:.0f} KiB), {written.header}, {program}")

    x, y = images(train=False)
    x = (x * 255).round() / 255  # what a picture of 8 bits can hold
    answers, scores = ask(program, write_pictures(x, args.out / "pictures"))
    with torch.no_grad():
        expected = model(x).numpy()
    difference = float(np.abs(scores - expected).max())
    accuracy = float(np.mean(np.array(answers) == y.numpy()))
    print(f"{accuracy:.1%} of {len(x)} held-out digits right; scores differ from Python's by at most {difference:.1e}")
    draw(x, answers, y.tolist(), args.out / "answers.png")
    return {"losses": losses, "accuracy": accuracy, "difference": difference, "program": program}


if __name__ == "__main__":
    main()
