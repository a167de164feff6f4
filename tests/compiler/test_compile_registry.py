"""Every primitive on its samples: compiled as eager, forward and gradients; none stays eager.

All samples of an op are one function, so that an op is one or two programs: one with the derivative taken inside, one
forward whose derivative is taken outside. Inputs are float32 and new at each call; the first call is the capture, so
only the later ones are programs.
"""

import warnings

import numpy as np
import pytest

import flambeau as torch
from flambeau.core.dispatch import REGISTRY
from flambeau.core.tensor import Tensor, wrap
from tests.compiler.comparing import assert_same, compiled_of, entries
from tests.ops.samples import arguments_of
from tests.ops.test_registry import NAMES, Maker

# The number of results depends on values: the public functions say so, the bare primitive does not.
SHAPED_BY_VALUES = {"nonzero", "masked_select", "mask_index", "masked_unselect"}
# Inputs without a derivative, as in PyTorch.
CONSTANT = {
    "igamma": (0,), "igammac": (0,), "scale_gradient": (1,),
    **{f"{name}_draw": (1,) for name in (
        "uniform", "normal", "exponential", "cauchy", "log_normal", "geometric", "bernoulli", "random")},
}  # fmt: skip
TOLERANCES = {
    "logit": 1e-4,
    "erfinv": 1e-4,
    "ndtri": 1e-4,
    "pinv": 1e-3,
    "inverse": 1e-3,
    "eig": 1e-3,
    "svd": 1e-3,
    "lgamma": 1e-4,
    "digamma": 1e-4,
    "polygamma": 1e-4,
    "zeta": 1e-4,
    "solve": 1e-3,
    "qr": 1e-3,
    "eigh": 1e-3,
}
COUNTS = {"native": 0, "with steps in Python": 0, "samples": 0}


def tensors_of(result):
    if isinstance(result, Tensor):
        return [result]
    return [t for item in result for t in tensors_of(item)] if isinstance(result, (tuple, list)) else []


def narrow(value, differentiable):
    """A sample's argument: float32 and complex64 instead of their doubles, requiring grad."""
    if not isinstance(value, Tensor) or value._array.dtype.kind not in "fc":
        return value
    made = wrap(value._array.astype(np.complex64 if value.is_complex() else np.float32, order="K"))
    return made.requires_grad_() if differentiable else made


class Samples:
    """All samples of an op that it takes in single precision."""

    def __init__(self, name):
        self.op = REGISTRY[name]
        self.fixed = CONSTANT.get(name, ())
        self.chosen = []
        for number, (args, attrs) in enumerate(arguments_of(self.op, Maker()) or []):
            try:
                self.op.function(*self.prepared(args), **attrs)
            except (RuntimeError, TypeError, ValueError, NotImplementedError):
                continue  # not for this type
            self.chosen.append((number, attrs))
        stream = np.random.default_rng(0)
        self.weights = stream.uniform(0.5, 1.5, 10000).astype(np.float32)

    def prepared(self, args):
        return [narrow(a, self.op.no_gradient is None and i not in self.fixed) for i, a in enumerate(args)]

    def arguments(self, seed):
        made = arguments_of(self.op, Maker(seed))
        return [self.prepared(made[number][0]) for number, _ in self.chosen]

    def forward(self, *samples):
        """The results of all samples; views are taken of new memory."""
        results = []
        for args, (_, attrs) in zip(samples, self.chosen):
            given = [a * 1 if self.op.view and isinstance(a, Tensor) else a for a in args]
            results.append(tensors_of(self.op.function(*given, **attrs)))
        return results

    def loss(self, results):
        total = torch.zeros(())
        for t in (t for found in results for t in found if t.requires_grad and t.numel()):
            if t.is_complex():
                t = t.abs()
            total = total + (t.reshape(-1).to(torch.float32) * torch.tensor(self.weights[: t.numel()])).sum()
        return total

    def leaves(self, samples):
        return [a for args in samples for a in args if isinstance(a, Tensor) and a.requires_grad and a.numel()]

    def inside(self, *samples):
        results = self.forward(*samples)
        loss = self.loss(results)
        grads = torch.autograd.grad(loss, self.leaves(samples), allow_unused=True) if loss.requires_grad else ()
        return [[t.detach() for t in found] for found in results], [g for g in grads if g is not None]


def run_outside(forward, samples, chosen):
    results = forward(*chosen)
    loss = samples.loss(results)
    if loss.requires_grad:
        loss.backward()
    return [[t.detach() for t in found] for found in results], [
        a.grad for a in samples.leaves(chosen) if a.grad is not None
    ]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SHAPED_BY_VALUES])
def test_compiled_as_eager(name):
    samples = Samples(name)
    if not samples.chosen:
        pytest.skip("no samples in single precision")
    tolerance = TOLERANCES.get(name, 3e-5)
    inside, forward = torch.compile(samples.inside), torch.compile(samples.forward)
    runs = [(samples.inside, inside, lambda function, given: function(*given))]
    if (
        samples.op.no_gradient is None and NAMES.index(name) % 6 == 0
    ):  # the same derivatives, met from outside: some of them
        runs.append((samples.forward, forward, lambda function, given: run_outside(function, samples, given)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that none stays eager is asserted below
        for eager, compiled, run in runs:
            for seed in range(3):
                found = []
                for function in (eager, compiled):
                    torch.manual_seed(seed)
                    found.append(run(function, samples.arguments(seed)))
                assert_same(found[1], found[0], tolerance)
    reasons = {reason for _, compiled, _ in runs for reason in compiled_of(compiled).eager.values()}
    COUNTS["samples"] += len(samples.chosen)
    assert not reasons, reasons
    hosts = any(getattr(entry.execute, "hosts", ()) for _, compiled, _ in runs for entry in entries(compiled))
    COUNTS["with steps in Python" if hosts else "native"] += 1
    assert sum(compiled_of(compiled).captures for _, compiled, _ in runs) == len(runs)


def test_most_ops_are_native(capsys):
    if COUNTS["samples"] < 500:
        pytest.skip("counts all ops")
    with capsys.disabled():
        print(f" {COUNTS} ", end="")
    assert COUNTS["native"] > 110
