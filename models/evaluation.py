"""What an evaluation says beyond class IoU: categories, instances, confusion."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.calibration.cityscapes import Sample, read_instances
from rtseg.calibration.instances import InstanceStats
from rtseg.calibration.metrics import Scores, category_iou
from rtseg.calibration.verify import count_pixels, score_pixels
from rtseg.engines.labels import VOID_ID, ClassTable
from rtseg.models.augment import boundary_pixels

U8 = NDArray[np.uint8]


class InstanceJudge:
    """Instance-weighted IoU over those images of an evaluation that have instance ids.

    False positives are taken from the same images, so the figures stand for these alone.

    Args:
        table: the classes.
    """

    def __init__(self, table: ClassTable) -> None:
        self._stats = InstanceStats(table)
        self._matrix = np.zeros((len(table), len(table) + 1), np.int64)

    def __call__(self, sample: Sample, label: U8, guess: U8) -> None:
        """Add one image, if it has instance ids."""
        instances = read_instances(sample)
        if instances is not None:
            self._stats.add(instances, guess)
            self._matrix += count_pixels(label, guess, len(self._matrix))

    @property
    def images(self) -> int:
        """How many images had instance ids."""
        return self._stats.images

    def class_iou(self) -> NDArray[np.float64]:
        """IIoU by class; NaN for classes without instances."""
        return self._stats.class_iou(self._matrix)

    def category_iou(self) -> dict[str, float]:
        """IIoU by category, for human and vehicle."""
        return self._stats.category_iou(self._matrix)


class OutlineJudge:
    """Scores near the outlines of things and away from them, apart.

    The band around outlines is the trimap of Kohli et al. 2009: it tells whether a network
    mistakes things or only draws them loosely.

    Args:
        table: the classes.
        reach_px: how near is near, in pixels of the label.
    """

    def __init__(self, table: ClassTable, reach_px: int) -> None:
        self.reach_px = reach_px
        self._near = np.zeros((len(table), len(table) + 1), np.int64)
        self._away = self._near.copy()

    def __call__(self, sample: Sample, label: U8, guess: U8) -> None:
        """Add one image."""
        near = boundary_pixels(label[None], self.reach_px)[0]
        for matrix, there in ((self._near, near), (self._away, ~near)):
            seen = np.where(there, label, np.uint8(VOID_ID))
            matrix += count_pixels(seen, guess, len(matrix))

    @property
    def near_share(self) -> float:
        """Which part of the judged pixels is near an outline; NaN of nothing."""
        near, away = int(self._near.sum()), int(self._away.sum())
        return near / (near + away) if near + away else float("nan")

    def near(self) -> Scores:
        """Scores of the pixels near an outline."""
        return score_pixels(self._near)

    def away(self) -> Scores:
        """Scores of the others."""
        return score_pixels(self._away)


def mean_of(values: Any) -> float:
    """Mean of what is not NaN; NaN of nothing."""
    array = np.asarray(list(values), np.float64)
    known = array[~np.isnan(array)]
    return float(known.mean()) if known.size else float("nan")


def details_text(table: ClassTable, result: Scores, instances: InstanceJudge) -> str:
    """Categories and instances as lines for people; empty for a table without categories."""
    by_category = category_iou(result.matrix, table)
    if not by_category:
        return ""
    width = max(len(name) for name in (*table.names, "pixel accuracy"))

    def row(name: str, value: float) -> str:
        return f"{name:<{width}}  {'  –' if np.isnan(value) else f'{100 * value:5.2f}'}"

    lines = ["", "categories"]
    lines += [row(name, iou) for name, iou in by_category.items()]
    lines.append(row("category mIoU", mean_of(by_category.values())))
    if instances.images:
        class_iou, of_category = instances.class_iou(), instances.category_iou()
        lines += ["", f"instance-weighted (iIoU), images with instance ids: {instances.images}"]
        lines += [
            row(name, iou)
            for name, iou in zip(table.names, class_iou, strict=True)
            if not np.isnan(iou)
        ]
        lines.append(row("mean iIoU", mean_of(class_iou)))
        lines += [row(name, iou) for name, iou in of_category.items()]
        lines.append(row("category iIoU", mean_of(of_category.values())))
    return "\n".join(lines)


def outline_text(outline: OutlineJudge) -> str:
    """Scores near outlines and away from them as lines for people."""
    lines = ["", f"{'':<24}   mIoU  pixels"]
    for name, part in (
        (f"within {outline.reach_px} px of an outline", outline.near()),
        ("elsewhere", outline.away()),
    ):
        lines.append(f"{name:<24}  {100 * part.mean_iou:5.2f}   {100 * part.pixel_accuracy:5.2f}")
    lines.append(f"{100 * outline.near_share:.1f} % of the pixels are near an outline")
    return "\n".join(lines)


def as_json(
    table: ClassTable,
    result: Scores,
    instances: InstanceJudge,
    *,
    images: int,
    outline: OutlineJudge | None = None,
) -> dict[str, Any]:
    """Everything as one object for programs; None where there was nothing to judge."""

    def number(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    by_category = category_iou(result.matrix, table)
    found: dict[str, Any] = {
        "images": images,
        "mean_iou": number(result.mean_iou),
        "pixel_accuracy": number(result.pixel_accuracy),
        "class_iou": {
            name: number(iou) for name, iou in zip(table.names, result.class_iou, strict=True)
        },
        "category_iou": {name: number(iou) for name, iou in by_category.items()},
        "mean_category_iou": number(mean_of(by_category.values())),
        "confusion_matrix": result.matrix.tolist(),
    }
    if instances.images:
        class_iou, of_category = instances.class_iou(), instances.category_iou()
        found["instances"] = {
            "images": instances.images,
            "class_iiou": {
                name: number(iou)
                for name, iou in zip(table.names, class_iou, strict=True)
                if not np.isnan(iou)
            },
            "mean_iiou": number(mean_of(class_iou)),
            "category_iiou": {name: number(iou) for name, iou in of_category.items()},
            "mean_category_iiou": number(mean_of(of_category.values())),
        }
    if outline is not None:
        found["outline"] = {"reach_px": outline.reach_px, "near_share": number(outline.near_share)}
        for name, part in (("near", outline.near()), ("away", outline.away())):
            found["outline"][name] = {
                "mean_iou": number(part.mean_iou),
                "pixel_accuracy": number(part.pixel_accuracy),
            }
    return found
