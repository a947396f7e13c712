"""How well an engine segments labelled images, as the loop would see them.

Classes are matched by name and counted as Cityscapes' evaluation scripts count: they take any
label as a prediction, and one that is not evaluated is no class's false positive, but the pixel
is missing from its true class. So is a pixel here that a network with more classes gives to one
that Cityscapes does not judge.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rtseg.calibration.calibration_set import read_frame
from rtseg.calibration.cityscapes import Sample, read_label
from rtseg.calibration.errors import CalibrationError
from rtseg.calibration.metrics import Counts, Scores, confusion_matrix, scores
from rtseg.engines.engine import Engine, Handle
from rtseg.engines.labels import CITYSCAPES, VOID_ID, ClassTable
from rtseg.engines.nearest import scale_nearest
from rtseg.engines.preprocess import to_engine_input

U8 = NDArray[np.uint8]

#: How many of a network's class names an error shows.
_SHOWN = 8


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

    Class ids are brought to the label's size by the rule by which the loop brings them to the
    frame's (:mod:`rtseg.engines.nearest`). Classes are matched by name; what Cityscapes does
    not judge is wrong.

    Args:
        engine: an open engine that knows the 19 classes of Cityscapes, in any order.
        samples: labelled images.
        progress: told how far it is.

    Raises:
        CalibrationError: ``NO_IMAGES``, an image or label cannot be read, or
            ``CLASS_MISMATCH``: the engine lacks one of the classes.
        EngineError: the engine failed.
    """
    if not samples:
        raise CalibrationError("verification needs labelled images", reason="NO_IMAGES")
    spec = engine.spec
    to_train_id = cityscapes_table(spec.classes)
    matrix = np.zeros((len(CITYSCAPES), len(CITYSCAPES) + 1), np.int64)
    answers: list[U8] = []
    waiting: deque[tuple[Sample, tuple[int, int], Handle]] = deque()

    def settle() -> None:
        nonlocal matrix
        sample, frame_size, handle = waiting.popleft()
        answer = spec.fit.of_frame(engine.result(handle)[0], *frame_size)
        label = read_label(sample)
        large = scale_nearest(to_train_id[answer], *label.shape)
        matrix += count_pixels(label, large, len(CITYSCAPES))
        answers.append(answer)
        if progress:
            progress("verify", len(answers), len(samples))

    for sample in samples:
        if len(waiting) >= engine.requests:
            settle()
        frame = read_frame(sample.image)
        pixels = to_engine_input(frame, spec.height, spec.width, fit=spec.fit)
        waiting.append((sample, (frame.width, frame.height), engine.submit(pixels[None])))
    while waiting:
        settle()
    return Verdict(score_pixels(matrix), tuple(answers))


def cityscapes_table(classes: ClassTable) -> U8:
    """Return the table (256,) uint8 from a network's class ids to trainIds, by name.

    Classes that Cityscapes does not judge, and 255, become 255.

    Args:
        classes: of the network, in any order.

    Raises:
        CalibrationError: ``CLASS_MISMATCH`` where it lacks one of Cityscapes' names.
    """
    table = np.full(256, VOID_ID, np.uint8)
    for number, name in enumerate(classes.names):
        try:
            table[number] = CITYSCAPES.index(name)
        except KeyError:
            continue
    known = set(table.tolist())
    missing = [name for number, name in enumerate(CITYSCAPES.names) if number not in known]
    if missing:
        has = ", ".join(classes.names[:_SHOWN]) + (", …" if len(classes) > _SHOWN else "")
        raise CalibrationError(
            f"the network lacks classes of Cityscapes: {', '.join(missing)}. "
            f"Received: {len(classes)} classes ({has}). "
            f"Allowed: any order, and others beside the {len(CITYSCAPES)} names",
            reason="CLASS_MISMATCH",
        )
    return table


def count_pixels(label: U8, guess: U8, classes: int) -> Counts:
    """Count pixels by (true class, predicted class), with a column for none of the classes.

    Args:
        label: class ids (any shape), 255 ignored.
        guess: class ids of the same shape, 255 for none of the classes.
        classes: number of classes.

    Returns:
        int64 (classes, classes + 1).

    Raises:
        CalibrationError: shapes differ, or an id is neither below ``classes`` nor 255.
    """
    if label.shape != guess.shape or not (guess == VOID_ID).any():
        counts = confusion_matrix(label, guess, classes)
        return np.hstack([counts, np.zeros((classes, 1), np.int64)])
    none = guess == VOID_ID
    counts = confusion_matrix(np.where(none, np.uint8(VOID_ID), label), guess, classes)
    missed = confusion_matrix(
        np.where(none, label, np.uint8(VOID_ID)), np.zeros_like(label), classes
    )
    return np.hstack([counts, missed[:, :1]])


def score_pixels(counts: Counts) -> Scores:
    """Compute the scores of what :func:`count_pixels` counted.

    The matrix of the scores keeps the last column only where it holds something.
    """
    found = scores(np.vstack([counts, np.zeros((1, counts.shape[1]), np.int64)]))
    iou = found.class_iou[:-1]
    return replace(
        found,
        class_iou=iou,
        mean_iou=float(np.nanmean(iou)) if found.pixels else float("nan"),
        matrix=counts if counts[:, -1].any() else counts[:, :-1],
    )
