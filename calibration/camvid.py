"""CamVid in SegNet's split (Brostow et al. 2009; Badrinarayanan et al. 2017).

``ROOT/SPLIT/NAME.EXT`` and ``ROOT/SPLITannot/NAME.png`` with the ids 0..10 and 11 for
void. The two mappings tie its 11 classes to the 19 of Cityscapes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.calibration.cityscapes import Sample, read_label
from rtseg.calibration.errors import CalibrationError
from rtseg.engines.labels import CITYSCAPES, VOID_ID, ClassTable

CAMVID = ClassTable(
    names=(
        "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car",
        "pedestrian", "bicyclist",
    ),
    palette=(
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (0, 0, 192),
        (128, 128, 0), (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    ),
)  # fmt: skip
"""The 11 classes of SegNet's CamVid; 11 in a label file is void."""

VOID = 11

#: CamVid name -> Cityscapes name. "bicyclist" is person and bicycle in one, which
#: Cityscapes keeps apart, so it teaches nothing; "car" also holds vans and pick-ups.
TO_CITYSCAPES = {
    "sky": "sky",
    "building": "building",
    "pole": "pole",
    "road": "road",
    "pavement": "sidewalk",
    "tree": "vegetation",
    "sign": "traffic sign",
    "fence": "fence",
    "car": "car",
    "pedestrian": "person",
}

#: Cityscapes name -> CamVid name, to judge a Cityscapes network on CamVid.
FROM_CITYSCAPES = {
    "road": "road", "sidewalk": "pavement", "building": "building", "wall": "building",
    "fence": "fence", "pole": "pole", "traffic light": "sign", "traffic sign": "sign",
    "vegetation": "tree", "terrain": "tree", "sky": "sky", "person": "pedestrian",
    "rider": "bicyclist", "car": "car", "truck": "car", "bus": "car", "train": "car",
    "motorcycle": "bicyclist", "bicycle": "bicyclist",
}  # fmt: skip


def to_cityscapes_table() -> NDArray[np.uint8]:
    """Return the table (256,) uint8 from CamVid id to Cityscapes trainId, else 255."""
    table = np.full(256, VOID_ID, np.uint8)
    for source, target in TO_CITYSCAPES.items():
        table[CAMVID.index(source)] = CITYSCAPES.index(target)
    return table


def from_cityscapes_table() -> NDArray[np.uint8]:
    """Return the table (256,) uint8 from Cityscapes trainId to CamVid id, else 255."""
    table = np.full(256, VOID_ID, np.uint8)
    for source, target in FROM_CITYSCAPES.items():
        table[CITYSCAPES.index(source)] = CAMVID.index(target)
    return table


def find_camvid(root: str | Path, split: str = "train") -> list[Sample]:
    """List the samples of one split (``train``, ``val`` or ``test``), sorted by name.

    Raises:
        CalibrationError: the folder is missing or empty, or an image has no label.
    """
    images_dir = Path(root) / split
    labels_dir = Path(root) / f"{split}annot"
    for folder in (images_dir, labels_dir):
        if not folder.is_dir():
            raise CalibrationError(f"no such CamVid folder: {folder}", reason="NOT_FOUND")
    samples = []
    for image in sorted(p for p in images_dir.iterdir() if p.suffix.lower() in (".png", ".jpg")):
        label = labels_dir / f"{image.stem}.png"
        if not label.exists():
            raise CalibrationError(
                f"image without label: {image}; expected {label}", reason="BAD_DATA"
            )
        samples.append(Sample(image.stem, image, label, "camvid"))
    if not samples:
        raise CalibrationError(f"no image below {images_dir}", reason="NOT_FOUND")
    return samples


def read_camvid_label(sample: Sample) -> NDArray[np.uint8]:
    """Read a label as CamVid ids uint8 (H, W), void as 255.

    Raises:
        CalibrationError: unreadable, or ids above 11.
    """
    # 0..18 pass the check of the trainId reader; the rest is CamVid's own.
    label = read_label(replace(sample, encoding="labelTrainIds"))
    highest = int(np.where(label == VOID_ID, 0, label).max(initial=0))
    if highest > VOID:
        raise CalibrationError(
            f"{sample.label} holds {highest}; CamVid allows 0..{VOID}", reason="BAD_LABEL"
        )
    return np.where(label == VOID, np.uint8(VOID_ID), label)
