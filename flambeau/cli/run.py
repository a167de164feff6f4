"""`flambeau run SCRIPT [ARGS…]`: run a script written for PyTorch, unchanged."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import io
import os
import runpy
import sys
import types
from collections.abc import Callable
from typing import Any

import typer

from flambeau.absent import PAGE
from flambeau.torch_alias import PACKAGES, as_torch

# Everything after the script's name belongs to the script, --help included.
CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}


def run(
    context: typer.Context,
    target: str = typer.Argument(..., metavar="SCRIPT", help="A script, or with -m a module; its arguments follow."),
    module: bool = typer.Option(False, "-m", help="SCRIPT is the name of a module, as in `python -m`."),
) -> None:
    """Run a script written for PyTorch: its `import torch` and `import torchvision` mean flambeau."""
    as_torch()
    sys.argv = [target, *context.args]
    if module:
        _put_first(os.getcwd())
        _execute(lambda: _run_module(target))
    elif os.path.isfile(target) and not _is_archive(target):
        _put_first(os.path.dirname(os.path.realpath(target)))
        _execute(lambda: _run_file(target))
    elif os.path.exists(target):
        _execute(lambda: runpy.run_path(target, run_name="__main__"))   # a folder or archive with a __main__.py
    else:
        _refuse(f"no such script: {target!r} (looked in {os.getcwd()})")


def _run_file(path: str) -> None:
    """What `python path` does."""
    path = os.path.abspath(path)
    with io.open_code(path) as file:
        source = file.read()
    main = _new_main(__file__=path, __loader__=importlib.machinery.SourceFileLoader("__main__", path))
    exec(compile(source, path, "exec", dont_inherit=True), main.__dict__)


def _run_module(name: str) -> None:
    """What `python -m name` does."""
    spec = _spec_of(name)
    if spec is not None and spec.submodule_search_locations is not None:
        name = f"{name}.__main__"
        spec = _spec_of(name)
    if spec is None or not hasattr(spec.loader, "get_code"):
        _refuse(f"no module named {name!r}")
    code = spec.loader.get_code(spec.name)
    sys.argv[0] = spec.origin
    main = _new_main(
        __spec__=spec, __file__=spec.origin, __loader__=spec.loader, __package__=spec.parent, __cached__=spec.cached
    )
    exec(code, main.__dict__)


def _new_main(**attributes: Any) -> types.ModuleType:
    """A new `__main__`, which stays for what runs at exit and for the processes that `multiprocessing` starts."""
    main = types.ModuleType("__main__")
    main.__dict__.update({"__builtins__": __builtins__, "__annotations__": {}, **attributes})
    sys.modules["__main__"] = main
    return main


def _put_first(folder: str) -> None:
    """Have modules found in `folder` first, where Python itself would put the script's."""
    if getattr(sys.flags, "safe_path", False):  # python -P: a script's neighbours are not importable
        return
    sys.path[0] = folder


def _spec_of(name: str) -> Any:
    """Where a module would be imported from (its parents are imported for that); None when nowhere."""
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise   # what a parent imports is missing: its own error
        return None


def _is_archive(path: str) -> bool:
    import zipimport

    try:
        zipimport.zipimporter(path)
    except zipimport.ZipImportError:
        return False
    return True


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
    except typer.Exit:
        raise
    except (Exception, KeyboardInterrupt) as error:
        sys.stdout.flush()
        _point_to_the_page(error)
        error.with_traceback(_without_launcher(error.__traceback__))
        sys.excepthook(type(error), error, error.__traceback__)
        raise typer.Exit(130 if isinstance(error, KeyboardInterrupt) else 1) from None


def _point_to_the_page(error: BaseException) -> None:
    """Have Python's "cannot import name" say where to read what flambeau lacks."""
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] in ("flambeau", *PACKAGES):
        if PAGE not in error.msg:
            error.msg += f"; {PAGE} lists what is missing"


def _without_launcher(trace: types.TracebackType | None) -> types.TracebackType | None:
    """The part of a traceback that begins in the script; None for a script that does not compile."""
    inner = trace
    while inner is not None and (
        inner.tb_frame.f_code.co_filename == __file__ or inner.tb_frame.f_globals.get("__name__") == "runpy"
    ):
        inner = inner.tb_next
    return inner
