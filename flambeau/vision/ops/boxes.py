"""Boxes: areas, forms, overlaps and what detectors drop. Boxes are (N, 4), (xmin, ymin, xmax, ymax)."""

from __future__ import annotations

import math

import numpy as np

import flambeau as torch
from flambeau import Tensor

FORMS = ("xyxy", "xywh", "cxcywh")


def floating(boxes: Tensor) -> Tensor:
    """Boxes in a dtype in which areas do not overflow: at least float32 or int64."""
    if boxes.is_floating_point():
        return boxes if boxes.dtype in (torch.float32, torch.float64) else boxes.to(torch.float32)
    return boxes.to(torch.int64)


def box_convert(boxes: Tensor, in_fmt: str, out_fmt: str) -> Tensor:
    """Boxes (..., 4) in another form: "xyxy" (corners), "xywh" (corner and size) or "cxcywh" (centre and size)."""
    if in_fmt not in FORMS or out_fmt not in FORMS:
        raise ValueError(f"Unsupported Bounding Box Conversions for given in_fmt {in_fmt} and out_fmt {out_fmt}")
    if in_fmt == out_fmt:
        return boxes.clone()
    a, b, c, d = boxes.unbind(-1)
    if in_fmt == "xywh":
        corners = (a, b, a + c, b + d)
    elif in_fmt == "cxcywh":
        corners = (a - 0.5 * c, b - 0.5 * d, a + 0.5 * c, b + 0.5 * d)
    else:
        corners = (a, b, c, d)
    left, top, right, bottom = corners
    if out_fmt == "xywh":
        corners = (left, top, right - left, bottom - top)
    elif out_fmt == "cxcywh":
        corners = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    return torch.stack(corners, dim=-1)


def box_area(boxes: Tensor, fmt: str = "xyxy") -> Tensor:
    """The areas (...,) of boxes (..., 4) in one of the forms of `box_convert`; ValueError for another form."""
    if fmt not in FORMS:
        raise ValueError(f"Unsupported Box Area Calculation for given format '{fmt}'; it is one of {FORMS}")
    boxes = floating(boxes)
    if fmt != "xyxy":
        return boxes[..., 2] * boxes[..., 3]
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _overlap(boxes1: Tensor, boxes2: Tensor, fmt: str = "xyxy") -> tuple[Tensor, Tensor]:
    """Areas (..., N, M) of the intersections and of the unions."""
    areas1, areas2 = box_area(boxes1, fmt), box_area(boxes2, fmt)
    if fmt != "xyxy":
        boxes1, boxes2 = box_convert(boxes1, fmt, "xyxy"), box_convert(boxes2, fmt, "xyxy")
    first, second = floating(boxes1)[..., :, None, :], floating(boxes2)[..., None, :, :]
    low, high = torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
    sides = (high - low).clamp(min=0)
    inter = sides[..., 0] * sides[..., 1]
    return inter, areas1[..., :, None] + areas2[..., None, :] - inter


def _around(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """The sides (..., N, M, 2) of the smallest boxes around every pair."""
    first, second = floating(boxes1)[..., :, None, :], floating(boxes2)[..., None, :, :]
    low, high = torch.minimum(first[..., :2], second[..., :2]), torch.maximum(first[..., 2:], second[..., 2:])
    return (high - low).clamp(min=0)


def box_iou(boxes1: Tensor, boxes2: Tensor, fmt: str = "xyxy") -> Tensor:
    """Intersection over union (..., N, M) of every box of the first set with every box of the second.

    `fmt` is a form of `box_convert`; other forms are a ValueError (torchvision also knows rotated boxes).
    """
    inter, union = _overlap(boxes1, boxes2, fmt)
    return inter / union


def generalized_box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Intersection over union (..., N, M), less the empty share of the smallest box around both (Rezatofighi 2019)."""
    inter, union = _overlap(boxes1, boxes2)
    around = _around(boxes1, boxes2).prod(-1)
    return inter / union - (around - union) / around


def distance_box_iou(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> Tensor:
    """Intersection over union (..., N, M), less the centres' squared distance over the diagonal's (Zheng 2019)."""
    first, second = floating(boxes1), floating(boxes2)
    diagonal = _around(first, second).square().sum(-1) + eps
    centres1, centres2 = (first[..., :2] + first[..., 2:]) / 2, (second[..., :2] + second[..., 2:]) / 2
    distance = (centres1[..., :, None, :] - centres2[..., None, :, :]).square().sum(-1)
    return box_iou(first, second) - distance / diagonal


def complete_box_iou(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> Tensor:
    """`distance_box_iou`, less a term for the difference of the aspect ratios (Zheng 2020)."""
    first, second = floating(boxes1), floating(boxes2)
    sides1, sides2 = first[..., 2:] - first[..., :2], second[..., 2:] - second[..., :2]
    angles1, angles2 = torch.atan(sides1[..., 0] / sides1[..., 1]), torch.atan(sides2[..., 0] / sides2[..., 1])
    v = (4 / math.pi**2) * (angles1[..., :, None] - angles2[..., None, :]).square()
    with torch.no_grad():
        alpha = v / (1 - box_iou(first, second) + v + eps)
    return distance_box_iou(first, second, eps) - alpha * v


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices (int64) of the boxes that stay, best first: each drops all worse ones that overlap it by more.

    Raises: RuntimeError for boxes that are not (N, 4) or scores that are not (N,).
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise RuntimeError(f"boxes should be a 2d tensor of shape (N, 4), got {tuple(boxes.shape)}")
    if scores.ndim != 1 or len(scores) != len(boxes):
        raise RuntimeError(
            f"scores should be (N,) as boxes are (N, 4), got {tuple(scores.shape)} and {tuple(boxes.shape)}"
        )
    corners = floating(boxes.detach()).numpy()
    areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    order = np.argsort(-scores.detach().numpy(), kind="stable")
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        low = np.maximum(corners[best, :2], corners[rest, :2])
        high = np.minimum(corners[best, 2:], corners[rest, 2:])
        inter = np.prod(np.maximum(high - low, 0), axis=1)
        with np.errstate(invalid="ignore"):  # two empty boxes: 0 / 0 drops nothing
            overlap = inter / (areas[best] + areas[rest] - inter)
        order = rest[~(overlap > iou_threshold)]
    return torch.from_numpy(np.array(kept, np.int64))


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """`nms` within each group of boxes that share a number in `idxs` (N,); the indices that stay, best first."""
    if boxes.numel() == 0:
        return torch.empty((0,), dtype=torch.int64)
    # Moved apart by more than the largest coordinate, boxes of different groups cannot overlap.
    offsets = idxs.to(boxes) * (boxes.max() + 1)
    return nms(boxes + offsets[:, None], scores, iou_threshold)


def clip_boxes_to_image(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (..., 4) cut off at the border of an image of `size` (height, width)."""
    height, width = size
    x, y = boxes[..., 0::2].clamp(min=0, max=width), boxes[..., 1::2].clamp(min=0, max=height)
    return torch.stack((x, y), dim=boxes.ndim).reshape(boxes.shape)


def remove_small_boxes(boxes: Tensor, min_size: float) -> Tensor:
    """Indices of the boxes both of whose sides are at least `min_size`."""
    widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return torch.where((widths >= min_size) & (heights >= min_size))[0]


def masks_to_boxes(masks: Tensor) -> Tensor:
    """The smallest box (N, 4), float32, around what is not zero in each mask (N, H, W); zeros for an empty mask."""
    boxes = np.zeros((masks.shape[0], 4), np.float32)
    for index, mask in enumerate(masks.numpy()):
        rows, columns = np.nonzero(mask)
        if len(rows):
            boxes[index] = columns.min(), rows.min(), columns.max(), rows.max()
    return torch.from_numpy(boxes)
