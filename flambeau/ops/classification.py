"""Losses on classes: cross entropy in its forms, and the margin losses of several classes or labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core import recording
from flambeau.core.dispatch import primitive
from flambeau.core.inplace import scalar_name
from flambeau.core.tensor import Tensor, computed, constant, wrap
from flambeau.ops.activation import logsigmoid
from flambeau.ops.arithmetic import clamp_min, pow
from flambeau.ops.comparison import eq, ne
from flambeau.ops.loss import check_reduction, legacy_reduction, reduced, text_of_size
from flambeau.ops.pointwise import constant_grad, div, log, mul, sub, where
from flambeau.ops.precision import in_float32
from flambeau.ops.reductions import mean, sum
from flambeau.ops.softmax import log_softmax

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "linear_cross_entropy",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
]

# ---- one class for each sample -------------------------------------------------------------------


def _weights_of_targets(target: Any, weight: Any, ignore_index: int, dtype: Any) -> tuple[Any, Any]:
    """Class numbers that are safe to index with, and for each sample its weight: 0 where it is to be ignored.

    Without weights, where nothing is ignored, None stands for a weight of 1 for all.
    """
    counts = target != ignore_index
    if counts.all():
        return target, None if weight is None else weight[target]
    safe = np.where(counts, target, 0)
    if weight is None:
        return safe, counts.astype(dtype)
    return safe, np.where(counts, weight[safe] if weight.size else 0, dtype.type(0))


def _at_class(x: Any, classes: Any) -> Any:
    """x[n, classes[n, …], …]"""
    if x.ndim == 2:
        return x[np.arange(len(classes)), classes]
    return np.take_along_axis(x, classes[:, None], 1)[:, 0]


@primitive("nll_loss", grad_name="NllLossBackward0")
def _nll(x: Any, target: Any, weight: Any, *, reduction: str, ignore_index: int) -> Any:
    """x (N, C, …), target (N, …), weight (C,) or None."""
    safe, weights = _weights_of_targets(target, weight, ignore_index, x.dtype)
    losses = np.negative(_at_class(x, safe)) if x.shape[1] else np.zeros(target.shape, x.dtype)
    if weights is not None:
        losses = np.where(weights != 0, losses * weights, weights)
    if reduction == "none":
        return losses
    total = losses.sum()
    if reduction == "mean":
        total = total / (x.dtype.type(losses.size) if weights is None else weights.sum())
    return np.asarray(total, dtype=x.dtype)


@primitive("nll_loss_backward")
def _nll_backward(grad: Any, x: Any, target: Any, weight: Any, *, reduction: str, ignore_index: int) -> Any:
    """The transpose of `nll_loss`, which is linear in x: zeros but for the classes of the targets."""
    safe, weights = _weights_of_targets(target, weight, ignore_index, grad.dtype)
    if reduction == "mean":
        grad = grad / (grad.dtype.type(target.size) if weights is None else weights.sum())
    share = -grad if weights is None else -weights * grad
    out = np.zeros_like(x, order="C")
    if out.ndim == 2 and out.size:
        out[np.arange(len(safe)), safe] = share
    elif out.size:
        share = np.broadcast_to(share, target.shape)
        np.put_along_axis(out, safe[:, None], share[:, None], 1)
    return out


@_nll.vjp
def _nll_vjp(
    grad: Tensor, x: Tensor, target: Tensor, weight: Any, reduction: str, ignore_index: int
) -> tuple[Any, None, None]:
    return _nll_backward(grad, x, target, weight, reduction=reduction, ignore_index=ignore_index), None, None


@_nll_backward.vjp
def _nll_backward_vjp(
    grad: Tensor, target: Tensor, weight: Any, reduction: str, ignore_index: int
) -> tuple[Any, Any, None, None]:
    again = _nll(grad, target, weight, reduction=reduction, ignore_index=ignore_index)
    return again, constant_grad(grad), None, None


@in_float32
def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-input at each sample's class, times the weight of the class; "mean" divides by the sum of those weights.

    Shapes: input (N, C), (N, C, d1, …) or (C,) of log probabilities; target (N,), (N, d1, …) or () of class numbers.
    Samples whose target is `ignore_index` count for nothing; if all are ignored the mean is nan.
    Raises: ValueError for different batch sizes, IndexError for a class out of range, RuntimeError for other shapes
    or a target that is not int64 or uint8.
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    check_reduction(reduction)
    _check_targets(input, target, weight)
    x, classes = input, target
    if input._array.ndim == 1:
        x, classes = input.reshape(1, -1), target.reshape(1)
    count = x._array.shape[1]
    if recording.recorder is not None:
        recording.bounded(classes, 0, count - 1, IndexError(f"Target out of bounds for {count} classes"), ignore_index)
    _check_classes(classes._array, count, ignore_index)
    loss = _nll(x, classes, weight, reduction=reduction, ignore_index=ignore_index)
    return loss.reshape(target._array.shape) if reduction == "none" and input._array.ndim == 1 else loss


_MULTI_TARGET = "0D or 1D target tensor expected, multi-target not supported, got size {}"


def _check_targets(input: Tensor, target: Tensor, weight: Tensor | None) -> None:
    x, t = input._array, target._array
    if x.ndim < 1:
        raise ValueError(f"Expected 1 or more dimensions (got {x.ndim})")
    if x.ndim == 1:
        if t.ndim > 1:
            raise RuntimeError(_MULTI_TARGET.format(list(t.shape)))
        if t.size != 1:
            raise ValueError(f"For 1D input, 1D target must have size 1, but got target size: {t.size}")
    elif t.ndim == 0 or x.shape[0] != t.shape[0]:
        found = t.shape[0] if t.ndim else 1
        raise ValueError(f"Expected input batch_size ({x.shape[0]}) to match target batch_size ({found}).")
    elif x.ndim == 2 and t.ndim > 1:
        raise RuntimeError(_MULTI_TARGET.format(list(t.shape)))
    elif x.ndim > 2 and t.shape[1:] != x.shape[2:]:
        expected = [x.shape[0], *x.shape[2:]]
        raise RuntimeError(f"Expected target size {expected}, got {list(t.shape)}")
    if t.dtype not in (np.int64, np.uint8):
        raise RuntimeError(f"expected target dtype to be Long or Byte, but got {scalar_name(t.dtype)}")
    classes = x.shape[1] if x.ndim > 1 else x.shape[0]
    if weight is not None:
        if weight._array.shape != (classes,):
            raise RuntimeError(
                f"weight tensor should be defined either for all {classes} classes or no classes but got weight tensor "
                f"of shape: {list(weight._array.shape)}"
            )
        if weight._array.dtype != x.dtype:
            raise RuntimeError(
                f"expected scalar type {scalar_name(x.dtype)} but the weight is {scalar_name(weight._array.dtype)}"
            )


def _check_classes(target: Any, classes: int, ignore_index: int) -> None:
    if not target.size or (target.min() >= 0 and target.max() < classes):
        return
    wrong = (target != ignore_index) & ((target < 0) | (target >= classes))
    if wrong.any():
        raise IndexError(f"Target {target[wrong].flat[0]} is out of bounds: there are {classes} classes.")


@in_float32
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """The negative log probability, by softmax of the logits, of each sample's class.

    Shapes: input (N, C), (N, C, d1, …) or (C,) of logits; target without the C dimension for class numbers, or like
    the input for probabilities. `weight` (C,) weighs the classes: for class numbers "mean" divides by the sum of the
    samples' weights, for probabilities by the number of samples. `label_smoothing` mixes the target with the uniform
    distribution (Szegedy et al. 2016, "Rethinking the Inception architecture for computer vision").
    Raises: as `nll_loss`; RuntimeError for label_smoothing outside of [0, 1].

    >>> F.cross_entropy(torch.zeros(2, 4), torch.tensor([0, 3])).exp().item()
    4.0
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    check_reduction(reduction)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    if input._array.ndim < 1:
        raise ValueError(f"Expected 1 or more dimensions (got {input._array.ndim})")
    class_dim = 0 if input._array.ndim == 1 else 1
    if input._array.shape == target._array.shape:
        _check_probabilities(input, target, weight, ignore_index)
        return _cross_entropy_of_probabilities(input, target, weight, reduction, label_smoothing, class_dim)
    _check_targets(input, target, weight)
    logits = log_softmax(input, class_dim)
    loss = nll_loss(logits, target, weight, ignore_index=ignore_index, reduction=reduction)
    if label_smoothing == 0.0:
        return loss
    uniform = _uniform_loss(logits, target, weight, ignore_index, reduction, class_dim)
    return (1 - label_smoothing) * loss + (label_smoothing / input._array.shape[class_dim]) * uniform


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: Any = None,
) -> Tensor:
    """`cross_entropy` of the logits linear(input, linear_weight, linear_bias).

    Shapes: input (N, F) or (F,), linear_weight (C, F) or (C, d1, …, F), linear_bias (C,) or (C, d1, …); targets as for
    logits (N, C, d1, …). `options` asks for computing in pieces, which changes no value and is not done.
    """
    x, w = input._array, linear_weight._array
    if x.ndim not in (1, 2):
        raise RuntimeError(f"linear_cross_entropy: expected input with dimensionality 1 or 2, got {x.ndim}")
    if w.ndim < 2:
        raise RuntimeError(
            f"linear_cross_entropy: expected linear_weight with dimensionality at least 2, got {w.ndim}"
        )
    if w.ndim > 2 and x.ndim == 1:
        raise RuntimeError(
            f"K-dimensional loss defined by linear_weight shape {w.shape} requires batched input, (N, {w.shape[-1]}), "
            f"got unbatched input with shape {x.shape}"
        )
    if x.shape[-1] != w.shape[-1]:
        raise RuntimeError(
            "linear_cross_entropy: expected equal input and linear_weight last dimensions (in_features), got "
            f"{x.shape[-1]} and {w.shape[-1]}, respectively"
        )
    classes, features = w.shape[:-1], w.shape[-1]
    logits = input @ linear_weight.reshape(-1, features).transpose(0, 1)
    logits = logits.reshape(*input._array.shape[:-1], *classes)
    if linear_bias is not None:
        logits = logits + linear_bias
    ignored = -100 if ignore_index is None else ignore_index
    return cross_entropy(
        logits, target, weight, ignore_index=ignored, reduction=reduction, label_smoothing=label_smoothing
    )


def _check_probabilities(input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int) -> None:
    if target._array.dtype.kind not in "fV":
        raise RuntimeError(
            f"Expected floating point type for target with class probabilities, got {scalar_name(target._array.dtype)}"
        )
    if ignore_index >= 0:
        raise RuntimeError("ignore_index is not supported for floating point target")
    classes = input._array.shape[0 if input._array.ndim == 1 else 1]
    if weight is not None and weight._array.shape != (classes,):
        raise RuntimeError(
            f"cross_entropy: weight tensor should be defined either for all {classes} classes or no classes but got "
            f"weight tensor of shape: {list(weight._array.shape)}"
        )


def _per_class(weight: Tensor, ndim: int) -> Tensor:
    """The weights of the classes in the place of the class dimension."""
    return weight if ndim == 1 else weight.reshape(1, -1, *[1] * (ndim - 2))


def _cross_entropy_of_probabilities(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float, class_dim: int
) -> Tensor:
    classes = input._array.shape[class_dim]
    if smoothing > 0.0:
        target = target * (1 - smoothing) + smoothing / classes
    losses = log_softmax(input, class_dim) * target
    if weight is not None:
        losses = losses * _per_class(weight, input._array.ndim)
    if reduction == "none":
        return -sum(losses, class_dim)
    total = -sum(losses)
    samples = input._array.size / classes if classes else 0.0
    return total / (samples or float("nan")) if reduction == "mean" else total


def _uniform_loss(
    logits: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, class_dim: int
) -> Tensor:
    """The loss against every class, for label smoothing; samples to be ignored give 0."""
    weighted = logits if weight is None else logits * _per_class(weight, logits._array.ndim)
    whole = -sum(weighted, class_dim)
    counts = ne(target, ignore_index).reshape(whole._array.shape)
    losses = where(counts, whole, 0)
    if reduction != "mean":
        return reduced(losses, reduction)
    if recording.recorder is not None:
        shares = counts if weight is None else where(counts, weight[where(counts, target, 0)], 0)
        return sum(losses) / sum(shares)
    counts = counts._array
    of_class = None if weight is None else weight._array
    _, weights = _weights_of_targets(target._array, of_class, ignore_index, logits._array.dtype)
    total = counts.size if weights is None else float(weights.sum())
    return sum(losses) / (total or float("nan"))


# ---- yes or no for each element ------------------------------------------------------------------


@primitive("binary_cross_entropy")
def _bce(x: Any, target: Any) -> Any:
    """Without reduction; logarithms are no less than -100."""
    return (target - 1) * np.maximum(np.log1p(-x), -100) - target * np.maximum(np.log(x), -100)


@_bce.vjp
def _bce_vjp(grad: Tensor, x: Tensor, target: Tensor, needs: Any) -> tuple[Any, Any]:
    to_x = to_target = None
    if needs[0]:
        to_x = div(mul(grad, sub(x, target)), clamp_min(mul(sub(1, x), x), 1e-12))
    if needs[1]:
        to_target = mul(grad, log(div(sub(1, x), x)))
    return to_x, to_target


@_bce.scalar
def _bce_scalar(m: Any, x: Any, target: Any) -> Any:
    return (target - 1) * m.maximum(-100, m.log1p(-x)) - target * m.maximum(-100, m.log(x))


@in_float32
def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-target * log(input) - (1 - target) * log(1 - input), with logarithms no less than -100.

    Shapes: both the same (ValueError); `weight` is broadcast to them. Values: between 0 and 1 (RuntimeError).
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    x, t = input._array, target._array
    if x.shape != t.shape:
        raise ValueError(
            f"Using a target size ({text_of_size(target)}) that is different to the input size ({text_of_size(input)}) "
            "is deprecated. Please ensure they have the same size."
        )
    if x.dtype.kind in "biu":
        raise NotImplementedError(f"\"binary_cross_entropy\" not implemented for '{scalar_name(x.dtype)}'")
    if x.dtype != t.dtype:
        raise RuntimeError(f"Found dtype {scalar_name(t.dtype)} but expected {scalar_name(x.dtype)}")
    for name, values in (("input", input), ("target", target)):
        error = RuntimeError(f"all elements of {name} should be between 0 and 1")
        recording.bounded(values, 0, 1, error)
        values = values._array
        if not ((values >= 0) & (values <= 1)).all():
            raise error
    loss = _bce(input, target)
    if weight is not None:
        _check_broadcast(weight, x.shape)
        loss = loss * weight
    return reduced(loss, reduction)


def _check_broadcast(weight: Tensor, shape: Any) -> None:
    try:
        np.broadcast_to(weight._array, shape)
    except ValueError:
        raise RuntimeError(
            f"a weight of size {list(weight._array.shape)} cannot be broadcast to the input of size {list(shape)}"
        ) from None


@in_float32
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """`binary_cross_entropy` of sigmoid(input), without the rounding of the sigmoid.

    Shapes: both the same (ValueError); `weight`, and `pos_weight` for the positive targets, are broadcast to them.
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    if input._array.shape != target._array.shape:
        raise ValueError(f"Target size ({text_of_size(target)}) must be the same as input size ({text_of_size(input)})")
    log_probability = logsigmoid(input)
    if pos_weight is not None:
        _check_broadcast(pos_weight, input._array.shape)
        log_probability = log_probability * ((pos_weight - 1) * target + 1)
    loss = (1 - target) * input - log_probability
    if weight is not None:
        _check_broadcast(weight, input._array.shape)
        loss = loss * weight
    return reduced(loss, reduction)


# ---- margins -------------------------------------------------------------------------------------


@in_float32
def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin - input[target] + input[j])^p, averaged over the classes j, without the target itself.

    Shapes: input (N, C) or (C,), target (N,) or (); `weight` (C,) weighs by the target's class.
    Raises: ValueError unless p is 1 or 2; RuntimeError for shapes that do not fit and classes out of range.
    Source: Crammer & Singer 2001, "On the algorithmic implementation of multiclass kernel-based vector machines".
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    check_reduction(reduction)
    if p not in (1, 2):
        raise ValueError(f"only p == 1 and p == 2 supported, got {p}")
    x = input.reshape(1, -1) if input._array.ndim < 2 else input
    samples, classes = x._array.shape[:1] + x._array.shape[1:2]
    if x._array.ndim > 2 or classes == 0:
        raise RuntimeError(
            f"Expected non-empty vector or matrix with optional 0-dim batch size, but got: {text_of_size(input)}"
        )
    if target._array.ndim > 1 or target._array.size != samples:
        raise RuntimeError(
            "multi_margin_loss: target tensor should be 1-D with size equal to the number of input samples. "
            f"Expected target size [{samples}], but got {list(target._array.shape)}. "
            f"Input has shape {list(input._array.shape)}."
        )
    if weight is not None and weight._array.ndim != 1:
        raise ValueError(f"multi_margin_loss: weight must be one-dimensional, got {list(weight._array.shape)}")
    if weight is not None and weight._array.size != classes:
        raise RuntimeError(f"inconsistent weight size, expected {classes} but got {list(weight._array.shape)}")
    numbers = target._array.reshape(samples)
    error = RuntimeError(f"target out of range: there are {classes} classes")
    recording.bounded(target, 0, classes - 1, error)
    if ((numbers < 0) | (numbers >= classes)).any():
        raise error
    own = eq(constant(np.arange(classes)), target.reshape(samples, 1))  # (N, C): the target's own class
    at_target = sum(where(own, x, 0), 1, keepdim=True)
    hinge = pow(_above_zero(margin - at_target + x), p)
    if weight is not None:
        hinge = hinge * weight.reshape(-1)[target.reshape(samples)].reshape(-1, 1)
    losses = sum(where(own, 0, hinge), 1) / classes
    if reduction == "none" and (input._array.ndim < 2 or target._array.ndim == 0):
        return losses.reshape(target._array.shape)
    return reduced(losses, reduction)


def _above_zero(x: Tensor) -> Tensor:
    """max(0, x) with gradient 0 at 0."""
    return where(x > 0, x, 0)


@in_float32
def multilabel_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, 1 - (input[y] - input[j])), over the labels y of a sample and the classes j that are none; per class.

    Shapes: input and target (N, C) or (C,). A row of the target lists labels up to the first -1.
    Raises: RuntimeError for shapes that differ and labels out of range.
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    check_reduction(reduction)
    if input._array.ndim and input._array.shape[-1] == 0:
        raise RuntimeError(
            f"Expected non-empty vector or matrix with optional 0-dim batch size, but got: {text_of_size(input)}"
        )
    if input._array.shape != target._array.shape or input._array.ndim > 2:
        raise RuntimeError(
            f"inconsistent target size: {list(target._array.shape)} for input of size: {list(input._array.shape)}"
        )
    x = input.reshape(1, -1) if input._array.ndim < 2 else input
    classes = x._array.shape[1]
    labels = target._array.reshape(x._array.shape)
    out_of_range = RuntimeError("argument #2 'target' is out of range")
    recording.bounded(target, -1, classes - 1, out_of_range)
    if ((labels < -1) | (labels >= classes)).any():
        raise out_of_range

    shape = x._array.shape

    def compared(target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The labels that count, others as 0, (N, L), and which classes each is compared with, (N, L, C)."""
        labels = target.reshape(shape)
        listed = np.logical_and.accumulate(labels >= 0, axis=1)
        is_label = ((labels[:, :, None] == np.arange(classes)) & listed[:, :, None]).any(1)  # (N, C)
        return np.where(listed, labels, 0), listed[:, :, None] & ~is_label[:, None, :]

    safe, counts = computed(compared, target)
    at_label = x.gather(1, safe)  # (N, L)
    hinge = _above_zero(1 - at_label.unsqueeze(2) + x.unsqueeze(1))  # (N, L, C)
    losses = sum(where(counts, hinge, 0), (1, 2)) / (classes or 1)
    return losses.reshape(input._array.shape[:-1]) if reduction == "none" else reduced(losses, reduction)


def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The mean over the classes of `binary_cross_entropy_with_logits`. Shapes: input and target (…, C)."""
    reduction = legacy_reduction(size_average, reduce, reduction)
    loss = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    if weight is not None:
        loss = loss * weight
    return reduced(mean(loss, -1) if loss._array.ndim else loss, reduction)


_nll.samples(lambda make: [
    ((make(3, 4), wrap(np.array([1, 0, 3])), weight), {"reduction": reduction, "ignore_index": 0})
    for weight in (None, make(4)) for reduction in ("none", "mean", "sum")
])  # fmt: skip
