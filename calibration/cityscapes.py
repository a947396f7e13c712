"""Cityscapes in its official layout (Cordts et al. 2016), read as it is.

``ROOT/leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.EXT`` and
``ROOT/gtFine/SPLIT/CITY/NAME_gtFine_labelTrainIds.png`` or ``..._labelIds.png``. The
image may have any format that OpenCV reads, and another size than its label.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from rtseg.calibration.errors import CalibrationError
from rtseg.engines.labels import CITYSCAPES, VOID_ID
from rtseg.engines.lookup import is_folder
from rtseg.engines.stills import decode_still

Encoding = Literal["labelTrainIds", "labelIds"]
IMAGE_SUFFIX = "_leftImg8bit"
LABEL_SUFFIX = "_gtFine_"
ENCODINGS: tuple[Encoding, ...] = ("labelTrainIds", "labelIds")
#: Highest id in the data set's own table; -1 (licence plate) is stored as 255.
MAX_LABEL_ID = 33


@dataclass(frozen=True)
class Sample:
    """One image of a data set and, where there is one, its label.

    Attributes:
        name: the name without folder and suffix, such as ``jena_000007_000019``.
        image: path of the image.
        label: path of the label image, or None.
        encoding: what the numbers in the label image mean.
    """

    name: str
    image: Path
    label: Path | None = None
    encoding: str = "labelTrainIds"

    @property
    def group(self) -> str:
        """The city, or whatever comes before the first underscore."""
        return self.name.split("_", 1)[0]


def label_id_table() -> NDArray[np.uint8]:
    """Return the table (256,) uint8 from label id to trainId; 255 where none."""
    table = np.full(256, VOID_ID, np.uint8)
    for train_id, label_id in enumerate(CITYSCAPES.label_ids):
        table[label_id] = train_id
    return table


def find_samples(root: str | Path, split: str = "train", *, labels: bool = True) -> list[Sample]:
    """List the samples of one split, sorted by name.

    Args:
        root: folder that holds ``leftImg8bit`` and, for labels, ``gtFine``.
        split: ``train``, ``val`` or ``test``.
        labels: whether every image must have a label; ``labelTrainIds`` is taken
            before ``labelIds``. Without, samples carry no label.

    Raises:
        CalibrationError: the root or split is missing or empty, or an image has no label.
    """
    root = Path(root)
    images_dir = root / "leftImg8bit" / split
    if not is_folder(root):
        raise CalibrationError(f"no such data set folder: {root}", reason="NOT_FOUND")
    if not is_folder(images_dir):
        parent = root / "leftImg8bit"
        known = sorted(p.name for p in parent.iterdir()) if parent.is_dir() else []
        raise CalibrationError(
            f"{root} has no leftImg8bit/{split}; splits found: {', '.join(known) or 'none'}",
            reason="NOT_FOUND",
        )
    samples = []
    for image in sorted(images_dir.glob(f"*/*{IMAGE_SUFFIX}.*")):
        name = image.stem.removesuffix(IMAGE_SUFFIX)
        folder = root / "gtFine" / split / image.parent.name
        sample = Sample(name, image)
        if labels:
            for encoding in ENCODINGS:
                path = folder / f"{name}{LABEL_SUFFIX}{encoding}.png"
                if path.exists():
                    sample = Sample(name, image, path, encoding)
                    break
            else:
                raise CalibrationError(
                    f"image without label: {image}; expected "
                    f"{folder / (name + LABEL_SUFFIX)}{{{','.join(ENCODINGS)}}}.png",
                    reason="BAD_DATA",
                )
        samples.append(sample)
    if not samples:
        raise CalibrationError(
            f"no image NAME{IMAGE_SUFFIX}.EXT below {images_dir}", reason="NOT_FOUND"
        )
    return samples


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Read an image as RGB uint8 (H, W, 3).

    Raises:
        CalibrationError: missing, empty, truncated or not an image.
    """
    image = _decode(Path(path), cv2.IMREAD_COLOR)
    return np.ascontiguousarray(image[:, :, ::-1])


def read_label(sample: Sample) -> NDArray[np.uint8]:
    """Read the label of a sample as trainIds uint8 (H, W), 255 = void.

    Raises:
        CalibrationError: no label, unreadable, several channels, or numbers that the
            encoding does not have.
    """
    if sample.label is None:
        raise CalibrationError(f"image without label: {sample.image}", reason="BAD_DATA")
    label = _decode(sample.label, cv2.IMREAD_UNCHANGED)
    if label.ndim != 2 or label.dtype != np.uint8:
        raise CalibrationError(
            f"{sample.label} is no label image: {label.dtype} {label.shape}; "
            "one channel of uint8 is allowed",
            reason="BAD_LABEL",
        )
    present = np.flatnonzero(np.bincount(label.ravel(), minlength=256))
    limit = len(CITYSCAPES) - 1 if sample.encoding == "labelTrainIds" else MAX_LABEL_ID
    wrong = [int(v) for v in present if v > limit and v != VOID_ID]
    if wrong:
        raise CalibrationError(
            f"{sample.label} holds {wrong[:5]}; {sample.encoding} allows 0..{limit} and {VOID_ID}",
            reason="BAD_LABEL",
        )
    if sample.encoding == "labelIds":
        label = label_id_table()[label]
    return np.ascontiguousarray(label, np.uint8)


def read_instances(sample: Sample) -> NDArray[np.uint16] | None:
    """Read the instance ids of a sample as uint16 (H, W), or None where it has none.

    They lie beside the label as ``..._gtFine_instanceIds.png``.

    Raises:
        CalibrationError: the file is damaged or no instance image.
    """
    if sample.label is None:
        return None
    path = sample.label.with_name(f"{sample.name}{LABEL_SUFFIX}instanceIds.png")
    if not path.exists():
        return None
    instances = _decode(path, cv2.IMREAD_UNCHANGED)
    if instances.ndim != 2 or instances.dtype != np.uint16:
        raise CalibrationError(
            f"{path} is no instance image: {instances.dtype} {instances.shape}; "
            "one channel of uint16 is allowed",
            reason="BAD_LABEL",
        )
    return np.asarray(instances, np.uint16)


def _decode(path: Path, flags: int) -> NDArray[Any]:
    """Decode an image file, turning every way to fail into one error."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CalibrationError(
            f"cannot read {path}: {error.strerror or error}", reason="NOT_FOUND"
        ) from error
    image = decode_still(data, flags)
    if image is None:
        raise CalibrationError(
            f"{path} ({len(data)} bytes) is no complete image", reason="BAD_DATA"
        )
    return image
