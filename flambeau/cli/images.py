"""From any picture of one digit to the 8×8 pixels that the network reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

SIZE = 8
INK = 0.2  # what is darker than this share of the darkest ink belongs to the digit


class NotAnImage(Exception):
    """The file cannot be read as an image; the message says why."""


def read_digit(path: Path) -> np.ndarray:
    """The digit in a picture as float32 (8, 8), 0 paper and 1 ink.

    A picture of 8×8 is taken as it is. A larger one is cut to the ink, made square, and shrunk by averaging areas,
    which is how the digits of the data set were made from scans. Bright ink on dark paper is read too.
    """
    if not path.is_file():
        raise NotAnImage(f"no image at {path}")
    try:
        with Image.open(path) as image:
            # What is transparent shows white paper.
            paper = Image.new("RGBA", image.size, "white")
            grey = Image.alpha_composite(paper, image.convert("RGBA")).convert("L")
    except (UnidentifiedImageError, OSError) as error:
        raise NotAnImage(f"{path} is not an image that can be read: {error}") from error
    ink = _ink(np.asarray(grey, dtype=np.float32) / 255)
    return ink if ink.shape == (SIZE, SIZE) else _shrink(_square(_cut(ink)))


def _ink(grey: np.ndarray) -> np.ndarray:
    """Ink as 1 on paper as 0: the border tells which brightness is paper."""
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    return 1 - grey if np.median(border) > 0.5 else grey


def _cut(ink: np.ndarray) -> np.ndarray:
    """The rectangle around the ink, paper set to 0 and the darkest ink to 1. A blank page stays whole."""
    ink = np.clip(ink - np.median(np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]])), 0, None)
    if ink.max() == 0:
        return ink
    ink = ink / ink.max()
    rows, columns = (np.flatnonzero((ink > INK).any(axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _square(ink: np.ndarray) -> np.ndarray:
    """Paper added at both sides of the shorter direction."""
    height, width = ink.shape
    spare = (max(height, width) - np.array([height, width])) / 2
    return np.pad(ink, [(int(np.floor(s)), int(np.ceil(s))) for s in spare])


def _shrink(ink: np.ndarray) -> np.ndarray:
    """Mean over the part of the picture that each of the 8×8 pixels covers."""
    return np.array(Image.fromarray(ink).resize((SIZE, SIZE), Image.Resampling.BOX))
