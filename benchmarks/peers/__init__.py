"""The implementations that the tables compare: flambeau itself and its peers, each in a module that builds a `Unit`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Unit:
    """One workload in one implementation, ready to run.

    `wait(value)` returns when the value of a step is there; a synchronous library need not. `each`: wait after every
    step (calls that do not depend on one another), not only after the last one of a repetition.
    """

    step: Callable[[], Any]
    version: str
    wait: Callable[[Any], Any] = lambda value: None
    number: Callable[[Any], float] = float
    each: bool = False
    how: Callable[[], str] = lambda: ""  # afterwards, in words: what it compiled


@dataclass(frozen=True)
class Implementation:
    """Where an implementation is built, what it needs, and where its compiled programs are cached on disk.

    `build(implementation, workload, threads, seed)` lives in `benchmarks.peers.<module>`. `cache` names the environment
    variables that place the cache ("{}" is the folder); none: it has no cache. `variables` are set besides. `plain` is
    the implementation that does the same without compiling.
    """

    title: str
    module: str
    needs: tuple[str, ...]
    kinds: tuple[str, ...] = ("train", "infer")
    tools: tuple[str, ...] = ()  # one of these compilers must be on the path
    cache: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    plain: str = ""

    def builder(self) -> Callable[[str, str, int, int], Unit]:
        """The function that builds a `Unit`; imported only in the process that runs it."""
        return importlib.import_module(f"benchmarks.peers.{self.module}").build

    @property
    def interpreter(self) -> str:
        """The name under which `--python NAME=PATH` sets its interpreter."""
        return self.needs[0]


_EVERY_KIND = ("train", "infer", "eager")
_COMPILERS = ("g++", "c++", "clang++")
_OURS = {"FLAMBEAU_CACHE": "{}"}
_INDUCTOR = {"TORCHINDUCTOR_CACHE_DIR": "{}"}

IMPLEMENTATIONS: dict[str, Implementation] = {
    "flambeau": Implementation("flambeau", "modules", ("flambeau",), cache=_OURS, plain="flambeau-eager"),
    "flambeau-eager": Implementation("flambeau eager", "modules", ("flambeau",), _EVERY_KIND, cache=_OURS),
    "torch": Implementation("PyTorch eager", "modules", ("torch",), _EVERY_KIND),
    "torch-compile": Implementation(
        "torch.compile", "modules", ("torch",), tools=_COMPILERS, cache=_INDUCTOR, plain="torch"
    ),
    "torch-compile-frozen": Implementation(
        "torch.compile, frozen", "modules", ("torch",), ("infer",), _COMPILERS, _INDUCTOR, plain="torch"
    ),
    "jax": Implementation(
        "JAX jit",
        "with_jax",
        ("jax",),
        cache={"JAX_COMPILATION_CACHE_DIR": "{}", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"},
    ),
    "tinygrad": Implementation(
        "tinygrad",
        "with_tinygrad",
        ("tinygrad",),
        tools=("clang",),
        cache={"CACHEDB": "{}/cache.db"},
        variables={"BEAM": "0"},
    ),
    "onnxruntime": Implementation("ONNX Runtime", "with_onnxruntime", ("onnxruntime", "onnx", "torch"), ("infer",)),
}
OURS = ("flambeau", "flambeau-eager")
PEERS = ["torch", "torch-compile", "jax", "tinygrad", "onnxruntime"]
