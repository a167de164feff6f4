"""Implementations of a workload in processes of their own that take turns: A B C, C B A, …

While one is asked the others sleep, and every round asks all of them, so that changes of the machine's speed meet all
alike. A ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peers import IMPLEMENTATIONS
from benchmarks.worker import FIRST_STEPS
from benchmarks.workloads import WORKLOADS

ROOT = Path(__file__).resolve().parent.parent
SLOW = 20.0  # seconds of first steps from which one try has to do
BUSY = 0.15  # cores that others used during a round, above which a number is marked


@dataclass
class Options:
    """How to measure."""

    rounds: int = 7
    seconds: float = 1.0  # of one implementation in one round
    repetitions: int = 5  # a round's number is their median
    warm: float = 1.0
    patience: float = 600.0  # longest wait for an answer
    step_limit: float = 20.0  # a slower step is timed once, in the warm-up
    threads: int = 0
    seed: int = 0
    clock: str = "wall"
    cached: bool = True  # also start from a filled cache
    tries: int = 3  # of the first steps of processes that do nothing else
    memory: int = 1536  # MiB that the machine has at hand before the first steps (worker.py: TOUCH)
    pythons: dict[str, str] = field(default_factory=dict)  # interpreter by module; "" is the default

    def python(self, implementation: str) -> str:
        """The interpreter of an implementation: flambeau's is ours unless it was named."""
        name = IMPLEMENTATIONS[implementation].interpreter
        default = sys.executable if name == "flambeau" else self.pythons.get("", sys.executable)
        return self.pythons.get(name, default)


class Unavailable(Exception):
    """An implementation that cannot run here, or not this workload; the message is the reason."""


def obstacle(implementation: str, options: Options) -> str | None:
    """Why an implementation cannot run here, or None."""
    record, python = IMPLEMENTATIONS[implementation], options.python(implementation)
    if record.tools and not any(map(shutil.which, record.tools)) and not os.environ.get("CXX"):
        return f"needs a compiler: none of {', '.join(record.tools)} is on the path"
    program = "import importlib.util as u, sys; print(*[n for n in sys.argv[1:] if u.find_spec(n) is None])"
    command = [python, "-c", program, *record.needs]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, env=environment())
    except OSError as error:
        return f"{python}: {error.strerror}"
    missing = asked.stdout.split() if asked.returncode == 0 else list(record.needs)
    return f"{', '.join(missing)} not installed for {python}" if missing else None


def environment(**more: str) -> dict[str, str]:
    """Of a worker: the repository can be imported, from bytecode as an installed package is."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "", **more}


def busy_seconds() -> float | None:
    """Processor seconds that everybody on the machine has used so far; None where the system does not say."""
    statistics_file = Path("/proc/stat")
    if not statistics_file.exists():
        return None
    user, nice, system, _idle, _wait, *rest = map(int, statistics_file.read_text().splitlines()[0].split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


class Worker:
    """A process with one implementation of one workload."""

    def __init__(self, implementation: str, workload: str, options: Options, cache: str):
        self.name, self.patience = implementation, options.patience
        record = IMPLEMENTATIONS[implementation]
        places = {key: value.format(cache) for key, value in record.cache.items()}
        command = [options.python(implementation), "-m", "benchmarks.worker", implementation, workload]
        command += ["--threads", str(options.threads), "--seed", str(options.seed), "--clock", options.clock]
        command += ["--memory", str(options.memory)]
        self._log = tempfile.TemporaryFile("w+")
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
                env=environment(**places, **record.variables),
                cwd=ROOT,
            )
        except OSError as error:
            self._log.close()
            raise Unavailable(f"{command[0]}: {error.strerror}") from error
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        try:
            self.start = self._answer()
        except Unavailable:
            self.close()
            raise

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send a request, wait for the answer."""
        print(json.dumps({"do": do, **request}), file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """End the process; a stuck one is killed."""
        if self._process.poll() is None:
            self._process.stdin.close()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._selector, self._log):
            stream.close()

    def _answer(self) -> dict[str, Any]:
        if not self._selector.select(self.patience):
            self._process.kill()
            raise Unavailable(f"no answer within {self.patience:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            raise Unavailable(f"ended with {code}: {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise Unavailable(answer["error"])
        return answer

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().strip().splitlines()
        return lines[-1][:200] if lines else "no message"


def compare(workload: str, implementations: Iterable[str], options: Options, say: Any) -> dict[str, dict[str, Any]]:
    """Measure a workload; {implementation: facts}, or {"skipped": reason} for one that cannot run it."""
    found: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        workers = []
        for name in implementations:
            if WORKLOADS[workload].kind not in IMPLEMENTATIONS[name].kinds:
                continue
            cache = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            try:
                worker = Worker(name, workload, options, cache)
                stack.callback(worker.close)
                found[name] = _begin(worker, workload, options, cache)
                workers.append(worker)
                say(f"  {workload}: {name} ready, {found[name]['step_seconds'] * 1e3:.4g} ms a step")
            except Unavailable as reason:
                found[name] = {"skipped": str(reason)}
                say(f"  {workload}: {name} skipped, {reason}")
        _take_turns(workers, found, options)
    for facts in found.values():
        if facts.get("rounds"):
            facts["seconds"] = statistics.median(one["seconds"] for one in facts["rounds"])
            facts["least"] = min(one["seconds"] for one in facts["rounds"])
            facts["others"] = statistics.median(one["others"] for one in facts["rounds"])
        elif "step_seconds" in facts:
            facts["seconds"] = facts["least"] = facts["step_seconds"]
    return found


def _begin(worker: Worker, workload: str, options: Options, cache: str) -> dict[str, Any]:
    """The first steps, the warm-up, and the first steps of other processes that find the cache filled."""
    facts: dict[str, Any] = {**worker.start, **worker.ask("warm", seconds=options.warm), "rounds": []}
    facts["first_call"] = first_call(worker.start, facts["step_seconds"])
    if not options.cached:
        return facts
    record = IMPLEMENTATIONS[worker.name]
    names = [name for name in (worker.name if record.cache else "", record.plain) if name]
    tries: dict[str, list[float]] = {name: [] for name in names}
    slow = sum(worker.start["first_seconds"]) > SLOW
    for _ in range(1 if slow else options.tries):
        for name in names:
            tries[name].append(sum(_start(name, workload, options, cache)["first_seconds"]))
    middle = {name: statistics.median(seconds) for name, seconds in tries.items()}
    if record.cache:
        facts["cached_call"] = max(0.0, middle[worker.name] - FIRST_STEPS * facts["step_seconds"])
    if record.plain:  # with the cache that the others filled
        facts["compile"] = sum(worker.start["first_seconds"]) - middle[record.plain]
        if record.cache:
            facts["cached_compile"] = middle[worker.name] - middle[record.plain]
    return facts


def _start(name: str, workload: str, options: Options, cache: str) -> dict[str, Any]:
    """The first steps of a process that does nothing else."""
    worker = Worker(name, workload, options, cache)
    worker.close()
    return worker.start


def first_call(start: dict[str, Any], step_seconds: float) -> float:
    """Seconds that the first calls took beyond as many ordinary steps: tracing and compiling."""
    first = start["first_seconds"]
    return max(0.0, sum(first) - len(first) * step_seconds)


def _take_turns(workers: list[Worker], found: dict[str, dict[str, Any]], options: Options) -> None:
    turn = [worker for worker in workers if found[worker.name]["step_seconds"] < options.step_limit]
    for number in range(options.rounds):
        for worker in turn if number % 2 == 0 else turn[::-1]:
            before = busy_seconds()
            answer = worker.ask("round", seconds=options.seconds, repetitions=options.repetitions)
            after = busy_seconds()
            others = 0.0 if before is None or after is None else (after - before - answer["cpu"]) / answer["wall"]
            found[worker.name]["rounds"].append({**answer, "others": max(0.0, others)})
    for worker in workers:
        found[worker.name].update({**worker.ask("memory"), **worker.ask("how")})


def ratio(facts: dict[str, Any], base: dict[str, Any]) -> float | None:
    """facts' time over base's, the median over the rounds that both have; None if one was not measured."""
    if "seconds" not in facts or "seconds" not in base:
        return None
    pairs = list(zip(facts["rounds"], base["rounds"]))
    if not pairs:
        return facts["seconds"] / base["seconds"]
    return statistics.median(a["seconds"] / b["seconds"] for a, b in pairs)
