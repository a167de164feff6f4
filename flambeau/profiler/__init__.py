"""Where the time goes: a table per operator and a trace that Chrome shows."""

from flambeau.autograd.profiler import ProfilerActivity, record_function
from flambeau.profiler.profiler import ProfilerAction, profile, schedule, tensorboard_trace_handler

__all__ = ["ProfilerAction", "ProfilerActivity", "profile", "record_function", "schedule",
           "tensorboard_trace_handler"]
