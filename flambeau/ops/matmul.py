"""Products: matrix, batched, dot, outer, linear layers, einsum."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core.device import MetaArray
from flambeau.core.dispatch import primitive
from flambeau.core.inplace import inplace_of
from flambeau.core.tensor import Tensor
from flambeau.ops import pointwise
from flambeau.ops.native import onednn, usable
from flambeau.ops.pointwise import conj
from flambeau.ops.reductions import _sum
from flambeau.ops.reductions import sum as sum_
from flambeau.ops.shape import (
    _expand,
    _permute,
    _squeeze,
    _transpose,
    _unsqueeze,
    diagonal,
    permute,
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
        if t._array.dtype is not first._array.dtype and t._array.dtype != first._array.dtype:
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
            and usable(x, y):
        return onednn().sgemm(x, y) if x.ndim == y.ndim == 2 else onednn().matmul(x, y)
    return np.matmul(x, y)


# Up to this many products OpenBLAS stays on the calling thread and is the fastest. Beyond, its threads and OpenMP's
# wait for each other's cores: larger matrices go to oneDNN, on the same threads as convolutions.
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
    if x.dtype != y.dtype:
        raise RuntimeError(
            f"dot : expected both vectors to have same dtype, but found {_cname(input)} and {_cname(tensor)}"
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


def _cname(t: Tensor) -> str:
    return {"float32": "Float", "float64": "Double", "int64": "Long", "int32": "Int"}.get(t.dtype.name, t.dtype.name)


def vdot(input: Tensor, other: Tensor) -> Tensor:
    """`dot` with the first vector conjugated."""
    return dot(conj(input), other)


def inner(input: Tensor, other: Tensor) -> Tensor:
    """Sum of products over the last dimensions of both."""
    if input._array.ndim == 0 or other._array.ndim == 0:
        return pointwise.mul(input, other)
    if input._array.shape[-1] != other._array.shape[-1]:
        raise RuntimeError(
            f"inner() the last dimension must match on both input tensors but got shapes {list(input._array.shape)} "
            f"and "
            f"{list(other._array.shape)}"
        )
    return tensordot(input, other, dims=([-1], [-1]))


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
        return product
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
    for number in (beta, alpha):
        if isinstance(number, float) and product.dtype.category < dtypes.FLOAT and not float(number).is_integer():
            raise RuntimeError("For integral input tensors, argument alpha must not be a floating point number.")
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
    return _checked(input, product.to(dtypes.result_of([input._array, product._array])), beta, alpha)


def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * batch1 @ batch2, per batch entry."""
    return _checked(input, bmm(batch1, batch2), beta, alpha)


def addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * the sum over the batch of batch1 @ batch2."""
    return _checked(input, _sum(bmm(batch1, batch2), dims=(0,), keepdim=False), beta, alpha)


addmm_, addmv_, addr_, baddbmm_, addbmm_ = map(inplace_of, (addmm, addmv, addr, baddbmm, addbmm))


def chain_matmul(*matrices: Tensor) -> Tensor:
    """Product of several matrices, from left to right."""
    out = matrices[0]
    for m in matrices[1:]:
        out = mm(out, m)
    return out


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


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input @ weight.T + bias: (..., in) and (out, in) give (..., out). A 1-d weight gives (...).

    RuntimeError when the numbers of features differ.
    """
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


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x1 · W_k · x2 for every output k: (..., in1), (..., in2), weight (out, in1, in2) -> (..., out)."""
    a, b, w = input1._array.shape, input2._array.shape, weight._array.shape
    if a[:-1] != b[:-1]:
        raise RuntimeError(f"bilinear(): input dimensions do not match: got {list(a)} and {list(b)}")
    if a[-1] != w[1] or b[-1] != w[2]:
        raise RuntimeError(f"bilinear(): input sizes {a[-1]} and {b[-1]} do not match weight {list(w)}")
    x1, x2 = reshape(input1, (-1, a[-1])), reshape(input2, (-1, b[-1]))
    out = einsum("ni,kij,nj->nk", x1, weight, x2)
    out = reshape(out, (*a[:-1], w[0]))
    return out if bias is None else pointwise.add(out, bias)


# ---- contractions -----------------------------------------------------------------------------------


def tensordot(a: Tensor, b: Tensor, dims: Any = 2, out: Any = None) -> Tensor:
    """Contract the last `dims` dimensions of `a` with the first of `b`, or the listed pairs of dimensions."""
    if isinstance(dims, Tensor):
        dims = dims.tolist()
    if isinstance(dims, int):
        if dims < 0:
            raise RuntimeError(f"tensordot expects dims >= 0, but got dims={dims}")
        if dims > min(a._array.ndim, b._array.ndim):
            raise RuntimeError(f"tensordot expects dims < ndim_a or ndim_b, but got dims={dims}")
        left, right = list(range(a._array.ndim - dims, a._array.ndim)), list(range(dims))
    else:
        left, right = (list(d) if isinstance(d, (list, tuple)) else [d] for d in dims)
    n, m = a._array.ndim, b._array.ndim
    left, right = [d % n if n else 0 for d in left], [d % m if m else 0 for d in right]
    if len(left) != len(right):
        raise RuntimeError("both dimension lists should have same length")
    for i, j in zip(left, right):
        if a._array.shape[i] != b._array.shape[j] and 1 not in (a._array.shape[i], b._array.shape[j]):
            raise RuntimeError(
                f"contracted dimensions need to match, but first has size {a._array.shape[i]} in dim {i} and second "
                f"has size "
                f"{b._array.shape[j]} in dim {j}"
            )
        if a._array.shape[i] != b._array.shape[j]:  # a size of 1 broadcasts: sum the other side first
            if a._array.shape[i] == 1:
                b = _sum(b, dims=(j,), keepdim=True)
            else:
                a = _sum(a, dims=(i,), keepdim=True)
    free_a = [d for d in range(n) if d not in left]
    free_b = [d for d in range(m) if d not in right]
    shape = [a._array.shape[d] for d in free_a] + [b._array.shape[d] for d in free_b]
    inner_size = int(np.prod([a._array.shape[d] for d in left], dtype=np.int64))
    rows = int(np.prod([a._array.shape[d] for d in free_a], dtype=np.int64))
    columns = int(np.prod([b._array.shape[d] for d in free_b], dtype=np.int64))
    x = reshape(permute(a, free_a + left), (rows, inner_size))
    y = reshape(permute(b, right + free_b), (inner_size, columns))
    return reshape(mm(x, y), shape)


def einsum(*args: Any) -> Tensor:
    """Sums of products in Einstein's notation: `einsum("bij,bjk->bik", a, b)` or `einsum(a, [0, 1], b, [1, 2], [0, 2])`.

    RuntimeError for an equation that does not fit the operands.
    """
    if not args:
        raise ValueError(
            "einsum(): must specify the equation string and at least one operand, or at least one operand and its "
            "subscripts list"
        )
    equation, operands = _equation(args)
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(operands):
        word = "fewer" if len(operands) < len(terms) else "more"
        raise RuntimeError(f"einsum(): {word} operands were provided than specified in the equation")
    sizes: dict[str, int] = {}
    widest = max(
        (t._array.ndim - len(term.replace("...", "")) for t, term in zip(operands, terms) if "..." in term), default=0
    )
    dots = [f"<{i}>" for i in range(widest)]
    prepared = [_prepare(t, term, dots, sizes) for t, term in zip(operands, terms)]
    labels_seen = [label for _, labels in prepared for label in labels]
    if arrow:
        wanted = _labels(output, dots)
        for label in wanted:
            if label not in labels_seen:
                raise RuntimeError(
                    f"einsum(): output subscript {label} does not appear in the equation for any input operand"
                )
        if len(set(wanted)) != len(wanted):
            repeated = next(x for x in wanted if wanted.count(x) > 1)
            raise RuntimeError(f"einsum(): output subscript {repeated} appears more than once in the output")
    else:
        once = sorted({x for x in labels_seen if not x.startswith("<") and inputs.count(x) == 1})
        wanted = (dots if any("..." in term for term in terms) else []) + once
    value, labels = prepared[0]
    for step, (other, other_labels) in enumerate(prepared[1:], start=1):
        needed = set(wanted) | {x for _, rest in prepared[step + 1 :] for x in rest}
        value, labels = _contract(value, labels, other, other_labels, needed)
    dims = tuple(d for d, x in enumerate(labels) if x not in wanted)
    if dims:
        value = _sum(value, dims=dims, keepdim=False)
        labels = [x for x in labels if x in wanted]
    shape_order = [labels.index(x) for x in wanted]
    return _permute(value, dims=tuple(shape_order)) if shape_order != list(range(len(labels))) else value


def _equation(args: Any) -> tuple[str, list[Tensor]]:
    if isinstance(args[0], str):
        operands = list(args[1]) if len(args) == 2 and isinstance(args[1], (list, tuple)) else list(args[1:])
        return args[0], operands
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

    def spell(subscripts: Any) -> str:
        return "".join("..." if s is Ellipsis else letters[s] for s in subscripts)

    operands = list(args[0 : len(args) - len(args) % 2 : 2])
    equation = ",".join(spell(s) for s in args[1 : len(args) - len(args) % 2 : 2])
    if len(args) % 2:
        equation += "->" + spell(args[-1])
    return equation, operands


def _labels(term: str, dots: list[str]) -> list[str]:
    before, ellipsis, after = term.partition("...")
    for x in before + after:
        if not x.isalpha():
            raise RuntimeError(
                f"einsum(): invalid subscript given at index {term.index(x)} in the equation string, subscripts must "
                f"be "
                "in [a-zA-Z]"
            )
    return [*before, *(dots if ellipsis else []), *after]


def _prepare(t: Tensor, term: str, dots: list[str], sizes: dict[str, int]) -> tuple[Tensor, list[str]]:
    """One operand with each label once (repeated ones become diagonals) and its sizes noted."""
    named = len(term.replace("...", ""))
    ndim = t._array.ndim
    own_dots = dots[len(dots) - (ndim - named) :] if "..." in term and ndim - named else []
    labels = _labels(term, own_dots)
    if len(labels) != ndim:
        raise RuntimeError(
            f"einsum(): the number of subscripts in the equation ({len(labels)}) does not match the number of "
            f"dimensions ({ndim}) for "
            "operand" + (" and no ellipsis was given" if "..." not in term else "")
        )
    position = 0
    while position < len(labels):
        label = labels[position]
        if label in labels[:position]:
            first = labels.index(label)
            if t._array.shape[first] != t._array.shape[position]:
                raise RuntimeError(
                    f"einsum(): subscript {label} is repeated for operand 0 but the sizes don't match, "
                    f"{t._array.shape[position]} != {t._array.shape[first]}"
                )
            t = diagonal(t, 0, first, position)
            labels = [x for d, x in enumerate(labels) if d not in (first, position)] + [label]
            position = 0
            continue
        position += 1
    for label, n in zip(labels, t._array.shape):
        have = sizes.get(label, 1)
        if n != 1 and have not in (1, n):
            raise RuntimeError(
                f"einsum(): operands do not broadcast with remapped shapes [original->remapped]: subscript {label} "
                f"has size {n} for an "
                f"operand which does not broadcast with previously seen size {have}"
            )
        sizes[label] = max(have, n) if n != 0 else 0
    return t, labels


def _contract(a: Tensor, la: list[str], b: Tensor, lb: list[str], needed: set[str]) -> tuple[Tensor, list[str]]:
    """The product of two operands summed over the labels nobody needs any more, as one batched matrix product."""
    for label in list(la):  # labels only one side has and nobody needs: sum them at once
        if label not in lb and label not in needed:
            d = la.index(label)
            a, la = _sum(a, dims=(d,), keepdim=False), la[:d] + la[d + 1 :]
    for label in list(lb):
        if label not in la and label not in needed:
            d = lb.index(label)
            b, lb = _sum(b, dims=(d,), keepdim=False), lb[:d] + lb[d + 1 :]
    size_a, size_b = dict(zip(la, a._array.shape)), dict(zip(lb, b._array.shape))
    for label in [x for x in la if x in lb and x not in needed and size_a[x] != size_b[x]]:
        # One side broadcasts a summed label: sum the other side first.
        if size_a[label] == 1:
            b = _sum(b, dims=(lb.index(label),), keepdim=True)
        else:
            a = _sum(a, dims=(la.index(label),), keepdim=True)
        size_a[label] = size_b[label] = 1
    batch = [x for x in la if x in lb and x in needed]
    summed = [x for x in la if x in lb and x not in needed]
    free_a = [x for x in la if x not in lb]
    free_b = [x for x in lb if x not in la]
    for label in batch:
        n = max(size_a[label], size_b[label]) if 0 not in (size_a[label], size_b[label]) else 0
        if size_a[label] != n:
            a = _expand(a, shape=tuple(n if x == label else s for x, s in zip(la, a._array.shape)))
        if size_b[label] != n:
            b = _expand(b, shape=tuple(n if x == label else s for x, s in zip(lb, b._array.shape)))
        size_a[label] = size_b[label] = n
    pa = permute(a, [la.index(x) for x in batch + free_a + summed])
    pb = permute(b, [lb.index(x) for x in batch + summed + free_b])
    nb = [size_a[x] for x in batch]
    na, ns, nc = ([size[x] for x in names] for size, names in ((size_a, free_a), (size_a, summed), (size_b, free_b)))
    if not summed:
        x = reshape(pa, [*nb, *na, *([1] * len(nc))])
        y = reshape(pb, [*nb, *([1] * len(na)), *nc])
        return pointwise.mul(x, y), batch + free_a + free_b
    rows, inner_size, columns = (int(np.prod(s, dtype=np.int64)) for s in (na, ns, nc))
    groups = int(np.prod(nb, dtype=np.int64))
    x, y = reshape(pa, (groups, rows, inner_size)), reshape(pb, (groups, inner_size, columns))
    if x._array.dtype != y._array.dtype:
        raise RuntimeError(f"expected scalar type {_cname(x)} but found {_cname(y)}")
    return reshape(matrix_product(x, y), [*nb, *na, *nc]), batch + free_a + free_b


def kron(input: Tensor, other: Tensor) -> Tensor:
    """Kronecker product."""
    n = max(input._array.ndim, other._array.ndim)
    a = (1,) * (n - input._array.ndim) + input._array.shape
    b = (1,) * (n - other._array.ndim) + other._array.shape
    x = reshape(input, [s for pair in zip(a, (1,) * n) for s in pair])
    y = reshape(other, [s for pair in zip((1,) * n, b) for s in pair])
    return reshape(pointwise.mul(x, y), [p * q for p, q in zip(a, b)])


def trace(input: Tensor) -> Tensor:
    """Sum of the diagonal of a matrix."""
    if input._array.ndim != 2:
        raise RuntimeError("trace: expected a matrix")
    return sum_(diagonal(input))
