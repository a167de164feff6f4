"""`flambeau predict CHECKPOINT IMAGE…`: what a trained network sees in pictures."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import typer
from rich.console import Console
from rich.table import Table

import flambeau as torch
from flambeau.cli import networks
from flambeau.cli.digits import Normalisation
from flambeau.cli.runs import NotACheckpoint, load_checkpoint

SHOWN = 5


def predict(
    checkpoint: Path = typer.Argument(help="checkpoint.pt of a run."),
    images: list[Path] = typer.Argument(help="Pictures of one digit each, in any format that Pillow reads."),
) -> None:
    """Print the five most probable classes of each image."""
    from flambeau.cli.images import NotAnImage, read_digit  # loads Pillow

    try:
        trained = load_checkpoint(checkpoint)
        model = networks.build(trained["architecture"])
        model.load_state_dict(trained["model"])
    except (NotACheckpoint, KeyError, TypeError, RuntimeError) as error:
        _fail(str(error) if isinstance(error, NotACheckpoint) else f"{checkpoint} does not describe a network: {error}")
    try:
        pixels = torch.stack([torch.from_numpy(read_digit(path)) for path in images]).unsqueeze(1)  # (N, 1, 8, 8)
    except NotAnImage as error:
        _fail(str(error))
    model.eval()
    with torch.no_grad():
        found = torch.softmax(model(Normalisation(**trained["normalisation"])(pixels)), 1)
    probabilities, classes = found.topk(min(SHOWN, found.shape[1]))
    console = Console()
    for path, row, order in zip(images, probabilities.tolist(), classes.tolist(), strict=True):
        console.print(_table(path, [(trained["classes"][k], p) for k, p in zip(order, row, strict=True)]))


def _table(path: Path, ranked: list[tuple[str, float]]) -> Table:
    table = Table(title=str(path), title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("class", justify="right")
    table.add_column("probability", justify="right")
    table.add_column("")
    for name, probability in ranked:
        bar = "█" * round(30 * probability)
        table.add_row(name, f"{probability:.2%}", bar, style="" if table.rows else "green")
    return table


def _fail(message: str) -> NoReturn:
    Console(stderr=True).print(f"[bold red]Error:[/] {message}", highlight=False, soft_wrap=True)
    raise typer.Exit(1)
