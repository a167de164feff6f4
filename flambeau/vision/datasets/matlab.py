"""Data sets in MATLAB's files, which SciPy reads: SVHN."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from flambeau.vision.datasets.utils import check_integrity, download_url, verify_str_arg
from flambeau.vision.datasets.vision import VisionDataset

__all__ = ["SVHN", "loadmat"]


def loadmat(path: str | Path) -> dict[str, Any]:
    """The variables in a MATLAB file. Raises ImportError, saying what to install, where SciPy is missing."""
    try:
        from scipy.io import loadmat as read
    except ImportError as error:
        raise ImportError(f"reading {path} needs SciPy: pip install scipy") from error
    return read(path)


class SVHN(VisionDataset):
    """Street View house numbers: 32×32 photographs of digits (Netzer et al. 2011). Needs SciPy.

    Args:
        root: the folder that holds the .mat files.
        split: "train", "test" or "extra".
        transform, target_transform: what to make of the PIL image (RGB) and of the digit.
        download: fetch the file if it is not there.

    Attributes: `data` uint8 array (N, 3, 32, 32), `labels` int64 array (N,).
    Raises: RuntimeError if the file is not there or has another MD5 sum.
    """

    split_list = {
        "train": [
            "http://ufldl.stanford.edu/housenumbers/train_32x32.mat",
            "train_32x32.mat",
            "e26dedcc434d2e4c54c9b2d4a06d8373",
        ],
        "test": [
            "http://ufldl.stanford.edu/housenumbers/test_32x32.mat",
            "test_32x32.mat",
            "eb5a983be6a315427106f1b164d9cef3",
        ],
        "extra": [
            "http://ufldl.stanford.edu/housenumbers/extra_32x32.mat",
            "extra_32x32.mat",
            "a93ce644f1a588dc4d68dda5feec44a7",
        ],
    }

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        transform: Callable | None = None,
        target_transform: Callable | None = None,
        download: bool = False,
    ):
        super().__init__(root, transform=transform, target_transform=target_transform)
        self.split = verify_str_arg(split, "split", self.split_list)
        self.url, self.filename, self.file_md5 = self.split_list[split]
        if download:
            self.download()
        path = os.path.join(self.root, self.filename)
        if not check_integrity(path, self.file_md5):
            raise RuntimeError(f"Dataset not found or corrupted: {path}. You can use download=True to download it")
        stored = loadmat(path)
        self.labels = stored["y"].astype(np.int64).reshape(-1) % 10  # the file calls the digit 0 ten
        self.data = stored["X"].transpose(3, 2, 0, 1)  # from (32, 32, 3, N)

    def download(self) -> None:
        """Fetch the split's file, unless it is there."""
        download_url(self.url, self.root, self.filename, self.file_md5)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """The image (RGB) and its digit, transformed."""
        from PIL import Image

        image = Image.fromarray(np.ascontiguousarray(self.data[index].transpose(1, 2, 0)))
        return self._transformed(image, int(self.labels[index]))

    def __len__(self) -> int:
        return len(self.data)

    def extra_repr(self) -> str:
        """Which part of the data set it is."""
        return f"Split: {self.split.capitalize()}"
