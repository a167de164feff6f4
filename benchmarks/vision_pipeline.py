"""Photographs through a DataLoader: decode, resize, crop and normalise, against the same pipeline on PyTorch.

    python benchmarks/vision_pipeline.py FOLDER [--python PATH] [--workers 0 2] [--turns 5]

FOLDER is an ImageFolder of JPEG files. Each side runs in a process of its own (PyTorch's in `--python`, if the packages
are elsewhere) and reads the whole folder once a turn, the sides in turns; the medians and the ratio are printed. With
torchvision the other side is torchvision's ImageFolder and transforms; without it, the same steps through Pillow.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def flambeau_loader(folder, workers, augment):
    """Batches by flambeau alone."""
    import flambeau as torch
    from flambeau.vision import datasets
    from flambeau.vision import transforms as t

    return torch.utils.data.DataLoader(datasets.ImageFolder(folder, steps(t, augment)), **options(workers))


def torch_loader(folder, workers, augment):
    """Batches by torchvision, or by Pillow and PyTorch where it is not installed."""
    import torch

    torch.set_num_threads(1)  # more do not help on single images, and wait for each other on a busy machine
    try:
        from torchvision import datasets
        from torchvision import transforms as t
    except ImportError:
        data = Folder(folder)
    else:
        data = datasets.ImageFolder(folder, steps(t, augment))
    return torch.utils.data.DataLoader(data, **options(workers))


def options(workers):
    """Arguments of either DataLoader."""
    return {"batch_size": 16, "num_workers": workers, "persistent_workers": workers > 0}


def steps(t, augment):
    """The usual preparation for evaluation, or with `augment` for training."""
    size = [t.RandomResizedCrop(224), t.RandomHorizontalFlip()] if augment else [t.Resize(256), t.CenterCrop(224)]
    return t.Compose([*size, t.ToTensor(), t.Normalize(MEAN, STD)])


class Folder:
    """An ImageFolder and its preparation, written with Pillow, NumPy and PyTorch."""

    def __init__(self, folder):
        self.files = sorted(Path(folder).glob("*/*.jpg"))
        self.classes = sorted({file.parent.name for file in self.files})

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        import numpy as np
        import torch
        from PIL import Image

        file = self.files[index]
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        width, height = image.size
        short = min(width, height)
        image = image.resize((256 * width // short, 256 * height // short), Image.Resampling.BILINEAR)
        left, top = round((image.width - 224) / 2), round((image.height - 224) / 2)
        pixels = np.asarray(image.crop((left, top, left + 224, top + 224)))
        tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous().float().div(255)
        mean, std = torch.tensor(MEAN), torch.tensor(STD)
        return (tensor - mean[:, None, None]) / std[:, None, None], self.classes.index(file.parent.name)


def serve(side, folder, workers, augment):
    """Read the folder once for every line of input; answer with seconds, images and a checksum."""
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this folder's profile.py would hide Python's
    loader = (flambeau_loader if side == "flambeau" else torch_loader)(folder, workers, augment)
    seed = sys.modules["flambeau" if side == "flambeau" else "torch"].manual_seed
    for _ in sys.stdin:
        seed(0)  # both sides then draw the same crops
        start, images, total = time.perf_counter(), 0, 0.0
        for x, _ in loader:
            images += len(x)
            total += float(x[0, 0, 0, 0])
        print(json.dumps([time.perf_counter() - start, images, total]), flush=True)


def compare(arguments, workers):
    """One line of the table."""
    sides = {}
    for side, python in (("flambeau", sys.executable), ("pytorch", arguments.python)):
        command = [python, __file__, arguments.folder, "--serve", side, "--workers", str(workers)]
        command += ["--augment"] * arguments.augment
        sides[side] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    seconds = {side: [] for side in sides}
    sums = {}
    for turn in range(arguments.turns + 1):
        for side, process in sides.items():
            process.stdin.write("go\n")
            process.stdin.flush()
            took, images, sums[side] = json.loads(process.stdout.readline())
            if turn:  # the first warms up
                seconds[side].append(took)
    for process in sides.values():
        process.stdin.close()
        process.wait()
    ours, theirs = (statistics.median(seconds[side]) for side in sides)
    agree = "the same pixels" if abs(sums["flambeau"] - sums["pytorch"]) < 1e-3 * images else "other pixels"
    print(
        f"{workers} workers: flambeau {ours:.3f} s ({images / ours:.0f} images/s), PyTorch {theirs:.3f} s "
        f"({images / theirs:.0f} images/s), {theirs / ours:.2f}× as fast; {agree}", flush=True,
    )


def main():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has PyTorch and torchvision")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--augment", action="store_true", help="random crops and flips")
    parser.add_argument("--serve", choices=("flambeau", "pytorch"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.folder, arguments.workers[0], arguments.augment)
        return
    for workers in arguments.workers:
        compare(arguments, workers)


if __name__ == "__main__":
    main()
