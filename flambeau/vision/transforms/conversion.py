"""Transforms between PIL images, arrays and tensors, and of tensors' values."""

from __future__ import annotations

import flambeau as torch
from flambeau import nn
from flambeau.vision.transforms import functional as F

__all__ = ["ConvertImageDtype", "LinearTransformation", "Normalize", "PILToTensor", "ToPILImage", "ToTensor"]


class ToTensor:
    """A PIL image or an array (H, W, C) of bytes as a float tensor (C, H, W) in [0, 1]; see `functional.to_tensor`."""

    def __call__(self, pic):
        """The tensor of the image."""
        return F.to_tensor(pic)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class PILToTensor:
    """A PIL image as a tensor (C, H, W) of bytes, not scaled."""

    def __call__(self, pic):
        """The tensor of the image."""
        return F.pil_to_tensor(pic)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class ToPILImage:
    """A tensor (C, H, W) or an array (H, W, C) as a PIL image, in `mode` if one is named."""

    def __init__(self, mode: str | None = None):
        self.mode = mode

    def __call__(self, pic):
        """The PIL image."""
        return F.to_pil_image(pic, self.mode)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({f'mode={self.mode}' if self.mode is not None else ''})"


class ConvertImageDtype(nn.Module):
    """A tensor image in another dtype, its values scaled so that white stays white."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.dtype = dtype

    def forward(self, image):
        """The image in `dtype`."""
        return F.convert_image_dtype(image, self.dtype)


class Normalize(nn.Module):
    """(image - mean) / std for each channel of a float tensor; plain numbers serve every channel."""

    def __init__(self, mean, std, inplace: bool = False):
        super().__init__()
        self.mean = mean
        self.std = std
        self.inplace = inplace

    def forward(self, tensor):
        """The normalised image."""
        return F.normalize(tensor, self.mean, self.std, self.inplace)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(mean={self.mean}, std={self.std})"


class LinearTransformation(nn.Module):
    """The flattened image minus `mean_vector` (D,), times `transformation_matrix` (D, D): whitening, for example."""

    def __init__(self, transformation_matrix, mean_vector):
        super().__init__()
        rows, columns = transformation_matrix.shape
        if rows != columns:
            raise ValueError(f"transformation_matrix should be square. Got {rows} x {columns} rectangular matrix.")
        if mean_vector.shape[0] != rows:
            raise ValueError(
                f"mean_vector should have the same length {mean_vector.shape[0]} as any one of the dimensions of the "
                f"transformation_matrix {tuple(transformation_matrix.shape)}"
            )
        self.transformation_matrix = transformation_matrix
        self.mean_vector = mean_vector

    def forward(self, tensor):
        """The transformed image, in its own shape."""
        shape = tensor.shape
        n = shape[-3] * shape[-2] * shape[-1]
        if n != self.transformation_matrix.shape[0]:
            raise ValueError(
                f"Input tensor and transformation matrix have incompatible shape: {tuple(shape[-3:])} is {n} values, "
                f"the matrix takes {self.transformation_matrix.shape[0]}"
            )
        return torch.mm(tensor.reshape(-1, n) - self.mean_vector, self.transformation_matrix).reshape(shape)
