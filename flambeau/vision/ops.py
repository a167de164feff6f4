"""Boxes and what detectors do with them, under torchvision's names. Boxes are (N, 4), (xmin, ymin, xmax, ymax)."""

from __future__ import annotations

import numpy as np

import flambeau as torch
import flambeau.nn.functional as F
from flambeau import nn

__all__ = [
    "FrozenBatchNorm2d",
    "StochasticDepth",
    "batched_nms",
    "box_area",
    "box_convert",
    "box_iou",
    "clip_boxes_to_image",
    "generalized_box_iou",
    "masks_to_boxes",
    "nms",
    "remove_small_boxes",
    "roi_align",
    "sigmoid_focal_loss",
    "stochastic_depth",
]


def _floating(boxes):
    """Boxes in a dtype in which areas do not overflow: at least float32 or int64."""
    if boxes.is_floating_point():
        return boxes if boxes.dtype in (torch.float32, torch.float64) else boxes.to(torch.float32)
    return boxes.to(torch.int64)


def box_area(boxes):
    """The areas (N,) of boxes (N, 4)."""
    boxes = _floating(boxes)
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def box_convert(boxes, in_fmt: str, out_fmt: str):
    """Boxes (..., 4) in another form: "xyxy" (corners), "xywh" (corner and size) or "cxcywh" (centre and size)."""
    formats = ("xyxy", "xywh", "cxcywh")
    if in_fmt not in formats or out_fmt not in formats:
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


def _overlap(boxes1, boxes2):
    """Areas (N, M) of the intersections and of the unions."""
    first, second = _floating(boxes1), _floating(boxes2)
    low = torch.maximum(first[:, None, :2], second[None, :, :2])
    high = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = (high - low).clamp(min=0)
    inter = sides[:, :, 0] * sides[:, :, 1]
    return inter, box_area(boxes1)[:, None] + box_area(boxes2)[None] - inter


def box_iou(boxes1, boxes2):
    """Intersection over union (N, M) of every box of the first set with every box of the second."""
    inter, union = _overlap(boxes1, boxes2)
    return inter / union


def generalized_box_iou(boxes1, boxes2):
    """Intersection over union (N, M), less the empty share of the smallest box around both (Rezatofighi 2019)."""
    inter, union = _overlap(boxes1, boxes2)
    first, second = _floating(boxes1), _floating(boxes2)
    low = torch.minimum(first[:, None, :2], second[None, :, :2])
    high = torch.maximum(first[:, None, 2:], second[None, :, 2:])
    sides = (high - low).clamp(min=0)
    around = sides[:, :, 0] * sides[:, :, 1]
    return inter / union - (around - union) / around


def nms(boxes, scores, iou_threshold: float):
    """Indices (int64) of the boxes that stay, best first: each drops all worse ones that overlap it by more.

    Raises: RuntimeError for boxes that are not (N, 4) or scores that are not (N,).
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise RuntimeError(f"boxes should be a 2d tensor of shape (N, 4), got {tuple(boxes.shape)}")
    if scores.ndim != 1 or len(scores) != len(boxes):
        raise RuntimeError(
            f"scores should be (N,) as boxes are (N, 4), got {tuple(scores.shape)} and {tuple(boxes.shape)}"
        )
    corners = _floating(boxes.detach()).numpy()
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


def batched_nms(boxes, scores, idxs, iou_threshold: float):
    """`nms` within each group of boxes that share a number in `idxs` (N,); the indices that stay, best first."""
    if boxes.numel() == 0:
        return torch.empty((0,), dtype=torch.int64)
    # Moved apart by more than the largest coordinate, boxes of different groups cannot overlap.
    offsets = idxs.to(boxes) * (boxes.max() + 1)
    return nms(boxes + offsets[:, None], scores, iou_threshold)


def clip_boxes_to_image(boxes, size: tuple[int, int]):
    """Boxes (..., 4) cut off at the border of an image of `size` (height, width)."""
    height, width = size
    x, y = boxes[..., 0::2].clamp(min=0, max=width), boxes[..., 1::2].clamp(min=0, max=height)
    return torch.stack((x, y), dim=boxes.ndim).reshape(boxes.shape)


def remove_small_boxes(boxes, min_size: float):
    """Indices of the boxes both of whose sides are at least `min_size`."""
    widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return torch.where((widths >= min_size) & (heights >= min_size))[0]


def masks_to_boxes(masks):
    """The smallest box (N, 4), float32, around what is not zero in each mask (N, H, W)."""
    boxes = torch.zeros((masks.shape[0], 4), dtype=torch.float32)
    for index, mask in enumerate(masks):
        rows, columns = torch.where(mask != 0)
        if len(rows):
            corners = (columns.min(), rows.min(), columns.max(), rows.max())
            boxes[index] = torch.tensor([float(corner) for corner in corners])
    return boxes


def roi_align(input, boxes, output_size, spatial_scale: float = 1.0, sampling_ratio: int = -1, aligned: bool = False):
    """The parts (K, C, height, width) of `input` (N, C, H, W) under the boxes, by averages of bilinear samples.

    `boxes`: (K, 5) with the image's number first, or a list of one (L, 4) an image; they are multiplied by
    `spatial_scale`. Each cell of `output_size` averages sampling_ratio² samples (as many as it has pixels where that is
    not positive). `aligned` counts coordinates from pixel centres (Mask R-CNN, He et al. 2017). Differentiable in
    `input`.
    """
    if isinstance(boxes, (list, tuple)):
        numbers = [torch.full((len(part), 1), float(index), dtype=input.dtype) for index, part in enumerate(boxes)]
        boxes = torch.cat([torch.cat((number, part), 1) for number, part in zip(numbers, boxes, strict=True)])
    if boxes.ndim != 2 or boxes.shape[1] != 5:
        raise ValueError(f"boxes should be (K, 5), or a list of (L, 4), got {tuple(boxes.shape)}")
    rows, columns = (output_size, output_size) if isinstance(output_size, int) else output_size
    offset = 0.5 if aligned else 0.0
    parts = []
    for number, *box in boxes.detach().tolist():
        left, top, right, bottom = (corner * spatial_scale - offset for corner in box)
        width, height = right - left, bottom - top
        if not aligned:  # the original layer forces boxes to be at least one pixel wide
            width, height = max(width, 1.0), max(height, 1.0)
        image = input[int(number)]
        x, y = _samples(left, width, columns, sampling_ratio), _samples(top, height, rows, sampling_ratio)
        across, down = _weights(x, image.shape[-1]), _weights(y, image.shape[-2])
        # Bilinear interpolation and the mean over a cell are linear along each side: two small matrix products.
        parts.append(torch.from_numpy(down).to(input.dtype) @ image @ torch.from_numpy(across.T.copy()).to(input.dtype))
    if not parts:
        return input.new_zeros((0, input.shape[1], rows, columns))
    return torch.stack(parts)


def _samples(start: float, length: float, cells: int, ratio: int) -> np.ndarray:
    """Coordinates (cells, samples) along one side."""
    count = ratio if ratio > 0 else max(int(np.ceil(length / cells)), 1)
    return start + length / cells * (np.arange(cells)[:, None] + (np.arange(count) + 0.5) / count)


def _weights(places: np.ndarray, size: int) -> np.ndarray:
    """Weights (cells, size) of a row's pixels in the mean of each cell's samples; samples outside count as nothing."""
    valid = (places >= -1.0) & (places <= size)
    places = np.clip(places, 0, size - 1)
    low = np.floor(places).astype(np.int64)
    share = places - low
    weights = np.zeros((len(places), size))
    cell = np.broadcast_to(np.arange(len(places))[:, None], places.shape)
    np.add.at(weights, (cell, low), (1 - share) * valid)
    np.add.at(weights, (cell, np.minimum(low + 1, size - 1)), share * valid)
    return weights / places.shape[1]


def sigmoid_focal_loss(inputs, targets, alpha: float = 0.25, gamma: float = 2, reduction: str = "none"):
    """Cross-entropy of logits that makes little of what is already right (Lin et al. 2017, equation 5).

    `alpha` weighs the positive targets (negative: no weight). `reduction`: none, mean or sum; else ValueError.
    """
    p = torch.sigmoid(inputs)
    loss = F.binary_cross_entropy_with_logits(inputs, targets, reduction="none")
    loss = loss * (1 - (p * targets + (1 - p) * (1 - targets))) ** gamma
    if alpha >= 0:
        loss = (alpha * targets + (1 - alpha) * (1 - targets)) * loss
    if reduction == "none":
        return loss
    if reduction not in ("mean", "sum"):
        raise ValueError(f"Invalid Value for arg 'reduction': '{reduction}'; supported: 'none', 'mean', 'sum'")
    return loss.mean() if reduction == "mean" else loss.sum()


def stochastic_depth(input, p: float, mode: str, training: bool = True):
    """The input with, in training, each row (mode "row") or the whole of it ("batch") dropped with probability `p`.

    What stays is divided by 1 - p (Huang et al. 2016).
    """
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"drop probability has to be between 0 and 1, but got {p}")
    if mode not in ("batch", "row"):
        raise ValueError(f"mode has to be either 'batch' or 'row', but got {mode}")
    if not training or p == 0.0:
        return input
    shape = [input.shape[0] if mode == "row" else 1] + [1] * (input.ndim - 1)
    noise = torch.empty(shape, dtype=input.dtype, device=input.device).bernoulli_(1.0 - p)
    return input * (noise.div_(1.0 - p) if p < 1.0 else noise)


class StochasticDepth(nn.Module):
    """`stochastic_depth` as a layer, active in training."""

    def __init__(self, p: float, mode: str):
        super().__init__()
        self.p = p
        self.mode = mode

    def forward(self, input):
        """The input, in training perhaps dropped."""
        return stochastic_depth(input, self.p, self.mode, self.training)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(p={self.p}, mode={self.mode})"


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation of (N, C, H, W) by fixed statistics, scale and shift, which are buffers: nothing learns."""

    def __init__(self, num_features: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def _load_from_state_dict(self, state_dict, prefix, *rest):
        state_dict.pop(prefix + "num_batches_tracked", None)    # of the ordinary layer it is loaded from
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def forward(self, x):
        """The normalised input, of the same shape."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.weight.shape[0]}, eps={self.eps})"
