"""Record what PyTorch's distributions give: `python tests/golden/make_distributions.py` writes distributions.json.

`CASES` is also read by the test. Needs PyTorch.
"""

import json
import pathlib

CASES = {
    "normal": lambda t, d: d.Normal(t.tensor([0.5, -1.0]), t.tensor([1.0, 2.0])),
    "uniform": lambda t, d: d.Uniform(t.tensor([0.0, -1.0]), t.tensor([1.0, 2.0])),
    "bernoulli": lambda t, d: d.Bernoulli(logits=t.tensor([0.2, 0.9])),
    "categorical": lambda t, d: d.Categorical(t.tensor([[1.0, 2, 3], [3, 1, 1]])),
    "multivariate_normal": lambda t, d: d.MultivariateNormal(
        t.tensor([0.0, 1]), precision_matrix=t.tensor([[2.0, 0.5], [0.5, 1.0]])
    ),
    "low_rank": lambda t, d: d.LowRankMultivariateNormal(
        t.tensor([0.5, 1.0]), t.tensor([[1.0], [2.0]]), t.tensor([1.0, 2.0])
    ),
    "beta": lambda t, d: d.Beta(t.tensor([0.5, 2.0]), t.tensor([1.0, 3.0])),
    "gamma": lambda t, d: d.Gamma(t.tensor([0.5, 2.0]), t.tensor([1.0, 3.0])),
    "chi2": lambda t, d: d.Chi2(t.tensor([1.5, 5.0])),
    "inverse_gamma": lambda t, d: d.InverseGamma(t.tensor([1.5, 3.0]), t.tensor([3.0, 1.5])),
    "dirichlet": lambda t, d: d.Dirichlet(t.tensor([[0.2, 0.7, 2.0], [3.0, 4, 5]])),
    "laplace": lambda t, d: d.Laplace(t.tensor([0.5, 2.0]), t.tensor([1.0, 3.0])),
    "exponential": lambda t, d: d.Exponential(t.tensor([0.5, 2.0])),
    "poisson": lambda t, d: d.Poisson(t.tensor([0.5, 20.0])),
    "binomial": lambda t, d: d.Binomial(5, t.tensor([0.2, 0.7])),
    "negative_binomial": lambda t, d: d.NegativeBinomial(t.tensor([3.0, 5.0]), t.tensor([0.4, 0.3])),
    "geometric": lambda t, d: d.Geometric(t.tensor([0.2, 0.7])),
    "multinomial": lambda t, d: d.Multinomial(5, t.tensor([0.2, 0.7, 0.1])),
    "one_hot": lambda t, d: d.OneHotCategorical(t.tensor([[0.2, 0.7, 0.1], [1.0, 1, 1]])),
    "relaxed_bernoulli": lambda t, d: d.RelaxedBernoulli(t.tensor(0.7), t.tensor([0.2, 0.7])),
    "relaxed_one_hot": lambda t, d: d.RelaxedOneHotCategorical(t.tensor(0.7), t.tensor([0.2, 0.7, 0.1])),
    "student_t": lambda t, d: d.StudentT(t.tensor([1.5, 5.0]), 1.0, 2.0),
    "fisher_snedecor": lambda t, d: d.FisherSnedecor(t.tensor([1.5, 3.0]), t.tensor([3.0, 5.0])),
    "half_normal": lambda t, d: d.HalfNormal(t.tensor([1.5, 5.0])),
    "half_cauchy": lambda t, d: d.HalfCauchy(t.tensor([1.5, 5.0])),
    "cauchy": lambda t, d: d.Cauchy(t.tensor([1.5, 5.0]), 2.0),
    "gumbel": lambda t, d: d.Gumbel(t.tensor([1.5, 5.0]), 2.0),
    "log_normal": lambda t, d: d.LogNormal(t.tensor([0.5, 1.0]), 0.7),
    "logistic_normal": lambda t, d: d.LogisticNormal(t.tensor([0.5, 1.0]), t.tensor([0.7, 1.0])),
    "pareto": lambda t, d: d.Pareto(t.tensor([1.0, 2.0]), t.tensor([3.0, 2.5])),
    "generalized_pareto": lambda t, d: d.GeneralizedPareto(0.0, t.tensor([1.0, 2.0]), t.tensor([0.2, 0.0])),
    "weibull": lambda t, d: d.Weibull(t.tensor([1.0, 2.0]), t.tensor([3.0, 1.5])),
    "kumaraswamy": lambda t, d: d.Kumaraswamy(t.tensor([1.5, 2.0]), t.tensor([3.0, 1.5])),
    "von_mises": lambda t, d: d.VonMises(t.tensor([1.0, 2.0]), t.tensor([3.0, 8.5])),
    "continuous_bernoulli": lambda t, d: d.ContinuousBernoulli(t.tensor([0.3, 0.5, 0.9])),
    "lkj_cholesky": lambda t, d: d.LKJCholesky(3, t.tensor([0.5, 2.0])),
    "mixture": lambda t, d: d.MixtureSameFamily(
        d.Categorical(t.tensor([0.2, 0.8])), d.Normal(t.tensor([-1.0, 1.0]), t.tensor([1.0, 0.5]))
    ),
    "independent": lambda t, d: d.Independent(d.Normal(t.zeros(3, 2), 1.0), 1),
    "transformed": lambda t, d: d.TransformedDistribution(
        d.Normal(t.zeros(3), 1.0), [d.SigmoidTransform(), d.AffineTransform(1.0, -2.0)]
    ),
}


def measured(torch, name):
    """What is compared: draws from seed 0, their log density, the moments, the entropy, the printed form."""
    made = CASES[name](torch, torch.distributions)
    torch.manual_seed(0)
    drawn = made.sample((4,))
    found = {"sample": drawn.tolist(), "log_prob": made.log_prob(drawn).tolist(), "repr": repr(made)}
    for kind, task in {"mean": lambda: made.mean, "variance": lambda: made.variance, "mode": lambda: made.mode,
                       "entropy": made.entropy, "cdf": lambda: made.cdf(drawn)}.items():  # fmt: skip
        if (name, kind) == ("kumaraswamy", "mode"):  # nan in PyTorch
            continue
        try:
            found[kind] = task().tolist()
        except NotImplementedError:
            found[kind] = None
    return found


def divergences(torch):
    """KL of all pairs of families that have a formula."""
    found = {}
    for first in CASES:
        for second in CASES:
            p, q = (CASES[name](torch, torch.distributions) for name in (first, second))
            try:
                found[f"{first} {second}"] = torch.distributions.kl_divergence(p, q).tolist()
            except (NotImplementedError, RuntimeError, ValueError):
                continue
    return found


if __name__ == "__main__":
    import torch

    record = {"families": {name: measured(torch, name) for name in CASES}, "kl": divergences(torch)}
    path = pathlib.Path(__file__).with_name("distributions.json")
    number = lambda x: float(f"{x:.7g}") if isinstance(x, float) else x
    rounded = lambda x: [rounded(i) for i in x] if isinstance(x, list) else number(x)
    tidy = {part: {k: {n: rounded(v) for n, v in e.items()} if isinstance(e, dict) else rounded(e)
                   for k, e in entries.items()} for part, entries in record.items()}  # fmt: skip
    path.write_text(json.dumps(tidy, separators=(",", ":")) + "\n", encoding="utf-8")
