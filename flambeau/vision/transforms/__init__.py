"""Transforms of images, PIL or tensors, under torchvision's names; the same functions in `functional`.

>>> prepare = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()])
"""

from flambeau.vision.transforms import functional
from flambeau.vision.transforms.autoaugment import *  # noqa: F403
from flambeau.vision.transforms.autoaugment import __all__ as _augment
from flambeau.vision.transforms.colour import *  # noqa: F403
from flambeau.vision.transforms.colour import __all__ as _colour
from flambeau.vision.transforms.containers import *  # noqa: F403
from flambeau.vision.transforms.containers import __all__ as _containers
from flambeau.vision.transforms.conversion import *  # noqa: F403
from flambeau.vision.transforms.conversion import __all__ as _conversion
from flambeau.vision.transforms.geometry import *  # noqa: F403
from flambeau.vision.transforms.geometry import __all__ as _geometry
from flambeau.vision.transforms.modes import InterpolationMode

__all__ = [
    "InterpolationMode",
    "functional",
    *_augment,
    *_colour,
    *_containers,
    *_conversion,
    *_geometry,
]
