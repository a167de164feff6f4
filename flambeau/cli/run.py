"""`flambeau run SCRIPT [ARGS…]`: run a script written for PyTorch, unchanged."""

from __future__ import annotations

import importlib.util
import os
import runpy
import sys
import types
from collections.abc import Callable
from typing import Any

import typer

from flambeau.torch_alias import as_torch

# Everything after the script's name belongs to the script, --help included.
CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}


def run(
    context: typer.Context,
    target: str = typer.Argument(..., metavar="SCRIPT", help="A script, or with -m a module; its arguments follow."),
    module: bool = typer.Option(False, "-m", help="SCRIPT is the name of a module, as in `python -m`."),
) -> None:
    """Run a script written for PyTorch: its `import torch` and `import torchvision` mean flambeau."""
    as_torch()
    here = os.getcwd()
    if module:
        if _spec_of(target, here) is None:
            _refuse(f"no module named {target!r}")
        sys.argv = [target, *context.args]
        sys.path.insert(0, here)
        _execute(lambda: runpy.run_module(target, run_name="__main__", alter_sys=True))
    else:
        if not os.path.exists(target):
            _refuse(f"no such script: {target!r} (looked in {here})")
        sys.argv = [target, *context.args]
        if os.path.isfile(target):
            sys.path.insert(0, os.path.dirname(os.path.abspath(target)))
        _execute(lambda: runpy.run_path(target, run_name="__main__"))


def _spec_of(name: str, folder: str) -> Any:
    """Where the first part of a module's name would be imported from; None when nowhere."""
    first = name.partition(".")[0]
    sys.path.insert(0, folder)
    try:
        return sys.modules.get(first) or importlib.util.find_spec(first)
    finally:
        sys.path.remove(folder)


def _refuse(reason: str) -> None:
    typer.echo(f"flambeau run: {reason}", err=True)
    raise typer.Exit(2)  # Python's own status for a script it cannot open


def _execute(program: Callable[[], object]) -> None:
    """Run `program`; an error shows the traceback Python would show, and sets its exit status.

    SystemExit passes through. Typer would frame the traceback and name our files in it, hence the hook of our own.
    """
    sys.excepthook = sys.__excepthook__
    try:
        program()
    except (Exception, KeyboardInterrupt) as error:
        sys.stdout.flush()
        error.with_traceback(_without_launcher(error.__traceback__))
        sys.excepthook(type(error), error, error.__traceback__)
        raise typer.Exit(130 if isinstance(error, KeyboardInterrupt) else 1) from None


def _without_launcher(trace: types.TracebackType | None) -> types.TracebackType | None:
    """The part of a traceback that begins in the script (the whole one if the script was never reached)."""
    inner = trace
    while inner is not None and (
        inner.tb_frame.f_code.co_filename == __file__ or inner.tb_frame.f_globals.get("__name__") == "runpy"
    ):
        inner = inner.tb_next
    return inner or trace
