"""Reading images at free positions (spatial transformers, Jaderberg et al. 2015), as a composition of gathers."""

from __future__ import annotations

import functools
import itertools
import warnings
from typing import Any

import numpy as np

from flambeau.core.tensor import Tensor, computed, constant
from flambeau.ops.pointwise import mul
from flambeau.ops.pooling_max import gather_planes
from flambeau.ops.sliding import shape_text

__all__ = ["affine_grid", "grid_sample"]

_DEFAULT_CHANGED = (
    "Default grid_sample and affine_grid behavior has changed to align_corners=False since 1.3.0. Please specify "
    "align_corners=True if the old behavior is desired. See the documentation of grid_sample for details."
)


def grid_sample(input: Tensor, grid: Tensor, mode: str = "bilinear", padding_mode: str = "zeros",
                align_corners: bool | None = None) -> Tensor:
    """Values of images or volumes at the positions of a grid, whose coordinates run from -1 to 1 over the input.

    Shapes: (N, C, H, W), grid (N, H', W', 2) as (x, y) -> (N, C, H', W'); (N, C, D, H, W), grid (N, D', H', W', 3) as
    (x, y, z).
    Modes: "bilinear" (trilinear in volumes), "nearest", "bicubic" (images only). Outside the input: "zeros", "border"
    or "reflection". Raises: ValueError for unknown modes; RuntimeError for shapes that do not fit.
    """
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise ValueError(f"grid_sample: expected mode to be 'bilinear', 'nearest' or 'bicubic', but got: '{mode}'")
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError(
            f"grid_sample: expected padding_mode to be 'zeros', 'border', or 'reflection', but got: '{padding_mode}'"
        )
    if align_corners is None:
        warnings.warn(_DEFAULT_CHANGED, stacklevel=2)
        align_corners = False
    check_shapes(input, grid, mode)
    size = input._array.shape[2:]
    points = [
        (grid[..., d] + 1) * ((n - 1) / 2) if align_corners else ((grid[..., d] + 1) * n - 1) / 2
        for d, n in zip(reversed(range(len(size))), size)
    ]
    if mode == "bicubic":
        return cubic_sample(input, points, size, padding_mode, align_corners)
    if padding_mode != "zeros":
        points = [inside(p, n, padding_mode, align_corners) for p, n in zip(points, size)]
    if mode == "nearest":
        # Rounding has derivative 0, which the grid must receive.
        return weighted_sum(input, [[(p.detach().round(), p * 0 + 1)] for p in points], size)
    return weighted_sum(input, [two_neighbours(p) for p in points], size)


def check_shapes(input: Tensor, grid: Tensor, mode: str) -> None:
    """RuntimeError for an input and a grid that do not go together."""
    x, g = input._array, grid._array
    where = f"(input {shape_text(x)}, grid {shape_text(g)})"
    if x.ndim not in (4, 5) or x.ndim != g.ndim:
        raise RuntimeError(f"grid_sample: expected 4D or 5D input and grid with same number of dimensions {where}")
    if x.shape[0] != g.shape[0]:
        raise RuntimeError(f"grid_sample: expected grid and input to have same batch size {where}")
    if g.shape[-1] != x.ndim - 2:
        raise RuntimeError(f"grid_sample: expected grid to have size {x.ndim - 2} in last dimension {where}")
    if 0 in x.shape[2:]:
        raise RuntimeError(f"grid_sample: expected input to have non-empty spatial dimensions {where}")
    if mode == "bicubic" and x.ndim == 5:
        raise RuntimeError("grid_sample: bicubic interpolation only supports 4D input")
    if x.dtype != g.dtype:
        raise RuntimeError(
            f"grid_sample: expected input and grid to have same dtype, but got {input.dtype} and {grid.dtype}"
        )


Neighbour = tuple[Tensor, Tensor]  # position along one dimension, weight


def weighted_sum(input: Tensor, neighbours: list[list[Neighbour]], size: Any) -> Tensor:
    """The sum over all combinations of one neighbour per dimension; positions outside the input count as zero."""
    out = None
    for choice in itertools.product(*neighbours):
        flat, valid = computed(lambda *positions: _places(positions, size), *(position for position, _ in choice))
        weight = functools.reduce(mul, [share for _, share in choice]) * valid
        part = gather_planes(input, flat) * weight.unsqueeze(1)
        out = part if out is None else out + part
    return out


def _places(positions: Any, size: Any) -> tuple[np.ndarray, np.ndarray]:
    """Index into the flattened input, with a dimension of 1 for the channels, and 1 where it is inside, else 0."""
    flat: Any = 0
    valid: Any = True
    for position, n in zip(positions, size):
        within = (position >= 0) & (position < n)
        valid = within & valid
        flat = flat * n + np.where(within, position, 0).astype(np.int64)
    return flat[:, None], valid.astype(positions[0].dtype)


def two_neighbours(point: Tensor) -> list[Neighbour]:
    left = point.detach().floor()
    share = point - left
    return [(left, 1 - share), (left + 1, share)]


def inside(point: Tensor, size: int, padding_mode: str, align_corners: bool) -> Tensor:
    """Coordinates moved into the input: a map linear in pieces, with slope 1, -1, or 0 on the border and beyond."""

    def line(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Slope and offset for each point."""
        moved, slope = values, np.ones_like(values)
        if padding_mode == "reflection":
            moved, slope = mirrored(values, size, align_corners)
        slope = np.where((moved > 0) & (moved < size - 1), slope, 0).astype(values.dtype)
        moved = np.clip(np.nan_to_num(moved, nan=0.0), 0, size - 1)
        return slope, np.where(slope == 0, moved, moved - slope * values).astype(values.dtype)

    slope, offset = computed(line, point)
    return point * slope + offset


def mirrored(values: np.ndarray, size: int, align_corners: bool) -> tuple[np.ndarray, np.ndarray]:
    """(coordinates reflected at the borders, slope 1 or -1): at element centres with `align_corners`, else at edges."""
    low, span = (0.0, size - 1.0) if align_corners else (-0.5, float(size))
    if span == 0:
        return np.zeros_like(values), np.ones_like(values)
    distance = np.abs(values - low)
    extra = np.fmod(distance, span)
    even = np.floor(distance / span) % 2 == 0
    slope = np.where(values < low, -1, 1) * np.where(even, 1, -1)
    return np.where(even, extra, span - extra) + low, slope


def cubic_sample(input: Tensor, points: list[Tensor], size: Any, padding_mode: str, align_corners: bool) -> Tensor:
    """Four neighbours per dimension with Keys' weights, a = -0.75; the padding applies to each neighbour."""
    neighbours = []
    for point, n in zip(points, size):
        left = point.detach().floor()
        positions = [_padded(left + offset, n, padding_mode, align_corners) for offset in range(-1, 3)]
        neighbours.append(list(zip(positions, cubic_weights(point - left))))
    return weighted_sum(input, neighbours, size)


def _padded(position: Tensor, size: int, padding_mode: str, align_corners: bool) -> Tensor:
    """Positions moved into the input, unless what is outside counts as zero."""

    def moved(values: np.ndarray) -> np.ndarray:
        if padding_mode == "reflection":
            values = mirrored(values, size, align_corners)[0]
        return np.trunc(np.clip(np.nan_to_num(values), 0, size - 1))

    return position if padding_mode == "zeros" else computed(moved, position)


def cubic_weights(t: Tensor) -> list[Tensor]:
    """Keys' weights of the four neighbours of a point at distance t from the second (Keys 1981)."""
    a = -0.75

    def near(d: Tensor) -> Tensor:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Tensor) -> Tensor:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


def affine_grid(theta: Tensor, size: Any, align_corners: bool | None = None) -> Tensor:
    """The grid that samples an affinely transformed image or volume.

    Shapes: theta (N, 2, 3) and size (N, C, H, W) -> (N, H, W, 2); theta (N, 3, 4) and size (N, C, D, H, W) -> (N, D, H,
    W, 3).
    Raises: RuntimeError for a theta that is not floating or does not match; ValueError for a size that is not positive.
    """
    if align_corners is None:
        warnings.warn(_DEFAULT_CHANGED, stacklevel=2)
        align_corners = False
    if not theta.dtype.is_floating_point:
        raise ValueError(f"Expected theta to have floating point type, but got {theta.dtype}")
    size = tuple(int(n) for n in size)
    rank = len(size) - 2
    if rank not in (2, 3):
        raise NotImplementedError(
            f"affine_grid only supports 4D and 5D sizes, for 2D and 3D affine transforms, respectively. Got size "
            f"{list(size)}."
        )
    if tuple(theta.shape[1:]) != (rank, rank + 1) or theta.ndim != 3:
        raise ValueError(
            f"Expected a batch of {rank}D affine matrices of shape Nx{rank}x{rank + 1} for size {list(size)}. Got "
            f"{tuple(theta.shape)}."
        )
    if min(size) <= 0:
        raise ValueError(f"Expected non-zero, positive output size. Got {list(size)}")
    axes = [steps(n, align_corners, theta._array.dtype) for n in size[2:]]
    mesh = np.meshgrid(*axes, indexing="ij")
    base = np.stack([*reversed(mesh), np.ones_like(mesh[0])], -1).reshape(1, -1, rank + 1)
    points = constant(np.broadcast_to(base, (size[0], *base.shape[1:])).copy()).matmul(theta.transpose(1, 2))
    return points.reshape(size[0], *size[2:], rank)


def steps(count: int, align_corners: bool, dtype: Any) -> np.ndarray:
    """`count` coordinates from -1 to 1: at the ends, or at the centres of even cells."""
    if count <= 1:
        return np.zeros(count, dtype)
    ends = 1.0 if align_corners else (count - 1) / count
    return np.linspace(-ends, ends, count).astype(dtype)
