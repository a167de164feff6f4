"""The table of the README: flambeau and PyTorch on the same work, measured in turns.

    python benchmarks/run.py [WORKLOAD…] [--rounds 9] [--window 0.3] [--threads 0] [--save results/FILE.md]

Times are medians over the rounds; a ratio is the median of the rounds' ratios, and above 1 flambeau is faster. Every
library has a process of its own and only one works at a time. Where PyTorch is not installed its columns stay empty.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from workloads import WORKLOADS

HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])}
ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)  # an import is timed as the second one of an installed package


class Worker:
    """A process that holds one library and one workload."""

    def __init__(self, library, workload, threads):
        command = [sys.executable, str(HERE / "worker.py"), library, workload, str(threads)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
        )
        self.version = self._answer()["version"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()

    def measure(self, seconds):
        """Seconds per step, and the process's peak memory so far in MiB."""
        print(seconds, file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self.process.args[2:])} ended early; its error is above")
        return json.loads(line)


def compare(workload, libraries, rounds, window, threads):
    """{library: {"seconds": […], "peak_mib": …, "version": …}}, the libraries in turns after a warm-up each."""
    found = {}
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(name, workload, threads)) for name in libraries}
        for name, worker in workers.items():
            worker.measure(2 * window)
            found[name] = {"seconds": [], "version": worker.version}
        for _ in range(rounds):
            for name, worker in workers.items():
                answer = worker.measure(window)
                found[name]["seconds"].append(answer["seconds"])
                found[name]["peak_mib"] = answer["peak_mib"]
    return found


def import_times(rounds):
    """{module: seconds […]} that a fresh interpreter takes to import numpy, flambeau and, if present, torch."""
    modules = ["numpy", "flambeau", *(["torch"] if torch_is_installed() else [])]
    program = "import sys, time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
    found = {module: [] for module in modules}
    for number in range(rounds + 1):
        for module in modules:
            command = [sys.executable, "-c", program.format(module)]
            shown = subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True, text=True).stdout
            if number:  # the first round fills the file cache and writes the bytecode
                found[module].append(float(shown))
    return found


def torch_is_installed():
    return importlib.util.find_spec("torch") is not None


def in_words(seconds):
    """Seconds in the unit that fits: 1.23 µs, 45.6 ms."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size or unit == "µs":
            return f"{seconds / size:.3g} {unit}"


def row(workload, found):
    """A line of the table."""
    summary = WORKLOADS[workload].__doc__.splitlines()[0].rstrip(".").replace("|", "·")
    ours, theirs = found["flambeau"], found.get("torch")
    cells = [summary, in_words(statistics.median(ours["seconds"]))]
    if theirs:
        ratios = [b / a for a, b in zip(ours["seconds"], theirs["seconds"])]
        cells += [in_words(statistics.median(theirs["seconds"])), f"{statistics.median(ratios):.2f}×"]
        cells += [f"{ours['peak_mib']:.0f} / {theirs['peak_mib']:.0f} MiB"]
    else:
        cells += ["", "", f"{ours['peak_mib']:.0f} MiB"]
    return f"| {' | '.join(cells)} |"


def import_row(found):
    """The line on import time: flambeau's and PyTorch's milliseconds beyond numpy's, paired by round."""
    beyond = {
        name: statistics.median(b - a for a, b in zip(found["numpy"], times)) for name, times in found.items()
    }
    cells = ["`import`, beyond `import numpy`", in_words(beyond["flambeau"])]
    if "torch" in found:
        cells += [in_words(beyond["torch"]), f"{beyond['torch'] / beyond['flambeau']:.2f}×"]
    else:
        cells += ["", ""]
    return f"| {' | '.join([*cells, ''])} |"


def machine(versions):
    """Processor, cores, versions and date, so that a table says where it comes from."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [line for line in information.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores; Python {platform.python_version()}; {libraries}; {time.strftime('%Y-%m-%d')}."


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"import, {', '.join(WORKLOADS)}; all if none")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--window", type=float, default=0.3, help="seconds of each measurement")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as each library takes by itself")
    parser.add_argument("--save", type=Path, help="write the table to a file as well")
    options = parser.parse_args()
    chosen = options.workloads or [*WORKLOADS, "import"]
    unknown = set(chosen) - {*WORKLOADS, "import"}
    if unknown:
        parser.error(f"no workload {', '.join(sorted(unknown))}; there are import, {', '.join(WORKLOADS)}")

    libraries = ["flambeau", *(["torch"] if torch_is_installed() else [])]
    lines = []

    def show(line):
        print(line, flush=True)
        lines.append(line)

    show("| work | flambeau | PyTorch | PyTorch / flambeau | peak memory |")
    show("| --- | ---: | ---: | ---: | ---: |")
    versions = {}
    for workload in chosen:
        if workload == "import":
            show(import_row(import_times(options.rounds)))
            continue
        found = compare(workload, libraries, options.rounds, options.window, options.threads)
        versions = {"PyTorch" if name == "torch" else name: facts["version"] for name, facts in found.items()}
        show(row(workload, found))
    show("")
    show(machine(versions))
    if options.save:
        options.save.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
