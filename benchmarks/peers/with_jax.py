"""The workloads in JAX: same models, sizes and work per step; the whole step is one `jax.jit`."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax, random

from benchmarks.peers import Unit
from benchmarks.peers.jax_layers import (
    Stream,
    adam,
    adam_state,
    batch_norm,
    binary_cross_entropy,
    convolution,
    cross_entropy,
    dropout,
    layer_norm,
    linear,
    max_pool,
    norm_parameters,
    running_statistics,
    trainer,
    transposed_convolution,
)
from benchmarks.workloads import convolutional, generative, perceptrons, recurrent, residual, transformer

Tree = Any
relu = jax.nn.relu


def line(stream: Stream) -> Unit:
    celsius, unknown = jnp.array(perceptrons.CELSIUS), 0.1 * jnp.array(perceptrons.UNKNOWN)
    p = jnp.array([1.0, 0.0])

    def loss_of(p: Tree, x: Any, y: Any) -> Any:
        return jnp.square(p[0] * x + p[1] - y).mean()

    def step(state: Tree, x: Any, y: Any) -> tuple[Tree, Any]:
        loss, grad = jax.value_and_grad(loss_of)(state[0], x, y)
        return adam(state[0], grad, state[1], lr=1e-1), loss

    return trainer(step, (p, adam_state(p)), [(unknown, celsius), (unknown + 0, celsius + 0)])


def tanh_network(stream: Stream) -> Unit:
    celsius, unknown = jnp.array(perceptrons.CELSIUS)[:, None], 0.1 * jnp.array(perceptrons.UNKNOWN)[:, None]
    order = random.permutation(stream.key(), 11)
    seen, held_out = order[:-2], order[-2:]
    p = {"hidden": stream.linear(1, 8), "output": stream.linear(8, 1)}

    def loss_of(p: Tree, x: Any, y: Any) -> Any:
        return jnp.square(linear(p["output"], jnp.tanh(linear(p["hidden"], x))) - y).mean()

    def step(state: Tree, x: Any, y: Any, x_held_out: Any, y_held_out: Any) -> tuple[Tree, Any]:
        loss, grad = jax.value_and_grad(loss_of)(state[0], x, y)
        validation = loss_of(state[0], x_held_out, y_held_out)
        return adam(state[0], grad, state[1], lr=1e-2), jnp.stack([loss, validation])

    data = (unknown[seen], celsius[seen], unknown[held_out], celsius[held_out])
    return trainer(step, (p, adam_state(p)), [data, tuple(array + 0 for array in data)])


def digits(stream: Stream) -> Unit:
    p = [stream.linear(*size) for size in ((784, 200), (200, 200), (200, 10))]

    def loss_of(p: Tree, x: Any, y: Any) -> Any:
        return cross_entropy(linear(p[2], relu(linear(p[1], relu(linear(p[0], x))))), y)

    def step(p: Tree, x: Any, y: Any) -> tuple[Tree, Any]:
        loss, grad = jax.value_and_grad(loss_of)(p, x, y)
        return jax.tree.map(lambda p, g: p - 0.01 * g, p, grad), loss

    return trainer(step, p, [(stream.normal(64, 784), stream.integers(64, below=10)) for _ in range(2)])


def bidirectional_lstm(stream: Stream) -> Unit:
    """The recurrence is a `lax.scan` over time; where a text is over its state is held, as packing does."""
    steps, texts, hidden = recurrent.STEPS, recurrent.TEXTS, recurrent.HIDDEN
    bound = hidden**-0.5

    def direction(inputs: int) -> Tree:
        gates = 4 * hidden
        return {
            "x": stream.uniform(inputs, gates, low=-bound, high=bound),
            "h": stream.uniform(hidden, gates, low=-bound, high=bound),
            "b": stream.uniform(gates, low=-bound, high=bound) + stream.uniform(gates, low=-bound, high=bound),
        }

    p = {
        "words": stream.normal(recurrent.VOCABULARY, recurrent.EMBEDDING).at[0].set(0.0),
        "layers": [[direction(inputs) for _ in range(2)] for inputs in (recurrent.EMBEDDING, 2 * hidden)],
        "out": stream.linear(2 * hidden, 1),
    }

    def run(p: Tree, x: Any, real: Any, reverse: bool) -> tuple[Any, Any]:
        """Last state (N, H) and all states (T, N, H) of one direction."""

        def cell(carry: tuple[Any, Any], now: tuple[Any, Any]) -> tuple[tuple[Any, Any], Any]:
            (h, c), (gates, here) = carry, now
            i, f, g, o = jnp.split(gates + h @ p["h"], 4, axis=-1)
            new_c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            new_h = jax.nn.sigmoid(o) * jnp.tanh(new_c)
            h, c = jnp.where(here, new_h, h), jnp.where(here, new_c, c)
            return (h, c), h

        zero = jnp.zeros((texts, hidden))
        (h, _), states = lax.scan(cell, (zero, zero), (x @ p["x"] + p["b"], real), reverse=reverse)
        return h, states

    def loss_of(p: Tree, key: Any, text: Any, lengths: Any, label: Any) -> Any:
        keys = random.split(key, 3)
        real = (jnp.arange(steps)[:, None] < lengths[None])[..., None]
        x = p["words"][text]
        last = []
        for number, layer in enumerate(p["layers"]):
            x = dropout(keys[number], x, 0.5)
            last, states = zip(*(run(q, x, real, reverse) for q, reverse in zip(layer, (False, True))))
            x = jnp.concatenate(states, -1)
        z = linear(p["out"], dropout(keys[2], jnp.concatenate(last, 1), 0.5))[:, 0]
        return (jnp.maximum(z, 0) - z * label + jnp.log1p(jnp.exp(-jnp.abs(z)))).mean()

    def step(state: Tree, *batch: Any) -> tuple[Tree, Any]:
        p, moments, key = state
        key, now = random.split(key)
        loss, grad = jax.value_and_grad(loss_of)(p, now, *batch)
        grad["words"] = grad["words"].at[0].set(0.0)  # the padding's row learns nothing
        p, moments = adam(p, grad, moments)
        return (p, moments, key), loss

    lengths = jnp.array(recurrent.LENGTHS)
    real = jnp.arange(steps)[:, None] < lengths[None]
    batches = [
        (
            stream.integers(steps, texts, low=1, below=recurrent.VOCABULARY) * real,
            lengths,
            stream.integers(texts, below=2).astype(jnp.float32),
        )
        for _ in range(2)
    ]
    return trainer(step, (p, adam_state(p), stream.key()), batches)


def dog_breeds(stream: Stream, size: int, batch: int = 32) -> Unit:
    p = {
        "conv": [stream.convolution(*shape, 3) for shape in ((3, 32), (32, 64), (64, 128))],
        "norm": [norm_parameters(64), norm_parameters(128)],
        "fc1": stream.linear(128, 512),
        "fc2": stream.linear(512, convolutional.BREEDS),
    }

    def loss_of(p: Tree, running: Tree, key: Any, x: Any, y: Any) -> tuple[Any, Tree]:
        x, new = relu(convolution(p["conv"][0], x, 1, 1)), []
        for conv, norm, statistics in zip(p["conv"][1:], p["norm"], running):
            x, statistics = batch_norm(norm, statistics, relu(convolution(conv, x, 1, 1)), True)
            x = max_pool(x, 2, 2)
            new.append(statistics)
        x = linear(p["fc1"], x.mean((1, 2)))
        return cross_entropy(linear(p["fc2"], dropout(key, x, 0.5)), y), new

    def step(state: Tree, x: Any, y: Any) -> tuple[Tree, Any]:
        p, running, moments, key = state
        key, now = random.split(key)
        (loss, running), grad = jax.value_and_grad(loss_of, has_aux=True)(p, running, now, x, y)
        p, moments = adam(p, grad, moments, lr=1e-4)
        return (p, running, moments, key), loss

    batches = [
        (stream.normal(batch, size, size, 3), stream.integers(batch, below=convolutional.BREEDS)) for _ in range(2)
    ]
    running = [running_statistics(64), running_statistics(128)]
    return trainer(step, (p, running, adam_state(p), stream.key()), batches)


def resnet(stream: Stream, name: str, classes: int = 1000) -> tuple[Tree, Tree]:
    """Parameters and running statistics; a convolution and its norm share a key."""
    depths, expansion = residual.LAYOUTS[name]
    p, running = {}, {}

    def add(key: str, channels: int, features: int, kernel: int) -> None:
        p[key] = {"conv": stream.kaiming(channels, features, kernel), "norm": norm_parameters(features)}
        running[key] = running_statistics(features)

    add("stem", 3, 64, 7)
    channels = 64
    for stage, (width, depth) in enumerate(zip(residual.WIDTHS, depths)):
        for block in range(depth):
            key, out = f"{stage}.{block}", width * expansion
            kernels = [(channels, width, 3), (width, width, 3)]
            if expansion == 4:
                kernels = [(channels, width, 1), (width, width, 3), (width, out, 1)]
            for number, shape in enumerate(kernels):
                add(f"{key}.{number}", *shape)
            if channels != out or (stage and not block):
                add(f"{key}.skip", channels, out, 1)
            channels = out
    p["fc"] = stream.linear(channels, classes)
    return p, running


def resnet_forward(p: Tree, running: Tree, x: Any, name: str, train: bool) -> tuple[Any, Tree]:
    """Logits and new running statistics of images (N, H, W, 3)."""
    depths, expansion = residual.LAYOUTS[name]
    new = {}

    def unit(key: str, x: Any, stride: int = 1) -> Any:
        padding = p[key]["conv"]["w"].shape[0] // 2
        y = convolution(p[key]["conv"], x, stride, padding)
        y, new[key] = batch_norm(p[key]["norm"], running[key], y, train)
        return y

    x = max_pool(relu(unit("stem", x, 2)), 3, 2, 1)
    for stage, depth in enumerate(depths):
        for block in range(depth):
            key, stride = f"{stage}.{block}", 2 if stage and not block else 1
            skip = unit(f"{key}.skip", x, stride) if f"{key}.skip" in p else x
            if expansion == 1:
                y = unit(f"{key}.1", relu(unit(f"{key}.0", x, stride)))
            else:
                y = unit(f"{key}.2", relu(unit(f"{key}.1", relu(unit(f"{key}.0", x)), stride)))
            x = relu(y + skip)
    return linear(p["fc"], x.mean((1, 2))), new


def resnet_training(stream: Stream, size: int, batch: int = 16) -> Unit:
    p, running = resnet(stream, "resnet18")

    def loss_of(p: Tree, running: Tree, x: Any, y: Any) -> tuple[Any, Tree]:
        logits, running = resnet_forward(p, running, x, "resnet18", True)
        return cross_entropy(logits, y), running

    def step(state: Tree, x: Any, y: Any) -> tuple[Tree, Any]:
        p, running, momentum = state
        (loss, running), grad = jax.value_and_grad(loss_of, has_aux=True)(p, running, x, y)
        momentum = jax.tree.map(lambda m, g: 0.9 * m + g, momentum, grad)
        p = jax.tree.map(lambda p, m: p - 0.01 * m, p, momentum)
        return (p, running, momentum), loss

    batches = [(stream.normal(batch, size, size, 3), stream.integers(batch, below=1000)) for _ in range(2)]
    return trainer(step, (p, running, jax.tree.map(jnp.zeros_like, p)), batches)


def transfer(stream: Stream, batch: int = 32, classes: int = 133) -> Unit:
    backbone, running = resnet(stream, "resnet18")
    head = [stream.linear(1000, 512), stream.linear(512, classes)]

    def loss_of(head: Tree, features: Any, key: Any, y: Any) -> Any:
        return cross_entropy(linear(head[1], dropout(key, relu(linear(head[0], features)), 0.5)), y)

    def step(state: Tree, x: Any, y: Any) -> tuple[Tree, Any]:
        backbone, running, head, moments, key = state
        key, now = random.split(key)
        features, running = resnet_forward(backbone, running, x, "resnet18", True)
        loss, grad = jax.value_and_grad(loss_of)(head, features, now, y)
        head, moments = adam(head, grad, moments, lr=1e-4)
        return (backbone, running, head, moments, key), loss

    batches = [(stream.normal(batch, 224, 224, 3), stream.integers(batch, below=classes)) for _ in range(2)]
    return trainer(step, (backbone, running, head, adam_state(head), stream.key()), batches)


def inference(stream: Stream, name: str, batch: int) -> Unit:
    p, running = resnet(stream, name)
    settle = jax.jit(functools.partial(resnet_forward, name=name, train=True))
    running = settle(p, running, stream.normal(8, 64, 64, 3))[1]
    forward = jax.jit(lambda p, running, x: resnet_forward(p, running, x, name, False)[0])
    images = itertools.cycle([stream.normal(batch, 224, 224, 3) for _ in range(2)])
    return Unit(
        lambda: forward(p, running, next(images)),
        jax.__version__,
        wait=jax.block_until_ready,
        number=lambda logits: float(jnp.mean(logits)),
        each=True,
    )


def variational_autoencoder(stream: Stream) -> Unit:
    c, z, batch = generative.CAPACITY, generative.LATENT, generative.VAE_BATCH
    p = {
        "down": [stream.convolution(1, c, 4), stream.convolution(c, 2 * c, 4)],
        "mu": stream.linear(98 * c, z),
        "logvar": stream.linear(98 * c, z),
        "fc": stream.linear(z, 98 * c),
        "up": [stream.convolution(2 * c, c, 4), stream.convolution(c, 1, 4)],
    }

    def loss_of(p: Tree, key: Any, x: Any) -> Any:
        h = x
        for q in p["down"]:
            h = relu(convolution(q, h, 2, 1))
        h = h.reshape(batch, -1)
        mu, logvar = linear(p["mu"], h), linear(p["logvar"], h)
        latent = mu + jnp.exp(0.5 * logvar) * random.normal(key, mu.shape)
        h = relu(transposed_convolution(p["up"][0], linear(p["fc"], latent).reshape(-1, 7, 7, 2 * c)))
        image = jax.nn.sigmoid(transposed_convolution(p["up"][1], h))
        divergence = -0.5 * jnp.sum(1 + logvar - jnp.square(mu) - jnp.exp(logvar))
        return binary_cross_entropy(image, x).sum() + divergence

    def step(state: Tree, x: Any) -> tuple[Tree, Any]:
        p, moments, key = state
        key, now = random.split(key)
        loss, grad = jax.value_and_grad(loss_of)(p, now, x)
        p, moments = adam(p, grad, moments, weight_decay=1e-5)
        return (p, moments, key), loss

    batches = [(stream.uniform(batch, 28, 28, 1, low=0.0, high=1.0),) for _ in range(2)]
    return trainer(step, (p, adam_state(p), stream.key()), batches)


def conditional_gan(stream: Stream) -> Unit:
    batch, noise, classes = generative.GAN_BATCH, generative.NOISE, generative.CLASSES

    def perceptron(*sizes: int) -> Tree:
        layers = [stream.linear(*size) for size in itertools.pairwise(sizes)]
        return {"labels": stream.normal(classes, classes), "layers": layers}

    def leaky(x: Any) -> Any:
        return jnp.where(x >= 0, x, 0.2 * x)

    generator = perceptron(noise + classes, 256, 512, 1024, 784)
    critic = perceptron(784 + classes, 1024, 512, 256, 1)

    def generate(p: Tree, key: Any) -> tuple[Any, Any]:
        keys = random.split(key)
        labels = random.randint(keys[1], (batch,), 0, classes)
        x = jnp.concatenate([random.normal(keys[0], (batch, noise)), p["labels"][labels]], 1)
        for q in p["layers"][:-1]:
            x = leaky(linear(q, x))
        return jnp.tanh(linear(p["layers"][-1], x)), labels

    def judge(p: Tree, key: Any, images: Any, labels: Any) -> Any:
        x = jnp.concatenate([images.reshape(batch, 784), p["labels"][labels]], 1)
        for q, now in zip(p["layers"][:-1], random.split(key, 3)):
            x = dropout(now, leaky(linear(q, x)), 0.3)
        return jax.nn.sigmoid(linear(p["layers"][-1], x))[:, 0]

    def critic_loss(critic: Tree, generator: Tree, key: Any, images: Any, labels: Any) -> Any:
        keys = random.split(key, 3)
        real = binary_cross_entropy(judge(critic, keys[0], images, labels), 1.0).mean()
        return real + binary_cross_entropy(judge(critic, keys[1], *generate(generator, keys[2])), 0.0).mean()

    def generator_loss(generator: Tree, critic: Tree, key: Any) -> Any:
        keys = random.split(key)
        return binary_cross_entropy(judge(critic, keys[0], *generate(generator, keys[1])), 1.0).mean()

    def step(state: Tree, images: Any, labels: Any) -> tuple[Tree, Any]:
        generator, critic, g_moments, c_moments, key = state
        key, first, second = random.split(key, 3)
        c_loss, grad = jax.value_and_grad(critic_loss)(critic, generator, first, images, labels)
        critic, c_moments = adam(critic, grad, c_moments, lr=1e-4)
        g_loss, grad = jax.value_and_grad(generator_loss)(generator, critic, second)
        generator, g_moments = adam(generator, grad, g_moments, lr=1e-4)
        return (generator, critic, g_moments, c_moments, key), c_loss + g_loss

    state = (generator, critic, adam_state(generator), adam_state(critic), stream.key())
    batches = [
        (stream.uniform(batch, 28, 28, low=-1.0, high=1.0), stream.integers(batch, below=classes)) for _ in range(2)
    ]
    return trainer(step, state, batches)


def classifier(stream: Stream) -> Unit:
    d, heads, rate, layers = transformer.WIDTH, transformer.HEADS, transformer.DROPOUT, transformer.LAYERS

    def block() -> Tree:
        return {
            "norms": [norm_parameters(d), norm_parameters(d)],
            "qkv": stream.linear(d, 3 * d),
            "proj": stream.linear(d, d),
            "up": stream.linear(d, transformer.INNER),
            "down": stream.linear(transformer.INNER, d),
        }

    p = {
        "tokens": stream.normal(transformer.VOCABULARY, d),
        "positions": stream.normal(transformer.LENGTH, d),
        "blocks": [block() for _ in range(layers)],
        "norm": norm_parameters(d),
        "head": stream.linear(d, transformer.CLASSES),
    }

    def loss_of(p: Tree, key: Any, tokens: Any, y: Any) -> Any:
        n, t = tokens.shape
        keys = iter(random.split(key, 2 * layers + 1))
        x = dropout(next(keys), p["tokens"][tokens] + p["positions"], rate)
        for q in p["blocks"]:
            qkv = linear(q["qkv"], layer_norm(q["norms"][0], x)).reshape(n, t, 3, heads, d // heads)
            attended = jax.nn.dot_product_attention(*(qkv[:, :, part] for part in range(3))).reshape(n, t, d)
            x = x + dropout(next(keys), linear(q["proj"], attended), rate)
            inner = jax.nn.gelu(linear(q["up"], layer_norm(q["norms"][1], x)), approximate=False)
            x = x + dropout(next(keys), linear(q["down"], inner), rate)
        return cross_entropy(linear(p["head"], layer_norm(p["norm"], x).mean(1)), y)

    def step(state: Tree, tokens: Any, y: Any) -> tuple[Tree, Any]:
        p, moments, key = state
        key, now = random.split(key)
        loss, grad = jax.value_and_grad(loss_of)(p, now, tokens, y)
        p, moments = adam(p, grad, moments, lr=3e-4)
        return (p, moments, key), loss

    batches = [
        (
            stream.integers(transformer.BATCH, transformer.LENGTH, below=transformer.VOCABULARY),
            stream.integers(transformer.BATCH, below=transformer.CLASSES),
        )
        for _ in range(2)
    ]
    return trainer(step, (p, adam_state(p), stream.key()), batches)


BUILDERS = {
    "linreg": line,
    "tanhnet": tanh_network,
    "mlp": digits,
    "cgan": conditional_gan,
    "vae": variational_autoencoder,
    "bilstm": bidirectional_lstm,
    "dogcnn64": lambda stream: dog_breeds(stream, 64),
    "dogcnn224": lambda stream: dog_breeds(stream, 224),
    "transformer": classifier,
    "resnet18_train64": lambda stream: resnet_training(stream, 64),
    "resnet18_train": lambda stream: resnet_training(stream, 224),
    "transfer": transfer,
}


def build(implementation: str, workload: str, threads: int, seed: int) -> Unit:
    """The workload in JAX. The number of threads is an environment variable, set before JAX was imported."""
    stream = Stream(seed)
    if workload in BUILDERS:
        return BUILDERS[workload](stream)
    name, _, batch = workload.split("_")
    return inference(stream, name, int(batch.removeprefix("b")))
