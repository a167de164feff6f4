"""Recording every operator call: when, how long, on what shapes."""

from __future__ import annotations

import enum
import functools
import json
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

from flambeau.core.dispatch import intercept
from flambeau.core.tensor import Tensor

_running: list[profile] = []  # the profiler that records, if any: there is one interceptor for all threads


class ProfilerActivity(enum.Enum):
    """What to record. Only the CPU is here."""

    CPU = 0
    XPU = 1
    MTIA = 2
    CUDA = 3
    HPU = 4
    PrivateUse1 = 5


class FunctionEvent:
    """One call: name, start and end in microseconds since the profile began, input shapes, time in calls within it."""

    def __init__(self, name: str, start: float, thread: int, shapes: Any):
        self.name = self.key = name
        self.start, self.end, self.thread = start, start, thread
        self.input_shapes = shapes
        self.inner = 0.0

    @property
    def cpu_time_total(self) -> float:
        """Microseconds from start to end."""
        return self.end - self.start

    @property
    def self_cpu_time_total(self) -> float:
        """Microseconds without the calls within."""
        return self.cpu_time_total - self.inner

    def __repr__(self) -> str:
        return f"<FunctionEvent name={self.name} cpu_time={self.cpu_time_total:.3f}us>"


class FunctionEventAvg:
    """The calls of one name (and of one set of shapes, when asked for) together. Times in microseconds."""

    def __init__(self, key: str, shapes: Any):
        self.key, self.input_shapes = key, shapes
        self.count = 0
        self.cpu_time_total = self.self_cpu_time_total = 0.0

    @property
    def cpu_time(self) -> float:
        """Microseconds of one call on average."""
        return self.cpu_time_total / self.count if self.count else 0.0

    def __repr__(self) -> str:
        return (f"<FunctionEventAvg key={self.key} self_cpu_time={format_time(self.self_cpu_time_total)} "
                f"cpu_time={format_time(self.cpu_time)} count={self.count}>")


def format_time(microseconds: float) -> str:
    """12.345us, 1.234ms or 1.234s."""
    if microseconds >= 1e6:
        return f"{microseconds / 1e6:.3f}s"
    return f"{microseconds / 1e3:.3f}ms" if microseconds >= 1e3 else f"{microseconds:.3f}us"


class EventList(list):
    """Events, or averages of them."""

    def key_averages(self, group_by_input_shape: bool = False) -> EventList:
        """One entry for each name, or for each name with one set of input shapes."""
        found: dict[Any, FunctionEventAvg] = {}
        for event in self:
            shapes = event.input_shapes if group_by_input_shape else None
            entry = found.setdefault((event.name, str(shapes)), FunctionEventAvg(event.name, shapes))
            entry.count += 1
            entry.cpu_time_total += event.cpu_time_total
            entry.self_cpu_time_total += event.self_cpu_time_total
        return EventList(found.values())

    @property
    def self_cpu_time_total(self) -> float:
        """Microseconds of all events together."""
        return sum(event.self_cpu_time_total for event in self)

    def table(self, sort_by: str | None = None, row_limit: int = 100, max_name_column_width: int = 55,
              top_level_events_only: bool = False, **ignored: Any) -> str:
        """The averages as text, largest `sort_by` ("self_cpu_time_total", "cpu_time_total", "count", …) first."""
        entries = list(self)
        if sort_by is not None:
            if entries and not hasattr(entries[0], sort_by):
                raise AttributeError(f"cannot sort by '{sort_by}'")
            entries.sort(key=lambda e: getattr(e, sort_by), reverse=True)
        with_shapes = any(e.input_shapes is not None for e in entries)
        total = self.self_cpu_time_total or 1.0
        head = ["Name", "Self CPU %", "Self CPU", "CPU total %", "CPU total", "CPU time avg", "# of Calls"]
        head += ["Input Shapes"] if with_shapes else []
        rows = []
        for e in entries[:row_limit]:
            row = [e.key[:max_name_column_width], f"{e.self_cpu_time_total / total:.2%}",
                   format_time(e.self_cpu_time_total), f"{e.cpu_time_total / total:.2%}",
                   format_time(e.cpu_time_total), format_time(getattr(e, "cpu_time", e.cpu_time_total)),
                   str(getattr(e, "count", 1))]
            rows.append(row + ([str(e.input_shapes)] if with_shapes else []))
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        rule = "  ".join("-" * width for width in widths)
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in [head, *rows]]
        return "\n".join([rule, lines[0], rule, *lines[1:], rule,
                          f"Self CPU time total: {format_time(self.self_cpu_time_total)}", ""])

    def export_chrome_trace(self, path: Any) -> None:
        """Write the events as JSON for chrome://tracing or ui.perfetto.dev."""
        process = os.getpid()
        events = [{"ph": "X", "cat": "cpu_op", "name": e.name, "pid": process, "tid": e.thread, "ts": e.start,
                   "dur": e.cpu_time_total,
                   "args": {} if e.input_shapes is None else {"Input Dims": e.input_shapes}} for e in self]
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"schemaVersion": 1, "traceEvents": events}, file)


class profile:
    """Context manager: record every operator call inside, forward and backward."""

    def __init__(self, enabled: bool = True, *, record_shapes: bool = False, use_cpu: bool = True, **ignored: Any):
        self.enabled, self.record_shapes = enabled, record_shapes
        self.function_events = EventList()
        self._open: dict[int, list[FunctionEvent]] = {}
        self._origin = 0.0
        self._listener: Any = None

    def _now(self) -> float:
        return (time.perf_counter() - self._origin) * 1e6

    def begin(self, name: str, shapes: Any = None) -> FunctionEvent:
        """Open an event in this thread."""
        thread = threading.get_ident()
        event = FunctionEvent(name, self._now(), thread, shapes)
        self._open.setdefault(thread, []).append(event)
        return event

    def finish(self, event: FunctionEvent) -> None:
        """Close an event; its time counts as inner time of the one around it."""
        event.end = self._now()
        stack = self._open[event.thread]
        stack.remove(event)
        if stack:
            stack[-1].inner += event.cpu_time_total
        self.function_events.append(event)

    def _handle(self, op: Any, inputs: Any, attrs: Any) -> Any:
        shapes = [list(x.shape) if isinstance(x, Tensor) else [] for x in inputs] if self.record_shapes else None
        event = self.begin(f"aten::{op.name}", shapes)
        try:
            return op.function(*inputs, **attrs)
        finally:
            self.finish(event)

    def __enter__(self) -> profile:
        if self.enabled:
            if _running:
                raise RuntimeError("Profiler is already enabled on this thread")
            _running.append(self)
            self._origin = time.perf_counter()
            self._listener = intercept(self._handle)
            self._listener.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._listener is not None:
            self._listener.__exit__(*error)
            self._listener = None
            _running.remove(self)

    def key_averages(self, group_by_input_shape: bool = False, **ignored: Any) -> EventList:
        """One entry for each operator; `.table()` prints them."""
        return self.function_events.key_averages(group_by_input_shape)

    def table(self, sort_by: str | None = None, row_limit: int = 100, **options: Any) -> str:
        """The calls, one by one, as text."""
        return self.function_events.table(sort_by=sort_by, row_limit=row_limit, **options)

    def export_chrome_trace(self, path: Any) -> None:
        """Write a trace for chrome://tracing."""
        self.function_events.export_chrome_trace(path)

    @property
    def self_cpu_time_total(self) -> float:
        """Microseconds of all recorded events."""
        return self.function_events.self_cpu_time_total

    def __iter__(self) -> Iterator[FunctionEvent]:
        return iter(self.function_events)


class record_function:
    """Context manager and decorator: a named stretch of the program in the profile."""

    def __init__(self, name: str, args: str | None = None):
        self.name = name
        self._event: Any = None

    def __enter__(self) -> record_function:
        self._event = (_running[-1], _running[-1].begin(self.name)) if _running else None
        return self

    def __exit__(self, *error: Any) -> None:
        if self._event is not None:
            owner, event = self._event
            owner.finish(event)
            self._event = None

    def __call__(self, function: Any) -> Any:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with record_function(self.name):
                return function(*args, **kwargs)

        return call
