"""The quick look at a network while it is trained: a few images, judged at one size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rtseg.calibration.cityscapes import find_samples, read_image, read_label
from rtseg.calibration.metrics import Scores, confusion_matrix, scores
from rtseg.engines.labels import CITYSCAPES
from rtseg.engines.nearest import scale_nearest
from rtseg.engines.preprocess import array_to_engine_input
from rtseg.models.config import SourceConfig

if TYPE_CHECKING:
    from rtseg.models.train import Trainer

#: Validation labels are judged in this size (width, height) while training.
VALIDATION_SIZE = (1024, 512)


@dataclass(frozen=True)
class ValidationSet:
    """Images RGB uint8 (H, W, 3) and trainIds (512, 1024) for a quick look."""

    images: list[NDArray[np.uint8]]
    labels: list[NDArray[np.uint8]]

    @classmethod
    def load(
        cls, source: SourceConfig, data_root: Path, count: int, size: tuple[int, int]
    ) -> ValidationSet:
        """Read ``count`` evenly spread images of a Cityscapes split at ``size`` (h, w).

        Images are resized as the loop and `rtseg.models.evaluate` resize them, labels by the
        rule of the class ids.

        Raises:
            CalibrationError: there are none, or one cannot be read.
        """
        samples = find_samples(data_root / source.root, source.split)
        chosen = np.unique(np.linspace(0, len(samples) - 1, count).round().astype(int))
        images, labels = [], []
        for index in chosen:
            images.append(array_to_engine_input(read_image(samples[index].image), *size))
            labels.append(scale_nearest(read_label(samples[index]), *VALIDATION_SIZE[::-1]))
        return cls(images, labels)

    def judge(self, trainer: Trainer, batch: int = 4) -> Scores:
        """Score the averaged weights."""
        classes = len(CITYSCAPES)
        matrix = np.zeros((classes, classes), np.int64)
        size = (VALIDATION_SIZE[1], VALIDATION_SIZE[0])
        for start in range(0, len(self.images), batch):
            predictions = trainer.predict(np.stack(self.images[start : start + batch]), size)
            for label, guess in zip(self.labels[start : start + batch], predictions, strict=True):
                matrix += confusion_matrix(label, guess, classes)
        return scores(matrix)
