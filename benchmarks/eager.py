"""Op by op: flambeau eager against PyTorch eager on the smaller workloads, in turns, and the time of an import.

Results go to benchmarks/results/DATE.md and .json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from typing import Any

from benchmarks import report
from benchmarks.peers import IMPLEMENTATIONS
from benchmarks.table import add_options, destinations, measure, names, options_from
from benchmarks.turns import Options, environment, obstacle
from benchmarks.workloads import EAGER, WORKLOADS

PROGRAM = "import sys, time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def import_seconds(options: Options, rounds: int) -> dict[str, float]:
    """Median seconds beyond `import numpy` that a fresh interpreter takes for flambeau and, where it is, PyTorch."""
    # An import is timed as the second one of an installed package: with its bytecode on disk.
    variables = environment()
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    libraries = {"flambeau": "flambeau-eager", "torch": "torch"}
    pythons = {name: options.python(own) for name, own in libraries.items() if obstacle(own, options) is None}
    beyond: dict[str, list[float]] = {name: [] for name in pythons}
    for number in range(rounds + 1):
        for name, python in pythons.items():
            numpy, library = (
                float(subprocess.run([python, "-c", PROGRAM.format(module)], env=variables, check=True,
                                     capture_output=True, text=True).stdout)
                for module in ("numpy", name)
            )  # fmt: skip
            if number:  # the first round fills the file cache and writes the bytecode
                beyond[name].append(library - numpy)
    return {name: statistics.median(seconds) for name, seconds in beyond.items()}


def main(parser: argparse.ArgumentParser, arguments: list[str]) -> int:
    """Measure, print, write."""
    add_options(parser, ["torch"])
    parser.set_defaults(subject="flambeau-eager")
    chosen = parser.parse_args(arguments)
    workloads = names(chosen.only, WORKLOADS, parser) if chosen.only else EAGER
    implementations = names(chosen.subject, IMPLEMENTATIONS, parser) + names(chosen.peers, IMPLEMENTATIONS, parser)
    text_file, data_file = destinations(chosen)
    options = options_from(chosen)
    run = measure(workloads, implementations, options, save=lambda run: None)
    run["import_seconds"] = import_seconds(options, chosen.rounds)
    text = report.markdown(run) + "\n" + import_line(run["import_seconds"]) + "\n"
    for path, content in ((data_file, json.dumps(run, indent=1) + "\n"), (text_file, text)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    print(text)
    print(f"written to {text_file} and {data_file}", file=sys.stderr)
    return 0


def import_line(seconds: dict[str, Any]) -> str:
    """One sentence on import times."""
    parts = [f"{name} {report.in_words(value)}" for name, value in seconds.items()]
    return f"Importing, beyond `import numpy`: {', '.join(parts)}."
