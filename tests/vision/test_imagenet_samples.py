"""Reading, resizing, cropping and normalising real photographs gives what torchvision recorded for them."""

import json
from pathlib import Path

import numpy as np
import pytest

from flambeau.vision import transforms as T
from flambeau.vision.datasets.folder import pil_loader

pytest.importorskip("PIL")
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
RECORDED = SHARED / "imagenet_expected.json"


@pytest.mark.skipif(not RECORDED.is_file(), reason="the recorded photographs are not there")
def test_inputs_of_networks_equal_those_recorded():
    normalize = T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    prepare = T.Compose([T.Resize(256), T.CenterCrop(224), T.ToTensor(), normalize])
    images = json.loads(RECORDED.read_text(encoding="utf-8"))["images"]
    for record in images:
        image = pil_loader(SHARED / record["file"])
        assert image.size == (record["width"], record["height"])
        levels = np.asarray(image, np.float64).reshape(-1, 3).mean(0)
        if not np.allclose(levels, record["rgb_mean"], atol=1e-4):
            pytest.skip("this JPEG decoder rounds differently from the one of the record")
        # Where the crop begins, seen from its pixels.
        left, top = record["crop_left_top"]
        corner = image.crop((left, top, left + 224, top + 224))
        assert np.array_equal(np.asarray(T.CenterCrop(224)(image)), np.asarray(corner)), record["file"]
        x = prepare(image)
        assert tuple(x.shape) == (3, 224, 224)
        assert abs(x.double().mean().item() - record["input_mean"]) < 2e-6, record["file"]
