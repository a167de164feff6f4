"""The workloads in tinygrad: its layers and optimizers, the whole step in one TinyJit, no search for kernels (BEAM=0).

There is no bilstm: its 256 cells would be unrolled into a program that takes very long to compile.
"""

from __future__ import annotations

import importlib.metadata
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from tinygrad import Context, Device, Tensor, TinyJit, nn

from benchmarks.peers import Unit
from benchmarks.workloads import WORKLOADS, convolutional, generative, perceptrons, residual, transformer

parameters = nn.state.get_parameters


def unit(step: Callable[..., Any], batches: Sequence[tuple[Any, ...]], each: bool = False) -> Unit:
    """`step` under TinyJit, on batches that are already in memory."""
    program = TinyJit(step)
    feed = itertools.cycle([tuple(tensor.contiguous().realize() for tensor in batch) for batch in batches])
    return Unit(
        lambda: program(*next(feed)),
        importlib.metadata.version("tinygrad"),
        wait=lambda value: Device[Device.DEFAULT].synchronize(),
        number=lambda value: float(value.float().mean().item()),
        each=each,
    )


def trainer(loss_of: Callable[..., Any], optimizer: Any, batches: Sequence[tuple[Any, ...]]) -> Unit:
    """The training step of a loss."""

    def step(*batch: Any) -> Any:
        with Context(TRAINING=1):
            optimizer.zero_grad()
            loss = loss_of(*batch)
            loss.backward()
            return loss.realize(*optimizer.schedule_step())

    return unit(step, batches)


def adam(layers: Any, lr: float) -> Any:
    return nn.optim.Adam(parameters(layers), lr=lr, eps=1e-8)


def line() -> Unit:
    celsius, unknown = Tensor(perceptrons.CELSIUS), Tensor(perceptrons.UNKNOWN) * 0.1
    p = Tensor([1.0, 0.0])
    batches = [(unknown, celsius), (unknown + 0, celsius + 0)]
    return trainer(lambda x, y: ((p[0] * x + p[1] - y) ** 2).mean(), adam([p], 1e-1), batches)


def tanh_network() -> Unit:
    def data() -> tuple[Any, ...]:
        """Nine readings and two, each a tensor of its own: a program takes no view for an array."""
        unknown, celsius = [0.1 * reading for reading in perceptrons.UNKNOWN], perceptrons.CELSIUS
        return tuple(Tensor(part).reshape(-1, 1) for part in (unknown[:-2], celsius[:-2], unknown[-2:], celsius[-2:]))

    hidden, output = nn.Linear(1, 8), nn.Linear(8, 1)
    optimizer = adam([hidden, output], 1e-2)

    def loss_of(x: Any, y: Any) -> Any:
        return ((output(hidden(x).tanh()) - y) ** 2).mean()

    def step(x: Any, y: Any, x_held_out: Any, y_held_out: Any) -> Any:
        with Context(TRAINING=1):
            optimizer.zero_grad()
            loss, validation = loss_of(x, y), loss_of(x_held_out, y_held_out)
            loss.backward()
            return loss.realize(validation, *optimizer.schedule_step())

    return unit(step, [data(), data()])


def digits() -> Unit:
    layers = [nn.Linear(784, 200), nn.Linear(200, 200), nn.Linear(200, 10)]

    def loss_of(x: Any, y: Any) -> Any:
        x = layers[1](layers[0](x).relu()).relu()
        return layers[2](x).log_softmax(1).nll_loss(y)

    batches = [(Tensor.randn(64, 784), Tensor.randint(64, low=0, high=10)) for _ in range(2)]
    return trainer(loss_of, nn.optim.SGD(parameters(layers), lr=0.01), batches)


def dog_breeds(size: int, batch: int = 32) -> Unit:
    convolutions = [nn.Conv2d(*shape, 3, 1, 1) for shape in ((3, 32), (32, 64), (64, 128))]
    norms = [nn.BatchNorm(64), nn.BatchNorm(128)]
    heads = [nn.Linear(128, 512), nn.Linear(512, convolutional.BREEDS)]

    def loss_of(x: Any, y: Any) -> Any:
        x = convolutions[0](x).relu()
        for convolution, norm in zip(convolutions[1:], norms):
            x = norm(convolution(x).relu()).max_pool2d((2, 2), 2)
        x = heads[0](x.mean((2, 3))).dropout(0.5)
        return heads[1](x).sparse_categorical_crossentropy(y)

    batches = [
        (Tensor.randn(batch, 3, size, size), Tensor.randint(batch, low=0, high=convolutional.BREEDS)) for _ in range(2)
    ]
    return trainer(loss_of, adam([convolutions, norms, heads], 1e-4), batches)


class ConvolutionNorm:
    """A convolution without bias and its batch norm."""

    def __init__(self, channels: int, features: int, kernel: int, stride: int = 1):
        self.convolution = nn.Conv2d(channels, features, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm(features)

    def __call__(self, x: Any) -> Any:
        return self.norm(self.convolution(x))


class ResNet:
    """The networks of `workloads/residual.py`."""

    def __init__(self, name: str, classes: int = 1000):
        depths, expansion = residual.LAYOUTS[name]
        self.stem, self.blocks, channels = ConvolutionNorm(3, 64, 7, 2), [], 64
        for stage, (width, depth) in enumerate(zip(residual.WIDTHS, depths)):
            for block in range(depth):
                stride, out = 2 if stage and not block else 1, width * expansion
                plan = [(channels, width, 3, stride), (width, width, 3)]
                if expansion == 4:
                    plan = [(channels, width, 1), (width, width, 3, stride), (width, out, 1)]
                skip = ConvolutionNorm(channels, out, 1, stride) if stride != 1 or channels != out else None
                self.blocks.append(([ConvolutionNorm(*shape) for shape in plan], skip))
                channels = out
        self.fc = nn.Linear(channels, classes)

    def __call__(self, x: Any) -> Any:
        x = self.stem(x).relu().max_pool2d((3, 3), 2, padding=1)
        for units, skip in self.blocks:
            y = x
            for layer in units[:-1]:
                y = layer(y).relu()
            x = (units[-1](y) + (skip(x) if skip else x)).relu()
        return self.fc(x.mean((2, 3)))


def resnet_training(size: int, batch: int = 16) -> Unit:
    model = ResNet("resnet18")
    optimizer = nn.optim.SGD(parameters(model), lr=0.01, momentum=0.9)
    batches = [(Tensor.randn(batch, 3, size, size), Tensor.randint(batch, low=0, high=1000)) for _ in range(2)]
    return trainer(lambda x, y: model(x).sparse_categorical_crossentropy(y), optimizer, batches)


def transfer(batch: int = 32, classes: int = 133) -> Unit:
    backbone, head = ResNet("resnet18"), [nn.Linear(1000, 512), nn.Linear(512, classes)]
    optimizer = adam(head, 1e-4)

    def loss_of(x: Any, y: Any) -> Any:
        features = head[0](backbone(x).detach()).relu().dropout(0.5)
        return head[1](features).sparse_categorical_crossentropy(y)

    batches = [(Tensor.randn(batch, 3, 224, 224), Tensor.randint(batch, low=0, high=classes)) for _ in range(2)]
    return trainer(loss_of, optimizer, batches)


def inference(name: str, batch: int) -> Unit:
    model = ResNet(name)
    Tensor.realize(*parameters(model))
    return unit(lambda x: model(x).realize(), [(Tensor.randn(batch, 3, 224, 224),) for _ in range(2)], each=True)


def variational_autoencoder() -> Unit:
    """Its Adam has no L2 decay; 1e-5 of the weights is left out of the gradient, 0.3 million multiply-adds."""
    c, z, batch = generative.CAPACITY, generative.LATENT, generative.VAE_BATCH
    down = [nn.Conv2d(1, c, 4, 2, 1), nn.Conv2d(c, 2 * c, 4, 2, 1)]
    heads = [nn.Linear(98 * c, z), nn.Linear(98 * c, z), nn.Linear(z, 98 * c)]
    up = [nn.ConvTranspose2d(2 * c, c, 4, 2, 1), nn.ConvTranspose2d(c, 1, 4, 2, 1)]

    def loss_of(x: Any) -> Any:
        h = down[1](down[0](x).relu()).relu().flatten(1)
        mu, logvar = heads[0](h), heads[1](h)
        latent = mu + (logvar * 0.5).exp() * Tensor.randn(*mu.shape)
        image = up[1](up[0](heads[2](latent).reshape(-1, 2 * c, 7, 7)).relu()).sigmoid()
        divergence = -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum()
        return image.binary_crossentropy(x, reduction="sum") + divergence

    return trainer(loss_of, adam([down, heads, up], 1e-3), [(Tensor.rand(batch, 1, 28, 28),) for _ in range(2)])


def conditional_gan() -> Unit:
    batch, noise, classes = generative.GAN_BATCH, generative.NOISE, generative.CLASSES

    def perceptron(*sizes: int) -> dict[str, Any]:
        layers = [nn.Linear(*size) for size in itertools.pairwise(sizes)]
        return {"labels": nn.Embedding(classes, classes), "layers": layers}

    generator = perceptron(noise + classes, 256, 512, 1024, 784)
    critic = perceptron(784 + classes, 1024, 512, 256, 1)
    g_optimizer, c_optimizer = adam(generator, 1e-4), adam(critic, 1e-4)

    def generate() -> tuple[Any, Any]:
        labels = Tensor.randint(batch, low=0, high=classes)
        x = Tensor.randn(batch, noise).cat(generator["labels"](labels), dim=1)
        for layer in generator["layers"][:-1]:
            x = layer(x).leaky_relu(0.2)
        return generator["layers"][-1](x).tanh(), labels

    def judge(images: Any, labels: Any) -> Any:
        x = images.reshape(batch, 784).cat(critic["labels"](labels), dim=1)
        for layer in critic["layers"][:-1]:
            x = layer(x).leaky_relu(0.2).dropout(0.3)
        return critic["layers"][-1](x).sigmoid().squeeze(1)

    def step(images: Any, labels: Any) -> Any:
        with Context(TRAINING=1):
            c_optimizer.zero_grad()
            fakes, fake_labels = generate()
            c_loss = judge(images, labels).binary_crossentropy(Tensor.ones(batch))
            c_loss = c_loss + judge(fakes.detach(), fake_labels).binary_crossentropy(Tensor.zeros(batch))
            c_loss.backward()
            c_loss.realize(*c_optimizer.schedule_step())
            g_optimizer.zero_grad()
            g_loss = judge(*generate()).binary_crossentropy(Tensor.ones(batch))
            g_loss.backward()
            return (c_loss + g_loss).realize(*g_optimizer.schedule_step())

    batches = [(Tensor.rand(batch, 28, 28) * 2 - 1, Tensor.randint(batch, low=0, high=classes)) for _ in range(2)]
    return unit(step, batches)


def classifier() -> Unit:
    d, heads, rate = transformer.WIDTH, transformer.HEADS, transformer.DROPOUT
    inner, length = transformer.INNER, transformer.LENGTH

    def block() -> dict[str, Any]:
        linears = {"qkv": (d, 3 * d), "proj": (d, d), "up": (d, inner), "down": (inner, d)}
        norms = {"ln1": nn.LayerNorm(d), "ln2": nn.LayerNorm(d)}
        return norms | {name: nn.Linear(*shape) for name, shape in linears.items()}

    blocks = [block() for _ in range(transformer.LAYERS)]
    tokens, positions = nn.Embedding(transformer.VOCABULARY, d), Tensor.randn(length, d)
    norm, head = nn.LayerNorm(d), nn.Linear(d, transformer.CLASSES)
    optimizer = adam([tokens, positions, blocks, norm, head], 3e-4)

    def loss_of(text: Any, y: Any) -> Any:
        n, t = text.shape
        x = (tokens(text) + positions).dropout(rate)
        for q in blocks:
            qkv = q["qkv"](q["ln1"](x)).reshape(n, t, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
            attended = qkv[0].scaled_dot_product_attention(qkv[1], qkv[2]).transpose(1, 2).reshape(n, t, d)
            x = x + q["proj"](attended).dropout(rate)
            x = x + q["down"](q["up"](q["ln2"](x)).gelu()).dropout(rate)
        return head(norm(x).mean(1)).sparse_categorical_crossentropy(y)

    batches = [
        (
            Tensor.randint(transformer.BATCH, length, low=0, high=transformer.VOCABULARY),
            Tensor.randint(transformer.BATCH, low=0, high=transformer.CLASSES),
        )
        for _ in range(2)
    ]
    return trainer(loss_of, optimizer, batches)


BUILDERS = {
    "linreg": line,
    "tanhnet": tanh_network,
    "mlp": digits,
    "cgan": conditional_gan,
    "vae": variational_autoencoder,
    "dogcnn64": lambda: dog_breeds(64),
    "dogcnn224": lambda: dog_breeds(224),
    "transformer": classifier,
    "resnet18_train64": lambda: resnet_training(64),
    "resnet18_train": lambda: resnet_training(224),
    "transfer": transfer,
}


def build(implementation: str, workload: str, threads: int, seed: int) -> Unit:
    """The workload in tinygrad. The number of threads is an environment variable, set before it was imported."""
    Tensor.manual_seed(seed)
    if workload in BUILDERS:
        return BUILDERS[workload]()
    if WORKLOADS[workload].kind != "infer":
        raise NotImplementedError("not written for tinygrad")
    name, _, batch = workload.split("_")
    return inference(name, int(batch.removeprefix("b")))
