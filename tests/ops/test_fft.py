"""Fourier transforms: NumPy's values in every normalisation, derivatives by finite differences."""

import numpy as np
import pytest

import flambeau as torch
from flambeau import fft
from flambeau.autograd import gradcheck, gradgradcheck

STREAM = np.random.default_rng(0)
REAL = STREAM.normal(size=(3, 4))
COMPLEX = REAL + 1j * STREAM.normal(size=(3, 4))
ONE = ["fft", "ifft", "rfft", "irfft", "hfft", "ihfft"]
MANY = ["fftn", "ifftn", "rfftn", "irfftn", "fft2", "ifft2", "rfft2", "irfft2"]


def input_of(name):
    return REAL if name.startswith(("rfft", "ihfft")) else COMPLEX


@pytest.mark.parametrize("norm", [None, "forward", "backward", "ortho"])
@pytest.mark.parametrize("name", ONE)
def test_one_dimension(name, norm):
    x = input_of(name)
    for n, dim in ((None, -1), (5, 0), (2, 1)):
        ours = getattr(fft, name)(torch.from_numpy(x), n, dim, norm)
        np.testing.assert_allclose(ours.numpy(), getattr(np.fft, name)(x, n, dim, norm), atol=1e-12)


@pytest.mark.parametrize("norm", [None, "forward", "ortho"])
@pytest.mark.parametrize("name", MANY)
def test_many_dimensions(name, norm):
    x = input_of(name)
    np.testing.assert_allclose(
        getattr(fft, name)(torch.from_numpy(x), norm=norm).numpy(), getattr(np.fft, name)(x, norm=norm), atol=1e-12
    )
    cut = getattr(fft, name)(torch.from_numpy(x), s=(2, 6), norm=norm).numpy()
    np.testing.assert_allclose(cut, getattr(np.fft, name)(x, s=(2, 6), axes=(0, 1), norm=norm), atol=1e-12)


@pytest.mark.parametrize("name", [*ONE, *MANY, "hfftn", "ihfftn"])
def test_derivatives(name):
    x = torch.from_numpy(input_of(name)[:, :3]).requires_grad_()
    assert gradcheck(getattr(fft, name), (x,), atol=1e-6)
    assert gradgradcheck(getattr(fft, name), (x[:2].detach().requires_grad_(),), atol=1e-6)


def test_hermitian_transforms_invert_each_other():
    x = torch.from_numpy(REAL)
    np.testing.assert_allclose(fft.hfftn(fft.ihfftn(x), s=(3, 4)).numpy(), REAL, atol=1e-12)


def test_shifts_and_frequencies():
    assert fft.fftfreq(5, 0.5).tolist() == pytest.approx([0.0, 0.4, 0.8, -0.8, -0.4])
    assert fft.rfftfreq(4).tolist() == [0.0, 0.25, 0.5]
    shifted = fft.fftshift(torch.arange(5))
    assert shifted.tolist() == [3, 4, 0, 1, 2]
    assert fft.ifftshift(shifted).tolist() == [0, 1, 2, 3, 4]


def test_precision_is_kept_and_integers_become_floats():
    assert fft.fft(torch.ones(4)).dtype is torch.complex64
    assert fft.rfft(torch.ones(4, dtype=torch.int64)).dtype is torch.complex64


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fft.rfft(torch.ones(3, dtype=torch.complex64)), RuntimeError, "real input"),
        (lambda: fft.fft(torch.ones(3), n=0), RuntimeError, "Invalid number of data points"),
        (lambda: fft.fft(torch.ones(3), norm="half"), RuntimeError, "Invalid normalization mode"),
        (lambda: fft.fft(torch.ones(3), dim=1), IndexError, "out of range"),
        (lambda: fft.fftn(torch.ones(3, 3), dim=(0, 0)), RuntimeError, "unique"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
