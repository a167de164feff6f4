"""The training loop: epochs of forward, backward and step, each followed by a look at the held-out data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import flambeau as torch
from flambeau import nn


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to. Losses are means per example, accuracies fractions."""

    number: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    learning_rate: float
    seconds: float

    def better_than(self, other: Epoch | None) -> bool:
        """More of the held-out examples right, or as many at a smaller loss."""
        if other is None:
            return True
        return (self.val_accuracy, -self.val_loss) > (other.val_accuracy, -other.val_loss)


class Tally:
    """Running mean of the loss and share of right answers."""

    def __init__(self) -> None:
        self.examples = 0
        self._loss = 0.0
        self._right = 0

    def add(self, loss: float, right: int, examples: int) -> None:
        """One batch: its mean loss, how many answers were right, how many examples it had."""
        self.examples += examples
        self._loss += loss * examples
        self._right += right

    @property
    def loss(self) -> float:
        return self._loss / max(1, self.examples)

    @property
    def accuracy(self) -> float:
        return self._right / max(1, self.examples)


class Trainer:
    """Trains a classifier.

    Args:
        model: takes a batch of inputs, returns logits (N, classes).
        criterion: the loss of logits and targets, a mean over the batch.
        optimizer: what moves the model's parameters.
        scheduler: stepped after every batch, if given.
        augment: what to do to the inputs of a training batch, if anything.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        optimizer: Any,
        scheduler: Any = None,
        augment: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ):
        self.model = model
        self.criterion = criterion
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.augment = augment

    def run(
        self,
        train: Iterable[Any],
        held_out: Iterable[Any],
        epochs: int,
        on_batch: Callable[[int, Tally], None] = lambda number, tally: None,
    ) -> Iterator[Epoch]:
        """Train, and hand out each epoch's figures as it ends. `on_batch(epoch, tally so far)` hears of every step."""
        for number in range(1, epochs + 1):
            start = time.perf_counter()
            rate = self.optimizer.param_groups[0]["lr"]
            learned = self._train_epoch(train, lambda tally, number=number: on_batch(number, tally))
            seen = self.evaluate(held_out)
            seconds = time.perf_counter() - start
            yield Epoch(number, learned.loss, learned.accuracy, seen.loss, seen.accuracy, rate, seconds)

    def _train_epoch(self, batches: Iterable[Any], on_batch: Callable[[Tally], None]) -> Tally:
        self.model.train()
        tally = Tally()
        for inputs, targets in batches:
            if self.augment is not None:
                inputs = self.augment(inputs)
            self.optimizer.zero_grad()
            logits = self.model(inputs)
            loss = self.criterion(logits, targets)
            loss.backward()
            self.optimizer.step()
            if self.scheduler is not None:
                self.scheduler.step()
            tally.add(loss.item(), count_right(logits, targets), len(targets))
            on_batch(tally)
        return tally

    def evaluate(self, batches: Iterable[Any]) -> Tally:
        """Loss and accuracy on batches, in evaluation mode, without changing the model."""
        self.model.eval()
        tally = Tally()
        with torch.no_grad():
            for inputs, targets in batches:
                logits = self.model(inputs)
                loss = self.criterion(logits, targets)
                tally.add(loss.item(), count_right(logits, targets), len(targets))
        return tally


def count_right(logits: torch.Tensor, targets: torch.Tensor) -> int:
    """How many rows of logits have their largest value at the target."""
    return int((logits.argmax(1) == targets).sum())


def probabilities(model: nn.Module, batches: Iterable[Any]) -> torch.Tensor:
    """The model's probability of every class for every example, (N, classes), in evaluation mode."""
    model.eval()
    with torch.no_grad():
        return torch.cat([torch.softmax(model(inputs), 1) for inputs, _ in batches])
