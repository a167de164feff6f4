"""Where a recorder (compile) hears of what happens beside the primitives.

Primitives are heard through `dispatch.intercept`. The few places that make, read or write arrays without one say so
here: while nobody records, that costs one comparison with None. (`core.tensor.constant` is the third of these.)
"""

from __future__ import annotations

from typing import Any

recorder: Any = None  # see compiler/capture.py: Recorder

# Counts changes of Python state that a compiled program depends on (a module's attributes, an optimizer's state): a
# program compares one number, and looks closer only when it has moved.
changes = 0


def changed(owner: Any = None) -> None:
    """Say that an attribute of a module, or an optimizer's state, was replaced."""
    global changes
    changes += 1
    if recorder is not None:
        recorder.changed(owner)


def known(array: Any) -> Any:
    """Say that the values of a new array depend on no tensor's values; returns it."""
    if recorder is not None:
        recorder.constant(array)
    return array


def read(t: Any) -> None:
    """Say that Python reads the values of tensor `t`."""
    if recorder is not None:
        recorder.read(t)


def fixed(t: Any) -> bool:
    """Whether the values of tensor `t` are the same in all calls that a record would stand for."""
    if recorder is None:
        return True
    known = getattr(recorder, "fixed", None)
    return known is not None and bool(known(t))


def required(t: Any, error: Exception) -> bool:
    """Say that what follows raises `error` unless all of the bool tensor `t` holds; False if nobody takes note of it,
    so that Python has to look."""
    note = getattr(recorder, "required", None)
    if note is None or fixed(t):
        return False
    note(t, error)
    return True


def bounded(t: Any, low: Any, high: Any, error: Exception, but: Any = None) -> None:
    """Say that what follows raises `error` for values of `t` outside of low … high (both included), except `but`."""
    if recorder is not None:
        recorder.bounded(t, low, high, but, error)


def state_made() -> None:
    """Say that an optimizer makes its state, which the calls that follow will find made."""
    note = getattr(recorder, "state_made", None)
    if note is not None:
        note()


def copied(made: Any, source: Any) -> Any:
    """Say that `made` is new and holds the values of array `source`; returns it."""
    if recorder is not None:
        recorder.copied(made, source)
    return made
