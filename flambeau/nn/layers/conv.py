"""Convolutions and transposed convolutions in 1 to 3 dimensions, and their lazy forms."""

from __future__ import annotations

import math
from typing import Any

from flambeau.autograd.modes import no_grad
from flambeau.core.tensor import Tensor
from flambeau.nn import functional as F
from flambeau.nn import init
from flambeau.nn.layers._sizes import _ntuple, reversed_twice
from flambeau.nn.layers.lazy import LazyModuleMixin
from flambeau.nn.module import Module
from flambeau.nn.parameter import Parameter, UninitializedParameter
from flambeau.ops.creation import empty

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "LazyConv1d",
           "LazyConv2d", "LazyConv3d", "LazyConvTranspose1d", "LazyConvTranspose2d", "LazyConvTranspose3d"]

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _ConvNd(Module):
    """Base: checks the options, makes the weight (out, in/groups, *kernel), or (in, out/groups, *kernel) transposed.

    Initial values: uniform within ±1/√fan_in.
    """

    __constants__ = ["stride", "padding", "dilation", "groups", "padding_mode", "output_padding", "in_channels",
                     "out_channels", "kernel_size"]
    spatial: int
    in_channels: int
    out_channels: int
    groups: int
    weight: Tensor
    bias: Tensor | None

    def __init__(self, in_channels: int, out_channels: int, kernel_size: tuple, stride: tuple, padding: Any,
                 dilation: tuple, transposed: bool, output_padding: tuple, groups: int, bias: bool,
                 padding_mode: str, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        if in_channels % groups != 0:
            raise ValueError(f"in_channels must be divisible by groups (in_channels={in_channels}, groups={groups})")
        if out_channels % groups != 0:
            raise ValueError(f"out_channels must be divisible by groups (out_channels={out_channels}, "
                             f"groups={groups})")
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"Invalid padding string {padding!r}, should be one of 'same', 'valid'")
            if padding == "same" and any(step != 1 for step in stride):
                raise ValueError("padding='same' is not supported for strided convolutions")
        if padding_mode not in _PADDING_MODES:
            raise ValueError(f"padding_mode must be one of {_PADDING_MODES}, but got padding_mode='{padding_mode}'")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.transposed = transposed
        self.output_padding = output_padding
        self.groups = groups
        self.padding_mode = padding_mode
        self._reversed_padding_repeated_twice = self._padding_for_pad()
        self.weight = Parameter(empty(self._weight_shape(), device=device, dtype=dtype))
        if bias:
            self.bias = Parameter(empty(out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def _weight_shape(self) -> tuple:
        outer, inner = self.out_channels, self.in_channels
        if self.transposed:
            outer, inner = inner, outer
        return outer, inner // self.groups, *self.kernel_size

    def _padding_for_pad(self) -> Any:
        """The padding as `F.pad` takes it, last dimension first; "same" puts the odd element at the end."""
        if not isinstance(self.padding, str):
            return reversed_twice(self.padding)
        if self.padding == "valid":
            return [0, 0] * len(self.kernel_size)
        totals = [step * (size - 1) for step, size in zip(self.dilation, self.kernel_size)]
        return [side for total in reversed(totals) for side in (total // 2, total - total // 2)]

    def reset_parameters(self) -> None:
        """Draws new initial values."""
        # a = √5 makes the bound of Kaiming's uniform distribution 1/√fan_in.
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init._calculate_fan_in_and_fan_out(self.weight)
            if fan_in != 0:
                bound = 1 / math.sqrt(fan_in)
                init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0,) * len(self.padding):
            text += f", padding={self.padding}"
        if self.dilation != (1,) * len(self.dilation):
            text += f", dilation={self.dilation}"
        if self.output_padding != (0,) * len(self.output_padding):
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("padding_mode", "zeros")


class _Conv(_ConvNd):
    """The constructor and forward that the three convolutions share."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
                 dilation: Any = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros",
                 device: Any = None, dtype: Any = None) -> None:
        sizes = _ntuple(self.spatial)
        super().__init__(in_channels, out_channels, sizes(kernel_size), sizes(stride),
                         padding if isinstance(padding, str) else sizes(padding), sizes(dilation), False, sizes(0),
                         groups, bias, padding_mode, device, dtype)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        convolve = getattr(F, f"conv{self.spatial}d")
        if self.padding_mode != "zeros":
            padded = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            return convolve(padded, weight, bias, self.stride, (0,) * self.spatial, self.dilation, self.groups)
        return convolve(input, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight, self.bias)


class Conv1d(_Conv):
    """Cross-correlation over (N, C, L) or (C, L)."""

    spatial = 1


class Conv2d(_Conv):
    """Cross-correlation over (N, C, H, W) or (C, H, W)."""

    spatial = 2


class Conv3d(_Conv):
    """Cross-correlation over (N, C, D, H, W) or (C, D, H, W)."""

    spatial = 3


class _ConvTransposeNd(_ConvNd):
    """The constructor and forward that the three transposed convolutions share."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
                 output_padding: Any = 0, groups: int = 1, bias: bool = True, dilation: Any = 1,
                 padding_mode: str = "zeros", device: Any = None, dtype: Any = None) -> None:
        if padding_mode != "zeros":
            raise ValueError(f'Only "zeros" padding mode is supported for {type(self).__name__}')
        sizes = _ntuple(self.spatial)
        super().__init__(in_channels, out_channels, sizes(kernel_size), sizes(stride), sizes(padding),
                         sizes(dilation), True, sizes(output_padding), groups, bias, padding_mode, device, dtype)

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        output_padding = self._output_padding(input, output_size)
        convolve = getattr(F, f"conv_transpose{self.spatial}d")
        return convolve(input, self.weight, self.bias, self.stride, self.padding, output_padding, self.groups,
                        self.dilation)

    def _output_padding(self, input: Tensor, output_size: Any) -> tuple:
        """The padding that gives the asked-for size. Raises ValueError for a size that no padding gives."""
        if output_size is None:
            return self.output_padding
        n = self.spatial
        before = 2 if input.dim() == n + 2 else 1
        sizes = list(output_size)
        if len(sizes) == before + n:
            sizes = sizes[before:]
        if len(sizes) != n:
            raise ValueError(f"ConvTranspose{n}D: for {input.dim()}D input, output_size must have {n} or {before + n} "
                             f"elements (got {len(sizes)})")
        smallest = [(input.size(before + d) - 1) * self.stride[d] - 2 * self.padding[d]
                    + self.dilation[d] * (self.kernel_size[d] - 1) + 1 for d in range(n)]
        largest = [size + step - 1 for size, step in zip(smallest, self.stride)]
        if any(not low <= size <= high for low, size, high in zip(smallest, sizes, largest)):
            raise ValueError(f"requested an output size of {sizes}, but valid sizes range from {smallest} to {largest} "
                             f"(for an input of {input.size()[before:]})")
        return tuple(size - low for size, low in zip(sizes, smallest))


class ConvTranspose1d(_ConvTransposeNd):
    """The gradient of Conv1d with respect to its input, as a layer."""

    spatial = 1


class ConvTranspose2d(_ConvTransposeNd):
    """The gradient of Conv2d with respect to its input, as a layer."""

    spatial = 2


class ConvTranspose3d(_ConvTransposeNd):
    """The gradient of Conv3d with respect to its input, as a layer."""

    spatial = 3


class _LazyConv(LazyModuleMixin):
    """Base of the lazy convolutions: in_channels comes from the first input."""

    def __init__(self, out_channels: int, *args: Any, **kwargs: Any) -> None:
        options = dict(zip(self._options, args))
        twice = options.keys() & kwargs.keys()
        if twice:
            raise TypeError(f"{type(self).__name__}.__init__() got multiple values for argument '{min(twice)}'")
        if len(args) > len(self._options):
            raise TypeError(f"{type(self).__name__}.__init__() takes at most {len(self._options) + 1} arguments, got "
                            f"{len(args) + 1}")
        options.update(kwargs)
        bias = options.pop("bias", True)
        device, dtype = options.pop("device", None), options.pop("dtype", None)
        # Without channels and bias nothing is drawn; both come once the sizes are known.
        super().__init__(0, 0, bias=False, **options)
        self.weight = UninitializedParameter(device=device, dtype=dtype)
        self.out_channels = out_channels
        if bias:
            self.bias = UninitializedParameter(device=device, dtype=dtype)

    _options: tuple = ("kernel_size", "stride", "padding", "dilation", "groups", "bias", "padding_mode", "device",
                       "dtype")

    def reset_parameters(self) -> None:
        if not self.has_uninitialized_params() and self.in_channels != 0:
            super().reset_parameters()

    def initialize_parameters(self, input: Tensor, *args: Any, **kwargs: Any) -> None:
        if not self.has_uninitialized_params():
            return
        self.in_channels = self._channels_of(input)
        if self.in_channels % self.groups != 0:
            raise ValueError(f"in_channels must be divisible by groups (in_channels={self.in_channels}, "
                             f"groups={self.groups})")
        with no_grad():
            self.weight.materialize(self._weight_shape())
            if self.bias is not None:
                self.bias.materialize((self.out_channels,))
            self.reset_parameters()

    def _channels_of(self, input: Tensor) -> int:
        n = self.spatial
        if input.dim() not in (n + 1, n + 2):
            raise RuntimeError(f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to {type(self).__name__}, "
                               f"but got input of size: {input.shape}")
        return input.shape[1] if input.dim() == n + 2 else input.shape[0]


class _LazyConvTranspose(_LazyConv):
    """Base of the lazy transposed convolutions, whose arguments come in another order."""

    _options = ("kernel_size", "stride", "padding", "output_padding", "groups", "bias", "dilation", "padding_mode",
                "device", "dtype")


class LazyConv1d(_LazyConv, Conv1d):
    """Conv1d that reads in_channels off its first input."""

    cls_to_become = Conv1d


class LazyConv2d(_LazyConv, Conv2d):
    """Conv2d that reads in_channels off its first input."""

    cls_to_become = Conv2d


class LazyConv3d(_LazyConv, Conv3d):
    """Conv3d that reads in_channels off its first input."""

    cls_to_become = Conv3d


class LazyConvTranspose1d(_LazyConvTranspose, ConvTranspose1d):
    """ConvTranspose1d that reads in_channels off its first input."""

    cls_to_become = ConvTranspose1d


class LazyConvTranspose2d(_LazyConvTranspose, ConvTranspose2d):
    """ConvTranspose2d that reads in_channels off its first input."""

    cls_to_become = ConvTranspose2d


class LazyConvTranspose3d(_LazyConvTranspose, ConvTranspose3d):
    """ConvTranspose3d that reads in_channels off its first input."""

    cls_to_become = ConvTranspose3d
