"""The three pictures of a run, drawn without a display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from flambeau.cli.runs import Run, written_whole
from flambeau.cli.trainer import Epoch

TRAIN, HELD_OUT, RIGHT, WRONG = "#1f77b4", "#e8710a", "#1a7f37", "#cf222e"
GRID = (6, 10)  # rows and columns of predictions.png
CAPTION, GAP = 4, 2  # pixels of the 8×8 images that the text above takes, and the space between two


def draw_all(
    run: Run, images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]
) -> None:
    """Draw curves.png, confusion.png and predictions.png into the run's folder.

    Shapes: images (N, H, W), labels (N,), probabilities (N, classes).
    """
    answers = probabilities.argmax(1)
    _save(curves(run.epochs, run.best), run.folder / "curves.png")
    _save(confusion(labels, answers, classes), run.folder / "confusion.png")
    _save(predictions(images, labels, probabilities, classes), run.folder / "predictions.png")


def curves(epochs: Sequence[Epoch], best: Epoch | None) -> Figure:
    """Loss and accuracy of each epoch, in training and on held-out images; the best epoch is marked."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    numbers = [epoch.number for epoch in epochs]
    for axes, what in ((left, "loss"), (right, "accuracy")):
        axes.plot(numbers, [getattr(e, f"train_{what}") for e in epochs], color=TRAIN, marker=".", label="training")
        axes.plot(numbers, [getattr(e, f"val_{what}") for e in epochs], color=HELD_OUT, marker=".", label="held out")
        if best is not None:
            axes.axvline(best.number, color="0.6", linewidth=1, linestyle=":", label=f"best epoch ({best.number})")
        axes.set(xlabel="epoch", title=what)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    left.set_yscale("log")
    left.legend(frameon=False)
    # The first epochs would flatten the part that matters: their points may lie below the axis.
    right.set_ylim(max(0.0, min(0.9, max(e.val_accuracy for e in epochs) - 0.1)), 1.005)
    right.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    return figure


def confusion(labels: np.ndarray, answers: np.ndarray, classes: Sequence[str]) -> Figure:
    """How often each true class got each answer."""
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(counts, (labels, answers), 1)
    figure = Figure(figsize=(6.4, 6), layout="constrained")
    axes = figure.subplots()
    # Errors are few among many right answers: a root scale keeps a single one visible.
    norm = PowerNorm(0.4, vmin=0, vmax=max(1, counts.max()))
    axes.imshow(counts, cmap="Blues", norm=norm)
    for true, answer in np.argwhere(counts):
        count = counts[true, answer]
        bright = norm(count) > 0.6
        colour = WRONG if true != answer else "white" if bright else "black"
        axes.text(answer, true, str(count), ha="center", va="center", color=colour, fontsize=10)
    axes.set(xlabel="predicted", ylabel="true", xticks=range(len(classes)), yticks=range(len(classes)))
    axes.set_xticklabels(classes)
    axes.set_yticklabels(classes)
    wrong = int(counts.sum() - counts.trace())
    axes.set_title(f"{counts.trace()} of {counts.sum()} held-out images right, {wrong} wrong")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def predictions(images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> Figure:
    """A grid of held-out images, each with its true and predicted class: the errors first, then the least certain."""
    answers, certainty = probabilities.argmax(1), probabilities.max(1)
    order = np.lexsort((certainty, answers == labels))[: GRID[0] * GRID[1]]
    height, width = images.shape[1] + CAPTION, images.shape[2] + GAP
    # One picture of all images is many times quicker to draw than axes for each.
    mosaic = np.full((GRID[0] * height, GRID[1] * width), images.min(), images.dtype)
    figure = Figure(figsize=(GRID[1] * 1.05, GRID[0] * 1.05 * height / width + 0.4), layout="constrained")
    axes = figure.subplots()
    for place, index in enumerate(order):
        top, left = place // GRID[1] * height + CAPTION, place % GRID[1] * width + GAP // 2
        mosaic[top : top + images.shape[1], left : left + images.shape[2]] = images[index]
        right = answers[index] == labels[index]
        axes.text(
            left + images.shape[2] / 2 - 0.5,
            top - 1.2,
            f"{classes[labels[index]]} → {classes[answers[index]]}  {certainty[index]:.0%}",
            ha="center",
            fontsize=9,
            color=RIGHT if right else WRONG,
            fontweight="normal" if right else "bold",
        )
        if not right:
            corner = (left - 0.75, top - 0.75)
            size = (images.shape[2] + 0.5, images.shape[1] + 0.5)
            axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=WRONG, linewidth=2.5))
    axes.imshow(mosaic, cmap="gray_r", interpolation="nearest")
    axes.set_axis_off()
    axes.set_title("true → predicted class and its probability; errors first, then the least certain", fontsize=11)
    return figure


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
