"""Short-time Fourier transforms: overlapping windowed frames, each with its spectrum, and back."""

from __future__ import annotations

import math

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core import recording
from flambeau.core.tensor import Tensor, constant
from flambeau.ops import fft
from flambeau.ops.complex import view_as_real
from flambeau.ops.padding import pad
from flambeau.ops.pointwise import div, mul
from flambeau.ops.shape import _fold_windows, _squeeze, _transpose, _unsqueeze, narrow, unfold

__all__ = ["istft", "stft"]


def _window(name: str, window: Tensor | None, length: int, n_fft: int, kind: dtypes.dtype) -> Tensor:
    """The window of `length` (ones by default), with zeros on both sides up to `n_fft`."""
    if window is None:
        window = constant(np.ones(length, kind.numpy))
    elif window._array.ndim != 1 or window._array.size != length:
        raise RuntimeError(
            f"{name}: expected a 1D window tensor of size equal to win_length={length}, but got window with size "
            f"{list(window._array.shape)}"
        )
    left = (n_fft - length) // 2
    return pad(window, (left, n_fft - length - left)) if length < n_fft else window


def stft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Tensor:
    """Spectra of the frames of a signal: ([batch,] length) gives ([batch,] frequencies, frames), complex.

    A frame of `n_fft` samples starts every `hop_length` (n_fft // 4); with `center` the signal is padded by half a
    frame on both sides. Real signals give n_fft // 2 + 1 frequencies unless `onesided` is False. With
    `return_complex=False` real and imaginary part are a last dimension.
    RuntimeError for sizes that do not fit, and for real signals when `return_complex` is not said.
    """
    hop = n_fft // 4 if hop_length is None else hop_length
    length = n_fft if win_length is None else win_length
    is_complex = input.is_complex() or (window is not None and window.is_complex())
    if return_complex is None:
        if not is_complex:
            raise RuntimeError("stft requires the return_complex parameter be given for real inputs.")
        return_complex = True
    if input.dtype.category < dtypes.FLOAT:
        raise RuntimeError(f"stft: expected a tensor of floating point or complex values, got {input.dtype}")
    if input._array.ndim not in (1, 2):
        raise RuntimeError(f"stft: expected a 1D or 2D tensor, got {input._array.ndim}D")
    if center and align_to_window is not None:
        raise RuntimeError("stft: align_to_window should only be set when center = false.")
    x = _unsqueeze(input, dim=0) if input._array.ndim == 1 else input
    if center:
        half = n_fft // 2
        x = _squeeze(pad(_unsqueeze(x, dim=1), (half, half), pad_mode), dims=(1,))
    size = x._array.shape[1]
    if not 0 < n_fft <= size:
        raise RuntimeError(f"stft: expected 0 < n_fft <= {size}, but got n_fft={n_fft}")
    if hop <= 0:
        raise RuntimeError(f"stft: expected hop_length > 0, but got hop_length={hop}")
    if not 0 < length <= n_fft:
        raise RuntimeError(f"stft: expected 0 < win_length <= n_fft, but got win_length={length}")
    frames = unfold(x, 1, n_fft, hop)
    if window is not None or length < n_fft:
        frames = mul(frames, _window("stft", window, length, n_fft, dtypes.from_numpy(x._array.real.dtype)))
    if onesided is None:
        onesided = not is_complex
    if is_complex and onesided:
        raise RuntimeError("stft: cannot have onesided output if window or input is complex")
    norm = "ortho" if normalized else None
    spectrum = _transpose((fft.rfft if onesided else fft.fft)(frames, None, -1, norm), dim0=1, dim1=2)
    if input._array.ndim == 1:
        spectrum = _squeeze(spectrum, dims=(0,))
    return spectrum if return_complex else view_as_real(spectrum)


def istft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Tensor:
    """The signal of which `stft` gave the spectra: ([batch,] frequencies, frames), complex, gives ([batch,] length).

    Overlapping frames are added and divided by the sum of the squared windows (Griffin & Lim, 1984).
    RuntimeError for sizes that do not fit or a window that leaves samples uncovered.
    """
    hop = n_fft // 4 if hop_length is None else hop_length
    win_length = n_fft if win_length is None else win_length
    if not input.is_complex():
        raise RuntimeError("istft requires a complex-valued input tensor matching the output from stft with "
                           "return_complex=True.")
    if input._array.ndim not in (2, 3) or input._array.size == 0:
        raise RuntimeError(
            f"istft: expected a tensor with 2 or 3 dimensions and elements, got {list(input._array.shape)}"
        )
    x = _unsqueeze(input, dim=0) if input._array.ndim == 2 else input
    frequencies, count = x._array.shape[1:]
    onesided = frequencies != n_fft if onesided is None else onesided
    expected = n_fft // 2 + 1 if onesided else n_fft
    if frequencies != expected:
        raise RuntimeError(
            f"istft: expected the frequency dimension (3rd to the last) of the input tensor to match n_fft / 2 + 1 "
            f"when onesided=True (n_fft otherwise), {expected}, but got {frequencies}"
        )
    if not 0 < hop <= win_length:
        raise RuntimeError(f"istft: expected 0 < hop_length <= win_length={win_length}, but got {hop}")
    if not 0 < win_length <= n_fft:
        raise RuntimeError(f"istft: expected 0 < win_length <= n_fft={n_fft}, but got {win_length}")
    shape = _window("istft", window, win_length, n_fft, dtypes.from_numpy(x._array.real.dtype))
    if return_complex and onesided:
        raise RuntimeError("istft: complex output cannot come from onesided spectra")
    norm, spectra = "ortho" if normalized else None, _transpose(x, dim0=1, dim1=2)
    if return_complex:
        frames = fft.ifft(spectra, None, -1, norm)
    else:
        half = spectra if onesided else narrow(spectra, 2, 0, n_fft // 2 + 1)
        frames = fft.irfft(half, n_fft, -1, norm)
    total = n_fft + hop * (count - 1)
    batch = x._array.shape[0]
    signal = _fold_windows(mul(frames, shape), dim=1, size=n_fft, step=hop, shape=(batch, total))
    squares = mul(shape, shape).expand(1, count, n_fft)
    cover = _fold_windows(squares, dim=1, size=n_fft, step=hop, shape=(1, total))
    start = n_fft // 2 if center else 0
    stop = start + length if length is not None else total - (n_fft // 2 if center else 0)
    within = min(stop, total)
    signal, cover = narrow(signal, 1, start, within - start), narrow(cover, 1, start, within - start)
    uncovered = RuntimeError("istft: window overlap add min: some samples are covered by no window")
    if recording.recorder is not None:
        recording.bounded(cover.abs(), 1e-11, math.inf, uncovered)
    if np.abs(cover._array).min(initial=1.0) < 1e-11:
        raise uncovered
    signal = div(signal, cover)
    if stop > total:
        signal = pad(signal, (0, stop - total))
    return _squeeze(signal, dims=(0,)) if input._array.ndim == 2 else signal
