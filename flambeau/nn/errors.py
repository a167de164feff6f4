"""Where in a model an exception happened: its message is given the dotted path of the module that failed."""

from __future__ import annotations

from typing import Any

# Their message is their single argument. A KeyError's is a key, and subclasses may have a constructor of their own.
_NAMED = (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError, AssertionError)


def name_module(caller: Any, error: Exception) -> None:
    """Puts the path of the failing module, seen from `caller`, before the message of an exception passing through.

    Every module on the way out lengthens the path: `0 (Linear): …`, then `classifier.0 (Linear): …`. The exception
    object, its type and its traceback stay.
    """
    if type(error) not in _NAMED or len(error.args) != 1 or not isinstance(error.args[0], str):
        return
    trail = error.__dict__.get("_flambeau_trail")
    if trail is None:
        error._flambeau_trail = (caller, "", type(caller).__name__, error.args[0])
        return
    inner, path, kind, message = trail
    if inner is caller:
        return
    above = next((name for name, module in caller.named_modules() if module is inner), None)
    if not above:
        return
    path = f"{above}.{path}" if path else above
    error._flambeau_trail = (caller, path, kind, message)
    error.args = (f"{path} ({kind}): {message}",)
