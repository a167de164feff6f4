"""Losses of detectors, under torchvision's names."""

from __future__ import annotations

import math

import flambeau as torch
import flambeau.nn.functional as F
from flambeau import Tensor
from flambeau.vision.ops.boxes import box_area, floating


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    """The loss per box, its mean (0 for no boxes) or its sum."""
    if reduction == "none":
        return loss
    if reduction == "mean":
        return loss.mean() if loss.numel() else 0.0 * loss.sum()
    if reduction == "sum":
        return loss.sum()
    raise ValueError(f"Invalid Value for arg 'reduction': '{reduction}'; supported: 'none', 'mean', 'sum'")


def sigmoid_focal_loss(
    inputs: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2, reduction: str = "none"
) -> Tensor:
    """Cross-entropy of logits that makes little of what is already right (Lin et al. 2017, equation 5).

    `alpha` weighs the positive targets, 0 to 1, or -1 for no weight. `reduction`: none, mean or sum; else ValueError.
    """
    if not 0 <= alpha <= 1 and alpha != -1:
        raise ValueError(f"Invalid alpha value: {alpha}. alpha must be in the range [0,1] or -1 for ignore.")
    p = torch.sigmoid(inputs)
    loss = F.binary_cross_entropy_with_logits(inputs, targets, reduction="none")
    loss = loss * (1 - (p * targets + (1 - p) * (1 - targets))) ** gamma
    if alpha >= 0:
        loss = (alpha * targets + (1 - alpha) * (1 - targets)) * loss
    return _reduced(loss, reduction)


def _pairs(boxes1: Tensor, boxes2: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Intersection over union and union (N,) of boxes (N, 4) in pairs, and the sides (N, 2) of the box around both."""
    inter = torch.minimum(boxes1[..., 2:], boxes2[..., 2:]) - torch.maximum(boxes1[..., :2], boxes2[..., :2])
    # Pairs that do not meet have no intersection, whatever its "sides" are.
    meets = (inter > 0).all(-1)
    area = torch.where(meets, inter[..., 0] * inter[..., 1], torch.zeros_like(inter[..., 0]))
    union = box_area(boxes1) + box_area(boxes2) - area
    sides = torch.maximum(boxes1[..., 2:], boxes2[..., 2:]) - torch.minimum(boxes1[..., :2], boxes2[..., :2])
    return area / (union + eps), union, sides


def generalized_box_iou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """1 minus the generalized overlap (Rezatofighi 2019) of boxes (N, 4) with those at the same place; (N,)."""
    boxes1, boxes2 = floating(boxes1), floating(boxes2)
    iou, union, sides = _pairs(boxes1, boxes2, eps)
    around = sides[..., 0] * sides[..., 1]
    return _reduced(1 - (iou - (around - union) / (around + eps)), reduction)


def _distance_loss(boxes1: Tensor, boxes2: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    iou, _, sides = _pairs(boxes1, boxes2, eps)
    centres1, centres2 = (boxes1[..., 2:] + boxes1[..., :2]) / 2, (boxes2[..., 2:] + boxes2[..., :2]) / 2
    distance = (centres1 - centres2).square().sum(-1)
    return 1 - iou + distance / (sides.square().sum(-1) + eps), iou


def distance_box_iou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """1 minus the overlap, plus the squared distance of the centres over the squared diagonal (Zheng 2019); (N,)."""
    return _reduced(_distance_loss(floating(boxes1), floating(boxes2), eps)[0], reduction)


def complete_box_iou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """`distance_box_iou_loss`, plus a term for the difference of the aspect ratios (Zheng 2020); (N,)."""
    boxes1, boxes2 = floating(boxes1), floating(boxes2)
    loss, iou = _distance_loss(boxes1, boxes2, 1e-7)  # torchvision passes `eps` on only to the term below
    sides1, sides2 = boxes1[..., 2:] - boxes1[..., :2], boxes2[..., 2:] - boxes2[..., :2]
    angles = torch.atan(sides2[..., 0] / sides2[..., 1]) - torch.atan(sides1[..., 0] / sides1[..., 1])
    v = (4 / math.pi**2) * angles.square()
    with torch.no_grad():
        alpha = v / (1 - iou + v + eps)
    return _reduced(loss + alpha * v, reduction)
