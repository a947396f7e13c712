"""Which learning rate a run can bear: raise it from tiny to too large and watch the loss.

Smith, "Cyclical Learning Rates for Training Neural Networks", 2017, section 3.3.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rtseg.models.errors import ModelError, missing_package
from rtseg.models.files import write_whole
from rtseg.models.stock import Batch
from rtseg.models.train import Trainer

#: The search ends where the loss is so many times its lowest.
DIVERGED = 3.0
SMOOTHING = 0.9
#: Kinds of files that `plot` writes.
PLOTS = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class RatePoint:
    """One step of the search.

    Attributes:
        rate: factor on the configuration's peak learning rates.
        loss: of the step's batch.
        smooth: running mean of the loss.
    """

    rate: float
    loss: float
    smooth: float


def check(low: float, high: float, steps: int) -> None:
    """Raise `ModelError` where a search would have an empty range or too few steps."""
    if not 0 < low < high < math.inf or steps < 5:
        raise ModelError(
            f"learning rates from {low} to {high} in {steps} steps; "
            "allowed: 0 < low < high, at least 5 steps",
            reason="BAD_CONFIG",
        )


def find_rate(
    trainer: Trainer,
    batches: Iterable[Batch],
    *,
    low: float = 0.01,
    high: float = 30.0,
    steps: int = 80,
    tick: Callable[[RatePoint], None] = lambda point: None,
) -> list[RatePoint]:
    """Train while the rate rises exponentially from ``low`` to ``high``.

    Args:
        trainer: at its starting weights; not fit for training afterwards.
        batches: at least ``steps`` of them.
        low, high: factors on the configuration's peak learning rates.
        steps: how many steps; fewer where the loss diverges.
        tick: told after each step.

    Raises:
        ModelError: the range is empty or there are too few steps.
    """
    check(low, high, steps)
    points: list[RatePoint] = []
    mean, best = 0.0, math.inf
    for number, batch in enumerate(batches):
        if number == steps:
            break
        rate = low * (high / low) ** (number / (steps - 1))
        try:
            loss = trainer.train_step(batch, rate)
        except ModelError as error:
            if error.reason != "NAN_LOSS":
                raise
            break
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        point = RatePoint(rate, loss, mean / (1 - SMOOTHING ** (number + 1)))
        points.append(point)
        tick(point)
        best = min(best, point.smooth)
        if number > steps // 5 and point.smooth > DIVERGED * best:
            break
    return points


def suggest(points: Sequence[RatePoint]) -> float:
    """Return a peak rate: a tenth of the rate at which the smoothed loss is lowest.

    Raises:
        ModelError: too few points to tell.
    """
    if len(points) < 5:
        raise ModelError(
            f"the loss diverged after {len(points)} steps; begin with lower learning rates",
            reason="BAD_CONFIG",
        )
    return min(points, key=lambda point: point.smooth).rate / 10.0


def check_plot(path: Path) -> None:
    """Raise `ModelError` where `plot` could not write a file of this name."""
    if path.suffix.lower() not in PLOTS:
        raise ModelError(f"plot {path}; allowed: {', '.join(PLOTS)}", reason="BAD_CONFIG")
    if not path.resolve().parent.is_dir():
        raise ModelError(f"no such folder for the plot: {path.parent}", reason="NOT_FOUND")


def plot(points: Sequence[RatePoint], chosen: float, path: Path) -> None:
    """Draw loss over rate; the suffix chooses the format (.png, .svg, .pdf).

    Raises:
        ModelError: matplotlib is missing, or the file cannot be written.
    """
    check_plot(path)
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_package("matplotlib", "the plot of lr-find") from error
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    rates = [point.rate for point in points]
    axes.plot(rates, [point.loss for point in points], color="0.75", label="loss of a batch")
    axes.plot(rates, [point.smooth for point in points], label="running mean")
    axes.axvline(chosen, color="tab:green", linestyle="--", label=f"suggested: {chosen:.2g}")
    lowest = min(point.smooth for point in points)
    highest = max(point.smooth for point in points[: max(5, len(points) // 5)])
    axes.set_ylim(0.9 * lowest, max(1.1 * highest, 1.3 * lowest))
    axes.set_xscale("log")
    axes.set_xlabel("factor on the peak learning rates")
    axes.set_ylabel("loss")
    axes.legend()
    data = io.BytesIO()
    figure.savefig(data, format=path.suffix[1:].lower())
    write_whole(path, data.getvalue())
