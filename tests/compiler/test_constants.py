"""Constants of a graph: computed with before the first call, through windows too."""

import pytest

import flambeau as torch
from flambeau import linalg
from tests.compiler.comparing import alike


@pytest.mark.parametrize("function", [
    lambda x: x + torch.full((3, 4), 2.0).t().cumsum(0),
    lambda x: x.sum() * torch.full((3, 4), 2.0)[1:, 2].cumprod(0),
    lambda x: x + torch.arange(12.0).view(3, 4).t().cumsum(1),
])  # fmt: skip
def test_windows_on_constants_are_computed_before(function):
    alike(function, (torch.ones(4, 3),), (torch.zeros(4, 3),))


@pytest.mark.parametrize("values", [linalg.svdvals, linalg.eigvalsh, lambda A: torch.norm(A, "nuc")])
def test_gradients_of_values_alone_ask_no_gap_between_them(values):
    """What stands for the missing gradient of the vectors is known to be zero, as without a record."""

    def function(A):
        return torch.autograd.grad(values(A).sum(), A)[0]

    alike(function, (torch.randn(3, 3).requires_grad_(),), (torch.eye(3).requires_grad_(),))


def test_zeros_of_different_signs_are_different_constants():
    compiled = torch.compile(lambda x: (x + 0.0, x + -0.0))
    for _ in range(2):
        assert [torch.signbit(y).item() for y in compiled(torch.tensor([-0.0]))] == [False, True]
