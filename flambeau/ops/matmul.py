"""Products: matrix, batched, dot, outer, linear layers, einsum."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flambeau.backends.threads import get_num_threads
from flambeau.core import dtype as dtypes
from flambeau.core.device import MetaArray
from flambeau.core.dispatch import primitive
from flambeau.core.inplace import adopt_history, bump, check_writable, inplace_of, write_out
from flambeau.core.modes import modes
from flambeau.core.tensor import Tensor, constant, storage_of
from flambeau.ops import pointwise
from flambeau.ops.native import onednn, usable
from flambeau.ops.pointwise import conj
from flambeau.ops.reductions import _sum
from flambeau.ops.shape import (
    _squeeze,
    _transpose,
    _unsqueeze,
    reshape,
)


def _title(t: Tensor) -> str:
    names = {
        "float32": "float",
        "float64": "double",
        "float16": "c10::Half",
        "bfloat16": "c10::BFloat16",
        "int64": "long int",
        "int32": "int",
        "int16": "short int",
        "int8": "signed char",
        "uint8": "unsigned char",
        "bool": "bool",
        "complex64": "c10::complex<float>",
        "complex128": "c10::complex<double>",
    }
    return names.get(t.dtype.name, t.dtype.name)


def check_tensors(name: str, *tensors: Any) -> None:
    """TypeError for operands that are not tensors, RuntimeError for operands of different types."""
    for position, t in enumerate(tensors):
        if not isinstance(t, Tensor):
            raise TypeError(f"{name}(): argument #{position + 1} must be Tensor, not {type(t).__name__}")
    first = tensors[0]
    for t in tensors[1:]:
        if t._array.dtype is not first._array.dtype and t._array.dtype != first._array.dtype and modes.autocast is None:
            raise RuntimeError(f"expected m1 and m2 to have the same dtype, but got: {_title(first)} != {_title(t)}")


def mT(x: Tensor) -> Tensor:
    """The last two dimensions swapped."""
    n = x._array.ndim
    return _transpose(x, dim0=n - 2, dim1=n - 1)


def mH(x: Tensor) -> Tensor:
    """Conjugate transpose of the last two dimensions."""
    return conj(mT(x))


def multiply_arrays(x: Any, y: Any) -> Any:
    """`np.matmul` with half-width floats computed in float32; bool is refused."""
    if x.dtype.kind == "V" or (x.dtype.itemsize == 2 and x.dtype.kind == "f"):
        return np.matmul(x.astype(np.float32), y.astype(np.float32)).astype(x.dtype)
    if x.dtype.kind == "b":
        raise RuntimeError("\"addmm_impl_cpu_\" not implemented for 'Bool'")
    if x.dtype == np.float32 and min(x.ndim, y.ndim) > 1 and math.prod(x.shape[-2:]) * y.shape[-1] > ONE_THREAD \
            and usable(x, y) and get_num_threads() > 1:
        return onednn().sgemm(x, y) if x.ndim == y.ndim == 2 else onednn().matmul(x, y)
    return np.matmul(x, y)


# Up to this many products OpenBLAS stays on the calling thread and is the fastest. Beyond, its threads and OpenMP's
# wait for each other's cores: larger matrices go to oneDNN, on the same threads as convolutions. Where there is one
# thread for all there is nothing to wait for, and OpenBLAS is up to twice as fast (transposed left operands).
ONE_THREAD = 1 << 18


@primitive("matmul", grad_name="MmBackward0")
def matrix_product(x: Any, y: Any) -> Any:
    """Product of the last two dimensions (both at least 2-d), the others broadcast."""
    return multiply_arrays(x, y)


matrix_product.vjp(x=lambda grad, y: matrix_product(grad, mH(y)), y=lambda grad, x: matrix_product(mH(x), grad))


def _shapes(a: Tensor, b: Tensor) -> str:
    def show(t: Tensor) -> str:
        shape = t._array.shape
        rows = int(np.prod(shape[:-1], dtype=np.int64)) if len(shape) != 2 else shape[0]
        return f"{rows}x{shape[-1]}"

    return f"{show(a)} and {show(b)}"


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """Matrix product; vectors are taken as a row on the left, a column on the right; leading dimensions broadcast.

    RuntimeError when the inner sizes differ, the types differ, or one side is 0-d.
    """
    check_tensors("matmul", input, other)
    x, y = input._array, other._array
    if x.ndim == 0 or y.ndim == 0:
        raise RuntimeError(f"both arguments to matmul need to be at least 1D, but they are {x.ndim}D and {y.ndim}D")
    inner = y.shape[-2] if y.ndim > 1 else y.shape[0]
    if x.shape[-1] != inner:
        if x.ndim == 1 and y.ndim == 1:
            raise RuntimeError(
                f"inconsistent tensor size, expected tensor [{x.shape[0]}] and src [{y.shape[0]}] to have the same "
                f"number of "
                f"elements, but got {x.shape[0]} and {y.shape[0]} elements respectively"
            )
        if y.ndim == 1:
            raise RuntimeError(
                f"size mismatch, got input ({x.shape[-2]}), mat ({x.shape[-2]}x{x.shape[-1]}), vec ({y.shape[0]})"
            )
        if x.ndim > 2 and y.ndim > 2:
            raise RuntimeError(
                f"Expected size for first two dimensions of batch2 tensor to be: [{y.shape[0]}, {x.shape[-1]}] but "
                f"got: "
                f"[{y.shape[0]}, {inner}]."
            )
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({_shapes(input, other)})")
    if x.ndim == 1 and y.ndim == 1:
        return dot(input, other)
    left = _unsqueeze(input, dim=0) if x.ndim == 1 else input
    right = _unsqueeze(other, dim=1) if y.ndim == 1 else other
    try:
        # A batch of matrices against one matrix is one tall product: BLAS sees it whole.
        if left._array.ndim > 2 and right._array.ndim == 2 and left._array.flags.c_contiguous:
            shape = left._array.shape
            rows = int(np.prod(shape[:-1], dtype=np.int64))
            flat = reshape(left, (rows, shape[-1]))
            out = reshape(matrix_product(flat, right), (*shape[:-1], right._array.shape[-1]))
        else:
            out = matrix_product(left, right)
    except ValueError as error:
        batch = [a.shape[:-2] for a in (left._array, right._array)]
        raise RuntimeError(
            f"The size of tensor a ({batch[0]}) must match the size of tensor b ({batch[1]}) in the batch dimensions "
            f"(matmul of {list(x.shape)} and {list(y.shape)})"
        ) from error
    if x.ndim == 1:
        out = _squeeze(out, dims=(out._array.ndim - 2,))
    if y.ndim == 1:
        out = _squeeze(out, dims=(out._array.ndim - 1,))
    return out


def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """Product of two matrices. RuntimeError unless both are 2-d and fit."""
    check_tensors("mm", input, mat2)
    for t, which in ((input, "self"), (mat2, "mat2")):
        if t._array.ndim != 2:
            raise RuntimeError(f"{which} must be a matrix")
    if input._array.shape[1] != mat2._array.shape[0]:
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({_shapes(input, mat2)})")
    return matrix_product(input, mat2)


def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """Products of two batches of matrices. RuntimeError unless both are 3-d and fit."""
    check_tensors("bmm", input, mat2)
    x, y = input._array.shape, mat2._array.shape
    if len(x) != 3:
        raise RuntimeError("batch1 must be a 3D tensor")
    if len(y) != 3:
        raise RuntimeError("batch2 must be a 3D tensor")
    if x[0] != y[0] or x[2] != y[1]:
        raise RuntimeError(
            f"Expected size for first two dimensions of batch2 tensor to be: [{x[0]}, {x[2]}] but got: [{y[0]}, "
            f"{y[1]}]."
        )
    return matrix_product(input, mat2)


@primitive("dot")
def _dot(x: Any, y: Any) -> Any:
    if x.dtype.kind == "V" or (x.dtype.itemsize == 2 and x.dtype.kind == "f"):
        return np.dot(x.astype(np.float32), y.astype(np.float32)).astype(x.dtype)
    return np.dot(x, y)


_dot.vjp(x=lambda grad, y: pointwise.mul(grad, conj(y)), y=lambda grad, x: pointwise.mul(grad, conj(x)))


def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """Sum of products of two vectors. RuntimeError unless both are 1-d and of one length."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"dot(): argument 'tensor' (position 2) must be Tensor, not {type(tensor).__name__}")
    x, y = input._array, tensor._array
    if x.ndim != 1 or y.ndim != 1:
        raise RuntimeError(f"1D tensors expected, but got {x.ndim}D and {y.ndim}D tensors")
    if x.dtype != y.dtype and modes.autocast is None:
        raise RuntimeError(
            f"dot : expected both vectors to have same dtype, but found {cname(input)} and {cname(tensor)}"
        )
    if x.shape != y.shape:
        raise RuntimeError(
            f"inconsistent tensor size, expected tensor [{x.shape[0]}] and src [{y.shape[0]}] to have the same "
            f"number of elements, "
            f"but got {x.shape[0]} and {y.shape[0]} elements respectively"
        )
    if x.dtype.kind == "b":
        raise NotImplementedError("\"dot\" not implemented for 'Bool'")
    return _dot(input, tensor)


def cname(t: Tensor) -> str:
    return {"float32": "Float", "float64": "Double", "int64": "Long", "int32": "Int"}.get(t.dtype.name, t.dtype.name)


def vdot(input: Tensor, other: Tensor) -> Tensor:
    """`dot` with the first vector conjugated."""
    return dot(conj(input), other)


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """All products of the elements of two vectors."""
    for name, t in (("self", input), ("vec2", vec2)):
        if t._array.ndim != 1:
            raise RuntimeError(f"outer: Expected 1-D argument {name}, but got {t._array.ndim}-D")
    return pointwise.mul(_unsqueeze(input, dim=1), vec2)


def mv(input: Tensor, vec: Tensor) -> Tensor:
    """Product of a matrix and a vector."""
    check_tensors("mv", input, vec)
    if input._array.ndim != 2 or vec._array.ndim != 1:
        raise RuntimeError(
            f"vector + matrix @ vector expected, got {vec._array.ndim}, {input._array.ndim}, {vec._array.ndim}"
        )
    return matmul(input, vec)


def _combine(input: Tensor, product: Tensor, beta: Any, alpha: Any) -> Tensor:
    """beta * input + alpha * product; a beta of 0 ignores the input, even its nan."""
    if alpha != 1:
        product = pointwise.mul(product, alpha)
    if beta == 0:
        if input._requires_grad and modes.grad:  # ignored, but still an input of the graph
            nothing = constant(np.zeros((), bool))
            return pointwise.where(nothing, input, product)
        return product
    if product._array.dtype != input._array.dtype and modes.autocast is not None:
        input = input.to(product.dtype)
    if product._array.dtype != input._array.dtype:
        raise RuntimeError(
            f"expected input and product to have the same dtype, but got: {_title(input)} != {_title(product)}"
        )
    if np.broadcast_shapes(input._array.shape, product._array.shape) != product._array.shape:
        raise RuntimeError(
            f"The expanded size of the tensor must match: input {list(input._array.shape)}, product "
            f"{list(product._array.shape)}"
        )
    return pointwise.add(input if beta == 1 else pointwise.mul(input, beta), product)


def _checked(input: Tensor, product: Tensor, beta: Any, alpha: Any) -> Tensor:
    if product.dtype.category < dtypes.FLOAT:
        beta, alpha = (number if isinstance(number, complex) else int(number) for number in (beta, alpha))
    try:
        return _combine(input, product, beta, alpha)
    except ValueError:
        raise RuntimeError(
            f"The expanded size of the tensor ({product._array.shape[-1] if product._array.ndim else 1}) must match "
            f"the existing "
            f"size ({input._array.shape[-1] if input._array.ndim else 1}) at non-singleton dimension "
            f"{max(product._array.ndim - 1, 0)}.  Target sizes: {list(product._array.shape)}.  Tensor sizes: "
            f"{list(input._array.shape)}"
        ) from None


def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * mat1 @ mat2; bfloat16 is rounded once."""
    if input._array.dtype in dtypes.NARROW_FLOATS and input.dtype is mat1.dtype is mat2.dtype:
        # PyTorch's kernel is made of fused multiply-adds in float32: float64 comes closest to their rounding.
        beta, alpha = float(np.float32(beta)), float(np.float32(alpha))
        wide = _checked(input.double(), mm(mat1.double(), mat2.double()), beta, alpha)
        return wide.float().to(input.dtype)
    return _checked(input, mm(mat1, mat2), beta, alpha)


def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * mat @ vec."""
    return _checked(input, mv(mat, vec), beta, alpha)


def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * outer(vec1, vec2)."""
    product = outer(vec1, vec2)
    if product.dtype is dtypes.bool:
        return (product & bool(alpha)) | (input & bool(beta))
    if product.dtype.category < dtypes.FLOAT and input.dtype.category < dtypes.FLOAT:
        for name, number in (("beta", beta), ("alpha", alpha)):
            if isinstance(number, float):
                raise RuntimeError(
                    f"For integral input tensors, argument {name} must not be a floating point number."
                )
    return _checked(input, product.to(dtypes.result_of([input._array, product._array])), beta, alpha)


def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * batch1 @ batch2, per batch entry."""
    return _checked(input, bmm(batch1, batch2), beta, alpha)


def addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * the sum over the batch of batch1 @ batch2."""
    return _checked(input, _sum(bmm(batch1, batch2), dims=(0,), keepdim=False), beta, alpha)


addmm_, addmv_, addr_, baddbmm_ = map(inplace_of, (addmm, addmv, addr, baddbmm))
_addbmm_ = inplace_of(addbmm)


def addbmm_(self: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """In-place form of `addbmm`; a tensor that was broadcast takes the size of the result, as in PyTorch."""
    shape = (batch1._array.shape[-2], batch2._array.shape[-1])
    if self._array.shape == shape or self._base is not None:
        return _addbmm_(self, batch1, batch2, beta=beta, alpha=alpha)
    result = addbmm(self, batch1, batch2, beta=beta, alpha=alpha)
    recording = modes.grad and (self._requires_grad or result._requires_grad)
    if recording:
        check_writable(self)
    self._array = result._array
    storage_of(self).repoint(self._array)
    bump(self)
    if recording:
        adopt_history(self, result)
    return self


def chain_matmul(*matrices: Tensor, out: Tensor | None = None) -> Tensor:
    """Product of several matrices, from left to right. RuntimeError without any."""
    if not matrices:
        raise RuntimeError("chain_matmul(): Expected one or more matrices")
    product = matrices[0]
    for m in matrices[1:]:
        product = mm(product, m)
    return product if out is None else write_out(product, out, "chain_matmul")


# ---- linear layers --------------------------------------------------------------------------------


@primitive("linear", grad_name="AddmmBackward0")
def _linear(x: Any, weight: Any, bias: Any) -> Any:
    rows = x.reshape(-1, x.shape[-1])
    out = multiply_arrays(rows, weight.T)
    if bias is not None:
        np.add(out, bias, out=out)
    return out.reshape(*x.shape[:-1], weight.shape[0])


@_linear.vjp
def _linear_vjp(grad: Tensor, x: Tensor, weight: Tensor, needs: Any, shapes: Any) -> Any:
    flat = reshape(grad, (-1, shapes[1][0])) if grad._array.ndim != 2 else grad  # (rows, out)
    to_x = reshape(matrix_product(flat, conj(weight)), shapes[0]) if needs[0] else None
    to_weight = to_bias = None
    if needs[1]:
        rows = reshape(x, (-1, shapes[0][-1])) if len(shapes[0]) != 2 else x
        to_weight = matrix_product(_transpose(flat, dim0=0, dim1=1), conj(rows))
    if needs[2]:
        to_bias = _sum(flat, dims=(0,), keepdim=False)
    return to_x, to_weight, to_bias


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None, *, out: Any = None) -> Tensor:
    """input @ weight.T + bias: (..., in) and (out, in) give (..., out). A 1-d weight gives (...).

    RuntimeError when the numbers of features differ.
    """
    if out is not None:
        return write_out(linear(input, weight, bias), out, "linear")
    check_tensors("linear", input, weight, *(() if bias is None else (bias,)))
    x, w = input._array, weight._array
    if w.ndim == 2 and x.ndim > 0 and x.shape[-1] == w.shape[1] and (bias is None or bias._array.shape == w.shape[:1]):
        if x.size and not isinstance(x, MetaArray):
            return _linear(input, weight, bias)
    if x.ndim == 0:
        raise RuntimeError(f"both arguments to linear need to be at least 1D, but they are 0D and {w.ndim}D")
    if x.shape[-1] != w.shape[-1]:
        raise RuntimeError(
            f"linear: expected {w.shape[-1]} input features, got {x.shape[-1]} (input {_by(x)}, weight {_by(w)}): "
            f"mat1 and mat2 "
            f"shapes cannot be multiplied ({int(np.prod(x.shape[:-1]))}x{x.shape[-1]} and {w.shape[-1]}x{w.shape[0]})"
        )
    out = matmul(input, _transpose(weight, dim0=0, dim1=1) if w.ndim == 2 else weight)
    return out if bias is None else pointwise.add(out, bias)


def _by(array: Any) -> str:
    return "×".join(map(str, array.shape)) or "0-d"
