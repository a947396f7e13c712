"""What a training run tells those who watch it: a progress bar, TensorBoard."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rtseg.calibration.metrics import Scores
from rtseg.engines.labels import CITYSCAPES
from rtseg.models.errors import missing_package


@dataclass(frozen=True)
class StepReport:
    """One optimiser step.

    Attributes:
        step: its number, from 1.
        part: part of the run that is done, 0 to 1.
        left_s: seconds to the end, as far as the past tells.
        loss: of its batch.
        rate: factor on the peak learning rates.
        crop: (height, width) of its views in pixels.
        images_per_second: since the step before.
    """

    step: int
    part: float
    left_s: float
    loss: float
    rate: float
    crop: tuple[int, int]
    images_per_second: float

    @property
    def crop_text(self) -> str:
        """Size of its views: the side of squares, else width x height."""
        height, width = self.crop
        return str(width) if width == height else f"{width}x{height}"


class Watcher(Protocol):
    """Receives what happens in a run."""

    def step(self, report: StepReport) -> None:
        """After each step."""

    def looked(self, step: int, result: Scores) -> None:
        """After each look at the validation images."""

    def close(self) -> None:
        """At the end of the run, also after an error."""


class TensorBoardLog:
    """Writes scalars for TensorBoard: ``tensorboard --logdir FOLDER``.

    Args:
        folder: where the event files go; made if missing.

    Raises:
        ModelError: the package ``tensorboard`` is missing.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.compat.proto.summary_pb2 import Summary
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError as error:
            raise missing_package("tensorboard", "--tensorboard") from error
        self._event, self._summary = Event, Summary
        self._writer = EventFileWriter(str(folder))

    def _add(self, step: int, scalars: dict[str, float]) -> None:
        import time

        values = [self._summary.Value(tag=tag, simple_value=v) for tag, v in scalars.items()]
        event = self._event(wall_time=time.time(), step=step, summary=self._summary(value=values))
        self._writer.add_event(event)

    def step(self, report: StepReport) -> None:
        """Write loss, rate and speed of a step."""
        self._add(
            report.step,
            {
                "train/loss": report.loss,
                "train/rate": report.rate,
                "train/images_per_second": report.images_per_second,
            },
        )

    def looked(self, step: int, result: Scores) -> None:
        """Write mIoU, pixel accuracy and the IoU of every class that occurs."""
        scalars = {
            "validation/miou": float(result.mean_iou),
            "validation/pixel_accuracy": float(result.pixel_accuracy),
        }
        for name, value in zip(CITYSCAPES.names, result.class_iou, strict=True):
            if value == value:
                scalars[f"class_iou/{name}"] = float(value)
        self._add(step, scalars)
        self._writer.flush()

    def close(self) -> None:
        """Write out what is kept."""
        self._writer.close()
