"""Discrete Fourier transforms: complex, real and Hermitian, in one or many dimensions, with derivatives.

Three primitives carry everything: complex to complex, real to complex (half of the last dimension), complex to real.
Source of the conventions: the contract of torch.fft, which is NumPy's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core.dispatch import primitive
from flambeau.core.tensor import Tensor, constant, wrap_dim
from flambeau.ops.creation import finish
from flambeau.ops.padding import constant_pad_nd
from flambeau.ops.pointwise import conj, mul, real
from flambeau.ops.rearranging import roll
from flambeau.ops.shape import _slice

Dims = tuple[int, ...]


def _scale(norm: str | None, forward: bool, count: int) -> float:
    """The factor of a normalisation mode: forward transforms are unscaled by default, backward ones divided by n."""
    if norm not in (None, "forward", "backward", "ortho"):
        raise RuntimeError(f"Invalid normalization mode: {norm}")
    if norm == "ortho":
        return 1.0 / float(np.sqrt(count))
    divided = (norm == "forward") == forward
    return 1.0 / count if divided else 1.0


def _typed(x: Any, result: Any) -> Any:
    """NumPy's result in the precision of the input."""
    narrow = x.dtype in (np.float32, np.complex64)
    kind = np.complex64 if result.dtype.kind == "c" and narrow else np.float32 if narrow else result.dtype
    return result.astype(kind, copy=False)


@primitive("fft_c2c")
def _c2c(x: Any, *, dims: Dims, forward: bool, scale: float) -> Any:
    run = np.fft.fftn if forward else np.fft.ifftn
    out = run(x, axes=dims, norm="backward" if forward else "forward")
    return _typed(x, out * scale if scale != 1 else out)


_c2c.vjp(x=lambda grad, dims, forward, scale: _c2c(grad, dims=dims, forward=not forward, scale=scale))


@primitive("fft_r2c")
def _r2c(x: Any, *, dims: Dims, scale: float) -> Any:
    """The half spectrum of real input; the last of `dims` is the halved one."""
    out = np.fft.rfftn(x, axes=dims)
    return _typed(x, out * scale if scale != 1 else out)


@_r2c.vjp
def _r2c_vjp(grad: Tensor, dims: Dims, scale: float, shapes: Any) -> Any:
    """The other half of the spectrum got no gradient: transform back with zeros there, and keep the real part."""
    n, last = shapes[0][dims[-1]], dims[-1]
    full = _resized(grad, last, n)
    return real(_c2c(full, dims=dims, forward=False, scale=scale))


@primitive("fft_c2r")
def _c2r(x: Any, *, dims: Dims, scale: float, size: int) -> Any:
    """Real output from a half spectrum; `size` is the length of the last of `dims` in the result."""
    if len(dims) > 1:
        x_full = np.fft.ifftn(x, axes=dims[:-1], norm="forward")
    else:
        x_full = x
    out = np.fft.irfft(x_full, size, axis=dims[-1], norm="forward")
    return _typed(x, out * scale if scale != 1 else out)


@_c2r.vjp
def _c2r_vjp(grad: Tensor, dims: Dims, scale: float, size: int, shapes: Any) -> Any:
    """Inner frequencies stand for themselves and their mirror image: they count twice."""
    half = shapes[0][dims[-1]]
    out = _r2c(grad, dims=dims, scale=scale)
    twice = np.ones(half, grad._array.dtype)
    twice[1 : half - (1 if size % 2 == 0 else 0)] = 2
    shape = tuple(half if d == dims[-1] else 1 for d in range(len(shapes[0])))
    return mul(out, constant(twice.reshape(shape)))


# ---- arguments ----------------------------------------------------------------------------------------


def _as_complex(input: Tensor) -> Tensor:
    d = input.dtype
    if d.is_complex:
        return input
    return input.to((d if d.is_floating_point and d.itemsize >= 4 else dtypes.default_dtype()).to_complex())


def _as_real(name: str, input: Tensor) -> Tensor:
    if input.is_complex():
        raise RuntimeError(f"{name} expects a real input tensor, but got {input.dtype}")
    d = input.dtype
    return input if d.is_floating_point and d.itemsize >= 4 else input.to(dtypes.default_dtype())


def _resized(x: Tensor, dim: int, n: int) -> Tensor:
    """Cut or zero-padded to `n` entries along `dim`."""
    have = x._array.shape[dim]
    if n == have:
        return x
    if n < have:
        return _slice(x, dim=dim, start=0, stop=n, step=1)
    behind = x._array.ndim - 1 - dim
    return constant_pad_nd(x, [0, 0] * behind + [0, n - have])


def _one(name: str, x: Tensor, n: int | None, dim: int) -> tuple[Tensor, int]:
    if x._array.ndim == 0:
        raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
    d = wrap_dim(dim, x._array.ndim)
    size = x._array.shape[d] if n is None else n
    if size < 1:
        raise RuntimeError(f"Invalid number of data points ({size}) specified")
    return _resized(x, d, size), d


def _many(name: str, x: Tensor, s: Any, dim: Any) -> tuple[list[int], list[int]]:
    """Sizes and dimensions of an n-dimensional transform."""
    ndim = x._array.ndim
    if dim is not None:
        dims = [wrap_dim(d, ndim) for d in ((dim,) if isinstance(dim, int) else dim)]
        if len(set(dims)) != len(dims):
            raise RuntimeError("FFT dims must be unique")
    sizes = None if s is None else list((s,) if isinstance(s, int) else s)
    if dim is None:
        if sizes is None:
            dims = list(range(ndim))
        else:
            if len(sizes) > ndim:
                raise RuntimeError(f"Got shape with {len(sizes)} values but input tensor only has {ndim} dimensions.")
            dims = list(range(ndim - len(sizes), ndim))
    if sizes is None:
        sizes = [x._array.shape[d] for d in dims]
    elif len(sizes) != len(dims):
        raise RuntimeError("When given, dim and shape arguments must have the same length")
    sizes = [x._array.shape[d] if n == -1 else n for n, d in zip(sizes, dims)]
    for n in sizes:
        if n < 1:
            raise RuntimeError(f"Invalid number of data points ({n}) specified")
    return sizes, dims


# ---- one dimension --------------------------------------------------------------------------------------


def fft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """Transform along `dim`, cut or padded to `n` points."""
    x, d = _one("fft", _as_complex(input), n, dim)
    return _c2c(x, dims=(d,), forward=True, scale=_scale(norm, True, x._array.shape[d]))


def ifft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """Inverse of `fft`."""
    x, d = _one("ifft", _as_complex(input), n, dim)
    return _c2c(x, dims=(d,), forward=False, scale=_scale(norm, False, x._array.shape[d]))


def rfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """Transform of real input: the n // 2 + 1 frequencies that are not mirror images."""
    x, d = _one("rfft", _as_real("rfft", input), n, dim)
    return _r2c(x, dims=(d,), scale=_scale(norm, True, x._array.shape[d]))


def irfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """Inverse of `rfft`; `n` is the length of the real result (2 * (frequencies - 1) by default)."""
    return _irfft(input, n, dim, norm, forward=False)


def _irfft(input: Tensor, n: int | None, dim: int, norm: str | None, forward: bool) -> Tensor:
    x = _as_complex(input)
    if x._array.ndim == 0:
        raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
    d = wrap_dim(dim, x._array.ndim)
    size = 2 * (x._array.shape[d] - 1) if n is None else n
    if size < 1:
        raise RuntimeError(f"Invalid number of data points ({size}) specified")
    x = _resized(x, d, size // 2 + 1)
    return _c2r(conj(x) if forward else x, dims=(d,), scale=_scale(norm, forward, size), size=size)


def hfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """Transform of a Hermitian signal given by its first half: real output."""
    return _irfft(input, n, dim, norm, forward=True)


def ihfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """Inverse of `hfft`: half of a Hermitian spectrum from real input."""
    x, d = _one("ihfft", _as_real("ihfft", input), n, dim)
    return conj(_r2c(x, dims=(d,), scale=_scale(norm, False, x._array.shape[d])))


# ---- many dimensions --------------------------------------------------------------------------------------


def _cut(x: Tensor, sizes: list[int], dims: list[int]) -> Tensor:
    for n, d in zip(sizes, dims):
        x = _resized(x, d, n)
    return x


def _complex_nd(name: str, input: Tensor, s: Any, dim: Any, norm: str | None, forward: bool) -> Tensor:
    x = _as_complex(input)
    sizes, dims = _many(name, x, s, dim)
    x = _cut(x, sizes, dims)
    if not dims:
        return x.clone()
    return _c2c(x, dims=tuple(dims), forward=forward, scale=_scale(norm, forward, int(np.prod(sizes))))


def fftn(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
    """Transform over several dimensions (all by default)."""
    return _complex_nd("fftn", input, s, dim, norm, True)


def ifftn(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
    """Inverse of `fftn`."""
    return _complex_nd("ifftn", input, s, dim, norm, False)


def fft2(input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Tensor:
    """Transform over two dimensions."""
    return fftn(input, s, dim, norm)


def ifft2(input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Tensor:
    """Inverse of `fft2`."""
    return ifftn(input, s, dim, norm)


def _real_nd(name: str, input: Tensor, s: Any, dim: Any, norm: str | None, forward: bool) -> Tensor:
    x = _as_real(name, input)
    sizes, dims = _many(name, x, s, dim)
    if not dims:
        raise RuntimeError(f"{name} must transform at least one axis")
    x = _cut(x, sizes, dims)
    return _r2c(x, dims=tuple(dims), scale=_scale(norm, forward, int(np.prod(sizes))))


def rfftn(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
    """Transform of real input over several dimensions; the last one is halved."""
    return _real_nd("rfftn", input, s, dim, norm, True)


def rfft2(input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Tensor:
    """Transform of real input over two dimensions; the last one is halved."""
    return rfftn(input, s, dim, norm)


def _hermitian_nd(name: str, input: Tensor, s: Any, dim: Any, norm: str | None, forward: bool) -> Tensor:
    x = _as_complex(input)
    sizes, dims = _many(name, x, s, dim)
    if not dims:
        raise RuntimeError(f"{name} must transform at least one axis")
    given = None if s is None else list((s,) if isinstance(s, int) else s)
    size = 2 * (x._array.shape[dims[-1]] - 1) if given is None or given[-1] == -1 else given[-1]
    if size < 1:
        raise RuntimeError(f"Invalid number of data points ({size}) specified")
    sizes[-1] = size
    x = _cut(x, [*sizes[:-1], size // 2 + 1], dims)
    scale = _scale(norm, forward, int(np.prod(sizes)))
    return _c2r(conj(x) if forward else x, dims=tuple(dims), scale=scale, size=size)


def irfftn(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
    """Inverse of `rfftn`."""
    return _hermitian_nd("irfftn", input, s, dim, norm, False)


def irfft2(input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Tensor:
    """Inverse of `rfft2`."""
    return irfftn(input, s, dim, norm)


def hfftn(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
    """Transform of a Hermitian signal over several dimensions: real output."""
    return _hermitian_nd("hfftn", input, s, dim, norm, True)


def hfft2(input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Tensor:
    """Transform of a Hermitian signal over two dimensions."""
    return hfftn(input, s, dim, norm)


def ihfftn(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
    """Inverse of `hfftn`."""
    return conj(_real_nd("ihfftn", input, s, dim, norm, False))


def ihfft2(input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Tensor:
    """Inverse of `hfft2`."""
    return ihfftn(input, s, dim, norm)


# ---- frequencies ------------------------------------------------------------------------------------------


def fftfreq(
    n: int,
    d: float = 1.0,
    *,
    dtype: dtypes.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """The frequencies of `fft`'s n outputs for samples `d` apart."""
    array = np.fft.fftfreq(n, d).astype((dtype or dtypes.default_dtype()).numpy)
    return finish(array, device, requires_grad)


def rfftfreq(
    n: int,
    d: float = 1.0,
    *,
    dtype: dtypes.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """The frequencies of `rfft`'s outputs for n samples `d` apart."""
    array = np.fft.rfftfreq(n, d).astype((dtype or dtypes.default_dtype()).numpy)
    return finish(array, device, requires_grad)


def _shift_dims(input: Tensor, dim: Any) -> list[int]:
    if dim is None:
        return list(range(input._array.ndim))
    return [wrap_dim(d, input._array.ndim) for d in ((dim,) if isinstance(dim, int) else dim)]


def fftshift(input: Tensor, dim: Any = None) -> Tensor:
    """Frequency 0 moved to the middle."""
    dims = _shift_dims(input, dim)
    return roll(input, [input._array.shape[d] // 2 for d in dims], dims) if dims else input.clone()


def ifftshift(input: Tensor, dim: Any = None) -> Tensor:
    """Inverse of `fftshift`."""
    dims = _shift_dims(input, dim)
    return roll(input, [(input._array.shape[d] + 1) // 2 for d in dims], dims) if dims else input.clone()
