"""Data sets in binary, text and MATLAB files, generated in the official layout."""

import numpy as np
import pytest

from flambeau.vision import datasets, transforms
from flambeau.vision.datasets.utils import calculate_md5

Image = pytest.importorskip("PIL.Image")
RNG = np.random.default_rng(0)


def test_stl10_parts_and_folds(tmp_path):
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    images = RNG.integers(0, 256, (6, 3, 96, 96)).astype(np.uint8)
    for name in ("train", "test", "unlabeled"):
        images.transpose(0, 1, 3, 2).tofile(folder / f"{name}_X.bin")
    for name in ("train", "test"):
        np.arange(1, 7, dtype=np.uint8).tofile(folder / f"{name}_y.bin")
    (folder / "fold_indices.txt").write_text("\n".join(f"{i % 6} {(i + 1) % 6}" for i in range(10)))
    (folder / "class_names.txt").write_text("airplane\nbird\n")
    with pytest.raises(RuntimeError, match=r"not found or corrupted: .*train_X.bin"):
        datasets.STL10(tmp_path)

    class Mine(datasets.STL10):
        train_list = [[name, None] for name, _ in datasets.STL10.train_list]
        test_list = [[name, None] for name, _ in datasets.STL10.test_list]

    data = Mine(tmp_path, transform=transforms.PILToTensor())
    assert len(data) == 6 and data.classes == ["airplane", "bird"]
    image, target = data[2]
    assert target == 2 and np.array_equal(image.numpy(), images[2])
    assert Mine(tmp_path, folds=4).labels.tolist() == [4, 5]
    assert Mine(tmp_path, "train+unlabeled").labels.tolist() == [0, 1, 2, 3, 4, 5, *[-1] * 6]
    assert len(Mine(tmp_path, "test")) == 6
    with pytest.raises(ValueError, match=r"range \[0, 10\), but got 10"):
        Mine(tmp_path, folds=10)
    with pytest.raises(ValueError, match="Unknown value 'all' for argument split"):
        Mine(tmp_path, "all")


def test_oxford_pets(tmp_path):
    with pytest.raises(RuntimeError, match=r"Dataset not found: .*download=True"):
        datasets.OxfordIIITPet(tmp_path)
    folder = tmp_path / "oxford-iiit-pet"
    (folder / "images").mkdir(parents=True)
    (folder / "annotations" / "trimaps").mkdir(parents=True)
    for number, name in enumerate(("Abyssinian_1", "great_pyrenees_7")):
        Image.new("RGB", (5, 4), (number, 0, 0)).save(folder / "images" / f"{name}.jpg")
        Image.new("L", (5, 4), number + 1).save(folder / "annotations" / "trimaps" / f"{name}.png")
    (folder / "annotations" / "trainval.txt").write_text("Abyssinian_1 1 1 1\ngreat_pyrenees_7 2 2 1\n")
    data = datasets.OxfordIIITPet(tmp_path, target_types=("category", "binary-category", "segmentation"))
    image, (category, kind, outline) = data[1]
    assert image.mode == "RGB" and (category, kind) == (1, 1) and outline.getpixel((0, 0)) == 2
    assert data.classes == ["Abyssinian", "Great Pyrenees"] and data.bin_class_to_idx == {"Cat": 0, "Dog": 1}
    assert datasets.OxfordIIITPet(tmp_path, target_transform=lambda y: y + 5)[0][1] == 5
    assert datasets.OxfordIIITPet(tmp_path, target_types=[])[0][1] is None


def test_flowers_are_numbered_from_zero(tmp_path):
    scipy_io = pytest.importorskip("scipy.io")
    folder = tmp_path / "flowers-102"
    (folder / "jpg").mkdir(parents=True)
    Image.new("RGB", (5, 4), (200, 0, 0)).save(folder / "jpg" / "image_00003.jpg")
    scipy_io.savemat(folder / "imagelabels.mat", {"labels": np.array([[5, 6, 102]], np.uint8)})
    scipy_io.savemat(folder / "setid.mat", {"trnid": [[3]], "valid": [[1]], "tstid": [[2]]})
    with pytest.raises(RuntimeError, match="not found or corrupted"):
        datasets.Flowers102(tmp_path)

    class Mine(datasets.Flowers102):
        _file_dict = {"label": ("imagelabels.mat", None), "setid": ("setid.mat", None)}

    data = Mine(tmp_path)
    image, target = data[0]
    assert len(data) == 1 and image.size == (5, 4) and target == 101
    assert "split=train" in repr(data)
    assert len(data.classes) == 102 and data.classes[0] == "pink primrose"
    assert Mine(tmp_path, loader=lambda path: path.name)[0] == ("image_00003.jpg", 101)


def test_svhn_calls_ten_zero(tmp_path):
    scipy_io = pytest.importorskip("scipy.io")
    images = RNG.integers(0, 256, (32, 32, 3, 4)).astype(np.uint8)
    path = tmp_path / "test_32x32.mat"
    scipy_io.savemat(path, {"X": images, "y": np.array([[1], [10], [9], [3]], np.uint8)})

    class Mine(datasets.SVHN):
        split_list = {"test": [path.as_uri(), path.name, calculate_md5(path)]}

    data = Mine(tmp_path, split="test")
    assert data.labels.tolist() == [1, 0, 9, 3]
    image, target = data[1]
    assert target == 0 and np.array_equal(np.asarray(image), images[..., 1])
    assert len(Mine(tmp_path / "fetched", split="test", download=True)) == 4
    with pytest.raises(RuntimeError, match=r"not found or corrupted: .*train_32x32.mat"):
        datasets.SVHN(tmp_path)
