"""A table of a network's layers: torchsummary's `summary`, with torchinfo's `depth`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flambeau as torch
from flambeau import Tensor, nn

_MB = 1024.0**2


@dataclass
class Layer:
    """One call of one module."""

    name: str               # Conv2d-1
    depth: int              # 1 for the network's children
    leaf: bool
    output_shape: list[Any]
    outputs: int            # numbers given out
    parameters: int         # of the module itself and what is in it; 0 at a second call
    trainable: int
    multiply_adds: int      # of convolutions and linear layers; 0 for other leaves


@dataclass
class ModelSummary:
    """What `summary` found; printing it shows the table."""

    layers: list[Layer]     # the rows of the table
    total_params: int
    trainable_params: int
    total_mult_adds: int
    input_bytes: int
    output_bytes: int       # of all leaves' outputs, in float32
    param_bytes: int

    def __str__(self) -> str:
        line, heavy = "-" * 80, "=" * 80
        heading = f"{'Layer (type)':>28}{'Output Shape':>24}{'Param #':>13}{'Mult-Adds':>15}"
        rows = [
            f"{'  ' * (layer.depth - 1) + layer.name:>28}{layer.output_shape!s:>24}{layer.parameters:>13,}"
            f"{layer.multiply_adds:>15,}"
            for layer in self.layers
        ]
        # Every output is kept for its gradient, hence twice: torchsummary's estimate.
        sizes = (self.input_bytes / _MB, 2 * self.output_bytes / _MB, self.param_bytes / _MB)
        return "\n".join([
            line, heading, heavy, *rows, heavy,
            f"Total params: {self.total_params:,}",
            f"Trainable params: {self.trainable_params:,}",
            f"Non-trainable params: {self.total_params - self.trainable_params:,}",
            f"Total mult-adds: {self.total_mult_adds:,}",
            line,
            f"Input size (MB): {sizes[0]:.2f}",
            f"Forward/backward pass size (MB): {sizes[1]:.2f}",
            f"Params size (MB): {sizes[2]:.2f}",
            f"Estimated Total Size (MB): {sum(sizes):.2f}",
            line,
        ])


def summary(
    model: nn.Module,
    input_size: Sequence[int] | Sequence[Sequence[int]],
    batch_size: int = -1,
    device: Any = "cpu",
    *,
    depth: int | None = None,
    verbose: bool = True,
) -> ModelSummary:
    """Run random numbers through a network and print a table of its layers.

    Args:
        input_size: the input's shape without the batch, `(3, 224, 224)`, or one shape for each input.
        batch_size: shown as the first dimension, and counted in memory and multiply-adds; -1 leaves it open.
        depth: also show the modules that contain others, down to this level; None shows every leaf and no container.
        verbose: print the table (it is returned either way).
    """
    shapes: Any = [input_size] if isinstance(input_size[0], int) else input_size
    inputs = [torch.rand(1, *shape, device=device) for shape in shapes]
    training = {module: module.training for module in model.modules()}
    model.eval()    # so that looking at a network changes no batch statistics
    try:
        layers = _observe(model, inputs)
    finally:
        for module, mode in training.items():
            module.training = mode
    scale = abs(batch_size)
    for layer in layers:
        _rescale(layer, scale, batch_size)
    leaves = [layer for layer in layers if layer.leaf]
    shown = leaves if depth is None else [layer for layer in layers if layer.depth <= depth]
    parameters = list(model.parameters())
    found = ModelSummary(
        layers=shown,
        total_params=sum(p.numel() for p in parameters),
        trainable_params=sum(p.numel() for p in parameters if p.requires_grad),
        total_mult_adds=sum(layer.multiply_adds for layer in leaves),
        input_bytes=sum(x.numel() * x.element_size() for x in inputs) * scale,
        output_bytes=sum(layer.outputs for layer in leaves) * 4,
        param_bytes=sum(p.numel() * p.element_size() for p in parameters),
    )
    if verbose:
        print(found)
    return found


def _observe(model: nn.Module, inputs: list[Tensor]) -> list[Layer]:
    """The calls of all modules but the network itself, outer ones before their parts, for a batch of one."""
    layers: list[Layer] = []
    seen: set[int] = set()
    depths = {module: name.count(".") + 1 for name, module in model.named_modules() if name}
    if not depths:
        depths = {model: 1}     # a single layer is its own table

    def begin(module: nn.Module, args: Any) -> None:
        own = [p for p in module.parameters() if id(module) not in seen]
        seen.add(id(module))
        layers.append(
            Layer(
                f"{type(module).__name__}-{len(layers) + 1}", depths[module], not any(True for _ in module.children()),
                [], 0, sum(p.numel() for p in own), sum(p.numel() for p in own if p.requires_grad), 0,
            )
        )
        open_calls.append(layers[-1])

    def end(module: nn.Module, args: Any, output: Any) -> None:
        layer = open_calls.pop()
        tensors = [output] if isinstance(output, Tensor) else _tensors(output)
        shapes = [list(t.shape) for t in tensors]
        layer.output_shape = shapes[0] if len(shapes) == 1 else shapes
        layer.outputs = sum(t.numel() for t in tensors)
        layer.multiply_adds = _multiply_adds(module, tensors)

    open_calls: list[Layer] = []
    handles = []
    for module in depths:
        handles += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
    try:
        with torch.no_grad():
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return layers


def _tensors(output: Any) -> list[Tensor]:
    """The tensors in what a module returned, in order."""
    if isinstance(output, Tensor):
        return [output]
    values = output.values() if isinstance(output, dict) else output if isinstance(output, (list, tuple)) else ()
    return [t for value in values for t in _tensors(value)]


def _multiply_adds(module: nn.Module, outputs: list[Tensor]) -> int:
    """Multiplications of a convolution (each weight once an output pixel) or linear layer (once a row)."""
    weight = getattr(module, "weight", None)
    if not outputs or not isinstance(weight, Tensor):
        return 0
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)):
        return outputs[0].numel() * weight[0].numel()
    return 0


def _rescale(layer: Layer, scale: int, batch: int) -> None:
    """From the one example that was run to the batch that was asked about."""
    layer.outputs *= scale
    layer.multiply_adds *= scale
    several = bool(layer.output_shape) and isinstance(layer.output_shape[0], list)
    for shape in layer.output_shape if several else [layer.output_shape]:
        if shape:
            shape[0] = batch
