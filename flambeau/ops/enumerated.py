"""`flambeau.*` forms of losses and embeddings: the reduction is a number, "none" if it is left out, as in PyTorch.

`nn.functional` has the forms for users, with names for reductions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core.tensor import Tensor, constant, wrap
from flambeau.ops import classification, ctc, embedding, grid_sample, loss
from flambeau.ops.embedding import embedding_renorm_

__all__ = [
    "affine_grid_generator",
    "binary_cross_entropy_with_logits",
    "cosine_embedding_loss",
    "ctc_loss",
    "embedding_bag",
    "embedding_lookup",
    "embedding_renorm_",
    "hinge_embedding_loss",
    "kl_div",
    "margin_ranking_loss",
    "poisson_nll_loss",
    "triplet_margin_loss",
]


def _name(reduction: int) -> str:
    """0 is "none", 1 "mean", 2 "sum". RuntimeError for other numbers."""
    if reduction not in (0, 1, 2):
        raise RuntimeError(f"reduction must be 0 (none), 1 (mean) or 2 (sum), got {reduction}")
    return ("none", "mean", "sum")[reduction]


def binary_cross_entropy_with_logits(
    input: Tensor, target: Tensor, weight: Any = None, pos_weight: Any = None, reduction: int = 0
) -> Tensor:
    """See `nn.functional.binary_cross_entropy_with_logits`."""
    name = _name(reduction)
    return classification.binary_cross_entropy_with_logits(input, target, weight, reduction=name, pos_weight=pos_weight)


def cosine_embedding_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: int = 0
) -> Tensor:
    """See `nn.functional.cosine_embedding_loss`."""
    return loss.cosine_embedding_loss(input1, input2, target, margin, reduction=_name(reduction))


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: int = 0,
    zero_infinity: bool = False,
) -> Tensor:
    """See `nn.functional.ctc_loss`."""
    return ctc.ctc_loss(log_probs, targets, input_lengths, target_lengths, blank, _name(reduction), zero_infinity)


def hinge_embedding_loss(input: Tensor, target: Tensor, margin: float = 1.0, reduction: int = 0) -> Tensor:
    """See `nn.functional.hinge_embedding_loss`."""
    return loss.hinge_embedding_loss(input, target, margin, reduction=_name(reduction))


def kl_div(input: Tensor, target: Tensor, reduction: int = 0, *, log_target: bool = False) -> Tensor:
    """See `nn.functional.kl_div`; the mean is over the elements, without a warning."""
    total = loss.kl_div(input, target, reduction="sum" if reduction else "none", log_target=log_target)
    return total / total.new_tensor(max(input.numel(), target.numel())) if _name(reduction) == "mean" else total


def margin_ranking_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: int = 0
) -> Tensor:
    """See `nn.functional.margin_ranking_loss`."""
    return loss.margin_ranking_loss(input1, input2, target, margin, reduction=_name(reduction))


def poisson_nll_loss(input: Tensor, target: Tensor, log_input: bool, full: bool, eps: float, reduction: int) -> Tensor:
    """See `nn.functional.poisson_nll_loss`."""
    return loss.poisson_nll_loss(input, target, log_input, full, eps=eps, reduction=_name(reduction))


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: int = 0,
) -> Tensor:
    """See `nn.functional.triplet_margin_loss`."""
    return loss.triplet_margin_loss(anchor, positive, negative, margin, p, eps, swap, reduction=_name(reduction))


def embedding_lookup(
    weight: Tensor, indices: Tensor, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False
) -> Tensor:
    """`nn.functional.embedding` with the table first; a negative padding_idx means none."""
    padding = None if padding_idx < 0 else padding_idx
    return embedding.embedding(indices, weight, padding, scale_grad_by_freq=scale_grad_by_freq)


def embedding_bag(
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`nn.functional.embedding_bag` with the table first and the mode as 0 (sum), 1 (mean) or 2 (max).

    Beside the result: the bag of each index and how many there are in each (for mean and max), and for max which row
    of the table gave each value.
    """
    if mode not in (0, 1, 2):
        raise RuntimeError(f"embedding_bag: mode must be 0 (sum), 1 (mean) or 2 (max), got {mode}")
    out = embedding.embedding_bag(
        indices, weight, offsets, scale_grad_by_freq=scale_grad_by_freq, mode=("sum", "mean", "max")[mode],
        per_sample_weights=per_sample_weights, include_last_offset=include_last_offset, padding_idx=padding_idx,
    )  # fmt: skip
    flat, bag_of, count = embedding._bags(indices, offsets, include_last_offset)
    numbers, bags = flat._array, bag_of._array
    if mode == 0:
        nothing = np.zeros(count, np.int64)
        return out, constant(np.zeros(0, np.int64)), wrap(nothing), wrap(nothing.copy())
    counts = np.ones(len(numbers), bool) if padding_idx is None else numbers != padding_idx
    sizes = np.bincount(bags[counts], minlength=count)
    if mode == 1:
        return out, wrap(bags), wrap(sizes), wrap(sizes.copy())
    winners = np.zeros(out._array.shape, np.int64)
    for bag in np.unique(bags[counts]):
        members = numbers[(bags == bag) & counts]
        winners[bag] = members[weight._array[members].argmax(0)]
    return out, wrap(bags), wrap(sizes), wrap(winners)


def affine_grid_generator(theta: Tensor, size: Any, align_corners: bool) -> Tensor:
    """See `nn.functional.affine_grid`."""
    return grid_sample.affine_grid(theta, size, align_corners)
