"""Elementwise functions, sums and softmax on all threads, for arrays large enough to be worth it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from flambeau.backends.onednn import library as lib
from flambeau.backends.onednn.memory import pointer, strided
from flambeau.backends.onednn.primitive import Cache, Primitive

_FORWARD = {
    "relu": lib.ELTWISE_RELU, "tanh": lib.ELTWISE_TANH, "sigmoid": lib.ELTWISE_LOGISTIC, "exp": lib.ELTWISE_EXP,
    "elu": lib.ELTWISE_ELU, "gelu": lib.ELTWISE_GELU_ERF, "gelu_tanh": lib.ELTWISE_GELU_TANH, "silu": lib.ELTWISE_SWISH,
    "mish": lib.ELTWISE_MISH, "softplus": lib.ELTWISE_SOFT_RELU,
}
_BACKWARD = {**_FORWARD, "relu": lib.ELTWISE_RELU_FROM_DST, "tanh": lib.ELTWISE_TANH_FROM_DST,
             "sigmoid": lib.ELTWISE_LOGISTIC_FROM_DST, "exp": lib.ELTWISE_EXP_FROM_DST}
FROM_OUTPUT = frozenset({"relu", "tanh", "sigmoid", "exp"})
_BINARY = {"add": lib.BINARY_ADD, "sub": lib.BINARY_SUB, "mul": lib.BINARY_MUL, "div": lib.BINARY_DIV,
           "maximum": lib.BINARY_MAX, "minimum": lib.BINARY_MIN}

# silu is swish with factor 1, softplus is soft_relu with factor 1.
_ALPHA = {"silu": 1.0, "softplus": 1.0}


def algorithm(name: str, alpha: float = 0.0) -> tuple[int, float]:
    """oneDNN's number for an elementwise function, and its first parameter; "leaky_relu" is relu with a slope."""
    return _FORWARD["relu" if name == "leaky_relu" else name], _ALPHA.get(name, alpha)


def dense(array: np.ndarray) -> np.ndarray:
    """The array if its elements fill their memory without gaps, in any order of axes; else a contiguous copy."""
    if array.flags.c_contiguous:
        return array
    return array if _order(array) is not None else np.ascontiguousarray(array)


def _order(array: np.ndarray) -> tuple[int, ...] | None:
    """The axes from outermost to innermost if the array is dense, else None."""
    axes = tuple(sorted(range(array.ndim), key=lambda axis: -array.strides[axis]))
    return axes if array.transpose(axes).flags.c_contiguous else None


def same_memory(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The arrays, all in the memory order of the first; those that differ are copied."""
    first = dense(arrays[0])
    out = [first]
    for array in arrays[1:]:
        if array.strides != first.strides:
            copy = np.empty_like(first)
            copy[...] = array
            array = copy
        out.append(array)
    return out


class _Eltwise:
    def __init__(self, name: str, size: int, alpha: float):
        md = strided((size,))
        alpha = _ALPHA.get(name, alpha)
        self.run = Primitive("eltwise_forward", [lib.FORWARD_TRAINING, _FORWARD[name], md, md, alpha, 0.0],
                             [lib.ARG_SRC, lib.ARG_DST])
        data = lib.ARG_DST if name in FROM_OUTPUT else lib.ARG_SRC
        forward = self.run
        if name in FROM_OUTPUT:  # the hint must name the same algorithm as the backward descriptor
            forward = Primitive("eltwise_forward", [lib.FORWARD_TRAINING, _BACKWARD[name], md, md, alpha, 0.0],
                                [lib.ARG_SRC, lib.ARG_DST])
        self.back = Primitive("eltwise_backward", [_BACKWARD[name], md, md, md, alpha, 0.0],
                              [lib.ARG_DIFF_DST, data, lib.ARG_DIFF_SRC], forward)


_eltwise = Cache(_Eltwise)


def eltwise(name: str, x: np.ndarray, alpha: float = 0.0) -> np.ndarray:
    """A function of each element, in the memory order of x. `alpha`: the negative slope of relu, the factor of elu."""
    x = dense(x)
    out = np.empty_like(x)
    _eltwise(name, x.size, alpha).run.run(pointer(x), pointer(out))
    return out


def eltwise_backward(name: str, grad: np.ndarray, data: np.ndarray, alpha: float = 0.0) -> np.ndarray:
    """The gradient of `eltwise`; `data` is the output for the names in FROM_OUTPUT, the input for the others."""
    data, grad = same_memory((data, grad))
    out = np.empty_like(data)
    _eltwise(name, data.size, alpha).back.run(pointer(grad), pointer(data), pointer(out))
    return out


def _make_binary(name: str, size: int) -> Primitive:
    md = strided((size,))
    return Primitive("binary", [_BINARY[name], md, md, md], [lib.ARG_SRC, lib.ARG_SRC_1, lib.ARG_DST])


_binary = Cache(_make_binary)


def binary(name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A function of two arrays of one shape, in the memory order of x."""
    x, y = same_memory((x, y))
    out = np.empty_like(x)
    _binary(name, x.size).run(pointer(x), pointer(y), pointer(out))
    return out


def _make_sum(count: int, size: int) -> Primitive:
    md = strided((size,))
    scales = (ctypes.c_float * count)(*(1.0,) * count)
    sources = (ctypes.c_void_p * count)(*(md.value,) * count)
    return Primitive("sum", [md, count, scales, sources],
                     [*(lib.ARG_MULTIPLE_SRC + i for i in range(count)), lib.ARG_DST])


_sum = Cache(_make_sum)


def add_many(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The sum of two or more arrays of one shape, in the memory order of the first."""
    arrays = same_memory(arrays)
    out = np.empty_like(arrays[0])
    _sum(len(arrays), out.size).run(*map(pointer, arrays), pointer(out))
    return out


class _Softmax:
    def __init__(self, shape: tuple[int, ...], axis: int, log: bool):
        md, algorithm = strided(shape), lib.SOFTMAX_LOG if log else lib.SOFTMAX_ACCURATE
        self.run = Primitive("softmax_forward", [lib.FORWARD_TRAINING, algorithm, md, md, axis],
                             [lib.ARG_SRC, lib.ARG_DST])
        self.back = Primitive("softmax_backward", [algorithm, md, md, md, axis],
                              [lib.ARG_DIFF_DST, lib.ARG_DST, lib.ARG_DIFF_SRC], self.run)


_softmax = Cache(_Softmax)


def _sandwich(shape: tuple[int, ...], axis: int) -> tuple[tuple[int, int, int], int]:
    """(before, along, after) of an axis: one primitive serves all ranks."""
    axis %= len(shape)
    before, after = 1, 1
    for n in shape[:axis]:
        before *= n
    for n in shape[axis + 1:]:
        after *= n
    return (before, shape[axis], after), 1


def softmax(x: np.ndarray, axis: int, log: bool = False) -> np.ndarray:
    """softmax, or its logarithm, along an axis."""
    x = np.ascontiguousarray(x)
    out = np.empty_like(x)
    _softmax(*_sandwich(x.shape, axis), log).run.run(pointer(x), pointer(out))
    return out


def softmax_backward(grad: np.ndarray, y: np.ndarray, axis: int, log: bool = False) -> np.ndarray:
    """The gradient of `softmax`, from its output."""
    y, grad = np.ascontiguousarray(y), np.ascontiguousarray(grad)
    out = np.empty_like(y)
    _softmax(*_sandwich(y.shape, axis), log).back.run(pointer(grad), pointer(y), pointer(out))
    return out
