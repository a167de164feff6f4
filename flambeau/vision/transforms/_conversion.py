"""Between PIL images, arrays and tensors; other dtypes, and normalised values."""

from __future__ import annotations

import numpy as np

import flambeau as torch
from flambeau.vision.transforms import _tensor
from flambeau.vision.transforms._pil import is_pil_image

# NumPy dtypes of Pillow's modes that are not bytes.
DTYPES = {"I": np.int32, "I;16": np.uint16, "F": np.float32}


def to_tensor(pic):
    """A float tensor (C, H, W) in [0, 1] of a PIL image or of an array (H, W) or (H, W, C) of bytes.

    Values that are not bytes (modes I, I;16, F; other dtypes) are kept, in their dtype.
    Raises: TypeError if `pic` is neither; ValueError if an array has not two or three dimensions.
    """
    if isinstance(pic, np.ndarray):
        if pic.ndim not in (2, 3):
            raise ValueError(f"pic should be 2/3 dimensional. Got {pic.ndim} dimensions.")
        values = pic[:, :, None] if pic.ndim == 2 else pic
    elif is_pil_image(pic):
        values = _levels(pic)
    else:
        raise TypeError(f"pic should be PIL Image or ndarray. Got {type(pic)}")
    values = values.transpose(2, 0, 1)
    if values.dtype != np.uint8:
        return torch.from_numpy(np.array(values, order="C"))
    if torch.get_default_dtype() == torch.float32:
        return torch.from_numpy(np.divide(values, np.float32(255), dtype=np.float32, order="C"))
    return torch.from_numpy(np.array(values, order="C")).to(torch.get_default_dtype()).div(255)


def _levels(pic) -> np.ndarray:
    """The values of a PIL image (H, W, C); mode 1 as 0 and 255."""
    values = np.asarray(pic, DTYPES.get(pic.mode, np.uint8))
    if pic.mode == "1":
        values = values * np.uint8(255)
    return values.reshape(pic.height, pic.width, -1)


def pil_to_tensor(pic):
    """The PIL image as a tensor (C, H, W) of its own dtype (uint8 in the usual modes), not scaled."""
    if not is_pil_image(pic):
        raise TypeError(f"pic should be PIL Image. Got {type(pic)}")
    values = np.asarray(pic)
    return torch.from_numpy(np.array(values.reshape(pic.height, pic.width, -1).transpose(2, 0, 1), order="C"))


def to_pil_image(pic, mode: str | None = None):
    """A PIL image of a tensor (C, H, W) or (H, W), or of an array (H, W, C) or (H, W).

    Floating tensors are multiplied by 255. `mode` is guessed from the channels: L, LA, RGB, RGBA; one channel of int16,
    int32 or float32 gives I;16, I and F.
    Raises: TypeError for another type or dtype; ValueError for other dimensions, over four channels or a mode that does
    not fit them.
    """
    from PIL import Image

    if isinstance(pic, torch.Tensor):
        if pic.ndim not in (2, 3):
            raise ValueError(f"pic should be 2/3 dimensional. Got {pic.ndim} dimensions.")
        if pic.ndim == 3 and pic.shape[-3] > 4:
            raise ValueError(f"pic should not have > 4 channels. Got {pic.shape[-3]} channels.")
        if pic.is_floating_point() and mode != "F":
            pic = pic.detach().mul(255).to(torch.uint8)
        values = pic.detach().cpu().numpy()
        values = values[:, :, None] if values.ndim == 2 else values.transpose(1, 2, 0)
    elif isinstance(pic, np.ndarray):
        if pic.ndim not in (2, 3):
            raise ValueError(f"pic should be 2/3 dimensional. Got {pic.ndim} dimensions.")
        values = pic[:, :, None] if pic.ndim == 2 else pic
        if values.shape[2] > 4:
            raise ValueError(f"pic should not have > 4 channels. Got {values.shape[2]} channels.")
    else:
        raise TypeError(f"pic should be Tensor or ndarray. Got {type(pic)}.")

    channels = values.shape[2]
    if channels == 1:
        values = values[:, :, 0]
        natural = {"uint8": "L", "int16": "I;16", "uint16": "I;16", "int32": "I", "float32": "F"}.get(str(values.dtype))
        allowed: tuple[str | None, ...] = (natural,)
        if str(values.dtype) == "int16":
            values = values.view(np.uint16)
    else:
        allowed = {2: ("LA",), 3: ("RGB", "YCbCr", "HSV"), 4: ("RGBA", "CMYK", "RGBX")}[channels]
        natural = allowed[0]
        if values.dtype != np.uint8:
            raise TypeError(f"Input type {values.dtype} is not supported")
    if mode is not None and mode not in allowed:
        raise ValueError(f"Incorrect mode ({mode}) supplied for {channels} channel input of {values.dtype}: {allowed}")
    if natural is None:
        raise TypeError(f"Input type {values.dtype} is not supported")
    image = Image.fromarray(np.ascontiguousarray(values))
    if mode is None or mode == image.mode:
        return image
    return Image.frombytes(mode, image.size, image.tobytes())


def convert_image_dtype(image, dtype=None):
    """The tensor in `dtype` with its values scaled so that white stays white.

    Raises: RuntimeError for casts in which a float dtype cannot hold the integers (float32 to int32, float64 to int64).
    """
    dtype = torch.float32 if dtype is None else dtype
    if not isinstance(image, torch.Tensor):
        raise TypeError(f"Input img should be Tensor Image. Got {type(image)}")
    source = image.dtype
    if source == dtype:
        return image
    if source.is_floating_point:
        if dtype.is_floating_point:
            return image.to(dtype)
        wide = (torch.int32, torch.int64) if source == torch.float32 else (torch.int64,)
        if source in (torch.float32, torch.float64) and dtype in wide:
            raise RuntimeError(f"The cast from {source} to {dtype} cannot be performed safely.")
        # Just below max + 1: every level gets the same share of [0, 1], and 1 itself the largest.
        return image.mul(_tensor.max_value(dtype) + 1.0 - 1e-3).to(dtype)
    input_max, output_max = _tensor.max_value(source), _tensor.max_value(dtype)
    if dtype.is_floating_point:
        return image.to(dtype) / float(input_max)
    if input_max > output_max:
        return torch.div(image, (input_max + 1) // (output_max + 1), rounding_mode="floor").to(dtype)
    return image.to(dtype) * ((output_max + 1) // (input_max + 1))


def to_normalized_tensor(pic, mean, std):
    """`normalize(to_tensor(pic), mean, std)` in the memory of one tensor."""
    tensor = to_tensor(pic)
    if tensor.dtype in _tensor.FLOATING and _normalized(tensor, mean, std, tensor.numpy()) is not None:
        return tensor
    return normalize(tensor, mean, std)


def normalize(tensor, mean, std, inplace: bool = False):
    """(tensor - mean) / std for each channel of a floating image (..., C, H, W); numbers serve every channel.

    Raises: TypeError if the input is no floating tensor; ValueError for under three dimensions or a deviation of zero.
    """
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"img should be Tensor Image. Got {type(tensor)}")
    if not tensor.is_floating_point():
        raise TypeError(f"Input tensor should be a float tensor. Got {tensor.dtype}.")
    if tensor.ndim < 3:
        raise ValueError(
            f"Expected tensor to be a tensor image of size (..., C, H, W). Got tensor.size() = {tensor.size()}"
        )
    quick = None if inplace else _normalized(tensor, mean, std)
    if quick is not None:
        return quick
    dtype = tensor.dtype
    mean = torch.as_tensor(mean, dtype=dtype, device=tensor.device)
    std = torch.as_tensor(std, dtype=dtype, device=tensor.device)
    if (std == 0).any():
        raise ValueError(f"std evaluated to zero after conversion to {dtype}, leading to division by zero.")
    mean = mean.view(-1, 1, 1) if mean.ndim == 1 else mean
    std = std.view(-1, 1, 1) if std.ndim == 1 else std
    tensor = tensor.sub_(mean) if inplace else tensor.sub(mean)
    return tensor.div_(std)


def _normalized(tensor, mean, std, out: np.ndarray | None = None):
    """`normalize` straight on the array (into `out`), in two passes; None where that is not possible."""
    if tensor.requires_grad or tensor.is_meta or tensor.dtype not in _tensor.FLOATING:
        return None
    values = tensor.numpy()
    sizes = {1, values.shape[-3]}
    shift, scale = (np.asarray(number, values.dtype) for number in (mean, std))
    if shift.ndim > 1 or scale.ndim > 1 or not {shift.size, scale.size} <= sizes or not scale.all():
        return None
    result = np.subtract(values, shift.reshape(-1, 1, 1), out=out)
    np.divide(result, scale.reshape(-1, 1, 1), out=result)
    return torch.from_numpy(result)
