"""Images: data sets, under torchvision's names."""

from flambeau.vision import datasets

__all__ = ["datasets"]
