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
    leaf: bool              # nothing in it was called
    output_shape: list[Any]
    outputs: int            # numbers given out
    parameters: int         # of the module itself and what is in it; 0 at a second call
    trainable: int
    multiply_adds: int      # of convolutions, linear and recurrent layers and attention; 0 for other leaves


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
    input_size: Sequence[int] | Sequence[Sequence[int]] | None = None,
    batch_size: int = -1,
    device: Any = "cpu",
    *,
    input_data: Any = None,
    dtypes: Sequence[Any] | None = None,
    depth: int | None = None,
    verbose: bool = True,
) -> ModelSummary:
    """Run an input through a network and print a table of its layers.

    Args:
        input_size: the input's shape without the batch, `(3, 224, 224)`, or one shape for each input.
        batch_size: shown as the first dimension, and counted in memory and multiply-adds; -1 leaves it open.
        input_data: a tensor, or a list or tuple of all inputs, instead of `input_size`; its batch is shown and counted.
        dtypes: the dtype of each input, float32 unless given. Integers are zeros, as indices into an embedding.
        depth: also show the modules that contain others, down to this level; None shows every leaf and no container.
        verbose: print the table (it is returned either way).

    ValueError unless exactly one of `input_size` and `input_data` is given.
    """
    if (input_size is None) == (input_data is None):
        raise ValueError("summary: give either input_size, the input's shape without the batch, or input_data")
    if input_data is None:
        inputs = _made_up(input_size, dtypes, device)
        scale, batch = abs(batch_size), batch_size
    else:
        inputs = [input_data] if isinstance(input_data, Tensor) else list(input_data)
        scale, batch = 1, None
    training = {module: module.training for module in model.modules()}
    model.eval()    # so that looking at a network changes no batch statistics
    try:
        layers = _observe(model, inputs)
    finally:
        for module, mode in training.items():
            module.training = mode
    if batch is not None:
        for layer in layers:
            _rescale(layer, scale, batch)
    leaves = [layer for layer in layers if layer.leaf]
    shown = leaves if depth is None else [layer for layer in layers if layer.depth <= depth]
    parameters = list(model.parameters())
    found = ModelSummary(
        layers=shown,
        total_params=sum(p.numel() for p in parameters),
        trainable_params=sum(p.numel() for p in parameters if p.requires_grad),
        total_mult_adds=sum(layer.multiply_adds for layer in leaves),
        input_bytes=sum(x.numel() * x.element_size() for x in _tensors(inputs)) * scale,
        output_bytes=sum(layer.outputs for layer in leaves) * 4,
        param_bytes=sum(p.numel() * p.element_size() for p in parameters),
    )
    if verbose:
        print(found)
    return found


def _made_up(input_size: Any, dtypes: Sequence[Any] | None, device: Any) -> list[Tensor]:
    """An example for each shape: random numbers, or zeros of an integer type."""
    shapes = [input_size] if not input_size or isinstance(input_size[0], int) else list(input_size)
    dtypes = [torch.float32] * len(shapes) if dtypes is None else list(dtypes)
    if len(dtypes) != len(shapes):
        raise ValueError(f"summary: {len(shapes)} shapes in input_size, but {len(dtypes)} dtypes")
    return [
        torch.rand(1, *shape, device=device).to(dtype) if dtype.is_floating_point
        else torch.zeros(1, *shape, dtype=dtype, device=device)
        for shape, dtype in zip(shapes, dtypes)
    ]


def _observe(model: nn.Module, inputs: list[Tensor]) -> list[Layer]:
    """The calls of all modules but the network itself, outer ones before their parts."""
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
                f"{type(module).__name__}-{len(layers) + 1}", depths[module], True,
                [], 0, sum(p.numel() for p in own), sum(p.numel() for p in own if p.requires_grad), 0,
            )
        )
        for outer in open_calls:
            outer.leaf = False
        open_calls.append(layers[-1])

    def end(module: nn.Module, args: Any, output: Any) -> None:
        layer = open_calls.pop()
        tensors = [output] if isinstance(output, Tensor) else _tensors(output)
        shapes = [list(t.shape) for t in tensors]
        layer.output_shape = shapes[0] if len(shapes) == 1 else shapes
        layer.outputs = sum(t.numel() for t in tensors)
        layer.multiply_adds = _multiply_adds(module, _tensors(args), tensors)

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


def _multiply_adds(module: nn.Module, inputs: list[Tensor], outputs: list[Tensor]) -> int:
    """Multiplications of one call; biases, normalisation and activations do not count.

    Of a convolution each weight counts once an output pixel (transposed: once an input pixel), of a linear layer once a
    row, of a recurrent layer once a step. Attention: its four projections, and a row for each pair of query and key,
    twice.
    """
    if not inputs or not outputs:
        return 0
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)):
        return outputs[0].numel() * module.weight[0].numel()
    if isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        return inputs[0].numel() * module.weight[0].numel()
    weights = sum(p.numel() for name, p in module.named_parameters() if "weight" in name)
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        return weights * (inputs[0].numel() // inputs[0].shape[-1])
    if isinstance(module, nn.MultiheadAttention):
        return _attention(module, inputs)
    return 0


def _attention(module: Any, inputs: list[Tensor]) -> int:
    query, key, value = inputs[:3]
    rows = [x.numel() // x.shape[-1] for x in (query, key, value)]
    width = module.embed_dim
    projections = rows[0] * width * 2 * width + rows[1] * width * module.kdim + rows[2] * width * module.vdim
    batch = 1 if query.ndim == 2 else query.shape[0 if module.batch_first else 1]
    return projections + 2 * rows[0] * (rows[1] // batch) * width


def _rescale(layer: Layer, scale: int, batch: int) -> None:
    """From the one example that was run to the batch that was asked about."""
    layer.outputs *= scale
    layer.multiply_adds *= scale
    several = bool(layer.output_shape) and isinstance(layer.output_shape[0], list)
    for shape in layer.output_shape if several else [layer.output_shape]:
        if shape:
            shape[0] = batch
