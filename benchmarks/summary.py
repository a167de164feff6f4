"""The README's table from the JSON files of one or several runs: our time, and every peer's time over ours.

    python -m benchmarks summary benchmarks/results/DATE.json …

A later file's rows replace an earlier one's; peers of the same workload are put together.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.peers import IMPLEMENTATIONS, OURS
from benchmarks.report import in_words, table
from benchmarks.turns import ratio
from benchmarks.workloads import WORKLOADS


def merged(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The workloads of all runs, in the order of the tables."""
    found: dict[str, Any] = {}
    for run in runs:
        found.update(run["workloads"])
    return {name: found[name] for name in WORKLOADS if name in found}


def rows(workloads: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heading and lines: one per workload that flambeau ran, one column per peer that ran any."""
    asked = {name for facts in workloads.values() for name, result in facts["results"].items() if "seconds" in result}
    peers = [name for name in IMPLEMENTATIONS if name in asked and name not in OURS]
    head = ["a step of", "flambeau", "/ floor", *(IMPLEMENTATIONS[name].title for name in peers)]
    lines = []
    for name, facts in workloads.items():
        results = facts["results"]
        ours = results.get("flambeau", {})
        if "seconds" not in ours:
            continue
        against = {peer: ratio(results[peer], ours) for peer in peers if peer in results}
        fastest = min((value for value in against.values() if value), default=None)
        cells = [_times(value, value == fastest) if (value := against.get(peer)) else "" for peer in peers]
        floor = f"{ours['seconds'] * 1e3 / facts['floor']['ms']:.3g}×" if facts.get("floor") else ""
        memory = ""
        if "torch" in against:
            memory = " / ".join(f"{it['steady_peak_mib']:.0f}" for it in (ours, results["torch"]))
        compiling = ""
        if "compile" in ours:
            compiling = " / ".join(f"{max(0.0, ours[key]):.2g}" for key in ("compile", "cached_compile"))
        lines.append([WORKLOADS[name].summary, in_words(ours["seconds"]), floor, *cells, compiling, memory])
    return [*head, "s to compile / from disk", "MiB, ours / PyTorch"], lines


def _times(value: float, bold: bool) -> str:
    text = f"{value:.0f}×" if value >= 100 else f"{value:.3g}×"
    return f"**{text}**" if bold else text


def main(parser: argparse.ArgumentParser, arguments: list[str]) -> int:
    """Print the table."""
    parser.add_argument("files", nargs="+", type=Path)
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in parser.parse_args(arguments).files]
    print("\n".join(table(*rows(merged(runs)))))
    return 0
