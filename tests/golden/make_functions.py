"""Records values and gradients of `function_cases` from PyTorch: run it with Python where torch is installed."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch
from function_cases import CASES, CONSTANT, arrays, seed


def record(name: str, shapes: list, options: dict) -> dict:
    """The output of one call, and the gradients of the tensors that get one."""
    constant = CONSTANT.get(name, ())
    tensors = [torch.from_numpy(a).requires_grad_(i not in constant) for i, a in enumerate(arrays(shapes))]
    out = getattr(torch.nn.functional, name)(*tensors, **options)
    out.backward(torch.from_numpy(seed(tuple(out.shape))))
    return {
        "shape": list(out.shape),
        "values": rounded(out),
        "grads": [None if t.grad is None else rounded(t.grad) for t in tensors],
    }


def rounded(t: torch.Tensor) -> list[float]:
    return [float(f"{value:.7g}") for value in t.detach().reshape(-1).tolist()]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    found = [record(*case) for case in CASES]
    Path(__file__).with_name("functions.json").write_text(json.dumps(found, separators=(",", ":")) + "\n")
