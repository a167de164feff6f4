"""flambeau and PyTorch: the workloads' own code, eager or compiled.

`flambeau.compile` takes the whole step. `torch.compile` takes forward with loss and, apart, the optimizer's update: on
the whole step its graph breaks at `zero_grad` and `backward`. "Frozen" is inductor's option for inference: weights are
constants, batch norm is folded into convolutions, layouts are chosen ahead of time.
"""

from __future__ import annotations

import importlib
from typing import Any

from benchmarks import anatomy
from benchmarks.peers import Unit
from benchmarks.workloads import WORKLOADS, compiled


def build(implementation: str, workload: str, threads: int, seed: int) -> Unit:
    """The workload in "flambeau", "flambeau-eager", "torch", "torch-compile" or "torch-compile-frozen"."""
    library, _, mode = implementation.partition("-")
    torch = importlib.import_module(library)
    if threads:
        torch.set_num_threads(threads)
    if mode == "compile-frozen":
        importlib.import_module("torch._inductor.config").freezing = True
    compile = None if mode == "eager" or implementation == "torch" else torch.compile
    torch.manual_seed(seed)
    chosen = WORKLOADS[workload]
    go, step = compiled(torch, chosen.build, chosen.kind, compile, pieces=library == "torch")
    unit = Unit(go, str(torch.__version__), number=_number, each=chosen.kind == "infer")
    if implementation == "flambeau":
        unit.how = lambda: anatomy.in_words(step)
    return unit


def _number(value: Any) -> float:
    """The mean of a step's value; the first of several."""
    value = value[0] if isinstance(value, (tuple, list)) else value
    return float(value.detach().float().mean())
