"""Complex numbers and their parts."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core.dispatch import primitive
from flambeau.core.inplace import scalar_name
from flambeau.core.tensor import Tensor, constant
from flambeau.ops.comparison import eq
from flambeau.ops.pointwise import add, constant_grad, div, mul, neg, where, zero_of
from flambeau.ops.shape import _alias


@primitive("view_as_real", view=True)
def _view_as_real(x: Any) -> Any:
    part = x.real.dtype
    shape, strides = (*x.shape, 2), (*x.strides, part.itemsize)
    return np.lib.stride_tricks.as_strided(x.reshape(-1)[:0].view(part) if x.size == 0 else x.real, shape, strides)


_view_as_real.vjp(x=lambda grad: view_as_complex(grad.contiguous()))


def view_as_real(input: Tensor) -> Tensor:
    """A view of a complex tensor with real and imaginary part as a new last dimension.

    RuntimeError for real tensors.
    """
    if not input.is_complex():
        raise RuntimeError("view_as_real is only supported for complex tensors")
    return _view_as_real(input)


@primitive("view_as_complex", view=True)
def _view_as_complex(x: Any) -> Any:
    kind = np.complex64 if x.dtype == np.float32 else np.complex128
    if x.flags.c_contiguous:
        return x.view(kind).reshape(x.shape[:-1])
    return np.ndarray(
        x.shape[:-1], kind, buffer=x.data if x.flags.c_contiguous else _memory_of(x), strides=x.strides[:-1]
    )


def _memory_of(x: np.ndarray) -> Any:
    """The bytes from the first element on, as far as this array reaches."""
    reach = sum((n - 1) * s for n, s in zip(x.shape, x.strides)) + x.itemsize
    return np.lib.stride_tricks.as_strided(
        x.reshape(-1)[:0] if x.size == 0 else x, (reach // x.itemsize,), (x.itemsize,)
    ).view(np.uint8)


_view_as_complex.vjp(x=lambda grad: view_as_real(grad))


def view_as_complex(input: Tensor) -> Tensor:
    """A view of pairs (the last dimension has size 2) as complex numbers. RuntimeError for other shapes or types."""
    if input._array.dtype not in (np.float32, np.float64):
        raise RuntimeError(
            f"view_as_complex is only supported for half, float and double tensors, but got a tensor of scalar type: "
            f"{scalar_name(input._array.dtype)}"
        )
    if input._array.ndim == 0:
        raise RuntimeError("Input tensor must have one or more dimensions")
    if input._array.shape[-1] != 2:
        raise RuntimeError("Tensor must have a last dimension of size 2")
    if input.stride()[-1] != 1:
        raise RuntimeError("Tensor must have a last dimension with stride 1")
    return _view_as_complex(input)


@primitive("real_part", view=True, grad_name="SelectBackward0")
def _real_part(x: Any) -> Any:
    return x.real


@primitive("imaginary_part", view=True, grad_name="SelectBackward0")
def _imaginary_part(x: Any) -> Any:
    return x.imag


_real_part.vjp(x=lambda grad: complex(grad, mul(grad, 0)) if not grad.is_complex() else grad)
_imaginary_part.vjp(x=lambda grad: complex(mul(grad, 0), grad))


def real(input: Tensor) -> Tensor:
    """A view of the real part; the tensor itself when it is real."""
    return _real_part(input) if input.is_complex() else _alias(input)


def imag(input: Tensor) -> Tensor:
    """A view of the imaginary part. RuntimeError for real tensors."""
    if not input.is_complex():
        raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")
    return _imaginary_part(input)


@primitive("complex", elementwise=True)
def _complex(x: Any, y: Any) -> Any:
    out = np.empty(
        np.broadcast_shapes(np.shape(x), np.shape(y)), np.complex64 if x.dtype == np.float32 else np.complex128
    )
    out.real, out.imag = x, y
    return out


_complex.vjp(x=lambda grad: _real_part(grad), y=lambda grad: _imaginary_part(grad))


def complex(real: Tensor, imag: Tensor) -> Tensor:
    """real + i * imag. RuntimeError unless both are float32, float64 (or half) of one type."""
    if real._array.dtype != imag._array.dtype:
        raise RuntimeError(
            f"Expected object of scalar type {scalar_name(real._array.dtype)} but got scalar type "
            f"{scalar_name(imag._array.dtype)} for "
            "second argument"
        )
    if not real.dtype.is_floating_point:
        raise RuntimeError(
            f"Expected both inputs to be Half, Float or Double tensors but got {scalar_name(real._array.dtype)} and "
            f"{scalar_name(imag._array.dtype)}"
        )
    return _complex(real, imag)


def polar(abs: Tensor, angle: Tensor) -> Tensor:
    """abs * (cos(angle) + i * sin(angle))."""
    return complex(mul(abs, angle.cos()), mul(abs, angle.sin()))


@primitive("angle", elementwise=True, float_op=True)
def _angle(x: Any) -> Any:
    if x.dtype.kind == "c":
        return np.angle(x)
    return np.where(np.isnan(x), x, np.where(x < 0, np.pi, 0)).astype(x.dtype)


def _angle_vjp(grad: Any, x: Any) -> Any:
    if not x.is_complex():
        return constant_grad(grad)
    re, im = _real_part(x), _imaginary_part(x)
    size = add(mul(re, re), mul(im, im))
    one = constant(np.ones((), size._array.dtype))
    scale = where(eq(size, 0), zero_of(size), div(grad, where(eq(size, 0), one, size)))
    return complex(neg(mul(im, scale)), mul(re, scale))


_angle.vjp(x=_angle_vjp)
_angle.scalar(lambda m, x: m.where(m.isnan(x), x, m.where(x < 0, m.number(np.pi, x), 0)))


def angle(input: Tensor) -> Tensor:
    """The argument of complex numbers; 0 or π for real ones."""
    return _angle(input)


def resolve_conj(input: Tensor) -> Tensor:
    """The tensor itself: conjugates are computed at once here."""
    return input


PROPERTIES = {"real": real, "imag": imag}
