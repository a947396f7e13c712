"""Segmentation metrics as Cityscapes' own scripts compute them.

One confusion matrix over all pixels of all images, rows the truth, columns the
prediction; 255 in the label is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtseg.calibration.errors import CalibrationError
from rtseg.engines.labels import VOID_ID, ClassTable

Counts = NDArray[np.int64]


def confusion_matrix(
    label: NDArray[np.uint8], prediction: NDArray[np.uint8], classes: int
) -> Counts:
    """Count pixels by (true class, predicted class).

    Args:
        label: class ids (any shape), 255 ignored.
        prediction: class ids of the same shape.
        classes: number of classes.

    Returns:
        int64 (classes, classes).

    Raises:
        CalibrationError: shapes differ, or an id is not below ``classes``.
    """
    if label.shape != prediction.shape:
        raise CalibrationError(
            f"label {label.shape} and prediction {prediction.shape} differ in shape",
            reason="BAD_INPUT",
        )
    valid = label != VOID_ID
    truth, guess = label[valid].astype(np.int64), prediction[valid].astype(np.int64)
    for what, values in (("label", truth), ("prediction", guess)):
        highest = int(values.max(initial=0))
        if highest >= classes:
            raise CalibrationError(
                f"{what} holds class {highest}; {classes} classes allow 0..{classes - 1}"
                + (f" and {VOID_ID} for void" if what == "label" else ""),
                reason="CLASS_MISMATCH",
            )
    counts = np.bincount(truth * classes + guess, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


@dataclass(frozen=True)
class Scores:
    """What a confusion matrix says; ratios of 0 to 1, NaN where there is nothing to judge.

    Attributes:
        class_iou: float64 (classes,); NaN for a class in neither truth nor prediction.
        mean_iou: mean over the classes that are not NaN.
        pixel_accuracy: share of the labelled pixels that are right.
        pixels: number of labelled pixels.
        matrix: the confusion matrix itself, int64 (classes, classes).
    """

    class_iou: NDArray[np.float64]
    mean_iou: float
    pixel_accuracy: float
    pixels: int
    matrix: Counts


def scores(matrix: Counts) -> Scores:
    """Compute the scores of a confusion matrix (classes, classes)."""
    right = np.diag(matrix).astype(np.float64)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - right
    total = int(matrix.sum())
    iou = np.full(len(right), np.nan)
    np.divide(right, union, out=iou, where=union > 0)
    return Scores(
        class_iou=iou,
        mean_iou=float(np.nanmean(iou)) if total else float("nan"),
        pixel_accuracy=float(right.sum() / total) if total else float("nan"),
        pixels=total,
        matrix=matrix,
    )


def category_members(table: ClassTable) -> dict[str, tuple[int, ...]]:
    """Return the classes of each category of a table, in the table's order."""
    members: dict[str, tuple[int, ...]] = {}
    for number, name in enumerate(table.categories):
        members[name] = (*members.get(name, ()), number)
    return members


def category_iou(matrix: Counts, table: ClassTable) -> dict[str, float]:
    """Compute IoU by category: classes of one category are not told apart.

    Args:
        matrix: confusion matrix (classes, classes).
        table: the classes and their categories.

    Returns:
        IoU by category, NaN for one in neither truth nor prediction; empty for a table
        without categories.
    """
    result = {}
    for name, members in category_members(table).items():
        right = int(matrix[np.ix_(members, members)].sum())
        union = int(matrix[list(members)].sum() + matrix[:, members].sum()) - right
        result[name] = right / union if union else float("nan")
    return result
