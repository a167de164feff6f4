"""`flambeau.fft`: discrete Fourier transforms."""

from __future__ import annotations

from flambeau.core.inplace import with_out as _with_out
from flambeau.ops import fft as _family
from flambeau.ops.fft import fftshift, ifftshift

_NAMES = (
    "fft", "ifft", "rfft", "irfft", "hfft", "ihfft", "fft2", "ifft2", "rfft2", "irfft2", "hfft2", "ihfft2", "fftn",
    "ifftn", "rfftn", "irfftn", "hfftn", "ihfftn", "fftfreq", "rfftfreq",
)  # fmt: skip
globals().update({name: _with_out(getattr(_family, name)) for name in _NAMES})

__all__ = [*_NAMES, "fftshift", "ifftshift"]
