"""The folder of a run: its checkpoint and figures. Files appear whole or not at all."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import flambeau as torch
from flambeau.cli.trainer import Epoch

NEEDED = ("architecture", "model", "classes", "normalisation")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path to write to; when the block ends well the file takes the place of `path`, else it goes."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class Run:
    """`out/name/`, made on demand; what an earlier run of that name left there is removed."""

    FILES = ("checkpoint.pt", "metrics.csv", "curves.png", "confusion.png", "predictions.png")

    def __init__(self, out: Path, name: str):
        self.folder = out / name
        self.folder.mkdir(parents=True, exist_ok=True)
        for file in self.FILES:
            (self.folder / file).unlink(missing_ok=True)
        self.epochs: list[Epoch] = []
        self.best: Epoch | None = None

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def note(self, epoch: Epoch) -> bool:
        """Write the epoch down in metrics.csv; says whether it is the best so far."""
        self.epochs.append(epoch)
        with written_whole(self.folder / "metrics.csv") as path, open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", *(field.name for field in fields(Epoch)[1:])])
            writer.writerows(map(astuple, self.epochs))
        if not epoch.better_than(self.best):
            return False
        self.best = epoch
        return True

    def save(self, model: torch.nn.Module, **facts: Any) -> None:
        """Write checkpoint.pt: the model's weights and whatever is needed to use them again."""
        with written_whole(self.checkpoint) as path:
            torch.save({"model": model.state_dict(), **facts}, path)


class NotACheckpoint(Exception):
    """The file cannot be used as a checkpoint; the message says why."""


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `Run.save` wrote. Raises NotACheckpoint, with the reason, for anything else."""
    if not path.is_file():
        raise NotACheckpoint(f"no checkpoint at {path}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or foreign file makes the reader say
        raise NotACheckpoint(f"{path} is not a checkpoint: {str(error).splitlines()[0]}") from error
    if not isinstance(checkpoint, dict):
        raise NotACheckpoint(f"{path} holds a {type(checkpoint).__name__}, not the checkpoint of a run")
    missing = [name for name in NEEDED if name not in checkpoint]
    if missing:
        raise NotACheckpoint(f"{path} is not the checkpoint of a run: it has no {', '.join(missing)}")
    return checkpoint
