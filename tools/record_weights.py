"""Write down what torchvision knows of its trained weights: run where torchvision is installed.

    python tools/record_weights.py

makes `flambeau/vision/models/data/weights.json` (file, input sizes, counts and published scores of each set of
weights) and `imagenet_classes.txt` (the names of the 1000 classes in order).
"""

import json
import math
from pathlib import Path

import torchvision
from torchvision import models

FOLDER = Path(__file__).parents[1] / "flambeau" / "vision" / "models" / "data"
ADDRESS = "https://download.pytorch.org/models/"
USUAL = {"resize_size": 256, "interpolation": "bilinear"}


def facts(weights):
    """One set of weights as a dict of plain values; settings that are the usual ones are left out."""
    assert weights.url.startswith(ADDRESS), weights.url
    meta, settings = weights.meta, dict(weights.transforms.keywords)
    if "interpolation" in settings:
        settings["interpolation"] = settings["interpolation"].value
    settings = {key: value for key, value in settings.items() if USUAL.get(key) != value}
    (scores,) = meta["_metrics"].values()
    found = {
        "file": weights.url.removeprefix(ADDRESS), **settings,
        "num_params": meta["num_params"], "min_size": meta["min_size"], "recipe": meta["recipe"],
        "license": meta.get("license"),
        **{key: None if math.isnan(value) else value for key, value in scores.items()},
        "ops": meta["_ops"], "file_size": meta["_file_size"],
    }
    if meta["categories"] is None:
        found["features_only"] = True
    return {key: value for key, value in found.items() if value is not None}


def main():
    """Write both files."""
    table, classes = {}, None
    for name in models.list_models(models):
        enum = models.get_model_weights(name)
        table[enum.__name__] = {weights.name: facts(weights) for weights in enum}
        table[enum.__name__]["DEFAULT"] = enum.DEFAULT.name
        classes = enum.DEFAULT.meta["categories"]
    lines = [f'  "{name}": {{\n' + ",\n".join(
        f'    "{member}": {json.dumps(value)}' for member, value in members.items()) + "\n  }"
        for name, members in sorted(table.items())]
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "weights.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    (FOLDER / "imagenet_classes.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")
    print(f"{len(table)} families from torchvision {torchvision.__version__}")


if __name__ == "__main__":
    main()
