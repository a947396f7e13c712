"""The progress bar of ``rt-seg-model train``, with the time that is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rtseg.models.watch import StepReport

if TYPE_CHECKING:
    from rtseg.calibration.metrics import Scores


class TrainBar:
    """Draws one line on stderr; log lines printed through `say` stay above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
        from rich.progress import TimeElapsedColumn as Elapsed

        self._progress = Progress(
            TextColumn("step {task.fields[step]}"),
            BarColumn(),
            TaskProgressColumn(),
            Elapsed(),
            TextColumn("{task.fields[left]} left, loss {task.fields[loss]}"),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("train", total=1.0, step=0, left="?", loss="?")
        self._loss: float | None = None
        self._best: float | None = None
        self._progress.start()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(line, highlight=False, markup=False)

    def step(self, report: StepReport) -> None:
        """Move the bar."""
        self._loss = report.loss if self._loss is None else 0.95 * self._loss + 0.05 * report.loss
        minutes, seconds = divmod(round(report.left_s), 60)
        hours, minutes = divmod(minutes, 60)
        self._progress.update(
            self._task,
            completed=report.part,
            step=report.step,
            left=f"{hours}:{minutes:02d}:{seconds:02d}",
            loss=f"{self._loss:.4f}",
        )

    def looked(self, step: int, result: Scores) -> None:
        """Nothing: the run says what it saw."""

    def close(self) -> None:
        """Leave the last state on the screen."""
        self._progress.stop()
