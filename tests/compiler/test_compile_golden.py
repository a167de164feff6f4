"""The graphs and kernels of three small functions, as text: fusion happens where it is expected.

`python -m tests.compiler.test_compile_golden` writes the files again after a change that is meant.
"""

import sys
from pathlib import Path

import pytest

import flambeau as torch
from flambeau import nn
from flambeau.compiler.program import describe
from tests.compiler.comparing import entries

FOLDER = Path(__file__).parent / "golden"


def pointwise():
    """One kernel for arithmetic, a view and a reduction over rows."""
    return torch.compile(lambda a, b: ((a * 2 + b.t()).relu(), torch.softmax(a - b.t(), 1))), (
        torch.ones(6, 8),
        torch.ones(8, 6),
    )


def update():
    """A linear layer trained by plain gradient descent: products, then one kernel for each parameter's update."""
    torch.manual_seed(0)
    layer = nn.Linear(8, 4)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)

    def step(x, y):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(layer(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return torch.compile(step), (torch.ones(5, 8), torch.ones(5, 4))


def normalisation():
    """Batch normalisation in training with relu: statistics, the running ones, and the result."""
    norm = nn.BatchNorm2d(4)

    def forward(x):
        with torch.no_grad():
            return norm(x).relu()

    return torch.compile(forward), (torch.ones(2, 4, 6, 6),)


CASES = {f.__name__: f for f in (pointwise, update, normalisation)}


def text(name):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        compiled, arguments = CASES[name]()
        compiled(*arguments)
    finally:
        torch.set_num_threads(before)
    (entry,) = entries(compiled)
    steps = sorted(describe(step) for step in entry.execute.plan.steps)  # their order is the planner's
    return "\n".join([str(entry.graph), "", *steps, ""])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.skipif(sys.platform != "linux", reason="library calls are named as on Linux")
def test_text(name):
    assert text(name) == (FOLDER / f"{name}.txt").read_text()


if __name__ == "__main__":
    for case in CASES:
        (FOLDER / f"{case}.txt").write_text(text(case))
