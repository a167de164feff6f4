"""Distributions in compiled functions: their checks are part of the program, which raises as they do."""

import pytest

import flambeau as torch
from flambeau import distributions as D
from tests.compiler.comparing import alike, assert_native

CALLS = {
    "normal": lambda x, y: (D.Normal(x, y).rsample(), D.Normal(x, y).log_prob(x * 2)),
    "divergence": lambda x, y: D.kl_divergence(D.Normal(x, y), D.Normal(0.0, 1.0)),
    "categorical": lambda x, y: D.Categorical(logits=x).log_prob(torch.tensor([1, 0])),
    "bernoulli": lambda x, y: (D.Bernoulli(logits=x).sample(), D.Bernoulli(logits=x).log_prob((x > 0).float())),
    "uniform": lambda x, y: D.Uniform(x, x + y).log_prob(x + y / 2),
    "independent": lambda x, y: D.Independent(D.Laplace(x, y), 1).log_prob(x),
    "multivariate": lambda x, y: D.MultivariateNormal(x, scale_tril=torch.diag_embed(y)).rsample(),
    "dirichlet": lambda x, y: D.Dirichlet(y).log_prob(y / y.sum(-1, keepdim=True)),
    "geometric": lambda x, y: D.Geometric(y / 9).log_prob(torch.ones(3)),
}


@pytest.mark.parametrize("name", CALLS)
def test_distributions_are_captured(name):
    def call(seed):
        stream = torch.Generator().manual_seed(seed)
        return torch.randn(2, 3, generator=stream), torch.rand(2, 3, generator=stream) + 0.1

    alike(CALLS[name], *map(call, range(3)))


def test_values_outside_of_their_constraint_raise_at_any_call():
    compiled = torch.compile(lambda rate, value: D.Exponential(rate).log_prob(value))
    for _ in range(3):
        compiled(torch.ones(3), torch.ones(3))
        with pytest.raises(ValueError, match="Exponential: expected parameter rate"):
            compiled(torch.tensor([1.0, 0.0, 1.0]), torch.ones(3))
        with pytest.raises(ValueError, match="Exponential: expected value argument"):
            compiled(torch.ones(3), torch.tensor([1.0, -1.0, 1.0]))
    assert_native(compiled)
