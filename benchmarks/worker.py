"""One implementation of one workload in a process of its own, which works only when it is asked to.

    python -m benchmarks.worker IMPLEMENTATION WORKLOAD [--threads N] [--seed N]

It builds the workload, runs the first steps and answers with a line of JSON; then each line on standard input is a
request (`{"do": "round", "seconds": 0.3, "repetitions": 5}`) and gets a line in return. End of input ends it.
Standard library only: it runs under the interpreter of every peer.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

# A virtual machine may give what is free back to its host within seconds; to touch it again cost 0.2 to 4 ms a MiB on
# one (1,536 MiB: 6.0 s, then 0.3 s, after three idle seconds 1.5 s). That is the host's time, not a library's.
TOUCH = """
import mmap, sys
size = int(sys.argv[1]) << 20
memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
if hasattr(mmap, "MADV_HUGEPAGE"):
    memory.madvise(mmap.MADV_HUGEPAGE)
memoryview(memory)[::4096] = bytes(size // 4096)
"""
QUICK = 0.4  # milliseconds a MiB from which memory is touched again: it came from the host

FIRST_STEPS = 3  # some compile again at the second call (state of the optimizer), tinygrad replays from the third


def set_threads(count: int) -> None:
    """Limit every library's threads; before any of them is imported. 0 leaves them alone."""
    if not count:
        return
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC", "NUM_CPU_THREADS"):
        os.environ[name] = str(count)
    if count == 1:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
        os.environ["THREADS"] = "0"  # tinygrad's switch
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def touch(mib: int) -> None:
    """Let a process of its own touch as much memory and leave, so that the machine has it at hand."""
    if not mib:
        return
    if "SC_AVPHYS_PAGES" in os.sysconf_names:
        mib = min(mib, os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 21)  # half of what is free
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-I", "-S", "-c", TOUCH, str(mib)], check=False, stderr=subprocess.DEVNULL)
        if time.perf_counter() - start < QUICK * mib * 1e-3:
            return


class Meter:
    """Times the steps of a `Unit` by `clock` and watches the memory of the process.

    First steps are always timed by the wall's clock: some compilers run in processes of their own.
    """

    def __init__(
        self, unit: Any, clock: Callable[[], float] = time.perf_counter, wall: Callable[[], float] = time.perf_counter
    ):
        self.unit, self.clock, self.wall = unit, clock, wall
        self.step_seconds = float("inf")
        self.peak_mib = 0.0

    def first_steps(self) -> dict[str, Any]:
        """The first calls, one by one: tracing, compiling, loading from a cache."""
        seconds, value = [], None
        for _ in range(FIRST_STEPS):
            start = self.wall()
            value = self.unit.step()
            self.unit.wait(value)
            seconds.append(self.wall() - start)
        self.step_seconds = min(seconds)
        return {"first_seconds": seconds, "value": self.unit.number(value)}

    def warm(self, seconds: float) -> dict[str, Any]:
        """Steps for about `seconds` (at least one), then memory counts anew: what follows is the steady state."""
        end, count = time.perf_counter() + seconds, 0
        while not count or time.perf_counter() < end:
            start = self.clock()
            self.unit.wait(self.unit.step())
            self.step_seconds = min(self.step_seconds, self.clock() - start)
            count += 1
        self._forget_peak()
        return {"step_seconds": self.step_seconds}

    def round(self, seconds: float, repetitions: int) -> dict[str, Any]:
        """Median seconds per step over `repetitions` runs of steps that fill `seconds` together; one at least."""
        steps = max(1, round(seconds / repetitions / self.step_seconds))
        repetitions = max(1, min(repetitions, round(seconds / (steps * self.step_seconds))))
        before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        times = [self._repetition(steps) for _ in range(repetitions)]
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        self.step_seconds = min(self.step_seconds, *times)
        return {
            "seconds": statistics.median(times),
            "steps": steps * repetitions,
            "wall": wall,
            "cpu": cpu,
            "system": after.ru_stime - before.ru_stime,
            "faults": (after.ru_minflt - before.ru_minflt) / (steps * repetitions),
        }

    def _repetition(self, steps: int) -> float:
        step, wait, clock = self.unit.step, self.unit.wait, self.clock
        start = clock()
        if self.unit.each:
            for _ in repeat(None, steps):
                wait(step())
        else:
            for _ in repeat(None, steps):
                value = step()
            wait(value)
        return (clock() - start) / steps

    def memory(self) -> dict[str, Any]:
        """Peak resident memory in MiB: of the whole life of the process, and since the end of the warm-up."""
        steady = _peak_mib()
        return {"peak_mib": max(self.peak_mib, steady), "steady_peak_mib": steady}

    def how(self) -> dict[str, Any]:
        """What the unit says about itself after its steps."""
        return {"how": self.unit.how()}

    def _forget_peak(self) -> None:
        """Start the kernel's high-water mark anew, where it can be (Linux); the old one is kept."""
        self.peak_mib = max(self.peak_mib, _peak_mib())
        marks = Path("/proc/self/clear_refs")
        if marks.exists():
            try:
                marks.write_text("5")
            except PermissionError:
                return  # some containers forbid it: then the steady peak is the peak of all


def _peak_mib() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: that remembers the process which started this one, and how large it was.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def serve(
    build: Callable[[], Any], clock: str, requests: Any, answer: Callable[[dict[str, Any]], None], memory: int = 0
) -> None:
    """Build, run the first steps with `memory` MiB at hand, then answer each request until there are none."""
    start = time.perf_counter()
    unit = build()
    meter = Meter(unit, CLOCKS[clock])
    built = time.perf_counter() - start
    touch(memory)
    answer({"version": unit.version, "build_seconds": built, **meter.first_steps()})
    for line in requests:
        request = json.loads(line)
        answer(getattr(meter, request.pop("do"))(**request))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("implementation")
    parser.add_argument("workload")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    parser.add_argument("--memory", type=int, default=0, help="MiB to have at hand for the first steps")
    options = parser.parse_args()
    set_threads(options.threads)
    # Libraries print what they like to standard output; the protocol has the real one to itself.
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(facts: dict[str, Any]) -> None:
        print(json.dumps(facts), file=channel)

    from benchmarks.peers import IMPLEMENTATIONS

    builder = IMPLEMENTATIONS[options.implementation].builder()
    try:
        serve(
            lambda: builder(options.implementation, options.workload, options.threads, options.seed),
            options.clock,
            sys.stdin,
            answer,
            options.memory,
        )
    except Exception as error:  # whatever a peer raises, the table wants the reason
        traceback.print_exc()
        answer({"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"[:300]})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
