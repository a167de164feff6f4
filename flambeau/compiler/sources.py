"""Where inputs of a graph come from, which line of the user a node comes from, why a function cannot be captured."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

PACKAGE = str(Path(__file__).resolve().parent.parent)
_OURS: dict[str, bool] = {}  # whether a file belongs to this package


class Unrecordable(RuntimeError):
    """What the function does cannot be captured; `line` is (file, number) of the user's code."""

    def __init__(self, reason: str, line: Any = None, later: bool = False, counted: bool = True):
        super().__init__(reason if line is None else f"{reason} ({line[0]}:{line[1]})")
        self.reason = reason
        self.line = line
        self.later = later  # another attempt may succeed (state made in the first call)
        self.counted = counted  # as an attempt: only so many are made


class Source:
    """Where outside memory is found at a call.

    kind: "argument" (number among the tensor arguments), "tensor" (an object), "grad" (of an object), "option" (a
    number of an optimizer), "gradient" (arriving at an output, in a backward graph).
    """

    __slots__ = ("kind", "what")

    def __init__(self, kind: str, what: Any):
        self.kind = kind
        self.what = what

    def __repr__(self) -> str:
        if self.kind == "option":
            _, name, index = self.what
            return f"option {name}" if index is None else f"option {name}[{index}]"
        what = self.what if isinstance(self.what, (int, str)) else type(self.what).__name__
        return f"{self.kind} {what}"


def user_line() -> tuple[str, int] | None:
    """The innermost line of the call that is not in this package."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        ours = _OURS.get(name)
        if ours is None:
            ours = _OURS[name] = name.startswith(PACKAGE)
        if not ours:
            return (name, frame.f_lineno)
        frame = frame.f_back
    return None
