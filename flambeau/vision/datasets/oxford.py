"""The data sets of Oxford's Visual Geometry Group: pets and flowers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flambeau.vision.datasets.folder import default_loader, pil_loader
from flambeau.vision.datasets.matlab import loadmat
from flambeau.vision.datasets.utils import check_integrity, download_and_extract_archive, download_url, verify_str_arg
from flambeau.vision.datasets.vision import VisionDataset

__all__ = ["Flowers102", "OxfordIIITPet"]


class OxfordIIITPet(VisionDataset):
    """Cats and dogs of 37 breeds, with outlines (Parkhi et al. 2012); files in `root/oxford-iiit-pet/`.

    Args:
        root: the folder of data sets.
        split: "trainval" or "test".
        target_types: "category" (0 to 36), "binary-category" (0 cat, 1 dog), "segmentation" (a PIL image: 1 the animal,
            2 background, 3 border), or a sequence of them, which makes the target a tuple; None for an empty one.
        transforms, or transform and target_transform: what to make of image and target.
        download: fetch and unpack the archives if they are not there.

    Attributes: `classes`, `class_to_idx`, `bin_classes`, `bin_class_to_idx`.
    """

    _RESOURCES = (
        ("https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz", "5c4f3ee8e5d25df40f4fd59a7f44e54c"),
        ("https://www.robots.ox.ac.uk/~vgg/data/pets/data/annotations.tar.gz", "95a8c909bbe2e81eed6a22bccdf3f68f"),
    )
    _VALID_TARGET_TYPES = ("category", "binary-category", "segmentation")

    def __init__(
        self,
        root: str | Path,
        split: str = "trainval",
        target_types: Sequence[str] | str = "category",
        transforms: Callable | None = None,
        transform: Callable | None = None,
        target_transform: Callable | None = None,
        download: bool = False,
    ):
        self._split = verify_str_arg(split, "split", ("trainval", "test"))
        kinds = [target_types] if isinstance(target_types, str) else target_types
        self._target_types = [verify_str_arg(kind, "target_types", self._VALID_TARGET_TYPES) for kind in kinds]
        super().__init__(root, transforms, transform, target_transform)
        folder = Path(self.root) / "oxford-iiit-pet"
        images, annotations = folder / "images", folder / "annotations"
        there = images.is_dir() and annotations.is_dir()
        if download and not there:
            for url, md5 in self._RESOURCES:
                download_and_extract_archive(url, folder, md5=md5)
        elif not there:
            raise RuntimeError(f"Dataset not found: {folder}. You can use download=True to download it")

        # A line is: name, breed from 1, cat or dog from 1, number within the kind.
        lines = (annotations / f"{split}.txt").read_text(encoding="utf-8").splitlines()
        fields = [line.split() for line in lines if line.strip() and not line.startswith("#")]
        names = [field[0] for field in fields]
        self._labels = [int(field[1]) - 1 for field in fields]
        self._bin_labels = [int(field[2]) - 1 for field in fields]
        breeds = {label: name.rsplit("_", 1)[0] for name, label in zip(names, self._labels, strict=True)}
        self.classes = [breeds[label].replace("_", " ").title() for label in sorted(breeds)]
        self.class_to_idx = {name: index for index, name in enumerate(self.classes)}
        self.bin_classes = ["Cat", "Dog"]
        self.bin_class_to_idx = {name: index for index, name in enumerate(self.bin_classes)}
        self._images = [images / f"{name}.jpg" for name in names]
        self._segs = [annotations / "trimaps" / f"{name}.png" for name in names]

    def _target(self, kind: str, index: int) -> Any:
        if kind == "category":
            return self._labels[index]
        if kind == "binary-category":
            return self._bin_labels[index]
        from PIL import Image

        with Image.open(self._segs[index]) as image:
            image.load()
            return image.copy()

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """The image (RGB) and its target, transformed."""
        image = pil_loader(self._images[index])
        found = [self._target(kind, index) for kind in self._target_types]
        target = None if not found else found[0] if len(found) == 1 else tuple(found)
        return self.transforms(image, target) if self.transforms is not None else (image, target)

    def __len__(self) -> int:
        return len(self._images)


class Flowers102(VisionDataset):
    """Flowers of 102 kinds (Nilsback and Zisserman 2008); files in `root/flowers-102/`. Needs SciPy.

    Args:
        root: the folder of data sets.
        split: "train", "val" or "test".
        transform, target_transform: what to make of the PIL image (RGB) and of the class (0 to 101).
        download: fetch and unpack the files if they are not there.
        loader: reads an image from its path.

    Attribute `classes`: the names of the kinds.
    """

    classes = (Path(__file__).parent / "data" / "flowers102.txt").read_text(encoding="utf-8").splitlines()

    _download_url_prefix = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
    _file_dict = {
        "image": ("102flowers.tgz", "52808999861908f626f3c1f4e79d11fa"),
        "label": ("imagelabels.mat", "e0620be6f572b9609742df49c70aed4d"),
        "setid": ("setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c"),
    }
    _splits_map = {"train": "trnid", "val": "valid", "test": "tstid"}

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        transform: Callable | None = None,
        target_transform: Callable | None = None,
        download: bool = False,
        loader: Callable[[Any], Any] = default_loader,
    ):
        super().__init__(root, transform=transform, target_transform=target_transform)
        self.loader = loader
        self._split = verify_str_arg(split, "split", self._splits_map)
        self._folder = Path(self.root) / "flowers-102"
        if download:
            self.download()
        if not self._complete():
            raise RuntimeError(
                f"Dataset not found or corrupted: {self._folder}. You can use download=True to download it"
            )
        numbers = loadmat(self._folder / self._file_dict["setid"][0])[self._splits_map[split]].reshape(-1).tolist()
        labels = loadmat(self._folder / self._file_dict["label"][0])["labels"].reshape(-1)
        # Images and classes are numbered from 1 in the files.
        self._labels = [int(labels[number - 1]) - 1 for number in numbers]
        self._image_files = [self._folder / "jpg" / f"image_{number:05d}.jpg" for number in numbers]

    def _complete(self) -> bool:
        sums = (self._file_dict[name] for name in ("label", "setid"))
        return (self._folder / "jpg").is_dir() and all(check_integrity(self._folder / name, md5) for name, md5 in sums)

    def download(self) -> None:
        """Fetch and unpack the files, unless they are there."""
        if self._complete():
            return
        archive, md5 = self._file_dict["image"]
        download_and_extract_archive(self._download_url_prefix + archive, self._folder, md5=md5)
        for name in ("label", "setid"):
            file, md5 = self._file_dict[name]
            download_url(self._download_url_prefix + file, self._folder, md5=md5)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """The image (RGB) and its class, transformed."""
        return self._transformed(self.loader(self._image_files[index]), self._labels[index])

    def __len__(self) -> int:
        return len(self._image_files)

    def extra_repr(self) -> str:
        """Which part of the data set it is."""
        return f"split={self._split}"
