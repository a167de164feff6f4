"""Data sets in the official formats: real MNIST files and photographs where they are, else generated ones."""

import gzip
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

import flambeau as torch
from flambeau.utils.data import DataLoader
from flambeau.vision import datasets, transforms
from flambeau.vision.datasets.folder import find_classes, make_dataset
from flambeau.vision.datasets.mnist import read_idx, read_image_file, read_label_file
from flambeau.vision.datasets.utils import calculate_md5

Image = pytest.importorskip("PIL.Image")
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def write_idx(path, values):
    code = {"u1": 8, "i4": 12, "f4": 13}[values.dtype.str[1:]]
    head = bytes([0, 0, code, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    data = head + values.astype(values.dtype.newbyteorder(">")).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_mnist(raw, part, n, suffix):
    images = (np.arange(n * 28 * 28) % 251).astype(np.uint8).reshape(n, 28, 28)
    write_idx(raw / f"{part}-images-idx3-ubyte{suffix}", images)
    write_idx(raw / f"{part}-labels-idx1-ubyte{suffix}", (np.arange(n) % 10).astype(np.uint8))
    return images


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("kind", [datasets.MNIST, datasets.FashionMNIST, datasets.KMNIST])
def test_idx_files_are_read_compressed_or_not(tmp_path, kind, suffix):
    images = write_mnist(tmp_path / kind.__name__ / "raw", "train", 12, suffix)
    data = kind(tmp_path, train=True, transform=transforms.ToTensor(), target_transform=lambda y: y + 100)
    assert data.data.dtype == torch.uint8 and np.array_equal(data.data.numpy(), images)
    assert data.targets.dtype == torch.int64 and data.targets.tolist() == [*range(10), 0, 1]
    image, target = data[3]
    assert tuple(image.shape) == (1, 28, 28) and target == 103
    assert len(data) == 12 and len(data.classes) == 10 and data.class_to_idx[data.classes[4]] == 4
    assert repr(data).splitlines()[:2] == [f"Dataset {kind.__name__}", "    Number of datapoints: 12"]
    assert "    Split: Train" in repr(data)
    with pytest.raises(RuntimeError, match=r"t10k-images-idx3-ubyte.*download=True"):
        kind(tmp_path, train=False)


def test_a_mnist_image_is_a_grey_pil_image(tmp_path):
    images = write_mnist(tmp_path / "MNIST" / "raw", "t10k", 3, "")
    image, target = datasets.MNIST(str(tmp_path), train=False)[1]
    assert image.mode == "L" and np.array_equal(np.asarray(image), images[1]) and target == 1
    data = datasets.MNIST(str(tmp_path), train=False)
    for old, new in (("test_labels", "targets"), ("train_data", "data")):
        with pytest.warns(UserWarning, match=f"{old} has been renamed {new}"):
            assert getattr(data, old) is getattr(data, new)


def test_emnist_reads_its_splits(tmp_path):
    write_mnist(tmp_path / "EMNIST" / "raw", "emnist-letters-train", 4, ".gz")
    data = datasets.EMNIST(tmp_path, split="letters")
    assert len(data) == 4 and data.classes[:3] == ["N/A", "a", "b"]
    assert len(datasets.EMNIST.classes_split_dict["balanced"]) == 47
    with pytest.raises(ValueError, match="Unknown value 'words' for argument split"):
        datasets.EMNIST(tmp_path, split="words")


def test_idx_keeps_dtypes_and_refuses_broken_files(tmp_path):
    for values in (np.arange(6, dtype=np.int32).reshape(2, 3), np.linspace(0, 1, 4, dtype=np.float32)):
        write_idx(tmp_path / "values", values)
        found = read_idx(tmp_path / "values")
        assert found.dtype == values.dtype and np.array_equal(found, values)
    with pytest.raises(ValueError, match="does not hold images"):
        read_image_file(tmp_path / "values")
    with pytest.raises(ValueError, match="does not hold labels"):
        read_label_file(tmp_path / "values")
    (tmp_path / "short").write_bytes((tmp_path / "values").read_bytes()[:-1])
    with pytest.raises(ValueError, match="cut off"):
        read_idx(tmp_path / "short")
    (tmp_path / "text").write_text("no digits")
    with pytest.raises(ValueError, match="not an IDX file"):
        read_idx(tmp_path / "text")


def test_class_attributes_can_be_overridden_and_files_fetched(tmp_path):
    source = tmp_path / "server"
    images = write_mnist(source, "train", 5, ".gz")
    write_mnist(source, "t10k", 2, ".gz")

    class Mine(datasets.MNIST):
        mirrors = [(tmp_path / "nowhere").as_uri() + "/", source.as_uri() + "/"]
        resources = [(path.name, calculate_md5(path)) for path in sorted(source.iterdir())]
        classes = list("abcdefghij")

    data = Mine(tmp_path, download=True)
    assert np.array_equal(data.data.numpy(), images) and data.class_to_idx["c"] == 2
    assert len(Mine(tmp_path, train=False)) == 2

    class Wrong(Mine):
        resources = [(name, "0" * 32) for name, _ in Mine.resources]

    with pytest.raises(RuntimeError, match="corrupted"):
        Wrong(tmp_path / "wrong", download=True)


def test_without_a_network_the_error_names_url_and_target(tmp_path):
    class Offline(datasets.MNIST):
        mirrors = [(tmp_path / "nowhere").as_uri() + "/"]

    with pytest.raises(RuntimeError, match=r"nowhere/train-images-idx3-ubyte.gz to .*Offline.raw"):
        Offline(tmp_path, download=True)


@pytest.mark.skipif(not (SHARED / "mnist").is_dir(), reason="the real MNIST test set is not there")
def test_the_real_mnist_test_set(tmp_path):
    (tmp_path / "MNIST").mkdir()
    os.symlink(SHARED / "mnist", tmp_path / "MNIST" / "raw")
    sums = dict(datasets.MNIST.resources)
    for file in (SHARED / "mnist").glob("*.gz"):
        assert calculate_md5(file) == sums[file.name]
    data = datasets.MNIST(tmp_path, train=False, transform=transforms.ToTensor())
    assert len(data) == 10000 and data.targets[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert torch.bincount(data.targets).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert abs(data.data.to(torch.float64).mean().item() / 255 - 0.1325) < 1e-4
    images, targets = next(iter(DataLoader(data, batch_size=32)))
    assert tuple(images.shape) == (32, 1, 28, 28) and targets[:3].tolist() == [7, 2, 1]


def write_cifar(root, kind, label_key, n=4):
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    entries = {}
    rng = np.random.default_rng(0)
    for name in [name for name, _ in (*kind.train_list, *kind.test_list)]:
        entries[name] = {"data": rng.integers(0, 256, (n, 3072)).astype(np.uint8), label_key: list(range(n))}
    entries[kind.meta["filename"]] = {kind.meta["key"]: [f"class {i}" for i in range(n)]}
    for name, entry in entries.items():
        (folder / name).write_bytes(pickle.dumps(entry, protocol=2))
    return entries


@pytest.mark.parametrize(
    ("base", "label_key"), [(datasets.CIFAR10, "labels"), (datasets.CIFAR100, "fine_labels")], ids=["10", "100"]
)
def test_cifar_batches(tmp_path, base, label_key):
    entries = write_cifar(tmp_path, base, label_key)
    with pytest.raises(RuntimeError, match=r"not found or corrupted: .*download=True"):
        base(tmp_path)  # sums of generated files are not the official ones

    class Mine(base):
        train_list = [[name, None] for name, _ in base.train_list]
        test_list = [[name, None] for name, _ in base.test_list]
        meta = {**base.meta, "md5": None}

    train, test = Mine(tmp_path), Mine(tmp_path, train=False, transform=transforms.PILToTensor())
    assert len(train) == 4 * len(base.train_list) and train.data.shape[1:] == (32, 32, 3)
    assert train.classes[1] == "class 1" and train.class_to_idx["class 2"] == 2
    image, target = test[1]
    stored = entries[base.test_list[0][0]]["data"][1].reshape(3, 32, 32)
    assert target == 1 and np.array_equal(image.numpy(), stored)
    assert train[0][0].mode == "RGB" and train[0][0].size == (32, 32)


def test_a_batch_that_would_run_code_is_refused(tmp_path):
    class Mine(datasets.CIFAR10):
        train_list, test_list = [["train", None]], []
        meta = {"filename": "meta", "key": "label_names", "md5": None}

    folder = tmp_path / Mine.base_folder
    folder.mkdir()
    (folder / "train").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    shutil.copy(folder / "train", folder / "meta")
    with pytest.raises(pickle.UnpicklingError, match=r"os\.system"):
        Mine(tmp_path)


@pytest.fixture
def folders(tmp_path):
    """Two classes of pictures, one in a folder below, and a file that is no picture."""
    for name, colour in (("bees/2.PNG", 200), ("bees/more/1.jpg", 100), ("ants/1.png", 50)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (6, 4), colour).save(tmp_path / name)
    (tmp_path / "ants" / "notes.txt").write_text("no picture")
    return tmp_path


def test_image_folder_lists_sorted_classes_and_samples(folders):
    data = datasets.ImageFolder(folders)
    assert data.classes == ["ants", "bees"] and data.class_to_idx == {"ants": 0, "bees": 1}
    names = [os.path.relpath(path, folders) for path, _ in data.samples]
    assert names == ["ants/1.png", "bees/2.PNG", "bees/more/1.jpg"]
    assert data.targets == [0, 1, 1] and data.imgs is data.samples and len(data) == 3
    image, target = data[1]
    assert image.mode == "RGB" and image.getpixel((0, 0)) == (200, 200, 200) and target == 1
    assert "StandardTransform" not in repr(data)
    data = datasets.ImageFolder(
        folders, transforms.ToTensor(), is_valid_file=lambda path: path.endswith(".jpg") or "ants" in path
    )
    assert len(data) == 3 and data.targets == [0, 0, 1]
    assert "    StandardTransform\n    Transform: ToTensor()" in repr(data)


def test_a_broken_image_is_reported_with_its_path(folders):
    good = folders / "ants" / "1.png"
    good.with_name("cut.png").write_bytes(good.read_bytes()[:-30])
    good.with_name("empty.png").write_bytes(b"")
    data = datasets.ImageFolder(folders)
    for index, name in ((1, "cut.png"), (2, "empty.png")):
        with pytest.raises(OSError, match=rf"cannot read the image .*{name}"):
            data[index]


def test_folder_errors(folders):
    (folders / "wasps").mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"Found no valid file for the classes wasps. Supported extensions are: .jpg"
    ):
        datasets.ImageFolder(folders)
    assert datasets.ImageFolder(folders, allow_empty=True).classes == ["ants", "bees", "wasps"]
    with pytest.raises(FileNotFoundError, match="Couldn't find any class folder"):
        find_classes(folders / "wasps")
    with pytest.raises(ValueError, match="cannot be None or not None at the same time"):
        make_dataset(folders, None)
    with pytest.raises(ValueError, match="Only transforms or transform"):
        datasets.VisionDataset(folders, transforms=print, transform=print)


def test_dataset_folder_takes_a_loader_of_arrays(tmp_path):
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a" / "x.npy", np.arange(3))
    data = datasets.DatasetFolder(tmp_path, loader=np.load, extensions=(".npy",))
    assert data[0][0].tolist() == [0, 1, 2] and data[0][1] == 0


@pytest.mark.skipif(not (SHARED / "ants_bees").is_dir(), reason="the photographs are not there")
def test_the_real_photographs_of_ants_and_bees():
    prepare = transforms.Compose([transforms.Resize(64), transforms.CenterCrop(56), transforms.ToTensor()])
    train = datasets.ImageFolder(SHARED / "ants_bees" / "train", prepare)
    val = datasets.ImageFolder(SHARED / "ants_bees" / "val", prepare)
    assert train.classes == ["ants", "bees"]
    assert np.bincount(train.targets).tolist() == [123, 121] and np.bincount(val.targets).tolist() == [70, 83]
    images, targets = next(iter(DataLoader(val, batch_size=4)))
    assert tuple(images.shape) == (4, 3, 56, 56) and targets.tolist() == [0] * 4
    assert 0 <= images.min().item() < images.max().item() <= 1


# The first values of PyTorch's randn and randint after manual_seed(7), through the bytes of the picture.
def test_fake_data_is_the_same_every_time():
    data = datasets.FakeData(size=5, image_size=(3, 4, 6), num_classes=3, random_offset=4)
    state = torch.get_rng_state()
    image, target = data[3]
    assert image.size == (6, 4) and image.mode == "RGB"
    assert torch.equal(torch.get_rng_state(), state)
    again, same = data[3]
    assert np.array_equal(np.asarray(image), np.asarray(again)) and target == same and 0 <= target < 3
    assert [47, 100, 229, 158, 214, 72] == np.asarray(image).transpose(2, 0, 1).reshape(-1)[:6].tolist() and target == 1
    with pytest.raises(IndexError):
        data[5]
    assert len(list(data)) == 5
