"""Operators and random transforms give what torchvision gave for the same inputs and seeds."""

import importlib.util
import json
import pathlib
import re

import numpy as np
import pytest

import flambeau as torch
from flambeau.vision import ops, transforms
from flambeau.vision.transforms import v2

pytest.importorskip("PIL")
HERE = pathlib.Path(__file__).parent
RECORDED = json.loads((HERE / "values.json").read_text(encoding="utf-8"))
spec = importlib.util.spec_from_file_location("vision_cases", HERE / "vision_cases.py")
cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cases)


def assert_recorded(name, values, atol):
    found, expected = cases.summary(values), RECORDED[name]
    assert found["shape"] == expected["shape"]
    assert abs(found["mean"] - expected["mean"]) <= max(atol / 4, 2e-5), (found, expected)
    np.testing.assert_allclose(found["some"], expected["some"], rtol=2e-5, atol=max(atol, 2e-5))


@pytest.fixture(scope="module")
def results():
    return cases.operators(torch, ops)


@pytest.mark.parametrize("name", [*cases.BOXES, *cases.LOSSES, *cases.REGIONS, "box_iou of centres", "deform_conv2d",
                                  "drop_block2d", "MultiScaleRoIAlign"])
def test_operators(results, name):
    assert_recorded(name, results[name].numpy(), 0)


@pytest.mark.parametrize("name", cases.TRANSFORMS)
def test_random_transforms_from_a_seed(name):
    values = cases.transformed(torch, transforms, v2, name)
    assert_recorded(name, values, 1 if values.dtype == np.uint8 else 0)  # pixels between pixels round either way


@pytest.mark.parametrize("name", ["MixUp", "CutMix"])
def test_batches_are_mixed(name):
    images, labels = cases.mixed(torch, v2, name)
    assert_recorded(name, images.numpy(), 0)
    assert_recorded(f"labels of {name}", labels.numpy(), 0)
    assert labels.sum(1).allclose(torch.ones(4))
    sample = getattr(v2, name)(num_classes=3, labels_getter=lambda sample: sample["y"])
    out = sample({"x": torch.rand(2, 3, 4, 4), "y": torch.tensor([0, 2]), "name": "kept"})
    assert out["y"].shape == (2, 3) and out["name"] == "kept"


@pytest.mark.parametrize("options, labels, message", [
    ({}, [0, 1], "num_classes must be passed"),
    ({"num_classes": 3}, [[[0]], [[1]]], "labels should be index based"),
    ({"num_classes": 3}, [[0.0, 1.0], [1.0, 0.0]], "do not match num_classes=3"),
    ({"num_classes": 3}, [0, 1, 2], "batch sizes of images and labels differ: 2 != 3"),
])
def test_mixing_refuses_what_does_not_fit(options, labels, message):
    with pytest.raises(ValueError, match=message):
        v2.MixUp(**options)(torch.rand(2, 3, 4, 4), torch.tensor(labels))
    with pytest.raises(ValueError, match="expected a batch of images with 4 dims"):
        v2.CutMix(num_classes=3)(torch.rand(3, 4, 4), torch.tensor([0, 1, 2]))


def test_gradients_of_operators():
    """By finite differences, in float64."""
    torch.manual_seed(0)
    x, weight = torch.randn(1, 2, 5, 5).double(), torch.randn(2, 2, 2, 2).double()
    offset, mask = (0.3 + 0.2 * torch.rand(1, 8, 4, 4)).double(), torch.rand(1, 4, 4, 4).double()
    rois = torch.tensor([[0, 0.4, 0.6, 3.2, 3.9], [0, 1.1, 0.2, 4.1, 2.7]]).double()
    inputs = [value.requires_grad_() for value in (x, offset, weight)]
    gradcheck = torch.autograd.gradcheck
    assert gradcheck(lambda x, o, w: ops.deform_conv2d(x, o, w, mask=mask), inputs)
    assert gradcheck(lambda x: ops.roi_pool(x, rois, 2), [x]) and gradcheck(lambda x: ops.roi_align(x, rois, 2), [x])


def test_layers_of_detectors():
    pyramid = ops.FeaturePyramidNetwork([2, 3], 4)
    maps = pyramid({"fine": torch.rand(1, 2, 8, 8), "coarse": torch.rand(1, 3, 4, 4)})
    assert {name: tuple(value.shape) for name, value in maps.items()} == {"fine": (1, 4, 8, 8), "coarse": (1, 4, 4, 4)}
    old = {re.sub(r"\.0\.(weight|bias)", r".\1", name): value for name, value in pyramid.state_dict().items()}
    assert "inner_blocks.1.weight" in old
    pyramid.load_state_dict(old)  # as files older than version 2 have it
    frozen = ops.FrozenBatchNorm2d(3)
    ordinary = torch.nn.BatchNorm2d(3)
    ordinary(torch.randn(4, 3, 5, 5))
    frozen.load_state_dict(ordinary.state_dict())
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(frozen(x), ordinary.eval()(x))
    assert not list(frozen.parameters()) and repr(frozen) == "FrozenBatchNorm2d(3, eps=1e-05)"
    block = ops.Conv2dNormActivation(3, 8, kernel_size=(3, 5), dilation=2)
    assert block[0].padding == (2, 4) and block(torch.rand(1, 3, 9, 9)).shape == (1, 8, 9, 9)
    volume = ops.Conv3dNormActivation(1, 2)
    assert isinstance(volume[1], torch.nn.BatchNorm3d)
    mlp = ops.MLP(3, [4, 5], norm_layer=torch.nn.LayerNorm, dropout=0.1)
    kinds = ["Linear", "LayerNorm", "ReLU", "Dropout", "Linear", "Dropout"]
    assert [type(layer).__name__ for layer in mlp] == kinds
    assert ops.Permute([0, 2, 1])(torch.zeros(2, 3, 4)).shape == (2, 4, 3)
    deformable = ops.DeformConv2d(2, 4, 3, padding=1)
    out = deformable(torch.rand(1, 2, 6, 6), torch.zeros(1, 18, 6, 6))
    plain = torch.nn.functional.conv2d
    x = torch.rand(1, 2, 6, 6)
    same = plain(x, deformable.weight, deformable.bias, padding=1)
    assert out.shape == (1, 4, 6, 6)
    torch.testing.assert_close(deformable(x, torch.zeros(1, 18, 6, 6)), same, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("call, error, message", [
    (lambda: ops.deform_conv2d(torch.zeros(1, 2, 5, 5), torch.zeros(1, 7, 4, 4), torch.zeros(2, 2, 2, 2)),
     RuntimeError, "offset tensor is not valid"),
    (lambda: ops.ps_roi_pool(torch.zeros(1, 5, 5, 5), torch.zeros(1, 5), 2), RuntimeError, "multiple of"),
    (lambda: ops.roi_pool(torch.zeros(1, 5, 5, 5), torch.zeros(1, 4), 2), ValueError, r"boxes should be \(K, 5\)"),
    (lambda: ops.drop_block2d(torch.zeros(1, 2, 5, 5), 0.5, 2), ValueError, "should be odd"),
    (lambda: ops.drop_block3d(torch.zeros(1, 2, 5, 5), 0.5, 3), ValueError, "should be 5 dimensional"),
    (lambda: ops.box_area(torch.zeros(1, 4), "yxyx"), ValueError, "Unsupported Box Area"),
    (lambda: ops.sigmoid_focal_loss(torch.zeros(1), torch.zeros(1), alpha=2), ValueError, "Invalid alpha"),
    (lambda: ops.generalized_box_iou_loss(torch.zeros(1, 4), torch.zeros(1, 4), reduction="max"), ValueError, "max"),
    (lambda: ops.FeaturePyramidNetwork([0], 4), ValueError, "in_channels=0"),
    (lambda: transforms.AugMix(severity=11), ValueError, "severity must be between"),
    (lambda: v2.JPEG(quality=(60, 20)), ValueError, "quality must be an integer from 1 to 100"),
    (lambda: v2.RandomZoomOut(side_range=(0.5, 2)), ValueError, "Invalid side range"),
    (lambda: v2.RandomChoice([v2.Identity()], p=[0.5, 0.5]), ValueError, "2 != 1"),
])
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_regions_of_no_boxes():
    x = torch.zeros(1, 8, 5, 5)
    for name in cases.REGIONS:
        channels = 2 if name.startswith("ps_") else 8
        assert getattr(ops, name)(x, torch.zeros(0, 5), 2).shape == (0, channels, 2, 2)
    assert ops.roi_align(x, [torch.zeros(0, 4)], 2).shape == (0, 8, 2, 2)
    settings = "output_size=3, spatial_scale=1.0, sampling_ratio=2, aligned=False"
    assert repr(ops.RoIAlign(3, 1.0, 2)) == f"RoIAlign({settings})"
