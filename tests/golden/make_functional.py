"""Record activations, softmax, losses and embeddings: `python tests/golden/make_functional.py` writes functional.json
next to this file. Needs PyTorch.

Each case is an expression in T, F and `x(*shape)`, a new float64 tensor of fixed numbers that requires a gradient.
Stored are its value and the gradients, by a fixed weighting of the value, of all tensors that x made.
`evaluate` is what both this script and the tests run.
"""

import json
import warnings
from pathlib import Path

CASES = [
    # activations, at corners too: x holds 0, 0.5, -0.5, 1, -1, 3, -3, 6
    "F.relu(x(12))", "F.relu6(x(12))", "F.leaky_relu(x(12), 0.2)", "F.elu(x(12), 1.5)", "F.selu(x(12))",
    "F.celu(x(12), 0.5)", "F.gelu(x(12))", "F.gelu(x(12), approximate='tanh')", "F.silu(x(12))", "F.mish(x(12))",
    "F.softplus(x(12), 2, 3)", "F.softsign(x(12))", "F.hardswish(x(12))", "F.hardsigmoid(x(12))",
    "F.hardtanh(x(12), -0.5, 1.0)", "F.threshold(x(12), 0.5, 20.0)", "F.prelu(x(2, 3, 2), x(3))", "F.glu(x(2, 4), 1)",
    "F.logsigmoid(x(12))", "F.tanhshrink(x(12))", "F.softshrink(x(12), 0.5)", "F.hardshrink(x(12), 0.5)",
    # softmax
    "F.softmax(x(2, 3), 1)", "F.softmax(x(2, 3, 2), 0)", "F.log_softmax(x(2, 3), -1)", "F.softmin(x(2, 3), 0)",
    "F.softmax(x(), 0)",
    # regression
    "F.mse_loss(x(2, 3), x(2, 3))", "F.mse_loss(x(2, 3), x(2, 3), reduction='none')",
    "F.mse_loss(x(2, 3), x(2, 3), weight=T.arange(6.0, dtype=T.float64).reshape(2, 3))", "F.l1_loss(x(4), x(4))",
    "F.smooth_l1_loss(x(6), x(6), beta=0.5)", "F.huber_loss(x(6), x(6), delta=0.5)",
    "F.poisson_nll_loss(x(4), F.relu(x(4)) * 3, full=True)", "F.poisson_nll_loss(x(4).abs(), x(4), log_input=False)",
    "F.gaussian_nll_loss(x(2, 3), x(2, 3), x(2, 1).abs(), full=True, eps=0.2)",
    "F.kl_div(x(2, 3), x(2, 3).abs(), reduction='batchmean')", "F.kl_div(x(2, 3), x(2, 3), log_target=True)",
    # margins
    "F.margin_ranking_loss(x(4), x(4), T.tensor([1, -1, 1, -1]), 0.3)",
    "F.hinge_embedding_loss(x(4), T.tensor([1, -1, 1, -1]), 0.7)", "F.soft_margin_loss(x(4), T.tensor([1, -1, 1, -1]))",
    "F.cosine_embedding_loss(x(3, 2), x(3, 2) + 1, T.tensor([1, -1, -1]), 0.1)",
    "F.triplet_margin_loss(x(2, 3), x(2, 3) + 1, x(2, 3) - 0.5, swap=True, p=1.5)",
    "F.triplet_margin_with_distance_loss(x(2, 3), x(2, 3), x(2, 3), distance_function=lambda a, b: abs(a - b).sum(1))",
    "F.multi_margin_loss(x(2, 3), T.tensor([0, 2]), p=2, weight=T.arange(1.0, 4.0, dtype=T.float64))",
    "F.multilabel_margin_loss(x(2, 3), T.tensor([[2, 0, -1], [1, -1, 2]]))",
    "F.multilabel_soft_margin_loss(x(2, 3), T.tensor([[1, 0, 1], [0, 0, 1]]), reduction='none')",
    # classes
    "F.nll_loss(x(3, 4), T.tensor([1, 0, 3]))", "F.nll_loss(x(4), T.tensor(2))",
    "F.nll_loss(x(2, 3, 2), T.tensor([[1, 0], [2, 1]]), x(3).detach().abs(), ignore_index=1, reduction='none')",
    "F.cross_entropy(x(3, 4), T.tensor([1, 0, 3]))", "F.cross_entropy(x(3, 4), T.tensor([1, 0, 3]), ignore_index=0)",
    "F.cross_entropy(x(3, 4), T.tensor([1, 0, 3]), x(4).detach().abs(), label_smoothing=0.2)",
    "F.cross_entropy(x(2, 3, 2), T.tensor([[1, 0], [2, 1]]), ignore_index=1, label_smoothing=0.2, reduction='sum')",
    "F.cross_entropy(x(3, 4), F.softmax(x(3, 4), 1))",
    "F.cross_entropy(x(3, 4), F.softmax(x(3, 4), 1), x(4).detach().abs(), label_smoothing=0.1)",
    "F.cross_entropy(x(3, 4), T.tensor([1, 1, 1]), ignore_index=1, reduction='sum')",
    "F.binary_cross_entropy(T.sigmoid(x(4)), T.sigmoid(x(4)), x(4).detach().abs())",
    "F.binary_cross_entropy(T.tensor([0.0, 1.0, 0.5]), T.tensor([1.0, 0.0, 1.0]), reduction='none')",
    "F.binary_cross_entropy_with_logits(x(4), T.sigmoid(x(4)), pos_weight=x(4).detach().abs())",
    "F.ctc_loss(F.log_softmax(x(5, 2, 4), 2), T.tensor([[1, 1, 2], [3, 0, 0]]), (5, 4), (3, 1))",
    "F.ctc_loss(F.log_softmax(x(5, 2, 4), 2), T.tensor([1, 1, 2, 3]), (5, 4), (3, 1), blank=0, reduction='none')",
    "F.ctc_loss(F.log_softmax(x(3, 2, 4), 2), T.tensor([[1, 1], [1, 2]]), (2, 2), (2, 2), zero_infinity=True)",
    # tables
    "F.embedding(T.tensor([[1, 0], [1, 3]]), x(4, 2), padding_idx=0, scale_grad_by_freq=True)",
    "F.embedding(T.tensor([1, 3, 1]), x(4, 2), padding_idx=-1)",
    "F.embedding_bag(T.tensor([1, 0, 1, 3, 2]), x(4, 2), T.tensor([0, 3, 3]), mode='mean')",
    "F.embedding_bag(T.tensor([1, 0, 1, 3, 2]), x(4, 2), T.tensor([0, 3, 5]), mode='max', include_last_offset=True)",
    "F.embedding_bag(T.tensor([[1, 0], [3, 2]]), x(4, 2), mode='sum', per_sample_weights=x(2, 2))",
    "F.embedding_bag(T.tensor([[1, 0], [3, 1]]), x(4, 2), mode='mean', padding_idx=1)",
    "F.one_hot(T.tensor([[0, 2], [1, 1]]))",
]
NUMBERS = [0.0, 0.5, -0.5, 1.0, -1.0, 3.0, -3.0, 6.0, 0.3, -0.7, 2.2, -1.4]


def evaluate(T, case):
    """The value, and the gradients of the tensors that x made, as nested lists."""
    F = T.nn.functional
    made = []

    def x(*shape):
        count = T.zeros(shape).numel()
        # Later tensors are shifted, so that no two are equal.
        numbers = [NUMBERS[i % len(NUMBERS)] + i // len(NUMBERS) * 0.37 + 0.41 * len(made) for i in range(count)]
        made.append(T.tensor(numbers, dtype=T.float64).reshape(shape).requires_grad_())
        return made[-1]

    value = eval(case, {"T": T, "F": F, "x": x})
    if not value.requires_grad:
        return [value.tolist()]
    weights = T.arange(1.0, value.numel() + 1, dtype=value.dtype).reshape(value.shape)
    (value * weights).sum().backward()
    return [value.tolist(), *[t.grad.tolist() if t.grad is not None else None for t in made]]


def main():
    """Write what PyTorch computes."""
    import torch

    warnings.simplefilter("ignore")
    recorded = {case: evaluate(torch, case) for case in CASES}
    text = ",\n".join(f"{json.dumps(case)}: {json.dumps(values)}" for case, values in recorded.items())
    Path(__file__).with_name("functional.json").write_text("{\n" + text + "\n}\n")


if __name__ == "__main__":
    main()
