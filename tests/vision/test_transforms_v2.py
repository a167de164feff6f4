"""The names of the second version of the transforms."""

import numpy as np
import pytest

import flambeau as torch
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
