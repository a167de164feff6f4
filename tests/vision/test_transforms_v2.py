"""The names of the second version of the transforms."""

import numpy as np
import pytest

import flambeau as torch
from flambeau import vision
from flambeau.vision import transforms
from flambeau.vision.transforms import v2

Image = pytest.importorskip("PIL.Image")


def test_the_usual_pipeline_equals_the_classic_one():
    levels = (np.arange(40 * 30 * 3) % 251).reshape(40, 30, 3).astype(np.uint8)
    image = Image.fromarray(levels)
    second = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)])
    first = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)])
    assert torch.equal(second(image), first(image)) and torch.equal(second(levels), first(image))
    assert v2.Resize is transforms.Resize and v2.InterpolationMode is transforms.InterpolationMode


def test_conversions():
    x = torch.tensor([[[0, 255]]], dtype=torch.uint8)
    assert v2.ToImage()(x) is x and v2.Identity()(x) is x and v2.ToPureTensor()(x) is x
    assert v2.ToDtype(torch.float32)(x).tolist() == [[[0.0, 255.0]]]
    assert tuple(v2.ToImage()(np.zeros((4, 5), np.uint8)).shape) == (1, 4, 5)
    assert v2.ToDtype(torch.float32)("label") == "label"
    with pytest.raises(TypeError, match="but got <class 'str'>"):
        v2.ToImage()("cat.jpg")


def test_functions_that_only_version_2_has():
    F = v2.functional
    levels = torch.arange(2 * 3 * 4, dtype=torch.uint8).reshape(2, 3, 4)
    image = Image.fromarray(np.zeros((3, 4), np.uint8))
    assert F.get_size(levels) == [3, 4] and F.get_num_channels(levels) == 2
    assert F.permute_channels(levels, [1, 0])[0].equal(levels[1]) and F.horizontal_flip(levels).equal(levels.flip(-1))
    with pytest.raises(ValueError, match="3 != 2"):
        F.permute_channels(levels, [0, 1, 2])
    assert F.grayscale_to_rgb(image).mode == "RGB" and F.grayscale_to_rgb(levels[:1]).shape == (3, 3, 4)
    assert F.to_dtype(levels, scale=True).max() == np.float32(23) / np.float32(255)
    with pytest.raises(ValueError, match="shouldn't be negative"):
        F.gaussian_noise(levels, sigma=-1)
    with pytest.raises(ValueError, match="not implemented for PIL"):
        F.gaussian_noise(image)
    noisy = F.gaussian_noise(levels, sigma=0.5)
    assert noisy.dtype == torch.uint8 and not noisy.equal(levels)
    assert F.jpeg(levels.expand(2, 2, 3, 4)[:, :1], 90).shape == (2, 1, 3, 4)


def test_names_of_the_package():
    assert vision.get_image_backend() == "PIL" and vision.set_image_backend("PIL") is None
    assert vision.disable_beta_transforms_warning() is None
    with pytest.raises(ValueError, match="Invalid backend 'accimage'"):
        vision.set_image_backend("accimage")
    with pytest.raises(AttributeError, match="no attribute 'prototype'"):
        vision.prototype  # noqa: B018


def test_defaults_that_change_nothing():
    x = torch.rand(3, 4, 4)
    assert v2.ColorJitter()(x) is x and v2.ColorJitter(brightness=None, hue=None)(x) is x
    assert v2.ConvertImageDtype()(torch.full((1, 1, 1), 255, dtype=torch.uint8)).item() == 1.0
    assert v2.Resize(2, interpolation="bicubic").interpolation is v2.InterpolationMode.BICUBIC


def test_compose_does_not_touch_what_it_was_given():
    """ToTensor and Normalize together work in one memory, but never in the image's or in a tensor that is kept."""
    image = Image.fromarray(np.full((2, 2, 3), 255, np.uint8))
    kept = []
    steps = [v2.ToTensor(), v2.Lambda(lambda t: kept.append(t) or t), v2.Normalize(0.5, 0.5)]
    assert v2.Compose(steps)(image).max() == 1.0 and kept[0].max() == 1.0 and kept[0].min() == 1.0
    together = v2.Compose([v2.ToTensor(), v2.Normalize([0.5] * 3, [0.25] * 3)])
    assert together(image).unique().tolist() == [2.0] and np.asarray(image).min() == 255
    assert v2.Compose([v2.ToTensor()])(image).shape == (3, 2, 2)
    watched = v2.Normalize(0.5, 0.5)
    watched.register_forward_hook(lambda module, args, out: kept.append(args[0]))
    v2.Compose([v2.ToTensor(), watched])(image)
    assert kept[-1].unique().tolist() == [1.0]
    with pytest.raises(RuntimeError, match="size of tensor"):
        v2.Compose([v2.ToTensor(), v2.Normalize([0.5] * 2, [0.5] * 2)])(image)
