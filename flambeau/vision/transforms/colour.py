"""Transforms of colours and of values. Random parameters are drawn in torchvision's order."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Sequence

import flambeau as torch
from flambeau import nn
from flambeau.vision.transforms import functional as F
from flambeau.vision.transforms.geometry import integer, log_uniform, logarithms, size_pair, uniform

__all__ = [
    "ColorJitter",
    "GaussianBlur",
    "Grayscale",
    "RandomAdjustSharpness",
    "RandomAutocontrast",
    "RandomEqualize",
    "RandomErasing",
    "RandomGrayscale",
    "RandomInvert",
    "RandomPosterize",
    "RandomSolarize",
]


class ColorJitter(nn.Module):
    """Brightness, contrast, saturation and hue changed at random, in random order.

    Each is a number v, which means factors from max(0, 1 - v) to 1 + v (for hue: shifts from -v to v, v at most
    0.5), or the pair of bounds itself; 0 leaves it alone.
    """

    def __init__(self, brightness=0, contrast=0, saturation=0, hue=0):
        super().__init__()
        self.brightness = _bounds(brightness, "brightness")
        self.contrast = _bounds(contrast, "contrast")
        self.saturation = _bounds(saturation, "saturation")
        self.hue = _bounds(hue, "hue", centre=0, limits=(-0.5, 0.5), clip=False)

    @staticmethod
    def get_params(brightness, contrast, saturation, hue):
        """The order of the four changes, a permutation, and the four factors, None where nothing changes."""
        order = torch.randperm(4)
        factors = (None if bounds is None else uniform(*bounds) for bounds in (brightness, contrast, saturation, hue))
        return (order, *factors)

    def forward(self, img):
        """The changed image."""
        order, *factors = self.get_params(self.brightness, self.contrast, self.saturation, self.hue)
        changes = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
        for index in order.tolist():
            if factors[index] is not None:
                img = changes[index](img, factors[index])
        return img

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(brightness={self.brightness}, contrast={self.contrast}, "
            f"saturation={self.saturation}, hue={self.hue})"
        )


def _bounds(value, name: str, centre: float = 1, limits=(0.0, math.inf), clip: bool = True):
    """The pair of bounds that `value` means, or None if it means no change."""
    if value is None:
        return None
    if isinstance(value, numbers.Real):
        if value < 0:
            raise ValueError(f"If {name} is a single number, it must be non negative.")
        bounds = [centre - float(value), centre + float(value)]
        if clip:
            bounds[0] = max(bounds[0], 0.0)
    elif isinstance(value, (tuple, list)) and len(value) == 2:
        bounds = [float(value[0]), float(value[1])]
    else:
        raise TypeError(f"{name} should be a single number or a list/tuple with length 2.")
    if not limits[0] <= bounds[0] <= bounds[1] <= limits[1]:
        raise ValueError(f"{name} values should be between {limits}, but got {bounds}.")
    return None if bounds[0] == bounds[1] == centre else tuple(bounds)


class Grayscale(nn.Module):
    """The grey version of the image, in one channel or in three equal ones."""

    def __init__(self, num_output_channels: int = 1):
        super().__init__()
        self.num_output_channels = num_output_channels

    def forward(self, img):
        """The grey image."""
        return F.rgb_to_grayscale(img, self.num_output_channels)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_output_channels={self.num_output_channels})"


class GaussianBlur(nn.Module):
    """The image smoothed by a bell curve over `kernel_size` (height, width) with a `sigma` drawn from the range."""

    def __init__(self, kernel_size, sigma=(0.1, 2.0)):
        super().__init__()
        self.kernel_size = size_pair(kernel_size, "Kernel size should be a tuple/list of two integers")
        if any(size <= 0 or size % 2 == 0 for size in self.kernel_size):
            raise ValueError("Kernel size value should be an odd and positive number.")
        if isinstance(sigma, numbers.Real):
            if sigma <= 0:
                raise ValueError("If sigma is a single number, it must be positive.")
            sigma = (sigma, sigma)
        elif not isinstance(sigma, Sequence) or len(sigma) != 2:
            raise TypeError("sigma should be a single number or a list/tuple with length 2.")
        elif not 0.0 < sigma[0] <= sigma[1]:
            raise ValueError(f"sigma values should be positive and of the form (min, max), but got {tuple(sigma)}")
        self.sigma = sigma

    @staticmethod
    def get_params(sigma_min: float, sigma_max: float) -> float:
        """A random deviation of the bell curve."""
        return uniform(sigma_min, sigma_max)

    def forward(self, img):
        """The smoothed image."""
        sigma = self.get_params(self.sigma[0], self.sigma[1])
        height, width = self.kernel_size
        return F.gaussian_blur(img, [height, width], [sigma, sigma])

    def __repr__(self) -> str:
        return f"{type(self).__name__}(kernel_size={self.kernel_size}, sigma={self.sigma})"


class _Perhaps(nn.Module):
    """A change that is made with probability `p`."""

    def __init__(self, p: float = 0.5):
        super().__init__()
        self.p = p

    def change(self, img):
        """What is made of the image."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it changes")

    def forward(self, img):
        """The image, perhaps changed."""
        return self.change(img) if uniform(0, 1) < self.p else img

    def __repr__(self) -> str:
        own = [
            f"{name}={value}" for name, value in vars(self).items() if name in ("bits", "threshold", "sharpness_factor")
        ]
        return f"{type(self).__name__}({','.join([*own, f'p={self.p}'])})"


class RandomGrayscale(_Perhaps):
    """With probability `p` the grey version of the image, in as many channels as it had."""

    def __init__(self, p: float = 0.1):
        super().__init__(p)

    def change(self, img):
        """The grey image."""
        return F.rgb_to_grayscale(img, F.get_image_num_channels(img))


class RandomInvert(_Perhaps):
    """With probability `p` the negative of the image."""

    def change(self, img):
        """The negative."""
        return F.invert(img)


class RandomPosterize(_Perhaps):
    """With probability `p` the image with the highest `bits` of each byte kept."""

    def __init__(self, bits: int, p: float = 0.5):
        super().__init__(p)
        self.bits = bits

    def change(self, img):
        """The image with fewer levels."""
        return F.posterize(img, self.bits)


class RandomSolarize(_Perhaps):
    """With probability `p` the image with all values from `threshold` on inverted."""

    def __init__(self, threshold: float, p: float = 0.5):
        super().__init__(p)
        self.threshold = threshold

    def change(self, img):
        """The solarised image."""
        return F.solarize(img, self.threshold)


class RandomAdjustSharpness(_Perhaps):
    """With probability `p` the image `sharpness_factor` times as sharp."""

    def __init__(self, sharpness_factor: float, p: float = 0.5):
        super().__init__(p)
        self.sharpness_factor = sharpness_factor

    def change(self, img):
        """The sharpened or smoothed image."""
        return F.adjust_sharpness(img, self.sharpness_factor)


class RandomAutocontrast(_Perhaps):
    """With probability `p` the image with each channel stretched over the whole range."""

    def change(self, img):
        """The stretched image."""
        return F.autocontrast(img)


class RandomEqualize(_Perhaps):
    """With probability `p` the image with its levels spread evenly."""

    def change(self, img):
        """The equalised image."""
        return F.equalize(img)


class RandomErasing(nn.Module):
    """With probability `p` a random rectangle of a tensor image set to `value` (Zhong et al. 2017).

    `value`: a number, one number a channel, or "random" for normal noise. The rectangle has `scale` times the image's
    area and a side ratio in `ratio`; after ten that do not fit the image is left as it is.
    """

    def __init__(self, p: float = 0.5, scale=(0.02, 0.33), ratio=(0.3, 3.3), value=0, inplace: bool = False):
        super().__init__()
        if not isinstance(value, (numbers.Real, str, tuple, list)):
            raise TypeError("Argument value should be either a number or str or a sequence")
        if isinstance(value, str) and value != "random":
            raise ValueError("If value is str, it should be 'random'")
        if not isinstance(scale, Sequence):
            raise TypeError("Scale should be a sequence")
        if not isinstance(ratio, Sequence):
            raise TypeError("Ratio should be a sequence")
        if scale[0] > scale[1] or ratio[0] > ratio[1]:
            warnings.warn("Scale and ratio should be of kind (min, max)", stacklevel=2)
        if scale[0] < 0 or scale[1] > 1:
            raise ValueError("Scale should be between 0 and 1")
        if p < 0 or p > 1:
            raise ValueError("Random erasing probability should be between 0 and 1")
        self.p = p
        self.scale = scale
        self.ratio = ratio
        self.value = value
        self.inplace = inplace

    @staticmethod
    def get_params(img, scale, ratio, value: list[float] | None = None):
        """Row, column, height, width of the rectangle, and what to fill it with; the whole image if none fits."""
        channels, height, width = img.shape[-3:]
        area = height * width
        log_ratio = logarithms(*ratio)
        for _ in range(10):
            erase_area = area * uniform(scale[0], scale[1])
            aspect_ratio = log_uniform(log_ratio[0], log_ratio[1])
            h = round(math.sqrt(erase_area * aspect_ratio))
            w = round(math.sqrt(erase_area / aspect_ratio))
            if not (h < height and w < width):
                continue
            if value is None:
                fill = torch.empty([channels, h, w], dtype=torch.float32).normal_()
            else:
                fill = torch.tensor(value)[:, None, None]
            i = integer(0, height - h + 1)
            return i, integer(0, width - w + 1), h, w, fill
        return 0, 0, height, width, img

    def forward(self, img):
        """The tensor image, perhaps with a rectangle erased."""
        if uniform(0, 1) >= self.p:
            return img
        if isinstance(self.value, numbers.Real):
            value = [float(self.value)]
        elif isinstance(self.value, str):
            value = None
        else:
            value = [float(number) for number in self.value]
        if value is not None and len(value) not in (1, img.shape[-3]):
            raise ValueError(
                "If value is a sequence, it should have either a single value or "
                f"{img.shape[-3]} (number of input channels)"
            )
        return F.erase(img, *self.get_params(img, self.scale, self.ratio, value), self.inplace)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(p={self.p}, scale={self.scale}, ratio={self.ratio}, value={self.value}, "
            f"inplace={self.inplace})"
        )
