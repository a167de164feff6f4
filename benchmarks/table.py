"""The table: every workload in flambeau (the whole step compiled) and in its peers, in turns.

Shown for each: the time of a step, its ratio to each peer's and to the floor (what must be done over what the machine
can do, measured at the start), peak memory, and what the first call costs, without and with a filled cache on disk.
A peer that is not installed is left out with the reason. Results go to benchmarks/results/DATE.md and .json.
"""

from __future__ import annotations

import argparse
import compileall
import json
import platform
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import floors, machine, report
from benchmarks.peers import IMPLEMENTATIONS, PEERS
from benchmarks.turns import Options, compare, obstacle
from benchmarks.workloads import QUICK, TABLE, WORKLOADS

RESULTS = Path(__file__).parent / "results"


def add_options(parser: argparse.ArgumentParser, peers: Iterable[str]) -> None:
    """Options of every mode that measures in turns."""
    parser.add_argument("--only", metavar="NAME,…", help=f"workloads: {', '.join(WORKLOADS)}")
    parser.add_argument("--peers", metavar="NAME,…", default=",".join(peers), help=f"of {', '.join(IMPLEMENTATIONS)}")
    parser.add_argument("--subject", metavar="NAME,…", default="flambeau", help="ours; empty measures peers only")
    parser.add_argument("--rounds", type=int, default=Options.rounds)
    parser.add_argument("--seconds", type=float, default=Options.seconds, help="of each, in each round")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as each library takes by itself")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall",
        help="cpu: processor time, which other work on the machine disturbs less; sensible with --threads 1",
    )  # fmt: skip
    parser.add_argument(
        "--python", action="append", default=[], metavar="[NAME=]PATH",
        help="interpreter of the peers, or of one (torch=…, jax=…, tinygrad=…, onnxruntime=…)",
    )  # fmt: skip
    parser.add_argument(
        "--quick", action="store_true", help=f"few rounds, no cache; only {', '.join(QUICK)} by default"
    )
    parser.add_argument("--patience", type=float, default=Options.patience, help="seconds to wait for an answer")
    parser.add_argument("--json", type=Path, help="write here instead; a file of earlier workloads is added to")
    parser.add_argument("--markdown", type=Path, help="write here instead")


def options_from(arguments: argparse.Namespace) -> Options:
    """How to measure, from the command line."""
    pythons = dict(item.split("=", 1) if "=" in item else ("", item) for item in arguments.python)
    options = Options(
        rounds=arguments.rounds, seconds=arguments.seconds, threads=arguments.threads, clock=arguments.clock,
        patience=arguments.patience, pythons=pythons,
    )  # fmt: skip
    if arguments.quick:
        options.rounds, options.seconds, options.warm, options.cached = min(3, options.rounds), 0.3, 0.3, False
    return options


def names(text: str, known: Iterable[str], parser: argparse.ArgumentParser) -> list[str]:
    """A list from the command line; a word that is not known ends the program."""
    chosen = [word for word in text.split(",") if word]
    unknown = sorted(set(chosen) - set(known))
    if unknown:
        parser.error(f"no {', '.join(unknown)}; there are {', '.join(known)}")
    return chosen


def measure(workloads: list[str], implementations: list[str], options: Options, save: Any) -> dict[str, Any]:
    """Measure; `save(run)` is called after every workload."""

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    run: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "python": platform.python_version(), "workloads": {}}
    run["options"] = {key: value for key, value in asdict(options).items() if key != "pythons"}
    compileall.compile_dir(RESULTS.parent.parent / "flambeau", quiet=1)  # pip does it for the peers
    here = machine.measure(options.threads)
    run["machine"] = here.facts()
    counts = floors.counts()
    obstacles = {name: obstacle(name, options) for name in implementations}
    usable = [name for name in implementations if obstacles[name] is None]
    for name, reason in obstacles.items():
        if reason:
            say(f"{name} skipped: {reason}")
    for workload in workloads:
        say(f"{workload}: {WORKLOADS[workload].summary}")
        results = compare(workload, usable, options, say)
        results.update({name: {"skipped": reason} for name, reason in obstacles.items() if reason})
        floor = here.floor(counts[workload]) if workload in counts else None
        run["workloads"][workload] = {"floor": floor, "results": results}
        save(run)
    return run


def destinations(arguments: argparse.Namespace) -> tuple[Path, Path]:
    """Markdown and JSON files: those named, else of today's date, with a number where that is taken."""
    date, number = time.strftime("%Y-%m-%d"), 1
    while any((RESULTS / f"{date}{_suffix(number)}.{kind}").exists() for kind in ("md", "json")):
        number += 1
    base = f"{date}{_suffix(number)}"
    return arguments.markdown or RESULTS / f"{base}.md", arguments.json or RESULTS / f"{base}.json"


def _suffix(number: int) -> str:
    return f"-{number}" if number > 1 else ""


def earlier(path: Path) -> dict[str, Any]:
    """The workloads of an existing file, or none."""
    return json.loads(path.read_text(encoding="utf-8"))["workloads"] if path.exists() else {}


def main(parser: argparse.ArgumentParser, arguments: list[str]) -> int:
    """Measure, print, write."""
    add_options(parser, PEERS)
    chosen = parser.parse_args(arguments)
    default = QUICK if chosen.quick else TABLE
    workloads = names(chosen.only, WORKLOADS, parser) if chosen.only else default
    ours = names(chosen.subject, IMPLEMENTATIONS, parser)
    implementations = list(dict.fromkeys(ours + names(chosen.peers, IMPLEMENTATIONS, parser)))
    text_file, data_file = destinations(chosen)
    kept = earlier(data_file)

    def save(run: dict[str, Any]) -> None:
        run["workloads"] = {name: found for name in WORKLOADS if (found := run["workloads"].get(name, kept.get(name)))}
        for path, text in ((data_file, json.dumps(run, indent=1)), (text_file, report.markdown(run))):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + ("" if text.endswith("\n") else "\n"), encoding="utf-8")

    run = measure(workloads, implementations, options_from(chosen), save)
    print(report.markdown(run))
    print(f"written to {text_file} and {data_file}", file=sys.stderr)
    return 0
