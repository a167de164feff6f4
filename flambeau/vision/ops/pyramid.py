"""Feature pyramids (Lin et al., 2016) and RoI align over their levels."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import flambeau as torch
import flambeau.nn.functional as F
from flambeau import Tensor, nn
from flambeau.vision.ops.boxes import box_area
from flambeau.vision.ops.layers import Conv2dNormActivation
from flambeau.vision.ops.regions import _with_numbers, roi_align


class ExtraFPNBlock(nn.Module):
    """What adds levels to a pyramid: `forward(results, inputs, names)` gives the longer results and names."""

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """To be written by a subclass."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")


class FeaturePyramidNetwork(nn.Module):
    """Feature maps of one width, each the sum of a map of its own resolution and of the coarser ones above it.

    `forward` takes an ordered dict of maps (N, C_i, H_i, W_i), finest first, and gives one of (N, out_channels, …)
    under the same names, with those that `extra_blocks` adds. TypeError for `extra_blocks` of another kind.
    """

    _version = 2

    def __init__(
        self, in_channels_list: list[int], out_channels: int, extra_blocks: ExtraFPNBlock | None = None,
        norm_layer: Callable[..., nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.inner_blocks = nn.ModuleList()
        self.layer_blocks = nn.ModuleList()
        plain: dict[str, Any] = {"norm_layer": norm_layer, "activation_layer": None}
        for channels in in_channels_list:
            if channels == 0:
                raise ValueError("in_channels=0 is currently not supported")
            self.inner_blocks.append(Conv2dNormActivation(channels, out_channels, 1, padding=0, **plain))
            self.layer_blocks.append(Conv2dNormActivation(out_channels, out_channels, 3, **plain))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if extra_blocks is not None and not isinstance(extra_blocks, ExtraFPNBlock):
            raise TypeError(f"extra_blocks should be of type ExtraFPNBlock not {type(extra_blocks)}")
        self.extra_blocks = extra_blocks

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        # Files older than version 2 have plain convolutions where there are blocks now.
        if local_metadata.get("version", 1) < 2:
            for kind in ("inner_blocks", "layer_blocks"):
                for i in range(len(self.inner_blocks)):
                    for name in ("weight", "bias"):
                        old = f"{prefix}{kind}.{i}.{name}"
                        if old in state_dict:
                            state_dict[f"{prefix}{kind}.{i}.0.{name}"] = state_dict.pop(old)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)

    def forward(self, x: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
        names, maps = list(x), list(x.values())
        last = self.inner_blocks[len(maps) - 1](maps[-1])
        results = [self.layer_blocks[len(maps) - 1](last)]
        for i in range(len(maps) - 2, -1, -1):
            lateral = self.inner_blocks[i](maps[i])
            last = lateral + F.interpolate(last, size=tuple(lateral.shape[-2:]), mode="nearest")
            results.insert(0, self.layer_blocks[i](last))
        if self.extra_blocks is not None:
            results, names = self.extra_blocks(results, maps, names)
        return OrderedDict(zip(names, results, strict=True))


class LastLevelMaxPool(ExtraFPNBlock):
    """Adds "pool": every second pixel of the coarsest map."""

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        return [*results, F.max_pool2d(results[-1], kernel_size=1, stride=2)], [*names, "pool"]


class LastLevelP6P7(ExtraFPNBlock):
    """Adds RetinaNet's "p6" and "p7": convolutions of stride 2 on the coarsest map."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, 2, 1)
        self.p7 = nn.Conv2d(out_channels, out_channels, 3, 2, 1)
        for module in (self.p6, self.p7):
            nn.init.kaiming_uniform_(module.weight, a=1)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        self.use_P5 = in_channels == out_channels

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        p6 = self.p6(results[-1] if self.use_P5 else x[-1])
        p7 = self.p7(F.relu(p6))
        return [*results, p6, p7], [*names, "p6", "p7"]


class MultiScaleRoIAlign(nn.Module):
    """`roi_align` in which every box reads the level of a pyramid that suits its size (equation 1 of Lin et al.).

    Args:
        featmap_names: the maps to use.
        canonical_scale, canonical_level: a box of that side belongs to that level.

    `forward(x, boxes, image_shapes)`: maps by name, one (L, 4) of boxes an image in the images' pixels, and the
    images' (height, width); gives (K, C, height, width). The scales found at the first call are kept.
    """

    def __init__(
        self, featmap_names: list[str], output_size: Any, sampling_ratio: int, *, canonical_scale: int = 224,
        canonical_level: int = 4,
    ) -> None:
        super().__init__()
        self.featmap_names = featmap_names
        self.sampling_ratio = sampling_ratio
        self.output_size = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
        self.scales: list[float] | None = None
        self.canonical_scale = canonical_scale
        self.canonical_level = canonical_level

    def forward(
        self, x: Mapping[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        maps = [value for name, value in x.items() if name in self.featmap_names]
        if self.scales is None:
            self.scales = self._found_scales(maps, image_shapes)
        numbered = _with_numbers(boxes, maps[0].dtype)
        if len(maps) == 1:
            return roi_align(maps[0], numbered, self.output_size, self.scales[0], self.sampling_ratio)
        levels = self._levels(torch.cat(boxes))
        result = maps[0].new_zeros((len(numbered), maps[0].shape[1], *self.output_size))
        for level, (values, scale) in enumerate(zip(maps, self.scales, strict=True)):
            members = torch.where(levels == level)[0]
            parts = roi_align(values, numbered[members], self.output_size, scale, self.sampling_ratio)
            result[members] = parts.to(result.dtype)
        return result

    def _found_scales(self, maps: list[Tensor], image_shapes: list[tuple[int, int]]) -> list[float]:
        """Each map's size over the images', as a power of 2."""
        if not image_shapes:
            raise ValueError("images list should not be empty")
        height = max(shape[0] for shape in image_shapes)
        return [2.0 ** round(math.log2(values.shape[-2] / height)) for values in maps]

    def _levels(self, boxes: Tensor) -> Tensor:
        """The place in the pyramid (K,) of each box."""
        assert self.scales is not None
        lowest, highest = -math.log2(self.scales[0]), -math.log2(self.scales[-1])
        sides = box_area(boxes).sqrt()
        levels = torch.floor(self.canonical_level + torch.log2(sides / self.canonical_scale) + 1e-6)
        return (levels.clamp(min=int(lowest), max=int(highest)) - int(lowest)).to(torch.int64)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(featmap_names={self.featmap_names}, output_size={self.output_size}, "
            f"sampling_ratio={self.sampling_ratio})"
        )
