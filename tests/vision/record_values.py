"""Write down results of torchvision's operators and transforms: run where torchvision and PyTorch are installed.

    python tests/vision/record_values.py

makes `values.json`.
"""

import json
from pathlib import Path

import torch
import vision_cases as cases
from torchvision import ops, transforms
from torchvision.transforms import v2


def main():
    """Write the file."""
    found = {name: cases.summary(value) for name, value in cases.operators(torch, ops).items()}
    for name in cases.TRANSFORMS:
        found[name] = cases.summary(cases.transformed(torch, transforms, v2, name))
    for name in ("MixUp", "CutMix"):
        images, labels = cases.mixed(torch, v2, name)
        found[name] = cases.summary(images)
        found[f"labels of {name}"] = cases.summary(labels)
    lines = ",\n".join(f'"{name}": {json.dumps(facts)}' for name, facts in found.items())
    Path(__file__).with_name("values.json").write_text("{\n" + lines + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
