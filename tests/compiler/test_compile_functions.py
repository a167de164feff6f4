"""Functions that are composed of primitives, or compute on arrays beside them: captured whole, and right for other
values than those they were captured with. The graphs run node by node here; natively, primitives do in
test_compile_registry.py."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import flambeau as torch
import flambeau.nn.functional as F
from flambeau.compiler import interpreter, program
from flambeau.compiler.api import Compiled
from tests.compiler.comparing import assert_same

_spec = importlib.util.spec_from_file_location(
    "function_cases", Path(__file__).parents[1] / "golden" / "function_cases.py"
)
cases = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cases)


@pytest.fixture(autouse=True)
def node_by_node(monkeypatch):
    monkeypatch.setattr(program, "program", lambda graph: lambda arrays: interpreter.run(graph, arrays))


def follows(function, calls, tolerance=1e-4):
    """One record, made in the first call, answers all calls as the function does; gradients too."""

    def run(*args):
        result = function(*args)
        results = [t for t in (result if isinstance(result, tuple) else (result,)) if isinstance(t, torch.Tensor)]
        live = [(t.abs() if t.is_complex() else t).sum() for t in results if t.requires_grad]
        leaves = [t for t in args if isinstance(t, torch.Tensor) and t.requires_grad]
        grads = torch.autograd.grad(sum(live), leaves, allow_unused=True) if live else ()
        return [t.detach() for t in results], [g for g in grads if g is not None]

    compiled = Compiled(run, fullgraph=True)
    for number, args in enumerate(calls):
        found = []
        for version in (run, compiled):
            torch.manual_seed(number)
            found.append(version(*args))
        assert_same(found[1], found[0], tolerance)
    assert compiled.captures == 1


@pytest.mark.parametrize("index", range(len(cases.CASES)), ids=cases.label)
def test_functions_of_networks(index):
    name, shapes, options = cases.CASES[index]
    constant = cases.CONSTANT.get(name, ())

    def arguments(scale):
        arrays = (a * scale for a in cases.arrays(shapes))
        return [torch.tensor(a.astype(np.float32)).requires_grad_(i not in constant) for i, a in enumerate(arrays)]

    follows(lambda *t: getattr(F, name)(*t, **options), [arguments(scale) for scale in (1.0, 0.8, 1.1)])


def x(*shape):
    return lambda: torch.randn(*shape, requires_grad=True)


def n(high, *shape):
    return lambda: torch.randint(0, high, shape)


def rows(*shape):
    return lambda: torch.randn(*shape).sort(-1).values


CALLS = {
    "cov": (torch.cov, x(3, 5)),
    "corrcoef": (torch.corrcoef, x(3, 5)),
    "combinations": (torch.combinations, x(4)),
    "quantile": (lambda t: torch.quantile(t, 0.3, dim=1), x(3, 5)),
    "levels": (lambda t: torch.quantile(t, torch.tensor([0.1, 0.5]), interpolation="nearest"), x(7)),
    "nanquantile": (lambda t: torch.nanquantile(torch.where(t > 1, float("nan"), t), 0.4, dim=0), x(6, 3)),
    "searchsorted": (torch.searchsorted, rows(2, 5), lambda: torch.randn(2, 3)),
    "sorter": (lambda s, v: torch.searchsorted(s, v, sorter=s.detach().argsort()), x(5), x(3)),
    "bucketize": (lambda v, b: torch.bucketize(v, b, right=True, out_int32=True), lambda: torch.randn(4), rows(5)),
    "isin": (torch.isin, n(9, 3, 4), n(9, 5)),
    "histc": (lambda t: torch.histc(t, 5, -2, 2), lambda: torch.randn(20)),
    "histc of all": (lambda t: torch.histc(t, 5), lambda: torch.randn(20)),
    "isreal": (lambda t: torch.isreal(torch.complex(t, t.relu())), lambda: torch.randn(5)),
    "unravel_index": (lambda i: torch.unravel_index(i, (3, 4)), n(12, 5)),
    "take_along_dim": (lambda t, i: torch.take_along_dim(t, i, 1), x(3, 4), n(4, 3, 2)),
    "gradient": (lambda t, s: torch.gradient(t, spacing=(s,), edge_order=2), x(5), rows(5)),
    "lu": (torch.linalg.lu, x(3, 3)),
    "lu_solve": (lambda A, B: torch.linalg.lu_solve(*torch.linalg.lu_factor(A), B), x(3, 3), x(3, 2)),
    "pinv": (torch.linalg.pinv, x(4, 3)),
    "matrix_rank": (lambda t: torch.linalg.matrix_rank(t @ t.mT), lambda: torch.randn(4, 2)),
    "matrix_power": (lambda t: torch.linalg.matrix_power(t, 0), x(2, 2)),
    "householder": (torch.linalg.householder_product, x(4, 2), x(2)),
    "determinants": (lambda t: (torch.linalg.det(t), torch.linalg.slogdet(t)[1], torch.linalg.det(t * 0)), x(2, 3, 3)),
    "cumprod with zeros": (lambda t: torch.where(t > 0.5, 0.0, t).cumprod(0), x(8)),
    "ctc_loss": (lambda t, i, a, b: F.ctc_loss(t.log_softmax(-1), i + 1, a + 6, b), x(8, 2, 5), n(4, 2, 4), n(3, 2),
                 n(4, 2)),
    "multilabel_margin_loss": (F.multilabel_margin_loss, x(3, 4), lambda: torch.randint(-1, 4, (3, 4))),
    "gumbel_softmax": (F.gumbel_softmax, x(3, 4)),
    "hard gumbel_softmax": (lambda t: F.gumbel_softmax(t, hard=True, dim=0), x(3, 4)),
    "fractional_max_pool2d": (lambda t: F.fractional_max_pool2d(t, 2, 3), x(2, 3, 7, 7)),
    "embedding by frequency": (lambda i, w: F.embedding(i, w, 1, scale_grad_by_freq=True), n(4, 6), x(4, 2)),
    "embedding of norm": (lambda i, w: F.embedding(i, w * 1, max_norm=0.5), n(4, 6), lambda: torch.randn(4, 2)),
    **{f"embedding_bag {mode}": (lambda i, w, o, mode=mode: F.embedding_bag(i, w, o * 2, mode=mode, padding_idx=1),
                                 n(4, 6), x(4, 2), lambda: torch.tensor([0, 1, 1]).mul(torch.randint(0, 3, ())))
       for mode in ("sum", "mean", "max")},
    "embedding_bag of rows": (lambda i, w: F.embedding_bag(i, w, mode="max"), n(4, 3, 2), x(4, 2)),
    "index_fill": (lambda t, i, v: t.index_fill(0, i, v.sum()), x(4, 2), n(4, 3), x(2)),
    "products scattered": (lambda t, i, s: t.scatter_reduce(0, i, s.relu(), "prod"), x(4), n(4, 6), x(6)),
    "draws over a tensor": (lambda t: (t * 2).uniform_() + t, x(3)),
    "istft": (lambda t, w: torch.istft(torch.stft(t, 8, 2, window=w, return_complex=True), 8, 2, window=w), x(2, 40),
              lambda: torch.rand(8) + 0.5),
    "lstsq": (lambda A, B: torch.linalg.lstsq(A, B)[:3:2], x(4, 2), x(4, 3)),
    "irfft": (lambda t: torch.fft.irfft(torch.fft.rfft(t) * 2), x(6)),
    "bessel": (lambda t: torch.special.i1(t) + torch.special.i1e(t), x(4)),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_functions_that_compute_on_arrays(name):
    function, *makers = CALLS[name]
    calls = []
    for seed in range(3):
        torch.manual_seed(seed)
        calls.append([make() for make in makers])
    follows(function, calls)
