"""Connectionist temporal classification: the loss for label sequences without alignment."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core import recording
from flambeau.core.dispatch import primitive
from flambeau.core.dtype import int64
from flambeau.core.inplace import scalar_name
from flambeau.core.tensor import Tensor, constant, wrap
from flambeau.ops.arithmetic import clamp_min
from flambeau.ops.loss import check_reduction
from flambeau.ops.pointwise import mul
from flambeau.ops.reductions import mean, sum

__all__ = ["ctc_loss"]


def _extended(targets: Any, blank: int) -> tuple[Any, Any]:
    """Each target with blanks around its labels, (N, 2S + 1), and where a blank may be jumped over."""
    samples, length = targets.shape
    labels = np.full((samples, 2 * length + 1), blank, np.int64)
    labels[:, 1::2] = targets
    may_jump = np.zeros(labels.shape, bool)
    may_jump[:, 3::2] = targets[:, 1:] != targets[:, :-1]
    return labels, may_jump


def _log_add(*terms: Any) -> Any:
    """log(sum(exp(terms))), -inf where all are."""
    stacked = np.stack(terms)
    largest = stacked.max(0)
    safe = np.where(np.isneginf(largest), largest.dtype.type(0), largest)
    return np.log(np.exp(stacked - safe).sum(0)) + safe


def _shift(log_probs: Any, steps: int) -> Any:
    """Moved by some places along the labels; -inf comes in."""
    out = np.full_like(log_probs, -np.inf)
    if steps > 0:
        out[:, steps:] = log_probs[:, :-steps]
    else:
        out[:, :steps] = log_probs[:, -steps:]
    return out


def _forward(emitted: Any, may_jump: Any) -> Any:
    """alpha(t, s): the log probability of all alignments up to time t that end in label s. Graves et al., 6-8."""
    times, samples, states = emitted.shape
    alpha = np.full((times, samples, states), -np.inf, emitted.dtype)
    alpha[0, :, :2] = emitted[0, :, :2]
    for t in range(1, times):
        before = alpha[t - 1]
        jumped = np.where(may_jump, _shift(before, 2), -np.inf)
        alpha[t] = _log_add(before, _shift(before, 1), jumped) + emitted[t]
    return alpha


def _last_states(alpha: Any, input_lengths: Any, target_lengths: Any) -> tuple[Any, Any]:
    """alpha at each sample's last time, in the final blank and in the final label (-inf if there is none)."""
    rows = np.arange(len(input_lengths))
    last = alpha[np.maximum(input_lengths - 1, 0), rows]  # (N, 2S + 1)
    blank = last[rows, 2 * target_lengths]
    label = np.where(target_lengths > 0, last[rows, np.maximum(2 * target_lengths - 1, 0)], -np.inf)
    empty = input_lengths == 0  # no time at all: only the empty target has an alignment
    nothing = blank.dtype.type(-np.inf)
    blank = np.where(empty, np.where(target_lengths == 0, blank.dtype.type(0), nothing), blank)
    return blank, np.where(empty, nothing, label)


@primitive("ctc_loss", grad_name="CtcLossBackward0")
def _ctc(
    log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, *, blank: int, zero_infinity: bool
) -> Any:
    """log_probs (T, N, C), targets (N, S) padded or one after the other, lengths (N,) -> (N,)"""
    labels, may_jump = _extended(_padded(targets, target_lengths), blank)
    emitted = np.take_along_axis(log_probs, np.broadcast_to(labels, (len(log_probs), *labels.shape)), 2)
    alpha = _forward(emitted, may_jump)
    losses = -_log_add(*_last_states(alpha, input_lengths, target_lengths))
    return np.where(np.isinf(losses), 0, losses).astype(losses.dtype) if zero_infinity else losses


@primitive("ctc_loss_backward", no_gradient="PyTorch defines no second derivative of ctc_loss either")
def _ctc_slope(
    log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, *, blank: int, zero_infinity: bool
) -> Any:
    """The derivative of each sample's loss: exp(log_probs) less the share of the alignments through each class.

    It is the derivative by the logits behind the log probabilities, as PyTorch has it. Graves et al., equation 16.
    """
    times, samples, _ = log_probs.shape
    labels, may_jump = _extended(_padded(targets, target_lengths), blank)
    emitted = np.take_along_axis(log_probs, np.broadcast_to(labels, (times, *labels.shape)), 2)
    alpha = _forward(emitted, may_jump)
    losses = -_log_add(*_last_states(alpha, input_lengths, target_lengths))
    beta = _backward(emitted, may_jump, input_lengths, target_lengths)
    through = alpha + beta - emitted  # log probability of all alignments through (t, s)
    out = np.exp(log_probs)
    for n in range(samples):
        for s in range(2 * target_lengths[n] + 1):
            share = np.exp(through[:, n, s] + losses[n])
            out[:, n, labels[n, s]] -= share
    out[:, np.isinf(losses)] = 0 if zero_infinity else np.nan
    out[np.arange(times)[:, None] >= input_lengths] = 0
    return out


def _backward(emitted: Any, may_jump: Any, input_lengths: Any, target_lengths: Any) -> Any:
    """beta(t, s): the log probability of all alignments from time t on that begin in label s. Graves et al., 10-11."""
    times, samples, states = emitted.shape
    beta = np.full((times, samples, states), -np.inf, emitted.dtype)
    rows = np.arange(samples)
    jump_from = np.zeros_like(may_jump)
    jump_from[:, :-2] = may_jump[:, 2:]
    for t in range(times - 1, -1, -1):
        if t + 1 < times:
            after = beta[t + 1]
            jumped = np.where(jump_from, _shift(after, -2), -np.inf)
            beta[t] = _log_add(after, _shift(after, -1), jumped) + emitted[t]
        ends = rows[input_lengths == t + 1]
        beta[t, ends] = -np.inf
        blank = 2 * target_lengths[ends]
        beta[t, ends, blank] = emitted[t, ends, blank]
        some = target_lengths[ends] > 0
        ends, label = ends[some], blank[some] - 1
        beta[t, ends, label] = emitted[t, ends, label]
    return beta


@_ctc.vjp
def _ctc_vjp(
    grad: Tensor,
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
    zero_infinity: bool,
) -> tuple[Any, ...]:
    slope = _ctc_slope(
        log_probs.detach(), targets, input_lengths, target_lengths, blank=blank, zero_infinity=zero_infinity
    )
    return mul(slope, grad.reshape(1, -1, 1)), None, None, None


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """-log of the probability that some alignment with blanks gives the target.

    Shapes: log_probs (T, N, C) or (T, C), after log_softmax; targets (N, S) padded, or all of them in a row (sum of
    target_lengths,); lengths (N,) or numbers. "mean" divides each loss by its target's length, then averages.
    `zero_infinity` counts targets that are too long for their input as 0.
    Raises: RuntimeError for a blank, lengths or shapes that do not fit.
    Source: Graves et al. 2006, "Connectionist temporal classification".
    """
    check_reduction(reduction)
    single = log_probs._array.ndim == 2
    probs = log_probs.unsqueeze(1) if single else log_probs
    if probs._array.dtype.kind not in "f":
        raise NotImplementedError(f"\"ctc_loss_cpu\" not implemented for '{scalar_name(probs._array.dtype)}'")
    times, samples, classes = probs._array.shape
    if not 0 <= blank < classes:
        raise RuntimeError(f"blank must be in label range, got {blank} for {classes} classes")
    if targets._array.dtype.kind not in "iu":
        raise RuntimeError(f"targets must be integral, got {scalar_name(targets._array.dtype)}")
    in_lengths = _lengths(input_lengths, "input_lengths", samples, times)
    longest = targets._array.shape[1] if targets._array.ndim == 2 else targets._array.size
    out_lengths = _lengths(target_lengths, "target_lengths", samples, longest)
    losses = _ctc(probs, targets, in_lengths, out_lengths, blank=blank, zero_infinity=zero_infinity)
    if reduction == "mean":
        return mean(losses / clamp_min(out_lengths, 1).to(losses.dtype))
    if reduction == "sum":
        return sum(losses)
    return losses.reshape(()) if single else losses


def _lengths(lengths: Any, name: str, samples: int, most: int) -> Tensor:
    """The lengths as a vector of int64, one for each sample. RuntimeError unless they lie between 0 and `most`."""
    found = lengths if isinstance(lengths, Tensor) else constant(np.asarray(lengths))
    if found._array.dtype.kind not in "iu":
        raise RuntimeError(f"{name} must be integral")
    if found._array.size != samples:
        raise RuntimeError(f"{name} must be of size batch_size: got {found._array.size} for {samples}")
    error = RuntimeError(f"Expected {name} to be between 0 and {most}, but got {found._array.reshape(-1).tolist()}")
    recording.bounded(found, 0, most, error)
    if ((found._array < 0) | (found._array > most)).any():
        raise error
    return found.reshape(-1).to(int64)


def _padded(targets: Any, lengths: Any) -> Any:
    """The targets in rows, (N, longest); what pads them does not matter."""
    longest = int(lengths.max(initial=0))
    if targets.ndim == 2:
        if targets.shape[0] != len(lengths):
            raise RuntimeError(f"Expected targets for {len(lengths)} samples, got size {list(targets.shape)}")
        return targets[:, :longest].astype(np.int64)
    flat = targets.reshape(-1)
    if flat.size != lengths.sum():
        raise RuntimeError(f"Expected targets of size {lengths.sum()}, the sum of target_lengths, got {flat.size}")
    out = np.zeros((len(lengths), longest), np.int64)
    for row, end, length in zip(out, np.cumsum(lengths), lengths):
        row[:length] = flat[end - length : end]
    return out


def _samples(make: Any) -> list[Any]:
    targets, input_lengths, target_lengths = (wrap(np.array(x)) for x in ([[1, 1, 2], [2, 1, 0]], [5, 4], [3, 2]))
    return [((make(5, 2, 3), targets, input_lengths, target_lengths), {"blank": 0, "zero_infinity": False})]


_ctc_slope.samples(_samples)
