"""Constants of a graph: computed with before the first call, through windows too."""

import pytest

import flambeau as torch
from tests.compiler.comparing import alike


@pytest.mark.parametrize("function", [
    lambda x: x + torch.full((3, 4), 2.0).t().cumsum(0),
    lambda x: x.sum() * torch.full((3, 4), 2.0)[1:, 2].cumprod(0),
    lambda x: x + torch.arange(12.0).view(3, 4).t().cumsum(1),
])  # fmt: skip
def test_windows_on_constants_are_computed_before(function):
    alike(function, (torch.ones(4, 3),), (torch.zeros(4, 3),))
