"""Compiled against eager flambeau: the same steps from the same seed, then losses and state compared.

Losses (outputs, for inference) must agree to 1e-5 relative at every step; so must, at the end, every tensor of the
models and optimizers, relative to its own norm. Printed with it: of which steps the compiled programs are made.

Some training is chaotic: from random weights on random pictures ResNet-18 doubles a difference in the last bit at every
step, whoever computes it. `--lockstep` gives both the same state (and random numbers) before every step and compares
after it: losses are then held to the tolerance at every step by itself, states to 2e-2. A unit whose input is zero but
for rounding may be on for one and off for the other, and gradients that it reaches jump: by 3e-4 of their norm in
the VAE's eighth step, 1e-2 in one of ResNet-18's at 64x64, where one channel of 64 differs, the others by 1e-7.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks import anatomy
from benchmarks.report import table
from benchmarks.table import names
from benchmarks.workloads import TABLE, WORKLOADS
from benchmarks.workloads.work import without_gradient

TOLERANCE = 1e-5
KINK = 2e-2


@dataclass
class Trace:
    """A run's values step by step (NumPy arrays), its final state, and what was compiled (None: eager)."""

    values: list[Any]
    state: dict[str, Any]
    compiled: Any = None


def run(torch: Any, workload: str, steps: int, compile: Callable[..., Any] | None = None, seed: int = 0) -> Trace:
    """`steps` steps of a workload from a fresh start."""
    torch.manual_seed(seed)
    chosen = WORKLOADS[workload]
    work = chosen.build(torch, None)
    compiled = compile(work.step) if compile else None
    step = compiled or work.step
    if chosen.kind == "infer":
        step = without_gradient(torch, step)
    values = []
    for batch in itertools.islice(itertools.cycle(work.batches), steps):
        value = step(*batch)
        value = value[0] if isinstance(value, (tuple, list)) else value
        values.append(value.detach().numpy().copy())
    return Trace(values, {name: tensor.detach().numpy().copy() for name, tensor in work.state().items()}, compiled)


def in_lockstep(torch: Any, workload: str, steps: int, seed: int = 0) -> tuple[Trace, Trace]:
    """`steps` steps eager and compiled, each from the eager run's state. Of a state the worst step's is kept."""
    chosen = WORKLOADS[workload]
    works = []
    for _ in range(2):
        torch.manual_seed(seed)
        works.append(chosen.build(torch, None))
    compiled = torch.compile(works[1].step)
    calls = [works[0].step, compiled]
    if chosen.kind == "infer":
        calls = [without_gradient(torch, call) for call in calls]
    traces = [Trace([], {}), Trace([], {}, compiled)]
    worst: dict[str, float] = {}
    for batch in itertools.islice(itertools.cycle(works[0].batches), steps):
        given = works[0].state()
        with torch.no_grad():
            for name, tensor in works[1].state().items():
                tensor.copy_(given[name])
        draws = torch.get_rng_state()
        for call, trace in zip(calls, traces):
            torch.set_rng_state(draws)
            value = call(*batch)
            value = value[0] if isinstance(value, (tuple, list)) else value
            trace.values.append(value.detach().numpy().copy())
        states = [work.state() for work in works]
        if states[0].keys() != states[1].keys():
            return traces[0], Trace(traces[1].values, {}, compiled)
        for name in states[0]:
            expected, found = (state[name].detach().numpy() for state in states)
            far = distance(found, expected)
            if name not in worst or far > worst[name]:
                worst[name] = far
                traces[0].state[name], traces[1].state[name] = expected.copy(), found.copy()
    return traces[0], traces[1]


def distance(a: Any, b: Any) -> float:
    """Norm of a - b over the norm of b; 0 for equal arrays (also of zeros), inf where one is not finite."""
    import numpy as np

    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        return math.inf
    difference, norm = float(np.linalg.norm(a - b)), float(np.linalg.norm(b))
    if difference == 0:
        return 0.0
    return difference / norm if norm and math.isfinite(difference) else math.inf


def compare(a: Trace, b: Trace) -> tuple[float, float, str]:
    """The greatest distance of values and of state, and the name of the tensor where the latter is."""
    values = max((distance(x, y) for x, y in zip(a.values, b.values)), default=0.0)
    if a.state.keys() != b.state.keys():
        return values, math.inf, ", ".join(sorted(a.state.keys() ^ b.state.keys()))
    state = {name: distance(a.state[name], b.state[name]) for name in b.state}
    worst = max(state, key=lambda name: state[name], default="")
    return values, state.get(worst, 0.0), worst


def main(parser: argparse.ArgumentParser, arguments: list[str]) -> int:
    """Compare each workload; 1 if one is out of tolerance."""
    parser.add_argument("--only", metavar="NAME,…", help=f"of {', '.join(TABLE)}")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--lockstep", action="store_true", help="every step from the eager run's state")
    chosen = parser.parse_args(arguments)
    import flambeau as torch

    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    head = ["workload", "losses differ", "state differs", "most in", "steps of the programs", "seconds", ""]
    rows, failed = [], False
    for workload in names(chosen.only, TABLE, parser) if chosen.only else TABLE:
        start = time.perf_counter()
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")  # why it stayed eager is told in the table
            if chosen.lockstep:
                expected, found = in_lockstep(torch, workload, chosen.steps)
            else:
                expected = run(torch, workload, chosen.steps)
                found = run(torch, workload, chosen.steps, torch.compile)
        values, state, worst = compare(found, expected)
        good = values <= TOLERANCE and state <= (KINK if chosen.lockstep else TOLERANCE)
        failed |= not good
        seconds = time.perf_counter() - start
        cells = [workload, f"{values:.1e}", f"{state:.1e}", worst, anatomy.in_words(found.compiled), f"{seconds:.0f}"]
        rows.append([*cells, "" if good else "FAILED"])
        print(f"{workload}: {'good' if good else 'FAILED'}", file=sys.stderr, flush=True)
    print("\n".join(table(head, rows)))
    return int(failed)
