"""Write down what torchvision says of its models: run where torchvision and PyTorch are installed.

    python tests/vision/record_models.py

makes `models.json`: for every model a digest of its state_dict's names and shapes in order and of its nodes' names in
both modes, and for some the first logits from a seed.
"""

import hashlib
import json
import warnings
from pathlib import Path

import torch
from torchvision import models
from torchvision.models.feature_extraction import get_graph_node_names
from torchvision.models.regnet import BlockParams

LOGITS = {  # sides of the images
    "regnet_y_400mf": 64, "swin_v2_t": 64, "efficientnet_b0": 64, "mobilenet_v3_small": 64, "shufflenet_v2_x0_5": 64,
    "squeezenet1_1": 64,
}


def digest(lines):
    """A short fingerprint of lines of text."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def on_the_cpu(make):
    """BlockParams computes sizes with tensors, which must have values."""

    def made(cls, *args, **kwargs):
        with torch.device("cpu"):
            return make(cls, *args, **kwargs)

    return classmethod(made)


def main():
    """Write the file."""
    warnings.simplefilter("ignore")
    BlockParams.from_init_params = on_the_cpu(BlockParams.from_init_params.__func__)
    found = {}
    for name in models.list_models(models):
        options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        with torch.device("meta"):
            model = models.get_model(name, **options)
        train, evaluate = get_graph_node_names(model, suppress_diff_warning=True)
        found[name] = {
            "state": digest(f"{key} {list(value.shape)} {value.dtype}" for key, value in model.state_dict().items()),
            "train": digest(train), "eval": digest(evaluate),
        }
    for name, side in LOGITS.items():
        torch.manual_seed(0)
        model = models.get_model(name).eval()
        with torch.no_grad():
            logits = model(torch.randn(1, 3, side, side))
        found[name]["side"] = side
        found[name]["logits"] = [round(value, 6) for value in logits[0, :6].tolist()]
    lines = ",\n".join(f'"{name}": {json.dumps(facts)}' for name, facts in found.items())
    Path(__file__).with_name("models.json").write_text("{\n" + lines + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
