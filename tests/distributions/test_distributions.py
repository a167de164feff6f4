"""Families agree with PyTorch's recorded values; gradients with finite differences; mistakes are refused."""

import json
import pathlib
import runpy

import numpy as np
import pytest

import flambeau as torch
from flambeau import distributions as dist
from flambeau.distributions import constraints, transforms
from flambeau.ops.pathwise import sample_dirichlet, standard_gamma

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
SCRIPT = runpy.run_path(str(GOLDEN / "make_distributions.py"))
RECORD = json.loads((GOLDEN / "distributions.json").read_text())


@pytest.mark.parametrize("name", SCRIPT["CASES"])
def test_family_agrees_with_the_record(name):
    found, expected = SCRIPT["measured"](torch, name), RECORD["families"][name]
    assert found.pop("repr") == expected.pop("repr")
    for kind, value in expected.items():
        if value is None:
            assert found[kind] is None, kind
        else:
            np.testing.assert_allclose(found[kind], value, rtol=2e-4, atol=2e-5, err_msg=kind)


def test_divergences_agree_with_the_record():
    found = SCRIPT["divergences"](torch)
    assert not set(RECORD["kl"]) - set(found)
    for pair, value in RECORD["kl"].items():
        np.testing.assert_allclose(found[pair], value, rtol=1e-4, atol=2e-5, err_msg=pair)


@pytest.mark.parametrize("name", SCRIPT["CASES"])
def test_expanded_families_keep_their_densities(name):
    made = SCRIPT["CASES"][name](torch, dist)
    wide = made.expand((3, *made.batch_shape))
    torch.manual_seed(0)
    value = wide.sample()
    assert value.shape == (3, *made.batch_shape, *made.event_shape)
    torch.testing.assert_close(wide.log_prob(value), made.log_prob(value))


@pytest.mark.parametrize("alpha", [0.1, 0.8, 1.0, 3.0, 50.0, 2000.0])
def test_gamma_draws_move_as_their_quantile(alpha):
    """At a fixed level of the distribution function, dx/dalpha is the slope of the quantile."""
    special = pytest.importorskip("scipy.special")
    a = torch.full((50,), alpha, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(1)
    x = standard_gamma(a)
    x.sum().backward()
    level, step = special.gammainc(alpha, x.detach().numpy()), 1e-4 * alpha
    safe = (level > 1e-8) & (level < 1 - 1e-6)
    slope = (special.gammaincinv(alpha + step, level) - special.gammaincinv(alpha - step, level)) / (2 * step)
    np.testing.assert_allclose(a.grad.numpy()[safe], slope[safe], rtol=1e-4)


def test_beta_draws_move_as_their_quantile():
    special = pytest.importorskip("scipy.special")
    pair = torch.tensor([[2.0, 5.0]] * 20, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(1)
    x = sample_dirichlet(pair)
    x[:, 0].sum().backward()
    level, step = special.betainc(2.0, 5.0, x[:, 0].detach().numpy()), 1e-5
    slope = (special.betaincinv(2 + step, 5.0, level) - special.betaincinv(2 - step, 5.0, level)) / (2 * step)
    np.testing.assert_allclose(pair.grad.numpy()[:, 0], slope, rtol=1e-5)


@pytest.mark.parametrize("make", [
    lambda p: dist.Normal(p, 2.0), lambda p: dist.Laplace(0.0, p), lambda p: dist.Gumbel(p, 1.0),
    lambda p: dist.Weibull(p, 1.5), lambda p: dist.Exponential(p), lambda p: dist.StudentT(4.0, p, 1.0),
])  # fmt: skip
def test_draws_carry_gradients(make):
    def draw(p):
        torch.manual_seed(3)
        return make(p).rsample((5,))

    assert torch.autograd.gradcheck(draw, torch.tensor([0.7, 1.3], dtype=torch.float64, requires_grad=True))


TRANSFORMS = [
    transforms.ExpTransform(), transforms.SigmoidTransform(), transforms.TanhTransform(),
    transforms.SoftplusTransform(), transforms.AffineTransform(1.0, -2.0), transforms.StickBreakingTransform(),
    transforms.ComposeTransform([transforms.AffineTransform(0.0, 0.5), transforms.ExpTransform()]),
    transforms.CumulativeDistributionTransform(dist.Normal(0.0, 1.0)), transforms.CorrCholeskyTransform(),
    transforms.StackTransform([transforms.ExpTransform(), transforms.identity_transform,
                               transforms.TanhTransform()], dim=-1),
    transforms.CatTransform([transforms.ExpTransform(), transforms.TanhTransform()], dim=-1, lengths=[1, 2]),
]  # fmt: skip


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: type(t).__name__)
def test_transforms_invert_and_keep_their_codomain(transform):
    x = torch.linspace(-1.5, 1.0, 6, dtype=torch.float64).reshape(2, 3)
    y = transform(x)
    torch.testing.assert_close(transform.inv(y), x)
    assert transform.codomain.check(y).all()
    assert transform.inv.inv is transform


@pytest.mark.parametrize("transform", TRANSFORMS[:5] + TRANSFORMS[6:8], ids=lambda t: type(t).__name__)
def test_jacobians_are_derivatives(transform):
    x = torch.linspace(-1.5, 1.0, 6, dtype=torch.float64, requires_grad=True)
    y = transform(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(transform.log_abs_det_jacobian(x, y).detach(), slope.abs().log())


@pytest.mark.parametrize("constraint", [
    constraints.real, constraints.positive, constraints.interval(-1.0, 3.0), constraints.less_than(2.0),
    constraints.unit_interval, constraints.simplex, constraints.lower_cholesky, constraints.corr_cholesky,
    constraints.positive_definite, constraints.independent(constraints.positive, 1),
], ids=repr)  # fmt: skip
def test_numbers_reach_every_constraint(constraint):
    torch.manual_seed(0)
    x = torch.randn(3) if constraint is constraints.corr_cholesky else torch.randn(3, 3)
    assert constraint.check(dist.transform_to(constraint)(x)).all()


def test_mistakes_are_value_errors():
    for wrong in (
        lambda: dist.Normal(0.0, -1.0), lambda: dist.Bernoulli(), lambda: dist.Bernoulli(0.5, 0.5),
        lambda: dist.Normal(0.0, 1.0).log_prob(1.0), lambda: dist.Uniform(1.0, 0.0), lambda: dist.Normal("a", 1.0),
        lambda: dist.Normal(torch.zeros(2), 1.0).log_prob(torch.zeros(3)),
        lambda: dist.Bernoulli(0.5).log_prob(torch.tensor(2.0)), lambda: dist.Categorical(torch.tensor(1.0)),
        lambda: dist.MultivariateNormal(torch.zeros(2), torch.ones(2, 2)),
        lambda: dist.Independent(dist.Normal(0.0, 1.0), 1),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            wrong()
    dist.Normal(0.0, -1.0, validate_args=False)
    with pytest.raises(NotImplementedError):
        dist.kl_divergence(dist.Normal(0.0, 1.0), dist.Cauchy(0.0, 1.0))
    with pytest.raises(NotImplementedError):
        dist.Poisson(torch.tensor(1.0)).rsample()


def test_a_registered_divergence_is_found():
    class Mine(dist.Normal):
        pass

    @dist.register_kl(Mine, Mine)
    def nothing(p, q):
        return torch.zeros(())

    assert dist.kl_divergence(Mine(0.0, 1.0), Mine(1.0, 1.0)).item() == 0
    assert dist.kl_divergence(Mine(0.0, 1.0), dist.Normal(1.0, 1.0)).item() == pytest.approx(0.5)


def test_wishart_has_its_mean():
    made = dist.Wishart(torch.tensor(6.0), torch.tensor([[2.0, 0.5], [0.5, 1.0]]))
    torch.manual_seed(0)
    drawn = made.sample((4000,))
    torch.testing.assert_close(drawn.mean(0), made.mean, rtol=0.1, atol=0.1)
    assert made.log_prob(drawn).shape == (4000,)
