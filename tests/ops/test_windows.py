"""Windows against SciPy's, and PyTorch's errors."""

import numpy as np
import pytest
import scipy.signal.windows as scipy_windows

import flambeau as torch


@pytest.mark.parametrize("length", [2, 5, 8])
@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize(
    ("name", "options", "oracle"),
    [
        ("bartlett_window", {}, "bartlett"),
        ("blackman_window", {}, "blackman"),
        ("hann_window", {}, "hann"),
        ("hamming_window", {}, "hamming"),
        ("hamming_window", {"alpha": 0.6, "beta": 0.4}, ("general_hamming", 0.6)),
        ("kaiser_window", {}, ("kaiser", 12.0)),
        ("kaiser_window", {"beta": 8.6}, ("kaiser", 8.6)),
    ],
)
def test_values(name, options, oracle, periodic, length):
    found = getattr(torch, name)(length, periodic, dtype=torch.float64, **options)
    wanted = scipy_windows.get_window(oracle, length, fftbins=periodic)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-12)


def test_lengths_types_and_errors():
    assert torch.hann_window(0).shape == (0,) and torch.kaiser_window(1).tolist() == [1.0]
    assert torch.hann_window(4).dtype is torch.float32 and torch.hann_window(4, requires_grad=True).requires_grad
    with pytest.raises(RuntimeError, match="non-negative window_length"):
        torch.hann_window(-1)
    with pytest.raises(RuntimeError, match="floating point"):
        torch.blackman_window(3, dtype=torch.int64)


def test_a_window_in_a_spectrogram():
    signal = torch.sin(torch.arange(64.0) * (2 * torch.pi / 8))
    spectrum = torch.stft(signal, 16, window=torch.hann_window(16), return_complex=True).abs()
    assert spectrum[:, 3].argmax().item() == 2
