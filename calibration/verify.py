"""How well an engine segments labelled images, as the loop would see them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rtseg.calibration.calibration_set import read_frame
from rtseg.calibration.cityscapes import Sample, read_label
from rtseg.calibration.errors import CalibrationError
from rtseg.calibration.metrics import Scores, confusion_matrix, scores
from rtseg.engines.engine import Engine, Handle
from rtseg.engines.preprocess import to_engine_input

U8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Verdict:
    """An engine on labelled images.

    Attributes:
        scores: against the labels, at the labels' own size.
        labels: the engine's class ids of each image, uint8, in the engine's size; to
            compare engines with each other.
    """

    scores: Scores
    labels: tuple[U8, ...]

    def agreement(self, other: Verdict) -> float:
        """Return the share of the pixels to which both engines gave the same class, 0 to 1.

        Raises:
            CalibrationError: ``BAD_INPUT`` where the images or sizes differ.
        """
        if [a.shape for a in self.labels] != [b.shape for b in other.labels]:
            raise CalibrationError(
                "two engines are compared on the same images in the same size. Received: "
                f"{len(self.labels)} and {len(other.labels)} images, or other sizes",
                reason="BAD_INPUT",
            )
        pairs = list(zip(self.labels, other.labels, strict=True))
        same = sum(int(np.count_nonzero(a == b)) for a, b in pairs)
        return same / max(1, sum(a.size for a in self.labels))


def verify_engine(
    engine: Engine,
    samples: Sequence[Sample],
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> Verdict:
    """Run an engine over labelled images.

    Class ids are brought to the label's size with the nearest neighbour, as the loop does
    for the frame.

    Args:
        engine: an open engine of the data set's classes.
        samples: labelled images.
        progress: told how far it is.

    Raises:
        CalibrationError: ``NO_IMAGES``, an image or label cannot be read, or the engine
            gives classes that the data set does not have.
        EngineError: the engine failed.
    """
    if not samples:
        raise CalibrationError("verification needs labelled images", reason="NO_IMAGES")
    spec = engine.spec
    classes = len(spec.classes)
    matrix = np.zeros((classes, classes), np.int64)
    answers: list[U8] = []
    waiting: deque[tuple[Sample, Handle]] = deque()

    def settle() -> None:
        nonlocal matrix
        sample, handle = waiting.popleft()
        answer = engine.result(handle)[0]
        label = read_label(sample)
        size = (label.shape[1], label.shape[0])
        large = cv2.resize(answer, size, interpolation=cv2.INTER_NEAREST)
        matrix += confusion_matrix(label, large.astype(np.uint8, copy=False), classes)
        answers.append(answer)
        if progress:
            progress("verify", len(answers), len(samples))

    for sample in samples:
        if len(waiting) >= engine.requests:
            settle()
        pixels = to_engine_input(read_frame(sample.image), spec.height, spec.width)
        waiting.append((sample, engine.submit(pixels[None])))
    while waiting:
        settle()
    return Verdict(scores(matrix), tuple(answers))
