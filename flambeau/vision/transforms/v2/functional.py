"""`transforms.functional` and what version 2 adds or calls by another name, for images."""

from __future__ import annotations

from typing import Any

import flambeau as torch
from flambeau import Tensor
from flambeau.vision.transforms.functional import *  # noqa: F403
from flambeau.vision.transforms.functional import __all__ as _classic
from flambeau.vision.transforms.functional import (
    convert_image_dtype,
    elastic_transform,
    get_image_num_channels,
    get_image_size,
    hflip,
    is_pil_image,
    pil_to_tensor,
    vflip,
)

__all__ = [
    "elastic", "gaussian_noise", "get_num_channels", "get_size", "grayscale_to_rgb", "horizontal_flip", "jpeg",
    "permute_channels", "to_dtype", "to_image", "vertical_flip", *_classic,
]

horizontal_flip = hflip
vertical_flip = vflip
elastic = elastic_transform
get_num_channels = get_image_num_channels


def get_size(img: Any) -> list[int]:
    """Height and width of the image."""
    return get_image_size(img)[::-1]


def to_image(input: Any) -> Tensor:
    """A PIL image or an array (H, W, C) as a tensor (C, H, W) of its own dtype, not scaled; a tensor is kept."""
    if isinstance(input, Tensor):
        return input
    if is_pil_image(input):
        return pil_to_tensor(input)
    if hasattr(input, "ndim") and input.ndim in (2, 3):
        image = torch.from_numpy(input)
        return (image[None] if image.ndim == 2 else image.permute(2, 0, 1)).contiguous()
    raise TypeError(f"Input can either be a pure Tensor, a numpy array, or a PIL image, but got {type(input)}")


def to_dtype(image: Tensor, dtype: Any = None, scale: bool = False) -> Tensor:
    """The tensor in `dtype` (float32); with `scale` its values are scaled so that white stays white."""
    dtype = torch.float32 if dtype is None else dtype
    return convert_image_dtype(image, dtype) if scale else image.to(dtype)


def permute_channels(img: Any, permutation: list[int]) -> Any:
    """The image with its channels in another order. ValueError if the order is of another length."""
    if not isinstance(img, Tensor):
        from flambeau.vision.transforms.functional import to_pil_image

        return to_pil_image(permute_channels(pil_to_tensor(img), permutation))
    if img.shape[-3] != len(permutation):
        raise ValueError(
            f"Length of permutation does not match number of channels: {len(permutation)} != {img.shape[-3]}"
        )
    return img[..., list(permutation), :, :]


def grayscale_to_rgb(img: Any) -> Any:
    """A grey image as three equal channels; an RGB one as it is."""
    if not isinstance(img, Tensor):
        return img.convert("RGB")
    return img.expand(*img.shape[:-3], 3, *img.shape[-2:]) if img.shape[-3] == 1 else img


def gaussian_noise(image: Tensor, mean: float = 0.0, sigma: float = 0.1, clip: bool = True) -> Tensor:
    """The image plus normal noise, in units of white; floating or uint8 tensors, else ValueError."""
    if not isinstance(image, Tensor):
        raise ValueError("Gaussian Noise is not implemented for PIL images.")
    if sigma < 0:
        raise ValueError(f"sigma shouldn't be negative. Got {sigma}")
    if image.is_floating_point():
        result = image + (mean + torch.randn_like(image) * sigma)
        return result.clamp(0, 1) if clip else result
    if image.dtype != torch.uint8:
        raise ValueError(f"Input tensor is expected to be in uint8 or float dtype, got dtype={image.dtype}")
    noise = (mean * 255 + torch.randn_like(image, dtype=torch.float32) * (sigma * 255)).to(torch.int16)
    result = image + noise
    return (result.clamp(0, 255) if clip else result).to(torch.uint8)


def jpeg(image: Any, quality: int) -> Any:
    """The image (PIL, or a uint8 tensor (..., C, H, W)) as JPEG of that quality, 1 to 100, gives it back."""
    import io

    from PIL import Image

    from flambeau.vision.transforms.functional import to_pil_image

    if not isinstance(image, Tensor):
        memory = io.BytesIO()
        image.save(memory, format="JPEG", quality=quality)
        memory.seek(0)
        return Image.open(memory).convert(image.mode)
    parts = [pil_to_tensor(jpeg(to_pil_image(one), quality)) for one in image.reshape(-1, *image.shape[-3:])]
    return torch.stack(parts).reshape(image.shape) if parts else image.clone()
