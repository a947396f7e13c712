"""Small data sets drawn on the spot, in the layouts that the readers expect."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rtseg.engines.labels import CITYSCAPES


def scene(seed: int, width: int, height: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return an RGB image of plain boxes and its label of trainIds, 255 at the foot."""
    rng = np.random.default_rng(seed)
    label = np.zeros((height, width), np.uint8)
    label[: height // 2] = 10
    for _ in range(4):
        x, y = rng.integers(0, width - 8), rng.integers(0, height - 8)
        label[y : y + height // 4, x : x + width // 5] = rng.integers(19)
    image = np.array(CITYSCAPES.palette, np.uint8)[label]
    label[-height // 16 :] = 255
    return image, label


def write_cityscapes(
    root: Path,
    split: str = "train",
    *,
    count: int = 3,
    image_size: tuple[int, int] = (256, 128),
    label_size: tuple[int, int] = (256, 128),
    encoding: str = "labelTrainIds",
    city: str = "lummerland",
) -> Path:
    """Write ``count`` scenes as a Cityscapes root; sizes are (width, height)."""
    images = root / "leftImg8bit" / split / city
    labels = root / "gtFine" / split / city
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    for number in range(count):
        name = f"{city}_{number:06d}_000019"
        image, _ = scene(number, *image_size)
        _, label = scene(number, *label_size)
        if encoding == "labelIds":
            table = np.zeros(256, np.uint8)
            table[: len(CITYSCAPES)] = CITYSCAPES.label_ids
            label = table[label]
        cv2.imwrite(str(images / f"{name}_leftImg8bit.png"), image[:, :, ::-1])
        cv2.imwrite(str(labels / f"{name}_gtFine_{encoding}.png"), label)
    return root


def write_camvid(root: Path, split: str = "train", *, count: int = 2) -> Path:
    """Write ``count`` images with CamVid ids 0..11."""
    (root / split).mkdir(parents=True)
    (root / f"{split}annot").mkdir()
    for number in range(count):
        rng = np.random.default_rng(number)
        label = np.repeat(np.repeat(rng.integers(0, 12, (6, 8), np.uint8), 20, 0), 20, 1)
        cv2.imwrite(str(root / split / f"seq_{number:03d}.png"), np.dstack([label] * 3))
        cv2.imwrite(str(root / f"{split}annot" / f"seq_{number:03d}.png"), label)
    return root
