"""``--ignore-mask``: parts of the picture that say nothing, such as the own bonnet or a clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.engines.labels import VOID_ID
from rtseg.engines.stills import decode_still
from rtseg.realtime.errors import UsageError
from rtseg.realtime.frame import U8
from rtseg.realtime.nearest import scale_nearest
from rtseg.realtime.refine import Refiner, Seen


class IgnoredArea(Refiner):
    """Makes class ids void where a mask is white.

    Args:
        mask: uint8, H×W at any size, laid over the whole frame: not 0 where ids are void.
    """

    def __init__(self, mask: U8) -> None:
        self._mask = mask
        self._at = lru_cache(maxsize=4)(self._scaled)

    def push(self, seen: Seen) -> Sequence[Seen]:
        """Take a frame and return it, its class ids void where the mask says so."""
        height, width = seen.labels.shape
        labels = seen.labels.copy()
        labels[self._at(height, width)] = VOID_ID
        return [replace(seen, labels=labels)]

    def _scaled(self, height: int, width: int) -> NDArray[np.bool_]:
        return scale_nearest(self._mask, height, width).astype(np.bool_)


def read_mask(path: Path) -> U8:
    """Read a mask: a picture, white or opaque where the frame is left out.

    Returns:
        uint8, H×W: 255 where the picture is lighter than middle gray, or, if it has any
        transparency, where it is more opaque than transparent; 0 elsewhere.

    Raises:
        UsageError: the file is missing or no picture, or it leaves out everything or nothing.
    """
    import cv2

    try:
        picture = decode_still(path.read_bytes(), cv2.IMREAD_UNCHANGED)
    except OSError as error:
        raise UsageError(
            f"--ignore-mask {path}: {(error.strerror or str(error)).lower()}", reason="NOT_FOUND"
        ) from error
    if picture is None or picture.dtype != np.uint8:
        raise UsageError(
            f"--ignore-mask {path}: no 8-bit picture. Allowed: PNG, JPEG, BMP or TIFF, white where "
            "the frame is left out"
        )
    level = picture
    if picture.ndim == 3:
        transparent = picture.shape[2] == 4 and bool((picture[:, :, 3] < 255).any())
        level = picture[:, :, 3] if transparent else picture[:, :, :3].max(axis=2)
    mask: U8 = np.where(level > 127, 255, 0).astype(np.uint8)
    if not mask.any() or mask.all():
        what = "everything" if mask.any() else "nothing"
        raise UsageError(
            f"--ignore-mask {path}: it leaves out {what}. Allowed: a picture that is white (or "
            "opaque) where the frame is left out, and black (or transparent) elsewhere"
        )
    return mask
