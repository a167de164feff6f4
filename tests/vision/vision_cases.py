"""Calls whose results are recorded from torchvision (record_values.py) and compared with ours (test_values.py).

Each function takes the array library (flambeau or torch) and its vision modules, so that both sides run the same code.
"""

import random

import numpy as np

BOXES = ("box_iou", "generalized_box_iou", "distance_box_iou", "complete_box_iou")
LOSSES = ("generalized_box_iou_loss", "distance_box_iou_loss", "complete_box_iou_loss")
REGIONS = {
    "roi_align": {"sampling_ratio": 2, "aligned": True}, "roi_pool": {}, "ps_roi_align": {"sampling_ratio": 2},
    "ps_roi_pool": {},
}
TRANSFORMS = {  # version, options; with "float" a float tensor, with "image" a PIL image, else a uint8 tensor
    "AugMix": (1, {}), "RandAugment": (1, {}), "TrivialAugmentWide": (1, {}),
    "ElasticTransform": (1, {"sigma": [1.0, 0.5]}),
    "RandomErasing": (1, {"p": 1, "value": "random"}, "float"), "RandomPerspective": (1, {"p": 1}),
    "GaussianNoise": (2, {}, "float"), "JPEG": (2, {"quality": (20, 60)}, "image"), "RandomChannelPermutation": (2, {}),
    "RandomPhotometricDistort": (2, {}), "RandomResize": (2, {"min_size": 8, "max_size": 20}, "image"),
    "RandomShortestSize": (2, {"min_size": [8, 10, 12], "max_size": 13}, "image"),
    "RandomZoomOut": (2, {"p": 1, "fill": [1, 2, 3]}), "ScaleJitter": (2, {"target_size": (20, 16)}, "image"),
    "RandomResizedCrop": (2, {"size": 7}, "image"), "RandomAffine": (2, {"degrees": 30, "translate": (0.1, 0.2)}),
    "ColorJitter": (2, {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.2}, "image"),
    "RandomAutocontrast": (2, {"p": 1}), "AutoAugment": (2, {}), "RandomRotation": (2, {"degrees": 30}),
}


def boxes(rng, n):
    found = rng.random((n, 4)).astype(np.float32) * 10
    found[:, 2:] += found[:, :2] + 1
    return found


def operators(torch, ops):
    """Name -> result of the operators on boxes and feature maps."""
    rng = np.random.default_rng(0)
    first, second = (torch.tensor(boxes(rng, n)) for n in (3, 4))
    results = {name: getattr(ops, name)(first, second) for name in BOXES}
    results |= {name: getattr(ops, name)(first, second[:3]) for name in LOSSES}
    results["box_iou of centres"] = ops.box_iou(first, second, fmt="cxcywh")
    x = torch.tensor(rng.standard_normal((2, 8, 9, 11)).astype(np.float32))
    corners = boxes(rng, 5)
    numbered = torch.tensor(np.concatenate([np.array([[0], [1], [1], [0], [1]], np.float32), corners], 1))
    results |= {name: getattr(ops, name)(x, numbered, (2, 2), 0.5, **more) for name, more in REGIONS.items()}
    offset = torch.tensor(rng.standard_normal((2, 2 * 2 * 4, 8, 10)).astype(np.float32))
    mask = torch.tensor(rng.random((2, 2 * 4, 8, 10)).astype(np.float32))
    weight = torch.tensor(rng.standard_normal((6, 4, 2, 2)).astype(np.float32))
    results["deform_conv2d"] = ops.deform_conv2d(x, offset, weight, mask=mask)
    torch.manual_seed(0)
    results["drop_block2d"] = ops.drop_block2d(x, 0.3, 3)
    pooler = ops.MultiScaleRoIAlign(["a", "b"], 2, 2)
    maps = {"a": torch.tensor(rng.standard_normal((1, 2, 64, 64)).astype(np.float32)),
            "b": torch.tensor(rng.standard_normal((1, 2, 32, 32)).astype(np.float32))}
    results["MultiScaleRoIAlign"] = pooler(maps, [torch.tensor(corners * 20)], [(256, 256)])
    return results


def transformed(torch, first, second, name):
    """A random transform of a small picture, from a seed."""
    from PIL import Image

    version, options, kind = (*TRANSFORMS[name], "bytes")[:3]
    pixels = np.random.default_rng(1).integers(0, 256, (14, 16, 3), np.uint8)
    picture = Image.fromarray(pixels) if kind == "image" else torch.tensor(pixels.transpose(2, 0, 1).copy())
    torch.manual_seed(4)
    random.seed(4)
    result = getattr((first, second)[version - 1], name)(**options)(picture / 255 if kind == "float" else picture)
    return np.asarray(result).transpose(2, 0, 1) if kind == "image" else result.numpy()


def mixed(torch, second, name):
    """A batch and its labels, mixed."""
    torch.manual_seed(2)
    images = torch.arange(4 * 3 * 6 * 5).reshape(4, 3, 6, 5).float() / 100
    return getattr(second, name)(num_classes=3, alpha=0.7)(images, torch.tensor([0, 1, 2, 1]))


def summary(values):
    """Shape, mean and some of the values."""
    flat = np.asarray(values, np.float64).reshape(-1)
    picked = flat[np.linspace(0, len(flat) - 1, 8).astype(int)]
    some = [round(value, 6) for value in picked]
    return {"shape": list(np.shape(values)), "mean": round(float(flat.mean()), 6), "some": some}
