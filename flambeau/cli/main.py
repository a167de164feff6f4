"""The `flambeau` command and its subcommands."""

from __future__ import annotations

import typer

from flambeau.cli import predict, run, train
from flambeau.version import __version__

app = typer.Typer(
    name="flambeau",
    help="Train networks and use them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
app.add_typer(train.app, name="train")
app.command("predict")(predict.predict)
app.command("run", context_settings=run.CONTEXT)(run.run)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"flambeau {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
) -> None:
    """Train networks and use them."""


def main() -> None:
    """Entry point of the console script."""
    app()
