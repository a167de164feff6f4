"""Learned and random augmentation policies: AutoAugment, RandAugment, TrivialAugment and AugMix."""

from __future__ import annotations

import math
from enum import Enum

import flambeau as torch
from flambeau import nn
from flambeau.vision.transforms import functional as F
from flambeau.vision.transforms.geometry import BILINEAR, NEAREST, fill_of, integer
from flambeau.vision.transforms.modes import interpolation_of

__all__ = ["AugMix", "AutoAugment", "AutoAugmentPolicy", "RandAugment", "TrivialAugmentWide"]


class AutoAugmentPolicy(Enum):
    """The data set on which a policy was learned."""

    IMAGENET = "imagenet"
    CIFAR10 = "cifar10"
    SVHN = "svhn"


# Pairs of (operation, probability, magnitude's bin), one pair a sub-policy, in the order of the paper's appendix
# (Cubuk et al. 2019, tables 7 to 9). A bin is left out where the operation has no magnitude.
TABLES = {
    AutoAugmentPolicy.IMAGENET: """
        Posterize .4 8, Rotate .6 9; Solarize .6 5, AutoContrast .6; Equalize .8, Equalize .6;
        Posterize .6 7, Posterize .6 6; Equalize .4, Solarize .2 4; Equalize .4, Rotate .8 8;
        Solarize .6 3, Equalize .6; Posterize .8 5, Equalize 1; Rotate .2 3, Solarize .6 8;
        Equalize .6, Posterize .4 6; Rotate .8 8, Color .4 0; Rotate .4 9, Equalize .6;
        Equalize 0, Equalize .8; Invert .6, Equalize 1; Color .6 4, Contrast 1 8;
        Rotate .8 8, Color 1 2; Color .8 8, Solarize .8 7; Sharpness .4 7, Invert .6;
        ShearX .6 5, Equalize 1; Color .4 0, Equalize .6; Equalize .4, Solarize .2 4;
        Solarize .6 5, AutoContrast .6; Invert .6, Equalize 1; Color .6 4, Contrast 1 8;
        Equalize .8, Equalize .6""",
    AutoAugmentPolicy.CIFAR10: """
        Invert .1, Contrast .2 6; Rotate .7 2, TranslateX .3 9; Sharpness .8 1, Sharpness .9 3;
        ShearY .5 8, TranslateY .7 9; AutoContrast .5, Equalize .9; ShearY .2 7, Posterize .3 7;
        Color .4 3, Brightness .6 7; Sharpness .3 9, Brightness .7 9; Equalize .6, Equalize .5;
        Contrast .6 7, Sharpness .6 5; Color .7 7, TranslateX .5 8; Equalize .3, AutoContrast .4;
        TranslateY .4 3, Sharpness .2 6; Brightness .9 6, Color .2 8; Solarize .5 2, Invert 0;
        Equalize .2, AutoContrast .6; Equalize .2, Equalize .6; Color .9 9, Equalize .6;
        AutoContrast .8, Solarize .2 8; Brightness .1 3, Color .7 0; Solarize .4 5, AutoContrast .9;
        TranslateY .9 9, TranslateY .7 9; AutoContrast .9, Solarize .8 3; Equalize .8, Invert .1;
        TranslateY .7 9, AutoContrast .9""",
    AutoAugmentPolicy.SVHN: """
        ShearX .9 4, Invert .2; ShearY .9 8, Invert .7; Equalize .6, Solarize .6 6;
        Invert .9, Equalize .6; Equalize .6, Rotate .9 3; ShearX .9 4, AutoContrast .8;
        ShearY .9 8, Invert .4; ShearY .9 5, Solarize .2 6; Invert .9, AutoContrast .8;
        Equalize .6, Rotate .9 3; ShearX .9 4, Solarize .3 3; ShearY .8 8, Invert .7;
        Equalize .9, TranslateY .6 6; Invert .9, Equalize .6; Contrast .3 3, Rotate .8 4;
        Invert .8, TranslateY 0 2; ShearY .7 6, Solarize .4 8; Invert .6, Rotate .8 4;
        ShearY .3 7, TranslateX .9 3; ShearX .1 6, Invert .6; Solarize .7 2, TranslateY .6 7;
        ShearY .8 4, Invert .8; ShearX .7 9, TranslateY .8 3; ShearY .8 5, AutoContrast .7;
        ShearX .7 2, Invert .1""",
}


def _policies(policy: AutoAugmentPolicy) -> list[tuple]:
    """The policy's pairs of (operation, probability, bin or None)."""
    if policy not in TABLES:
        raise ValueError(f"The provided policy {policy} is not recognized.")

    def step(words: list[str]) -> tuple[str, float, int | None]:
        return words[0], float(words[1]), int(words[2]) if len(words) == 3 else None

    return [tuple(step(part.split()) for part in pair.split(",")) for pair in TABLES[policy].split(";")]


def _posterize_bins(num_bins: int, lost: int) -> list[float]:
    """From 8 bits down to 8 - `lost`."""
    return (8 - (torch.arange(num_bins) / ((num_bins - 1) / lost)).round()).tolist()


def _space(
    names: str, num_bins: int, reach: dict[str, float], lost_bits: int = 4, white: float = 255.0
) -> dict[str, tuple[list, bool]]:
    """For each operation its magnitudes (none: an empty list) and whether a sign is drawn for them.

    The thresholds are computed on a scale that ends at `white`, which decides how they are rounded.
    """
    space: dict[str, tuple[list, bool]] = {}
    for name in names.split():
        if name in reach:
            space[name] = torch.linspace(0.0, reach[name], num_bins).tolist(), True
        elif name == "Posterize":
            space[name] = _posterize_bins(num_bins, lost_bits), False
        elif name == "Solarize":
            space[name] = [level * (255.0 / white) for level in torch.linspace(white, 0.0, num_bins).tolist()], False
        else:
            space[name] = [], False
    return space


def _reach(shear: float, move_x: float, move_y: float, turn: float, colour: float) -> dict[str, float]:
    """The largest magnitude of each signed operation."""
    return {
        "ShearX": shear,
        "ShearY": shear,
        "TranslateX": move_x,
        "TranslateY": move_y,
        "Rotate": turn,
        **dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), colour),
    }


SHARED = (
    "ShearX ShearY TranslateX TranslateY Rotate Brightness Color Contrast Sharpness Posterize Solarize AutoContrast"
)


def _apply(img, name: str, magnitude: float, interpolation, fill):
    """The image after the operation `name`."""
    if name in ("ShearX", "ShearY"):
        # The policies were learned with shears given as tangents, about the upper left corner.
        angle = math.degrees(math.atan(magnitude))
        shear = [angle, 0.0] if name == "ShearX" else [0.0, angle]
        return F.affine(img, 0.0, [0, 0], 1.0, shear, interpolation, fill, center=[0, 0])
    if name in ("TranslateX", "TranslateY"):
        move = [int(magnitude), 0] if name == "TranslateX" else [0, int(magnitude)]
        return F.affine(img, 0.0, move, 1.0, [0.0, 0.0], interpolation, fill)
    if name == "Rotate":
        return F.rotate(img, magnitude, interpolation, fill=fill)
    factors = {
        "Brightness": F.adjust_brightness,
        "Color": F.adjust_saturation,
        "Contrast": F.adjust_contrast,
        "Sharpness": F.adjust_sharpness,
    }
    if name in factors:
        return factors[name](img, 1.0 + magnitude)
    if name == "Posterize":
        return F.posterize(img, int(magnitude))
    if name == "Solarize":
        return F.solarize(img, magnitude)
    plain = {"AutoContrast": F.autocontrast, "Equalize": F.equalize, "Invert": F.invert, "Identity": lambda img: img}
    return plain[name](img)


class _Policy(nn.Module):
    """What the policies have in common: a coin for the sign of a magnitude, and the scale of the thresholds."""

    white = 255.0

    def _negative(self) -> bool:
        return bool(integer(0, 2))


class AutoAugment(_Policy):
    """One of the 25 pairs of operations learned on a data set (Cubuk et al. 2019), for PIL images or uint8 tensors."""

    def __init__(self, policy=AutoAugmentPolicy.IMAGENET, interpolation=NEAREST, fill=None):
        super().__init__()
        self.policy = policy
        self.interpolation = interpolation_of(interpolation)
        self.fill = fill
        self.policies = _policies(policy)

    @staticmethod
    def get_params(transform_num: int):
        """The number of the pair, two numbers in [0, 1) that decide whether its halves are done, and two signs."""
        policy = integer(0, transform_num)
        return policy, torch.rand((2,)), torch.randint(2, (2,))

    def forward(self, img):
        """The augmented image."""
        chosen, chances, signs = self.get_params(len(self.policies))
        space = self._space(img)
        for step, chance, sign in zip(self.policies[chosen], chances.tolist(), signs.tolist(), strict=True):
            # Compared as float32, in which the chances are drawn.
            if chance <= torch.tensor(step[1]).item():
                img = self._step(img, step, space, lambda sign=sign: sign == 0)
        return img

    def _space(self, img) -> dict[str, tuple[list, bool]]:
        _, height, width = F.get_dimensions(img)
        reach = _reach(0.3, 150.0 / 331.0 * width, 150.0 / 331.0 * height, 30.0, 0.9)
        return _space(f"{SHARED} Equalize Invert", 10, reach, white=self.white)

    def _step(self, img, step, space, negative):
        """The image after one operation of a policy."""
        name, _, bin_ = step
        magnitudes, signed = space[name]
        magnitude = magnitudes[bin_] if bin_ is not None else 0.0
        magnitude = -magnitude if bin_ is not None and signed and negative() else magnitude
        return _apply(img, name, magnitude, self.interpolation, fill_of(img, self.fill))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(policy={self.policy}, fill={self.fill})"


class RandAugment(_Policy):
    """`num_ops` random operations of one magnitude (Cubuk et al. 2020), for PIL images or uint8 tensors."""

    def __init__(
        self, num_ops: int = 2, magnitude: int = 9, num_magnitude_bins: int = 31, interpolation=NEAREST, fill=None
    ):
        super().__init__()
        self.num_ops = num_ops
        self.magnitude = magnitude
        self.num_magnitude_bins = num_magnitude_bins
        self.interpolation = interpolation_of(interpolation)
        self.fill = fill

    def forward(self, img):
        """The augmented image."""
        fill = fill_of(img, self.fill)
        _, height, width = F.get_dimensions(img)
        reach = _reach(0.3, 150.0 / 331.0 * width, 150.0 / 331.0 * height, 30.0, 0.9)
        space = _space(f"Identity {SHARED} Equalize", self.num_magnitude_bins, reach, white=self.white)
        for _ in range(self.num_ops):
            name = list(space)[integer(0, len(space))]
            magnitudes, signed = space[name]
            magnitude = magnitudes[self.magnitude] if magnitudes else 0.0
            if signed and self._negative():
                magnitude = -magnitude
            img = _apply(img, name, magnitude, self.interpolation, fill)
        return img

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(num_ops={self.num_ops}, magnitude={self.magnitude}, "
            f"num_magnitude_bins={self.num_magnitude_bins}, interpolation={self.interpolation}, fill={self.fill})"
        )


class TrivialAugmentWide(_Policy):
    """One random operation of a random magnitude (Müller and Hutter 2021), for PIL images or uint8 tensors."""

    def __init__(self, num_magnitude_bins: int = 31, interpolation=NEAREST, fill=None):
        super().__init__()
        self.num_magnitude_bins = num_magnitude_bins
        self.interpolation = interpolation_of(interpolation)
        self.fill = fill

    def forward(self, img):
        """The augmented image."""
        fill = fill_of(img, self.fill)
        reach = _reach(0.99, 32.0, 32.0, 135.0, 0.99)
        space = _space(f"Identity {SHARED} Equalize", self.num_magnitude_bins, reach, 6, self.white)
        name = list(space)[integer(0, len(space))]
        magnitudes, signed = space[name]
        magnitude = magnitudes[integer(0, len(magnitudes))] if magnitudes else 0.0
        if signed and self._negative():
            magnitude = -magnitude
        return _apply(img, name, magnitude, self.interpolation, fill)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(num_magnitude_bins={self.num_magnitude_bins}, "
            f"interpolation={self.interpolation}, fill={self.fill})"
        )


class AugMix(_Policy):
    """A mixture of the image and of chains of random operations on it (Hendrycks et al. 2020), uint8 or PIL.

    Args:
        severity: the largest magnitude, 1 to 10.
        mixture_width: how many chains.
        chain_depth: operations of each; -1 draws 1 to 3.
        alpha: of the Dirichlet and Beta distributions of the weights.
        all_ops: brightness, contrast, colour and sharpness, too.
    """

    bins = 10

    def __init__(
        self, severity: int = 3, mixture_width: int = 3, chain_depth: int = -1, alpha: float = 1.0,
        all_ops: bool = True, interpolation=BILINEAR, fill=None,
    ):
        super().__init__()
        if not 1 <= severity <= self.bins:
            raise ValueError(f"The severity must be between [1, {self.bins}]. Got {severity} instead.")
        self.severity = severity
        self.mixture_width = mixture_width
        self.chain_depth = chain_depth
        self.alpha = alpha
        self.all_ops = all_ops
        self.interpolation = interpolation_of(interpolation)
        self.fill = fill

    def forward(self, img):
        """The mixture, of the image's type."""
        fill = fill_of(img, self.fill)
        _, height, width = F.get_dimensions(img)
        colours = "Brightness Color Contrast Sharpness" if self.all_ops else ""
        moves = "ShearX ShearY TranslateX TranslateY Rotate Posterize Solarize AutoContrast Equalize"
        reach = _reach(0.3, width / 3.0, height / 3.0, 30.0, 0.9)
        space = _space(f"{moves} {colours}", self.bins, reach, white=self.white)
        # Posterize keeps 4 bits and fewer here.
        space["Posterize"] = [bits - 4 for bits in space["Posterize"][0]], False
        tensor = img if isinstance(img, torch.Tensor) else F.pil_to_tensor(img)
        batch = tensor.reshape((1,) * max(4 - tensor.ndim, 0) + tuple(tensor.shape))
        shares = self._sample_dirichlet(batch.shape[0], 2)
        weights = self._sample_dirichlet(batch.shape[0], self.mixture_width) * shares[:, 1:]
        each = (batch.shape[0],) + (1,) * (batch.ndim - 1)
        mix = shares[:, 0].reshape(each) * batch
        for chain in range(self.mixture_width):
            mix.add_(weights[:, chain].reshape(each) * self._chain(batch, space, fill))
        mix = mix.reshape(tensor.shape).to(tensor.dtype)
        return mix if tensor is img else F.to_pil_image(mix)

    def _sample_dirichlet(self, n: int, parts: int):
        return torch.distributions.Dirichlet(torch.full((n, parts), self.alpha)).sample()

    def _chain(self, image, space, fill):
        """The image after a few random operations."""
        depth = self.chain_depth if self.chain_depth > 0 else integer(1, 4)
        for _ in range(depth):
            name = list(space)[integer(0, len(space))]
            magnitudes, signed = space[name]
            magnitude = magnitudes[integer(0, self.severity)] if magnitudes else 0.0
            if signed and self._negative():
                magnitude = -magnitude
            image = _apply(image, name, magnitude, self.interpolation, fill)
        return image

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(severity={self.severity}, mixture_width={self.mixture_width}, "
            f"chain_depth={self.chain_depth}, alpha={self.alpha}, all_ops={self.all_ops}, "
            f"interpolation={self.interpolation}, fill={self.fill})"
        )
