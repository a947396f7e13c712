"""The training loop: schedule, validation, checkpoints, log.

A run is a folder: ``config.json``, ``log.jsonl``, ``checkpoint.pt`` (or ``.npz``) with all
that an exact resume needs, and ``average.weights.h5``, the averaged weights for Keras.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from rtseg.calibration.metrics import Scores
from rtseg.engines.labels import CITYSCAPES
from rtseg.models.config import TrainConfig, config_from_json, sides
from rtseg.models.errors import ModelError
from rtseg.models.files import save_weights, write_whole, writing_error
from rtseg.models.quick_look import ValidationSet
from rtseg.models.stock import Batch, BatchLoader, class_weights, load_stock
from rtseg.models.watch import StepReport, Watcher

if TYPE_CHECKING:
    import keras

CHECKPOINT = "checkpoint"
AVERAGE = "average.weights.h5"
#: Of the checkpoint of each trainer.
SUFFIXES = {"torch": ".pt", "keras": ".npz"}
LOG_EVERY = 20


class Trainer(Protocol):
    """What the loop needs of a framework."""

    name: str
    #: Suffix of its checkpoint file.
    suffix: str
    step_count: int

    def train_step(self, batch: Batch, rate: float) -> float:
        """Take one step; return the loss."""

    def settle_norms(self, batches: Iterable[Batch]) -> None:
        """Take the averaged weights' BatchNorm statistics from ``batches`` alone."""

    def predict(self, images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
        """Classify with the averaged weights.

        Args:
            images: RGB uint8 (N, H, W, 3), of a size that the network takes.
            size: (height, width) of the answer, in pixels; logits are enlarged to it.

        Returns:
            uint8 (N, height, width): trainIds.
        """

    def averaged_model(self) -> keras.Model:
        """Return the network with the averaged weights."""

    def save(self, path: Path, progress: dict[str, float]) -> None:
        """Write the state of the trainer and where the run is, in one file."""

    def load(self, path: Path) -> dict[str, float] | None:
        """Read the state of the trainer; return where the run was, None in older files."""


@dataclass
class Progress:
    """Where a run is; kept in each checkpoint, and beside it for people."""

    step: int = 0
    sample: int = 0
    seconds: float = 0.0

    def part(self, config: TrainConfig, step: int | None = None) -> float:
        """Part of the run that is done, 0 to 1, by steps or minutes, whichever is further.

        With ``step``, the part before that step, as far as the clock tells by now.
        """
        done = (self.step if step is None else step) / config.steps
        if config.minutes is not None:
            done = max(done, self.seconds / 60.0 / config.minutes)
        return min(done, 1.0)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise writing_error(path, error) from error


def check_same_run(config: TrainConfig, folder: Path) -> None:
    """Check that a folder holds no other configuration than ``config``.

    Raises:
        ModelError: ``BAD_CONFIG``: it does, or what it holds is no configuration.
    """
    kept = folder / "config.json"
    # Read back, so that options added since have the values they had without a name.
    if kept.exists() and config_from_json(kept.read_text(), str(kept)) != config:
        raise ModelError(
            f"{folder} holds a run of another configuration; resume with its own config.json "
            "or choose another folder",
            reason="BAD_CONFIG",
        )


def check_folder(folder: Path, *, resume: bool) -> None:
    """Check that a new run would not overwrite the one that a folder holds.

    Args:
        folder: of the run; may be missing.
        resume: whether the run there is to go on.

    Raises:
        ModelError: ``BAD_CONFIG``: it would.
    """
    if not resume and any(folder.glob(CHECKPOINT + ".*")):
        raise ModelError(
            f"{folder} holds a run already; --resume continues it, another folder starts anew",
            reason="BAD_CONFIG",
        )


def check_same_trainer(name: str, folder: Path) -> None:
    """Check that a folder holds no checkpoint of another trainer than ``name``.

    Args:
        name: a key of `SUFFIXES`.
        folder: of the run.

    Raises:
        ModelError: ``BAD_CONFIG``: it does.
    """
    for other, suffix in SUFFIXES.items():
        path = folder / (CHECKPOINT + suffix)
        if other != name and path.exists():
            raise ModelError(
                f"{path} was written by the {other} trainer; --trainer {other} continues it. "
                f"Received: {name}",
                reason="BAD_CONFIG",
            )


class Run:
    """One training run in one folder.

    Args:
        config: what to train, on what, for how long.
        folder: where checkpoints and the log go; made if missing.
        data_root: where relative data sets lie.
        make_trainer: from class weights to a trainer.
        say: receives each line of the log for people.
        teacher: what ``config.distill`` learns from, see `load_stock`.
        watchers: are told each step and each look; closed at the end of `train`.
        workers: threads that draw views; the run is the same for any number.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        data_root: Path,
        make_trainer: Callable[[NDArray[np.float32]], Trainer],
        *,
        say: Callable[[str], None] = print,
        teacher: Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None = None,
        watchers: Sequence[Watcher] = (),
        workers: int = 1,
    ) -> None:
        if config.distill and teacher is None:
            raise ModelError(
                f"the configuration distils (distill {config.distill}) and no teacher is given; "
                "name one with --teacher FILE.onnx",
                reason="BAD_CONFIG",
            )
        self.config, self.folder, self.say = config, folder, say
        self.watchers, self.workers = tuple(watchers), workers
        with _disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        check_same_run(config, folder)
        self.stock = load_stock(
            config.sources, data_root, limit=config.limit, progress=say, teacher=teacher
        )
        weights = class_weights(self.stock.frequencies, cap=config.weight_cap)
        self.validation = None
        if config.validation is not None:
            self.validation = ValidationSet.load(
                config.validation, data_root, config.validation_images, sides(config.size)
            )
        self.trainer = make_trainer(weights)
        self.progress = Progress()
        write_whole(folder / "config.json", config.to_json().encode())

    @property
    def checkpoint_path(self) -> Path:
        """The file that `resume` reads."""
        return self.folder / (CHECKPOINT + self.trainer.suffix)

    def resume(self) -> bool:
        """Continue from the folder's checkpoint; False where there is none.

        Raises:
            ModelError: the checkpoint is damaged, or another trainer's.
        """
        path = self.checkpoint_path
        if not path.exists():
            check_same_trainer(self.trainer.name, self.folder)
            self.say(f"nothing to resume in {self.folder}: the run begins")
            return False
        where = self.trainer.load(path)
        try:
            if where is None:
                where = json.loads(path.with_suffix(".json").read_text())
            self.progress = Progress(**where)
        except (OSError, ValueError, TypeError) as error:
            raise ModelError(f"cannot resume: {error}", reason="BAD_WEIGHTS") from error
        self.say(f"resumed at step {self.progress.step}")
        return True

    def checkpoint(self) -> None:
        """Write checkpoint, progress and averaged weights."""
        path = self.checkpoint_path
        self.trainer.save(path, vars(self.progress))
        write_whole(path.with_suffix(".json"), json.dumps(vars(self.progress)).encode())
        self.export_average()

    def export_average(self) -> Path:
        """Write the averaged weights for Keras and return their path."""
        path = self.folder / AVERAGE
        save_weights(self.trainer.averaged_model(), path)
        return path

    def _log(self, record: dict[str, Any]) -> None:
        with _disk_errors(self.folder), open(self.folder / "log.jsonl", "a") as log:
            log.write(json.dumps(record) + "\n")

    def validate(self) -> Scores | None:
        """Judge the averaged weights and log the result."""
        if self.validation is None:
            return None
        result = self.validation.judge(self.trainer)
        self._log(
            {
                "step": self.progress.step,
                "miou": round(result.mean_iou, 4),
                "pixel_accuracy": round(result.pixel_accuracy, 4),
                "class_iou": [
                    None if np.isnan(v) else round(float(v), 4) for v in result.class_iou
                ],
            }
        )
        worst = ", ".join(
            f"{name} {100 * value:.0f}"
            for name, value in zip(CITYSCAPES.names, result.class_iou, strict=True)
        )
        for watcher in self.watchers:
            watcher.looked(self.progress.step, result)
        self.say(
            f"step {self.progress.step}: mIoU {100 * result.mean_iou:.2f} "
            f"pixels {100 * result.pixel_accuracy:.2f} ({worst})"
        )
        return result

    def train(self) -> None:
        """Train to the end of the run.

        Raises:
            ModelError: the loss is not finite, or a checkpoint cannot be written.
        """
        cv2.setNumThreads(1)
        try:
            with self.batches() as loader:
                self._train(loader)
            if self.config.norm_batches:
                self.say(f"statistics of {self.config.norm_batches} batches")
                with self.batches() as loader:
                    self.trainer.settle_norms(islice(loader, self.config.norm_batches))
            self.checkpoint()
            self.validate()
        finally:
            for watcher in self.watchers:
                watcher.close()
        self.say(f"done: {self.folder / AVERAGE}")

    def batches(self) -> BatchLoader:
        """Return the run's batches from where it is."""
        config, progress = self.config, self.progress

        return BatchLoader(
            self.stock,
            config.augment,
            seed=config.seed,
            nominal=config.size,
            phase=lambda step: config.phase_at(progress.part(config, step)),
            start=progress.sample,
            step=progress.step,
            rare=config.rare,
            workers=self.workers,
        )

    def _train(self, loader: BatchLoader) -> None:
        config, progress = self.config, self.progress
        base, started = progress.seconds, time.monotonic()
        next_save = base + 60 * config.checkpoint_minutes
        next_look = base + 60 * config.validation_minutes
        losses: list[float] = []
        mark = before = started
        seen = 0
        for batch in loader:
            part = progress.part(config)
            if part >= 1.0:
                return
            rate = config.rate_at(part, progress.step)
            losses.append(self.trainer.train_step(batch, rate))
            now = time.monotonic()
            progress.step += 1
            progress.sample = batch.next_sample
            progress.seconds = base + now - started
            seen += len(batch.images)
            part = progress.part(config)
            report = StepReport(
                step=progress.step,
                part=part,
                left_s=progress.seconds * (1 / max(part, 1e-6) - 1),
                loss=losses[-1],
                rate=rate,
                crop=batch.images.shape[1:3],
                images_per_second=len(batch.images) / max(now - before, 1e-9),
            )
            before = now
            for watcher in self.watchers:
                watcher.step(report)
            if progress.step % LOG_EVERY == 0:
                self._say_where(report, float(np.mean(losses)), seen / max(now - mark, 1e-9))
                losses, mark, seen = [], now, 0
            if progress.seconds >= next_save:
                self.checkpoint()
                next_save = progress.seconds + 60 * config.checkpoint_minutes
            if progress.seconds >= next_look:
                self.validate()
                next_look = progress.seconds + 60 * config.validation_minutes
                mark, seen = time.monotonic(), 0

    def _say_where(self, report: StepReport, loss: float, speed: float) -> None:
        self._log(
            {
                "step": report.step,
                "part": round(report.part, 4),
                "loss": round(loss, 4),
                "rate": round(report.rate, 4),
                "images_per_second": round(speed, 2),
            }
        )
        self.say(
            f"step {report.step} ({100 * report.part:.1f} %, {report.left_s / 60:.0f} min left) "
            f"loss {loss:.4f} rate {report.rate:.3f} crop {report.crop_text} {speed:.1f} images/s"
        )
