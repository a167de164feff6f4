"""The least that each workload must do, counted from its shapes: FLOPs, bytes over the bus, bytes touched.

FLOPs: two per multiply-add of convolutions and matrix products by the direct algorithm (no Winograd, no FFT);
elementwise work is left out. A training step is forward, gradients of weights, gradients of inputs; nobody needs the
gradient of the first layer's input. What a step computes only to throw away (parts of the GAN's) is not counted.

Bytes: what crosses the memory bus if everything that can be fused is fused and nothing larger than a cache survives
between two uses. A layer with input x, output y and weight w reads x and w and writes y; backward it reads dy, y, x and
w, writes dx and dw; normalization, activation, pooling and dropout ride along. The optimizer reads w and dw and writes
w; momentum reads and writes one more of w's size, Adam two.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.workloads import convolutional, generative, recurrent, residual, transformer

FLOAT = 4
# Elements read or written per trained element by an update, and those that stay in memory with it.
UPDATE_TRAFFIC = {"sgd": 3, "momentum": 5, "adam": 7}
UPDATE_STATE = {"sgd": 1, "momentum": 2, "adam": 3}


@dataclass
class Count:
    """Sums over the layers of one step on `batch` samples. `optimizer` None: inference."""

    batch: int
    optimizer: str | None = None
    flops: float = 0
    bytes: float = 0
    working: float = 0
    parameters: int = 0

    def layer(self, macs: int, x: int, y: int, w: int, *, input_gradient: bool = True, trained: bool = True) -> None:
        """A layer with `macs` multiply-adds, `x` inputs and `y` outputs per sample and `w` weights in all."""
        trained = trained and self.optimizer is not None
        passes = 1 + (1 + input_gradient if trained else 0)
        self.flops += 2 * macs * self.batch * passes
        self.parameters += w
        traffic = self.batch * (x + y) + w
        if trained:
            traffic += self.batch * (2 * y + x * (1 + input_gradient)) + 2 * w
            self.update(w)
        self.bytes += FLOAT * traffic
        self.working += FLOAT * (w + (self.batch * y if trained else 0))

    def update(self, w: int) -> None:
        """The optimizer's pass over `w` elements, and its state."""
        self.bytes += FLOAT * w * UPDATE_TRAFFIC[str(self.optimizer)]
        self.working += FLOAT * w * UPDATE_STATE[str(self.optimizer)]

    def linear(self, inputs: int, outputs: int, rows: int = 1, **flags: bool) -> None:
        """A dense layer with bias on `rows` vectors per sample."""
        self.layer(inputs * outputs * rows, inputs * rows, outputs * rows, inputs * outputs + outputs, **flags)

    def convolution(self, channels: int, features: int, kernel: int, size: int, stride: int = 1, **flags: bool) -> int:
        """A square convolution that keeps the size but for its stride; returns the size of its output."""
        out, weights = size // stride, channels * features * kernel**2
        self.layer(weights * out**2, channels * size**2, features * out**2, weights, **flags)
        return out

    def embedding(self, w: int) -> None:
        """A table with a dense gradient, which is cleared and updated whole."""
        self.parameters += w
        self.bytes += FLOAT * w
        self.working += FLOAT * w
        self.update(w)


def tiny(flops: int, working: int) -> Count:
    """A workload of a few numbers: its floor is one call from Python."""
    return Count(1, flops=flops, working=working)


def _digits() -> Count:
    count = Count(64, "sgd", working=FLOAT * 64 * 784)
    count.linear(784, 200, input_gradient=False)
    count.linear(200, 200)
    count.linear(200, 10)
    return count


def _dog_breeds(size: int) -> Count:
    count = Count(32, "adam", working=FLOAT * 32 * 3 * size**2)
    count.convolution(3, 32, 3, size, input_gradient=False)
    count.convolution(32, 64, 3, size)
    count.convolution(64, 128, 3, size // 2)
    count.linear(128, 512)
    count.linear(512, convolutional.BREEDS)
    return count


def _resnet(name: str, batch: int, size: int, optimizer: str | None = None, frozen: bool = False) -> Count:
    count = Count(batch, optimizer, working=FLOAT * batch * 3 * size**2)
    trained = not frozen
    depths, expansion = residual.LAYOUTS[name]
    size = count.convolution(3, 64, 7, size, 2, input_gradient=False, trained=trained)
    if frozen or optimizer is None:
        count.working += FLOAT * batch * 2 * 64 * size**2  # the two largest activations
    size, channels = size // 2, 64
    for stage, (width, depth) in enumerate(zip(residual.WIDTHS, depths)):
        for block in range(depth):
            stride = 2 if stage and not block else 1
            if stride != 1 or channels != width * expansion:
                count.convolution(channels, width * expansion, 1, size, stride, trained=trained)
            if expansion == 1:
                size = count.convolution(channels, width, 3, size, stride, trained=trained)
                count.convolution(width, width, 3, size, trained=trained)
            else:
                count.convolution(channels, width, 1, size, trained=trained)
                size = count.convolution(width, width, 3, size, stride, trained=trained)
                count.convolution(width, 4 * width, 1, size, trained=trained)
            channels = width * expansion
    count.linear(channels, 1000, trained=trained)
    return count


def _transfer() -> Count:
    count = _resnet("resnet18", 32, 224, "adam", frozen=True)
    count.linear(1000, 512, input_gradient=False)
    count.linear(512, 133)
    return count


def _bidirectional_lstm() -> Count:
    words, hidden = sum(recurrent.LENGTHS), recurrent.HIDDEN  # packed: padding costs nothing
    count = Count(1, "adam")
    for inputs in (recurrent.EMBEDDING, 2 * hidden):
        for _direction in range(2):
            count.layer(
                inputs * 4 * hidden * words, inputs * words, 4 * hidden * words, inputs * 4 * hidden + 8 * hidden
            )
            count.layer(hidden * 4 * hidden * words, hidden * words, hidden * words, hidden * 4 * hidden)
    count.linear(2 * hidden, 1, rows=recurrent.TEXTS)
    count.embedding(recurrent.VOCABULARY * recurrent.EMBEDDING)
    return count


def _autoencoder() -> Count:
    c, z = generative.CAPACITY, generative.LATENT
    count = Count(generative.VAE_BATCH, "adam", working=FLOAT * generative.VAE_BATCH * 784)
    count.convolution(1, c, 4, 28, 2, input_gradient=False)
    count.convolution(c, 2 * c, 4, 14, 2)
    count.linear(98 * c, 2 * z)
    count.linear(z, 98 * c)
    # Transposed convolutions: every input pixel meets the whole kernel.
    count.layer(2 * c * c * 16 * 49, 98 * c, c * 196, 2 * c * c * 16)
    count.layer(c * 16 * 196, c * 196, 784, c * 16)
    return count


def _gan() -> Count:
    generator = ((110, 256), (256, 512), (512, 1024), (1024, 784))
    critic = ((794, 1024), (1024, 512), (512, 256), (256, 1))
    g, d = (sum(i * o for i, o in layers) for layers in (generator, critic))
    batch = generative.GAN_BATCH
    # The critic's step: forward and backward on real and fake, the generator forward. The generator's step: the
    # generator forward and backward, the critic forward and the gradient of its input.
    first = 2 * (3 * d - 794 * 1024) + g
    second = 3 * g - 110 * 256 + 2 * d
    kept = batch * (2 * sum(o for _, o in generator) + 3 * sum(o for _, o in critic))
    count = Count(batch, "adam", flops=2 * (first + second) * batch, parameters=g + d)
    count.bytes = FLOAT * (4 * (g + d) + 3 * kept)
    count.working = FLOAT * (batch * 784 + 2 * (g + d) + kept)
    count.update(g + d)
    return count


def _transformer() -> Count:
    d, inner, length = transformer.WIDTH, transformer.INNER, transformer.LENGTH
    count = Count(transformer.BATCH, "adam")
    for _layer in range(transformer.LAYERS):
        count.linear(d, 3 * d, rows=length)
        count.layer(2 * length**2 * d, 3 * d * length, d * length, 0)  # the weights of attention never leave the cache
        count.linear(d, d, rows=length)
        count.linear(d, inner, rows=length)
        count.linear(inner, d, rows=length)
    count.linear(d, transformer.CLASSES)
    count.embedding((transformer.VOCABULARY + length) * d)
    return count


def counts() -> dict[str, Count]:
    """The count of every workload of the table."""
    return {
        "linreg": tiny(11 * 12 + 40, 400),
        "tanhnet": tiny(11 * 8 * 6 + 25 * 12, 1500),
        "mlp": _digits(),
        "cgan": _gan(),
        "vae": _autoencoder(),
        "bilstm": _bidirectional_lstm(),
        "dogcnn64": _dog_breeds(64),
        "dogcnn224": _dog_breeds(224),
        "transformer": _transformer(),
        "resnet18_train64": _resnet("resnet18", 16, 64, "momentum"),
        "resnet18_train": _resnet("resnet18", 16, 224, "momentum"),
        "transfer": _transfer(),
        **{
            f"{name}_infer_b{batch}": _resnet(name, batch, 224)
            for name in ("resnet18", "resnet50", "resnet101")
            for batch in (1, 16)
        },
    }
