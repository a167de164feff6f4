"""Draw a small set of pictures, for the examples that want a folder of images: shapes on a cloudy background.

The folder is what `ImageFolder` reads: train/CLASS/NNN.png, val/CLASS/NNN.png, and test/unlabelled/NNN.png, whose
classes are only in test/labels.csv. The same seed draws the same pictures.
"""

import csv
import math
import random
from pathlib import Path

from PIL import Image, ImageDraw

CORNERS = {"circle": 60, "square": 4, "star": 10, "triangle": 3}
SIZE = 64


def picture(shape, rng):
    """A shape of random colour, size, place and direction."""
    coarse = Image.frombytes("RGB", (8, 8), bytes(rng.randint(0, 110) for _ in range(8 * 8 * 3)))
    image = coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    colour = tuple(rng.randint(130, 255) for _ in range(3))
    radius = rng.uniform(13, 26)
    x, y = (rng.uniform(radius + 2, SIZE - radius - 2) for _ in range(2))
    turn, corners = rng.uniform(0, 2 * math.pi), CORNERS[shape]
    points = []
    for corner in range(corners):
        reach = radius * (0.45 if shape == "star" and corner % 2 else 1)
        angle = turn + 2 * math.pi * corner / corners
        points.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
    ImageDraw.Draw(image).polygon(points, fill=colour)
    return image


def draw_folder(root, train=80, val=30, test=30, seed=0):
    """Draw `train` and `val` pictures of each class and `test` without a label, unless the folder is there already."""
    root, rng = Path(root), random.Random(seed)
    if (root / "test" / "labels.csv").exists():
        return root
    for split, count in (("train", train), ("val", val)):
        for shape in CORNERS:
            folder = root / split / shape
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                picture(shape, rng).save(folder / f"{number:03}.png")
    folder = root / "test" / "unlabelled"
    folder.mkdir(parents=True, exist_ok=True)
    labels = [(f"{number:03}", rng.choice(list(CORNERS))) for number in range(test)]
    for name, shape in labels:
        picture(shape, rng).save(folder / f"{name}.png")
    with open(root / "test" / "labels.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "label"), *labels])
    return root
