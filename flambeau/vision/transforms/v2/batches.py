"""Mixing the images of a batch: MixUp (Zhang et al., 2017) and CutMix (Yun et al., 2019)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import flambeau as torch
from flambeau import Tensor, nn
from flambeau.vision.transforms.geometry import integer

__all__ = ["CutMix", "MixUp"]


class _Mixing(nn.Module):
    """Each image of a batch mixed with the one before it, and their labels likewise.

    `forward(images, labels)` takes (N, C, H, W) and labels (N,) or (N, num_classes), gives the mixed images and labels
    (N, num_classes), floating.

    Args:
        alpha: of the Beta distribution of the first image's share.
        num_classes: needed for labels that are numbers of classes.
        labels_getter: finds the labels in the input; "default" takes the second of two.

    Raises: ValueError for images or labels of other shapes, and for PIL images.
    """

    def __init__(
        self, *, alpha: float = 1.0, num_classes: int | None = None,
        labels_getter: Callable[[Any], Any] | str = "default",
    ) -> None:
        super().__init__()
        if labels_getter != "default" and not callable(labels_getter):
            raise ValueError(f"labels_getter should either be 'default' or a callable, but got {labels_getter!r}")
        self.alpha = float(alpha)
        self.num_classes = num_classes
        self._labels_getter = labels_getter
        self._dist = torch.distributions.Beta(torch.tensor([alpha]), torch.tensor([alpha]))

    def forward(self, *inputs: Any) -> Any:
        """The inputs, as they were given, with images and labels mixed."""
        sample = inputs if len(inputs) > 1 else inputs[0]
        labels = self._labels_getter(sample) if callable(self._labels_getter) else sample[1]
        self._check_labels(labels)
        images = next((value for value in _leaves(sample) if value is not labels and isinstance(value, Tensor)), None)
        if images is None or images.ndim != 4:
            shape = None if images is None else tuple(images.shape)
            raise ValueError(f"{type(self).__name__}: expected a batch of images with 4 dims, but got {shape}")
        if len(images) != len(labels):
            raise ValueError(f"The batch sizes of images and labels differ: {len(images)} != {len(labels)}")
        mixed, share = self.mix(images)
        replaced = {id(images): mixed, id(labels): self._mixed_labels(labels, share)}
        return _rebuilt(sample, replaced)

    def mix(self, images: Tensor) -> tuple[Tensor, float]:
        """The mixed images, and how much of each is its own."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it mixes")

    def _check_labels(self, labels: Any) -> None:
        if not isinstance(labels, Tensor):
            raise ValueError(f"The labels must be a tensor, but got {type(labels)} instead.")
        if labels.ndim not in (1, 2):
            raise ValueError(
                "labels should be index based with shape (batch_size,) or probability based with shape "
                f"(batch_size, num_classes), but got a tensor of shape {tuple(labels.shape)} instead."
            )
        if labels.ndim == 1 and self.num_classes is None:
            raise ValueError("num_classes must be passed if the labels are index-based (1D)")
        if labels.ndim == 2 and self.num_classes not in (None, labels.shape[1]):
            raise ValueError(f"labels of {labels.shape[1]} classes do not match num_classes={self.num_classes}")

    def _mixed_labels(self, labels: Tensor, share: float) -> Tensor:
        if labels.ndim == 1:
            labels = nn.functional.one_hot(labels, num_classes=self.num_classes)
        labels = labels if labels.is_floating_point() else labels.float()
        return labels.roll(1, 0).mul_(1.0 - share).add_(labels.mul(share))


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    return [leaf for part in value for leaf in _leaves(part)] if isinstance(value, (list, tuple)) else [value]


def _rebuilt(value: Any, replaced: dict[int, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _rebuilt(part, replaced) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_rebuilt(part, replaced) for part in value)
    return replaced.get(id(value), value)


class MixUp(_Mixing):
    __doc__ = f"MixUp: weighted means of pairs.\n\n{_Mixing.__doc__}"

    def mix(self, images: Tensor) -> tuple[Tensor, float]:
        """Weighted means of each image and the one before it."""
        share = self._dist.sample(()).item()
        return images.roll(1, 0).mul_(1.0 - share).add_(images.mul(share)), share


class CutMix(_Mixing):
    __doc__ = f"CutMix: a rectangle of the other image.\n\n{_Mixing.__doc__}"

    def mix(self, images: Tensor) -> tuple[Tensor, float]:
        """Each image with a rectangle of the one before it."""
        share = self._dist.sample(()).item()
        height, width = images.shape[-2:]
        x, y = integer(0, width), integer(0, height)
        half = 0.5 * math.sqrt(1.0 - share)
        reach_x, reach_y = int(half * width), int(half * height)
        left, right = max(x - reach_x, 0), min(x + reach_x, width)
        top, bottom = max(y - reach_y, 0), min(y + reach_y, height)
        mixed = images.clone()
        mixed[..., top:bottom, left:right] = images.roll(1, 0)[..., top:bottom, left:right]
        return mixed, 1.0 - (right - left) * (bottom - top) / (width * height)
