"""STL-10: photographs of 96×96, most of them without a label."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from flambeau.vision.datasets.utils import check_integrity, download_and_extract_archive, verify_str_arg
from flambeau.vision.datasets.vision import VisionDataset

__all__ = ["STL10"]


class STL10(VisionDataset):
    """13,000 photographs of 96×96 in ten classes and 100,000 without a class (Coates et al. 2011).

    Args:
        root: the folder that holds `stl10_binary/`.
        split: "train", "test", "unlabeled" or "train+unlabeled"; the class of an unlabelled image is -1.
        folds: 0 to 9 takes that one of the ten official folds of 1,000 training images; None takes all 5,000.
        transform, target_transform: what to make of the PIL image (RGB) and of the class.
        download: fetch and unpack the archive if the files are not there.

    Attributes: `data` uint8 array (N, 3, 96, 96), `labels` array (N,), `classes`.
    Raises: RuntimeError if a file is not there or has another MD5 sum; ValueError for unknown splits and folds.
    """

    base_folder = "stl10_binary"
    url = "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz"
    filename = "stl10_binary.tar.gz"
    tgz_md5 = "91f7769df0f17e558f3565bffb0c7dfb"
    class_names_file = "class_names.txt"
    folds_list_file = "fold_indices.txt"
    train_list = [
        ["train_X.bin", "918c2871b30a85fa023e0c44e0bee87f"],
        ["train_y.bin", "5a34089d4802c674881badbb80307741"],
        ["unlabeled_X.bin", "5242ba1fed5e4be9e1e742405eb56ca4"],
    ]
    test_list = [["test_X.bin", "7f263ba9f9e0b06b93213547f721ac82"], ["test_y.bin", "36f9794fa4beb8a2c72628de14fa638e"]]
    splits = ("train", "train+unlabeled", "unlabeled", "test")

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        folds: int | None = None,
        transform: Callable | None = None,
        target_transform: Callable | None = None,
        download: bool = False,
    ):
        super().__init__(root, transform=transform, target_transform=target_transform)
        self.split = verify_str_arg(split, "split", self.splits)
        if folds is not None and folds not in range(10):
            raise ValueError(f"Value for argument folds should be in the range [0, 10), but got {folds}.")
        self.folds = folds
        if download:
            self.download()
        if broken := self._broken():
            raise RuntimeError(
                f"Dataset not found or corrupted: {', '.join(broken)}. You can use download=True to download it"
            )
        parts = [self._read_part(part) for part in split.split("+")]
        self.data = np.concatenate([images for images, _ in parts])
        self.labels = np.concatenate([labels for _, labels in parts])
        names = self._path(self.class_names_file)
        if os.path.isfile(names):
            self.classes = Path(names).read_text(encoding="utf-8").splitlines()

    def _path(self, name: str) -> str:
        return os.path.join(self.root, self.base_folder, name)

    def _broken(self) -> list[str]:
        """Paths of the files that are not there or have another sum."""
        wanted = [*self.train_list, *self.test_list]
        return [self._path(name) for name, md5 in wanted if not check_integrity(self._path(name), md5)]

    def _read_part(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels of one part; of the training part perhaps one fold."""
        files = {"train": self.train_list[:2], "test": self.test_list, "unlabeled": self.train_list[2:]}[part]
        images = np.fromfile(self._path(files[0][0]), np.uint8).reshape(-1, 3, 96, 96)
        images = images.transpose(0, 1, 3, 2)  # stored column by column
        if part == "unlabeled":
            return images, np.full(len(images), -1)
        labels = np.fromfile(self._path(files[1][0]), np.uint8).astype(np.int64) - 1  # stored from 1
        if part == "train" and self.folds is not None:
            lines = Path(self._path(self.folds_list_file)).read_text(encoding="utf-8").splitlines()
            chosen = np.array(lines[self.folds].split(), np.int64)
            return images[chosen], labels[chosen]
        return images, labels

    def download(self) -> None:
        """Fetch and unpack the archive, unless all files are there."""
        if self._broken():
            download_and_extract_archive(self.url, self.root, filename=self.filename, md5=self.tgz_md5)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """The image (RGB) and its class, transformed."""
        from PIL import Image

        image = Image.fromarray(np.ascontiguousarray(self.data[index].transpose(1, 2, 0)))
        return self._transformed(image, int(self.labels[index]))

    def __len__(self) -> int:
        return len(self.data)

    def extra_repr(self) -> str:
        """Which part of the data set it is."""
        return f"Split: {self.split}"
