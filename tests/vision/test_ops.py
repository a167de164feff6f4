"""Boxes: forms, overlaps, suppression, cutting out; focal loss and stochastic depth."""

import math

import numpy as np
import pytest

import flambeau as torch
from flambeau.vision import ops

BOXES = torch.tensor([[0.0, 0.0, 4.0, 4.0], [2.0, 2.0, 6.0, 6.0], [10.0, 10.0, 12.0, 13.0]])


def test_areas_and_overlaps():
    assert ops.box_area(BOXES).tolist() == [16.0, 16.0, 6.0]
    iou = ops.box_iou(BOXES, BOXES)
    assert iou.diagonal().tolist() == [1.0, 1.0, 1.0]
    assert iou[0, 1].item() == pytest.approx(4 / 28) and iou[0, 2].item() == 0
    assert ops.box_iou(BOXES.to(torch.int64), BOXES[:1].to(torch.int64)).tolist() == iou[:, :1].tolist()
    giou = ops.generalized_box_iou(BOXES, BOXES)
    assert giou[0, 1].item() == pytest.approx(4 / 28 - (36 - 28) / 36)
    assert giou[0, 2].item() == pytest.approx(-(12 * 13 - 22) / (12 * 13))


@pytest.mark.parametrize("first", ["xyxy", "xywh", "cxcywh"])
@pytest.mark.parametrize("second", ["xyxy", "xywh", "cxcywh"])
def test_forms_of_boxes_convert_both_ways(first, second):
    boxes = ops.box_convert(BOXES, "xyxy", first)
    back = ops.box_convert(ops.box_convert(boxes, first, second), second, "xyxy")
    assert torch.equal(back, BOXES)
    assert ops.box_convert(BOXES[2:], "xyxy", "xywh").tolist() == [[10.0, 10.0, 2.0, 3.0]]
    assert ops.box_convert(BOXES[2:], "xyxy", "cxcywh").tolist() == [[11.0, 11.5, 2.0, 3.0]]


def test_unknown_forms_are_refused():
    with pytest.raises(ValueError, match="in_fmt xyxy and out_fmt yx"):
        ops.box_convert(BOXES, "xyxy", "yx")


def test_nms_keeps_the_best_of_what_overlaps():
    boxes = torch.cat([BOXES, BOXES + 0.5])
    scores = torch.tensor([0.3, 0.9, 0.5, 0.8, 0.2, 0.6])
    assert ops.nms(boxes, scores, 0.4).tolist() == [1, 3, 5]
    assert ops.nms(boxes, scores, 0.99).tolist() == [1, 3, 5, 2, 0, 4]
    assert ops.nms(boxes[:0], scores[:0], 0.5).tolist() == []
    # In groups of their own, overlapping boxes do not see each other.
    groups = torch.tensor([0, 0, 0, 1, 1, 1])
    assert ops.batched_nms(boxes, scores, groups, 0.5).tolist() == [1, 3, 5, 2, 0, 4]
    assert ops.batched_nms(boxes[:0], scores[:0], groups[:0], 0.5).tolist() == []
    with pytest.raises(RuntimeError, match=r"\(N, 4\), got \(3, 3\)"):
        ops.nms(BOXES[:, :3], scores[:3], 0.5)
    with pytest.raises(RuntimeError, match=r"got \(2,\) and \(3, 4\)"):
        ops.nms(BOXES, scores[:2], 0.5)


def test_nms_equals_its_definition_on_many_boxes():
    torch.manual_seed(0)
    corner, size, scores = torch.rand(60, 2), torch.rand(60, 2) * 0.5, torch.rand(60)
    boxes = torch.cat([corner, corner + size], 1)
    iou, kept = ops.box_iou(boxes, boxes), []
    for index in scores.argsort(descending=True).tolist():
        if all(iou[index, other] <= 0.3 for other in kept):
            kept.append(index)
    assert ops.nms(boxes, scores, 0.3).tolist() == kept


def test_clipping_small_boxes_and_masks():
    assert ops.clip_boxes_to_image(BOXES - 1, (5, 8))[1:].tolist() == [[1.0, 1.0, 5.0, 5.0], [8.0, 5.0, 8.0, 5.0]]
    assert ops.remove_small_boxes(BOXES, 3).tolist() == [0, 1]
    masks = torch.zeros(2, 6, 8, dtype=torch.bool)
    masks[0, 2:4, 1:7] = True
    assert ops.masks_to_boxes(masks).tolist() == [[1.0, 2.0, 6.0, 3.0], [0.0, 0.0, 0.0, 0.0]]


def test_roi_align_of_a_slope_is_the_place_itself():
    """On values that equal their coordinates, the mean of a cell is its middle."""
    slope = torch.arange(16.0).expand(1, 16, 16)
    images = torch.stack([slope, slope.mT])  # (2, 1, 16, 16)
    out = ops.roi_align(images, [torch.tensor([[2.0, 4.0, 10.0, 8.0]]), torch.tensor([[2.0, 4.0, 10.0, 8.0]])], (2, 4))
    assert tuple(out.shape) == (2, 1, 2, 4)
    assert np.allclose(out[0, 0].numpy(), [[3, 5, 7, 9]] * 2)
    assert np.allclose(out[1, 0].numpy(), [[5] * 4, [7] * 4])
    shifted = ops.roi_align(images, torch.tensor([[0.0, 4.0, 8.0, 20.0, 16.0]]), 2, 0.5, 2, aligned=True)
    assert np.allclose(shifted[0, 0].numpy(), [[3.5, 7.5]] * 2)
    x = images.clone().requires_grad_()
    ops.roi_align(x, torch.tensor([[1.0, 2.0, 4.0, 10.0, 8.0]]), (2, 4)).sum().backward()
    assert x.grad[0].abs().sum() == 0 and x.grad[1].sum().item() == pytest.approx(8.0)
    assert tuple(ops.roi_align(images, torch.zeros(0, 5), 3).shape) == (0, 1, 3, 3)


def test_focal_loss():
    x, y = torch.tensor([0.0, 2.0, -1.0]), torch.tensor([1.0, 1.0, 0.0])
    p = [0.5, 1 / (1 + math.exp(-2)), 1 - 1 / (1 + math.exp(1))]
    expected = [w * -((1 - q) ** 2) * math.log(q) for q, w in zip(p, (0.25, 0.25, 0.75), strict=True)]
    assert np.allclose(ops.sigmoid_focal_loss(x, y).numpy(), expected, rtol=1e-5)
    assert ops.sigmoid_focal_loss(x, y, reduction="sum").item() == pytest.approx(sum(expected), rel=1e-5)
    with pytest.raises(ValueError, match="reduction"):
        ops.sigmoid_focal_loss(x, y, reduction="max")


def test_stochastic_depth_drops_rows_or_all():
    torch.manual_seed(0)
    x = torch.ones(400, 2)
    rows = ops.stochastic_depth(x, 0.25, "row")
    assert torch.equal(rows[:, 0], rows[:, 1]) and abs(rows.mean().item() - 1) < 0.15
    assert len(ops.stochastic_depth(x, 0.25, "batch").unique()) == 1
    layer = ops.StochasticDepth(1.0, "batch")
    assert layer(x).sum() == 0 and layer.eval()(x) is x
    assert repr(layer) == "StochasticDepth(p=1.0, mode=batch)"
    with pytest.raises(ValueError, match="either 'batch' or 'row'"):
        ops.stochastic_depth(x, 0.5, "column")
