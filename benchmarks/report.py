"""Measurements as tables: times against peers and floor, memory, first calls."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from benchmarks.peers import IMPLEMENTATIONS, OURS
from benchmarks.turns import BUSY, ratio

Facts = dict[str, Any]


def in_words(seconds: float) -> str:
    """Seconds in the unit that fits: 1.23 µs, 45.6 ms, 12.3 s."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size or unit == "µs":
            value = seconds / size
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    raise AssertionError(seconds)


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table, numbers to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]


def subject_of(run: Facts) -> str | None:
    """Whose ratios are shown: compiled flambeau, else eager flambeau, else nobody's."""
    measured = {name for facts in run["workloads"].values() for name in facts["results"] if _time(facts, name)}
    return next((name for name in OURS if name in measured), None)


def _time(facts: Facts, name: str) -> float | None:
    return facts["results"].get(name, {}).get("seconds")


def columns(run: Facts) -> list[str]:
    """Implementations that were asked for, ours first, in the order of the list of all."""
    asked = {name for facts in run["workloads"].values() for name in facts["results"]}
    return [name for name in IMPLEMENTATIONS if name in asked]


def markdown(run: Facts) -> str:
    """The whole report."""
    subject = subject_of(run)
    parts = [
        speed(run, subject),
        geometric_means(run, subject),
        "Peak resident memory in MiB while stepping (in parentheses: in the life of the process, compiling included).",
        per_implementation(run, _memory_cell),
        "Beyond as many ordinary steps, the first three calls took (in parentheses: in a new process, from the cache on"
        " disk):",
        per_implementation(run, _first_call_cell),
        *_compiling(run),
        notes(run),
        machine_lines(run),
    ]
    return "\n\n".join("\n".join(part) if isinstance(part, list) else part for part in parts if part) + "\n"


def speed(run: Facts, subject: str | None) -> list[str]:
    """A row per workload: our time, over the floor; each peer's time and how many times ours it is."""
    names = columns(run)
    others = [name for name in names if name != subject]
    head = ["workload", "floor"]
    if subject:
        head += [IMPLEMENTATIONS[subject].title, "/ floor"]
    rows = []
    for workload, facts in run["workloads"].items():
        floor = facts.get("floor")
        row = [workload, in_words(floor["ms"] / 1e3) if floor else ""]
        results = facts["results"]
        if subject:
            ours = results.get(subject, {})
            row += [
                _time_cell(ours),
                _times(ours["seconds"] * 1e3 / floor["ms"]) if floor and "seconds" in ours else "",
            ]
        best = _fastest(facts, [name for name in others if name not in OURS])
        for name in others:
            cell = _time_cell(results.get(name))
            against = ratio(results[name], results[subject]) if subject in results and name in results else None
            cell += f" ({against:.2f}×)" if against else ""
            row.append(f"**{cell}**" if name == best else cell)
        rows.append(row)
    return table([*head, *(IMPLEMENTATIONS[name].title for name in others)], rows)


def _fastest(facts: Facts, names: list[str]) -> str | None:
    times = {name: time for name in names if (time := _time(facts, name))}
    return min(times, key=lambda name: times[name]) if times else None


def _times(value: float) -> str:
    return f"{value:.0f}×" if value >= 100 else f"{value:.3g}×"


def _time_cell(facts: Facts | None) -> str:
    if facts is None:
        return ""
    if "seconds" not in facts:
        return "–"
    return in_words(facts["seconds"]) + ("~" if facts.get("others", 0) > BUSY else "")


def geometric_means(run: Facts, subject: str | None) -> str:
    """One sentence: how many times faster than each peer, over the workloads both ran."""
    if subject is None:
        return ""
    means = []
    for name in columns(run):
        found = [
            value
            for facts in run["workloads"].values()
            if name in facts["results"] and subject in facts["results"]
            if (value := ratio(facts["results"][name], facts["results"][subject]))
        ]
        if name != subject and found:
            mean = math.exp(sum(map(math.log, found)) / len(found))
            means.append(f"{IMPLEMENTATIONS[name].title} {mean:.2f}× ({len(found)} workloads)")
    title = IMPLEMENTATIONS[subject].title
    return f"Geometric mean of the peers' times over {title}'s: {', '.join(means)}." if means else ""


def per_implementation(run: Facts, cell: Callable[[Facts], str]) -> list[str]:
    """A row per workload, a column per implementation."""
    names = columns(run)
    rows = [
        [workload, *(cell(facts["results"][name]) if name in facts["results"] else "" for name in names)]
        for workload, facts in run["workloads"].items()
    ]
    return table(["workload", *(IMPLEMENTATIONS[name].title for name in names)], rows)


def _memory_cell(facts: Facts) -> str:
    return f"{facts['steady_peak_mib']:.0f} ({facts['peak_mib']:.0f})" if "peak_mib" in facts else "–"


def _first_call_cell(facts: Facts) -> str:
    if "first_call" not in facts:
        return "–"
    cached = f" ({in_words(facts['cached_call'])})" if "cached_call" in facts else ""
    return in_words(facts["first_call"]) + cached


def _compiling(run: Facts) -> list[str | list[str]]:
    """What compiling added to the first calls, where that was measured."""
    if not any("compile" in result for facts in run["workloads"].values() for result in facts["results"].values()):
        return []
    return [
        "Compiling added to the first three calls, beyond what the same calls take in the library's eager mode (in"
        " parentheses: from the cache on disk):",
        per_implementation(run, _compile_cell),
    ]


def _compile_cell(facts: Facts) -> str:
    if "compile" not in facts:
        return ""
    cached = f" ({_added(facts['cached_compile'])})" if "cached_compile" in facts else ""
    return _added(facts["compile"]) + cached


def _added(seconds: float) -> str:
    return in_words(seconds) if seconds > 0 else "nothing"


def notes(run: Facts) -> list[str]:
    """What was left out and why, and what the marks mean."""
    clock = "processor time" if run["options"]["clock"] == "cpu" else "the clock"
    lines = [
        f"Times by {clock}: medians of {run['options']['rounds']} rounds in turns; a number in parentheses is how many"
        " times ours it is (above 1 we are faster), the median of the rounds' ratios; the fastest peer is bold.",
        f"~ others used more than {BUSY} cores of the machine meanwhile"
        + (", which processor time feels little." if run["options"]["clock"] == "cpu" else "."),
    ]
    reasons: dict[tuple[str, str], list[str]] = {}
    for workload, facts in run["workloads"].items():
        for name, result in facts["results"].items():
            if "skipped" in result:
                reasons.setdefault((name, result["skipped"]), []).append(workload)
    everything = set(run["workloads"])
    for (name, reason), workloads in reasons.items():
        where = "" if set(workloads) == everything else f" on {', '.join(workloads)}"
        lines.append(f"{IMPLEMENTATIONS[name].title} skipped{where}: {reason}.")
    for workload, facts in run["workloads"].items():
        how = facts["results"].get("flambeau", {}).get("how", "")
        lines += [f"flambeau on {workload}: {how}."] if how else []
    return [f"- {line}" for line in lines]


def machine_lines(run: Facts) -> str:
    """Where the numbers come from."""
    machine = run["machine"]
    threads = run["options"]["threads"]
    versions = sorted(
        {
            f"{IMPLEMENTATIONS[name].interpreter} {result['version']}"
            for facts in run["workloads"].values()
            for name, result in facts["results"].items()
            if "version" in result
        }
    )
    return (
        f"{machine['processor']}, {machine['cores']} cores, threads: {threads or 'as each library takes'};"
        f" measured peaks {machine['gflops']:.0f} GFLOP/s, memory {machine['memory_gbs']:.0f} GB/s, L3"
        f" {machine['l3_gbs']:.0f} GB/s, L2 {machine['l2_gbs']:.0f} GB/s, one call {machine['call_us'] * 1e3:.0f} ns"
        f" ({machine['method']}). Python {run['python']}; {', '.join(versions)}; {run['date']}."
    )
