"""The workloads. Each is written once against a module `torch` that may be flambeau or PyTorch.

A builder `build(torch, part)` returns a `Work`. `part` is a decorator that a compiler of pieces wants to be put on the
pieces of a training step (forward with loss; the optimizer's update), or None. Nothing here imports a library.
Inputs reach a step as arguments, two batches in turn, so that no compiler can fold the data into its program.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.workloads import convolutional, generative, perceptrons, recurrent, residual, transformer
from benchmarks.workloads.work import Work, compiled


@dataclass(frozen=True)
class Workload:
    """A row of the tables. `kind` is "train" (steps depend on one another), "infer" or "eager" (op by op only)."""

    build: Callable[[Any, Any], Work]
    kind: str
    summary: str


def _inference(name: str, batch: int) -> Workload:
    def build(torch: Any, part: Any) -> Work:
        return residual.inference(torch, name, batch)

    return Workload(build, "infer", f"ResNet-{name.removeprefix('resnet')} inference, {batch}×3×224×224")


WORKLOADS: dict[str, Workload] = {
    "linreg": Workload(perceptrons.line, "train", "a line through 11 thermometer readings, Adam"),
    "tanhnet": Workload(perceptrons.tanh_network, "train", "1-8-1 tanh network on them, with validation loss, Adam"),
    "mlp": Workload(perceptrons.digits, "train", "784-200-200-10 perceptron, batch 64, SGD"),
    "cgan": Workload(generative.conditional_gan, "train", "conditional GAN of perceptrons, batch 64, two Adams"),
    "vae": Workload(generative.variational_autoencoder, "train", "convolutional VAE, 128×1×28×28, Adam"),
    "bilstm": Workload(recurrent.bidirectional_lstm, "train", "2-layer bidirectional LSTM, 32 packed texts, Adam"),
    "dogcnn64": Workload(lambda torch, part: convolutional.dog_breeds(torch, part, 64), "train",
                         "small CNN for 133 dog breeds, 32×3×64×64, Adam"),
    "transformer": Workload(transformer.classifier, "train", "4-layer transformer encoder, 32×128 tokens, Adam"),
    "resnet18_train64": Workload(lambda torch, part: residual.training(torch, part, 64), "train",
                                 "ResNet-18, 16×3×64×64, SGD with momentum"),
    **{f"{name}_infer_b1": _inference(name, 1) for name in ("resnet18", "resnet50", "resnet101")},
    **{f"{name}_infer_b16": _inference(name, 16) for name in ("resnet18", "resnet50", "resnet101")},
    "resnet18_train": Workload(lambda torch, part: residual.training(torch, part, 224), "train",
                               "ResNet-18, 16×3×224×224, SGD with momentum"),
    "transfer": Workload(residual.transfer, "train", "frozen ResNet-18 and a trained head, 32×3×224×224, Adam"),
    "dogcnn224": Workload(lambda torch, part: convolutional.dog_breeds(torch, part, 224), "train",
                          "small CNN for 133 dog breeds, 32×3×224×224, Adam"),
    "add": Workload(perceptrons.addition, "eager", "x + y on 11 elements, with the gradient's node recorded"),
}  # fmt: skip

TABLE = [name for name, workload in WORKLOADS.items() if workload.kind != "eager"]
QUICK = ["linreg", "tanhnet", "mlp", "cgan", "resnet18_infer_b1"]
EAGER = ["add", "linreg", "tanhnet", "mlp", "cgan", "vae", "bilstm", "dogcnn64", "transformer", "resnet18_train64"]
