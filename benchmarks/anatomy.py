"""What became of a compiled function: how many programs, of which kinds of steps, and whether it stayed eager."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

# Step classes of flambeau.compiler.steps, by what they run.
KINDS = {"KernelStep": "native", "RoutineStep": "native", "LibraryStep": "library", "HostStep": "host"}


def _function(compiled: Any) -> Any:
    """The compiled function; a compiled module keeps its own inside."""
    return getattr(compiled, "__dict__", {}).get("_compiled", compiled)


def programs(compiled: Any) -> Iterator[Any]:
    """The programs behind a compiled function or module, forward and (where captured apart) backward."""
    for entries in getattr(_function(compiled), "entries", {}).values():
        for entry in entries:
            for part in (entry, entry.backward):
                if part is not None:
                    yield part.execute


def steps(compiled: Any) -> Counter[str]:
    """How many steps of its programs are native code, library calls, calls of Python; none where it is interpreted."""
    found = [step for program in programs(compiled) if hasattr(program, "plan") for step in program.plan.steps]
    return Counter(KINDS.get(type(step).__name__, type(step).__name__) for step in found)


def eager_reasons(compiled: Any) -> list[str]:
    """Why calls of it run eagerly; none if they do not."""
    return sorted(set(getattr(_function(compiled), "eager", {}).values()))


def in_words(compiled: Any) -> str:
    """One cell: "12 native, 3 library, 0 host", or why it is eager."""
    reasons = eager_reasons(compiled)
    if reasons:
        return f"eager: {'; '.join(reasons)}"
    if not any(True for _ in programs(compiled)):
        return "eager: nothing was captured"
    counted = steps(compiled)
    if not counted:
        return "captured, but interpreted"
    return ", ".join(f"{counted.get(kind, 0)} {kind}" for kind in ("native", "library", "host"))
