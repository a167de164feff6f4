"""Data sets of images, under torchvision's names, and the handwritten digits that come with the package."""

from flambeau.vision.datasets.digits import Digits

__all__ = ["Digits"]
