"""Where a step of one workload goes in flambeau.

Compiled: the time of a whole step, the kinds of steps of its program, the time of each kind where the program can tell
it, and what `flambeau.compiler.explain` says (`--explain`). Eager (`--eager`): time by op, from flambeau's profiler.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import anatomy
from benchmarks.report import in_words, table
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.work import without_gradient


def timed(step: Callable[[], Any], seconds: float) -> dict[str, float]:
    """Median and least seconds of a step; processor seconds, system seconds and page faults per step."""
    for _ in range(3):
        step()
    times: list[float] = []
    before = resource.getrusage(resource.RUSAGE_SELF)
    while not times or sum(times) < seconds:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    after = resource.getrusage(resource.RUSAGE_SELF)
    count = len(times)
    return {
        "median": statistics.median(times),
        "least": min(times),
        "processor": (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / count,
        "system": (after.ru_stime - before.ru_stime) / count,
        "faults": (after.ru_minflt - before.ru_minflt) / count,
    }


def by_step(compiled: Any, step: Callable[[], Any]) -> list[list[str]]:
    """Rows (step, seconds) of the programs that can time their steps (`timed(bool)`, `timings()`); none if none can."""
    tellers = [program for program in anatomy.programs(compiled) if hasattr(program, "timings")]
    if not tellers:
        return []
    for program in tellers:
        program.timed(True)
    step()
    rows = [(name, seconds) for program in tellers for name, seconds in program.timings()]
    for program in tellers:
        program.timed(False)
    total = sum(seconds for _, seconds in rows) or 1.0
    rows.sort(key=lambda row: -row[1])
    return [[name, in_words(seconds), f"{100 * seconds / total:.1f} %"] for name, seconds in rows]


def eager_profile(torch: Any, step: Callable[[], Any]) -> str:
    """The profiler's table of one step, most expensive op first."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        step()
    return profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=25)


def main(parser: argparse.ArgumentParser, arguments: list[str]) -> int:
    """Measure and print."""
    parser.add_argument("workload", choices=list(WORKLOADS), metavar="WORKLOAD", help=", ".join(WORKLOADS))
    parser.add_argument("--eager", action="store_true", help="op by op instead of compiled")
    parser.add_argument("--explain", action="store_true", help="also print graph, fusion groups and memory plan")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=0)
    chosen = parser.parse_args(arguments)
    import flambeau as torch

    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    workload = WORKLOADS[chosen.workload]
    work = workload.build(torch, None)
    compiled = work.step if chosen.eager else torch.compile(work.step)
    step = work.feed(without_gradient(torch, compiled) if workload.kind == "infer" else compiled)
    start = time.perf_counter()
    step()
    first = time.perf_counter() - start
    facts = timed(step, chosen.seconds)
    print(
        f"{chosen.workload}: {in_words(facts['median'])} a step (least {in_words(facts['least'])}), first {first:.2f} s"
    )
    print(
        f"processor time {in_words(facts['processor'])}, of it in the kernel {in_words(facts['system'])};"
        f" {facts['faults']:.0f} page faults a step"
    )
    if chosen.eager:
        print(eager_profile(torch, step))
        return 0
    print(f"program: {anatomy.in_words(compiled)}")
    rows = by_step(compiled, step)
    print("\n".join(table(["step", "time", "share"], rows)) if rows else "its programs do not time their steps")
    if chosen.explain:
        explain = getattr(torch.compiler, "explain", None)
        if explain is None:
            print("this flambeau has no flambeau.compiler.explain", file=sys.stderr)
            return 1
        print(explain(work.step)(*work.batches[0]))
    return 0
