"""Images in files, as uint8 tensors (C, H, W); Pillow decodes and encodes."""

from __future__ import annotations

import io
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

import flambeau as torch
from flambeau.vision.transforms.functional import pil_to_tensor, to_pil_image

__all__ = [
    "ImageReadMode",
    "decode_gif",
    "decode_image",
    "decode_jpeg",
    "decode_png",
    "decode_webp",
    "encode_jpeg",
    "encode_png",
    "read_file",
    "read_image",
    "write_file",
    "write_jpeg",
    "write_png",
]


class ImageReadMode(Enum):
    """The channels an image is read with."""

    UNCHANGED = 0
    GRAY = 1
    GRAY_ALPHA = 2
    RGB = 3
    RGB_ALPHA = 4


PIL_MODES = {
    ImageReadMode.GRAY: "L",
    ImageReadMode.GRAY_ALPHA: "LA",
    ImageReadMode.RGB: "RGB",
    ImageReadMode.RGB_ALPHA: "RGBA",
}


def read_file(path: str | Path):
    """The bytes of the file, as a uint8 tensor (N,)."""
    return torch.from_numpy(np.fromfile(path, np.uint8))


def write_file(filename: str | Path, data) -> None:
    """Write the uint8 tensor (N,) to a file."""
    if data.dtype != torch.uint8 or data.ndim != 1:
        raise RuntimeError(f"Input tensor should be one-dimensional and uint8, got {data.dtype} {tuple(data.shape)}")
    Path(filename).write_bytes(data.numpy().tobytes())


def decode_image(input: Any, mode: ImageReadMode | str = ImageReadMode.UNCHANGED, apply_exif_orientation: bool = False):
    """The image (C, H, W) in the bytes (a uint8 tensor) of a JPEG, PNG, GIF, WebP or other file, or at a path.

    Of an animation the first picture. Raises: RuntimeError if the bytes hold no image that can be read.
    """
    if isinstance(input, (str, Path)):
        return read_image(input, mode, apply_exif_orientation)
    return _decode(input, mode, apply_exif_orientation, None, "the tensor")


def _decode(data, mode, apply_exif_orientation: bool, formats: list[str] | None, where: str):
    """The image in a uint8 tensor of bytes, which must be in one of the formats."""
    from PIL import Image, ImageOps

    if not isinstance(data, torch.Tensor) or data.dtype != torch.uint8 or data.ndim != 1:
        got = f"{data.dtype} {tuple(data.shape)}" if isinstance(data, torch.Tensor) else str(type(data))
        raise RuntimeError(f"Expected a non empty 1-dimensional uint8 tensor of encoded bytes, got {got}")
    mode = ImageReadMode[mode.upper()] if isinstance(mode, str) else mode
    try:
        image: Image.Image = Image.open(io.BytesIO(data.numpy().tobytes()), formats=formats)
        image.load()
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise RuntimeError(f"cannot decode the image in {where}: {error}") from error
    if apply_exif_orientation:
        image = ImageOps.exif_transpose(image)
    if mode is not ImageReadMode.UNCHANGED:
        image = image.convert(PIL_MODES[mode])
    elif image.mode == "P":  # a palette's numbers are no colours
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    return pil_to_tensor(image)


def decode_jpeg(
    input, mode: ImageReadMode | str = ImageReadMode.UNCHANGED, device: Any = "cpu",
    apply_exif_orientation: bool = False,
):
    """The image (C, H, W) in the bytes of a JPEG file. RuntimeError for a device that is not the CPU."""
    if torch.device(device).type != "cpu":
        raise RuntimeError(f"JPEG files are decoded on the CPU, got device {device}")
    return _decode(input, mode, apply_exif_orientation, ["JPEG"], "the tensor")


def decode_png(input, mode: ImageReadMode | str = ImageReadMode.UNCHANGED, apply_exif_orientation: bool = False):
    """The image (C, H, W) in the bytes of a PNG file."""
    return _decode(input, mode, apply_exif_orientation, ["PNG"], "the tensor")


def decode_gif(input):
    """The first picture (3, H, W) in the bytes of a GIF file."""
    return _decode(input, ImageReadMode.RGB, False, ["GIF"], "the tensor")


def decode_webp(input, mode: ImageReadMode | str = ImageReadMode.UNCHANGED):
    """The image (C, H, W) in the bytes of a WebP file."""
    return _decode(input, mode, False, ["WEBP"], "the tensor")


def read_image(
    path: str | Path, mode: ImageReadMode | str = ImageReadMode.UNCHANGED, apply_exif_orientation: bool = False
):
    """The image (C, H, W) in the file. Raises RuntimeError, with the path, if it cannot be read."""
    return _decode(read_file(path), mode, apply_exif_orientation, None, str(path))


def _encode(image, format: str, **options: Any):
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] not in (1, 3):
        raise RuntimeError(
            f"Expected a uint8 image of 1 or 3 channels (C, H, W), got {image.dtype} {tuple(image.shape)}"
        )
    buffer = io.BytesIO()
    to_pil_image(image).save(buffer, format=format, **options)
    return torch.from_numpy(np.frombuffer(buffer.getvalue(), np.uint8).copy())


def encode_jpeg(input, quality: int = 75):
    """The bytes, as a uint8 tensor (N,), of a JPEG file of the image (C, H, W), `quality` from 1 to 100."""
    if not 1 <= quality <= 100:
        raise ValueError("Image quality should be a positive number between 1 and 100")
    return _encode(input, "JPEG", quality=quality)


def encode_png(input, compression_level: int = 6):
    """The bytes, as a uint8 tensor (N,), of a PNG file of the image (C, H, W), compressed at level 0 to 9."""
    if not 0 <= compression_level <= 9:
        raise RuntimeError("Compression level should be between 0 and 9")
    return _encode(input, "PNG", compress_level=compression_level)


def write_jpeg(input, filename: str | Path, quality: int = 75) -> None:
    """Write the image (C, H, W) as a JPEG file."""
    write_file(filename, encode_jpeg(input, quality))


def write_png(input, filename: str | Path, compression_level: int = 6) -> None:
    """Write the image (C, H, W) as a PNG file."""
    write_file(filename, encode_png(input, compression_level))
