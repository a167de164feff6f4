"""`flambeau train digits`: a convolutional network on handwritten digits, and pictures of what it learned."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

import flambeau as torch
from flambeau import nn
from flambeau.cli import digits as task
from flambeau.cli import networks
from flambeau.cli.display import TrainingDisplay
from flambeau.cli.runs import Run, load_checkpoint
from flambeau.cli.trainer import Epoch, Trainer, probabilities
from flambeau.version import __version__

INTERRUPTED = 130  # what a shell expects of a program that Ctrl-C ended

app = typer.Typer(help="Train a network.", no_args_is_help=True)


@app.callback()
def options() -> None:
    """Train a network."""


@app.command("digits")
def train_digits(
    epochs: int = typer.Option(12, min=1, help="Times to go through the training images."),
    batch_size: int = typer.Option(64, min=2, help="Images per step."),
    lr: float = typer.Option(5e-3, min=0.0, help="Highest learning rate of the one-cycle schedule."),
    channels: tuple[int, int, int] = typer.Option((32, 64, 128), help="Channels of the three convolutions."),
    dropout: float = typer.Option(0.3, min=0.0, max=1.0, help="Share of features dropped before the last layer."),
    seed: int = typer.Option(0, help="The same seed gives the same numbers."),
    threads: int = typer.Option(
        1,
        min=1,
        help="Threads to use. So small a network gains little from more and loses on a busy machine.",
    ),
    name: str = typer.Option("digits", help="Name of the run; an earlier run of that name is replaced."),
    out: Path = typer.Option(Path("runs"), help="Folder for runs."),
) -> None:
    """Train a convolutional network on 1,797 handwritten digits of 8×8 pixels.

    Writes OUT/NAME/: checkpoint.pt (the best epoch's weights), metrics.csv, curves.png, confusion.png, predictions.png.
    Ctrl-C stops early and keeps the best weights so far.
    """
    console = Console()
    start = time.perf_counter()
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    data = task.load(batch_size)
    architecture = {
        "name": "DigitNet",
        "arguments": {"channels": list(channels), "classes": len(data.classes), "dropout": dropout},
    }
    model = networks.build(architecture)
    facts = {
        "architecture": architecture,
        "classes": list(data.classes),
        "normalisation": {"mean": data.normalisation.mean, "std": data.normalisation.std},
        "seed": seed,
        "flambeau": __version__,
    }
    run = Run(out, name)
    console.print(
        f"[bold]digits[/]: {len(data.train.dataset):,} images to learn from, {len(data.held_out.dataset)} held out; "
        f"{networks.count_parameters(model):,} parameters; seed {seed}",
        highlight=False,
    )
    try:
        _fit(console, run, model, data, facts, epochs, lr)
        _report(console, run, data, start)
    except KeyboardInterrupt:
        _stop_early(console, run, model, facts)


def _fit(
    console: Console, run: Run, model: nn.Module, data: task.DigitData, facts: dict[str, Any], epochs: int, lr: float
) -> None:
    """Train, writing down each epoch and keeping the weights of the best."""
    steps = len(data.train)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=epochs * steps)
    trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, scheduler, augment=data.shift)
    with TrainingDisplay(console, epochs, steps) as display:
        for epoch in trainer.run(data.train, data.held_out, epochs, on_batch=display.batch):
            best = run.note(epoch)
            if best:
                run.save(model, epoch=epoch.number, metrics=_metrics(epoch), **facts)
            display.epoch(epoch, best)


def _metrics(epoch: Epoch) -> dict[str, float]:
    return {
        "train_loss": epoch.train_loss,
        "train_accuracy": epoch.train_accuracy,
        "val_loss": epoch.val_loss,
        "val_accuracy": epoch.val_accuracy,
    }


def _report(console: Console, run: Run, data: task.DigitData, start: float) -> None:
    """Draw the pictures with the best epoch's weights and say what was reached."""
    checkpoint = load_checkpoint(run.checkpoint)
    model = networks.build(checkpoint["architecture"])
    model.load_state_dict(checkpoint["model"])
    try:
        from flambeau.cli import pictures
    except ImportError:
        console.print("No pictures: they need matplotlib (pip install 'flambeau[plot]').", highlight=False)
    else:
        images, labels = (torch.cat(parts).numpy() for parts in zip(*data.held_out, strict=True))
        found = probabilities(model, data.held_out).numpy()
        pictures.draw_all(run, images[:, 0], labels, found, data.classes)
    console.print(
        f"Best: epoch {checkpoint['epoch']}, {checkpoint['metrics']['val_accuracy']:.2%} of the held-out images right "
        f"({time.perf_counter() - start:.1f} s in all).",
        highlight=False,
    )
    written = ", ".join(sorted(path.name for path in run.folder.iterdir()))
    console.print(f"Wrote {run.folder}/: {written}", highlight=False, soft_wrap=True)


def _stop_early(console: Console, run: Run, model: nn.Module, facts: dict[str, Any]) -> None:
    """Leave a checkpoint that loads, say which, and exit as interrupted programs do."""
    if run.best is None:
        run.save(model, epoch=0, metrics={}, **facts)
        kept = "the weights as they were, before the first epoch ended"
    else:
        kept = f"the best weights so far: epoch {run.best.number}, {run.best.val_accuracy:.2%}"
    console.print(f"Stopped. {run.checkpoint} holds {kept}.", highlight=False, soft_wrap=True)
    raise typer.Exit(INTERRUPTED)
