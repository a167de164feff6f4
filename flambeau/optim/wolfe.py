"""A line search for the strong Wolfe conditions, with cubic interpolation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flambeau.core.tensor import Tensor

ARMIJO, CURVATURE = 1e-4, 0.9  # c1 and c2: sufficient decrease, and how much flatter the slope must become


@dataclass
class Point:
    """A step length along the direction, with loss, gradient and slope there."""

    t: Any
    loss: float
    grad: Tensor
    slope: Any


def strong_wolfe(
    evaluate: Callable[[Any], tuple[float, Tensor]],
    t: Any,
    direction: Tensor,
    loss: float,
    grad: Tensor,
    slope: Any,
    *,
    tolerance_change: float = 1e-9,
    max_evaluations: int = 25,
) -> tuple[float, Tensor, Any, int]:
    """A step length that satisfies the strong Wolfe conditions, or the best one found.

    `evaluate(t)` gives loss and gradient at step length t; `loss`, `grad` and `slope` are those at 0.
    Returns (loss, gradient, step length, evaluations).
    Source: Nocedal & Wright 2006, "Numerical optimization", algorithms 3.5 and 3.6, with minFunc's safeguards.
    """

    def point(t: Any) -> Point:
        value, gradient = evaluate(t)
        return Point(t, value, gradient, gradient.dot(direction))

    def too_high(new: Point) -> bool:
        return new.loss > loss + ARMIJO * new.t * slope

    def flat_enough(new: Point) -> bool:
        return abs(new.slope) <= -CURVATURE * slope

    start = previous = Point(0, loss, grad, slope)
    new = point(t)
    rounds = 0

    # Algorithm 3.5: lengthen the step until it is good, or until it brackets a good one.
    while rounds < max_evaluations:
        if too_high(new) or (rounds > 1 and new.loss >= previous.loss):
            bracket = [previous, new]
            break
        if flat_enough(new):
            return new.loss, new.grad, new.t, rounds + 1
        if new.slope >= 0:
            bracket = [previous, new]
            break
        bounds = new.t + 0.01 * (new.t - previous.t), new.t * 10
        t = _minimum_of_cubic(previous, new, bounds)
        previous, new = new, point(t)
        rounds += 1
    else:
        bracket = [start, new]

    # Algorithm 3.6: shorten the bracket around the lower end.
    low, high = _by_loss(bracket)
    stuck = False
    while rounds < max_evaluations:
        first, last = bracket
        if abs(last.t - first.t) * direction.abs().max() < tolerance_change:
            break
        t = _minimum_of_cubic(first, last)
        t, stuck = _keep_away_from_ends(t, first.t, last.t, stuck)
        new = point(t)
        rounds += 1
        if too_high(new) or new.loss >= bracket[low].loss:
            bracket[high] = new
            low, high = _by_loss(bracket)
            continue
        done = flat_enough(new)
        if not done and new.slope * (bracket[high].t - bracket[low].t) >= 0:
            bracket[high] = bracket[low]
        bracket[low] = new
        if done:
            break
    best = bracket[low]
    return best.loss, best.grad, best.t, rounds + 1


def _by_loss(bracket: list[Point]) -> tuple[int, int]:
    return (0, 1) if bracket[0].loss <= bracket[1].loss else (1, 0)


def _keep_away_from_ends(t: Any, a: Any, b: Any, stuck: bool) -> tuple[Any, bool]:
    """Move a trial that hugs an end of the bracket, for the second time or beyond it, a tenth inside."""
    left, right = min(a, b), max(a, b)
    margin = 0.1 * (right - left)
    if min(right - t, t - left) >= margin:
        return t, False
    if not (stuck or t >= right or t <= left):
        return t, True
    return (right - margin if abs(t - right) < abs(t - left) else left + margin), False


def _minimum_of_cubic(a: Point, b: Point, bounds: tuple[Any, Any] | None = None) -> Any:
    """Where the cubic with the losses and slopes of two points is least, kept within bounds (default: between them).

    Source: Nocedal & Wright, equation 3.59.
    """
    left, right = (a, b) if a.t <= b.t else (b, a)
    lowest, highest = (left.t, right.t) if bounds is None else bounds
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = d1**2 - a.slope * b.slope
    if square < 0:
        return (lowest + highest) / 2.0
    d2 = square**0.5
    t = right.t - (right.t - left.t) * ((right.slope + d2 - d1) / (right.slope - left.slope + 2 * d2))
    return min(max(t, lowest), highest)
