"""Record what PyTorch draws: `python tests/golden/make_random.py` writes random.json next to this file. Needs PyTorch.

Each case is an expression in T, evaluated after `T.manual_seed(SEED)`; the tests evaluate the same text with flambeau.
Values are stored with `float.hex`, so that nothing is lost; STATE is the SHA-256 of the generator's state afterwards.
"""

import hashlib
import json
from pathlib import Path

SEED = 1234
CASES = [
    "T.rand(20)", "T.rand(5, dtype=T.float64)", "T.rand(7, dtype=T.float16)", "T.rand(7, dtype=T.bfloat16)",
    "T.rand(3, dtype=T.complex64)", "T.rand_like(T.zeros(2, 3).transpose(0, 1))",
    "T.randn(3)", "T.randn(15)", "T.randn(16)", "T.randn(37)", "T.randn(20, dtype=T.float64)",
    "T.randn(20, dtype=T.float16)", "T.randn(21, dtype=T.bfloat16)", "T.randn(9, dtype=T.complex64)",
    "T.randn_like(T.zeros(4, 5).transpose(0, 1))",
    "T.empty(40).normal_(1.5, 0.3)", "T.empty(40, dtype=T.float64).normal_(1.5, 0.3)", "T.empty(7).normal_(1.5, 0.3)",
    "T.empty(40).uniform_(-2, 3)", "T.empty(40, dtype=T.float64).uniform_(-1.3, 2.1)",
    "T.empty(4, 3).transpose(0, 1).uniform_(0, 2)",
    "T.randint(10, (20,))", "T.randint(-5, 5, (3, 4))", "T.randint(0, 2**28, (5,))", "T.randint(0, 2**40, (5,))",
    "T.randint(0, 100, (5,), dtype=T.uint8)", "T.randint(high=9, size=(4,), dtype=T.float32)",
    "T.randint_like(T.zeros(6), 3, 50)",
    "T.empty(6, dtype=T.int64).random_()", "T.empty(6, dtype=T.int64).random_(-2**63, None)",
    "T.empty(6).random_()", "T.empty(6, dtype=T.float64).random_(3, 90)", "T.empty(6, dtype=T.uint8).random_(200)",
    "T.randperm(1)", "T.randperm(40)", "T.randperm(9, dtype=T.int32)",
    "T.bernoulli(T.linspace(0, 1, 30))", "T.bernoulli(T.linspace(0, 1, 10, dtype=T.float64))",
    "T.empty(30).bernoulli_(0.3)", "T.empty(2, 3).bernoulli_(T.tensor([0.1, 0.5, 0.9]))",
    "T.multinomial(T.tensor([0.1, 0.2, 0.3, 0.4]), 3)", "T.multinomial(T.arange(1.0, 13.0).reshape(3, 4), 1)",
    "T.multinomial(T.arange(1.0, 13.0).reshape(3, 4), 9, replacement=True)",
    "T.empty(20).exponential_(0.7)", "T.empty(20).geometric_(0.4)", "T.empty(20).cauchy_(0.5, 2.0)",
    "T.empty(20).log_normal_(0.5, 0.4)", "T.poisson(T.linspace(0, 30, 16))",
    "T.binomial(T.tensor([0.0, 5.0, 50.0, 80.0, 80.0]), T.tensor([0.5, 0.3, 0.4, 0.9, 1.0]))",
    "T.normal(T.arange(1.0, 6.0), T.arange(5.0, 0.0, -1.0))", "T.normal(2.0, 3.0, (18,))",
    "T.normal(0.5, T.tensor([1.0, 2.0]))", "T.normal(T.zeros(3), 2.0)",
    "T.dropout(T.ones(12), 0.3, True)", "T.feature_dropout(T.ones(2, 3, 2), 0.5, True)",
    "T.alpha_dropout(T.ones(12), 0.3, True)", "T.feature_alpha_dropout(T.ones(2, 3, 2), 0.5, True)",
]


def draw(T, expression):
    """The numbers of a case and the state of the generator after it."""
    T.manual_seed(SEED)
    values = eval(expression, {"T": T})
    state = hashlib.sha256(bytes(T.get_rng_state().tolist())).hexdigest()[:16]
    return values, state


def numbers(values):
    """All numbers of a tensor in reading order, complex ones as two."""
    flat = values.reshape(-1).tolist()
    return [float(part) for v in flat for part in ((v.real, v.imag) if isinstance(v, complex) else (v,))]


def main():
    import torch

    recorded = {}
    for expression in CASES:
        values, state = draw(torch, expression)
        recorded[expression] = {"shape": list(values.shape), "state": state,
                                "values": [v.hex() for v in numbers(values)]}
    Path(__file__).with_name("random.json").write_text(json.dumps(recorded, indent=0))


if __name__ == "__main__":
    main()
