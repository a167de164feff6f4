"""Record how PyTorch prints: `python tests/golden/make_printing.py` writes printing.json beside it. Needs PyTorch.

Each case is (options of set_printoptions, expression in T).
"""

import json
from pathlib import Path

CASES = [
    ({}, "T.tensor([1.0, 2.0, 3.0])"),
    ({}, "T.tensor([0.5, -1.25, 3.0])"),
    ({}, "T.tensor(3.14159)"),
    ({}, "T.tensor(7)"),
    ({}, "T.tensor(True)"),
    ({}, "T.tensor([])"),
    ({}, "T.zeros(0, 3)"),
    ({}, "T.zeros(0, dtype=T.int64)"),
    ({}, "T.zeros(2, 0, dtype=T.bool)"),
    ({}, "T.tensor([1, -20, 300])"),
    ({}, "T.tensor([True, False])"),
    ({}, "T.tensor([1, 2], dtype=T.uint8)"),
    ({}, "T.tensor([1.5, 2], dtype=T.float64)"),
    ({}, "T.tensor([1.5, 2.125], dtype=T.float16)"),
    ({}, "T.tensor([1.5, 2.1], dtype=T.bfloat16)"),
    ({}, "T.tensor([1e-5, 1.0])"),
    ({}, "T.tensor([1e9, 1.0])"),
    ({}, "T.tensor([1e9, 2e9])"),
    ({}, "T.tensor([0.00001])"),
    ({}, "T.tensor([1001.5, 1.0])"),
    ({}, "T.tensor([float('nan'), float('inf'), -float('inf')])"),
    ({}, "T.tensor([float('nan'), 1.0, -float('inf')])"),
    ({}, "T.tensor([float('nan'), 1.5])"),
    ({}, "T.tensor([0.0, -0.0])"),
    ({}, "T.tensor([[1.0, 2.0], [3.0, 4.5]])"),
    ({}, "T.arange(24).reshape(2, 3, 4)"),
    ({}, "T.arange(16.0).reshape(2, 2, 2, 2)"),
    ({}, "T.arange(30)"),
    ({}, "T.arange(30.0) / 7"),
    ({}, "T.arange(2000)"),
    ({}, "T.arange(2000.0).reshape(2, 1000)"),
    ({}, "T.arange(10000).reshape(100, 100)"),
    ({}, "T.arange(1331).reshape(11, 11, 11)"),
    ({}, "T.tensor([1 + 2j, 3.5 - 1j])"),
    ({}, "T.tensor(1 - 2j)"),
    ({}, "T.tensor([1 + 2j], dtype=T.complex128)"),
    ({}, "T.ones(2, requires_grad=True)"),
    ({}, "T.ones(2, requires_grad=True) + 1"),
    ({}, "(T.arange(40.0).requires_grad_() * 2).exp()"),
    ({}, "T.ones(3, 4, dtype=T.float64, requires_grad=True)"),
    ({}, "T.empty(2, 3, device='meta')"),
    ({}, "T.empty(2, 3, device='meta', dtype=T.int64)"),
    ({"precision": 2}, "T.tensor([1.23456, 7.0])"),
    ({"precision": 8}, "T.tensor([1.23456, 7.0])"),
    ({"sci_mode": True}, "T.tensor([1.5, 20.0])"),
    ({"sci_mode": False}, "T.tensor([1e-6, 1e6])"),
    ({"threshold": 5}, "T.arange(10)"),
    ({"threshold": 5, "edgeitems": 1}, "T.arange(100.0).reshape(10, 10)"),
    ({"edgeitems": 0, "threshold": 3}, "T.arange(10)"),
    ({"linewidth": 30}, "T.arange(20.0) + 0.5"),
    ({"profile": "short"}, "T.arange(3000.0) / 3"),
    ({"profile": "full"}, "T.arange(1001).reshape(7, 143)"),
]


def main():
    import torch

    texts = []
    for options, expression in CASES:
        torch.set_printoptions(profile="default")
        torch.set_printoptions(**options)
        texts.append(repr(eval(expression, {"T": torch})))
    Path(__file__).with_name("printing.json").write_text(json.dumps(texts, indent=0))


if __name__ == "__main__":
    main()
