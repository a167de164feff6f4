"""The little of a library that the JAX workloads need: layers as functions of dictionaries, optimizers as a few lines.

Written the way JAX on a CPU likes it best: NHWC images, one jitted function for the whole step, its state donated.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax, random

from benchmarks.peers import Unit

Tree = Any


class Stream:
    """Keys, one after the other, and PyTorch's default initializers drawn with them."""

    def __init__(self, seed: int):
        self._key = random.PRNGKey(seed)

    def key(self) -> Any:
        self._key, key = random.split(self._key)
        return key

    def normal(self, *shape: int, std: float = 1.0) -> Any:
        return std * random.normal(self.key(), shape)

    def uniform(self, *shape: int, low: float, high: float) -> Any:
        return random.uniform(self.key(), shape, minval=low, maxval=high)

    def integers(self, *shape: int, below: int, low: int = 0) -> Any:
        return random.randint(self.key(), shape, low, below)

    def linear(self, inputs: int, outputs: int) -> Tree:
        bound = inputs**-0.5
        return {
            "w": self.uniform(inputs, outputs, low=-bound, high=bound),
            "b": self.uniform(outputs, low=-bound, high=bound),
        }

    def convolution(self, channels: int, features: int, kernel: int) -> Tree:
        bound = (channels * kernel**2) ** -0.5
        return {
            "w": self.uniform(kernel, kernel, channels, features, low=-bound, high=bound),
            "b": self.uniform(features, low=-bound, high=bound),
        }

    def kaiming(self, channels: int, features: int, kernel: int) -> Tree:
        std = (2 / (features * kernel**2)) ** 0.5
        return {"w": self.normal(kernel, kernel, channels, features, std=std)}


def linear(p: Tree, x: Any) -> Any:
    return x @ p["w"] + p["b"]


def convolution(p: Tree, x: Any, stride: int = 1, padding: int = 0) -> Any:
    """(N, H, W, C) by (kh, kw, C, F)."""
    y = lax.conv_general_dilated(
        x, p["w"], (stride, stride), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return y + p["b"] if "b" in p else y


def transposed_convolution(p: Tree, x: Any) -> Any:
    """Kernel 4, stride 2, padding 1: twice the size."""
    return lax.conv_transpose(x, p["w"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")) + p["b"]


def norm_parameters(features: int) -> Tree:
    return {"w": jnp.ones(features), "b": jnp.zeros(features)}


def running_statistics(features: int) -> Tree:
    return {"mean": jnp.zeros(features), "var": jnp.ones(features)}


def batch_norm(p: Tree, running: Tree, x: Any, train: bool) -> tuple[Any, Tree]:
    """The normalized x and the new running statistics (momentum 0.1, unbiased variance, as PyTorch keeps them)."""
    mean, var = running["mean"], running["var"]
    if train:
        count = x.size // x.shape[-1]
        mean = x.mean((0, 1, 2))
        var = jnp.square(x).mean((0, 1, 2)) - jnp.square(mean)
        running = {
            "mean": 0.9 * running["mean"] + 0.1 * mean,
            "var": 0.9 * running["var"] + 0.1 * var * count / (count - 1),
        }
    scale = p["w"] * lax.rsqrt(var + 1e-5)
    return x * scale + (p["b"] - mean * scale), running


def layer_norm(p: Tree, x: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred * lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-5) * p["w"] + p["b"]


def max_pool(x: Any, kernel: int, stride: int, padding: int = 0) -> Any:
    edge = (padding, padding)
    window, strides = (1, kernel, kernel, 1), (1, stride, stride, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, [(0, 0), edge, edge, (0, 0)])


def dropout(key: Any, x: Any, rate: float) -> Any:
    return jnp.where(random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0.0)


def cross_entropy(logits: Any, labels: Any) -> Any:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()


def binary_cross_entropy(p: Any, target: Any) -> Any:
    """By element; logarithms are cut at -100, as PyTorch does."""
    return -(target * jnp.maximum(jnp.log(p), -100) + (1 - target) * jnp.maximum(jnp.log(1 - p), -100))


def adam_state(p: Tree) -> Tree:
    return {"m": jax.tree.map(jnp.zeros_like, p), "v": jax.tree.map(jnp.zeros_like, p), "t": jnp.zeros((), jnp.int32)}


def adam(p: Tree, grad: Tree, state: Tree, lr: float = 1e-3, weight_decay: float = 0.0) -> tuple[Tree, Tree]:
    """Kingma & Ba 2015, algorithm 1, with L2 decay in the gradient."""
    if weight_decay:
        grad = jax.tree.map(lambda g, p: g + weight_decay * p, grad, p)
    t = state["t"] + 1
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state["m"], grad)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, state["v"], grad)
    first, second = 1 - 0.9 ** t.astype(jnp.float32), 1 - 0.999 ** t.astype(jnp.float32)
    p = jax.tree.map(lambda p, m, v: p - lr / first * m / (jnp.sqrt(v) / jnp.sqrt(second) + 1e-8), p, m, v)
    return p, {"m": m, "v": v, "t": t}


def trainer(step: Callable[..., tuple[Tree, Any]], state: Tree, batches: Sequence[tuple[Any, ...]]) -> Unit:
    """`step(state, *batch) -> (state, loss)` as one jitted program that reuses the memory of the old state."""
    program, feed, held = jax.jit(step, donate_argnums=0), itertools.cycle(batches), [state]

    def go() -> Any:
        held[0], loss = program(held[0], *next(feed))
        return loss

    return Unit(go, jax.__version__, wait=jax.block_until_ready, number=lambda loss: float(jnp.ravel(loss)[0]))
