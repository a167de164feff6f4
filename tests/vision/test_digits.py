"""The bundled digits: the values of the source, and a split that is fixed and fair."""

import hashlib

import numpy as np
import pytest

from flambeau.vision.datasets import Digits
from flambeau.vision.datasets.digits import BUNDLED, held_out

# Of the bytes of scikit-learn's load_digits(): images as uint8, then labels as uint8.
SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"


def test_bundled_values_are_those_of_the_source():
    with np.load(BUNDLED) as file:
        values = file["images"].tobytes() + file["labels"].tobytes()
    assert hashlib.sha256(values).hexdigest() == SHA256


def test_bundled_file_is_small_and_licensed():
    assert BUNDLED.stat().st_size <= 100_000
    assert "CC BY 4.0" in BUNDLED.with_name("digits.LICENSE.md").read_text(encoding="utf-8")


def test_shapes_dtypes_and_range():
    train, test = Digits(train=True), Digits(train=False)
    assert (len(train), len(test)) == (1442, 355)
    assert tuple(test.data.shape) == (355, 8, 8)
    assert str(test.data.dtype).endswith("uint8") and str(test.targets.dtype).endswith("int64")
    assert int(train.data.min()) == 0 and int(train.data.max()) == 16
    assert train.classes == tuple("0123456789")


def test_split_is_stratified_and_complete():
    train, test = Digits(train=True), Digits(train=False)
    shares = np.bincount(test.targets.numpy()) / np.bincount(train.targets.numpy())
    assert np.all(np.abs(shares - 0.25) < 0.01)
    with np.load(BUNDLED) as file:
        everything = np.sort(file["images"].reshape(-1, 64).view("V64").ravel())
    both = np.concatenate([train.data.numpy(), test.data.numpy()]).reshape(-1, 64)
    assert np.array_equal(np.sort(np.ascontiguousarray(both).view("V64").ravel()), everything)


def test_held_out_is_every_fifth_of_its_class():
    labels = np.array([0, 1] * 10)
    assert np.flatnonzero(held_out(labels)).tolist() == [8, 9, 18, 19]


def test_items_are_images_and_labels():
    image, target = Digits(train=False)[3]
    assert image.size == (8, 8) and image.mode == "L" and isinstance(target, int)
    assert image.getextrema()[0] == 0 and image.getextrema()[1] > 200


def test_transforms_are_applied():
    digits = Digits(transform=lambda image: image.size, target_transform=lambda target: -target)
    size, target = digits[1]
    assert size == (8, 8) and target == -int(digits.targets[1])


def test_root_reads_a_file_of_the_users_own(tmp_path):
    np.savez(tmp_path / "digits.npz", images=np.zeros((10, 8, 8), np.uint8), labels=np.zeros(10, np.uint8))
    assert len(Digits(root=tmp_path, train=False)) == 2
    with pytest.raises(FileNotFoundError):
        Digits(root=tmp_path / "nowhere")
