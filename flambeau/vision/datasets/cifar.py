"""CIFAR-10 and CIFAR-100: small colour photographs in pickled batches."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from flambeau.vision.datasets.utils import check_integrity, download_and_extract_archive
from flambeau.vision.datasets.vision import VisionDataset

__all__ = ["CIFAR10", "CIFAR100"]

# All that the official batches are made of: arrays, lists, text and numbers.
ALLOWED = {
    ("_codecs", "encode"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
}


class _Batches(pickle.Unpickler):
    """Reads pickled arrays and refuses everything else, which could run code."""

    def find_class(self, module: str, name: str) -> Any:
        """The allowed class or function; UnpicklingError for any other."""
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"a batch of images has no use for {module}.{name}; the file is not loaded")
        return super().find_class(module, name)


def _read(path: str) -> dict[str, Any]:
    with open(path, "rb") as file:
        return _Batches(file, encoding="latin1").load()


class CIFAR10(VisionDataset):
    """60,000 photographs of 32×32 in ten classes: 50,000 to learn from, 10,000 to test on (Krizhevsky 2009).

    Args:
        root: the folder that holds `cifar-10-batches-py/`.
        train: the training set or the test set.
        transform, target_transform: what to make of the PIL image (RGB) and of the class.
        download: fetch and unpack the archive if the batches are not there.

    Attributes: `data` uint8 array (N, 32, 32, 3), `targets` list of int, `classes`, `class_to_idx`. The class
    attributes `train_list`, `test_list` (file, MD5), `meta`, `url`, `filename`, `tgz_md5` may be overridden.
    Raises: RuntimeError if a batch is not there or has another MD5 sum.
    """

    base_folder = "cifar-10-batches-py"
    url = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    filename = "cifar-10-python.tar.gz"
    tgz_md5 = "c58f30108f718f92721af3b95e74349a"
    train_list = [
        ["data_batch_1", "c99cafc152244af753f735de768cd75f"],
        ["data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"],
        ["data_batch_3", "54ebc095f3ab1f0389bbae665268c751"],
        ["data_batch_4", "634d18415352ddfa80567beed471001a"],
        ["data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"],
    ]
    test_list = [["test_batch", "40351d587109b95175f43aff81a1287e"]]
    meta = {"filename": "batches.meta", "key": "label_names", "md5": "5ff9c542aee3614f3951f8cda6e48888"}

    def __init__(
        self,
        root: str | Path,
        train: bool = True,
        transform: Callable | None = None,
        target_transform: Callable | None = None,
        download: bool = False,
    ):
        super().__init__(root, transform=transform, target_transform=target_transform)
        self.train = train
        if download:
            self.download()
        if broken := self._broken():
            raise RuntimeError(
                f"Dataset not found or corrupted: {', '.join(broken)}. You can use download=True to download it"
            )
        batches = [_read(self._path(name)) for name, _ in (self.train_list if train else self.test_list)]
        # Stored (N, 3 * 32 * 32), one colour after the other; images want the colours last.
        self.data: np.ndarray = np.vstack([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
        self.data = self.data.transpose(0, 2, 3, 1)
        self.targets: list[int] = []
        for batch in batches:
            self.targets += batch["labels"] if "labels" in batch else batch["fine_labels"]
        self.classes: list[str] = _read(self._path(self.meta["filename"]))[self.meta["key"]]
        self.class_to_idx = {name: index for index, name in enumerate(self.classes)}

    def _path(self, name: str) -> str:
        return os.path.join(self.root, self.base_folder, name)

    def _broken(self) -> list[str]:
        """Paths of the files that are not there or have another sum."""
        wanted = [*self.train_list, *self.test_list, (self.meta["filename"], self.meta["md5"])]
        return [self._path(name) for name, md5 in wanted if not check_integrity(self._path(name), md5)]

    def download(self) -> None:
        """Fetch and unpack the archive, unless all batches are there."""
        if self._broken():
            download_and_extract_archive(self.url, self.root, filename=self.filename, md5=self.tgz_md5)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """The image (RGB) and its class, transformed."""
        from PIL import Image

        return self._transformed(Image.fromarray(self.data[index]), self.targets[index])

    def __len__(self) -> int:
        return len(self.data)

    def extra_repr(self) -> str:
        """Which part of the data set it is."""
        return f"Split: {'Train' if self.train else 'Test'}"


class CIFAR100(CIFAR10):
    """60,000 photographs of 32×32 in a hundred classes; the folder is `cifar-100-python/`."""

    base_folder = "cifar-100-python"
    url = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
    filename = "cifar-100-python.tar.gz"
    tgz_md5 = "eb9058c3a382ffc7106e4002c42a8d85"
    train_list = [["train", "16019d7e3df5f24257cddd939b257f8d"]]
    test_list = [["test", "f0ef6b0ae62326f3e7ffdfab6717acfc"]]
    meta = {"filename": "meta", "key": "fine_label_names", "md5": "7973b15100ade9c7d40fb424638fde48"}
