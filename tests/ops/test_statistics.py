"""Covariance against NumPy, short-time Fourier transforms against frames by hand, indefinite factors, sketches."""

import numpy as np
import pytest
from scipy import special as reference

import flambeau as torch
from flambeau import linalg
from flambeau.autograd import gradcheck

STREAM = np.random.default_rng(0)


def random(*shape):
    return torch.from_numpy(STREAM.normal(size=shape)).requires_grad_()


def close(a, b, tolerance=1e-9):
    np.testing.assert_allclose(a.detach().numpy(), b, atol=tolerance, rtol=tolerance)


# ---- covariance ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("correction", [0, 1, 2])
def test_cov(correction):
    x = random(3, 7)
    counts, weights = STREAM.integers(1, 4, 7), STREAM.uniform(0.1, 1, 7)
    for f, a in ((None, None), (counts, None), (None, weights), (counts, weights)):
        got = torch.cov(
            x,
            correction=correction,
            fweights=None if f is None else torch.from_numpy(f),
            aweights=None if a is None else torch.from_numpy(a),
        )
        close(got, np.cov(x.detach().numpy(), ddof=correction, fweights=f, aweights=a))
    assert gradcheck(lambda t: torch.cov(t, correction=correction), (x,))


def test_corrcoef():
    x = random(3, 7)
    close(torch.corrcoef(x), np.corrcoef(x.detach().numpy()))
    assert gradcheck(torch.corrcoef, (x,))
    assert torch.corrcoef(random(5)).shape == ()


def test_cov_refuses():
    with pytest.raises(RuntimeError, match="two or fewer dimensions"):
        torch.cov(random(2, 2, 2))
    with pytest.raises(RuntimeError, match="bool dtype is not supported"):
        torch.cov(torch.tensor([True, False]))
    with pytest.raises(RuntimeError, match="integral dtype"):
        torch.cov(random(2, 3), fweights=torch.ones(3))
    with pytest.raises(RuntimeError, match="same numel"):
        torch.cov(random(2, 3), aweights=torch.ones(2))


# ---- short-time Fourier transforms -----------------------------------------------------------------------


@pytest.mark.parametrize("onesided", [True, False])
def test_stft(onesided):
    x, window = random(2, 40), np.hanning(10)
    got = torch.stft(x, 16, 5, 10, torch.from_numpy(window), onesided=onesided, return_complex=True)
    padded = np.pad(x.detach().numpy(), ((0, 0), (8, 8)), "reflect")
    full = np.pad(window, 3)
    frames = np.stack([padded[:, i : i + 16] * full for i in range(0, padded.shape[1] - 15, 5)], 2)
    close(got, (np.fft.rfft if onesided else np.fft.fft)(frames, axis=1))
    parts = torch.stft(x, 16, 5, 10, torch.from_numpy(window), onesided=onesided, return_complex=False)
    close(parts, np.stack([got.detach().numpy().real, got.detach().numpy().imag], -1))


@pytest.mark.parametrize("normalized", [True, False])
def test_istft_undoes_stft(normalized):
    x, window = random(2, 48), torch.from_numpy(np.hanning(18)[1:-1])
    spectra = torch.stft(x, 16, 4, window=window, normalized=normalized, return_complex=True)
    close(torch.istft(spectra, 16, 4, window=window, normalized=normalized, length=48), x.detach().numpy())
    close(torch.istft(spectra, 16, 4, window=window, normalized=normalized), x.detach().numpy())


def test_stft_gradient():
    x, window = random(20), torch.from_numpy(np.hanning(8))
    assert gradcheck(lambda t: torch.stft(t, 8, 3, window=window, return_complex=False), (x,))


def test_stft_refuses():
    with pytest.raises(RuntimeError, match="return_complex"):
        torch.stft(random(20), 8)
    with pytest.raises(RuntimeError, match="n_fft"):
        torch.stft(random(5), 8, center=False, return_complex=True)
    with pytest.raises(RuntimeError, match="win_length"):
        torch.stft(random(20), 8, win_length=9, return_complex=True)
    with pytest.raises(RuntimeError, match="size equal to win_length=8"):
        torch.stft(random(20), 8, window=torch.ones(7), return_complex=True)


# ---- indefinite matrices -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("kind", ["real", "symmetric", "hermitian"])
def test_ldl_solves(kind, seed):
    stream = np.random.default_rng(seed)
    A, B = stream.normal(size=(2, 6, 6)), stream.normal(size=(2, 6, 3))
    if kind != "real":
        A = A + 1j * stream.normal(size=A.shape)
    A = A + np.swapaxes(A.conj() if kind == "hermitian" else A, 1, 2)
    hermitian = kind == "hermitian"
    LD, pivots = linalg.ldl_factor(torch.from_numpy(A), hermitian=hermitian)
    assert pivots.dtype == torch.int32 and pivots.shape == (2, 6)
    X = linalg.ldl_solve(LD, pivots, torch.from_numpy(B.astype(A.dtype)), hermitian=hermitian)
    close(X, np.linalg.solve(A, B))


RECORDED_PIVOTS = [-4, -4, 3, 4]
RECORDED_LD = [
    [0.0, 0.0, 0.0, 0.0],
    [4.0, 0.0, 0.0, 0.0],
    [0.5, 0.25, 4.0, 0.0],
    [0.25, 0.5, 0.4375, -1.765625],
]


def test_ldl_pivots_are_those_of_lapack():
    """Recorded from LAPACK's sytrf: a block of two, an exchange, and a plain step."""
    A = torch.tensor([[0.0, 2.0, 1.0, 4.0], [2.0, 0.0, 3.0, 1.0], [1.0, 3.0, 5.0, 2.0], [4.0, 1.0, 2.0, 0.0]])
    LD, pivots = linalg.ldl_factor(A)
    assert pivots.tolist() == RECORDED_PIVOTS
    close(LD, RECORDED_LD, 1e-5)


def test_ldl_of_a_singular_matrix():
    assert int(linalg.ldl_factor_ex(torch.zeros(2, 2)).info) == 1
    with pytest.raises(RuntimeError, match="singular"):
        linalg.ldl_factor(torch.zeros(2, 2))
    with pytest.raises(RuntimeError, match="square"):
        linalg.ldl_factor(torch.zeros(2, 3))


# ---- sketches of large matrices -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(20, 8), (8, 20), (2, 9, 7)])
def test_svd_lowrank(shape):
    left, right = random(*shape[:-1], 3), random(*shape[:-2], 3, shape[-1])
    A = (left @ right).detach()
    U, S, V = torch.svd_lowrank(A, q=4)
    assert U.shape == (*shape[:-1], 4) and V.shape == (*shape[:-2], shape[-1], 4)
    close((U * S.unsqueeze(-2)) @ V.mH, A.numpy())


def test_pca_lowrank():
    A = random(30, 5).detach()
    _, S, _ = torch.pca_lowrank(A, q=5)
    close(S, np.linalg.svd(A.numpy() - A.numpy().mean(0), compute_uv=False))
    with pytest.raises(ValueError, match="q"):
        torch.pca_lowrank(A, q=6)


# ---- special functions at the edges ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["i0e", "i1e", "erfcx", "i0", "i1"])
def test_special_over_a_wide_range(name):
    x = np.concatenate([np.linspace(-25, 80, 211), [0.0, 1e-8, 600.0, np.nan]])
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(
            getattr(torch.special, name)(torch.from_numpy(x)).numpy(), getattr(reference, name)(x), rtol=1e-12
        )


@pytest.mark.parametrize("name", ["gammainc", "gammaincc"])
def test_incomplete_gamma_over_a_wide_range(name):
    a = np.concatenate([STREAM.uniform(0, 1, 300) ** 3 * 400, [0, 1, np.inf, 1, -1, 2, 1e5, 0]])
    x = np.concatenate([a[:300] * STREAM.uniform(0, 2, 300), [1, 0, 1, np.inf, 2, -1, 1e5, 0]])
    got = getattr(torch.special, name)(torch.from_numpy(a), torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(got, getattr(reference, name)(a, x), atol=1e-9, rtol=1e-6)


def test_frexp():
    mantissa, exponent = torch.frexp(torch.tensor([1.5, -3.0, 0.0, float("inf")]))
    assert mantissa.tolist() == [0.75, -0.75, 0.0, float("inf")]
    assert exponent.tolist() == [1, 2, 0, 0] and exponent.dtype == torch.int32
    with pytest.raises(RuntimeError, match="floating-point"):
        torch.frexp(torch.tensor([1]))


# ---- out= ----------------------------------------------------------------------------------------------------


def test_out_may_not_overlap_the_input():
    x = torch.arange(6.0)
    for call in (
        lambda: torch.gather(x, 0, torch.tensor([2, 1]), out=x[:2]),
        lambda: torch.take(x, torch.tensor([2, 1]), out=x[:2]),
        lambda: torch.masked_select(x, x > 2, out=x),
        lambda: torch.index_select(x, 0, torch.tensor([0]), out=x[:1]),
        lambda: torch.cat([x, x], out=x),
        lambda: torch.index_select(x, 0, torch.tensor([0, 1]), out=torch.zeros(1).expand(2)),
    ):
        with pytest.raises(RuntimeError, match="unsupported operation"):
            call()
    assert x.tolist() == [0, 1, 2, 3, 4, 5]


def test_out_of_another_type():
    with pytest.raises(RuntimeError, match="dtype float32, but got float64"):
        torch.gather(torch.ones(2), 0, torch.tensor([0]), out=torch.zeros(1, dtype=torch.float64))
