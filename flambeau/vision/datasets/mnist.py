"""MNIST and the data sets in its format: IDX files, compressed or not."""

from __future__ import annotations

import gzip
import math
import os
import string
import sys
import urllib.error
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import flambeau as torch
from flambeau.vision.datasets.utils import (
    check_integrity,
    download_and_extract_archive,
    download_url,
    extract_archive,
    verify_str_arg,
)
from flambeau.vision.datasets.vision import VisionDataset

__all__ = ["EMNIST", "FashionMNIST", "KMNIST", "MNIST", "read_image_file", "read_label_file", "read_idx"]

# The third byte of an IDX file says what its values are; they are big-endian.
IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | Path) -> np.ndarray:
    """The array in an IDX file, or in one compressed by gzip (told by its first bytes, not by its name).

    Raises: ValueError if it is no IDX file or holds fewer values than it says.
    Source: http://yann.lecun.com/exdb/mnist/, "the IDX file format".
    """
    with open(path, "rb") as file:
        data = file.read()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in IDX_DTYPES:
        raise ValueError(f"{path} is not an IDX file: it begins with {data[:4].hex(' ')}")
    start = 4 + 4 * data[3]
    shape = np.frombuffer(data[4:start], ">u4").tolist()
    dtype = np.dtype(IDX_DTYPES[data[2]])
    count = math.prod(shape)
    if len(shape) < data[3] or len(data) < start + count * dtype.itemsize:
        raise ValueError(f"{path} is cut off: its head says {shape}, but it holds {len(data) - start} bytes of values")
    values = np.frombuffer(data, dtype, count, start).reshape(shape)
    return values.astype(dtype.newbyteorder("="))


def read_image_file(path: str | Path):
    """The images (N, H, W) of an IDX file, as a uint8 tensor."""
    images = read_idx(path)
    if images.dtype != np.uint8 or images.ndim != 3:
        raise ValueError(f"{path} does not hold images: {images.dtype} {images.shape}")
    return torch.from_numpy(images)


def read_label_file(path: str | Path):
    """The labels (N,) of an IDX file, as an int64 tensor."""
    labels = read_idx(path)
    if labels.dtype != np.uint8 or labels.ndim != 1:
        raise ValueError(f"{path} does not hold labels: {labels.dtype} {labels.shape}")
    return torch.from_numpy(labels.astype(np.int64))


class MNIST(VisionDataset):
    """Handwritten digits, 28×28: 60,000 to learn from and 10,000 to test on.

    Args:
        root: the folder that holds `MNIST/raw/` with the IDX files, compressed (.gz) or not.
        train: the training set or the test set; only the two files of that one are needed.
        transform, target_transform: what to make of the PIL image (mode L) and of the label.
        download: fetch the files if they are not there.

    Attributes: `data` uint8 (N, 28, 28), `targets` int64 (N,), `classes`, `class_to_idx`. The class attributes
    `mirrors`, `resources` (file name, MD5) and `classes` may be overridden.
    Raises: RuntimeError if the files are neither there nor to be had.
    """

    mirrors = ["https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"]
    resources = [
        ("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
        ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
        ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
    ]
    classes = ["0 - zero", "1 - one", "2 - two", "3 - three", "4 - four", "5 - five", "6 - six", "7 - seven",
               "8 - eight", "9 - nine"]  # fmt: skip

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
        if not self._check_exists():
            raise RuntimeError(
                f"Dataset not found: {', '.join(self._files())} (or .gz) in {self.raw_folder}. "
                "You can use download=True to download it"
            )
        self.data, self.targets = self._load_data()

    @property
    def raw_folder(self) -> str:
        """Where the IDX files are: `root/CLASS/raw`."""
        return os.path.join(self.root, type(self).__name__, "raw")

    @property
    def class_to_idx(self) -> dict[str, int]:
        """The number of each class."""
        return {name: index for index, name in enumerate(self.classes)}

    def _renamed(self, old: str, new: str) -> Any:
        warnings.warn(f"{old} has been renamed {new}", stacklevel=3)
        return getattr(self, new)

    @property
    def train_labels(self) -> Any:
        """`targets`, by the name it had."""
        return self._renamed("train_labels", "targets")

    @property
    def test_labels(self) -> Any:
        """`targets`, by the name it had."""
        return self._renamed("test_labels", "targets")

    @property
    def train_data(self) -> Any:
        """`data`, by the name it had."""
        return self._renamed("train_data", "data")

    @property
    def test_data(self) -> Any:
        """`data`, by the name it had."""
        return self._renamed("test_data", "data")

    def _files(self) -> tuple[str, str]:
        """Names of the files of images and of labels."""
        part = "train" if self.train else "t10k"
        return f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"

    def _find(self, name: str) -> str | None:
        """Path of the file, compressed or not, or None."""
        path = os.path.join(self.raw_folder, name)
        return next((found for found in (path, path + ".gz") if check_integrity(found)), None)

    def _check_exists(self) -> bool:
        return all(self._find(name) is not None for name in self._files())

    def _load_data(self):
        images, labels = (self._find(name) for name in self._files())
        data, targets = read_image_file(images), read_label_file(labels)
        if len(data) != len(targets):
            raise ValueError(f"{images} has {len(data)} images, but {labels} has {len(targets)} labels")
        return data, targets

    def download(self) -> None:
        """Fetch the files that are not there, each from the first mirror that has it."""
        for filename, md5 in self.resources:
            if self._find(filename.removesuffix(".gz")) is None:
                self._download_one(filename, md5)

    def _download_one(self, filename: str, md5: str) -> None:
        failures = []
        for mirror in self.mirrors:
            try:
                download_and_extract_archive(mirror + filename, self.raw_folder, filename=filename, md5=md5)
                return
            except urllib.error.URLError as error:
                failures.append(str(error.reason))
                print(f"{error.reason} Trying the next mirror.", file=sys.stderr)
        raise RuntimeError(f"Error downloading {filename}: " + "; ".join(failures))

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """The image (mode L) and its label, transformed."""
        from PIL import Image

        return self._transformed(Image.fromarray(self.data[index].numpy()), int(self.targets[index]))

    def __len__(self) -> int:
        return len(self.data)

    def extra_repr(self) -> str:
        """Which part of the data set it is."""
        return f"Split: {'Train' if self.train else 'Test'}"


class FashionMNIST(MNIST):
    """Zalando's pictures of clothes in MNIST's format (Xiao et al. 2017); files in `root/FashionMNIST/raw/`."""

    mirrors = ["http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"]
    resources = [
        ("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
        ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
        ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
    ]
    classes = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


class KMNIST(MNIST):
    """Cursive Japanese characters in MNIST's format (Clanuwat et al. 2018); files in `root/KMNIST/raw/`."""

    mirrors = ["http://codh.rois.ac.jp/kmnist/dataset/kmnist/"]
    resources = [
        ("train-images-idx3-ubyte.gz", "bdb82020997e1d708af4cf47b453dcf7"),
        ("train-labels-idx1-ubyte.gz", "e144d726b3acfaa3e44228e80efcd344"),
        ("t10k-images-idx3-ubyte.gz", "5c965bf0a639b31b8f53240b1b52f4d7"),
        ("t10k-labels-idx1-ubyte.gz", "7320c461ea6c1c855c0b718fb2a4b134"),
    ]
    classes = ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"]


class EMNIST(MNIST):
    """Handwritten letters and digits (Cohen et al. 2017), in six splits; files in `root/EMNIST/raw/`.

    The images are stored transposed, and are given as they are stored.
    """

    url = "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip"
    md5 = "58c8d27c78d21e728a6bc7b3cc06412e"
    splits = ("byclass", "bymerge", "balanced", "letters", "digits", "mnist")
    # Small letters that look like their capitals share a class with them.
    merged = sorted({*string.digits, *string.ascii_letters} - set("cijklmopsuvwxyz"))
    classes_split_dict = {
        "byclass": sorted(string.digits + string.ascii_letters),
        "bymerge": merged,
        "balanced": merged,
        "letters": ["N/A", *string.ascii_lowercase],
        "digits": list(string.digits),
        "mnist": list(string.digits),
    }

    def __init__(self, root: str | Path, split: str, **kwargs: Any):
        self.split = verify_str_arg(split, "split", self.splits)
        super().__init__(root, **kwargs)
        self.classes = self.classes_split_dict[self.split]

    def _files(self) -> tuple[str, str]:
        part = f"emnist-{self.split}-{'train' if self.train else 'test'}"
        return f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"

    def download(self) -> None:
        """Fetch and unpack the archive of all splits, if this one's files are not there."""
        if self._check_exists():
            return
        download_url(self.url, self.raw_folder, md5=self.md5)
        extract_archive(os.path.join(self.raw_folder, os.path.basename(self.url)), self.raw_folder)
        for file in Path(self.raw_folder, "gzip").glob("*.gz"):
            os.replace(file, Path(self.raw_folder, file.name))
