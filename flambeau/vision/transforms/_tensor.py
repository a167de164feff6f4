"""Transforms of image tensors (..., C, H, W), differentiable where the operation is."""

from __future__ import annotations

import math

import numpy as np

import flambeau as torch
import flambeau.nn.functional as F

FLOATING = (torch.float32, torch.float64)


def max_value(dtype) -> float:
    """What white is in images of `dtype`: the largest integer, or 1 for floating dtypes."""
    if dtype == torch.bool or dtype.is_floating_point:
        return 1
    return torch.iinfo(dtype).max


def _enter(image, dtypes=FLOATING):
    """The image as a batch (N, C, H, W) of one of `dtypes`, and the function that undoes both."""
    dtype, shape = image.dtype, image.shape
    work = image.reshape(-1, *shape[-3:]) if image.ndim > 4 else image[None] if image.ndim == 3 else image
    if image.ndim == 2:
        work = image[None, None]
    if dtype not in dtypes:
        work = work.to(torch.float32)

    def leave(result):
        result = result.reshape(*shape[:-3], *result.shape[-3:]) if len(shape) != 2 else result[0, 0]
        if result.dtype != dtype:
            if not dtype.is_floating_point:
                result = result.round()
            result = result.to(dtype)
        return result

    return work, leave


def check_channels(image, allowed: tuple[int, ...]) -> None:
    """Raise TypeError unless the image has one of the `allowed` numbers of channels."""
    found = image.shape[-3] if image.ndim > 2 else 1
    if found not in allowed:
        raise TypeError(f"Input image tensor permitted channel values are {list(allowed)}, but found {found}")


def crop(image, top: int, left: int, height: int, width: int):
    """The rectangle, black where it leaves the image."""
    h, w = image.shape[-2:]
    right, bottom = left + width, top + height
    if left < 0 or top < 0 or right > w or bottom > h:
        inside = image[..., max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        left_pad, top_pad = max(-left + min(0, right), 0), max(-top + min(0, bottom), 0)
        right_pad, bottom_pad = max(right - max(w, left), 0), max(bottom - max(h, top), 0)
        return pad(inside, (left_pad, top_pad, right_pad, bottom_pad), 0.0, "constant")
    return image[..., top:bottom, left:right]


def pad(image, padding: tuple[int, int, int, int], fill, mode: str):
    """The image with left, top, right and bottom borders in one of the four modes; negative borders cut off."""
    left, top, right, bottom = padding
    if mode == "constant":
        if isinstance(fill, (tuple, list)):
            if len(fill) != 1:
                raise ValueError("padding of a tensor takes one fill value")
            fill = fill[0]
        return F.pad(image, [left, right, top, bottom], mode="constant", value=float(fill or 0))
    if mode == "symmetric":
        return _pad_symmetric(image, padding)
    work, leave = _enter(image)
    name = "replicate" if mode == "edge" else mode
    return leave(F.pad(work, [left, right, top, bottom], mode=name))


def _pad_symmetric(image, padding):
    """Mirrored borders in which the edge pixel is repeated."""
    left, top, right, bottom = padding
    h, w = image.shape[-2:]
    columns = np.pad(np.arange(w)[max(-left, 0) : w - max(-right, 0)], (max(left, 0), max(right, 0)), "symmetric")
    rows = np.pad(np.arange(h)[max(-top, 0) : h - max(-bottom, 0)], (max(top, 0), max(bottom, 0)), "symmetric")
    return image[..., torch.from_numpy(rows)[:, None], torch.from_numpy(columns)[None, :]]


def resize(image, size: list[int], mode: str, antialias: bool):
    """The image at (height, width). Integers are resized as float32 and rounded."""
    work, leave = _enter(image)
    smooth = mode in ("bilinear", "bicubic")
    result = F.interpolate(
        work, size=tuple(size), mode=mode, align_corners=False if smooth else None, antialias=antialias and smooth
    )
    if mode == "bicubic" and image.dtype == torch.uint8:  # cubic weights overshoot
        result = result.clamp(0, 255)
    return leave(result)


def _sample(image, grid, mode: str, fill):
    """The image at the places of `grid` (1, H', W', 2); places outside it get `fill`."""
    work, leave = _enter(image)
    grid = grid.to(work.dtype).expand(work.shape[0], *grid.shape[1:])
    if fill is None:
        return leave(F.grid_sample(work, grid, mode=mode, padding_mode="zeros", align_corners=False))
    # One more channel of ones says how much of each result comes from inside the image.
    inside = torch.ones((work.shape[0], 1, *work.shape[-2:]), dtype=work.dtype)
    both = F.grid_sample(torch.cat((work, inside), 1), grid, mode=mode, padding_mode="zeros", align_corners=False)
    result, share = both[:, :-1], both[:, -1:]
    values = [float(value) for value in fill] if isinstance(fill, (tuple, list)) else [float(fill)]
    if len(values) not in (1, work.shape[1]):
        raise ValueError(
            "The number of elements in 'fill' cannot broadcast to match the number of channels of the image "
            f"({len(values)} != {work.shape[1]})"
        )
    background = torch.tensor(values, dtype=work.dtype).reshape(1, -1, 1, 1)
    if mode == "nearest":
        return leave(torch.where(share < 0.5, background, result))
    return leave(result * share + (1.0 - share) * background)


def _centres(n: int, middle: bool) -> np.ndarray:
    """The n pixel centres of a row, from its left edge or from its middle."""
    return np.arange(n, dtype=np.float32) + np.float32(0.5 - n * 0.5 if middle else 0.5)


def _places(width: int, height: int, middle: bool) -> np.ndarray:
    """Homogeneous pixel centres (height * width, 3)."""
    places = np.ones((height, width, 3), np.float32)
    places[..., 0] = _centres(width, middle)
    places[..., 1] = _centres(height, middle)[:, None]
    return places.reshape(-1, 3)


def affine(image, matrix: list[float], mode: str, fill, expand: bool = False):
    """The image under the inverse `matrix` of 6 numbers, whose origin is the image's middle."""
    h, w = image.shape[-2:]
    out_w, out_h = affine_output_size(matrix, w, h) if expand else (w, h)
    theta = np.array(matrix, np.float32).reshape(2, 3).T / np.array([0.5 * w, 0.5 * h], np.float32)
    grid = (_places(out_w, out_h, middle=True) @ theta).reshape(1, out_h, out_w, 2)
    return _sample(image, torch.from_numpy(grid), mode, fill)


def affine_output_size(matrix: list[float], w: int, h: int) -> tuple[int, int]:
    """Width and height of the smallest image that holds the whole transformed one."""
    x, y = 0.5 * w, 0.5 * h
    corners = np.array([[-x, -y, 1.0], [-x, y, 1.0], [x, y, 1.0], [x, -y, 1.0]], np.float32)
    moved = corners @ np.array(matrix, np.float32).reshape(2, 3).T + np.array([x, y], np.float32)
    tolerance = np.float32(1e-4)  # a corner at 31.00001 does not make the image wider
    top = np.ceil(np.trunc(moved.max(0) / tolerance) * tolerance)
    bottom = np.floor(np.trunc(moved.min(0) / tolerance) * tolerance)
    width, height = top - bottom
    return int(width), int(height)


def perspective(image, coefficients: list[float], mode: str, fill):
    """The image under (x, y) -> ((a x + b y + c) / (g x + h y + 1), (d x + e y + f) / (g x + h y + 1))."""
    h, w = image.shape[-2:]
    a = np.array(coefficients, np.float32)
    above = a[:6].reshape(2, 3).T / np.array([0.5 * w, 0.5 * h], np.float32)
    below = np.array([a[6], a[7], 1.0], np.float32)
    places = _places(w, h, middle=False)
    grid = (places @ above) / (places @ below)[:, None] - 1.0
    return _sample(image, torch.from_numpy(grid.reshape(1, h, w, 2)), mode, fill)


def displace(image, displacement, mode: str, fill):
    """The image with each pixel fetched `displacement` (1, H, W, 2) away, in units of half the image's sides."""
    h, w = image.shape[-2:]
    grid = np.empty((1, h, w, 2), np.float32)
    grid[..., 0] = _centres(w, middle=True) * np.float32(2.0 / w)
    grid[..., 1] = (_centres(h, middle=True) * np.float32(2.0 / h))[:, None]
    return _sample(image, torch.from_numpy(grid) + displacement, mode, fill)


def blend(first, second, ratio: float):
    """ratio * first + (1 - ratio) * second within the dtype's range."""
    bound = max_value(first.dtype)
    return (ratio * first + (1.0 - ratio) * second).clamp(0, bound).to(first.dtype)


def to_grayscale(image, num_output_channels: int = 1):
    """Grey by the weights of ITU-R 601-2, as one channel or three equal ones."""
    if num_output_channels not in (1, 3):
        raise ValueError(f"num_output_channels should be either 1 or 3, got {num_output_channels}")
    if image.ndim < 3:
        raise TypeError(f"Input image tensor should have at least 3 dimensions, but found {image.ndim}")
    check_channels(image, (1, 3))
    if image.shape[-3] == 3:
        red, green, blue = image.unbind(dim=-3)
        image = (0.2989 * red + 0.587 * green + 0.114 * blue).to(image.dtype).unsqueeze(-3)
    else:
        image = image.clone()
    return image.expand(*image.shape[:-3], 3, *image.shape[-2:]) if num_output_channels == 3 else image


def adjust_brightness(image, factor: float):
    check_channels(image, (1, 3))
    return blend(image, torch.zeros_like(image), factor)


def adjust_contrast(image, factor: float):
    check_channels(image, (1, 3))
    grey = to_grayscale(image) if image.shape[-3] == 3 else image
    dtype = image.dtype if image.dtype.is_floating_point else torch.float32
    return blend(image, grey.to(dtype).mean(dim=(-3, -2, -1), keepdim=True), factor)


def adjust_saturation(image, factor: float):
    check_channels(image, (1, 3))
    return image if image.shape[-3] == 1 else blend(image, to_grayscale(image), factor)


def adjust_hue(image, factor: float):
    """The hue shifted around its circle by `factor` turns."""
    check_channels(image, (1, 3))
    if image.shape[-3] == 1:
        return image
    from flambeau.vision.transforms._conversion import convert_image_dtype

    dtype = image.dtype
    hue, saturation, value = _rgb_to_hsv(convert_image_dtype(image, torch.float32) if dtype == torch.uint8 else image)
    result = _hsv_to_rgb((hue + factor) % 1.0, saturation, value)
    return convert_image_dtype(result, dtype)


def _rgb_to_hsv(image):
    """Hue, saturation and value, each (..., H, W), of an RGB image (..., 3, H, W) in [0, 1]."""
    red, green, blue = image.unbind(dim=-3)
    highest, lowest = torch.amax(image, dim=-3), torch.amin(image, dim=-3)
    grey = highest == lowest  # no hue; dividing by one instead of zero keeps everything finite
    spread, one = highest - lowest, torch.ones_like(highest)
    saturation = spread / torch.where(grey, one, highest)
    divisor = torch.where(grey, one, spread)
    from_red, from_green, from_blue = (
        (highest - red) / divisor,
        (highest - green) / divisor,
        (highest - blue) / divisor,
    )
    is_red, is_green = highest == red, highest == green
    zero = torch.zeros_like(highest)
    hue = torch.where(is_red, from_blue - from_green, zero)
    hue = hue + torch.where(is_green & ~is_red, 2.0 + from_red - from_blue, zero)
    hue = hue + torch.where(~is_green & ~is_red, 4.0 + from_green - from_red, zero)
    return torch.fmod(hue / 6.0 + 1.0, 1.0), saturation, highest


def _hsv_to_rgb(hue, saturation, value):
    """The RGB image (..., 3, H, W) of hue, saturation and value."""
    sector = torch.floor(hue * 6.0)
    rest = hue * 6.0 - sector
    sector = sector.to(torch.int64) % 6
    p = (value * (1.0 - saturation)).clamp(0.0, 1.0)
    q = (value * (1.0 - saturation * rest)).clamp(0.0, 1.0)
    t = (value * (1.0 - saturation * (1.0 - rest))).clamp(0.0, 1.0)
    # For each sixth of the colour circle, the channel's value.
    red, green, blue = (value, q, p, p, t, value), (t, value, value, q, p, p), (p, p, t, value, value, q)
    index = sector.unsqueeze(0)
    chosen = [torch.gather(torch.stack(choices), 0, index)[0] for choices in (red, green, blue)]
    return torch.stack(chosen, dim=-3)


def _sharpening_base(image):
    """The image smoothed by a 3×3 kernel with a heavy middle; the border stays as it is."""
    kernel = torch.ones((3, 3), dtype=image.dtype if image.dtype.is_floating_point else torch.float32)
    kernel[1, 1] = 5.0
    kernel /= kernel.sum()
    work, leave = _enter(image, (kernel.dtype,))
    inner = F.conv2d(work, kernel.expand(work.shape[-3], 1, 3, 3), groups=work.shape[-3])
    smooth = image.clone()
    smooth[..., 1:-1, 1:-1] = leave(inner)
    return smooth


def adjust_sharpness(image, factor: float):
    check_channels(image, (1, 3))
    if min(image.shape[-2:]) <= 2:
        return image
    return blend(image, _sharpening_base(image), factor)


def gaussian_kernel(size: int, sigma: float, dtype):
    """The normalised bell curve at `size` places around its middle."""
    half = (size - 1) * 0.5
    x = torch.linspace(-half, half, steps=size, dtype=dtype)
    weights = torch.exp(-0.5 * (x / sigma).pow(2))
    return weights / weights.sum()


def gaussian_blur(image, kernel_size: list[int], sigma: list[float]):
    """The image convolved with a bell curve of widths `sigma` (x, y), borders reflected."""
    width, height = kernel_size
    dtype = image.dtype if image.dtype.is_floating_point else torch.float32
    kernel = gaussian_kernel(height, sigma[1], dtype)[:, None] @ gaussian_kernel(width, sigma[0], dtype)[None, :]
    work, leave = _enter(image, (dtype,))
    padded = F.pad(work, [width // 2, width // 2, height // 2, height // 2], mode="reflect")
    channels = work.shape[-3]
    return leave(F.conv2d(padded, kernel.expand(channels, 1, height, width), groups=channels))


def invert(image):
    check_channels(image, (1, 3))
    return max_value(image.dtype) - image


def posterize(image, bits: int):
    if image.dtype != torch.uint8:
        raise TypeError(f"Only torch.uint8 image tensors are supported, but found {image.dtype}")
    check_channels(image, (1, 3))
    mask = -int(2 ** (8 - bits)) & 0xFF
    return image & torch.tensor(mask, dtype=torch.uint8)


def solarize(image, threshold: float):
    check_channels(image, (1, 3))
    if threshold > max_value(image.dtype):
        raise TypeError("Threshold should be less than bound of img.")
    return torch.where(image >= threshold, invert(image), image)


def autocontrast(image):
    """Each channel stretched over the whole range; a flat channel is kept."""
    check_channels(image, (1, 3))
    bound = max_value(image.dtype)
    work = image if image.dtype.is_floating_point else image.to(torch.float32)
    low, high = torch.amin(work, dim=(-2, -1), keepdim=True), torch.amax(work, dim=(-2, -1), keepdim=True)
    flat = high == low
    low = torch.where(flat, torch.zeros_like(low), low)
    scale = torch.where(flat, torch.ones_like(high), bound / torch.where(flat, torch.ones_like(high), high - low))
    return ((work - low) * scale).clamp(0, bound).to(image.dtype)


def equalize(image):
    """Each channel's levels spread so that all are about equally frequent."""
    if image.dtype != torch.uint8:
        raise TypeError(f"Only torch.uint8 image tensors are supported, but found {image.dtype}")
    check_channels(image, (1, 3))
    levels = image.numpy()
    result = np.empty_like(levels)
    for index in np.ndindex(levels.shape[:-2]):
        result[index] = _equalize_channel(levels[index])
    return torch.from_numpy(result)


def _equalize_channel(levels: np.ndarray) -> np.ndarray:
    counts = np.bincount(levels.reshape(-1), minlength=256)
    used = counts[counts != 0]
    step = int(used[:-1].sum()) // 255
    if step == 0:
        return levels
    table = (np.cumsum(counts) + step // 2) // step
    table = np.clip(np.concatenate(([0], table[:-1])), 0, 255).astype(np.uint8)
    return table[levels]


def inverse_affine_matrix(center, angle: float, translate, scale: float, shear) -> list[float]:
    """The 6 numbers that send a pixel of the result to its source.

    The forward map is translate(t) @ translate(c) @ rotate(angle) @ shear @ scale @ translate(-c); angles in degrees.
    """
    turn, shear_x, shear_y = math.radians(angle), math.radians(shear[0]), math.radians(shear[1])
    (cx, cy), (tx, ty) = center, translate
    a = math.cos(turn - shear_y) / math.cos(shear_y)
    b = -math.cos(turn - shear_y) * math.tan(shear_x) / math.cos(shear_y) - math.sin(turn)
    c = math.sin(turn - shear_y) / math.cos(shear_y)
    d = -math.sin(turn - shear_y) * math.tan(shear_x) / math.cos(shear_y) + math.cos(turn)
    # The inverse of the 2×2 part: rotation and shear have determinant 1.
    p, q, r, s = d / scale, -b / scale, -c / scale, a / scale
    x, y = -cx - tx, -cy - ty
    return [p, q, p * x + q * y + cx, r, s, r * x + s * y + cy]
