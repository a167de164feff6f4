"""What a training shows: a bar with the loss and accuracy as they move, and a line for each epoch."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from flambeau.cli.trainer import Epoch, Tally

HEADINGS = ("epoch", "train loss", "train acc", "val loss", "val acc", "time")
WIDTHS = (5, 10, 9, 8, 8, 7)


class TrainingDisplay:
    """A progress bar below the growing table of epochs; use as a context manager."""

    def __init__(self, console: Console, epochs: int, steps: int):
        self.console = console
        self.epochs = epochs
        self.steps = steps
        self._progress = Progress(
            TextColumn("[bold]epoch {task.fields[epoch]}/" + str(epochs)),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:3.0f} %"),
            TextColumn("loss [cyan]{task.fields[loss]:.4f}"),
            TextColumn("acc [green]{task.fields[accuracy]:.1%}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("training", total=epochs * steps, epoch=1, loss=0.0, accuracy=0.0)

    def __enter__(self) -> TrainingDisplay:
        self.console.print(Text(_line(HEADINGS), style="bold"))
        self._progress.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.__exit__(kind, error, at)

    def batch(self, epoch: int, tally: Tally) -> None:
        """One step further, with the epoch's mean loss and accuracy so far."""
        self._progress.update(self._task, advance=1, epoch=epoch, loss=tally.loss, accuracy=tally.accuracy)

    def epoch(self, epoch: Epoch, best: bool) -> None:
        """The line of an epoch that ended; a star says that it is the best so far."""
        cells = (
            str(epoch.number),
            f"{epoch.train_loss:.4f}",
            f"{epoch.train_accuracy:.2%}",
            f"{epoch.val_loss:.4f}",
            f"{epoch.val_accuracy:.2%}",
            f"{epoch.seconds:.2f} s",
        )
        line = Text(_line(cells))
        if best:
            line.append("  ★", style="yellow")
        self._progress.console.print(line)


def _line(cells: tuple[str, ...]) -> str:
    return "   ".join(cell.rjust(width) for cell, width in zip(cells, WIDTHS, strict=True))
