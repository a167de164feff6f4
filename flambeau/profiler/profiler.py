"""`torch.profiler.profile`: recording in steps, with a schedule."""

from __future__ import annotations

import enum
import os
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from flambeau.autograd import profiler as recording
from flambeau.autograd.profiler import EventList


class ProfilerAction(enum.Enum):
    """What a schedule asks for in a step."""

    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3


def schedule(*, wait: int, warmup: int, active: int, repeat: int = 0, skip_first: int = 0,
             skip_first_wait: int = 0) -> Callable[[int], ProfilerAction]:
    """Skip, then in cycles: `wait` steps nothing, `warmup` unused, `active` recorded; repeat=0: forever."""
    if min(wait, warmup, repeat, skip_first) < 0 or active <= 0:
        raise AssertionError("Invalid profiler schedule arguments")

    def action(step: int) -> ProfilerAction:
        if step < 0:
            raise AssertionError(f"Step must be non-negative. Got {step}.")
        if step < skip_first:
            return ProfilerAction.NONE
        step -= skip_first
        if skip_first_wait != 0:
            step += wait
        cycle = wait + warmup + active
        if repeat > 0 and step / cycle >= repeat:
            return ProfilerAction.NONE
        place = step % cycle
        if place < wait:
            return ProfilerAction.NONE
        if place < wait + warmup:
            return ProfilerAction.WARMUP
        return ProfilerAction.RECORD if place < cycle - 1 else ProfilerAction.RECORD_AND_SAVE

    return action


def tensorboard_trace_handler(dir_name: str, worker_name: str | None = None,
                              use_gzip: bool = False) -> Callable[[Any], None]:
    """A function for `on_trace_ready` that writes each trace to a new file in a folder."""

    def handle(finished: profile) -> None:
        os.makedirs(dir_name, exist_ok=True)
        name = worker_name or f"{socket.gethostname()}_{os.getpid()}"
        finished.export_chrome_trace(os.path.join(dir_name, f"{name}.{time.time_ns()}.pt.trace.json"))

    return handle


class profile:
    """Record operators; with a `schedule`, in the steps it names, calling `on_trace_ready(self)` after each cycle."""

    def __init__(self, *, activities: Iterable[Any] | None = None, schedule: Any = None, on_trace_ready: Any = None,
                 record_shapes: bool = False, profile_memory: bool = False, with_stack: bool = False,
                 with_flops: bool = False, with_modules: bool = False, **ignored: Any):
        self.activities = set(activities) if activities is not None else {recording.ProfilerActivity.CPU}
        self.schedule = schedule or (lambda step: ProfilerAction.RECORD)
        self.on_trace_ready = on_trace_ready
        self.record_shapes = record_shapes
        self.step_num = 0
        self._scheduled = schedule is not None
        self._recorder: recording.profile | None = None  # the one that runs
        self._finished: recording.profile | None = None  # the last that ran
        self._step: Any = None

    def start(self) -> None:
        """Begin with step 0."""
        self._go(self.schedule(self.step_num))

    def stop(self) -> None:
        """End; what is being recorded is complete."""
        if self._recorder is not None:
            self._end_recording()
            if self.on_trace_ready is not None:
                self.on_trace_ready(self)

    def step(self) -> None:
        """The next step begins."""
        ended = self.schedule(self.step_num)
        self._end_step()
        self.step_num += 1
        coming = self.schedule(self.step_num)
        if ended is ProfilerAction.RECORD_AND_SAVE and self._recorder is not None:
            self.stop()
        self._go(coming)

    def _go(self, action: ProfilerAction) -> None:
        if action in (ProfilerAction.NONE, ProfilerAction.WARMUP):
            return
        if self._recorder is None:
            self._recorder = recording.profile(record_shapes=self.record_shapes)
            self._recorder.__enter__()
        if self._scheduled:
            self._step = recording.record_function(f"ProfilerStep#{self.step_num}")
            self._step.__enter__()

    def _end_step(self) -> None:
        if self._step is not None:
            self._step.__exit__(None, None, None)
            self._step = None

    def _end_recording(self) -> None:
        assert self._recorder is not None
        self._end_step()
        self._recorder.__exit__(None, None, None)
        self._finished, self._recorder = self._recorder, None

    def __enter__(self) -> profile:
        self.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.stop()

    def _results(self) -> recording.profile:
        found = self._recorder or self._finished
        if found is None:
            raise AssertionError("Profiler must be initialized before getting results: nothing has been recorded")
        return found

    def events(self) -> EventList:
        """All recorded calls."""
        return self._results().function_events

    def key_averages(self, group_by_input_shape: bool = False, group_by_stack_n: int = 0) -> EventList:
        """One entry for each operator; `.table(sort_by="self_cpu_time_total", row_limit=10)` prints them."""
        return self._results().key_averages(group_by_input_shape)

    def export_chrome_trace(self, path: Any) -> None:
        """Write a trace for chrome://tracing or ui.perfetto.dev."""
        self._results().export_chrome_trace(path)
