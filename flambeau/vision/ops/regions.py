"""Parts of feature maps under boxes: RoI align and pooling, and their position-sensitive forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import flambeau as torch
from flambeau import Tensor, nn


def _with_numbers(boxes: Any, dtype: Any) -> Tensor:
    """Boxes (K, 5) with the image's number first, from those or from a list of one (L, 4) an image."""
    if isinstance(boxes, (list, tuple)):
        numbered = []
        for index, part in enumerate(boxes):
            if part.ndim != 2 or part.shape[1] != 4:
                raise ValueError(f"boxes in a list should be (L, 4), got {tuple(part.shape)} for image {index}")
            numbered.append(torch.cat((torch.full((len(part), 1), float(index), dtype=dtype), part.to(dtype)), 1))
        return torch.cat(numbered) if numbered else torch.empty((0, 5), dtype=dtype)
    if boxes.ndim != 2 or boxes.shape[1] != 5:
        raise ValueError(f"boxes should be (K, 5), or a list of (L, 4), got {tuple(boxes.shape)}")
    return boxes


def _sides(output_size: Any) -> tuple[int, int]:
    if isinstance(output_size, int):
        return output_size, output_size
    rows, columns = output_size
    return rows, columns


def roi_align(
    input: Tensor, boxes: Any, output_size: Any, spatial_scale: float = 1.0, sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    """The parts (K, C, height, width) of `input` (N, C, H, W) under the boxes, by averages of bilinear samples.

    `boxes`: (K, 5) with the image's number first, or a list of one (L, 4) an image; they are multiplied by
    `spatial_scale`. Each cell of `output_size` averages sampling_ratio² samples (as many as it has pixels where that is
    not positive). `aligned` counts coordinates from pixel centres (Mask R-CNN, He et al. 2017). Differentiable in
    `input`. Raises: ValueError for boxes of another shape.
    """
    offset = 0.5 if aligned else 0.0

    def part(image: Tensor, box: list[float], rows: int, columns: int) -> Tensor:
        left, top, right, bottom = (corner * spatial_scale - offset for corner in box)
        width, height = right - left, bottom - top
        if not aligned:  # the original layer forces boxes to be at least one pixel wide
            width, height = max(width, 1.0), max(height, 1.0)
        across = _bilinear(_samples(left, width, columns, sampling_ratio), image.shape[-1])
        down = _bilinear(_samples(top, height, rows, sampling_ratio), image.shape[-2])
        # Bilinear interpolation and the mean over a cell are linear along each side: two small matrix products.
        return _like(down, image) @ image @ _like(across.T.copy(), image)

    return _of_each(input, boxes, _sides(output_size), input.shape[1], part)


def roi_pool(input: Tensor, boxes: Any, output_size: Any, spatial_scale: float = 1.0) -> Tensor:
    """The parts (K, C, height, width) of `input` (N, C, H, W) under the boxes, by the largest value of each cell.

    Boxes as for `roi_align`; scaled corners are rounded to pixels (Girshick 2015). Cells outside the image give 0.
    """

    def part(image: Tensor, box: list[float], rows: int, columns: int) -> Tensor:
        left, top, right, bottom = (_round(corner * spatial_scale) for corner in box)
        across = _cells(left, max(right - left + 1, 1), columns, image.shape[-1])
        down = _cells(top, max(bottom - top + 1, 1), rows, image.shape[-2])
        values, width = image.detach().numpy(), image.shape[-1]
        places = np.zeros((image.shape[0], rows, columns), np.int64)
        full = np.zeros((rows, columns), bool)
        for i, (y0, y1) in enumerate(down):
            for j, (x0, x1) in enumerate(across):
                if y1 > y0 and x1 > x0:
                    best = values[:, y0:y1, x0:x1].reshape(len(values), -1).argmax(1)
                    places[:, i, j] = (y0 + best // (x1 - x0)) * width + x0 + best % (x1 - x0)
                    full[i, j] = True
        taken = image.flatten(1).gather(1, torch.from_numpy(places).flatten(1)).reshape(places.shape)
        return torch.where(torch.from_numpy(full), taken, torch.zeros_like(taken))

    return _of_each(input, boxes, _sides(output_size), input.shape[1], part)


def ps_roi_align(
    input: Tensor, boxes: Any, output_size: Any, spatial_scale: float = 1.0, sampling_ratio: int = -1
) -> Tensor:
    """`roi_align` in which every cell reads channels of its own (light-head R-CNN, Li et al. 2017).

    `input` has C * height * width channels, the result (K, C, height, width); the corners count from pixel centres.
    """

    def part(image: Tensor, box: list[float], rows: int, columns: int) -> Tensor:
        left, top, right, bottom = (corner * spatial_scale - 0.5 for corner in box)
        across = _bilinear(_samples(left, right - left, columns, sampling_ratio), image.shape[-1])
        down = _bilinear(_samples(top, bottom - top, rows, sampling_ratio), image.shape[-2])
        return _own_channels(image, down, across)

    return _of_each(input, boxes, _sides(output_size), _own_count(input, output_size), part)


def ps_roi_pool(input: Tensor, boxes: Any, output_size: Any, spatial_scale: float = 1.0) -> Tensor:
    """The mean of each cell of the boxes, every cell reading channels of its own (R-FCN, Dai et al. 2016).

    `input` has C * height * width channels, the result (K, C, height, width); scaled corners are rounded to pixels.
    """

    def part(image: Tensor, box: list[float], rows: int, columns: int) -> Tensor:
        left, top, right, bottom = (_round(corner * spatial_scale) for corner in box)
        # The last row and column never count: torchvision clips the cells' ends to size - 1.
        across = _cells(left, max(right - left, 1), columns, image.shape[-1] - 1)
        down = _cells(top, max(bottom - top, 1), rows, image.shape[-2] - 1)
        return _own_channels(image, _means(down, image.shape[-2]), _means(across, image.shape[-1]))

    return _of_each(input, boxes, _sides(output_size), _own_count(input, output_size), part)


def _of_each(
    input: Tensor, boxes: Any, size: tuple[int, int], channels: int, part: Callable[..., Tensor]
) -> Tensor:
    """`part(image, box, rows, columns)` of every box, stacked."""
    boxes = _with_numbers(boxes, input.dtype)
    parts = [part(input[int(number)], box, *size) for number, *box in boxes.detach().tolist()]
    return torch.stack(parts) if parts else input.new_zeros((0, channels, *size))


def _own_count(input: Tensor, output_size: Any) -> int:
    rows, columns = _sides(output_size)
    count, rest = divmod(input.shape[1], rows * columns)
    if rest:
        raise RuntimeError(
            f"input channels must be a multiple of pooling height * pooling width: {input.shape[1]} channels, "
            f"{rows}×{columns} cells"
        )
    return count


def _own_channels(image: Tensor, down: np.ndarray, across: np.ndarray) -> Tensor:
    """Weighted sums (C, rows, columns) of an image (C * rows * columns, H, W), each cell's of its own channels."""
    rows, columns = len(down), len(across)
    grouped = image.reshape(-1, rows, columns, *image.shape[1:])
    return torch.einsum("cijhw,ih,jw->cij", grouped, _like(down, image), _like(across, image))


def _like(weights: np.ndarray, image: Tensor) -> Tensor:
    return torch.from_numpy(weights).to(image.dtype)


def _round(value: float) -> int:
    """To the nearest integer, halves away from zero, as C does."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def _cells(start: int, length: int, count: int, size: int) -> list[tuple[int, int]]:
    """Where each of `count` cells along one side begins and ends, inside 0…size."""
    step = np.float32(length) / np.float32(count)
    ends = []
    for i in range(count):
        low, high = math.floor(i * step) + start, math.ceil((i + 1) * step) + start
        ends.append((min(max(low, 0), size), min(max(high, 0), size)))
    return ends


def _means(cells: list[tuple[int, int]], size: int) -> np.ndarray:
    """Weights (cells, size) that take the mean of each cell; of an empty one 0."""
    weights = np.zeros((len(cells), size))
    for row, (low, high) in zip(weights, cells, strict=True):
        row[low:high] = 1 / max(high - low, 1)
    return weights


def _samples(start: float, length: float, cells: int, ratio: int) -> np.ndarray:
    """Coordinates (cells, samples) along one side."""
    count = ratio if ratio > 0 else max(int(np.ceil(length / cells)), 1)
    return start + length / cells * (np.arange(cells)[:, None] + (np.arange(count) + 0.5) / count)


def _bilinear(places: np.ndarray, size: int) -> np.ndarray:
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


class _Region(nn.Module):
    """A function of this module with its settings; `forward(input, rois)`."""

    function: Callable[..., Tensor]
    settings: tuple[str, ...] = ("output_size", "spatial_scale")

    def forward(self, input: Tensor, rois: Any) -> Tensor:
        """The parts of `input` under the boxes."""
        return type(self).function(input, rois, *(getattr(self, name) for name in self.settings))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)}' for name in self.settings)})"


class RoIAlign(_Region):
    """`roi_align` as a layer."""

    function = staticmethod(roi_align)
    settings = ("output_size", "spatial_scale", "sampling_ratio", "aligned")

    def __init__(self, output_size: Any, spatial_scale: float, sampling_ratio: int, aligned: bool = False) -> None:
        super().__init__()
        self.output_size, self.spatial_scale = output_size, spatial_scale
        self.sampling_ratio, self.aligned = sampling_ratio, aligned


class RoIPool(_Region):
    """`roi_pool` as a layer."""

    function = staticmethod(roi_pool)

    def __init__(self, output_size: Any, spatial_scale: float) -> None:
        super().__init__()
        self.output_size, self.spatial_scale = output_size, spatial_scale


class PSRoIAlign(_Region):
    """`ps_roi_align` as a layer."""

    function = staticmethod(ps_roi_align)
    settings = ("output_size", "spatial_scale", "sampling_ratio")

    def __init__(self, output_size: Any, spatial_scale: float, sampling_ratio: int) -> None:
        super().__init__()
        self.output_size, self.spatial_scale, self.sampling_ratio = output_size, spatial_scale, sampling_ratio


class PSRoIPool(_Region):
    """`ps_roi_pool` as a layer."""

    function = staticmethod(ps_roi_pool)

    def __init__(self, output_size: Any, spatial_scale: float) -> None:
        super().__init__()
        self.output_size, self.spatial_scale = output_size, spatial_scale
