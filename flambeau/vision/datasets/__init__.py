"""Data sets of images, under torchvision's names, and the handwritten digits that come with the package."""

from flambeau.vision.datasets.cifar import CIFAR10, CIFAR100
from flambeau.vision.datasets.digits import Digits
from flambeau.vision.datasets.fakedata import FakeData
from flambeau.vision.datasets.folder import DatasetFolder, ImageFolder
from flambeau.vision.datasets.matlab import SVHN
from flambeau.vision.datasets.mnist import EMNIST, KMNIST, MNIST, FashionMNIST
from flambeau.vision.datasets.oxford import Flowers102, OxfordIIITPet
from flambeau.vision.datasets.stl10 import STL10
from flambeau.vision.datasets.vision import VisionDataset

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "DatasetFolder",
    "Digits",
    "EMNIST",
    "FakeData",
    "FashionMNIST",
    "Flowers102",
    "ImageFolder",
    "KMNIST",
    "MNIST",
    "OxfordIIITPet",
    "STL10",
    "SVHN",
    "VisionDataset",
]
