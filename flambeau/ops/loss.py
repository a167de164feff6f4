"""Losses on numbers, similarities and distances; those on classes are in `classification.py` and `ctc.py`.

Every loss takes `reduction`: "mean" (the default), "sum", or "none" for one value per element (or sample). The
arguments `size_average` and `reduce` of older versions are understood, with a warning.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.core import recording
from flambeau.core.dispatch import primitive
from flambeau.core.inplace import scalar_name
from flambeau.core.tensor import Tensor
from flambeau.ops.arithmetic import clamp_min, pow
from flambeau.ops.distance import pairwise_distance
from flambeau.ops.pointwise import abs, exp, log, log1p, minimum, mul, where
from flambeau.ops.precision import in_float32
from flambeau.ops.reductions import mean, sum

__all__ = [
    "cosine_embedding_loss",
    "gaussian_nll_loss",
    "hinge_embedding_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "margin_ranking_loss",
    "mse_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]

REDUCTIONS = ("none", "mean", "sum")


def legacy_reduction(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """The reduction meant by the arguments of older versions, with a warning if they are used."""
    if size_average is None and reduce is None:
        return reduction
    if reduce is False:
        reduction = "none"
    else:
        reduction = "sum" if size_average is False else "mean"
    warnings.warn(
        f"size_average and reduce args will be deprecated, please use reduction='{reduction}' instead.", stacklevel=4
    )
    return reduction


def reduced(loss: Tensor, reduction: str) -> Tensor:
    """The loss per element, averaged or summed. ValueError for an unknown reduction."""
    if reduction == "mean":
        return mean(loss)
    if reduction == "sum":
        return sum(loss)
    check_reduction(reduction)
    return loss


def check_reduction(reduction: str) -> None:
    """ValueError for an unknown reduction."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"{reduction} is not a valid value for reduction")


def text_of_size(t: Tensor) -> str:
    """The shape as PyTorch prints it."""
    return f"torch.Size({list(t._array.shape)})"


def warn_of_broadcast(input: Tensor, target: Tensor) -> None:
    """Different shapes are broadcast, which is rarely what was meant."""
    if input._array.shape != target._array.shape:
        warnings.warn(
            f"Using a target size ({text_of_size(target)}) that is different to the input size "
            f"({text_of_size(input)}). This will likely lead to incorrect results due to broadcasting. "
            "Please ensure they have the same size.",
            stacklevel=3,
        )


def need_real_floats(name: str, *tensors: Tensor) -> None:
    """NotImplementedError if all the tensors hold integers, bools, or complex numbers."""
    if all(t._array.dtype.kind in "biuc" for t in tensors):
        raise NotImplementedError(f"\"{name}\" not implemented for '{scalar_name(tensors[0]._array.dtype)}'")


# ---- regression ----------------------------------------------------------------------------------


@primitive("mse_loss", elementwise=True, grad_name="MseLossBackward0")
def _mse(x: Any, y: Any, *, reduction: str) -> Any:
    gap = np.subtract(x, y)
    squares = np.multiply(gap, gap, out=gap) if gap.ndim else gap * gap
    if reduction == "none":
        return squares
    wide = squares.astype(np.float32) if squares.dtype.itemsize == 2 else squares
    total = np.add.reduce(wide, axis=None)
    return np.asarray(total / wide.dtype.type(wide.size) if reduction == "mean" else total, dtype=squares.dtype)


def _mse_slope(grad: Tensor, x: Tensor, y: Tensor, reduction: str) -> Tensor:
    gap = x - y
    factor = 2.0 / gap._array.size if reduction == "mean" and gap._array.size else 2.0
    return mul(mul(gap, factor), grad)


_mse.vjp(x=_mse_slope, y=lambda grad, x, y, reduction: _mse_slope(grad, y, x, reduction))


@in_float32
def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """(input - target)^2; with `weight` the mean divides by the sum of the weights.

    Shapes: both the same; others are broadcast, with a warning. Dtypes: floating; NotImplementedError for integers.
    Raises: RuntimeError if the shapes cannot be broadcast; ValueError for a weight of another shape than the input.

    >>> F.mse_loss(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0])).item()
    2.0
    """
    warn_of_broadcast(input, target)
    reduction = legacy_reduction(size_average, reduce, reduction)
    if weight is not None:
        return _weighted(pow(input - target, 2), input, weight, reduction)
    check_reduction(reduction)
    need_real_floats("mse_cpu", input, target)
    return _mse(input, target, reduction=reduction)


def _weighted(errors: Tensor, input: Tensor, weight: Tensor, reduction: str) -> Tensor:
    if weight._array.shape != input._array.shape:
        raise ValueError(
            f"Weights and input must have the same size, got {text_of_size(weight)} and {text_of_size(input)}."
        )
    if reduction == "mean":
        return sum(errors * weight) / sum(weight)
    return reduced(errors * weight, reduction)


@in_float32
def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """|input - target|; with `weight` the mean divides by the sum of the weights. Shapes and errors as `mse_loss`."""
    warn_of_broadcast(input, target)
    reduction = legacy_reduction(size_average, reduce, reduction)
    errors = abs(input - target)
    return reduced(errors, reduction) if weight is None else _weighted(errors, input, weight, reduction)


@in_float32
def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """d^2 / (2 beta) where d = |input - target| < beta, else d - beta / 2; l1 for beta = 0.

    Raises: RuntimeError for beta < 0. Shapes as `mse_loss`. Source: Girshick 2015, "Fast R-CNN".
    """
    warn_of_broadcast(input, target)
    reduction = legacy_reduction(size_average, reduce, reduction)
    if beta == 0.0:
        return l1_loss(input, target, reduction=reduction)
    if beta < 0:
        raise RuntimeError(f"smooth_l1_loss does not support negative values for beta, got {beta}.")
    need_real_floats("smooth_l1_cpu", input, target)
    gap = abs(input - target)
    return reduced(where(gap < beta, gap * gap * 0.5 / beta, gap - 0.5 * beta), reduction)


@in_float32
def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """d^2 / 2 where d = |input - target| <= delta, else delta * (d - delta / 2).

    Raises: RuntimeError unless delta > 0. Shapes as `mse_loss`.
    Source: Huber 1964, "Robust estimation of a location parameter".
    """
    warn_of_broadcast(input, target)
    if delta <= 0:
        raise RuntimeError(f"huber_loss does not support non-positive values for delta, got {delta}.")
    need_real_floats("huber_cpu", input, target)
    gap = abs(input - target)
    errors = where(gap <= delta, gap * gap * 0.5, (gap - 0.5 * delta) * delta)
    return reduced(errors, reduction) if weight is None else _weighted(errors, input, weight, reduction)


# ---- likelihoods ---------------------------------------------------------------------------------


@in_float32
def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The negative log likelihood of counts: exp(input) - target * input, or for rates input - target * log(input).

    `full` adds Stirling's approximation of log(target!) for targets above 1.
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    check_reduction(reduction)
    loss = exp(input) - target * input if log_input else input - target * log(input + eps)
    if full:
        stirling = target * log(target) - target + 0.5 * log(2 * math.pi * target)
        loss = loss + where(target <= 1, 0, stirling)
    return reduced(loss, reduction)


def gaussian_nll_loss(
    input: Tensor, target: Tensor, var: Tensor | float, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Tensor:
    """(log(var) + (input - target)^2 / var) / 2, with var at least eps (its gradient passes on all the same).

    Shapes: var like the input, with some dimensions of size 1 or without the last, or a number. `full` adds
    log(2 pi) / 2.
    Raises: ValueError for a var of another shape or with negative entries, or an unknown reduction.
    Source: Nix & Weigend 1994, "Estimating the mean and variance of the target probability distribution".
    """
    if isinstance(var, (int, float)):
        if var < 0:
            raise ValueError(f"var has negative entry/entries: {var}")
        var = input.detach() * 0 + var
    shape = input._array.shape
    if var._array.shape != shape:
        found = var._array.shape
        if shape[:-1] == found:
            var = var.unsqueeze(-1)
        elif len(found) != len(shape) or any(n not in (1, size) for n, size in zip(found, shape)):
            raise ValueError(f"var is of incorrect size: {text_of_size(var)} for an input of {text_of_size(input)}")
    check_reduction(reduction)
    error = ValueError("var has negative entry/entries")
    recording.bounded(var, 0, math.inf, error)
    if (var._array < 0).any():
        raise error
    lifted = clamp_min(var.detach(), eps) - var.detach()  # what lifts var to eps has no history
    var = var + lifted
    gap = input - target
    loss = 0.5 * (log(var) + gap * gap / var)
    return reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


@in_float32
def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """target * (log(target) - input): the Kullback-Leibler divergence of the target from exp(input).

    "batchmean" divides the sum by the size of the first dimension, as the definition has it; "mean" by the number
    of elements, with a warning. With `log_target` the target holds logarithms too.
    Source: Kullback & Leibler 1951, "On information and sufficiency".
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    if reduction == "mean":
        warnings.warn(
            "reduction: 'mean' divides the total loss by both the batch size and the support size."
            "'batchmean' divides only by the batch size, and aligns with the KL div math definition."
            "'mean' will be changed to behave the same as 'batchmean' in the next major release.",
            stacklevel=2,
        )
    loss = exp(target) * (target - input) if log_target else _xlogy_self(target) - target * input
    if reduction == "batchmean":
        total = sum(loss)
        return total / input._array.shape[0] if input._array.ndim else total
    return reduced(loss, reduction)


def _xlogy_self(x: Tensor) -> Tensor:
    """x * log(x), 0 at 0."""
    return where(x == 0, 0, x * log(where(x == 0, 1, x)))


# ---- margins and rankings ------------------------------------------------------------------------


@in_float32
def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, -target * (input1 - input2) + margin): target 1 says that input1 ranks higher, -1 the contrary.

    Raises: RuntimeError for different numbers of dimensions.
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    if not input1._array.ndim == input2._array.ndim == target._array.ndim:
        raise RuntimeError(
            "margin_ranking_loss : All input tensors should have same dimension but got sizes: "
            f"input1: {text_of_size(input1)}, input2: {text_of_size(input2)}, target: {text_of_size(target)} "
        )
    return reduced(clamp_min(-target * (input1 - input2) + margin, 0), reduction)


@in_float32
def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """input where target is 1, max(0, margin - input) where it is -1: for distances of similar and other pairs."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    other = where(target == 1, 0, clamp_min(margin - input, 0))
    similar = where(target == -1, 0, input)
    return reduced(other + similar, reduction)


@in_float32
def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """log(1 + exp(-target * input)) for targets 1 and -1.

    Raises: RuntimeError if the shapes differ in more than broadcasting the target to the input.
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    check_reduction(reduction)
    product = input * -target
    shape = product._array.shape
    if shape != input._array.shape:
        raise RuntimeError(
            f"output with shape {list(input._array.shape)} doesn't match the broadcast shape {list(shape)}"
        )
    return reduced(log1p(exp(product)), reduction)


@in_float32
def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """1 - cos(input1, input2) where target is 1, max(0, cos(input1, input2) - margin) where it is -1.

    Shapes: inputs (N, D) and target (N,), or (D,) and (). RuntimeError for others.
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    if target._array.ndim > 1:
        raise RuntimeError(f"0D or 1D target tensor expected, multi-target not supported, got {text_of_size(target)}")
    if input1._array.ndim != target._array.ndim + 1 or input2._array.ndim != target._array.ndim + 1:
        raise RuntimeError(
            f"{target._array.ndim}D target tensor expects {target._array.ndim + 1}D input tensors, but found inputs "
            f"with sizes {list(input1._array.shape)} and {list(input2._array.shape)}."
        )
    cosine = _cosine_with_eps_inside(input1, input2, target._array.ndim)
    similar = where(target == 1, 1 - cosine, 0)
    other = where(target == -1, clamp_min(cosine - margin, 0), 0)
    return reduced(similar + other, reduction)


def _cosine_with_eps_inside(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """The cosine whose squared lengths are never 0, for the sake of its gradient."""
    lengths = (sum(a * a, dim) + 1e-12) * (sum(b * b, dim) + 1e-12)
    return sum(a * b, dim) / lengths.sqrt()


@in_float32
def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, |anchor - positive| - |anchor - negative| + margin), with p-norms along the last dimension.

    With `swap` the negative's distance to the positive counts if it is the smaller one.
    Shapes: (N, D) or (D,). Raises: RuntimeError for different numbers of dimensions, ValueError unless margin > 0.
    Source: Balntas et al. 2016, "Learning local feature descriptors with triplets and shallow convolutional networks".
    """
    reduction = legacy_reduction(size_average, reduce, reduction)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return pairwise_distance(a, b, p, eps)

    return _triplet(anchor, positive, negative, distance, margin, swap, reduction)


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """`triplet_margin_loss` with a distance of the user's (default: the Euclidean one).

    Raises: as `triplet_margin_loss`.
    """
    check_reduction(reduction)
    return _triplet(anchor, positive, negative, distance_function or pairwise_distance, margin, swap, reduction)


def _triplet(
    anchor: Tensor, positive: Tensor, negative: Tensor, distance: Any, margin: float, swap: bool, reduction: str
) -> Tensor:
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    ndims = [t._array.ndim for t in (anchor, positive, negative)]
    if len(set(ndims)) > 1:
        raise RuntimeError(
            "The anchor, positive, and negative tensors are expected to have the same number of dimensions, but got: "
            f"anchor {ndims[0]}D, positive {ndims[1]}D, and negative {ndims[2]}D inputs"
        )
    to_positive, to_negative = distance(anchor, positive), distance(anchor, negative)
    if swap:
        to_negative = minimum(to_negative, distance(positive, negative))
    return reduced(clamp_min(to_positive - to_negative + margin, 0), reduction)


_mse.samples(lambda make: [
    ((make(*shape), make(*shape)), {"reduction": reduction})
    for shape in ((3, 4), (0, 2), ())
    for reduction in REDUCTIONS
])  # fmt: skip
