"""Pictures of tensors: grids, files, boxes and masks drawn on images."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

import flambeau as torch
from flambeau.vision.transforms.functional import convert_image_dtype, pil_to_tensor, to_pil_image

__all__ = ["draw_bounding_boxes", "draw_segmentation_masks", "make_grid", "save_image"]


@torch.no_grad()
def make_grid(
    tensor,
    nrow: int = 8,
    padding: int = 2,
    normalize: bool = False,
    value_range: tuple[float, float] | None = None,
    scale_each: bool = False,
    pad_value: float = 0.0,
):
    """One image (C, H', W') of a batch (N, C, H, W) or a list of images: `nrow` of them in each row.

    Grey images become three equal channels; one image alone comes back without a border. `normalize` maps `value_range`
    (the smallest and largest value of the whole batch, or of each image with `scale_each`) to [0, 1].
    Raises: TypeError if it is no tensor and no list of tensors, or `value_range` is no tuple.
    """
    if isinstance(tensor, (list, tuple)) and all(isinstance(image, torch.Tensor) for image in tensor):
        tensor = torch.stack(list(tensor), dim=0)
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"tensor or list of tensors expected, got {type(tensor)}")
    if value_range is not None and not isinstance(value_range, tuple):
        raise TypeError("value_range has to be a tuple (min, max) if specified. min and max are numbers")
    if tensor.ndim == 2:
        tensor = tensor[None]
    if tensor.ndim == 3:
        tensor = tensor[None]
    if tensor.ndim == 4 and tensor.shape[1] == 1:
        tensor = torch.cat((tensor, tensor, tensor), 1)
    if normalize:
        tensor = (
            torch.stack([_stretch(image, value_range) for image in tensor])
            if scale_each
            else _stretch(tensor, value_range)
        )
    if tensor.shape[0] == 1:
        return tensor.squeeze(0)

    count, channels, height, width = tensor.shape
    across = min(nrow, count)
    down = math.ceil(count / across)
    height, width = height + padding, width + padding
    grid = tensor.new_full((channels, height * down + padding, width * across + padding), pad_value)
    for index in range(count):
        top, left = index // across * height + padding, index % across * width + padding
        grid[:, top : top + height - padding, left : left + width - padding] = tensor[index]
    return grid


def _stretch(values, value_range: tuple[float, float] | None):
    """The values with `value_range`, or their own range, mapped to [0, 1]."""
    low, high = value_range if value_range is not None else (float(values.min()), float(values.max()))
    return (values.clamp(low, high) - low) / max(high - low, 1e-5)


@torch.no_grad()
def save_image(tensor, fp: Any, format: str | None = None, **kwargs: Any) -> None:
    """Write the grid of the images, whose values are in [0, 1], to a path or an open file; `kwargs` as in make_grid."""
    from PIL import Image

    grid = make_grid(tensor, **kwargs)
    levels = grid.mul(255).add(0.5).clamp(0, 255).permute(1, 2, 0).to("cpu", torch.uint8).numpy()
    Image.fromarray(np.ascontiguousarray(levels)).save(fp, format=format)


def _palette(count: int) -> list[tuple[int, int, int]]:
    """Colours of objects, far apart and always the same."""
    return [tuple(index * step % 255 for step in (2**25 - 1, 2**15 - 1, 2**21 - 1)) for index in range(count)]  # type: ignore[misc]


def _parse_colors(colors: Any, count: int, what: str) -> list[tuple[int, ...]]:
    """One RGB tuple for each of `count` objects, from nothing, one colour or a list of colours (names or tuples)."""
    if colors is None:
        return list(_palette(count))
    if isinstance(colors, list):
        if len(colors) < count:
            raise ValueError(
                f"Number of colors must be equal or larger than the number of {what}, but got {len(colors)} < {count}."
            )
    elif isinstance(colors, (tuple, str)):
        colors = [colors] * count
    else:
        raise ValueError(f"`colors` must be a tuple or a string, or a list thereof, but got {colors}.")
    from PIL import ImageColor

    return [ImageColor.getrgb(color) if isinstance(color, str) else color for color in colors]


@torch.no_grad()
def draw_bounding_boxes(
    image,
    boxes,
    labels: Sequence[str | None] | None = None,
    colors: Any = None,
    fill: bool = False,
    width: int = 1,
    font: str | None = None,
    font_size: int | None = None,
    label_colors: Any = None,
):
    """The image (C, H, W), uint8 or floating in [0, 1], with boxes (N, 4) as (xmin, ymin, xmax, ymax) drawn on it.

    Grey images become RGB. `colors`: one (a name or a tuple) or a list; a fixed palette unless given. `font` is the
    path of a TrueType file; Pillow's own font otherwise.
    Raises: TypeError and ValueError for images, boxes or labels that do not fit.
    """
    if not isinstance(image, torch.Tensor):
        raise TypeError(f"Tensor expected, got {type(image)}")
    if not (image.dtype == torch.uint8 or image.is_floating_point()):
        raise ValueError(f"The image dtype must be uint8 or float, got {image.dtype}")
    if image.ndim != 3:
        raise ValueError("Pass individual images, not batches")
    if image.shape[0] not in (1, 3):
        raise ValueError("Only grayscale and RGB images are supported")
    if len(boxes) and ((boxes[:, 0] > boxes[:, 2]).any() or (boxes[:, 1] > boxes[:, 3]).any()):
        raise ValueError("Boxes need to be in (xmin, ymin, xmax, ymax) format; vision.ops.box_convert converts them")
    count = len(boxes)
    if count == 0:
        warnings.warn("boxes doesn't contain any box. No box was drawn")
        return image
    if labels is not None and len(labels) != count:
        raise ValueError(
            f"The number of boxes ({count}) and labels ({len(labels)}) mismatch. Please specify labels for each box."
        )
    from PIL import ImageDraw, ImageFont

    colors = _parse_colors(colors, count, "boxes")
    text_colors = colors if label_colors is None else _parse_colors(label_colors, count, "boxes")
    face: Any = ImageFont.load_default() if font is None else ImageFont.truetype(font, font_size or 10)
    picture = to_pil_image(convert_image_dtype(image, torch.uint8)).convert("RGB")
    pen = ImageDraw.Draw(picture, "RGBA" if fill else None)
    for index, box in enumerate(boxes.to(torch.int64).tolist()):
        color = tuple(colors[index])
        pen.rectangle(box, width=width, outline=color, fill=(*color, 100) if fill else None)
        if labels is not None and (label := labels[index]) is not None:
            margin = width + 1
            pen.text((box[0] + margin, box[1] + margin), label, fill=tuple(text_colors[index]), font=face)
    return convert_image_dtype(pil_to_tensor(picture), image.dtype)


@torch.no_grad()
def draw_segmentation_masks(image, masks, alpha: float = 0.8, colors: Any = None):
    """The RGB image (3, H, W), uint8 or floating in [0, 1], with boolean masks (H, W) or (N, H, W) painted over it.

    `alpha` is the paint's opacity; where masks overlap the paint is black. No masks leave the image, with a warning.
    Raises: TypeError and ValueError for images or masks that do not fit.
    """
    if not isinstance(image, torch.Tensor):
        raise TypeError(f"The image must be a tensor, got {type(image)}")
    if not (image.dtype == torch.uint8 or image.is_floating_point()):
        raise ValueError(f"The image dtype must be uint8 or float, got {image.dtype}")
    if image.ndim != 3:
        raise ValueError("Pass individual images, not batches")
    if image.shape[0] != 3:
        raise ValueError("Pass an RGB image. Other Image formats are not supported")
    masks = masks[None] if masks.ndim == 2 else masks
    if masks.ndim != 3:
        raise ValueError("masks must be of shape (H, W) or (batch_size, H, W)")
    if masks.dtype != torch.bool:
        raise ValueError(f"The masks must be of dtype bool. Got {masks.dtype}")
    if masks.shape[-2:] != image.shape[-2:]:
        raise ValueError(
            f"The image and the masks must have the same height and width: {tuple(image.shape)}, {tuple(masks.shape)}"
        )
    if not len(masks):
        warnings.warn("masks doesn't contain any mask. No mask was drawn")
        return image
    painted = image.clone()
    scale = 255 if image.is_floating_point() else 1
    for mask, color in zip(masks, _parse_colors(colors, len(masks), "masks"), strict=False):
        painted[:, mask] = torch.tensor([level / scale for level in color]).to(image.dtype)[:, None]
    painted[:, masks.sum(0) > 1] = 0
    return (image * (1 - alpha) + painted * alpha).to(image.dtype)
